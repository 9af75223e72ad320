"""What lab01 needs of a notebook's kernel: its parameters, its guesses, its tables."""

from __future__ import annotations

import difflib
from dataclasses import fields

from x1lib.launch.parameters import _injected
from x1lib.settings import ConfigError, from_dict
from x1lib.sweep.answers import billions
from x1lib.sweep.lab import Planned, Settings
from x1lib.sweep.points import POINTS, Point, mean_over_seeds


def configure(namespace: dict, names: str) -> Settings:
    """Settings of a notebook's parameters; nothing is started.

    namespace: the notebook's globals(). names: those in its parameters cell that are settings. What
    papermill injected counts too, and a name that nobody knows is refused. Raises ConfigError.
    """
    known, injected = [f.name for f in fields(Settings)], _injected(namespace)
    for name in injected:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
            raise ConfigError(f"unknown parameter {name!r}; {hint}")
    return from_dict(Settings, {name: namespace[name] for name in [*names.split(), *injected]})


def in_time(planned: Planned, **guesses: float | None) -> dict:
    """The guesses, but none once the sweep has points: a guess made after the result is none."""
    late = (planned.folder / POINTS).exists()
    return dict.fromkeys(guesses) if late else guesses


CHOICES_HEAD = ("design", "runs", "rank", "condition", "D_opt(1B) expected within", "h", "USD")


def choice_rows(planned: Planned) -> list[tuple]:
    """A row a design: what it costs, and what it could tell."""
    rows = []
    for choice in planned.choices():
        low, high = choice.known.interval_optimal_tokens_1e9
        known = f"{billions(low)} to {billions(high)}" if low > 0 else "not determined"
        saturated = ", saturated in N" if choice.known.saturated_in_n else ""
        rank = f"{choice.known.rank} of 5{saturated if choice.known.rank == 5 else ''}"
        condition = f"{choice.known.condition:.0f}" if choice.known.rank == 5 else "-"
        cost = f"{choice.hours:.2f}", f"{choice.usd:.2f}"
        rows.append((choice.name, choice.n_runs, rank, condition, known, *cost))
    return rows


def point_rows(points: list[Point]) -> tuple[tuple, list[tuple]]:
    """Head and rows of a table: a row a size, a column a token count, the mean over seeds."""
    means, counts = mean_over_seeds(points), sorted({p.tokens for p in points})
    head = ("size", "N total", "N body", *(f"{billions(n)} tokens" for n in counts))
    rows = []
    for shape in dict.fromkeys(p.shape for p in sorted(points, key=lambda p: p.n_total)):
        one = next(p for p in points if p.shape == shape)
        losses = (means.get((shape, n)) for n in counts)
        shown = (f"{loss:.3f}" if loss else "no number" for loss in losses)
        rows.append(
            (f"{one.n_layers} x {one.d_model}", f"{one.n_total:,}", f"{one.n_body:,}", *shown)
        )
    return head, rows
