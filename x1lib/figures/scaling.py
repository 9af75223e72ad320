"""Notebook 01's figures of what published laws say: optima, misses, serving, budgets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from x1lib.economics.published import PUBLISHED_RUNS
from x1lib.economics.wording import short
from x1lib.figures.money import COLORS
from x1lib.figures.shown import TWIN_DPI, Dragged, Picture
from x1lib.scaling import (
    KAPLAN_BODIES,
    MUENNIGHOFF_2023,
    PORIAN_2024,
    PUBLISHED,
    Law,
    cheapest,
    lifetime_flops,
    without_embedding,
)

COMPUTE = np.geomspace(1e17, 1e26, 91)  # FLOPs
NAMES = {
    "kaplan2020": "Kaplan 2020",
    "hoffmann2022": "Hoffmann 2022, unrounded",
    "hoffmann2022_rounded": "Hoffmann 2022, as printed",
    "besiroglu2024": "Besiroglu 2024",
}
SERVED = (0, 1e10, 3e10, 1e11, 3e11, 1e12, 3e12, 1e13)  # tokens
BIG_DPI = 100  # many lines: a notebook with ten such pictures stays small
SIZES_SHOWN = 70  # of a curve that is dragged
PAPER = {"boxstyle": "square,pad=0.1", "fc": "white", "ec": "none", "alpha": 0.8}  # under words
# Published models that are shown, and where each name stands beside its dot, in points.
SHOWN = {
    "GPT-2-124M": (6, -3), "GPT-3-175B": (6, -9), "BLOOM-176B": (6, -3), "LLaMA-7B": (-6, -3),
    "LLaMA-13B": (6, -3), "LLaMA-65B": (6, -9), "Llama-2-7B": (-6, -3), "Llama-2-70B": (6, -1),
}  # fmt: skip
COUNTED = 20.0  # tokens a parameter of the rule


def bends(budgets: Sequence[float] = ()) -> Picture:
    """Optimal tokens a parameter over compute, for each published law; log-log.

    budgets: FLOPs at which the laws are compared, as lines down.
    """
    figure, axes = _axes(4.2)
    for color, (key, name) in zip(COLORS, NAMES.items(), strict=False):
        law = PUBLISHED[key].law
        ratio = [law.tokens_per_param(C) for C in COMPUTE]
        counted = PUBLISHED[key].counts
        axes.plot(COMPUTE, ratio, color=color, lw=1.7, label=f"{name} (N: {counted})")
    axes.axhline(COUNTED, color="0.4", lw=1, ls="--", label="20 tokens a parameter")
    for C in budgets:
        axes.axvline(C, color="0.6", lw=0.9, ls=":")
    axes.set(xscale="log", yscale="log", ylim=(0.5, 400), xlim=(COMPUTE[0], COMPUTE[-1]),
             xlabel="training compute C [FLOPs]",
             ylabel="optimal D / N [tokens a parameter]")  # fmt: skip
    axes.set_yticks([1, 3, 10, 20, 50, 100, 300], ["1", "3", "10", "20", "50", "100", "300"])
    title = "Published laws come near each other at 1e19 FLOPs, and part from there"
    return _done(figure, axes, title, "lower left")


def trained(law: Law = PUBLISHED["besiroglu2024"].law) -> Picture:
    """Published models in the plane of N and D, with what two laws call optimal."""
    figure, axes = _axes(4.4)
    sizes = np.geomspace(5e7, 1e12, 60)
    kaplan = PUBLISHED["kaplan2020"].law
    lines = {"Besiroglu 2024": (law, COLORS[3]), "Kaplan 2020": (kaplan, COLORS[0])}
    for name, (one, color) in lines.items():
        tokens = [one.optimal_tokens(n) for n in sizes]
        axes.plot(sizes, tokens, color=color, lw=1.6, label=f"optimal by {name} (law)")
    axes.plot(sizes, COUNTED * sizes, color="0.4", lw=1, ls="--", label="20 tokens a parameter")
    runs = {run.name: run for run in PUBLISHED_RUNS}
    for run in (runs[name] for name in SHOWN):
        axes.plot(run.n_params, run.n_tokens, "o", color="black", ms=5)
        right, down = SHOWN[run.name]
        axes.annotate(run.name, (run.n_params, run.n_tokens), (right, down), fontsize=7,
                      textcoords="offset points", ha="right" if right < 0 else "left")  # fmt: skip
    axes.plot([], [], "o", color="black", ms=5, label="published models, as trained")
    axes.set(xscale="log", yscale="log", xlabel="parameters N", ylabel="training tokens D",
             xlim=(5e7, 1.2e12), ylim=(3e9, 1e13))  # fmt: skip
    title = "From under-trained to over-trained: GPT-3 below the line, the small Llamas far above"
    return _done(figure, axes, title, "lower right")


def misses(law: Law, C: float, factors: np.ndarray) -> Picture:
    """What a size `factors` times the best one costs at C FLOPs: loss, and compute wasted."""
    best = law.optimal(C)
    loss = law.loss(best.n_params * factors, best.n_tokens / factors)
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    wasted = 1 - law.compute_for(loss) / C
    for axes, y, label in ((left, loss - best.loss, "loss above the best [nats a token]"),
                           (right, 100 * wasted, "compute wasted [%]")):  # fmt: skip
        axes.plot(factors, y, color=COLORS[0], lw=1.7)
        axes.axvline(1, color="0.5", lw=0.9, ls=":")
        axes.set(xscale="log", xlabel="N over the optimal N", ylabel=label, ylim=(0, None))
        axes.set_xticks([0.1, 0.25, 0.5, 1, 2, 4, 10], ["1/10", "1/4", "1/2", "1", "2", "4", "10"])
        axes.minorticks_off()
        axes.spines[["top", "right"]].set_visible(False)
    left.set_title(f"Flat near the best size (law, C = {C:.0e} FLOPs)", loc="left", fontsize=10)
    right.set_title("and steep far from it", loc="left", fontsize=10)
    at = ", ".join(f"{k:g}x: {w:.0%}" for k, w in zip(factors[::20], wasted[::20], strict=True))
    return Picture(figure, f"Compute wasted by a size off by a factor: {at}.", BIG_DPI)


def serving(law: Law, loss: float, served: float = 1e12) -> Dragged:
    """FLOPs over life against N at one loss; drag the tokens served.

    served: of the static twin, one of SERVED.
    """
    import plotly.graph_objects as go

    figure, first = go.Figure(), SERVED.index(served)
    for i, tokens in enumerate(SERVED):
        sizes, total, train = _life(law, loss, tokens)
        best = cheapest(law, loss, tokens)
        said, least = _best_said(best), float(lifetime_flops(law, best.n_params, loss, tokens))
        figure.add_scatter(x=_few(sizes), y=_few(total), mode="lines", name="trained and served",
                           line_color=COLORS[1], visible=i == first,
                           hovertemplate="N %{x:.3s}: %{y:.3g} FLOPs")  # fmt: skip
        figure.add_scatter(x=[best.n_params], y=[least], mode="markers", text=[said],
                           marker={"color": "black", "size": 9}, name="cheapest over life",
                           visible=i == first, hoverinfo="text")  # fmt: skip
    figure.add_scatter(x=_few(sizes), y=_few(train), mode="lines", name="training alone",
                       line={"color": "gray", "dash": "dash"}, hoverinfo="skip")  # fmt: skip
    count = 2 * len(SERVED)
    steps = [
        {"method": "update", "label": short(tokens) if tokens else "0",
         "args": [{"visible": [j // 2 == i for j in range(count)] + [True]},
                  {"title.text": _served_title(law, loss, tokens)}]}
        for i, tokens in enumerate(SERVED)
    ]  # fmt: skip
    figure.update_layout(
        template="simple_white", height=520, margin={"l": 60, "r": 30, "t": 50, "b": 40},
        title={"text": _served_title(law, loss, served), "font_size": 14},
        sliders=[{"active": first, "currentvalue": {"prefix": "tokens served: "}, "steps": steps,
                  "pad": {"t": 60}}],
        legend={"x": 0.62, "y": 0.98},
    )  # fmt: skip
    figure.update_xaxes(type="log", title="parameters N", tickvals=[2e8, 5e8, 1e9, 2e9, 5e9])
    figure.update_yaxes(type="log", title="FLOPs", dtick=1, exponentformat="power",
                        range=_log_ends(law, loss))  # fmt: skip
    return Dragged(figure, _served_twin(law, loss, served))


def _life(law: Law, loss: float, served: float):
    least = cheapest(law, loss, 1e20).n_params  # about the smallest size that can reach it
    sizes = least * np.geomspace(1.05, 60, SIZES_SHOWN)
    total = lifetime_flops(law, sizes, loss, served)
    return sizes, total, lifetime_flops(law, sizes, loss, 0)


def _few(values) -> list[float]:
    return [float(f"{value:.4g}") for value in values]


def _log_ends(law: Law, loss: float) -> list[float]:
    train = _life(law, loss, 0)[2]
    return [float(np.log10(train.min())) - 0.4, float(np.log10(train.min())) + 2.4]


def _best_said(best) -> str:
    return f"{short(best.n_params)}, {best.tokens_per_param:,.0f} tokens a parameter"


def _served_title(law: Law, loss: float, served: float) -> str:
    best = cheapest(law, loss, served)
    what = f"Serving {short(served)} tokens" if served else "Serving nothing"
    return f"{what} at loss {loss:g}: best size {_best_said(best)} (law)"


def _served_twin(law: Law, loss: float, served: float) -> Picture:
    figure, axes = _axes(4.2)
    sizes, total, train = _life(law, loss, served)
    best = cheapest(law, loss, served)
    axes.plot(sizes, total, color=COLORS[1], lw=1.7, label="trained and served")
    axes.plot(sizes, train, color="0.5", lw=1.2, ls="--", label="training alone")
    axes.plot(best.n_params, lifetime_flops(law, best.n_params, loss, served), "o", color="black",
              ms=7, label="cheapest over life")  # fmt: skip
    axes.set(xscale="log", yscale="log", xlabel="parameters N", ylabel="FLOPs",
             ylim=10 ** np.array(_log_ends(law, loss)))  # fmt: skip
    title = _served_title(law, loss, served)
    return _done(figure, axes, title, "lower right", dpi=TWIN_DPI)


def disagreement(law: Law) -> Picture:
    """Why two exponents: the count of N (computed), and Porian's steps (published)."""
    figure = Figure(figsize=(9, 3.7), layout="constrained")
    left, right = figure.subplots(1, 2)
    body = np.geomspace(KAPLAN_BODIES[0], 1e13, 160)
    C, _ = without_embedding(law, body)
    slope = np.gradient(np.log(body), np.log(C))
    left.plot(body, slope, color=COLORS[0], lw=1.7, label="seen by who counts the body (computed)")
    left.axhline(law.a, color=COLORS[1], lw=1.2, ls="--", label=f"the law's own: {law.a:.2f}")
    left.axhline(0.73, color="0.5", lw=1, ls=":", label="Kaplan 2020: .73")
    left.axvspan(*KAPLAN_BODIES, color="0.93", zorder=0)
    left.text(KAPLAN_BODIES[0] * 1.3, 0.41, "Kaplan's sizes", fontsize=8, color="0.3")
    left.set(xscale="log", xlabel="body parameters", ylim=(0.4, 1.2),
             ylabel="exponent of C in the optimal N")  # fmt: skip
    left.set_title("The count of N bends a straight law", loc="left", fontsize=10)
    left.legend(frameon=False, fontsize=8, loc="upper right")
    for shift, color, (data, steps) in zip((-0.12, 0.12), COLORS[2:], PORIAN_2024.items()):
        y = np.arange(len(steps)) + shift
        x = np.array([step.exponent for step in steps])
        ends = np.abs([[step.low, step.high] for step in steps] - x[:, None]).T
        right.errorbar(x, y, xerr=ends, fmt="o", ms=4, color=color, capsize=2,
                       label=f"{data} (published, 95%)")  # fmt: skip
    right.axvline(0.5, color="0.4", lw=1, ls="--")
    right.set_yticks(range(len(steps)), [step.what for step in steps], fontsize=8)
    right.invert_yaxis()
    right.set(xlabel="exponent of C in the optimal N", xlim=(0.45, 0.92))
    right.set_title("One difference after the other undone", loc="left", fontsize=10)
    right.legend(frameon=False, fontsize=8, loc="lower right")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    said = "; ".join(f"{step.what} {step.exponent:.2f}" for step in PORIAN_2024["RefinedWeb"])
    return Picture(figure, f"Exponents of the optimal N; on RefinedWeb: {said}.", BIG_DPI)


def pareto(law: Law, flops: float, budget: str, plans: dict[str, tuple[float, float]]) -> Picture:
    """Equal losses over N and D, what a budget of FLOPs buys, and plans in the plane.

    budget: the line's name. plans: N and D by label.
    """
    figure, axes = _axes(4.6)
    sizes, tokens = np.geomspace(1e7, 1e10, 160), np.geomspace(2e8, 5e11, 160)
    loss = law.loss(sizes[None, :], tokens[:, None])
    best = law.optimal(flops)
    levels = sorted({round(best.loss + step, 2) for step in np.arange(-0.5, 1.01, 0.15)})
    drawn = axes.contour(sizes, tokens, loss, levels=levels, colors="0.65", linewidths=0.9)
    axes.clabel(drawn, fmt="%.2f", fontsize=7, inline_spacing=1)
    bought = flops / 6 / sizes
    axes.plot(sizes, bought, color=COLORS[1], lw=1.8, label=budget)
    axes.fill_between(sizes, bought, tokens[0], color=COLORS[1], alpha=0.08, lw=0)
    frontier = [law.optimal_tokens(n) for n in sizes]
    axes.plot(sizes, frontier, color=COLORS[0], lw=1.4, ls="--", label="compute-optimal (law)")
    said = f"best for the money: {short(best.n_params)}, {short(best.n_tokens)} tokens"
    axes.plot(best.n_params, best.n_tokens, "*", color="black", ms=12, label=said)
    for label, (n, d) in plans.items():
        axes.plot(n, d, "s", color=COLORS[2], ms=6)
        axes.annotate(f"{label}: {law.loss(n, d):.2f}", (n, d), (7, -11), fontsize=8,
                      textcoords="offset points", bbox=PAPER)  # fmt: skip
    axes.set(xscale="log", yscale="log", xlabel="parameters N (total)", ylabel="tokens D",
             xlim=(1e7, 1e10), ylim=(2e8, 5e11))  # fmt: skip
    title = f"The budget's line touches one curve of equal loss, {best.loss:.2f} (law, computed)"
    picture = _done(figure, axes, title, "upper right")
    axes.get_legend().set(frame_on=True, zorder=3)
    axes.get_legend().get_frame().set(facecolor="white", edgecolor="none", alpha=1)
    return picture


def repetition(epochs: np.ndarray) -> Picture:
    """What epochs over the same tokens are worth, in fresh ones (Muennighoff 2023)."""
    figure, axes = _axes(3.4)
    worth = MUENNIGHOFF_2023.effective_tokens(epochs, 1.0)
    axes.plot(epochs, epochs, color="0.5", lw=1, ls="--", label="fresh text")
    axes.plot(epochs, worth, color=COLORS[0], lw=1.7, label="the same text again (published law)")
    top = 1 + MUENNIGHOFF_2023.r_tokens
    axes.axhline(top, color=COLORS[1], lw=1, ls=":", label=f"never above {top:.1f}")
    axes.axvline(4, color="0.6", lw=0.9)
    axes.set(xscale="log", yscale="log", xlabel="epochs seen", ylim=(1, 60),
             ylabel="worth in epochs of fresh text")  # fmt: skip
    ticks = [1, 2, 4, 8, 16, 32, 64]
    axes.set_xticks(ticks, map(str, ticks))
    axes.set_yticks([1, 2, 4, 8, 16, 32], ["1", "2", "4", "8", "16", "32"])
    axes.minorticks_off()
    at_4 = float(MUENNIGHOFF_2023.effective_tokens(4.0, 1.0))
    return _done(figure, axes, f"Four epochs are worth {at_4:.2f}; forty are not worth forty")


def _axes(height: float):
    figure = Figure(figsize=(8, height), layout="constrained")
    return figure, figure.subplots()


def _done(figure, axes, title: str, loc: str = "best", dpi: int = BIG_DPI) -> Picture:
    axes.set_title(title, loc="left", fontsize=10)
    axes.legend(frameon=False, fontsize=8, loc=loc)
    axes.spines[["top", "right"]].set_visible(False)
    return Picture(figure, f"{title}.", dpi)
