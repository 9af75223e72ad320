"""Why Kaplan and Chinchilla disagree: the same law seen through another count of N."""

from __future__ import annotations

import numpy as np

from x1lib.scaling.laws import Law, ScalingError, cost_of_body

# Embedding parameters are OMEGA * body^(1/3): Pearce & Song 2024, arXiv:2406.12907, section 3,
# fitted to Hoffmann's models.
OMEGA = 47_491.0
# Smallest and largest model of Kaplan 2020, parameters without embedding (section 3).
KAPLAN_BODIES = (768.0, 1.5e9)


def embedding_params(body, omega: float = OMEGA):
    """Embedding parameters of a model with `body` others, on Pearce & Song's curve."""
    return omega * np.asarray(body, float) ** (1 / 3)


def without_embedding(law: Law, body, omega: float = OMEGA, count_head_flops: bool = False):
    """C and D at which each `body` is the optimal size, for a law whose N is the total.

    C leaves the embedding out too, 6 body D, unless `count_head_flops`. Arrays in, arrays out.
    """
    body = np.asarray(body, float)
    if not (np.isfinite(body).all() and (body > 0).all()):
        raise ScalingError("a body is not a finite number of parameters above 0; leave it out")
    total = body + embedding_params(body, omega)
    growth = (body + embedding_params(body, omega) / 3) / total  # d log total / d log body
    cost = cost_of_body(lambda n: embedding_params(n, omega)) if count_head_flops else None
    flops = 6 * body if cost is None else cost(body)
    # The cost of a token grows as body in the one case and as the total in the other.
    cost_growth = np.ones_like(body) if cost is None else growth
    gain = law.alpha * law.A * total**-law.alpha * growth / cost_growth
    n_tokens = (law.beta * law.B / gain) ** (1 / law.beta)
    return flops * n_tokens, n_tokens


def exponent_seen(
    law: Law,
    bodies=KAPLAN_BODIES,
    omega: float = OMEGA,
    embeddings: bool = False,
    n_sizes: int = 100,
) -> float:
    """Exponent of C in the optimal N that a sweep between two sizes of body would find.

    Without embeddings N and C count the body only (Kaplan's way; Pearce & Song 2024 find .78 where
    the law itself has about .50); with them N and C count the total.
    """
    body = np.geomspace(*bodies, n_sizes)
    C, _ = without_embedding(law, body, omega, count_head_flops=embeddings)
    counted = body + embedding_params(body, omega) if embeddings else body
    log_c = np.log(C)
    budgets = np.linspace(log_c[0], log_c[-1], n_sizes)  # evenly spaced, as sweeps are
    log_n = np.interp(budgets, log_c, np.log(counted))
    return float(np.polyfit(budgets, log_n, 1)[0])
