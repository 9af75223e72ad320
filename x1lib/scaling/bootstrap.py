"""How far a fitted law could have come out otherwise: two bootstraps.

Case resampling suits points whose noise is independent. Points that are branches of one trunk share
its noise; for them the noise is split into a part for each trunk and a part for each point, and
whole sweeps are simulated with both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from x1lib.scaling import solver
from x1lib.scaling.fit import Fit, checked, fit_law
from x1lib.scaling.laws import ScalingError

NAMES = ("E", "A", "alpha", "B", "beta", "a")
# Ratios of trunk noise to point noise that are weighed, by a half-Cauchy prior: with few trunks a
# flat one allows so much noise that intervals cover too often (Gelman 2006, section 5).
RATIOS = np.linspace(0, 20, 401)
LOG_PRIOR = -np.log1p(RATIOS**2)


@dataclass(frozen=True)
class Bootstrap:
    """Refitted laws: `theta` has a row (a, b, e, alpha, beta) a resample.

    kind: "case" or "trunk". share_converged: of the refits. sigma_point, sigma_trunk: medians of
    the noise drawn, in log loss, None for case resampling. `fit` is the fit to the points as given.
    """

    kind: str
    fit: Fit
    theta: np.ndarray
    share_converged: float
    sigma_point: float | None = None
    sigma_trunk: float | None = None

    def values(self, name: str) -> np.ndarray:
        """Every resample's E, A, alpha, B, beta, a, or optimal_tokens:N; NaN where it has none."""
        a, b, e, alpha, beta = self.theta.T
        simple = {"E": np.exp(e), "A": np.exp(a), "B": np.exp(b), "alpha": alpha, "beta": beta}
        if name in simple:
            return simple[name]
        possible = (alpha > 0) & (beta > 0)
        alpha, beta = np.where(possible, alpha, np.nan), np.where(possible, beta, np.nan)
        if name == "a":
            return beta / (alpha + beta)
        kind, _, size = name.partition(":")
        if kind != "optimal_tokens" or not size:
            raise ScalingError(f"no {name!r}; give one of {', '.join(NAMES)}, optimal_tokens:1e9")
        try:
            n_params = float(size)
        except ValueError:
            raise ScalingError(f"{size!r} is no size; give optimal_tokens:1e9") from None
        if not (math.isfinite(n_params) and n_params > 0):
            raise ScalingError(f"{size!r} is no size above 0; give optimal_tokens:1e9")
        log_tokens = (np.log(beta / alpha) + b - a + alpha * np.log(n_params)) / beta
        with np.errstate(over="ignore"):
            return np.exp(log_tokens)

    def se(self, name: str) -> float:
        """Standard deviation over the resamples that have the quantity; NaN for fewer than 2."""
        values = self.values(name)
        values = values[np.isfinite(values)]
        return float(values.std(ddof=1)) if len(values) > 1 else math.nan

    def interval(self, name: str, level: float = 0.95) -> tuple[float, float]:
        """Percentile interval; a resample without an optimum counts as unbounded at both ends."""
        if not 0 < level < 1:
            raise ScalingError(f"level is {level}; give a share between 0 and 1")
        values = self.values(name)
        tail = (1 - level) / 2
        low = np.quantile(np.where(np.isnan(values), -np.inf, values), tail, method="lower")
        high = np.quantile(np.where(np.isnan(values), np.inf, values), 1 - tail, method="higher")
        return float(low), float(high)


def bootstrap(
    n_params,
    n_tokens,
    loss,
    n_resamples: int = 4000,
    seed: int = 0,
    trunk=None,
    delta: float = 1e-3,
    fit: Fit | None = None,
) -> Bootstrap:
    """Refit by Huber(delta) to resampled points, or to simulated sweeps where `trunk` is given.

    `trunk` names for each point the run that it was cut from; `fit` is the Huber fit to the points
    where it has been made already. Raises the errors of `fit_law`, and
    ScalingError where trunks or resamples are too few.
    """
    n_params, n_tokens, loss = checked(n_params, n_tokens, loss)
    if n_resamples < 2:
        raise ScalingError(f"n_resamples is {n_resamples}; give 2 or more")
    if seed < 0:
        raise ScalingError(f"seed is {seed}; give 0 or more")
    fit = fit or fit_law(n_params, n_tokens, loss, delta=delta)
    points = solver.Points.of(n_params, n_tokens, loss)
    log_law = np.log([fit.law.A, fit.law.B, fit.law.E])
    best = points.centred(np.array([*log_law, fit.law.alpha, fit.law.beta]))
    begin = np.repeat(best[None], n_resamples, axis=0)
    rng = np.random.default_rng(seed)
    if trunk is None:
        size = len(loss)
        weights = rng.multinomial(size, np.full(size, 1 / size), size=n_resamples).astype(float)
        theta, _, converged = solver.solve(begin, points, weights=weights, delta=delta)
        return Bootstrap("case", fit, points.plain(theta), float(converged.mean()))
    groups = _groups(trunk, len(loss))
    sigma, tau = _noise(best, points, groups, n_resamples, rng)
    noise = sigma[:, None] * rng.standard_normal((n_resamples, len(loss)))
    noise += (tau[:, None] * rng.standard_normal((n_resamples, groups.max() + 1)))[:, groups]
    fitted = solver.predict(best[None], points)[0]
    theta, _, converged = solver.solve(begin, points, z=fitted + noise, delta=delta)
    medians = float(np.median(sigma)), float(np.median(tau))
    return Bootstrap("trunk", fit, points.plain(theta), float(converged.mean()), *medians)


def _groups(trunk, size: int) -> np.ndarray:
    _, groups = np.unique(np.asarray(trunk).ravel(), return_inverse=True)
    if len(groups) != size:
        raise ScalingError(f"{len(groups)} trunks for {size} points; name one for each point")
    if not 4 <= groups.max() + 1 < size:
        raise ScalingError(
            f"{groups.max() + 1} trunks for {size} points; splitting the noise takes 4 or more, and"
            " several points on some; without branches leave trunk out"
        )
    return groups


def _noise(theta, points: solver.Points, groups, n_draws: int, rng):
    """Draws of (sigma of a point, sigma of a trunk), given what the fit leaves.

    The law is linearised at the fit, and the restricted likelihood, which does not count the noise
    that five fitted unknowns absorb, is weighed over the ratio of the two.
    """
    log_loss, (p, q, s) = solver.predict(theta[None], points)
    columns = [p[0], q[0], s[0], -p[0] * points.x, -q[0] * points.y]
    basis, singular, _ = np.linalg.svd(np.column_stack(columns), full_matrices=True)
    rank = int((singular > 1e-10 * singular[0]).sum())
    left = basis[:, rank:]  # directions that the law cannot follow
    freedom = left.shape[1]
    shared = left.T @ (groups[:, None] == groups[None, :]).astype(float) @ left
    spread, axes = np.linalg.eigh(shared)
    power = (axes.T @ (left.T @ (points.z - log_loss[0]))) ** 2
    variance = 1 + RATIOS[:, None] ** 2 * np.maximum(spread, 0)
    squares = (power / variance).sum(axis=1)
    # sigma integrated out under a prior of 1 / sigma.
    weight = LOG_PRIOR - 0.5 * np.log(variance).sum(axis=1) - freedom / 2 * np.log(squares)
    weight = np.exp(weight - weight.max())
    drawn = rng.choice(len(RATIOS), size=n_draws, p=weight / weight.sum())
    sigma = np.sqrt(squares[drawn] / rng.chisquare(freedom, n_draws))
    return sigma, RATIOS[drawn] * sigma
