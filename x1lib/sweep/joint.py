"""The other form of the law: Kaplan's, in which size matters little while tokens are few.

L(N, D) = ((Nc / N)^(aN / aD) + Dc / D)^aD (Kaplan et al. 2020, equation 1.5). In Hoffmann's form
the gap between two sizes is the same at every D; in this one it opens as D grows. At a few tokens a
parameter, where a CPU's sweep lies, only this one fits to the noise (LOG.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares

from x1lib.scaling import ScalingError, TooFewPointsError
from x1lib.sweep.points import Point, columns, finished

UNKNOWNS = 4
N_REFITS = 200
STARTS = [(nc, dc, an, ad) for nc in (6, 12) for dc in (6, 10) for an in (0.1, 0.25)
          for ad in (0.15, 0.3)]  # fmt: skip


@dataclass(frozen=True)
class JointLaw:
    """Kaplan's form; Nc and Dc by their logarithms, since they lie far outside what is measured."""

    log_nc: float
    log_dc: float
    alpha_n: float
    alpha_d: float

    def loss(self, n_params, n_tokens):
        """Loss [nats a token] at N and D, numbers or arrays that broadcast."""
        return np.exp(_log_loss(self._theta, np.log(n_params), np.log(n_tokens)))

    def optimal_tokens(self, n_params: float) -> float:
        """Tokens for which N is the optimal size, at C = 6 N D."""
        ratio = self.alpha_n / self.alpha_d
        log_d = self.log_dc - math.log(ratio) - ratio * (self.log_nc - math.log(n_params))
        return math.exp(min(log_d, 700.0))

    @property
    def _theta(self) -> np.ndarray:
        return np.array([self.log_nc, self.log_dc, self.alpha_n, self.alpha_d])


def _log_loss(theta, log_n, log_d):
    log_nc, log_dc, alpha_n, alpha_d = theta
    size = alpha_n / alpha_d * (log_nc - log_n)
    return alpha_d * np.logaddexp(size, log_dc - log_d)


@dataclass(frozen=True)
class Joint:
    """The joint form through points, N being one count; `theta` has a row a refit."""

    n: str
    law: JointLaw
    residuals: np.ndarray  # fitted less measured log loss, in the points' order
    theta: np.ndarray
    own_noise: float
    points: tuple[Point, ...]

    form = "joint"

    @property
    def rms(self) -> float:
        """Root mean square of the residuals, in log loss."""
        return float(np.sqrt((self.residuals**2).mean()))

    @property
    def spread(self) -> float:
        """The same, for the unknowns that were fitted: what forms are compared by."""
        return self.rms * math.sqrt(len(self.points) / max(1, len(self.points) - UNKNOWNS))

    def optimal_tokens(self, n_params: float = 1e9) -> float:
        """Tokens for which that size is the optimal one."""
        return self.law.optimal_tokens(n_params)

    def interval_optimal_tokens(self, n_params: float = 1e9) -> tuple[float, float]:
        """95% from the refits: the noise of points and trunks, and nothing else."""
        values = [JointLaw(*theta).optimal_tokens(n_params) for theta in self.theta]
        low, high = np.quantile(values, [0.025, 0.975])
        return float(low), float(high)

    def band(self, n_params: float, n_tokens: np.ndarray, level: float = 0.95):
        """Loss by the refits over token counts: the low and the high end of that share of them."""
        logs = [_log_loss(theta, math.log(n_params), np.log(n_tokens)) for theta in self.theta]
        return np.exp(np.quantile(logs, [(1 - level) / 2, (1 + level) / 2], axis=0))

    def formula(self) -> str:
        law, ratio = self.law, self.law.alpha_n / self.law.alpha_d
        nc, dc = math.exp(law.log_nc), math.exp(law.log_dc)
        return f"L = (({nc:.3g} / N)^{ratio:.3f} + {dc:.3g} / D)^{law.alpha_d:.3f}"

    def predict(self, n_params: float, n_tokens: float, level: float = 0.95, seed: int = 0):
        """Loss at a new run, and the interval in which one run of its own noise would come."""
        rng = np.random.default_rng(seed)
        x, y = math.log(n_params), math.log(n_tokens)
        logs = np.array([_log_loss(theta, x, y) for theta in self.theta])
        logs += self.own_noise * rng.standard_normal(len(logs))
        low, high = np.exp(np.quantile(logs, [(1 - level) / 2, (1 + level) / 2]))
        return float(self.law.loss(n_params, n_tokens)), float(low), float(high)


def fit_joint(points: Sequence[Point], n: str = "total", n_refits: int = N_REFITS) -> Joint:
    """Fit by least squares of log losses; refits to points with noise as the residuals show it.

    The noise is split into a part that a trunk shares and a part of each run, by what the trunks'
    mean residuals spread beyond their runs'. Raises TooFewPointsError or ScalingError.
    """
    points = finished(points)
    if len(points) <= UNKNOWNS:
        raise TooFewPointsError(f"{len(points)} points cannot fit {UNKNOWNS} unknowns; give more")
    data = columns(points, n)
    x, y, z = (np.log(data[key]) for key in ("n_params", "n_tokens", "loss"))
    middle = x.mean(), y.mean()

    def fitted(target: np.ndarray, start) -> np.ndarray:
        def left(theta):
            return _log_loss(theta, x - middle[0], y - middle[1]) - target

        bounds = ([-50, -50, 1e-3, 1e-3], [100, 100, 3, 3])
        found = least_squares(left, start, bounds=bounds)
        return found.x if np.isfinite(found.cost) else np.full(UNKNOWNS, np.nan)

    tries = [fitted(z, start) for start in STARTS]
    costs = [((_log_loss(t, x - middle[0], y - middle[1]) - z) ** 2).sum() for t in tries]
    best = tries[int(np.nanargmin(costs))]
    if not np.isfinite(best).all():
        raise ScalingError("the joint form does not fit these points; give more sizes and tokens")
    line = _log_loss(best, x - middle[0], y - middle[1])
    sigma, tau, groups = _noise(line - z, data["trunk"])
    rng, refits = np.random.default_rng(0), []
    for _ in range(n_refits):
        shared = (tau * rng.standard_normal(groups.max() + 1))[groups]
        refits.append(fitted(line + shared + sigma * rng.standard_normal(len(z)), best))
    theta = np.array([best, *refits]) + [*middle, 0, 0]  # as measured from N = D = 1 again
    return Joint(
        n=n,
        law=JointLaw(*map(float, theta[0])),
        residuals=line - z,
        theta=theta[1:],
        own_noise=math.hypot(sigma, tau),
        points=tuple(points),
    )


def _noise(residuals: np.ndarray, trunk) -> tuple[float, float, np.ndarray]:
    """Noise of a run and of a trunk (an analysis of variance), and each point's trunk."""
    _, groups = np.unique(trunk, return_inverse=True)
    counts = np.bincount(groups)
    means = np.bincount(groups, residuals) / counts
    freedom = max(1, len(residuals) - len(counts) - UNKNOWNS / 2)
    sigma2 = ((residuals - means[groups]) ** 2).sum() / freedom
    spread = (counts * means**2).sum() / max(1, len(counts) - UNKNOWNS / 2)
    tau2 = max(0.0, (spread - sigma2) / counts.mean())
    return math.sqrt(sigma2), math.sqrt(tau2), groups
