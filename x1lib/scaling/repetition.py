"""What repeated tokens are worth (Muennighoff et al. 2023, arXiv:2305.16264, appendix A)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from x1lib.scaling.laws import FLOPS_PER_PARAM_TOKEN, Law, Optimum, ScalingError


@dataclass(frozen=True)
class RepetitionLaw:
    """A law whose N and D saturate: each repetition of the data, and each parameter in excess of
    what the unique tokens could fill, is worth less than the one before.

    r_tokens and r_params (R*_D and R*_N) are the repetitions after which the worth has fallen to
    1/e. Arrays broadcast; tokens of one epoch give the law itself.
    """

    law: Law
    r_tokens: float
    r_params: float

    def effective_tokens(self, n_tokens, unique_tokens):
        """Fresh tokens worth as much as n_tokens drawn from unique_tokens."""
        n_tokens = _positive(n_tokens, "n_tokens")
        unique = np.minimum(_positive(unique_tokens, "unique_tokens"), n_tokens)
        return unique + unique * self.r_tokens * -np.expm1(-(n_tokens / unique - 1) / self.r_tokens)

    def effective_params(self, n_params, unique_tokens):
        """Parameters worth as much where unique_tokens are all there are to learn from."""
        n_params = _positive(n_params, "n_params")
        fitting = self._size_for(_positive(unique_tokens, "unique_tokens"))
        used = np.minimum(fitting, n_params)
        return used + used * self.r_params * -np.expm1(-(n_params / used - 1) / self.r_params)

    def loss(self, n_params, n_tokens, unique_tokens):
        """Loss in nats per token after n_tokens drawn from unique_tokens."""
        # A run that does not use up the unique tokens is bounded by those it saw.
        unique = np.minimum(_positive(unique_tokens, "unique_tokens"), n_tokens)
        return self.law.loss(
            self.effective_params(n_params, unique), self.effective_tokens(n_tokens, unique)
        )

    def optimal(self, C: float, unique_tokens: float) -> Optimum:
        """N and D of least loss at C = 6 N D FLOPs with unique_tokens at hand."""
        free = self.law.optimal(C)
        if free.n_tokens <= unique_tokens:
            return free
        log_n = np.log(free.n_params) + np.linspace(-math.log(100), math.log(100), 20001)
        n_params = np.exp(log_n)
        n_tokens = C / (FLOPS_PER_PARAM_TOKEN * n_params)
        losses = self.loss(n_params, n_tokens, unique_tokens)
        best = int(losses.argmin())
        return Optimum(float(n_params[best]), float(n_tokens[best]), float(losses[best]))

    def _size_for(self, n_tokens):
        """The size for which n_tokens are compute-optimal, the inverse of Law.optimal_tokens."""
        law = self.law
        ratio = law.alpha * law.A / (law.beta * law.B)
        return (ratio * n_tokens**law.beta) ** (1 / law.alpha)


def _positive(values, name: str) -> np.ndarray:
    values = np.asarray(values, float)
    if not (np.isfinite(values).all() and (values > 0).all()):
        raise ScalingError(f"{name} holds something that is no finite number above 0; leave it out")
    return values


# alpha and beta were tied in the fit on C4.
MUENNIGHOFF_2023 = RepetitionLaw(
    Law(math.exp(0.6254804), math.exp(6.255414), 0.3526596, math.exp(7.3049974), 0.3526596),
    r_tokens=15.387756,
    r_params=5.309743,
)
