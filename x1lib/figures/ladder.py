"""Figures of the MFU ladder, drawn from what `x1lib.ladder` wrote and from nothing else."""

from __future__ import annotations

import math
import textwrap
from pathlib import Path

from matplotlib.figure import Figure

from x1lib import ladder
from x1lib.figures.shown import Picture
from x1lib.ladder.rungs import MEASURED, NOT_ASKED

# Okabe and Ito's colours, which the colour-blind tell apart; the grey ones do no arithmetic.
COLORS = {
    "matrix products": "#0072B2",
    "attention": "#E69F00",
    "softmax and cross-entropy": "#CC79A7",
    "norms and element-wise": "#009E73",
    "optimiser": "#D55E00",
    "copies and look-ups": "#56B4E9",
    "other": "#777777",
    "idle": "#BBBBBB",
}
REGION_SHADES = {"forward": "0.80", "forward and loss": "0.80", "loss": "0.62", "backward": "0.88",
                 "clip": "0.45", "optimizer": "0.72", "other": "1.0"}  # fmt: skip
MEANING = {  # of the categories that their name does not explain
    "operators": {"other": "other: views, autograd", "idle": "idle: no operator, Python"},
    "kernels": {"other": "other kernels", "idle": "idle: no kernel runs"},
}
MEASURED_COLOR, EXTRA_COLOR = "#0072B2", "#56B4E9"


def rungs(folder: Path) -> Picture:
    """MFU and tokens per second at each rung that was asked for; greyed where not measured."""
    found = ladder.load(folder)
    shown = [one for one in found["rungs"] if one["why"] != NOT_ASKED]
    figure = Figure(figsize=(8, 1.5 + 0.52 * len(shown)), layout="constrained")
    axes = figure.subplots()
    top = max((one["mfu"]["high"] for one in shown if one["mfu"]), default=1.0)
    for y, one in enumerate(shown):
        if one["status"] == MEASURED:
            _bar(axes, y, one, top)
        else:
            words = textwrap.shorten(f"{one['status']}: {one['why']}", 78, placeholder=" ...")
            axes.text(0.01 * top, y, words, va="center", fontsize=8.5, color="0.45", style="italic")
    axes.set_yticks(range(len(shown)), [_label(i, one) for i, one in enumerate(shown)])
    for tick, one in zip(axes.get_yticklabels(), shown, strict=True):
        tick.set_color("black" if one["status"] == MEASURED else "0.45")
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.set_xlim(0, 1.5 * top)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.set_xlabel(f"MFU, PaLM's convention [share of {_peak(found)}]", fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    finding = _finding(shown)
    figure.suptitle(f"{finding}\n{_what(found)}", x=0.01, ha="left", fontsize=10)
    lines = [
        f"{one['name']}: {one['mfu']['median']:.1%}" for one in shown if one["status"] == MEASURED
    ]
    return Picture(figure, f"{finding} MFU by rung: {', '.join(lines) or 'none'}.")


def _bar(axes, y: int, one: dict, top: float) -> None:
    share, rate = one["mfu"], one["tokens_per_sec"]["median"]
    color = MEASURED_COLOR if one["deterministic"] else EXTRA_COLOR
    axes.barh(y, share["median"], height=0.62, color=color)
    spread = [[share["median"] - share["low"]], [share["high"] - share["median"]]]
    axes.errorbar(share["median"], y, xerr=spread, color="black", capsize=3, lw=1.1)
    words = f"{share['median']:.1%}"
    if one["speed_up"]:
        words += f", {one['speed_up']['median']:.2f} × the {_NEIGHBOUR[one['speed_up_over']]}"
    speed = f"{rate:,.0f} tokens/s"
    if share["median"] > 0.3 * top:  # else the bar is too short to write on
        ink = "white" if one["deterministic"] else "black"
        axes.text(0.01 * top, y, speed, va="center", fontsize=9, color=ink)
    else:
        words = f"{speed}, {words}"
    axes.text(share["high"] + 0.015 * top, y, words, va="center", fontsize=9)


_GIVER = {"bf16": "bf16", "compile": "torch.compile", "attention": "the attention kernel",
          "vocabulary": "the padded vocabulary"}  # fmt: skip
_NEIGHBOUR = {"eager": "eager rung", "bf16": "bf16 rung", "compile": "compiled rung",
              "attention": "attention rung", "vocabulary": "padded rung"}  # fmt: skip


def _label(i: int, one: dict) -> str:
    change = {
        "eager": "eager, float32,\nplain attention",
        "bf16": "bf16 products",
        "compile": "torch.compile",
        "attention": one["change"],
        "vocabulary": "padded vocabulary",
        "not-deterministic": "all of it,\nnot deterministic",
    }[one["name"]]
    return change if one["name"] in ("eager", "not-deterministic") or i == 0 else "+ " + change


def _peak(found: dict) -> str:
    """The peak with its source in few words: a data sheet's name, or that it was measured."""
    peak, words = found["peak_flops_per_sec"], found["peak_source"]
    number = f"{peak / 1e9:,.0f} GFLOP/s" if peak < 1e12 else f"{peak / 1e12:,.4g} TFLOP/s"
    if words.startswith("measured here"):
        return f"{number}, measured with {found['machine']['dtype']} products"
    return f"{number}, {words.partition(':')[2].strip() or words}"


def _what(found: dict) -> str:
    machine = found["machine"]
    steps = [one["n_steps"] for one in found["rungs"] if one["n_steps"]]
    device = machine["device_name"]
    if machine["device"] == "cpu":
        device += f", {machine['threads']} thread{'s' * (machine['threads'] > 1)}"
    return (
        f"{found['shape']['name']}, {found['batch_size']} × {found['seq_len']:,} tokens a step,"
        f" {device}; medians and quartiles of {min(steps, default=0)} steps in turn"
    )


def _finding(shown: list[dict]) -> str:
    climbed = [one for one in shown if one["status"] == MEASURED and one["deterministic"]]
    climbed = climbed or [one for one in shown if one["status"] == MEASURED]
    if not climbed:
        return "No rung was measured."
    first, last = climbed[0], climbed[-1]
    if len(climbed) == 1:
        return f"One rung was measured: MFU {first['mfu']['median']:.0%}."
    times = math.prod(one["speed_up"]["median"] for one in climbed[1:])  # in rounds, paired
    best = max(climbed[1:], key=lambda one: one["speed_up"]["median"])
    verb = "rises" if times > 1 else "falls"
    return (
        f"MFU {verb} from {first['mfu']['median']:.0%} to {last['mfu']['median']:.0%}, {times:.1f}"
        f" times the speed; {_GIVER[best['name']]} gives most"
        f" (× {best['speed_up']['median']:.2f})."
    )


def trace(folder: Path) -> Picture:
    """One step over time: its regions as a band, each category in a lane, and their shares."""
    found = ladder.load_profile(folder)
    if found["status"] != MEASURED:
        return _no_trace(found)
    shares = {one["name"]: one["share"] for one in found["categories"]}
    unit, scale = ("ms", 1e3) if found["seconds"] < 10 else ("s", 1e6)
    figure = Figure(figsize=(8, 4.3), layout="constrained")
    band, lanes = figure.subplots(2, 1, sharex=True, height_ratios=(1, 8))
    length = found["seconds"] * 1e6 / scale
    for span in found["spans"]:
        _region(band, span, scale, length)
    band.set(ylim=(0, 1), yticks=[])
    band.spines[:].set_visible(False)
    band.tick_params(bottom=False)
    names = list(shares)
    line = found["timeline"]
    for y, name in enumerate(names):
        mine = [
            (start / scale, (end - start) / scale)
            for start, end, i in zip(line["start_us"], line["end_us"], line["category"])
            if names[i] == name
        ]
        lanes.broken_barh(mine, (y - 0.38, 0.76), color=COLORS[name], lw=0)
        lanes.text(1.01 * length, y, f"{shares[name]:.0%}" if shares[name] >= 0.005 else "<1%",
                   va="center", fontsize=10, weight="bold", color=_dark(name))  # fmt: skip
        lanes.axhline(y + 0.5, color="0.92", lw=0.6)
    labels = MEANING[found["owners"]]
    lanes.set_yticks(range(len(names)), [labels.get(name, name) for name in names])
    lanes.set_ylim(len(names) - 0.5, -0.5)
    lanes.set_xlim(0, 1.07 * length)
    lanes.set_xlabel(f"time in one training step [{unit}]; at the right the share of it")
    lanes.spines[["top", "right"]].set_visible(False)
    finding = _largest(shares)
    figure.suptitle(f"{finding}\n{_which(found)}", x=0.01, ha="left", fontsize=10)
    words = ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
    return Picture(figure, f"{finding} Shares of one step: {words}.")


def _region(band, span: dict, scale: float, length: float) -> None:
    start, end = span["start_us"] / scale, span["end_us"] / scale
    name = span["region"]
    band.axvspan(start, end, color=REGION_SHADES[name], lw=0)
    share, middle = (end - start) / length, {"ha": "center", "va": "center"}
    if share > len(name) / 70:  # so that a name does not leave its region
        band.text((start + end) / 2, 0.5, name, fontsize=9, **middle)
    elif share > 0.02 and len(name) <= 7:
        band.text((start + end) / 2, 0.46, name, fontsize=7.5, rotation=90, **middle)


def _dark(name: str) -> str:
    """The colour of a share: the lane's, or a darker grey where that would be too pale to read."""
    return {"idle": "0.35", "other": "0.35"}.get(name, "black")


def _largest(shares: dict[str, float]) -> str:
    first, second = sorted(shares, key=shares.get, reverse=True)[:2]
    quiet = shares["other"] + shares["idle"]
    return (
        f"{shares[first]:.0%} of the step is {first}, {shares[second]:.0%} {second};"
        f" {quiet:.0%} is bookkeeping or waiting."
    )


def _which(found: dict) -> str:
    rung = found["rung"]
    how = "compiled" if rung["compile"] else "eager"
    return (
        f"{how} step of {found['batch_tokens']:,} tokens, {rung['dtype']}, {rung['attention']}"
        f" attention; {found['seconds'] * 1e3:,.0f} ms, the fastest of some under the profiler;"
        f" median without it {found['unprofiled_seconds'] * 1e3:,.0f} ms"
    )


def _no_trace(found: dict) -> Picture:
    figure = Figure(figsize=(8, 1.2), layout="constrained")
    words = f"No profile of a step: {found['why']}."
    figure.text(0.5, 0.5, words, ha="center", va="center", color="0.45", style="italic")
    return Picture(figure, words)
