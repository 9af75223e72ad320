"""Notebook 03's figures: what a pipeline loses, what its rules are worth, what a resume repeats."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from x1lib.data.published import PRIMARY, Published
from x1lib.data.stages.chain import Count
from x1lib.data.stages.minhash import BAND_ROWS, N_BANDS, band_probability
from x1lib.economics import GPUS
from x1lib.economics.wording import short
from x1lib.figures.money import COLORS
from x1lib.figures.shown import Picture, Table

KEPT, LOST = COLORS[0], COLORS[1]
HELD_OUT = "held out"  # a stage that keeps text apart and loses none
LEAST_PAIRS = 10  # behind a dot
DPI = 100  # half a dozen pictures: the notebook stays small
BANDINGS = ((N_BANDS, BAND_ROWS), (20, 5), (28, 4), (8, 14))
MACHINES = {"one A100": ("A100-80GB-SXM", 1), "one H100": ("H100-80GB-SXM", 1),
            "a thousand H100": ("H100-80GB-SXM", 1000)}  # fmt: skip
SIZES = np.geomspace(5e7, 1e11, 40)  # parameters


def lost(counts: Mapping[str, Count], kinds: tuple[str, str] = ("pages", "kB")) -> Picture:
    """Pages and kilobytes into each stage, what it drops of them, and what goes on."""
    figure = Figure(figsize=(9, 0.42 * len(counts) + 1.1), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    names, stages = list(counts), list(counts.values())
    sides = (
        (left, [(c.documents_in, c.documents_out) for c in stages], kinds[0]),
        (right, [(c.bytes_in / 1e3, c.bytes_out / 1e3) for c in stages], kinds[1]),
    )
    for axes, flow, kind in sides:
        before, after = np.array(flow, float).T
        y = np.arange(len(names))
        axes.barh(y, after, color=KEPT, height=0.66, label="goes on")
        gap = before - after
        apart = np.array([name == HELD_OUT for name in names])
        axes.barh(y[~apart], gap[~apart], left=after[~apart], color=LOST, height=0.66,
                  label="lost here")  # fmt: skip
        if apart.any():
            axes.barh(y[apart], gap[apart], left=after[apart], color=COLORS[2], height=0.66,
                      label="held out")  # fmt: skip
        for row, (came, went) in enumerate(flow):
            gone = f"−{came - went:,.3g}" if came - went > 0.05 else ""
            color = COLORS[2] if apart[row] else LOST
            axes.annotate(f"  {gone}", (came, row), va="center", fontsize=8, color=color)
        axes.set_xlim(0, 1.12 * before.max())
        axes.set_xlabel(kind)
        axes.spines[["top", "right"]].set_visible(False)
    left.set_yticks(range(len(names)), names, fontsize=8)
    left.invert_yaxis()
    right.legend(frameon=False, fontsize=8, loc="lower right")
    ends = []
    for _, flow, kind in sides:
        lossy = [row for row in range(len(names)) if names[row] != HELD_OUT]
        most = max(lossy, key=lambda row: flow[row][0] - flow[row][1])
        left_over = flow[lossy[-1]][1]
        ends.append(f"{flow[0][0]:,.0f} {kind} in, {left_over:,.0f} left: most go at {names[most]}")
    for (axes, _, _), said in zip(sides, ends, strict=True):
        axes.set_title(said, loc="left", fontsize=10)
    return Picture(figure, f"{'; '.join(ends)}.", DPI)


def rules(found: Mapping[str, tuple[float, float]], n_pages: int) -> Picture:
    """Precision and recall of each rule as a finder of junk; all of them together come last."""
    figure = Figure(figsize=(8, 0.36 * len(found) + 1.2), layout="constrained")
    axes = figure.subplots()
    y = np.arange(len(found))
    precision, recall = np.array(list(found.values())).T
    axes.hlines(y, np.minimum(precision, recall), np.maximum(precision, recall), color="0.8", lw=2)
    axes.plot(precision, y, "s", color=COLORS[0], label="precision: of what it drops, junk")
    axes.plot(recall, y, "o", color=COLORS[1], label="recall: of the junk, dropped")
    axes.set_yticks(y, list(found), fontsize=8)
    axes.invert_yaxis()
    axes.set(xlim=(0, 1.04), xlabel=f"share, on {n_pages} hand-labelled pages (measured)")
    axes.legend(frameon=False, fontsize=8, loc="lower left")
    axes.spines[["top", "right"]].set_visible(False)
    every = list(found)[-1]
    best = max((name for name in found if name != every), key=lambda name: found[name][1])
    title = f"{best} finds {found[best][1]:.0%} of the junk, all together {found[every][1]:.0%}"
    axes.set_title(title[0].upper() + title[1:], loc="left", fontsize=10)
    measured = zip(found, precision, recall, strict=True)
    said = "; ".join(f"{name} {p:.2f} and {r:.2f}" for name, p, r in measured)
    return Picture(figure, f"Precision and recall: {said}.", DPI)


def s_curves(similarity: np.ndarray, found: np.ndarray, n_bins: int = 16) -> Picture:
    """The chance to share a band over similarity: theory for several bandings, and counted pairs.

    similarity: Jaccard of each pair, 0 to 1. found: whether it shared one of 14 bands of 8.
    """
    figure = Figure(figsize=(8, 3.8), layout="constrained")
    axes = figure.subplots()
    s = np.linspace(0, 1, 201)
    for color, (bands, rows) in zip(COLORS, BANDINGS):
        first = (bands, rows) == BANDINGS[0]
        axes.plot(s, band_probability(s, bands, rows), color=color, lw=2.0 if first else 1.1,
                  ls="-" if first else "--", label=f"{bands} bands of {rows} (theory)")  # fmt: skip
    edges = np.linspace(0, 1, n_bins + 1)
    bins = np.clip(np.digitize(similarity, edges) - 1, 0, n_bins - 1)
    label = "pairs counted, ± 1 s.e."
    for one in np.unique(bins):
        chosen = bins == one
        share, n = found[chosen].mean(), chosen.sum()
        if n < LEAST_PAIRS:
            continue
        error = np.sqrt(max(share * (1 - share), 1 / n) / n)
        ends = [[min(error, share)], [min(error, 1 - share)]]
        axes.errorbar(similarity[chosen].mean(), share, ends, fmt="o", ms=4, color="black",
                      capsize=2, label=label)  # fmt: skip
        label = None
    axes.set(xlabel="Jaccard similarity of the 5-grams", ylabel="chance to be found", xlim=(0, 1))
    half = (1 - 0.5 ** (1 / N_BANDS)) ** (1 / BAND_ROWS)
    title = f"14 bands of 8 find half of the pairs at similarity {half:.2f}, as theory says"
    axes.set_title(title, loc="left", fontsize=10)
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    axes.spines[["top", "right"]].set_visible(False)
    return Picture(figure, f"{title}; {len(similarity):,} pairs.", DPI)


def bytes_a_token(found: Mapping[str, Mapping[str, float]]) -> Picture:
    """UTF-8 bytes behind a token: by kind of text, a bar for each tokeniser."""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    axes = figure.subplots()
    tokenizers = list(next(iter(found.values())))
    width = 0.8 / len(tokenizers)
    for i, (color, name) in enumerate(zip(COLORS, tokenizers)):
        x = np.arange(len(found)) + (i - (len(tokenizers) - 1) / 2) * width
        bars = axes.bar(x, [by[name] for by in found.values()], width, color=color, label=name)
        axes.bar_label(bars, fmt="%.2f", fontsize=7)
    axes.set_xticks(range(len(found)), list(found), fontsize=8)
    axes.set(
        ylabel="bytes a token", ylim=(0, 1.15 * max(max(by.values()) for by in found.values()))
    )
    axes.legend(frameon=False, fontsize=8, ncols=len(tokenizers), loc="upper right")
    axes.spines[["top", "right"]].set_visible(False)
    best = tokenizers[0]
    least, most = (pick(found, key=lambda kind: found[kind][best]) for pick in (min, max))
    title = (
        f"A token of {best} holds {found[most][best]:.2f} bytes of {most},"
        f" {found[least][best]:.2f} of {least} (measured)"
    )
    axes.set_title(title, loc="left", fontsize=10)
    said = "; ".join(f"{kind} {by[best]:.2f}" for kind, by in found.items())
    return Picture(figure, f"Bytes a token of {best}: {said}.", DPI)


def coverage(epochs: np.ndarray, read: Mapping[str, np.ndarray], kills: Sequence[float]) -> Picture:
    """The share of a text that was read at least once, over samples drawn, through two kills."""
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    axes = figure.subplots()
    for color, (name, share) in zip(COLORS, read.items()):
        axes.plot(epochs, share, color=color, lw=1.8, label=f"{name}: {share[-1]:.0%}")
    axes.plot(epochs, 1 - np.exp(-epochs), color="0.4", lw=1, ls="--", label="1 − e⁻ˣ (theory)")
    for i, kill in enumerate(kills):
        axes.axvline(kill, color="0.6", lw=0.9, ls=":", label=None if i else "killed, resumed")
    axes.set(xlabel="tokens drawn, in lengths of the text", ylabel="share of the text read",
             xlim=(0, max(1, epochs[-1])), ylim=(0, 1.02))  # fmt: skip
    title = "Drawn at random a third stays unread; seeded again at each resume, most of it"
    axes.set_title(title, loc="left", fontsize=10)
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    axes.spines[["top", "right"]].set_visible(False)
    ends = "; ".join(f"{name} {share[-1]:.0%}" for name, share in read.items())
    return Picture(figure, f"Share of the text read once as many tokens are drawn: {ends}.", DPI)


def cores(
    speeds: Mapping[str, float], mfu: float, models: Mapping[str, float] | None = None
) -> Picture:
    """Cores that keep cards fed, over model size, for each recipe's tokens a core and second.

    speeds: measured. mfu: assumed. A token costs 6 N FLOPs; `models`, by shape, are those whose
    own FLOPs a token are known, each a dot where 6 N would be as much.
    """
    figure = Figure(figsize=(8, 3.8), layout="constrained")
    axes = figure.subplots()
    styles = ("-", "--", ":")
    for color, (machine, (card, n_cards)) in zip(COLORS, MACHINES.items()):
        eaten = mfu * n_cards * GPUS[card].bf16_flops_per_sec / (6 * SIZES)
        for style, (name, speed) in zip(styles, speeds.items()):
            axes.plot(SIZES, eaten / speed, color=color, ls=style, lw=1.5,
                      label=f"{machine}: {name}")  # fmt: skip
            for flops in (models or {}).values():
                needed = mfu * n_cards * GPUS[card].bf16_flops_per_sec / flops / speed
                axes.plot(flops / 6, needed, "o", ms=4, color=color)
    for shape, flops in (models or {}).items():
        axes.axvline(flops / 6, color="0.7", lw=0.8, ls=":")
        axes.text(1.05 * flops / 6, 0.97, f"{shape}, whose token costs as much as at 6N here",
                  transform=axes.get_xaxis_transform(), va="top", fontsize=7,
                  color="0.3")  # fmt: skip
    axes.axhline(1, color="0.5", lw=0.8)
    axes.text(SIZES[-1], 1.15, "one core", ha="right", fontsize=8, color="0.4")
    axes.set(xscale="log", yscale="log", xlabel="parameters N of the model being trained",
             ylabel="cores that keep it fed", xlim=(SIZES[0], SIZES[-1]))  # fmt: skip
    title = f"Small models are the hungry ones (speeds measured here, MFU {mfu:.2f} assumed)"
    axes.set_title(title, loc="left", fontsize=10)
    axes.legend(frameon=False, fontsize=7, ncols=2, loc="lower left")
    axes.spines[["top", "right"]].set_visible(False)
    said = ", ".join(f"{name} {speed:,.0f}" for name, speed in speeds.items())
    return Picture(figure, f"{title}; tokens a core and second: {said}.", DPI)


def funnel(published: Mapping[str, Published]) -> Picture:
    """Published tokens after each step, log scale; hollow if seen second hand, a gap if never."""
    steps = [one for one in published.values() if one.unit == "tokens"]
    figure = Figure(figsize=(8, 0.4 * len(steps) + 1), layout="constrained")
    axes = figure.subplots()
    for y, one in enumerate(steps):
        if one.value is None:
            axes.text(6e11, y, "not seen: no figure", va="center", fontsize=8, color="0.4")
            continue
        seen = one.seen == PRIMARY
        axes.barh(y, one.value, color=KEPT if seen else "none", edgecolor=KEPT, height=0.6)
        axes.text(1.08 * one.value, y, short(one.value), va="center", fontsize=8)
    handles = [
        Patch(facecolor=face, edgecolor=KEPT, label=label)
        for face, label in ((KEPT, "as its makers published it"), ("none", "second hand"))
    ]
    axes.set_yticks(range(len(steps)), [one.what for one in steps], fontsize=8)
    axes.invert_yaxis()
    axes.set(xscale="log", xlim=(5e11, 5e14), xlabel="tokens left (GPT-2's)")
    axes.legend(handles=handles, frameon=False, fontsize=8, loc="lower right")
    axes.spines[["top", "right"]].set_visible(False)
    edu, all_ = steps[-1].value, next(one.value for one in steps if one.what == "FineWeb")
    title = f"FineWeb: {short(all_)} tokens, of which {edu / all_:.0%} are FineWeb-Edu (published)"
    axes.set_title(title, loc="left", fontsize=10)
    return Picture(figure, f"{title}.", DPI)


def published_table(published: Mapping[str, Published]) -> Table:
    """Published figures with their sources, and how each was seen."""
    rows = [
        (
            one.what,
            "–" if one.value is None else f"{_said(one.value)} {one.unit}",
            one.seen,
            one.source,
        )
        for one in published.values()
    ]
    return Table(("what", "figure", "seen", "source"), rows)


def _said(value: float) -> str:
    return f"{value:g}" if value < 1000 else short(value)


def opening(text: str, n_characters: int = 90) -> str:
    """A text's first words on one line, fit for a table's cell."""
    line = " / ".join(part.strip() for part in text.splitlines() if part.strip())
    cut = line if len(line) <= n_characters else line[: n_characters - 1].rstrip() + "…"
    return re.sub(r"([\\|*_`$<#\[\]])", r"\\\1", cut)
