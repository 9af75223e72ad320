"""lab00's figure of one day on a rented card: hours over tokens, the MFU to be dragged."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from x1lib.economics import estimate
from x1lib.figures.shown import TWIN_DPI, Dragged, Picture

MFUS = tuple(share / 100 for share in range(10, 65, 5))
TOKENS = np.geomspace(5e8, 5e10, 11)
TICKS = ([1e9, 5e9, 1e10, 5e10], ["1B", "5B", "10B", "50B"], [1, 3, 10, 30, 100, 300])
COLORS = ("#0072B2", "#D55E00")  # Okabe and Ito's blue and vermilion: told apart by everyone


@dataclass(frozen=True)
class Day:
    """One plan: a model and its training tokens on one card."""

    label: str
    shape: str
    n_tokens: float

    def hours(self, mfu: float, seq_len: int, gpu: str) -> float:
        return _hours(self.shape, self.n_tokens, mfu, seq_len, gpu)


def _hours(shape: str, n_tokens, mfu: float, seq_len: int, gpu: str):
    return estimate(shape=shape, n_tokens=n_tokens, gpu=gpu, mfu=mfu, seq_len=seq_len).hours


def plans(days: list[Day], mfu: float, seq_len: int, gpu: str, usd_per_hour: float) -> Dragged:
    """Hours against tokens for the plans' models, log-log, computed; drag the MFU.

    mfu: of the static twin, one of MFUS. usd_per_hour: the card's price, for the labels.
    """
    import plotly.graph_objects as go

    shapes = list(dict.fromkeys(day.shape for day in days))
    figure, first = go.Figure(), MFUS.index(mfu)
    for i, share in enumerate(MFUS):
        for color, shape in zip(COLORS, shapes, strict=False):
            figure.add_scatter(
                x=TOKENS.tolist(),
                y=[round(h, 3) for h in _hours(shape, TOKENS, share, seq_len, gpu)],
                name=shape,
                mode="lines",
                line_color=color,
                visible=i == first,
                hovertemplate="%{x:.3s} tokens: %{y:.1f} h",
            )
        hours = [day.hours(share, seq_len, gpu) for day in days]
        figure.add_scatter(
            x=[day.n_tokens for day in days],
            y=[round(h, 3) for h in hours],
            text=_labels(days, hours, usd_per_hour),
            mode="markers+text",
            textposition=[_beside(day, shapes) for day in days],
            textfont_size=11,
            marker={"color": "black", "size": 9},
            name="plans",
            visible=i == first,
            hoverinfo="text",
        )
    each, ends = len(shapes) + 1, TOKENS[[0, -1]].tolist()
    sliders = [
        {
            "method": "update",
            "label": f"{share:.0%}",
            "args": [
                {"visible": [j // each == i for j in range(each * len(MFUS))] + [True]},
                {"title.text": _title(days, share, seq_len, gpu)},
            ],
        }
        for i, share in enumerate(MFUS)
    ]
    # Not add_hline, which takes 24 on a log axis for 10 to the 24th.
    figure.add_scatter(x=ends, y=[24, 24], mode="lines", line={"color": "gray", "dash": "dash"},
                       name="24 h", hoverinfo="skip")  # fmt: skip
    figure.update_layout(
        template="simple_white",
        title={"text": _title(days, mfu, seq_len, gpu), "font_size": 14},
        sliders=[{"active": first, "currentvalue": {"prefix": "MFU "}, "steps": sliders,
                  "pad": {"t": 60}}],
        legend={"x": 0.01, "y": 0.99},
        margin={"l": 60, "r": 150, "t": 50, "b": 40},
        height=520,
    )  # fmt: skip
    figure.update_xaxes(
        type="log", title="training tokens", range=[8.6, 10.8], tickvals=TICKS[0], ticktext=TICKS[1]
    )
    figure.update_yaxes(type="log", title="hours", tickvals=TICKS[2], range=[-0.5, 2.8])
    return Dragged(figure, _twin(days, shapes, mfu, seq_len, gpu, usd_per_hour))


def _title(days: list[Day], mfu: float, seq_len: int, gpu: str) -> str:
    inside = sum(day.hours(mfu, seq_len, gpu) <= 24.005 for day in days)
    return f"{gpu} at MFU {mfu:.0%}: {inside} of {len(days)} plans end within 24 h (computed)"


def _beside(day: Day, shapes: list[str]) -> str:
    return "bottom right" if day.shape == shapes[0] else "middle left"


def _labels(days: list[Day], hours: list[float], usd_per_hour: float) -> list[str]:
    return [
        f"{day.label}: {h:.1f} h, {h * usd_per_hour:.2f} USD"
        for day, h in zip(days, hours, strict=True)
    ]


def _twin(days, shapes, mfu: float, seq_len: int, gpu: str, usd_per_hour: float) -> Picture:
    figure = Figure(figsize=(8, 4.2), layout="constrained")
    axes = figure.subplots()
    for color, shape in zip(COLORS, shapes, strict=False):
        axes.plot(TOKENS, _hours(shape, TOKENS, mfu, seq_len, gpu), color=color, label=shape)
    hours = [day.hours(mfu, seq_len, gpu) for day in days]
    axes.plot([day.n_tokens for day in days], hours, "o", color="black", ms=6, label="plans")
    labels = _labels(days, hours, usd_per_hour)
    for day, h, label in zip(days, hours, labels, strict=True):
        below = _beside(day, shapes) == "bottom right"
        place = {"xytext": (8, -12) if below else (-10, -3), "ha": "left" if below else "right"}
        axes.annotate(label, (day.n_tokens, h), textcoords="offset points", fontsize=8, **place)
    axes.axhline(24, color="0.4", lw=1, ls="--")
    axes.annotate("24 h", (TOKENS[0], 24), (0, 4), textcoords="offset points", fontsize=8)
    axes.set(xscale="log", yscale="log", xlabel="training tokens", ylabel="hours")
    axes.set_xticks(*TICKS[:2])
    axes.set_yticks(TICKS[2], map(str, TICKS[2]))
    axes.set_title(_title(days, mfu, seq_len, gpu), loc="left", fontsize=10)
    axes.legend(frameon=False, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    words = f"{_title(days, mfu, seq_len, gpu)}: {'; '.join(labels)}."
    return Picture(figure, words, dpi=TWIN_DPI)
