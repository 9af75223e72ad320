"""Notebook 04's figures and the records that some of them draw."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from x1lib.figures.money import COLORS
from x1lib.figures.shown import Picture
from x1lib.stability import detect

DPI = 100
WIDE = 8.0

# BLOOM-176B's first loss spike, 2022-04-12, as its makers wrote it down: iterations 31214 to 31222
# (bigscience-workshop/bigscience, train/tr11-176B-ml/chronicles.md, Apache-2.0; read 2026-11-22).
BLOOM_FIRST = 31214
BLOOM_LOSS = (2.198845, 2.220424, 2.595213, 2.241558, 2.345279,
              5.098124, 3.492029, 3.213059, 2.804948)  # fmt: skip
BLOOM_GRAD_NORM = (0.242, 0.947, 2.390, 15.886, 145.119, 960.351, 353.201, 379.330, 650.246)


def _panels(n: int, height: float, **options):
    figure = Figure(figsize=(WIDE, height), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, n, **options))
    for one in axes.ravel():
        one.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _done(figure, title: str, words: str, *legends, **options) -> Picture:
    for axes in legends:
        axes.legend(**{"frameon": False, "fontsize": 8} | options)
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    return Picture(figure, f"{title}. {words}", DPI)


def updates(measured: Mapping[float, tuple], predicted: Mapping[float, float]) -> Picture:
    """Update size and probe loss around a jump of the gradient, for some beta2.

    measured: beta2 -> (updates over their usual size, probe's rise [nats]), a place a step, the
    jump at place 10. predicted: beta2 -> the largest that a formula gives.
    """
    figure, (left, right) = _panels(2, 3.2)
    for color, (beta2, (ratio, probe)) in zip(COLORS, measured.items(), strict=False):
        steps = np.arange(len(ratio)) - 10
        left.plot(steps, ratio, "o-", ms=3, lw=1.3, color=color, label=f"β₂ = {beta2:g}, measured")
        left.axhline(predicted[beta2], color=color, lw=1, ls="--",
                     label=f"largest if gradients are noise: {predicted[beta2]:.1f}")  # fmt: skip
        right.plot(steps, probe, "o-", ms=3, lw=1.3, color=color, label=f"β₂ = {beta2:g}")
    top = max(*predicted.values(), *(max(ratio) for ratio, _ in measured.values()))
    left.set(xlabel="steps after the jump", ylabel="update / its usual size", ylim=(0, 1.6 * top))
    right.set(xlabel="steps after the jump", ylabel="probe's rise [nats a token]")
    tops = {beta2: max(probe) for beta2, (_, probe) in measured.items()}
    title = "The same jump of the gradient: a slow second moment makes the spike"
    words = "; ".join(f"β₂ {b:g}: the probe rises by {top:.2f} nats" for b, top in tops.items())
    return _done(figure, title, f"{words}.", left, right)


def weights(rms: Mapping[float, Sequence[float]], every: int, level: Mapping[float, float]):
    """Root mean square of hidden weights over steps, by weight decay; `level`: where it settles."""
    figure, (axes,) = _panels(1, 3.2)
    for color, (decay, values) in zip(COLORS, rms.items(), strict=False):
        steps = np.arange(len(values)) * every
        axes.plot(steps, values, "o-", ms=3, lw=1.4, color=color, label=f"decay {decay:g}")
        if decay in level:
            axes.axhline(level[decay], color=color, lw=1, ls="--",
                         label=f"√(lr / 2 decay) = {level[decay]:.3f}")  # fmt: skip
    axes.set(xlabel="step", ylabel="RMS of hidden weights", ylim=(0, None))
    ends = "; ".join(f"decay {d:g} ends at {v[-1]:.3f}" for d, v in rms.items())
    return _done(figure, "With decay a weight's size is set by the optimiser, not by the start",
                 f"{ends}.", axes)  # fmt: skip


def rises(cases: Mapping[str, Mapping[str, Sequence[float]]], at: int, title: str, held=None):
    """The probe's rise by step, a panel a fault and a curve a label; the fault is at place `at`.

    held: so many steps from the fault on that a recovery holds for, marked by a band.
    """
    figure, panels = _panels(len(cases), 3.2, sharey=True)
    words = []
    for axes, (fault, curves) in zip(panels, cases.items(), strict=True):
        if held:
            axes.axvspan(0, held, color="0.93", label=f"{held} steps: a clip or a cut holds")
        for color, (label, rise) in zip(COLORS, curves.items(), strict=False):
            steps = np.arange(len(rise)) - at
            axes.plot(steps, rise, "o-", ms=3, lw=1.3, color=color, label=label)
            words.append(f"{fault}, {label}: {max(rise):.2f} nats")
        axes.set(xlabel="steps after the fault's first")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_title(fault, loc="left", fontsize=9)
    panels[0].set_ylabel("probe's rise [nats a token]")
    panels[0].set_ylim(top=1.4 * max(max(rise) for by in cases.values() for rise in by.values()))
    return _done(figure, title, f"{'; '.join(words)}.", *panels, loc="upper right", ncols=2)


def coordinates(plain: Mapping[int, list], ruled: Mapping[int, list], live: Mapping[int, dict]):
    """Activations' RMS by width after a few steps: the mean of seeds, from lowest to highest.

    plain, ruled: width -> a dict of sizes a seed, recorded. live: width -> the sizes measured now.
    """
    names = list(next(iter(live.values())))
    figure, panels = _panels(len(names), 3.0)
    growths = []
    for axes, name in zip(panels, names, strict=True):
        for color, mark, what, found in (
            (COLORS[1], "s--", "one rate for all", plain),
            (COLORS[0], "o-", "the rule (muP)", ruled),
        ):
            every = np.array([[one[name] for one in found[w]] for w in found])
            mean = every.mean(1)
            axes.plot(list(found), mean, mark, ms=4, color=color, label=f"{what}, recorded")
            axes.fill_between(list(found), every.min(1), every.max(1), color=color, alpha=0.2)
            growths.append(f"{name}, {what}: {mean.max() / mean.min():.3g}")
        axes.plot(list(live), [live[w][name] for w in live], "k*", ms=11, label="the rule, live")
        axes.set(xscale="log", yscale="log", xlabel="width", title=f"RMS of {name}")
        axes.set_xticks(list(ruled), map(str, ruled))
        axes.xaxis.set_minor_formatter(NullFormatter())
        low, high = axes.get_ylim()
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.title.set_fontsize(9)
    title = "Coordinate check: activations grow with the width, or stay (band: four seeds)"
    return _done(figure, title, f"Largest over smallest: {'; '.join(growths)}.", panels[1])


def rows_of(path: Path) -> list[dict[str, object]]:
    """Rows of a recorded table; what reads as a number is one."""

    def value(text: str) -> object:
        try:
            return int(text) if text.lstrip("-").isdigit() else float(text)
        except ValueError:
            return text

    with Path(path).open(newline="") as lines:
        return [{key: value(text) for key, text in row.items()} for row in csv.DictReader(lines)]


def nested(rows: Sequence[Mapping], *keys: str) -> dict:
    """Rows by the values of some columns, one level a column; at the bottom a list of rows."""
    found: dict = {}
    for row in rows:
        level = found
        for key in keys[:-1]:
            level = level.setdefault(row[key], {})
        level.setdefault(row[keys[-1]], []).append(row)
    return found


def sweep_rows(path: Path, batch_tokens: int = 512) -> dict[int, dict[int, dict[float, float]]]:
    """Loss by base width (0: no rule), width and learning rate, of finished runs in a runs.csv.

    A width that is the base belongs to the rule as well as to its absence.
    """
    found: dict[int, dict[int, dict[float, float]]] = {}
    with Path(path).open(newline="") as lines:
        for row in csv.DictReader(lines):
            if row["status"] == "finished" and int(row["batch_tokens"]) == batch_tokens:
                base, width = int(row["base_width"]), int(row["width"])
                losses = found.setdefault(base, {}).setdefault(width, {})
                losses[float(row["lr"])] = float(row["val_loss"])
    for base in [b for b in found if b]:
        if base in found.get(0, {}):
            found[base][base] = found[0][base] | found[base].get(base, {})
    return {
        base: {w: dict(sorted(by.items())) for w, by in sorted(widths.items())}
        for base, widths in sorted(found.items())
    }


def rates(found: Mapping[int, Mapping[int, Mapping[float, float]]], bases: Sequence[int]):
    """Held-out loss against the learning rate by width, a panel a base width (0: no rule)."""
    figure, panels = _panels(len(bases), 3.3, sharex=True, sharey=True)
    words = []
    colors = dict(zip(sorted({w for b in bases for w in found[b]}), COLORS, strict=False))
    for axes, base in zip(panels, bases, strict=True):
        for width, losses in found[base].items():
            color = colors[width]
            axes.plot(list(losses), list(losses.values()), "o-", ms=4, lw=1.2, color=color,
                      label=f"width {width}")  # fmt: skip
            best = min(losses, key=losses.get)
            axes.plot(best, losses[best], "o", ms=11, mfc="none", color=color)
            words.append(f"{base or 'no rule'}, width {width}: {best:g}")
        what = f"the rule, base width {base}" if base else "one rate for all"
        axes.set(xscale="log", xlabel="lr (of the base width)" if base else "lr")
        axes.set_title(what, loc="left", fontsize=9)
        axes.set_xticks([0.001, 0.01], ["0.001", "0.01"])
        axes.xaxis.set_minor_formatter(NullFormatter())
    panels[0].set_ylabel("held-out loss [nats a token]")
    title = "Where the best rate lies (measured, one seed a point; rings: lowest)"
    most = max(range(len(bases)), key=lambda i: len(found[bases[i]]))
    return _done(figure, title, f"{'; '.join(words)}.", panels[most])


def alarms(loss, probe, rules: Sequence[str], begins: int = 1) -> Picture:
    """A run's losses and probe, with the steps that rules of x1lib.stability flag, a row a rule."""
    figure, (axes,) = _panels(1, 3.4)
    steps = begins + np.arange(len(loss))
    axes.plot(steps, loss, color="0.6", lw=1, label="loss of the batch")
    axes.plot(steps, probe, color=COLORS[0], lw=1.5, label="probe (held out)")
    low, words = min(np.min(loss), np.min(probe)), []
    for i, (color, rule) in enumerate(zip(COLORS[1:], rules, strict=False)):
        at = detect(loss, rule)
        row = np.full(len(at), low - 0.25 * (i + 1))
        axes.plot(steps[at], row, "|", ms=8, mew=1.6, color=color, label=f"{rule}: {len(at)}")
        words.append(f"{rule} flags {len(at)}")
    axes.set(xlabel="step", ylabel="nats a token")
    return _done(figure, "Alarms on one injected spike, by rule (measured)",
                 f"{'; '.join(words)}.", axes, loc="upper left")  # fmt: skip


def replays(recorded: Mapping[str, Mapping[str, Sequence[float]]], live: Mapping[str, Mapping]):
    """The probe's highest rise after each recovery, a panel a cause, a dot a seed; bar: median.

    A band spans the dots of "placebo", if there are any.
    recorded: cause -> recovery -> rises by seed [nats]. live: the same for the replays made now,
    one number each.
    """
    names = list(dict.fromkeys(n for played in recorded.values() for n in played))
    figure, panels = _panels(len(recorded), 0.9 + 0.24 * len(names), sharey=True)
    words = []
    for axes, (cause, played) in zip(panels, recorded.items(), strict=True):
        middle = {name: float(np.median(peaks)) for name, peaks in played.items()}
        for name, peaks in played.items():
            row = len(names) - 1 - names.index(name)
            axes.plot(peaks, [row] * len(peaks), "o", ms=4, color=COLORS[0], alpha=0.6)
            axes.plot(middle[name], row, "|", ms=11, mew=2, color="0.15")
        said = ""
        if span := played.get("placebo"):
            axes.axvspan(min(span), max(span), color="0.93", zorder=0)
            said = f", placebos {min(span):.2f} to {max(span):.2f}"
        now = live.get(cause, {})
        rows = [len(names) - 1 - names.index(name) for name in now]
        axes.plot(list(now.values()), rows, "o", ms=9, mfc="none", color=COLORS[1])
        axes.axvline(0, color="0.6", lw=0.8)
        axes.axvline(middle["untouched"], color="0.75", lw=0.8, ls=":")
        axes.set_yticks(range(len(names)), names[::-1], fontsize=8)
        axes.set(xlabel="probe's highest rise [nats]")
        axes.set_title(cause, loc="left", fontsize=9)
        best = min(middle, key=middle.get)
        words.append(
            f"{cause}: untouched {middle['untouched']:.2f}, {best} {middle[best]:.2f} nats{said}"
        )
    title = "Each cause has its recovery (dots: recorded, bar: median, ring: live, grey: placebos)"
    return _done(figure, title, f"Medians, the lowest of each cause: {'; '.join(words)}.")


def interventions(gains: Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]]) -> Picture:
    """Nats gained over going on as it was, a panel a trunk, a row a plan, a mark a held-out text.

    gains: trunk -> plan -> text -> gain by seed.
    """
    figure, panels = _panels(len(gains), 2.9, sharey=True)
    words = []
    for axes, (trunk, plans) in zip(panels, gains.items(), strict=True):
        for i, (plan, texts) in enumerate(plans.items()):
            for j, (color, (text, by_seed)) in enumerate(zip(COLORS, texts.items(), strict=False)):
                row = len(plans) - 1 - i + 0.14 * (1 - 2 * j)
                label = text if i == 0 else None
                axes.plot(by_seed, [row] * len(by_seed), "os"[j], ms=4, color=color, label=label)
            said = [f"{text} {np.median(nats):+.2f}" for text, nats in texts.items()]
            words.append(f"{trunk}, {plan}: {', '.join(said)}")
        axes.axvline(0, color="0.6", lw=0.8)
        axes.set_yticks(range(len(plans)), list(plans)[::-1], fontsize=8)
        axes.set(xlabel="held-out loss lower by [nats a token]", ylim=(-0.5, len(plans) - 0.5))
        axes.set_title(trunk, loc="left", fontsize=9)
    title = "What an intervention gains over going on as before (recorded; a mark a seed)"
    return _done(figure, title, f"Medians in nats: {'; '.join(words)}.", panels[-1])


def bloom() -> Picture:
    """BLOOM-176B's first loss spike as its makers printed it: loss and gradient norm."""
    figure, (left, right) = _panels(2, 2.6)
    steps = BLOOM_FIRST + np.arange(len(BLOOM_LOSS))
    left.plot(steps, BLOOM_LOSS, "o-", ms=4, color=COLORS[0])
    left.set(xlabel="iteration", ylabel="loss [nats a token]")
    right.plot(steps, BLOOM_GRAD_NORM, "s-", ms=4, color=COLORS[1])
    right.set(xlabel="iteration", ylabel="gradient norm", yscale="log")
    for axes in (left, right):
        axes.set_xticks(steps[::2])
        axes.ticklabel_format(axis="x", useOffset=False)
    title = "BLOOM-176B, 12 April 2022: the gradient norm left first (published)"
    words = f"The loss reached {max(BLOOM_LOSS):.2f}, the norm {max(BLOOM_GRAD_NORM):.0f}."
    return _done(figure, title, words)
