"""Figures of lab03: codes beside weights, speed over the batch, quality over price."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from x1lib.figures.shown import Picture
from x1lib.inference import Measured, encode

DPI = 100
COLOURS = {"full": "#444444", "int8": "#0072b2", "int4": "#d55e00"}
MARKS = "osD^vP"
DASHES = {"full": (0, (5, 2)), "int8": (0, (1, 2)), "int4": (0, (5, 2, 1, 2))}


def codes_of(row, group: int = 32) -> Picture:
    """One row of a matrix: what each of three ways to store it keeps.

    row: a tensor [1, columns] of weights.
    """
    w = row.detach().float()
    columns = w.shape[1]
    ways = {
        f"4 bits, one range for all {columns}": encode(w, "int4", columns),
        f"4 bits, one range for {group} weights": encode(w, "int4", group),
        "8 bits, one scale for the row": encode(w, "int8"),
    }
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    axes, x, said = figure.subplots(1, 3, sharey=True), np.arange(columns), []
    for one, (name, codes) in zip(axes, ways.items(), strict=True):
        kept = codes.weights()
        error = (kept - w).square().mean().sqrt() / w.square().mean().sqrt()
        if codes.kind == "int4":
            for start in range(0, columns, codes.group):
                at = start // codes.group
                scale, zero = codes.scales[0, at].item(), codes.zeros[0, at].item()
                levels = [scale * (code - 8) + zero for code in range(16)]
                one.hlines(levels, start, start + codes.group, color="0.85", lw=0.7, label="places")
        one.plot(x, w[0], "o", ms=2, color="0.3", label="weight")
        one.plot(x, kept[0], "_", ms=5, color=COLOURS[codes.kind],
                 label=f"kept, {codes.kind[3:]} bits")  # fmt: skip
        one.set_title(f"{name}:\noff by {error:.1%}", loc="left", fontsize=9)
        one.set_xlabel("column")
        said.append(f"{name}: off by {error:.1%}")
    axes[0].set_ylabel("weight")
    named = {label: line for one in axes for line, label in
             zip(*one.get_legend_handles_labels(), strict=True)}  # fmt: skip
    figure.legend(named.values(), named.keys(), frameon=False, fontsize=8, ncols=4,
                  loc="outside lower center")  # fmt: skip
    _plain(*axes)
    return Picture(figure, "Weights of one row and what is kept. " + "; ".join(said) + ".", DPI)


def speed(rows: list[Measured]) -> Picture:
    """Tokens a second and milliseconds a step over the batch, with the roofline of each model."""
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    names = list(dict.fromkeys(row.model for row in rows))
    families = list(dict.fromkeys(name.partition(" ")[0] for name in names))
    for name in names:
        mine = [row for row in rows if row.model == name]
        x = [row.batch for row in mine]
        style = {"color": _colour(name), "ls": ("-", "--", ":")[families.index(_family(name)) % 3]}
        mark = MARKS[families.index(_family(name)) % len(MARKS)]
        left.plot(x, [row.tokens_per_sec for row in mine], marker=mark, ms=4, label=name, **style)
        right.plot(x, [1e3 * row.tpot_seconds for row in mine], marker=mark, ms=4, **style)
        right.plot(x, [1e3 * row.roofline_seconds for row in mine], lw=0.7, **style)
    batches = sorted({row.batch for row in rows})
    for axes, label in ((left, "tokens a second, all texts"), (right, "milliseconds a step")):
        axes.set(xscale="log", yscale="log", xlabel="texts at a time", ylabel=label)
        axes.set_xticks(batches, [str(n) for n in batches])
        axes.minorticks_off()
    left.set_title("More texts, more tokens", loc="left", fontsize=10)
    right.set_title("and a longer wait", loc="left", fontsize=10)
    lines, labels = left.get_legend_handles_labels()
    lines.append(Line2D([], [], color="0.5", lw=0.7))
    labels.append("thin, same colour and dashes: its roofline")
    figure.legend(lines, labels, frameon=False, fontsize=8, ncols=3,
                  loc="outside lower center")  # fmt: skip
    _plain(left, right)
    best = ", ".join(
        f"{name} {max(row.tokens_per_sec for row in rows if row.model == name):,.0f}"
        for name in names
    )
    return Picture(figure, f"Most tokens a second: {best}.", DPI)


def price(rows: list[dict], unpriced: dict[str, float] | None = None) -> Picture:
    """Bits per byte over US dollars a million tokens.

    A vertical line is a model of unknown quality; a level one, of `unpriced` (name -> bits per
    byte), a model whose quality is known and that was not timed here.
    """
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    axes = figure.subplots()
    known = [row for row in rows if row["bits_per_byte"]]
    families = list(dict.fromkeys(_family(row["model"]) for row in rows))
    for row in known:
        measured = row["status"] == "measured"
        axes.plot(
            row["usd_per_million_tokens"], row["bits_per_byte"],
            MARKS[families.index(_family(row["model"])) % len(MARKS)], ms=8,
            color=_colour(row["model"]), mfc=_colour(row["model"]) if measured else "none",
            label=row["model"] + ("" if measured else " (quality recorded)"),
        )  # fmt: skip
    for name, bits in (unpriced or {}).items():
        axes.axhline(bits, color="0.5", lw=1, ls=":", label=f"{name} (recorded, not timed here)")
    low, high = axes.get_ylim()
    if high < 1.1 * low:  # so that a difference of a per cent does not fill the picture
        low, high = 0.95 * low, 1.05 * high
    for row in rows:
        if not row["bits_per_byte"]:
            usd = row["usd_per_million_tokens"]
            axes.axvline(usd, color=_colour(row["model"]), lw=1.3, ls=DASHES[_kind(row["model"])],
                         label=f"{row['model']} (quality not measured)")  # fmt: skip
    axes.set_ylim(low - 0.1 * (high - low), high + 0.1 * (high - low))
    axes.set(xscale="log", xlabel="US dollars a million tokens, this machine")
    prices = [row["usd_per_million_tokens"] for row in rows]
    ends = 0.8 * min(prices), 1.25 * max(prices)
    powers = range(math.floor(math.log10(ends[0])), math.ceil(math.log10(ends[1])) + 1)
    ticks = [digit * 10.0**power for power in powers for digit in (1, 2, 5)]
    ticks = [tick for tick in ticks if ends[0] <= tick <= ends[1]]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlim(*ends)
    axes.set_ylabel("held-out bits per byte\n(lower is better)")
    best = min(rows, key=lambda row: row["usd_per_million_tokens"])
    title = f"{best['model']} writes a token for the least"
    title += "" if best["bits_per_byte"] else "; how well is not known"
    axes.set_title(title, loc="left", fontsize=10)
    axes.legend(frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    _plain(axes)
    words = "; ".join(f"{row['model']} {row['usd_per_million_tokens']:.3g} dollars" for row in rows)
    words += "".join(f"; {name} {bits:.3f} bits a byte" for name, bits in (unpriced or {}).items())
    return Picture(figure, f"Quality against price of a million tokens: {words}.", DPI)


def _family(model: str) -> str:
    return model.partition(" ")[0]


def _kind(model: str) -> str:
    return next((kind for kind in ("int8", "int4") if kind in model), "full")


def _colour(model: str) -> str:
    return COLOURS[_kind(model)]


def _plain(*axes) -> None:
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
        one.grid(alpha=0.2)
