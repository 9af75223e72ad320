"""Approaches 1 and 2 of Hoffmann 2022: the lower envelope of curves, and IsoFLOP parabolas."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from x1lib.scaling.fit import BadPointError, TooFewPointsError
from x1lib.scaling.laws import FLOPS_PER_PARAM_TOKEN, ScalingError

SAME_BUDGET = 1.1  # computes within this factor of the next are one budget


@dataclass(frozen=True)
class Frontier:
    """N_opt = coefficient * C^exponent_n, fitted through (compute, n_params) of least loss."""

    compute: np.ndarray
    n_params: np.ndarray
    loss: np.ndarray
    coefficient: float
    exponent_n: float

    @property
    def exponent_d(self) -> float:
        """Exponent of C in the optimal D, for C = 6 N D."""
        return 1 - self.exponent_n

    def optimal(self, C: float) -> tuple[float, float]:
        """Optimal N and D at C FLOPs."""
        if not (math.isfinite(C) and C > 0):
            raise ScalingError(f"C is {C}; give training FLOPs above 0")
        n_params = self.coefficient * C**self.exponent_n
        return n_params, C / (FLOPS_PER_PARAM_TOKEN * n_params)


@dataclass(frozen=True)
class IsoFlop(Frontier):
    """Frontier through the lowest points of the parabolas; `dropped` maps a budget to a reason."""

    dropped: dict[float, str] = field(default_factory=dict)


def _arrays(*values) -> list[np.ndarray]:
    arrays = [np.asarray(one, float).ravel() for one in values]
    if len({len(one) for one in arrays}) > 1:
        raise ScalingError("compute, n_params and loss differ in length; give as many of each")
    if not all(np.isfinite(one).all() and (one > 0).all() for one in arrays):
        raise BadPointError("a compute, size or loss is not a finite number above 0; leave it out")
    return arrays


def _line(compute, n_params) -> tuple[float, float]:
    """Coefficient and exponent of a power law through the points, by least squares of logs."""
    exponent, intercept = np.polynomial.polynomial.polyfit(np.log(compute), np.log(n_params), 1)[
        ::-1
    ]
    return float(np.exp(intercept)), float(exponent)


def isoflop(compute, n_params, loss, budgets=None) -> IsoFlop:
    """Approach 2: a parabola of loss in log N at each budget, and a line through their minima.

    compute in FLOPs, a point an entry. Budgets are found by their gaps, or given: a point then
    belongs to the nearest, if within 10%. A budget of fewer than 3 sizes, whose parabola opens
    downwards, or whose lowest point lies outside its sizes is dropped.
    Raises TooFewPointsError where fewer than 2 budgets are left.
    """
    compute, n_params, loss = _arrays(compute, n_params, loss)
    if not len(compute):
        raise TooFewPointsError("no points; give at least 3 sizes at each of 2 budgets")
    if budgets is None:
        order = np.sort(compute)
        groups = np.split(order, np.flatnonzero(order[1:] > SAME_BUDGET * order[:-1]) + 1)
        budgets = [math.exp(np.log(group).mean()) for group in groups]
    budgets = np.sort(_arrays(budgets)[0])
    if not len(budgets):
        raise TooFewPointsError("budgets is empty; give 2 or more [FLOPs], or None to find them")
    gap = np.abs(np.log(compute)[:, None] - np.log(budgets))
    member = np.where(gap.min(axis=1) <= math.log(SAME_BUDGET), gap.argmin(axis=1), -1)
    found, dropped = [], {}
    for i, budget in enumerate(budgets):
        x, y = np.log(n_params[member == i]), loss[member == i]
        if len(np.unique(x)) < 3:
            dropped[float(budget)] = f"{len(np.unique(x))} sizes"
            continue
        middle = x.mean()
        c0, c1, c2 = np.polynomial.polynomial.polyfit(x - middle, y, 2)
        if c2 <= 0:
            dropped[float(budget)] = "no minimum"
            continue
        lowest = middle - c1 / (2 * c2)
        if not x.min() <= lowest <= x.max():
            dropped[float(budget)] = "minimum outside its sizes"
            continue
        found.append((budget, math.exp(lowest), c0 - c1**2 / (4 * c2)))
    if len(found) < 2:
        raise TooFewPointsError(
            f"{len(found)} of {len(budgets)} budgets show a minimum; give 2 or more, each with"
            " sizes on both sides of it"
        )
    at, sizes, lowest_losses = np.array(found).T
    return IsoFlop(at, sizes, lowest_losses, *_line(at, sizes), dropped=dropped)


def envelope(compute, n_params, loss, n_budgets: int = 1500) -> Frontier:
    """Approach 1: the size of least loss at each of many budgets, then a line through them.

    Points of one N are one curve, joined straight in log C; a curve counts only between its ends,
    and a budget only where a larger and a smaller size than the winner's were there to lose.
    Raises TooFewPointsError where fewer than 2 sizes win.
    """
    compute, n_params, loss = _arrays(compute, n_params, loss)
    if len(np.unique(n_params)) < 3 or n_budgets < 2:
        raise TooFewPointsError("an envelope takes curves of 3 or more sizes and 2 or more budgets")
    sizes = np.unique(n_params)
    budgets = np.exp(np.linspace(np.log(compute.min()), np.log(compute.max()), n_budgets))
    curves = np.full((len(sizes), n_budgets), np.inf)
    for row, size in enumerate(sizes):
        mine = n_params == size
        order = np.argsort(compute[mine])
        x, y = np.log(compute[mine][order]), loss[mine][order]
        curves[row] = np.interp(np.log(budgets), x, y, left=np.inf, right=np.inf)
    winner = curves.argmin(axis=0)
    there = np.isfinite(curves)
    rows = np.arange(len(sizes))[:, None]
    contested = (there & (rows < winner)).any(axis=0) & (there & (rows > winner)).any(axis=0)
    if len(np.unique(winner[contested])) < 2:
        raise TooFewPointsError(
            "fewer than 2 sizes win between smaller and larger ones; give longer curves or more"
            " sizes"
        )
    at, best = budgets[contested], sizes[winner[contested]]
    return Frontier(at, best, curves.min(axis=0)[contested], *_line(at, best))
