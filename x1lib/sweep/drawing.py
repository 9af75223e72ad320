"""scaling-law.png: the points, the law through them with its band, and how far away 1B is."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from x1lib.economics.wording import short
from x1lib.sweep.answers import billions
from x1lib.sweep.design import HELDOUT
from x1lib.sweep.fitting import DEFAULT_N, ONE_BILLION, Fitted
from x1lib.sweep.points import COUNTS, Point, finished

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")


def figure_of(points: list[Point], fitted: Fitted, bar: dict, reveals: list):
    """Left: loss over tokens by size. Right: the optimal tokens of each size, out to 1B."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
    _losses(left, points, fitted, reveals)
    _optimum(right, points, fitted, bar)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.2)
    return figure


def draw(path: Path, points: list[Point], fitted: Fitted, bar: dict, reveals: list) -> None:
    """Write the figure."""
    figure_of(points, fitted, bar, reveals).savefig(path, dpi=110, metadata={"Software": None})


def ticks(axes, values) -> None:
    """Ticks of a logarithmic x axis where the points are, said as a person says them."""
    axes.set_xticks(sorted(values), [short(value) for value in sorted(values)], fontsize=8)
    axes.minorticks_off()


def _losses(axes, points: list[Point], fitted: Fitted, reveals: list) -> None:
    from matplotlib.ticker import MultipleLocator

    done = finished(points)
    sizes = sorted({(p.n_total, p.shape) for p in done})
    grid = np.geomspace(min(p.tokens for p in done) / 1.3, max(p.tokens for p in done) * 1.3, 60)
    for colour, (_, shape) in zip(COLOURS * 3, sizes):
        mine = [p for p in done if p.shape == shape]
        n_params = getattr(mine[0], COUNTS[fitted.n])
        low, high = fitted.band(n_params, grid)
        axes.fill_between(grid, low, high, color=colour, alpha=0.15, lw=0)
        axes.plot(grid, fitted.law.loss(n_params, grid), color=colour, lw=1.2)
        marker = "s" if mine[0].role == HELDOUT else "o"
        held = ", held out" if mine[0].role == HELDOUT else ""
        axes.plot(
            [p.tokens for p in mine], [p.val_loss for p in mine], marker, color=colour, ms=5,
            label=f"{mine[0].n_layers} x {mine[0].d_model}: {n_params / 1e6:.2f}M{held}",
        )  # fmt: skip
    for number, one in enumerate(reveals):
        axes.errorbar(
            one.tokens * 1.06, one.loss, [[one.loss - one.low], [one.high - one.loss]],
            fmt="_", color="0.25", ms=8, capsize=3, lw=1,
            label="sealed before its run" if number == 0 else None,
        )  # fmt: skip
    axes.set(xscale="log", yscale="log", xlabel="training tokens D")
    ticks(axes, {p.tokens for p in done})
    axes.set_ylabel("held-out loss [nats a token]")
    axes.yaxis.set_major_locator(MultipleLocator(0.25))
    axes.yaxis.set_major_formatter("{x:.2f}")
    axes.legend(frameon=False, fontsize=8)
    axes.set_title(
        f"Measured points, the law in its {fitted.form} form, residual {fitted.rms:.2%} (95%)",
        loc="left", fontsize=10,
    )  # fmt: skip


def _optimum(axes, points: list[Point], fitted: Fitted, bar: dict) -> None:
    done = finished(points)
    here = [getattr(p, COUNTS[fitted.n]) for p in done]
    axes.plot(here, [p.tokens for p in done], "o", color="0.4", ms=4, label="measured runs")
    grid = np.geomspace(min(here), 2e9, 40)
    best = [fitted.optimal_tokens(n) for n in grid]
    if all(best):
        axes.plot(grid, best, color=COLOURS[0], lw=1.4, label="optimal D by the law")
    inside = [fitted.interval_optimal_tokens(n) for n in grid]
    low, high = np.array(inside).T
    top = 1e4 * max(filter(None, [bar["optimal_tokens_1e9"], 1e9]))
    bottom = min(p.tokens for p in done) / 1e3
    axes.fill_between(
        grid, np.clip(low, bottom, top), np.clip(high, bottom, top), color=COLOURS[0], alpha=0.15,
        lw=0, label="95%, noise only",
    )  # fmt: skip
    at_1b = (
        (0.72, "noise", "noise"),
        (1.0, "which_n", "which N"),
        (1.39, "learning_rate", "LR"),
        (1.93, "which_form", "which form"),
    )
    for (shift, name, words), colour in zip(at_1b, COLOURS[1:]):
        if bar[name]:
            pair = np.clip(bar[name], bottom, top)
            place = [ONE_BILLION * shift] * 2
            axes.plot(place, pair, "_-", lw=3, ms=7, color=colour, label=f"at 1B: {words}")
    axes.axvspan(max(here), ONE_BILLION, color="0.5", alpha=0.07, lw=0)
    axes.set(xscale="log", yscale="log", xlabel=f"parameters N ({DEFAULT_N})", ylim=(bottom, top))
    axes.set_ylabel("tokens D")
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    factor = ONE_BILLION / max(here)
    axes.set_title(
        f"1B is {factor:,.0f} x beyond the runs: D_opt = {billions(bar['optimal_tokens_1e9'])}",
        loc="left", fontsize=10,
    )  # fmt: skip
