"""Approach 3: the law fitted to losses, from every start of Hoffmann's grid."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np

from x1lib.scaling import solver
from x1lib.scaling.laws import Law, ScalingError

UNKNOWNS = 5
METHODS = ("huber", "l1", "huber_scale")
LARGEST_LOG = 700.0  # its exponential is the largest that a float holds
POLISHED = 64  # of the screened starts
# Starts agree that end within this share of the lowest objective.
AGREEING = 1e-4
# L1 is the limit of Huber / delta as delta falls; each stage starts where the last ended.
L1_ROUNDING = 1e-12  # a residual that is nothing but rounding
L1_DELTAS = (1e-3, 1e-4, 1e-5, 1e-6, 1e-7)
TURN = 1.345  # Huber's: 95% of least squares' efficiency under normal noise
# Mean of min(z^2, TURN^2) for a normal z: what makes Huber's second proposal consistent.
TURN_MEAN = (
    math.erf(TURN / math.sqrt(2))
    - 2 * TURN * math.exp(-(TURN**2) / 2) / math.sqrt(2 * math.pi)
    + TURN**2 * math.erfc(TURN / math.sqrt(2))
)


class TooFewPointsError(ScalingError):
    """Not more points than the law has unknowns."""


class NoSpreadError(ScalingError):
    """All points at one N or one D, which cannot show an exponent."""


class BadPointError(ScalingError):
    """A size, token count or loss that is not a finite number above 0."""


class DuplicatePointsError(ScalingError):
    """The same run given twice."""


@dataclass(frozen=True)
class Fit:
    """A fitted law and how far to trust the search.

    objective: sum over the points, of Huber losses or, for "l1", of absolute residuals of log loss.
    converged: whether the best start ended at a stationary point. n_starts_agreeing: how many of
    the n_polished best of n_starts ended at the same objective ("huber_scale": before the scale is
    fitted). delta: where the Huber loss turns
    straight, in units of log loss. residuals: fitted less measured log loss, in the points' order.
    """

    law: Law
    method: str
    objective: float
    converged: bool
    n_starts: int
    n_polished: int
    n_starts_agreeing: int
    delta: float
    residuals: np.ndarray


def starts() -> np.ndarray:
    """The 4,500 starts (a, b, e, alpha, beta) of Hoffmann 2022, appendix D.2; shape (4500, 5)."""
    intercepts, exponents = range(0, 26, 5), np.arange(0, 2.1, 0.5)
    e = np.arange(-1, 1.1, 0.5)
    return np.array(list(itertools.product(intercepts, intercepts, e, exponents, exponents)), float)


def checked(n_params, n_tokens, loss) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The three arrays as floats, or the named error that says what is wrong with them."""
    try:
        arrays = [np.asarray(values, float).ravel() for values in (n_params, n_tokens, loss)]
    except (TypeError, ValueError) as error:
        raise BadPointError(f"not numbers: {error}; give arrays of finite numbers") from error
    if len({len(values) for values in arrays}) > 1:
        raise ScalingError(
            f"{' / '.join(str(len(v)) for v in arrays)} sizes, token counts and losses; give as"
            " many of each"
        )
    for name, values in zip(("n_params", "n_tokens", "loss"), arrays):
        bad = np.flatnonzero(~(np.isfinite(values) & (values > 0)))
        if len(bad):
            raise BadPointError(
                f"{name}[{bad[0]}] is {values[bad[0]]}; give finite numbers above 0 and leave out"
                " runs that failed"
            )
    if len(arrays[0]) <= UNKNOWNS:
        raise TooFewPointsError(
            f"{len(arrays[0])} points cannot fit {UNKNOWNS} unknowns and show an error; give"
            f" {UNKNOWNS + 1} or more"
        )
    for name, values in zip(("N", "D", "loss"), arrays):
        if np.ptp(np.log(values)) < 1e-9:
            raise NoSpreadError(
                f"every point has {name} = {values[0]:g}; the exponents need several {name}"
            )
    rows, counts = np.unique(np.column_stack(arrays), axis=0, return_counts=True)
    if counts.max() > 1:
        n, d, value = rows[counts.argmax()]
        raise DuplicatePointsError(
            f"N = {n:g}, D = {d:g}, loss {value:g} stands {counts.max()} times; give each run once"
        )
    return tuple(arrays)


def law_of(theta: np.ndarray) -> Law:
    """The law of one row (a, b, e, alpha, beta); ScalingError where it is beyond a float."""
    a, b, e, alpha, beta = map(float, theta)
    if not max(abs(a), abs(b), abs(e)) < LARGEST_LOG:
        raise ScalingError(
            f"the fit ran off to A = exp({a:.0f}), B = exp({b:.0f}), E = exp({e:.0f}): these points"
            " do not determine the law; give more sizes and token counts"
        )
    return Law(math.exp(e), math.exp(a), alpha, math.exp(b), beta)


def theta_of(law: Law) -> np.ndarray:
    """(a, b, e, alpha, beta) of a law; raises ScalingError where E is not above 0."""
    if law.E <= 0:
        raise ScalingError(f"E is {law.E}; log-sum-exp form takes it above 0")
    return np.array([math.log(law.A), math.log(law.B), math.log(law.E), law.alpha, law.beta])


def fit_law(n_params, n_tokens, loss, method: str = "huber", delta: float = 1e-3) -> Fit:
    """Fit the law to losses in nats per token; the three arrays have one entry a point.

    "huber": sum of Huber losses of log-loss residuals, turning at delta (Hoffmann 2022, appendix
    D.2). "l1": sum of absolute residuals. "huber_scale": turning at 1.345 noise scales, the scale
    fitted too (Huber 1981, proposal 2); delta is then where it starts.
    Raises TooFewPointsError, NoSpreadError, BadPointError, DuplicatePointsError, or ScalingError
    for an unknown method.
    """
    if method not in METHODS:
        raise ScalingError(f"method is {method!r}; give one of {', '.join(METHODS)}")
    if not (math.isfinite(delta) and delta > 0):
        raise ScalingError(f"delta is {delta}; give a residual of log loss above 0")
    n_params, n_tokens, loss = checked(n_params, n_tokens, loss)
    points = solver.Points.of(n_params, n_tokens, loss)
    grid = points.centred(starts())
    screened = solver.objective(grid, points, points.z, np.ones((1, len(loss))), delta)
    theta = grid[np.argsort(screened, kind="stable")[:POLISHED]]
    theta, value, converged = solver.solve(theta, points, delta=delta)
    agreeing = _agreeing(value)
    if method == "l1":
        for smaller in L1_DELTAS:
            theta, value, converged = solver.solve(theta, points, delta=smaller)
        value = np.abs(solver.predict(theta, points)[0] - points.z).sum(axis=1)
        agreeing = _agreeing(value, floor=L1_ROUNDING * len(loss))
    elif method == "huber_scale":
        theta, value, converged, delta = _with_scale(theta[value.argmin()], points, delta)
    best = int(np.argmin(value))
    residuals = solver.predict(theta[best : best + 1], points)[0][0] - points.z
    return Fit(
        law=law_of(points.plain(theta[best])),
        method=method,
        objective=float(value[best]),
        converged=bool(converged[best]),
        n_starts=len(grid),
        n_polished=POLISHED,
        n_starts_agreeing=agreeing,
        delta=L1_DELTAS[-1] if method == "l1" else float(delta),
        residuals=residuals,
    )


def _agreeing(value: np.ndarray, floor: float = solver.TINY) -> int:
    return int((value <= value.min() * (1 + AGREEING) + floor).sum())


def _with_scale(theta: np.ndarray, points: solver.Points, delta: float):
    """Alternate the fit and the scale that its residuals show, until the scale stands still."""
    theta, freedom = theta[None], len(points.z) - UNKNOWNS
    for _ in range(200):
        theta, value, converged = solver.solve(theta, points, delta=delta)
        clipped = np.minimum(np.abs(solver.predict(theta, points)[0][0] - points.z), delta)
        scale = math.sqrt((clipped**2).sum() / (TURN_MEAN * freedom))
        settled = abs(TURN * scale - delta) <= 1e-7 * delta
        delta = max(TURN * scale, 1e-12)
        if settled or delta <= 1e-12:
            return theta, value, converged, delta
    return theta, value, np.zeros_like(converged), delta
