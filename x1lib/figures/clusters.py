"""Notebook 02's figures of many cards: memory by ZeRO stage, a check, the regimes of a 70B."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from x1lib.economics import GPUS
from x1lib.economics.memory import USABLE_SHARE
from x1lib.economics.parallel import Layout, Network, Step, state_bytes
from x1lib.figures.money import COLORS
from x1lib.figures.shown import Picture, Table

FAMILIES = {"ZeRO alone": COLORS[0], "TP + ZeRO": COLORS[2], "PP + ZeRO": COLORS[4],
            "TP + PP + ZeRO": COLORS[1], "TP and PP, one copy": COLORS[3]}  # fmt: skip


def family(layout: Layout) -> str:
    """Which of the figure's families a layout belongs to; plain copies count as ZeRO's stage 0."""
    if layout.dp == 1:
        return "TP and PP, one copy"
    parts = [word for word, n in (("TP", layout.tp), ("PP", layout.pp)) if n > 1]
    return " + ".join([*parts, "ZeRO"]) if parts else "ZeRO alone"


def states(n_params: float, cards: int, gpu: str) -> Picture:
    """Weights, gradients and optimiser state a card at ZeRO's stages 0 to 3, against its memory."""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    axes = figure.subplots()
    stages = [state_bytes(n_params, Layout(dp=cards, zero=zero)) for zero in range(4)]
    start = np.zeros(4)
    for color, part in zip(COLORS, stages[0], strict=False):
        gigabytes = np.array([stage[part] / 1e9 for stage in stages])
        axes.barh(range(4), gigabytes, left=start, color=color, height=0.6, label=part)
        start += gigabytes
    room = USABLE_SHARE * GPUS[gpu].memory_bytes / 1e9
    for y, total in enumerate(start):
        # A short bar's figure stands beyond the line of the room, not on it.
        axes.annotate(f" {total:,.0f} GB", (max(total, room), y), va="center", fontsize=8)
    axes.axvline(room, color="black", lw=1, ls="--", label=f"{room:.0f} GB of {gpu}")
    axes.set_yticks(range(4), ["plain copies", "ZeRO-1", "ZeRO-2", "ZeRO-3"])
    axes.invert_yaxis()
    axes.set(xlabel="GB a card, activations not counted", xlim=(0, 1.12 * start.max()))
    fitting = [f"ZeRO-{zero}" for zero in range(4) if start[zero] <= room]
    who = f"only {fitting[0]} fits" if len(fitting) == 1 else f"{', '.join(fitting) or 'none'} fit"
    title = f"{n_params / 1e9:.0f}B parameters over {cards} cards: {who} (computed)"
    axes.set_title(title, loc="left", fontsize=10)
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return Picture(figure, f"{title}: {', '.join(f'{total:,.0f}' for total in start)} GB.")


def traffic_table(ways: dict[str, Sequence[Step]], wires: dict[str, Network]) -> Table:
    """Bytes that a card sends in a step by cause, their seconds, and those of the products.

    ways: steps by network, the names being those of wires.
    """
    rows = []
    for name, steps in ways.items():
        wired = wires[name]
        for one in steps:
            layout, sent = one.layout, one.traffic_by_part
            rates = {
                "data": wired.bytes_per_sec(layout.dp, layout.tp),
                "tensor": wired.bytes_per_sec(layout.tp, 1),
                "pipeline": wired.nic_bytes_per_sec,
            }
            cells = [_sent(sent[cause], rates[cause]) for cause in rates]
            rows.append((name, _divided(layout), *cells, _seconds(one.seconds_by_part["products"])))
    causes = [f"{cause} traffic" for cause in ("data", "tensor", "pipeline")]
    return Table(("network", "divided as", *causes, "products"), rows)


def _sent(n_bytes: float, bytes_per_sec: float) -> str:
    if not n_bytes:
        return "–"
    return f"{n_bytes / 1e9:,.0f} GB, {_seconds(n_bytes / bytes_per_sec)}"


def _seconds(x: float) -> str:
    return f"{x:.0f} s" if x >= 9.5 else f"{x:.1f} s"


def against(
    names: Sequence[str],
    computed: Sequence[float],
    published: Sequence[float],
    checked: Sequence[str] = (),
) -> Picture:
    """TFLOP/s a card as computed beside those that a paper prints, model by model.

    checked: the models whose published figure was held against the paper, drawn as filled points.
    """
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    axes = figure.subplots()
    x = np.arange(len(names))
    axes.plot(x, published, "o-", color="0.35", mfc="white", ms=6, label="published, unverified")
    sure = [i for i, name in enumerate(names) if name in checked]
    axes.plot(x[sure], np.take(published, sure), "o", color="0.2", ms=6, label="published, checked")
    axes.plot(x, computed, "s--", mfc="white", color=COLORS[1], ms=5, label="computed here")
    ratios = np.divide(computed, published)
    axes.set_xticks(x, names)
    axes.set(xlabel="parameters", ylabel="TFLOP/s a card", ylim=(0, 200))
    title = f"The arithmetic is {ratios.min():.2f} to {ratios.max():.2f} times what is published"
    axes.set_title(title, loc="left", fontsize=10)
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    axes.spines[["top", "right"]].set_visible(False)
    return Picture(figure, f"{title}, over {names[0]} to {names[-1]} parameters.")


def regimes(found: dict[str, dict[int, dict[str, Step]]]) -> Picture:
    """MFU of the fastest layout of each family, over cards, a panel for each network (computed).

    found: steps by network, cards and layout's name, as `parallel.fastest` gives them.
    """
    figure = Figure(figsize=(9, 3.9), layout="constrained")
    panels = figure.subplots(1, len(found), sharey=True, squeeze=False)[0]
    for axes, (network, by_cards) in zip(panels, found.items(), strict=True):
        best: dict[str, dict[int, float]] = {name: {} for name in FAMILIES}
        for cards, named in by_cards.items():
            for one in named.values():
                line = best[family(one.layout)]
                line[cards] = max(line.get(cards, 0.0), one.mfu)
        for name, line in best.items():
            axes.plot(line.keys(), line.values(), "o-", ms=3, lw=1.3, color=FAMILIES[name],
                      label=name)  # fmt: skip
        axes.set_xscale("log", base=4)
        ticks = [cards for cards in by_cards if cards in (16, 64, 256, 1024, 4096)]
        axes.set_xticks(ticks, [f"{cards:,}" for cards in ticks])
        axes.set_xlim(min(by_cards) * 0.8, max(by_cards) * 1.25)
        axes.minorticks_off()
        axes.set(xlabel="cards", ylim=(0, 0.6))
        axes.set_title(network, loc="left", fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("MFU within reach (computed)")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=5,
                  frameon=False, fontsize=8)  # fmt: skip
    figure.suptitle("TP pays inside NVLink, ZeRO over a fast network, pipelines over a slow one",
                    fontsize=10, x=0.01, ha="left")  # fmt: skip
    return Picture(figure, "MFU over cards by family of layouts, one panel a network; "
                   f"{len(found)} networks.")  # fmt: skip


def winners(found: dict[str, dict[int, dict[str, Step]]]) -> Table:
    """The fastest layout by cards and network, with its MFU, in words: TP 8 x PP 2 x 16 copies."""
    networks = list(found)
    rows = []
    for cards in found[networks[0]]:
        cells = [next(iter(found[network][cards].values()), None) for network in networks]
        rows.append((f"{cards:,}", *map(_said, cells)))
    return Table(("cards", *networks), rows)


def _said(step: Step | None) -> str:
    if step is None:
        return "nothing fits"
    return f"{_divided(step.layout)}: {step.mfu:.0%}"


def _divided(one: Layout) -> str:
    parts = [f"TP {one.tp}"] * (one.tp > 1) + [f"PP {one.pp}"] * (one.pp > 1)
    kind = f"ZeRO-{one.zero}" if one.zero else "copies"
    parts += [f"{kind} {one.dp}"] * (one.dp > 1)
    return " × ".join(parts)
