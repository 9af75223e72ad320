"""The parametric law of loss in parameters and tokens, and the sizes that it calls optimal.

Everywhere N is a number of parameters, D of training tokens, C of training FLOPs, and a loss is in
nats per token. Where nothing else is said, C = 6 N D.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq

from x1lib import X1Error

FLOPS_PER_PARAM_TOKEN = 6.0  # forward 2, backward 4
FlopsPerToken = Callable[[float], float]  # N -> FLOPs of one training token


class ScalingError(X1Error, ValueError):
    """Points, or a law, that a scaling law cannot be fitted to or computed from."""


@dataclass(frozen=True)
class Optimum:
    """The compute-optimal run for a budget: n_params, n_tokens, and the loss that it reaches."""

    n_params: float
    n_tokens: float
    loss: float

    @property
    def tokens_per_param(self) -> float:
        return self.n_tokens / self.n_params


@dataclass(frozen=True)
class Law:
    """L(N, D) = E + A / N^alpha + B / D^beta, in nats per token (Hoffmann 2022, equation 2)."""

    E: float
    A: float
    alpha: float
    B: float
    beta: float

    def __post_init__(self) -> None:
        for name in ("E", "A", "alpha", "B", "beta"):
            value = getattr(self, name)
            if not math.isfinite(value):
                raise ScalingError(f"{name} is {value}; a law takes five finite numbers")
        if self.A <= 0 or self.B <= 0:
            raise ScalingError(f"A is {self.A} and B is {self.B}; a law takes both above 0")

    @property
    def a(self) -> float:
        """Exponent of C in the optimal N, beta / (alpha + beta); D grows with 1 - a."""
        return self.beta / (self.alpha + self.beta)

    def loss(self, n_params, n_tokens):
        """Loss at N and D, numbers or arrays that broadcast."""
        n_params, n_tokens = np.asarray(n_params, float), np.asarray(n_tokens, float)
        return self.E + self.A * n_params**-self.alpha + self.B * n_tokens**-self.beta

    def optimal_tokens(self, n_params: float, flops_per_token: FlopsPerToken | None = None):
        """Tokens D for which N parameters is the optimal size.

        `flops_per_token` gives the real cost of a token where it is not 6 N, as when N counts the
        body only: the cost then grows more slowly than N, and D is smaller.
        Raises ScalingError where no optimum exists (an exponent that is not positive), or for a
        size that is not above 0.
        """
        self._needs_optimum()
        if not (math.isfinite(n_params) and n_params > 0):
            raise ScalingError(f"n_params is {n_params}; give a finite size above 0")
        growth = 1.0 if flops_per_token is None else _elasticity(flops_per_token, n_params)
        ratio = growth * self.beta * self.B / (self.alpha * self.A)
        return (ratio * n_params**self.alpha) ** (1 / self.beta)

    def optimal(self, C: float, flops_per_token: FlopsPerToken | None = None) -> Optimum:
        """N and D of least loss at C FLOPs, over the real cost of a token where it is given.

        Raises ScalingError where C is not positive or no optimum exists.
        """
        self._needs_optimum()
        if not (math.isfinite(C) and C > 0):
            raise ScalingError(f"C is {C}; give training FLOPs above 0")
        if flops_per_token is None:
            G = (self.alpha * self.A / (self.beta * self.B)) ** (1 / (self.alpha + self.beta))
            n_params = G * (C / FLOPS_PER_PARAM_TOKEN) ** self.a
            n_tokens = C / (FLOPS_PER_PARAM_TOKEN * n_params)
        else:

            def excess(log_n: float) -> float:
                n = math.exp(log_n)
                cost = self.optimal_tokens(n, flops_per_token) * flops_per_token(n)
                return math.log(cost) - math.log(C)

            low, high = 0.0, math.log(C)  # N from one parameter to one a FLOP
            if not excess(low) < 0 < excess(high):
                raise ScalingError(f"no size spends C = {C:g} FLOPs; give a larger budget")
            n_params = math.exp(brentq(excess, low, high, xtol=1e-12))
            n_tokens = C / flops_per_token(n_params)
        return Optimum(n_params, n_tokens, float(self.loss(n_params, n_tokens)))

    def tokens_per_param(self, C: float, flops_per_token: FlopsPerToken | None = None) -> float:
        """Optimal D / N at C FLOPs."""
        return self.optimal(C, flops_per_token).tokens_per_param

    def compute_for(self, loss):
        """Least FLOPs that reach each loss, C = 6 N D at its optimum; losses are above E."""
        self._needs_optimum()
        loss = np.asarray(loss, float)
        if not (np.isfinite(loss).all() and (loss > self.E).all()):
            raise ScalingError(
                f"a loss is not above E, {self.E:.4g} nats a token; no run reaches it"
            )
        # At the optimum L - E falls as a power of C.
        fall = self.alpha * self.beta / (self.alpha + self.beta)
        return ((loss - self.E) / (self.optimal(1.0).loss - self.E)) ** (-1 / fall)

    def _needs_optimum(self) -> None:
        if self.alpha <= 0 or self.beta <= 0:
            raise ScalingError(
                f"alpha is {self.alpha:.3g} and beta is {self.beta:.3g}; a law has an optimum only"
                " where both are above 0, so fit more sizes or more token counts"
            )


def _elasticity(cost: FlopsPerToken, n_params: float, step: float = 1e-4) -> float:
    """d log cost / d log N, by a central difference."""
    up, down = n_params * math.exp(step), n_params * math.exp(-step)
    return (math.log(cost(up)) - math.log(cost(down))) / (2 * step)


def cost_of_body(embedding_of_body: FlopsPerToken) -> FlopsPerToken:
    """FLOPs of a token for N that counts the body only: 6 (N + the head's parameters at that N)."""
    return lambda body: FLOPS_PER_PARAM_TOKEN * (body + embedding_of_body(body))
