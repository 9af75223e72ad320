"""Lab 02's figures: what a run recorded, what its replay shows, and where recoveries ended."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from x1lib import tracking
from x1lib.figures.money import COLORS
from x1lib.figures.shown import Picture
from x1lib.postmortem import Analysis, better
from x1lib.postmortem.report import plot_tokens
from x1lib.session.spikes import AFTER

DPI = 100
CHOSEN, BEST, CONTROL, GREY = COLORS[1], COLORS[2], "black", "0.78"


def _panels(rows: int, columns: int, height: float, **options):
    figure = Figure(figsize=(9, height), layout="constrained")
    axes = np.atleast_2d(figure.subplots(rows, columns, squeeze=False, **options))
    for one in axes.ravel():
        one.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _series(folder: Path, kind: str, *names: str) -> list[np.ndarray]:
    lines = [line for line in tracking.read_lines(folder / tracking.metrics.METRICS)
             if line["kind"] == kind and line.get(names[-1]) is not None]  # fmt: skip
    return [np.array([line[name] for line in lines], float) for name in names]


def record(folder: Path, around: int | None = None, width: int = 50) -> Picture:
    """Loss, gradient norm, rate and probe as a run recorded them, with what its watch flagged.

    around: a step to look at closely, `width` steps to either side. The probe is shown from there
    on, and for as long after any spike.
    """
    figure, axes = _panels(3, 1, 6.0, sharex=True, height_ratios=(3, 2, 1))
    top, middle, bottom = axes[:, 0]
    step, loss = _series(folder, "step", "step", "loss")
    top.plot(step, loss, color=COLORS[0], lw=1.2, label="loss of the batch")
    at, probe = _series(folder, "probe", "step", "loss")
    if around is not None:  # where it is read at each step would say where a fault begins and ends
        shown = (at >= around) & (at < around + AFTER)
        at, probe = at[shown], probe[shown]
    if len(at):
        top.plot(at, probe, ".", color=COLORS[2], ms=5, label="probe after the update")
    norm_at, norm = _series(folder, "step", "step", "grad_norm")
    middle.plot(norm_at, norm, color=COLORS[0], lw=1.2)
    lr_at, lr = _series(folder, "step", "step", "lr")
    bottom.plot(lr_at, lr, color=COLORS[0], lw=1.2)
    events = [line for line in tracking.read_lines(folder / tracking.metrics.METRICS)
              if line.get("event") in ("spike", "jump")]  # fmt: skip
    for name, axes_of, series in (("loss", top, loss), ("grad_norm", middle, norm)):
        flagged = [e["step"] for e in events if name in e["scores"]]
        values = [series[list(step).index(s)] for s in flagged]
        axes_of.plot(
            flagged, values, "x", color=CHOSEN, ms=6, mew=1.5, label="flagged by the watch"
        )
    middle.set_yscale("log")
    middle.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    middle.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    middle.yaxis.set_minor_formatter(NullFormatter())
    if around is not None:
        top.set_xlim(around - width, around + width)
        near = (step >= around - width) & (step <= around + width)
        low, high = loss[near].min(), loss[near].max()
        top.set_ylim(low - 0.1 * (high - low), high + 0.1 * (high - low))
    top.set_ylabel("loss [nats a token]")
    middle.set_ylabel("gradient norm")
    bottom.set(ylabel="logged rate", xlabel="step", ylim=(0, None))
    top.legend(frameon=False, fontsize=9)
    spikes = [e["step"] for e in events if e["event"] == "spike"]
    title = f"The run as it was recorded: spike flagged at step {', '.join(map(str, spikes))}"
    title = title if spikes else "The run as it was recorded: its watch flagged no spike"
    top.set_title(title, loc="left", fontsize=10)
    return Picture(figure, f"{title}. Loss, gradient norm and rate over steps.", DPI)


def clues(found: Analysis) -> Picture:
    """Four series of the replay, each over its own level before: the last is of the data."""
    figure, axes = _panels(2, 2, 5.2, sharex=True)
    trace, onset = found.trace, found.incident.onset
    step = trace["step"]
    calm = step < onset - 10

    def ratio(name):
        return trace[name] / np.median(trace[name][calm] if calm.any() else trace[name][:1])

    loss, update, second, batch = axes.ravel()
    for name, color, words in (
        ("loss", COLORS[0], "batch"),
        ("probe", COLORS[2], "probe, held out"),
    ):
        level = np.median(trace[name][calm]) if calm.any() else trace[name][0]
        loss.plot(step, trace[name] - level, color=color, lw=1.3, label=words)
    loss.set_title("Loss above its level before [nats]", loc="left", fontsize=9)
    loss.legend(frameon=False, fontsize=8)
    update.plot(step, ratio("update_rms"), color=COLORS[0], lw=1.3, label="size of the update")
    update.plot(step, ratio("lr"), color=COLORS[1], lw=1.3, ls="--", label="logged rate")
    update.set_title("Update and logged rate, to their medians", loc="left", fontsize=9)
    update.legend(frameon=False, fontsize=8)
    second.plot(step, ratio("gv"), color=COLORS[0], lw=1.3)
    for one, name in ((update, "update_rms"), (second, "gv")):
        one.set_ylim(
            0, max(2.0, 1.1 * ratio(name).max(), 1.1 * (ratio("lr").max() * (one is update)))
        )
    second.set_title("Clipped gradient / root of second moment, to its median",
                     loc="left", fontsize=9)  # fmt: skip
    batch.plot(step, trace["gain"], color=COLORS[0], lw=1.3, label="order, batch [bits]")
    batch.plot(step, trace["row_gain"], color=COLORS[2], lw=1, label="order, worst sample [bits]")
    batch.plot(
        step, 10 * trace["rare"], color=COLORS[1], lw=1.3, label="share of rare tokens, times 10"
    )
    batch.set_title("What the batch was made of", loc="left", fontsize=9)
    batch.set_ylim(top=1.6 * trace["gain"].max())
    batch.legend(frameon=False, fontsize=8, loc="upper left")
    for one in axes.ravel():
        one.axvline(onset, color="0.6", lw=0.9, ls=":")
    for one in axes[-1]:
        one.set_xlabel("step; dotted: the onset")
    words = f"The replay around step {onset}: losses, updates, second moment, batches."
    return Picture(figure, words, DPI)


def tokens(found: Analysis) -> Picture:
    """The batch's tokens by tenths of the corpus, as in the report."""
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    plot_tokens(figure, found)
    return Picture(figure, figure.axes[0].get_title(loc="left"), DPI)


def recoveries(found: Analysis, chosen: str | None = None) -> Picture:
    """The probe over steps after each recovery, and where it ends beside what placebos do."""
    names = [n for n in found.outcomes if not n.startswith("placebo-")]
    figure, axes = _panels(1, 2, 1.2 + 0.32 * max(8, len(names)), width_ratios=(1.1, 1))
    left, right = axes[0]
    at, control = found.incident, found.outcomes["untouched"]
    level = control.series["probe"][max(0, at.onset - 2 - at.start)]
    lower = better(found.outcomes, found.noise)
    best = lower[0] if lower else None
    for name, one in found.outcomes.items():
        probe = np.array(one.series["probe"]) - level
        style = {"color": GREY, "lw": 1.0}
        if name.startswith("placebo-"):
            style = {"color": "0.55", "lw": 1.0, "ls": ":"}
        if name == "untouched":
            style = {"color": CONTROL, "lw": 1.6, "label": "untouched"}
        if name == best:
            style = {"color": BEST, "lw": 2.0, "label": f"{best}, the lowest"}
        if name == chosen:
            label = f"{chosen}, yours" + (" and the lowest" if chosen == best else "")
            style = {"color": CHOSEN, "lw": 2.0, "label": label}
        over = 2 + (name in ("untouched", best, chosen))
        left.plot(one.series["step"], probe, zorder=over, **style)
    left.plot([], [], color=GREY, label="other recoveries")
    left.plot([], [], color="0.55", ls=":", label="placebos")
    left.axvline(at.onset, color="0.6", lw=0.9, ls=":")
    left.set(xlabel="step; dotted: the onset", ylabel="probe above its level before [nats]")
    left.legend(frameon=False, fontsize=8)
    rows = np.arange(len(names))[::-1]
    noise = found.noise["end"]
    right.axvspan(control.end - noise, control.end + noise, color="0.9", label="noise of placebos")
    ends = [found.outcomes[n].end for n in names]
    peaks = [found.outcomes[n].peak for n in names]
    right.plot(peaks, rows, "s", ms=5, mfc="white", color=COLORS[0], label="highest")
    right.plot(ends, rows, "o", ms=5, color=COLORS[0], label="at the end")
    for name, color in ((best, BEST), (chosen, CHOSEN)):
        if name in names:
            place = names.index(name)
            right.plot(ends[place], rows[place], "o", ms=8, color=color)
    right.set_yticks(rows, names, fontsize=8)
    right.axvline(0, color="0.6", lw=0.8)
    right.set_xlabel("probe above its level before [nats]")
    right.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.4, 1.12), ncols=3)
    title = "No recovery ends below the control by more than noise"
    if best:
        gain = control.end - found.outcomes[best].end
        title = f"{best} ends {gain:.2f} nats below the control"
    left.set_title(title, loc="left", fontsize=10)
    return Picture(figure, f"{title}; placebos' noise {noise:.3f} nats.", DPI)
