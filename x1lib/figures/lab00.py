"""Figures of lab00, drawn from what a run wrote into its folder and from nothing else."""

from __future__ import annotations

import math
from pathlib import Path

from matplotlib.figure import Figure

from x1lib import tracking
from x1lib.figures.shown import Picture

LABELS = {"documents": "held-out documents", "source": "held-out book"}


def evaluations(folder: Path, name: str) -> list[dict]:
    """Evaluations of one held-out text over the same bytes, step 0 included, in order.

    The last one of a run may read more text than those on the way; then it is not among these.
    """
    evals = [line for line in tracking.read_metrics(folder, "eval") if line["name"] == name]
    return [line for line in evals if line["n_bytes"] == evals[0]["n_bytes"]]


def live(folder: Path) -> Picture:
    """The loss so far of a run under way; each look reads only what is new."""
    figure = Figure(figsize=(8, 4.8), layout="constrained")
    tracking.plot_loss(figure.subplots(), Path(folder))
    run = tracking.columns_of(folder)
    words = "waiting for the first step"
    if len(run.step):
        loss, tokens = run.loss[-1], run.tokens[-1] / 1e6
        words = f"step {run.step[-1]:,}: loss {loss:.3f} nats/token after {tokens:.2f}M tokens"
    return Picture(figure, f"Loss so far: {words}")


def curve(folder: Path) -> Picture:
    """Training and held-out loss of a finished run, and under it the learning rate that it had."""
    figure = Figure(figsize=(8, 6), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    tracking.plot_loss(top, Path(folder))
    top.set_xlabel("")
    run = tracking.columns_of(folder)
    unit, label = tracking.token_unit(run)
    bottom.plot([n / unit for n in run.tokens], run.lr, color="#0072B2", lw=1.4)
    bottom.set(xlabel=label, ylabel="learning rate", ylim=(0, None))
    bottom.spines[["top", "right"]].set_visible(False)
    return Picture(
        figure,
        f"Loss from {run.loss[0]:.2f} to {run.loss[-1]:.2f} nats/token over {run.step[-1]:,}"
        " steps, with the held-out losses; the learning rate warms up, stays, and cools down.",
    )


def against_xz(folder: Path, xz_bits_per_byte: float) -> Picture:
    """Bits per byte of the held-out documents over wall-clock, with xz's line across."""
    evals = evaluations(folder, "documents")
    seconds = [line["elapsed_seconds"] for line in evals]
    bits = [line["bits_per_byte"] for line in evals]
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.plot(seconds, bits, "o-", color="C0", ms=4, label="the model, measured")
    axes.axhline(xz_bits_per_byte, color="C3", lw=1.4, label="xz -9e, measured")
    below = [line for line in evals if line["bits_per_byte"] < xz_bits_per_byte]
    if below:
        found = f"the model is under xz by {below[0]['elapsed_seconds']:.0f} s"
        axes.axvline(below[0]["elapsed_seconds"], color="0.6", lw=0.9, ls=":")
    else:
        found = "the model stayed above xz"
    axes.set_title(f"Bits per byte of the same held-out text: {found}", loc="left", fontsize=10)
    axes.set(xlabel="wall-clock since the start [s]", ylabel="bits per byte")
    axes.set_xlim(left=0)
    axes.set_ylim(0, 1.05 * max([xz_bits_per_byte, *bits], default=math.log2(256)))
    _plain(axes)
    return Picture(figure, f"Bits per byte over seconds against xz's line: {found}.")


def _plain(axes) -> None:
    axes.legend(frameon=False, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
