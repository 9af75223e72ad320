"""points.csv: one row a run of the design, a number only where a run was finished."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from x1lib.sweep.design import FIT, Run
from x1lib.sweep.running import FINISHED, Sweep, manifest

POINTS = "points.csv"
COUNTS = {"total": "n_total", "body": "n_body", "matmul": "n_matmul"}  # which N -> its column


@dataclass(frozen=True)
class Point:
    """A run as a row; what was not measured is None.

    n_body, n_total, n_matmul: parameters. flops: of all its tokens, head and attention included.
    tokens, val_loss [nats a token], bits_per_byte: of the held-out documents; val_loss_source: of
    the held-out source. seconds: wall-clock of what this run trained itself.
    """

    run_id: str
    trunk: str
    role: str
    status: str
    shape: str
    n_layers: int
    d_model: int
    n_body: int
    n_total: int
    n_matmul: int
    tokens: int
    flops: float
    seed: int
    val_loss: float | None
    bits_per_byte: float | None
    val_loss_source: float | None
    lr: float
    batch_tokens: int
    seconds: float | None

    @property
    def is_finished(self) -> bool:
        return self.status == FINISHED


COLUMNS = tuple(f.name for f in fields(Point))
MEASURED = ("val_loss", "bits_per_byte", "val_loss_source")


def point_of(sweep: Sweep, run: Run) -> Point:
    """The row of one run as it stands now."""
    values, design = manifest(sweep.folder(run)), sweep.design
    done = values.get("status") == FINISHED
    shape, count = design.shape(run.shape), design.count(run.shape)
    return Point(
        run_id=run.id,
        trunk=run.trunk,
        role=run.role,
        status=FINISHED if done else sweep.why_not(run),
        shape=run.shape,
        n_layers=shape.n_layers,
        d_model=shape.d_model,
        n_body=count.body,
        n_total=count.total,
        n_matmul=count.matmul,
        tokens=run.n_tokens,
        flops=run.n_tokens * design.flops_per_token(run.shape),
        seed=run.seed,
        **{name: values.get(name) if done else None for name in MEASURED},
        lr=design.recipe.lr,
        batch_tokens=design.recipe.batch_tokens,
        seconds=values.get("wall_clock_seconds") if done else None,
    )


def write(path: Path, points: Iterable[Point]) -> None:
    """Write the rows; a reader sees the old file or the new one."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    with open(aside, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows([getattr(point, name) for name in COLUMNS] for point in points)
    os.replace(aside, path)


def read(path: Path) -> list[Point]:
    """The rows of a points.csv; an empty field is None."""
    kinds = {f.name: str(f.type) for f in fields(Point)}

    def value(name: str, text: str):
        if not text:
            return None
        kind = kinds[name]
        return int(text) if kind == "int" else float(text) if "float" in kind else text

    with open(path, newline="", encoding="utf-8") as file:
        return [Point(**{k: value(k, v) for k, v in row.items()}) for row in csv.DictReader(file)]


def finished(points: Iterable[Point], role: str | None = None) -> list[Point]:
    """Those with a number, of one role or of both."""
    return [p for p in points if p.is_finished and role in (None, p.role)]


def columns(points: Sequence[Point], n: str = "total"):
    """N by this count, D, loss and trunk of each point, as arrays."""
    pick = {"n_params": COUNTS[n], "n_tokens": "tokens", "loss": "val_loss"}
    found = {key: np.array([getattr(p, name) for p in points], float) for key, name in pick.items()}
    return found | {"trunk": np.array([p.trunk for p in points])}


def mean_over_seeds(points: Iterable[Point]) -> dict[tuple[str, int], float]:
    """Mean loss by shape and token count."""
    losses: dict[tuple[str, int], list[float]] = {}
    for p in finished(points):
        losses.setdefault((p.shape, p.tokens), []).append(p.val_loss)
    return {key: math.fsum(values) / len(values) for key, values in losses.items()}


# ----------------------------------------------------------------- the two ways to read them


def fixed_tokens(points: Sequence[Point], n: str = "total") -> dict[int, list[tuple[float, float]]]:
    """By token count: (N, mean loss) of each size, smallest first. More N costs more compute."""
    means, by_shape = mean_over_seeds(points), {p.shape: p for p in points}
    counts = sorted({p.tokens for p in points})
    return {
        d: sorted(
            (getattr(by_shape[shape], COUNTS[n]), loss)
            for (shape, tokens), loss in means.items()
            if tokens == d
        )
        for d in counts
    }


def fixed_compute(
    points: Sequence[Point], budgets: Iterable[float], n: str = "total"
) -> dict[float, list[tuple[float, float]]]:
    """By budget [FLOPs]: (N, loss) of each size that it lies within the runs of.

    Between a size's runs, losses are joined straight in the logs of loss and FLOPs. More N leaves
    fewer tokens.
    """
    means, by_shape = mean_over_seeds(points), {p.shape: p for p in points}
    curves = {}
    for shape, one in by_shape.items():
        per_token = one.flops / one.tokens
        curve = sorted((t * per_token, loss) for (s, t), loss in means.items() if s == shape)
        if len(curve) > 1:
            curves[shape] = np.log(np.array(curve)).T
    found = {}
    for budget in budgets:
        x = math.log(budget)
        found[budget] = sorted(
            (getattr(by_shape[shape], COUNTS[n]), float(np.exp(np.interp(x, *curve))))
            for shape, curve in curves.items()
            if curve[0][0] <= x <= curve[0][-1]
        )
    return found


def budgets_inside(points: Sequence[Point], n_budgets: int = 3) -> list[float]:
    """Budgets [FLOPs] that as many sizes as can be have runs around."""
    per_shape: dict[str, list[float]] = {}
    for p in finished(points):
        per_shape.setdefault(p.shape, []).append(p.flops)
    low = max(min(values) for values in per_shape.values())
    high = min(max(values) for values in per_shape.values())
    if low >= high:  # the sizes lie too far apart for one budget: the middle ones'
        middle = sorted(per_shape.values(), key=max)[len(per_shape) // 2]
        low, high = min(middle), max(middle)
    return [float(c) for c in np.geomspace(low, high, n_budgets)]


def noise_floor(points: Sequence[Point]) -> tuple[float | None, int]:
    """Standard deviation of log loss between seeds, pooled over sizes and token counts; freedom.

    Every "better" is to be judged by it. None where no size has two seeds.
    """
    groups: dict[tuple[str, int], list[float]] = {}
    for p in finished(points, FIT):
        groups.setdefault((p.shape, p.tokens), []).append(math.log(p.val_loss))
    squares = freedom = 0
    for values in groups.values():
        mean = sum(values) / len(values)
        squares += sum((v - mean) ** 2 for v in values)
        freedom += len(values) - 1
    return (math.sqrt(squares / freedom), freedom) if freedom else (None, 0)


def body_to_embedding(points: Sequence[Point]):
    """Embedding parameters as a function of the body: a power law through the sizes."""
    pairs = sorted({(p.n_body, p.n_total - p.n_body) for p in points})
    body, embedding = np.array(pairs, float).T
    slope, at = np.polyfit(np.log(body), np.log(embedding), 1)
    return lambda n: math.exp(at) * n**slope
