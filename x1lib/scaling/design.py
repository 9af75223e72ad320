"""What a sweep can tell, computed before anything is trained."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from x1lib.scaling import solver
from x1lib.scaling.fit import NoSpreadError, theta_of
from x1lib.scaling.laws import Law, ScalingError
from x1lib.scaling.published import PUBLISHED

NORMAL_95 = 1.959964  # standard deviations to either side of a 95% interval
SMALL = 1e-9  # a singular value below this share of the largest is rounding


@dataclass(frozen=True)
class Identifiability:
    """What the points of a design determine, by the law linearised at a guess.

    rank: of 5 unknowns. condition: of the Jacobian with columns of length one, N and D measured
    from their means in log; infinite below rank 5. n_sizes, n_token_counts: distinct ones.
    saturated_in_n: three sizes or fewer, which E, A and alpha pass through whatever N counts, so
    that no residual can tell which N is right; saturated_in_d likewise.
    interval_optimal_tokens_1e9: 95% interval to expect of D_opt for 1e9 parameters, in tokens;
    (0, inf) where the design does not determine it. se_log_optimal_tokens_1e9: its standard error,
    in natural logs.
    """

    rank: int
    condition: float
    n_sizes: int
    n_token_counts: int
    saturated_in_n: bool
    saturated_in_d: bool
    se_log_optimal_tokens_1e9: float
    interval_optimal_tokens_1e9: tuple[float, float]


def identifiability(
    n_params,
    n_tokens,
    law: Law = PUBLISHED["besiroglu2024"].law,
    sigma: float = 0.003,
    trunk=None,
    sigma_trunk: float = 0.0,
) -> Identifiability:
    """Rank, condition and expected interval of a design, for a least-squares fit.

    sigma is the standard deviation of a point's log loss; sigma_trunk that of what the points of
    one `trunk` share. Raises ScalingError for unusable numbers, NoSpreadError for no points.
    """
    n_params, n_tokens = (np.asarray(v, float).ravel() for v in (n_params, n_tokens))
    if len(n_params) != len(n_tokens):
        raise ScalingError(f"{len(n_params)} sizes and {len(n_tokens)} token counts; give pairs")
    if not len(n_params):
        raise NoSpreadError("a design of no points determines nothing; give sizes and tokens")
    if not all(np.isfinite(v).all() and (v > 0).all() for v in (n_params, n_tokens)):
        raise ScalingError("a size or token count is not a finite number above 0; correct it")
    if not (math.isfinite(sigma) and sigma > 0 and math.isfinite(sigma_trunk) and sigma_trunk >= 0):
        raise ScalingError(f"sigma {sigma} and sigma_trunk {sigma_trunk}; give noise in log loss")
    if sigma_trunk and (trunk is None or np.size(trunk) != len(n_params)):
        raise ScalingError("sigma_trunk needs a trunk for each point; name them")
    points = solver.Points.of(n_params, n_tokens, law.loss(n_params, n_tokens))
    _, (p, q, s) = solver.predict(points.centred(theta_of(law))[None], points)
    columns = [p[0], q[0], s[0], -p[0] * points.x, -q[0] * points.y]
    jacobian = np.column_stack(columns)
    scale = np.linalg.norm(jacobian, axis=0)
    scale[scale == 0] = 1.0
    u, singular, vt = np.linalg.svd(jacobian / scale, full_matrices=False)
    rank = int((singular > SMALL * singular[0]).sum())
    noise = sigma**2 * np.eye(len(n_params))
    if sigma_trunk:
        groups = np.asarray(trunk).ravel()
        noise += sigma_trunk**2 * (groups[:, None] == groups[None, :])
    centre, slope = _log_optimal_tokens(law, math.log(1e9), points)
    slope = slope / scale
    seen = vt[:rank]
    hidden = slope - seen.T @ (seen @ slope)
    if np.linalg.norm(hidden) > 1e-6 * np.linalg.norm(slope):
        error, interval = math.inf, (0.0, math.inf)
    else:
        weights = u[:, :rank] @ ((seen @ slope) / singular[:rank])  # of each point on log D_opt
        error = math.sqrt(weights @ noise @ weights)
        width = min(NORMAL_95 * error, 700.0 - abs(centre))
        interval = (math.exp(centre - width), math.exp(centre + width))
    n_sizes, n_counts = len(np.unique(n_params)), len(np.unique(n_tokens))
    return Identifiability(
        rank=rank,
        condition=float(singular[0] / singular[-1]) if rank == 5 else math.inf,
        n_sizes=n_sizes,
        n_token_counts=n_counts,
        saturated_in_n=n_sizes <= 3,
        saturated_in_d=n_counts <= 3,
        se_log_optimal_tokens_1e9=error,
        interval_optimal_tokens_1e9=interval,
    )


def _log_optimal_tokens(law: Law, log_n: float, points: solver.Points):
    """log D_opt at a size, and its slope in the centred (a, b, e, alpha, beta)."""
    value = math.log(law.optimal_tokens(math.exp(log_n)))
    # log D = (log(beta / alpha) + b - a + alpha log N) / beta, with a = a' + alpha x_mean ...
    x, y = points.x_mean, points.y_mean
    slope = [-1, 1, 0, log_n - x - 1 / law.alpha, 1 / law.beta + y - value]
    return value, np.array(slope) / law.beta
