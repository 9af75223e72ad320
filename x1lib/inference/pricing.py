"""The price of a million tokens, and when a model of one's own has paid for itself.

A price here is what a machine costs while it decodes. It is not an API's price, which carries its
maker's margin, idle hours and prefill; compare models on one machine, at one price an hour.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from x1lib.inference.errors import InferenceError
from x1lib.inference.roofline import Peak, Work
from x1lib.scaling import Law, ScalingError
from x1lib.scaling.serving import cheapest, tokens_for_loss


@dataclass(frozen=True)
class HourPrice:
    """US dollars an hour of a machine without a card, as somebody read it: an example."""

    usd_per_hour: float
    what: str
    source: str


CPU_HOUR = HourPrice(
    0.0816,
    "two virtual cores (m7g.large, on demand, us-east-1, June 2026)",
    "factualminds.com/blog/amazon-ec2-on-demand-pricing-instance-families-2026, read 2026-11-22;"
    " not Amazon's own page",
)


def usd_per_million_tokens(
    tokens_per_sec: float, usd_per_hour: float, utilisation: float = 1.0
) -> float:
    """US dollars for a million generated tokens on a machine that decodes so fast.

    tokens_per_sec: of all texts in the batch, which with the context is the caller's to state.
    utilisation: share of the billed time in which the machine really decodes that batch, 0 to 1.
    Raises InferenceError for what cannot be.
    """
    rate, price = _positive("tokens_per_sec", tokens_per_sec), _number("usd_per_hour", usd_per_hour)
    if not 0 < utilisation <= 1:
        raise InferenceError(f"utilisation is {utilisation}; give a share above 0, up to 1")
    return price / 3600 / (rate * utilisation) * 1e6


def roofline_usd_per_million(
    work: Work,
    peak: Peak,
    usd_per_hour: float,
    batch: int,
    context: int,
    utilisation: float = 1.0,
    roofline_share: float = 1.0,
) -> float:
    """The same where nothing was measured: a step takes its roofline's time over roofline_share.

    With a share of 1 it is a floor: no program on that machine can be cheaper.
    """
    if not 0 < roofline_share <= 1:
        raise InferenceError(f"roofline_share is {roofline_share}; give a share above 0, up to 1")
    rate = batch * roofline_share / work.step_seconds(batch, context, peak)
    return usd_per_million_tokens(rate, usd_per_hour, utilisation)


def break_even_tokens(
    training_usd: float, own_usd_per_million: float, other_usd_per_million: float
) -> float:
    """Tokens served after which training one's own model has paid for itself; inf: never.

    Both prices on like hardware at like utilisation, for models that do the job equally well.
    """
    training = _number("training_usd", training_usd)
    own = _number("own_usd_per_million", own_usd_per_million)
    saved = _number("other_usd_per_million", other_usd_per_million) - own
    return training / saved * 1e6 if saved > 0 else math.inf


def serving_equals_training_tokens(training_usd: float, usd_per_million: float) -> float:
    """Tokens whose serving costs as much as the training did."""
    return _number("training_usd", training_usd) / _positive("price", usd_per_million) * 1e6


@dataclass(frozen=True)
class Investment:
    """Training a smaller model for longer, to serve it cheaper; all in US dollars."""

    n_params: float
    n_tokens: float
    tokens_per_param: float
    training_usd: float
    serving_usd: float

    @property
    def usd(self) -> float:
        return self.training_usd + self.serving_usd


def over_training(
    law: Law,
    loss: float,
    served_tokens: float,
    usd_per_training_flop: float,
    usd_per_serving_flop: float,
) -> tuple[Investment, Investment]:
    """What reaches a loss cheapest to train, and what is cheapest over life: (optimal, over).

    Training costs 6 N D, serving 2 N a token, each FLOP at its own price: decoding uses far less of
    a card's arithmetic than training, so a FLOP served costs several times one trained, and that
    moves the optimum further. Source of the sum: Sardana & Frankle 2024, arXiv:2401.00448.
    Raises ScalingError for a loss that the law cannot reach.
    """
    train = _positive("usd_per_training_flop", usd_per_training_flop)
    serve = _positive("usd_per_serving_flop", usd_per_serving_flop)
    if not (math.isfinite(served_tokens) and served_tokens >= 0):
        raise ScalingError(f"served_tokens is {served_tokens}; give a number of 0 or more")

    def bill(n_params: float) -> Investment:
        n_tokens = float(tokens_for_loss(law, n_params, loss))
        training = 6 * n_params * n_tokens * train
        serving = 2 * n_params * served_tokens * serve
        return Investment(n_params, n_tokens, n_tokens / n_params, training, serving)

    # A served token at another price is so many served tokens at training's price.
    counted = served_tokens * serve / train
    return bill(cheapest(law, loss, 0).n_params), bill(cheapest(law, loss, counted).n_params)


def _number(name: str, value: float) -> float:
    if not np.isfinite(value) or value < 0:
        raise InferenceError(f"{name} is {value}; give a number of 0 or more")
    return float(value)


def _positive(name: str, value: float) -> float:
    if not np.isfinite(value) or value <= 0:
        raise InferenceError(f"{name} is {value}; give a number above 0")
    return float(value)
