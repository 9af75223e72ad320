"""Many robust fits of the law at once, by damped Newton steps on analytic derivatives.

The law is fitted in log-sum-exp form (Hoffmann 2022, appendix D.2): with theta = (a, b, e, alpha,
beta), log L = log(exp(a - alpha x) + exp(b - beta y) + exp(e)), x = log N and y = log D, both here
measured from their means so that the five unknowns are nearly independent.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Fits that one pass over the arrays holds: 64 rows of a few hundred points stay in the cache.
CHUNK = 64
MAX_STEPS = 200
# A fit ends when Newton's step promises less than this share of its objective.
SHARE_LEFT = 1e-11
ROUNDING = 1e-14
TINY = 1e-24  # an objective of nothing but rounding


@dataclass(frozen=True)
class Points:
    """Logarithms of N, D and loss, the first two less their means."""

    x: np.ndarray
    y: np.ndarray
    z: np.ndarray
    x_mean: float
    y_mean: float

    @classmethod
    def of(cls, n_params, n_tokens, loss) -> Points:
        x, y, z = np.log(n_params), np.log(n_tokens), np.log(loss)
        return cls(x - x.mean(), y - y.mean(), z, x.mean(), y.mean())

    def centred(self, theta: np.ndarray) -> np.ndarray:
        """Rows of (a, b, e, alpha, beta) as they read from the means."""
        theta = np.array(theta, float)
        theta[..., 0] -= theta[..., 3] * self.x_mean
        theta[..., 1] -= theta[..., 4] * self.y_mean
        return theta

    def plain(self, theta: np.ndarray) -> np.ndarray:
        """The inverse of `centred`."""
        theta = np.array(theta, float)
        theta[..., 0] += theta[..., 3] * self.x_mean
        theta[..., 1] += theta[..., 4] * self.y_mean
        return theta


def predict(theta: np.ndarray, points: Points) -> tuple[np.ndarray, np.ndarray]:
    """log L of each fit (rows) at each point, and the shares (3, fits, points) of its terms."""
    a, b, e, alpha, beta = (column[:, None] for column in theta.T)
    terms = np.empty((3, len(theta), len(points.x)))
    terms[0] = a - alpha * points.x
    terms[1] = b - beta * points.y
    terms[2] = e
    top = terms.max(axis=0)
    terms -= top
    np.exp(terms, out=terms)
    total = terms.sum(axis=0)
    terms /= total
    return np.log(total) + top, terms


def huber(residual: np.ndarray, delta: float | np.ndarray) -> np.ndarray:
    """Half the square up to delta, then a straight line (Huber 1964)."""
    size = np.abs(residual)
    inside = np.minimum(size, delta)
    return inside * (size - inside / 2)


def objective(theta, points: Points, z: np.ndarray, weights: np.ndarray, delta) -> np.ndarray:
    """Sum over the points of weighted Huber losses, one number a fit."""
    log_loss, _ = predict(theta, points)
    return (weights * huber(log_loss - z, delta)).sum(axis=1)


def derivatives(theta, points: Points, z: np.ndarray, weights: np.ndarray, delta):
    """Objective, gradient (fits, 5), Hessian (fits, 5, 5), and a majorising Hessian.

    The last weighs a point beyond delta by delta / |residual| and leaves the law's curvature out:
    it is never indefinite, so that it damps the true one safely.
    """
    log_loss, (p, q, s) = predict(theta, points)
    residual = log_loss - z
    size = np.abs(residual)
    slope = weights * np.clip(residual, -delta, delta)
    majorised = weights * (delta / np.maximum(size, delta))
    flat = weights * (size <= delta)
    jacobian = np.stack([p, q, s, -p * points.x, -q * points.y], axis=1)  # (fits, 5, points)
    gradient = np.einsum("mkn,mn->mk", jacobian, slope)
    across = jacobian.transpose(0, 2, 1)
    hessian = (jacobian * (flat - slope)[:, None, :]) @ across
    safe = (jacobian * majorised[:, None, :]) @ across
    # The law's own curvature: sum of share_k z_k z_k', less the outer product taken above.
    for first, second, share, along in ((0, 3, p, points.x), (1, 4, q, points.y)):
        weighted = slope * share
        mixed = weighted @ along
        hessian[:, first, first] += weighted.sum(axis=1)
        hessian[:, first, second] -= mixed
        hessian[:, second, first] -= mixed
        hessian[:, second, second] += weighted @ along**2
    hessian[:, 2, 2] += (slope * s).sum(axis=1)
    value = (weights * huber(residual, delta)).sum(axis=1)
    return value, gradient, hessian, safe


def solve(theta, points: Points, z=None, weights=None, delta=1e-3):
    """Minimise from every row of `theta` (centred); returns theta, objectives and converged flags.

    `z` (log losses) and `weights` are one row for all fits or a row a fit; `delta` one number or
    one a fit.
    """
    theta = np.array(theta, float)
    shape = (len(theta), len(points.x))
    z = np.broadcast_to(points.z if z is None else z, shape)
    weights = np.broadcast_to(1.0 if weights is None else weights, shape)
    delta = np.broadcast_to(np.reshape(delta, (-1, 1)), (len(theta), 1))
    parts = [slice(i, i + CHUNK) for i in range(0, len(theta), CHUNK)]

    def one(part: slice):
        return _solve_chunk(theta[part], points, z[part], weights[part], delta[part])

    # One after another: arrays of this size gain nothing from a second thread.
    return tuple(np.concatenate(column) for column in zip(*map(one, parts)))


def _solved(systems: np.ndarray, right: np.ndarray) -> np.ndarray:
    try:
        return np.linalg.solve(systems, right[..., None])[..., 0]
    except np.linalg.LinAlgError:  # one system is singular to the bit: least squares for all
        return (np.linalg.pinv(systems) @ right[..., None])[..., 0]


def _solve_chunk(theta, points: Points, z, weights, delta):
    """Levenberg's damping of the true Hessian by the majorising one, a damping for each fit."""
    theta = theta.copy()
    value = objective(theta, points, z, weights, delta)
    converged = np.zeros(len(theta), bool)
    damping = np.ones(len(theta))
    going = np.arange(len(theta))
    here = derivatives(theta, points, z, weights, delta)
    for _ in range(MAX_STEPS):
        _, gradient, hessian, safe = here
        size = np.trace(safe, axis1=1, axis2=2)[:, None, None] * np.eye(5)
        held = damping[going, None, None] * (safe + 1e-6 * size)
        step = -_solved(hessian + held + 1e-13 * size, gradient)
        promised = -(gradient * step).sum(axis=1)
        trial = theta[going] + np.clip(step, -5, 5)
        there = derivatives(trial, points, z[going], weights[going], delta[going])
        better = there[0] <= value[going] * (1 + ROUNDING)
        done = (np.abs(promised) <= SHARE_LEFT * value[going] + TINY) & (
            (damping[going] <= 1) | (value[going] < TINY)
        )
        moved = going[better]
        theta[moved], value[moved] = trial[better], there[0][better]
        damping[going] = np.where(better, damping[going] / 8, damping[going] * 6)
        np.clip(damping, 1e-9, 1e9, out=damping)
        # A fit whose damping is spent can fall no further in these numbers.
        spent = damping[going] >= 1e9
        converged[going[done]] = True
        keep = ~(done | spent)
        choose = better[:, None]
        here = (
            np.where(better, there[0], here[0]),
            np.where(choose, there[1], here[1]),
            np.where(choose[..., None], there[2], here[2]),
            np.where(choose[..., None], there[3], here[3]),
        )
        here = tuple(part[keep] for part in here)
        going = going[keep]
        if not len(going):
            break
    return theta, value, converged
