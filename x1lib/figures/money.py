"""Notebook 02's figures of one card and its bill: cards, roofline, restarts, a run's cost."""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import timedelta

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from x1lib.economics import GPUS, PRICES, PROVIDERS, Price
from x1lib.economics.wording import short
from x1lib.figures.shown import Picture, Table

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe and Ito
INTENSITY = np.geomspace(0.5, 1e4, 60)  # FLOP/byte
BILL_DPI = 100
A_MONTH = timedelta(days=31)


def ridge(name: str) -> float | None:
    """FLOPs a byte at which a card's arithmetic and its memory take equally long."""
    card = GPUS[name]
    if card.bf16_flops_per_sec is None:
        return None
    return card.bf16_flops_per_sec / card.memory_bytes_per_sec


def specs(names: Sequence[str] = tuple(GPUS)) -> Table:
    """Data sheets side by side, and the ridge that follows; a dash is what a card does not have."""
    rows = []
    for name in names:
        card = GPUS[name]
        flops, at = card.bf16_flops_per_sec, ridge(name)
        rows.append((
            name,
            _or_dash(flops, 1e12),
            f"{card.memory_bytes / 1e9:.0f}",
            f"{card.memory_bytes_per_sec / 1e12:.2f}",
            _or_dash(at, 1),
            _or_dash(card.link_bytes_per_sec, 1e9),
            f"{card.watts:.0f}",
        ))  # fmt: skip
    head = ("card", "bf16 TFLOP/s", "memory GB", "memory TB/s", "ridge FLOP/byte",
            "link GB/s, both ways", "W")  # fmt: skip
    return Table(head, rows)


def _or_dash(value: float | None, unit: float) -> str:
    return "–" if value is None else f"{value / unit:.0f}"


def pairs() -> list[tuple[Price, Price]]:
    """Verified prices on demand and on spot of like and like, the largest saving first.

    Like: provider, card, cards of the machine, who read it, and read within a month.
    """
    verified = [price for price in PRICES if price.usd_per_gpu_hour is not None]
    found = [
        (full, spot)
        for full in verified
        for spot in verified
        if not full.spot and spot.spot and _kind(full) == _kind(spot)
        and abs(full.date - spot.date) <= A_MONTH
    ]  # fmt: skip
    return sorted(found, key=lambda pair: pair[1].usd_per_gpu_hour / pair[0].usd_per_gpu_hour)


def _kind(price: Price) -> tuple:
    return price.provider, price.gpu, price.gpus, price.source


def spot_pairs() -> Table:
    """Cards with a verified price on demand and on spot that compare, and the day they were read.

    An hour of one card; prices that were read of other machines, by others or at other times are
    left out.
    """
    rows = []
    for full, spot in pairs():
        off = 1 - spot.usd_per_gpu_hour / full.usd_per_gpu_hour
        days = " and ".join(dict.fromkeys(str(one.date) for one in (full, spot)))
        usd = [f"{one.usd_per_gpu_hour:.2f}" for one in (full, spot)]
        rows.append((PROVIDERS[spot.provider], spot.gpu, full.gpus, *usd, f"{off:.0%}", days))
    head = ("provider", "card", "cards of the machine", "on demand USD/h", "spot USD/h", "less",
            "read")  # fmt: skip
    return Table(head, rows)


def roofline(names: Sequence[str], points: dict[str, float]) -> Picture:
    """What each card can reach at each arithmetic intensity, log-log, from data sheets.

    points: FLOPs a byte by what is done; each stands as a line down, and names itself on top.
    """
    figure = Figure(figsize=(8, 4.4), layout="constrained")
    axes = figure.subplots()
    for color, name in zip(COLORS, names, strict=False):
        card = GPUS[name]
        reach = np.minimum(
            card.bf16_flops_per_sec, INTENSITY * card.memory_bytes_per_sec
        )  # fmt: skip
        label = f"{name}: ridge at {ridge(name):.0f}"
        axes.plot(INTENSITY, reach / 1e12, color=color, lw=1.6, label=label)
        axes.plot(ridge(name), card.bf16_flops_per_sec / 1e12, "o", color=color, ms=4)
    for what, at in points.items():
        axes.axvline(at, color="0.5", lw=0.9, ls=":")
        axes.text(at, 0.98, f"{what} ", rotation=90, va="top", ha="right", fontsize=8,
                  transform=axes.get_xaxis_transform(),
                  bbox={"fc": "white", "ec": "none", "pad": 0.5, "alpha": 0.85})  # fmt: skip
    axes.set(xscale="log", yscale="log", xlabel="arithmetic intensity [FLOP per byte]",
             ylabel="within reach [TFLOP/s]", xlim=(INTENSITY[0], INTENSITY[-1]))  # fmt: skip
    starved = [what for what, at in points.items() if at < min(map(ridge, names))]
    title = f"Left of the ridge memory decides: {'; '.join(starved)} (data sheets)"
    axes.set_title(title, loc="left", fontsize=10)
    _plain(axes, loc="lower right", frameon=True, edgecolor="none")
    said = "; ".join(f"{what} at {at:.3g} FLOP/byte" for what, at in points.items())
    return Picture(figure, f"Rooflines of {', '.join(names)}, with {said}.")


def restarts(every: np.ndarray, formula: np.ndarray, simulated: dict, young: float) -> Picture:
    """Billed over useful hours against the hours between saves; simulated ones as points.

    simulated: (mean, standard error) by interval.
    """
    figure = Figure(figsize=(8, 3.8), layout="constrained")
    axes = figure.subplots()
    axes.plot(every, formula, color=COLORS[0], lw=1.6, label="formula (Daly 2006)")
    means, errors = np.transpose(list(simulated.values()))
    axes.errorbar(list(simulated), means, 2 * errors, fmt="s", ms=4, mfc="white", color=COLORS[1],
                  capsize=2, label="simulated, ± 2 standard errors")  # fmt: skip
    axes.axvline(young, color="0.4", lw=0.9, ls="--", label="√(2 × save × mean) (Young 1974)")
    least = formula.min()
    axes.set(xscale="log", xlabel="work between saves [h]", ylabel="billed hours / useful hours")
    axes.set_title(f"Young's interval costs {least - 1:.0%} more hours; both too often and too"
                   " seldom cost more", loc="left", fontsize=10)  # fmt: skip
    _plain(axes)
    return Picture(
        figure,
        f"Billed over useful hours is least, {least:.3f}, near {young:.2f} h between saves;"
        " simulated runs lie on the formula.",
    )


def bill(made, budget_usd: float = 50.0) -> Picture:
    """One run's cost by line, and its place among all N and D, with the budget's line (computed).

    made: an Estimate of one run with a price.
    """
    return Picture(
        bill_figure(made, budget_usd), f"Cost by line, and over N x D: {made.sentence()}"
    )


def bill_png(made, budget_usd: float = 50.0) -> bytes:
    """The same as the bytes of a PNG, for whatever redraws it while somebody moves a slider."""
    drawn = io.BytesIO()
    figure = bill_figure(made, budget_usd)
    figure.savefig(drawn, format="png", dpi=BILL_DPI, metadata={"Software": None})
    return drawn.getvalue()


def bill_figure(made, budget_usd: float) -> Figure:
    """Two panels: the bill's lines as bars; N x D with the run and what the budget buys."""
    figure = Figure(figsize=(8, 3.2))
    left, right = figure.subplots(1, 2)
    figure.subplots_adjust(left=0.15, right=0.985, bottom=0.17, top=0.87, wspace=0.3)
    _bars(left, made)
    _plane(right, made, budget_usd)
    return figure


def _bars(axes, made) -> None:
    lines = {line: usd for line, usd in made.usd_by_line.items() if usd}
    names, sums = list(lines) or ["compute"], list(lines.values()) or [0.0]
    axes.barh(names[::-1], sums[::-1], color=COLORS[0], height=0.6)
    for y, usd in enumerate(sums[::-1]):
        axes.annotate(f" ${short(usd)}", (usd, y), va="center", fontsize=8)
    axes.set_xlim(0, 1.3 * max(sums) or 1)
    axes.set_ylim(-0.8, max(len(names), 3) - 0.4)
    axes.set_xlabel("US dollars", fontsize=9)
    axes.set_xticks([0, *([max(sums)] * (max(sums) > 0))], ["0", *([short(max(sums))] * any(sums))])
    _small(axes, f"${short(made.usd)} for {short(made.hours)} h, by line (computed)")


def _plane(axes, made, budget_usd: float) -> None:
    n, d = made.n_params, made.n_tokens
    x, y = _around(n, 1e6, 1e12), _around(d, 1e7, 1e14)
    sizes = np.array(x)
    axes.set(xscale="log", yscale="log", xlim=x, ylim=y)
    axes.plot(sizes, 20 * sizes, color="0.6", lw=1, ls=":", label="20 tokens a parameter")
    if made.usd:
        # Dollars over N x D are constant along a line, at this model's FLOPs a parameter.
        bought = d * budget_usd / made.usd * n / sizes
        axes.plot(sizes, bought, color=COLORS[1], lw=1.6, label=f"${short(budget_usd)}")
        axes.fill_between(sizes, bought, y[0], color=COLORS[1], alpha=0.08, lw=0)
    axes.plot(n, d, "o", color="black", ms=7, label="this run")
    axes.set_xlabel("parameters N", fontsize=9)
    axes.set_ylabel("tokens D", fontsize=9)
    for axis, ends in ((axes.xaxis, x), (axes.yaxis, y)):
        axis.set_minor_locator(NullLocator())
        marks = 10.0 ** np.arange(np.ceil(np.log10(ends[0])), np.log10(ends[1]) + 0.01, 2)
        axis.set_ticks(marks, [short(mark) for mark in marks])
    axes.legend(frameon=False, fontsize=7, loc="upper right")
    side = "inside" if made.usd <= budget_usd else "outside"
    _small(axes, f"{side} ${short(budget_usd)} (computed)")


def _around(value: float, low: float, high: float) -> tuple[float, float]:
    """An axis' ends, wide enough for the value."""
    return min(low, value / 10), max(high, value * 10)


def _small(axes, title: str) -> None:
    # A title at a stated height spares matplotlib a second layout: this is drawn while one drags.
    axes.set_title(title, loc="left", fontsize=10, y=1.02)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _plain(axes, **legend) -> None:
    axes.legend(**{"frameon": False, "fontsize": 8} | legend)
    axes.spines[["top", "right"]].set_visible(False)
