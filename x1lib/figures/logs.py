"""Notebook 05's figures: what a line of a log gives away, logs whole, and settings side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from x1lib.figures.money import COLORS
from x1lib.figures.shown import Picture, Table
from x1lib.published_logs import FIELDS, Log, PublishedRun

DPI = 100
WIDE = 8.0
UNKNOWN = "?"
PAPER = {"fc": "white", "ec": "none", "pad": 0.5, "alpha": 0.85}  # under words over a line
SMOOTHED = 0.01  # of the log: the width of the moving mean


def bloom(tokens: np.ndarray, flat: np.ndarray, lr: np.ndarray, quoted: Log) -> Picture:
    """BLOOM's tokens and rate at each iteration, computed, and the lines that are quoted.

    tokens, flat, lr: a place an iteration; flat: the tokens had the batch been full from the start.
    """
    figure, (left, right) = _panels(1, 2, 3.3)
    steps = np.arange(1, len(tokens) + 1)
    for axes, y, seen in ((left, tokens / 1e9, quoted["tokens"] / 1e9),
                          (right, lr * 1e5, quoted["lr"] * 1e5)):  # fmt: skip
        axes.plot(steps, y, color=COLORS[0], lw=1.6, label="by the job script (computed)")
        axes.plot(quoted["step"], seen, "o", ms=5, color="black", label="quoted lines (published)")
        axes.set(xlabel="iteration")
    left.plot(steps, flat / 1e9, color="0.5", lw=1, ls="--", label="2,048 sequences all along")
    left.set(ylabel="tokens consumed [billions]")
    right.set(ylabel="learning rate [1e-5]")
    right.set_ylim(0, 6.6)
    title = "BLOOM-176B: the job script gives every printed number again"
    return _done(figure, title, "A dot is a quoted line.", left, right)


def panels(log: Log, title: str, marks: Mapping[str, float] | None = None) -> Picture:
    """A log as it was written, over its lines: loss, gradient norm, rate, tokens of each step.

    marks: what happened, by the line from which on; without them nothing is named.
    """
    figure, axes = _panels(4, 1, 6.4, sharex=True)
    lines = np.arange(len(log))
    tokens = np.diff(log["tokens"], prepend=0)
    shown = (("loss", log["loss"]), ("gradient norm", log["grad_norm"]), ("rate", log["lr"]),
             ("tokens of\nthe step", np.where(tokens > 0, tokens, np.nan)))  # fmt: skip
    for color, one, (label, values) in zip(COLORS, axes.ravel(), shown, strict=False):
        one.plot(lines, values, color=color, lw=0.8)
        one.set_ylabel(label, fontsize=8)
        one.tick_params(labelsize=8)
    axes.ravel()[1].set_yscale("log")
    axes.ravel()[3].set_ylim(0, None)
    for i, (what, line) in enumerate((marks or {}).items()):
        for one in axes.ravel():
            one.axvline(line, color="0.4", lw=0.8, ls=":")
        axes.ravel()[0].annotate(what, (line, 0.97 - 0.13 * (i % 3)), fontsize=7, va="top",
                                 xytext=(4, 0), textcoords="offset points", bbox=PAPER,
                                 xycoords=("data", "axes fraction"))  # fmt: skip
    axes.ravel()[-1].set_xlabel("line of the log")
    said = "; ".join(f"{what} at line {line:g}" for what, line in (marks or {}).items())
    return _done(figure, title, said or f"{len(log):,} lines, nothing named.")


def whole(log: Log, title: str, spikes: Sequence[int] = (), batch_tokens: int = 1) -> Picture:
    """A published log: loss with held-out loss and spikes; gradient norm and rate where logged."""
    more = [name for name in ("grad_norm", "lr") if name in log]
    figure, axes = _panels(1, 1 + len(more), 3.2)
    x = log["step"] * batch_tokens / (1e9 if batch_tokens > 1 else 1)
    first = axes[0]
    loss = log["loss"]
    few = len(loss) < 100
    first.plot(x, loss, "o" if few else "-", ms=4, color="0.6", lw=0.5, label="training")
    if not few:
        mean, middle = _smooth(loss, x)
        first.plot(middle, mean, color=COLORS[0], lw=1.4, label="its moving mean")
    if "val_loss" in log:
        known = np.isfinite(log["val_loss"])
        first.plot(x[known], log["val_loss"][known], color=COLORS[1], lw=1.2, label="held out")
    if len(spikes):
        label = f"{len(spikes)} spikes (OLMo 2's rule)"
        first.plot(x[list(spikes)], loss[list(spikes)], "v", color="black", ms=4, label=label)
    settled = loss[np.isfinite(loss)]
    if not few:
        low, high = np.quantile(settled[len(settled) // 50 :], [0, 0.999])
        first.set_ylim(low - 0.05, high + 0.3)
    first.set_ylabel("loss [nats a token]")
    for color, one, name in zip(COLORS[2:], axes[1:], more, strict=False):
        one.plot(x, log[name], "o" if few else "-", ms=4, color=color, lw=0.5)
        one.set_ylabel({"grad_norm": "gradient norm", "lr": "learning rate"}[name])
        if name == "grad_norm":
            one.set_yscale("log")
    for one in axes:
        one.set_xlabel("tokens [billions]" if batch_tokens > 1 else "step")
    return _done(figure, title, f"{len(log):,} lines, {log.origin.split('/')[-1]}.", first)


def beside(mine: Log, name: str, cooldown: float, published: Log, batch_tokens: int) -> Picture:
    """One's own loss, and quoted lines of a published one, each over the share of its steps."""
    figure, (left, right) = _panels(1, 2, 3.2)
    own = np.isfinite(mine["loss"])
    share = mine["step"][own] / mine["step"].max()
    left.plot(share, mine["loss"][own], color="0.6", lw=0.5, label=f"{name}, each step")
    mean, middle = _smooth(mine["loss"][own], share)
    left.plot(middle, mean, color=COLORS[0], lw=1.4, label="its moving mean")
    theirs = published["step"] / published["step"].max()
    left.plot(theirs, published["loss"], "s", color=COLORS[1], ms=5,
              label="llm.c 124M (quoted lines)")  # fmt: skip
    left.axvline(cooldown, color="0.5", lw=0.9, ls=":", label=f"cooldown of {name}")
    left.set(ylabel="loss [nats a token of its own]", xlabel="share of the run")
    right.plot(share, mine["lr"][own] / np.nanmax(mine["lr"]), color=COLORS[0], lw=1.4, label=name)
    right.plot(theirs, published["lr"] / published["lr"].max(), "s", color=COLORS[1], ms=5,
               label="llm.c 124M")  # fmt: skip
    right.set(ylabel="rate / its peak", xlabel="share of the run")
    title = "Two shapes: a cosine bends all the way, a plateau falls at its end"
    words = f"{name}: {len(share):,} steps; llm.c: {batch_tokens:,} tokens a step."
    return _done(figure, title, words, left, right)


def settings(runs: Mapping[str, PublishedRun], fields: Sequence[str]) -> Table:
    """Published settings, a row a run; what nobody has said is a question mark."""
    rows = [[name, *(_said(run.value(field)) for field in fields)] for name, run in runs.items()]
    return Table(("run", *(FIELDS[field] for field in fields)), rows)


def _said(value) -> str:
    if value is None:
        return UNKNOWN
    if isinstance(value, str):
        return value
    if value >= 1e9:
        return f"{value / 1e9:,.2f}".rstrip("0").rstrip(".") + "B"
    return f"{value:,}" if float(value).is_integer() and value >= 100 else f"{value:g}"


def _smooth(values: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Moving mean of the finite values, and the places of its windows' middles."""
    known = np.isfinite(values)
    values, x = values[known], x[known]
    width = max(3, int(SMOOTHED * len(values)) | 1)
    mean = np.convolve(values, np.ones(width) / width, mode="valid")
    return mean, x[width // 2 : len(x) - width // 2]


def _panels(n_rows: int, n_columns: int, height: float, **options):
    figure = Figure(figsize=(WIDE, height), layout="constrained")
    axes = np.atleast_1d(figure.subplots(n_rows, n_columns, **options))
    for one in axes.ravel():
        one.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _done(figure, title: str, words: str, *legends) -> Picture:
    for axes in legends:
        axes.legend(frameon=False, fontsize=8)
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    return Picture(figure, f"{title}. {words}", DPI)
