"""Notebook 00's figures, and the path through the course that one of them draws."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from x1lib.figures.money import COLORS
from x1lib.figures.shown import Picture

DPI = 100
WIDE = 8.0


@dataclass(frozen=True)
class Evening:
    """One sitting. parts: what is read or done, with its minutes; leaves: what lies there after it.

    overnight: what then runs alone; card_hours: of a rented card, at most.
    """

    parts: tuple[tuple[str, int], ...]
    leaves: str
    overnight: str = ""
    card_hours: float = 0.0

    @property
    def minutes(self) -> int:
        return sum(minutes for _, minutes in self.parts)

    @property
    def label(self) -> str:
        return " + ".join(what for what, _ in self.parts)


PATH = (
    Evening((("00", 30), ("lab00, rehearsal", 60)), "run-local/: a small model, its records"),
    Evening((("01", 90),), "a design for your own sweep"),
    Evening((("lab01, toy", 75),), "points.csv, fit.json, a sealed prediction"),
    Evening(
        (("02, sections 1 to 5, 9, 10", 60), ("smoke run on a card, 1 dollar", 30)),
        "today's price; a card's MFU",
        card_hours=0.5,
    ),
    Evening(
        (("03, sections 1 to 9", 75), ("start the real lab01", 15)),
        "scaling-law/ for real",
        overnight="lab01, 12 h",
        card_hours=12,
    ),
    Evening(
        (("03, sections 10, 11", 10), ("04, sections 1 to 7", 80)),
        "what a spike is made of",
    ),
    Evening((("04, the rest", 40), ("02, sections 6 to 8", 40)), "a choice of recoveries"),
    Evening(
        (("lab02", 60), ("start the real lab00", 30)),
        "spike-postmortem.md; run-cloud/",
        overnight="lab00, 24 h, or 7 by the short plan",
        card_hours=24,
    ),
    Evening((("05, beside your own log", 90),), "your log, read line by line"),
    Evening((("lab03", 60), ("lab00's verdict on the seal", 20)), "inference-cost/"),
    Evening((("quiz", 45), ("reflections", 30)), "quiz-score.json, reflections.md"),
)


def _axes(height: float):
    figure = Figure(figsize=(WIDE, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _done(figure, title: str, words: str) -> Picture:
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    return Picture(figure, f"{title}. {words}", DPI)


def spike(
    steps: Sequence[int],
    control: Sequence[float],
    disturbed: Sequence[float],
    flagged: Sequence[int],
    bad: tuple[int, int],
) -> Picture:
    """Two runs' losses over the same steps, the second with bad batches from bad[0] to bad[1].

    flagged: the steps that the detector called a spike.
    """
    figure, axes = _axes(3.4)
    axes.axvspan(bad[0] - 0.5, bad[1] + 0.5, color="0.9", label="steps on random tokens")
    axes.plot(steps, control, lw=1.4, color=COLORS[0], label="left alone, measured")
    axes.plot(steps, disturbed, lw=1.4, color=COLORS[1], label="disturbed, measured")
    there = dict(zip(steps, disturbed, strict=True))
    axes.plot(flagged, [there[step] for step in flagged], "o", ms=6, mfc="none",
              color="black", label="called a spike")  # fmt: skip
    axes.set(xlabel="step", ylabel="loss of the batch [nats a token]")
    axes.legend(frameon=False, fontsize=8)
    rise = max(np.subtract(disturbed, control))
    title = f"{bad[1] - bad[0] + 1} bad batches: {rise:.1f} nats up, and a debt that later ones pay"
    return _done(figure, title, f"Flagged: steps {', '.join(map(str, flagged))}.")


def compute(runs: Mapping[str, tuple[float, str]], budget: tuple[str, float]) -> Picture:
    """Training FLOPs of runs on a logarithmic axis, with what a budget buys as a line.

    runs: name -> (FLOPs, "measured" or "published"). budget: (its name, FLOPs).
    """
    figure, axes = _axes(0.9 + 0.3 * len(runs))
    ordered = sorted(runs.items(), key=lambda one: one[1][0])
    for kind, mark, color in (("measured", "s", COLORS[0]), ("published", "o", COLORS[1])):
        at = [i for i, (_, (_, how)) in enumerate(ordered) if how == kind]
        axes.plot([ordered[i][1][0] for i in at], at, mark, color=color, label=kind)
    axes.axvline(budget[1], color=COLORS[2], lw=1.5, label=f"{budget[0]}, computed")
    axes.set_yticks(range(len(ordered)), [name for name, _ in ordered], fontsize=8)
    axes.set(xscale="log", xlabel="training FLOPs", ylim=(-0.6, len(ordered) - 0.4))
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    largest = ordered[-1]
    times = float(f"{largest[1][0] / budget[1]:.1e}")
    title = f"{budget[0]} buy a {times:,.0f}th of {largest[0]}'s arithmetic"
    said = "; ".join(f"{name} {flops:.1e}" for name, (flops, _) in ordered)
    return _done(figure, title, f"FLOPs: {said}; {budget[0]} {budget[1]:.1e}.")


def path(evenings: Sequence[Evening] = PATH) -> Picture:
    """The course, an evening a bar: minutes of each part, what it leaves, what runs overnight."""
    figure, axes = _axes(0.9 + 0.44 * len(evenings))
    for row, one in enumerate(evenings):
        start = 0
        for what, minutes in one.parts:
            color = COLORS[5] if what[:1].isdigit() else COLORS[4]
            axes.barh(row, minutes, left=start, color=color, edgecolor="white", height=0.7)
            name = textwrap.fill(what, max(11, minutes))  # a minute is as wide as a letter
            size = 7 if minutes >= 15 else 5.5  # three lines in a narrow box
            axes.text(start + minutes / 2, row, name, ha="center", va="center", fontsize=size)
            start += minutes
        night = f"\novernight: {one.overnight}" if one.overnight else ""
        axes.text(93, row, f"{one.leaves}{night}", va="center", fontsize=7.5)
    axes.axvline(90, color="0.6", lw=1, ls="--")
    axes.set_yticks(range(len(evenings)), range(1, len(evenings) + 1))
    axes.set(xlim=(0, 150), ylim=(len(evenings) - 0.4, -0.6), ylabel="evening")
    axes.set_xticks(range(0, 91, 30))
    axes.set_xlabel("minutes (blue: theory; orange: practice), then what it leaves", loc="left")
    hours = sum(one.minutes for one in evenings) / 60
    title = f"{len(evenings)} evenings of at most 90 minutes, {hours:.0f} hours in all"
    said = "; ".join(f"{i}: {one.label} ({one.minutes})" for i, one in enumerate(evenings, 1))
    return _done(figure, title, f"{said}.")
