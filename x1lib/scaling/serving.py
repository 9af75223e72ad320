"""Which size is cheapest over a model's life: trained to a loss once, then served."""

from __future__ import annotations

import math

import numpy as np

from x1lib.scaling.laws import FLOPS_PER_PARAM_TOKEN, Law, Optimum, ScalingError

FLOPS_PER_SERVED = 2.0  # FLOPs a parameter of a token served: the forward pass alone
N_TRIED = 20_001  # sizes on a grid in log N, a thousandth apart over the widest range
SPAN = 1e4  # of the sizes tried, from the smallest that can reach the loss at all


def tokens_for_loss(law: Law, n_params, loss: float) -> np.ndarray:
    """Training tokens after which each size reaches the loss; inf for a size that never does."""
    if not (math.isfinite(loss) and loss > law.E):
        raise ScalingError(f"loss is {loss}; give one above E, {law.E:.4g} nats a token")
    room = loss - law.E - law.A * np.asarray(n_params, float) ** -law.alpha
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(room > 0, (law.B / np.where(room > 0, room, 1)) ** (1 / law.beta), np.inf)


def lifetime_flops(law: Law, n_params, loss: float, served_tokens: float) -> np.ndarray:
    """FLOPs to train each size to the loss and to serve it: 6 N D + 2 N served_tokens.

    Source: Sardana & Frankle 2024, arXiv:2401.00448, section 2.
    """
    if not (math.isfinite(served_tokens) and served_tokens >= 0):
        raise ScalingError(f"served_tokens is {served_tokens}; give a number of 0 or more")
    n_params = np.asarray(n_params, float)
    trained = FLOPS_PER_PARAM_TOKEN * n_params * tokens_for_loss(law, n_params, loss)
    return trained + FLOPS_PER_SERVED * n_params * served_tokens


def cheapest(law: Law, loss: float, served_tokens: float) -> Optimum:
    """N and D of least FLOPs over life for a model that reaches the loss and serves so much."""
    law._needs_optimum()
    tokens_for_loss(law, 1.0, loss)  # refuses a loss that nothing reaches
    least = (law.A / (loss - law.E)) ** (1 / law.alpha)  # reaches the loss on endless data
    sizes = least * np.geomspace(1 + 1e-6, SPAN, N_TRIED)
    best = float(sizes[int(lifetime_flops(law, sizes, loss, served_tokens).argmin())])
    return Optimum(best, float(tokens_for_loss(law, best, loss)), loss)
