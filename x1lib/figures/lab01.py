"""Figures of lab01, drawn from what a sweep wrote and from the authors' sweep of rates."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from x1lib.economics.wording import short
from x1lib.figures.shown import Picture
from x1lib.launch import project_root
from x1lib.scaling import PUBLISHED
from x1lib.sweep import (
    DEFAULT_N,
    Point,
    Results,
    budgets_inside,
    finished,
    fixed_compute,
    fixed_tokens,
)
from x1lib.sweep.drawing import COLOURS, figure_of, ticks
from x1lib.sweep.fitting import curves_by_width

RATES = Path("experiments") / "reference" / "lr-batch-sweep" / "runs.csv"
DPI = 100
WIDTHS = (64, 128, 256, 16, 96)  # of the sweep of rates, each of one colour


def rates(path: Path | None = None) -> Picture:
    """Held-out loss over the learning rate, a line a width: without the rule, and with it."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    axes = figure.subplots(1, 3, sharey=True)
    titles = {0: "one rate for all weights", 64: "the rule, from 64", 256: "the rule, from 256"}
    said = []
    for one, (base_width, title) in zip(axes, titles.items(), strict=True):
        curves = curves_by_width(path or project_root() / RATES, base_width)
        best = []
        for width, logs in sorted(curves.items()):
            x, y = np.exp(logs)
            colour = COLOURS[WIDTHS.index(width) % len(COLOURS)]
            one.plot(x, y, "o-", color=colour, ms=4, lw=1.3, label=f"width {width}")
            one.plot(x[y.argmin()], y.min(), "*", color=colour, ms=13, mec="white")
            best.append(f"{x[y.argmin()]:g}")
        said.append(f"{title}: best at {', '.join(best)}")
        one.set(xscale="log", xlabel="peak learning rate", ylim=(None, 6.1), xlim=(5e-4, 2.5e-2))
        one.set_xticks([1e-3, 1e-2], ["0.001", "0.01"])
        one.set_title(title, loc="left", fontsize=10)
        one.legend(frameon=False, fontsize=8)
    axes[0].set_ylabel("held-out loss [nats a token]")
    _plain(*axes)
    return Picture(figure, f"Loss over learning rate by width. {'; '.join(said)}.", DPI)


def losses(results: Results) -> Picture:
    """What the sweep leaves as scaling-law.png."""
    bar = results.found["prediction_1e9"]
    figure = figure_of(results.points, results.fitted, bar, results.reveals)
    words = f"{len(results.done)} runs and the law through them; residual {results.fitted.rms:.2%}."
    return Picture(figure, words, DPI)


def seeds(points: Sequence[Point]) -> Picture:
    """Each run's log loss less its seeds' mean, by size and token count."""
    figure = Figure(figsize=(8, 3.0), layout="constrained")
    axes = figure.subplots()
    groups: dict[tuple[int, int], list[Point]] = {}
    for p in finished(points):
        groups.setdefault((p.tokens, p.n_total), []).append(p)
    shown = sorted(key for key, runs in groups.items() if len(runs) > 1)
    for place, key in enumerate(shown):
        logs = np.log([p.val_loss for p in groups[key]])
        sizes = sorted({n for _, n in shown})
        colour = COLOURS[sizes.index(key[1])]
        axes.plot([place] * len(logs), 100 * (logs - logs.mean()), "o", color=colour, ms=5)
    axes.axhline(0, color="0.6", lw=0.8)
    labels = [f"{short(d)} tokens\n{short(n)} params" for d, n in shown]
    axes.set_xticks(range(len(shown)), labels, fontsize=7)
    axes.set_ylabel("loss against the\nseeds' mean [%]")
    _plain(axes)
    return Picture(figure, f"Spread between seeds at {len(shown)} sizes and token counts.", DPI)


def residuals(results: Results) -> Picture:
    """Fitted less measured log loss over tokens, a colour a size: what each form cannot follow."""
    fits = [by_n[DEFAULT_N] for by_n in results.fits.values() if DEFAULT_N in by_n]
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    axes = figure.subplots(1, len(fits), sharey=True, squeeze=False)[0]
    floor = results.found["noise_floor"]["sd_log_loss"]
    for one, fitted in zip(axes, fits, strict=True):
        sizes = sorted({p.n_total for p in fitted.points})
        for colour, size in zip(COLOURS * 2, sizes):
            mine = [(p.tokens, r) for p, r in zip(fitted.points, fitted.residuals)
                    if p.n_total == size]  # fmt: skip
            x, y = np.array(mine).T
            one.plot(x, 100 * y, "o", color=colour, ms=5, label=f"{short(size)} parameters")
        if floor:
            one.axhspan(-200 * floor, 200 * floor, color="0.5", alpha=0.12, lw=0,
                        label="two standard deviations of a seed")  # fmt: skip
        one.axhline(0, color="0.6", lw=0.8)
        one.set(xscale="log", xlabel="training tokens D")
        one.set_title(f"{fitted.form} form: {fitted.rms:.2%}", loc="left", fontsize=10)
        ticks(one, {p.tokens for p in fitted.points})
    axes[0].set_ylabel("fitted less measured [%]")
    axes[0].legend(frameon=False, fontsize=7, ncols=2)
    _plain(*axes)
    words = "; ".join(f"{fitted.form} {fitted.rms:.2%}" for fitted in fits)
    return Picture(figure, f"Residuals of the two forms, root mean square: {words}.", DPI)


def two_readings(points: Sequence[Point]) -> Picture:
    """Loss over N, twice: lines of equal tokens, and lines of equal compute."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for colour, (tokens, pairs) in zip(COLOURS * 2, fixed_tokens(points).items()):
        if pairs:
            left.plot(*np.array(pairs).T, "o-", color=colour, ms=4, label=f"D = {short(tokens)}")
    found = fixed_compute(points, budgets_inside(points))
    for colour, (budget, pairs) in zip(COLOURS * 2, found.items()):
        if pairs:
            right.plot(*np.array(pairs).T, "o-", color=colour, ms=4, label=f"C = {budget:.1e}")
    for axes, title in ((left, "Fixed tokens: more N, more compute"),
                        (right, "Fixed compute: more N, fewer tokens")):  # fmt: skip
        axes.set(xscale="log", xlabel="parameters N (total)")
        ticks(axes, {p.n_total for p in points})
        axes.set_title(title, loc="left", fontsize=10)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize=8)
    left.set_ylabel("held-out loss [nats a token]")
    _plain(left, right)
    return Picture(figure, "Loss over N at fixed tokens and at fixed compute, same points.", DPI)


def revealed(results: Results) -> Picture:
    """The held-out size: the sealed intervals, the ruler, and what was measured."""
    figure = Figure(figsize=(8, 3.0), layout="constrained")
    axes = figure.subplots()
    for place, one in enumerate(results.reveals):
        shift = 100 / one.measured
        low, high = shift * (one.loss - one.low), shift * (one.high - one.loss)
        axes.errorbar(place, 100 * one.error, [[low], [high]], fmt="o", color=COLOURS[0], ms=5,
                      capsize=4, label=None if place else f"{one.form} form, sealed")  # fmt: skip
        if one.other_loss:
            axes.plot(place + 0.08, 100 * one.other_error, "s", color=COLOURS[1], ms=5,
                      label=f"the {one.other_form} form" if not place else None)  # fmt: skip
        axes.plot(place + 0.15, 100 * one.ruler_error, "x", color=COLOURS[5], ms=7,
                  label="ruler" if not place else None)  # fmt: skip
    axes.axhline(0, color="0.3", lw=1, label="measured")
    axes.axhspan(-0.5, 0.5, color="0.5", alpha=0.12, lw=0, label="goal: 0.5%")
    labels = [f"{short(one.tokens)} tokens" for one in results.reveals]
    axes.set_xticks(range(len(labels)), labels)
    axes.set_ylabel("predicted less\nmeasured loss [%]")
    axes.legend(frameon=False, fontsize=8, ncols=2)
    _plain(axes)
    words = ", ".join(f"{one.error:+.2%}" for one in results.reveals)
    return Picture(figure, f"Errors of the sealed predictions: {words}.", DPI)


def beside_published(results: Results) -> Picture:
    """D_opt(1B): three bars of this sweep, and what published laws say."""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    axes = figure.subplots()
    bar = results.found["prediction_1e9"]
    names = {"noise": "noise, 95%", "which_n": "which N", "which_form": "which form"}
    names["learning_rate"] = "learning rate"
    rows = [(f"this sweep: {words}", bar[key]) for key, words in names.items()]
    best = bar["optimal_tokens_1e9"]
    for place, (label, pair) in enumerate(rows):
        if pair:
            low, high = np.clip(pair, 1e6, 1e15)
            axes.plot([low, high], [place] * 2, "|-", color=COLOURS[place], lw=3, ms=9)
        elif best:
            axes.text(best, place, "not measured", fontsize=8, va="center")
        rows[place] = (label, pair)
    if best:
        axes.axvline(best, color="0.4", lw=1, ls=":")
    labels = [label for label, _ in rows]
    for key in ("kaplan2020", "hoffmann2022", "besiroglu2024"):
        value = PUBLISHED[key].law.optimal_tokens(1e9)
        axes.plot(value, len(labels), "D", color="0.2", ms=6)
        labels.append(f"published: {key}")
    axes.set_yticks(range(len(labels)), labels, fontsize=8)
    axes.invert_yaxis()
    axes.set(xscale="log", xlabel="optimal tokens for 1B parameters")
    _plain(axes)
    said = f"{short(best)} tokens" if best else "no optimum"
    return Picture(figure, f"D_opt(1B) by this sweep: {said}; published laws beside it.", DPI)


def _plain(*axes) -> None:
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
        one.grid(alpha=0.2)
