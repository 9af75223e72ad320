"""Published laws and their sources; N counts what the entry says."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from x1lib.scaling.laws import FLOPS_PER_PARAM_TOKEN, Law, Optimum, ScalingError

FLOPS_PER_PF_DAY = 1e15 * 86400


@dataclass(frozen=True)
class KaplanLaw:
    """Kaplan 2020: L(N, D) = ((N_c / N)^(alpha_N / alpha_D) + D_c / D)^alpha_D, N the body.

    N_c, alpha_N, D_c and alpha_D are the joint fit (table 2); `N_e` parameters at one PF-day and
    `p_N` are the compute-efficient size (table 6). C is 6 N D at the least steps that reach a loss
    (the paper's C_min). The two parts of the paper were fitted apart, and do not agree.
    """

    N_c: float
    alpha_N: float
    D_c: float
    alpha_D: float
    N_e: float
    p_N: float

    @property
    def a(self) -> float:
        """Exponent of C in the optimal N."""
        return self.p_N

    def loss(self, n_params, n_tokens):
        """Loss at N (without embedding) and D, numbers or arrays that broadcast."""
        n_params, n_tokens = np.asarray(n_params, float), np.asarray(n_tokens, float)
        inner = (self.N_c / n_params) ** (self.alpha_N / self.alpha_D) + self.D_c / n_tokens
        return inner**self.alpha_D

    def optimal(self, C: float) -> Optimum:
        """The compute-efficient N at C FLOPs, and D = C / 6N; raises ScalingError for C <= 0."""
        if not (math.isfinite(C) and C > 0):
            raise ScalingError(f"C is {C}; give training FLOPs above 0")
        n_params = self.N_e * (C / FLOPS_PER_PF_DAY) ** self.p_N
        n_tokens = C / (FLOPS_PER_PARAM_TOKEN * n_params)
        return Optimum(n_params, n_tokens, float(self.loss(n_params, n_tokens)))

    def optimal_tokens(self, n_params: float) -> float:
        """Tokens D for which N is the compute-efficient size."""
        C = FLOPS_PER_PF_DAY * (n_params / self.N_e) ** (1 / self.p_N)
        return C / (FLOPS_PER_PARAM_TOKEN * n_params)

    def tokens_per_param(self, C: float) -> float:
        """D / N of the compute-efficient size at C FLOPs."""
        return self.optimal(C).tokens_per_param


@dataclass(frozen=True)
class PublishedLaw:
    """A published law, which parameters its N counts, where it stands, and what to know of it."""

    law: Law | KaplanLaw
    counts: str
    source: str
    note: str


def kaplan_loss_of_params(n_params):
    """Loss of N parameters (without embedding) on endless data (Kaplan 2020, equation 1.1)."""
    return (8.8e13 / np.asarray(n_params, float)) ** 0.076


def kaplan_loss_of_tokens(n_tokens):
    """Loss of a large model stopped early on D tokens (Kaplan 2020, equation 1.2)."""
    return (5.4e13 / np.asarray(n_tokens, float)) ** 0.095


def kaplan_loss_of_compute(C):
    """Loss of the compute-efficient run at C FLOPs, C_min in the paper (equation 1.3)."""
    return (3.1e8 * FLOPS_PER_PF_DAY / np.asarray(C, float)) ** 0.050


PUBLISHED = {
    "hoffmann2022": PublishedLaw(
        Law(math.exp(0.5267228), math.exp(6.0073404), 0.33917084, math.exp(6.0179186), 0.2849083),
        counts="total",
        source="Hoffmann et al. 2022, arXiv:2203.15556, TeX source; quoted by arXiv:2404.10102",
        note="the optimiser stopped before it converged, so that the law misses its own points",
    ),
    "hoffmann2022_rounded": PublishedLaw(
        Law(1.69, 406.4, 0.34, 410.7, 0.28),
        counts="total",
        source="Hoffmann et al. 2022, arXiv:2203.15556, equation 10",
        note="as printed: beta .2849 became .28, which changes B / D^beta by an eighth at 1e11"
        " tokens, and the exponent of N from .457 to .452",
    ),
    "besiroglu2024": PublishedLaw(
        Law(1.8172, 482.01, 0.3478, 2085.43, 0.3658),
        counts="total",
        source="Besiroglu et al. 2024, arXiv:2404.10102, table 1",
        note="refitted on points read off Hoffmann's figure 4, without the 5 highest losses",
    ),
    "kaplan2020": PublishedLaw(
        KaplanLaw(N_c=6.4e13, alpha_N=0.076, D_c=1.8e13, alpha_D=0.103, N_e=1.3e9, p_N=0.73),
        counts="body",
        source="Kaplan et al. 2020, arXiv:2001.08361, tables 2 and 6",
        note="no irreducible loss; embedding and head are in neither N nor C",
    ),
}
