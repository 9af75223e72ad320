"""Why Kaplan and Chinchilla disagree: another count of N, and what else Porian et al. undid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from x1lib.scaling.laws import Law, ScalingError, cost_of_body

# Embedding parameters are OMEGA * body^(1/3): Pearce & Song 2024, arXiv:2406.12907, section 3,
# fitted to Hoffmann's models.
OMEGA = 47_491.0
# Smallest and largest model of Kaplan 2020, parameters without embedding (section 3).
KAPLAN_BODIES = (768.0, 1.5e9)


@dataclass(frozen=True)
class Undone:
    """One more difference undone, and the exponent of C in the optimal N that is left after it.

    low and high are the 2.5% and 97.5% quantiles of the authors' bootstrap.
    """

    what: str
    exponent: float
    low: float
    high: float


# Porian et al. 2024, arXiv:2406.19146, by data set, each row with all above it undone too. Read on
# 2026-11-22 from the fits that the authors released (github.com/formll/
# resolving-scaling-law-discrepancies at 0dc60d91, MIT: data/summary_df.pickle.xz, sha256
# afbf07ec92d2..., and data/summary_df_owt2.pickle.xz, 7aed67d1ad9b...): n_exponent of
# bs_median_weighted, and quantiles of bootstrap_weighted. The first row is of training losses, the
# others of held-out ones; from the second row on N and C hold the head.
PORIAN_2024 = {
    "RefinedWeb": (
        Undone("as Kaplan did it", 0.8353, 0.8235, 0.8460),
        Undone("head counted", 0.7065, 0.6915, 0.7169),
        Undone("short warm-up", 0.6020, 0.5914, 0.6173),
        Undone("cosine decay to each run's end", 0.5715, 0.5598, 0.5885),
        Undone("tuned at each size, no decay at all", 0.4969, 0.4907, 0.5045),
    ),
    "OpenWebText2": (
        Undone("as Kaplan did it", 0.8635, 0.8186, 0.8974),
        Undone("head counted", 0.6985, 0.6644, 0.7245),
        Undone("short warm-up", 0.6032, 0.5702, 0.6287),
        Undone("cosine decay to each run's end", 0.5743, 0.5423, 0.6056),
        Undone("tuned at each size, no decay at all", 0.5185, 0.4931, 0.5414),
    ),
}


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
    count_head_flops: bool | None = None,
) -> float:
    """Exponent of C in the optimal N that a sweep between two sizes of body would find.

    Without embeddings N and C count the body only (Kaplan's way; Pearce & Song 2024 find .78 where
    the law itself has about .50); with them N and C count the total. count_head_flops, where given,
    says of C alone whether it holds the head.
    """
    body = np.geomspace(*bodies, n_sizes)
    head = embeddings if count_head_flops is None else count_head_flops
    C, _ = without_embedding(law, body, omega, count_head_flops=head)
    counted = body + embedding_params(body, omega) if embeddings else body
    log_c = np.log(C)
    budgets = np.linspace(log_c[0], log_c[-1], n_sizes)  # evenly spaced, as sweeps are
    log_n = np.interp(budgets, log_c, np.log(counted))
    return float(np.polyfit(budgets, log_n, 1)[0])
