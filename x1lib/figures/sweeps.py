"""Notebook 01's figures of sweeps: three approaches, measured runs, intervals, and which N."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from x1lib.economics.wording import short
from x1lib.figures.money import COLORS
from x1lib.figures.scaling import BIG_DPI
from x1lib.figures.shown import Picture, Table
from x1lib.scaling import Fit, Frontier, IsoFlop, Law


def approaches(curves, grid, points, frontier: Frontier, valleys: IsoFlop, fit: Fit) -> Picture:
    """Chinchilla's three approaches side by side, each on the points that it takes.

    curves, grid, points: (N, D, loss), of training curves, of IsoFLOP runs, and of all that was
    fitted. The titles say the exponent that each finds.
    """
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    one, two, three = figure.subplots(1, 3)
    n, d, loss = curves
    for i, size in enumerate(np.unique(n)):
        mine = n == size
        one.plot(6 * size * d[mine], loss[mine], color="0.7", lw=0.9,
                 label="a size while it trains" if i == 0 else None)  # fmt: skip
    one.plot(frontier.compute, frontier.loss, color=COLORS[1], lw=2, label="lowest of all")
    one.set(xscale="log", xlabel="C [FLOPs]", ylabel="loss [nats a token]")
    n, d, loss = grid
    for i, C in enumerate(valleys.compute):
        mine = np.abs(np.log(6 * n * d / C)) < 0.05
        two.plot(n[mine], loss[mine], "o-", ms=2.5, lw=0.9, color="0.6",
                 label="one budget C" if i == 0 else None)  # fmt: skip
    two.plot(valleys.n_params, valleys.loss, "s", ms=5, mfc="white", color=COLORS[1],
             label="its lowest point")  # fmt: skip
    two.set(xscale="log", xlabel="N")
    n, d, loss = points
    three.plot(fit.law.loss(n, d), loss, "o", ms=3, mfc="white", color=COLORS[1], label="runs")
    ends = [loss.min(), loss.max()]
    three.plot(ends, ends, color="0.5", lw=0.9, label="fitted = seen")
    three.set(xlabel="fitted loss", ylabel="loss seen")
    titles = [f"1, the envelope: a = {frontier.exponent_n:.3f}",
              f"2, IsoFLOP valleys: a = {valleys.exponent_n:.3f}",
              f"3, the law fitted: a = {fit.law.a:.3f}"]  # fmt: skip
    for axes, title in zip((one, two, three), titles, strict=True):
        axes.set_title(title, loc="left", fontsize=10)
        axes.legend(frameon=False, fontsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    return Picture(figure, f"{'; '.join(titles)}; N grows as C to the power a.", BIG_DPI)


def valleys(law: Law, budgets: Sequence[float], points=None) -> Picture:
    """A law's loss over N at some budgets, its optima, and published runs where there are any.

    points: (N, D, loss) of runs, shown at the nearest budget if within 25% of it.
    """
    figure, axes = _axes(4.2)
    for C in budgets:
        best = law.optimal(C).n_params
        sizes = best * np.geomspace(1 / 12, 12, 80)
        axes.plot(sizes, law.loss(sizes, C / (6 * sizes)), color="0.6", lw=1)
        axes.annotate(f"{C:.0e}", (sizes[-1], law.loss(sizes[-1], C / (6 * sizes[-1]))), (3, -3),
                      textcoords="offset points", fontsize=7)  # fmt: skip
    best = [law.optimal(C) for C in budgets]
    axes.plot([one.n_params for one in best], [one.loss for one in best], "s-", color=COLORS[1],
              ms=5, mfc="white", label="optimal N (published law)")  # fmt: skip
    axes.plot([], [], color="0.6", lw=1, label="one budget C [FLOPs] (published law)")
    if points is not None:
        n, d, loss = points
        near = np.abs(np.log(6 * n * d / np.asarray(budgets)[:, None])).min(axis=0) < np.log(1.25)
        axes.plot(n[near], loss[near], "o", ms=3, color=COLORS[0], label="runs (published)")
    axes.set(xscale="log", xlabel="parameters N (total)", ylabel="loss [nats a token]")
    times = 10**law.a, 10 ** (1 - law.a)
    title = f"Ten times the compute: {times[0]:.2f} times the best N, {times[1]:.2f} times its D"
    return _done(figure, axes, title)


class Folded(Table):
    """A table that opens when its heading is clicked."""

    def __init__(self, summary: str, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        super().__init__(head, rows)
        self.summary = summary

    def __repr__(self) -> str:
        return f"{self.summary}\n{super().__repr__()}"

    def _repr_markdown_(self) -> str:
        table = super()._repr_markdown_()
        return f"<details><summary>{self.summary}</summary>\n\n{table}\n\n</details>"


def runs(n, d, loss, law: Law, held_out=None, said: str = "measured") -> Picture:
    """Loss over tokens, a colour for each size, with a law's curves; held-out runs stand apart.

    held_out: (N, D, loss) of runs that the law has not seen.
    """
    figure, axes = _axes(4.2)
    sizes = np.unique(n)
    apart = held_out[0] if held_out is not None else np.array([])
    every = np.append(d, held_out[1]) if held_out is not None else d
    tokens = np.geomspace(every.min() / 1.2, every.max() * 1.2, 60)
    for color, size in zip(COLORS, np.unique(np.append(sizes, apart)), strict=False):
        axes.plot(tokens, law.loss(size, tokens), color=color, lw=1.2)
        if (mine := n == size).any():
            axes.plot(d[mine], loss[mine], "o", ms=5, color=color, label=f"{short(size)}: {said}")
        if held_out is not None and (apart == size).any():
            axes.plot(held_out[1][apart == size], held_out[2][apart == size], "D", ms=6,
                      mfc="white", color=color,
                      label=f"{short(size)}: {said}, not fitted")  # fmt: skip
    axes.plot([], [], color="0.4", lw=1.2, label="fitted law")
    axes.set(xscale="log", xlabel="training tokens D", ylabel="held-out loss [nats a token]")
    ticks = np.unique(every)
    if len(ticks) <= 8:
        axes.set_xticks(ticks, [short(tick) for tick in ticks])
        axes.minorticks_off()
    worst = np.abs(np.log(loss / law.loss(n, d))).max()
    return _done(figure, axes, f"The law follows {len(loss)} runs to within {worst:.1%} of loss")


def intervals(found: dict[str, Sequence[tuple[float, float]]], truth: float, shown: int = 40):
    """Intervals of simulated sweeps by the way they were made, those that miss the truth marked."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    panels = figure.subplots(1, len(found), sharey=True)
    words = []
    for axes, (way, ends) in zip(panels, found.items(), strict=True):
        ends = np.asarray(ends) / 1e9
        holds = (ends[:, 0] <= truth / 1e9) & (truth / 1e9 <= ends[:, 1])
        for x, (low, high) in enumerate(ends[:shown]):
            axes.plot([x, x], [low, high], lw=2.2, color="0.72" if holds[x] else COLORS[1])
        axes.axhline(truth / 1e9, color="black", lw=1)
        axes.set(yscale="log", xlabel=f"simulated sweep (the first {shown} of {len(ends)})")
        words.append(f"{way}: {holds.mean():.0%} hold the truth")
        axes.set_title(words[-1], loc="left", fontsize=10)
        axes.set_yticks([3, 10, 30, 100], ["3", "10", "30", "100"])
        axes.minorticks_off()
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("95% interval of D_opt(1e9) [B tokens]")
    return Picture(figure, f"{'; '.join(words)} (simulated).", BIG_DPI)


def which_n(law: Law, wrong: Law, totals: np.ndarray, bodies: np.ndarray) -> Picture:
    """The true law over all parameters and one fitted over the body alone: both pass every point.

    totals, bodies: the two counts of each size, in one order. A size beyond them is counted on the
    line through the last two in log-log.
    """
    figure, axes = _axes(3.8)
    slope = np.diff(np.log(totals[-2:])) / np.diff(np.log(bodies[-2:]))
    body = np.geomspace(bodies[0], 3e9, 120)
    beyond = totals[-1] * (body / bodies[-1]) ** slope
    inside = np.exp(np.interp(np.log(body), np.log(bodies), np.log(totals)))
    total = np.where(body > bodies[-1], beyond, inside)
    D = 2e9
    axes.plot(total, law.loss(total, D), color=COLORS[0], lw=1.7, label="the truth, total N")
    axes.plot(total, wrong.loss(body, D), color=COLORS[1], lw=1.7, ls="--",
              label="fitted with body N")  # fmt: skip
    axes.plot(
        totals, law.loss(totals, D), "o", color="black", ms=6, label="the three sizes (simulated)"
    )
    axes.set(xscale="log", xlabel="total parameters", ylabel=f"loss at {short(D)} tokens")
    says = [one.optimal_tokens(1e9) / 1e9 for one in (law, wrong)]
    title = f"No residual at three sizes, yet D_opt(1e9) is {says[1]:.0f}B and not {says[0]:.0f}B"
    return _done(figure, axes, title)


def _axes(height: float):
    figure = Figure(figsize=(8, height), layout="constrained")
    return figure, figure.subplots()


def _done(figure, axes, title: str) -> Picture:
    axes.set_title(title, loc="left", fontsize=10)
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return Picture(figure, f"{title}.", BIG_DPI)
