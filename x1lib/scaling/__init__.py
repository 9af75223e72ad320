"""Scaling laws: the published ones, their fits, and how far a fit can be trusted.

Arrays in, dataclasses out; numpy and scipy only. N parameters, D tokens, C FLOPs, losses in nats
per token.
"""

from x1lib.scaling.approaches import Frontier, IsoFlop, envelope, isoflop
from x1lib.scaling.bootstrap import Bootstrap, bootstrap
from x1lib.scaling.counting import (
    KAPLAN_BODIES,
    OMEGA,
    PORIAN_2024,
    Undone,
    embedding_params,
    exponent_seen,
    without_embedding,
)
from x1lib.scaling.design import Identifiability, identifiability
from x1lib.scaling.fit import (
    METHODS,
    BadPointError,
    DuplicatePointsError,
    Fit,
    NoSpreadError,
    TooFewPointsError,
    fit_law,
    starts,
)
from x1lib.scaling.laws import Law, Optimum, ScalingError, cost_of_body
from x1lib.scaling.published import (
    FLOPS_PER_PF_DAY,
    PUBLISHED,
    KaplanLaw,
    PublishedLaw,
    kaplan_loss_of_compute,
    kaplan_loss_of_params,
    kaplan_loss_of_tokens,
)
from x1lib.scaling.repetition import MUENNIGHOFF_2023, RepetitionLaw
from x1lib.scaling.serving import cheapest, lifetime_flops, tokens_for_loss

__all__ = [
    "FLOPS_PER_PF_DAY",
    "KAPLAN_BODIES",
    "METHODS",
    "MUENNIGHOFF_2023",
    "OMEGA",
    "PORIAN_2024",
    "PUBLISHED",
    "BadPointError",
    "Bootstrap",
    "DuplicatePointsError",
    "Fit",
    "Frontier",
    "Identifiability",
    "IsoFlop",
    "KaplanLaw",
    "Law",
    "NoSpreadError",
    "Optimum",
    "PublishedLaw",
    "RepetitionLaw",
    "ScalingError",
    "TooFewPointsError",
    "Undone",
    "bootstrap",
    "cheapest",
    "cost_of_body",
    "embedding_params",
    "envelope",
    "exponent_seen",
    "fit_law",
    "identifiability",
    "isoflop",
    "kaplan_loss_of_compute",
    "kaplan_loss_of_params",
    "kaplan_loss_of_tokens",
    "lifetime_flops",
    "starts",
    "tokens_for_loss",
    "without_embedding",
]
