"""What a training run takes: hours, dollars by line, energy, carbon and memory; one run or many."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass

import numpy as np

from x1lib.economics import memory
from x1lib.economics.cards import Gpu
from x1lib.economics.cards import gpu as card_of
from x1lib.economics.checks import (
    EconomicsError,
    check_finite,
    check_lengths,
    each_of,
    number,
)
from x1lib.economics.flops import CONVENTIONS, flops_per_token
from x1lib.economics.prices import STALE_DAYS, Price, check_provider, price_of
from x1lib.economics.wording import bill, dollars, sentence
from x1lib.shapes import count_params, resolve

HOURS_A_MONTH = 365 * 24 / 12
CHINCHILLA_TOKENS_PER_PARAM = 20  # Hoffmann et al. 2022, table 3: about 20 at every size
MOST_CARDS, MOST_HOURS = 10_000_000, 1e9  # more than were made; a hundred thousand years
US_KG_CO2E_PER_KWH = 0.385  # national average that Touvron et al. 2023 (LLaMA, table 15) take


@dataclass(frozen=True)
class Estimate:
    """A run's cost: floats for one run, arrays for many; None (NaN in arrays) is unknown.

    hours: of training, were there no failure. gpu_hours: those times the cards.
    billed_gpu_hours: failed runs, set-up and idle hours included; kwh counts all of them at the
    board's power limit, which is an upper bound. usd: the sum of usd_by_line.
    """

    gpu: object  # name, or names
    n_gpus: object
    n_params: object  # all stored ones, each once
    n_tokens: object
    flops: object
    mfu: object
    convention: str  # "6n" for a bare n_params, whatever was asked
    hours: object
    gpu_hours: object
    billed_gpu_hours: object
    usd_per_gpu_hour: object
    usd: object
    usd_by_line: dict[str, object]
    usd_per_million_tokens: object
    kwh: object
    kg_co2e: object
    memory_bytes: object  # a card's
    memory_by_part: dict[str, object]
    fits: object  # in USABLE_SHARE of the card's memory
    notes: tuple[str, ...] = ()

    def sentence(self, budget_usd: float = 50.0) -> str:
        """What a person would say of one run, and how many of it fit in a budget."""
        return sentence(self, budget_usd)

    def bill(self) -> str:
        """The lines of one run's bill as text, with what they rest on."""
        return bill(self)


@np.errstate(over="ignore", invalid="ignore")  # what overflows is refused by name
def estimate(
    shape=None,
    n_params=None,
    n_tokens=None,
    gpu="A100-80GB-SXM",
    n_gpus=1,
    mfu=0.40,
    seq_len=1024,
    convention="palm",
    usd_per_gpu_hour=None,
    provider=None,
    spot=False,
    *,
    hours=None,
    failed_share=0.0,
    setup_hours=0.0,
    storage_gb=0.0,
    usd_per_gb_month=None,
    egress_gb=0.0,
    usd_per_egress_gb=None,
    human_hours=0.0,
    usd_per_human_hour=None,
    pue=1.0,
    usd_per_kwh=0.0,
    kg_co2e_per_kwh=US_KG_CO2E_PER_KWH,
    micro_batch=8,
    zero=0,
) -> Estimate:
    """Estimate what training takes; nothing that you do not state is added to the bill.

    Give a shape (a name, Shape or Config) or a bare n_params, which means 6ND and makes
    `.convention` "6n". n_tokens: a number, or "chinchilla" for 20 a parameter; or give hours, and
    the tokens that fill them are counted. gpu: a name or Gpu. mfu in (0, 1] by `convention`.

    Price: usd_per_gpu_hour, or else the price of `provider` (with `spot`); without both, dollars
    are None. failed_share: of the billed card hours, lost to failures, restarts and evictions.
    setup_hours: billed while nothing trains. Storage [GB] is held as long as the machine is
    billed; storage and egress need their price. usd_per_kwh: for a machine of your own, since a
    rented one's power is in its price. pue: the data centre's energy over the machines', 1 for
    the cards alone. micro_batch: sequences a pass on a card. zero: stage of ZeRO, 0 to 3.

    Every number, shape, gpu, provider and spot may be an array or list; they broadcast, and the
    fields of the result are arrays. Raises EconomicsError, saying what was expected, for anything
    impossible; warns with StalePrice of a price older than 90 days.
    """
    check_lengths(locals())
    _check_kinds(convention, provider, spot)
    seq_len = number("seq_len", seq_len, low=1, whole=True)
    n_gpus = number("n_gpus", n_gpus, low=1, high=MOST_CARDS, whole=True)
    mfu = number("mfu", mfu, above=0, high=1, hint="; give 0.45 for 45%")
    failed_share = number("failed_share", failed_share, low=0, below=1)
    setup_hours = number("setup_hours", setup_hours, low=0, high=MOST_HOURS)
    pue = number("pue", pue, low=1)
    usd_per_kwh = number("usd_per_kwh", usd_per_kwh, low=0)
    kg_co2e_per_kwh = number("kg_co2e_per_kwh", kg_co2e_per_kwh, low=0)
    micro_batch = number("micro_batch", micro_batch, low=1, whole=True)
    zero = number("zero", zero, low=0, high=3, whole=True)
    cards = _Distinct(gpu, card_of)
    peak = cards.floats(Gpu.training_flops_per_sec)
    notes: list[str] = []

    # 1. The model: parameters, FLOPs and bytes a token.
    if (shape is None) == (n_params is None):
        given = "neither" if shape is None else "both"
        raise EconomicsError(f"{given} of shape and n_params given; give one of them")
    if shape is None:
        n_params = number("n_params", n_params, above=0)
        if convention not in ("palm", "6n"):
            raise EconomicsError(f"convention {convention!r} needs a shape; a bare n_params is 6ND")
        convention, flops_a_token = "6n", 6 * n_params
        activations = logits = np.float64(np.nan)
        notes.append("6ND: a bare parameter count, so no attention; memory counts no activations")
    else:
        shapes = _Distinct(shape, resolve)
        n_params = shapes.floats(lambda s: count_params(s).total)
        base = shapes.floats(lambda s: flops_per_token(s, 1, convention))
        slope = shapes.floats(lambda s: flops_per_token(s, 2, convention)) - base
        flops_a_token = base + slope * (seq_len - 1)
        per_pass = micro_batch * seq_len
        activations = shapes.floats(memory.activation_bytes_per_token) * per_pass
        logits = shapes.floats(memory.logits_bytes_per_token) * per_pass

    # 2. The run: tokens, FLOPs, hours.
    flops_an_hour = 3600 * peak * n_gpus * mfu
    if (n_tokens is None) == (hours is None):
        given = "neither" if hours is None else "both"
        raise EconomicsError(f"{given} of n_tokens and hours given; give one of them")
    if hours is not None:
        hours = number("hours", hours, above=0, high=MOST_HOURS)
        n_tokens = hours * flops_an_hour / flops_a_token
    elif isinstance(n_tokens, str):
        if n_tokens.lower() != "chinchilla":
            raise EconomicsError(f'n_tokens is {n_tokens!r}; expected a number or "chinchilla"')
        n_tokens = CHINCHILLA_TOKENS_PER_PARAM * n_params
    else:
        n_tokens = number("n_tokens", n_tokens, above=0)
    flops = flops_a_token * n_tokens
    hours = flops / flops_an_hour
    gpu_hours = hours * n_gpus
    wall_hours = hours / (1 - failed_share) + setup_hours
    billed_gpu_hours = wall_hours * n_gpus

    # 3. Energy and carbon.
    watts = cards.floats(lambda card: card.watts)
    kwh = billed_gpu_hours * watts * pue / 1000
    kg_co2e = kwh * kg_co2e_per_kwh

    # 4. Dollars.
    usd_per_gpu_hour = _price(usd_per_gpu_hour, provider, cards.each(), spot, n_gpus, notes)
    usd_by_line = {
        "compute": gpu_hours * usd_per_gpu_hour,
        "failed runs": gpu_hours * usd_per_gpu_hour * failed_share / (1 - failed_share),
        "set-up and idle": setup_hours * n_gpus * usd_per_gpu_hour,
        "storage": _times("storage_gb", storage_gb, "usd_per_gb_month", usd_per_gb_month)
        * wall_hours
        / HOURS_A_MONTH,
        "egress and bandwidth": _times(
            "egress_gb", egress_gb, "usd_per_egress_gb", usd_per_egress_gb
        ),
        "electricity": np.where(usd_per_kwh > 0, kwh * usd_per_kwh, 0.0),
        "human hours": _times("human_hours", human_hours, "usd_per_human_hour", usd_per_human_hour),
    }
    usd = sum(usd_by_line.values())
    lines = {f"US dollars ({line})": value for line, value in usd_by_line.items()}
    counted = {"tokens": n_tokens, "FLOPs": flops, "hours": billed_gpu_hours, "kWh": kwh}
    check_finite(counted | lines | {"US dollars": usd})

    # 5. Memory of a card.
    parts = memory.state_bytes(n_params, n_gpus, zero)
    parts |= {"activations": activations, "logits": logits}
    needed = sum(np.nan_to_num(part) for part in parts.values())
    room = memory.USABLE_SHARE * cards.floats(lambda card: card.memory_bytes)
    fits = None if needed.ndim == 0 and np.isnan(room).all() else needed <= room

    return Estimate(
        gpu=cards.each(lambda card: card.name),
        n_gpus=_plain(n_gpus),
        n_params=_plain(n_params),
        n_tokens=_plain(n_tokens),
        flops=_plain(flops),
        mfu=_plain(mfu),
        convention=convention,
        hours=_plain(hours),
        gpu_hours=_plain(gpu_hours),
        billed_gpu_hours=_plain(billed_gpu_hours),
        usd_per_gpu_hour=_plain(usd_per_gpu_hour),
        usd=_plain(usd),
        usd_by_line={line: _plain(value) for line, value in usd_by_line.items()},
        usd_per_million_tokens=_plain(usd / n_tokens * 1e6),
        kwh=_plain(kwh),
        kg_co2e=_plain(kg_co2e),
        memory_bytes=_plain(needed),
        memory_by_part={part: _plain(value) for part, value in parts.items()},
        fits=_plain(fits),
        notes=tuple(notes),
    )


class _Distinct:
    """One value, or the values of a list or array: `get` is asked once of each distinct one."""

    def __init__(self, values: object, get: Callable):
        self.index, items = np.intp(0), [values]
        if isinstance(values, list | tuple | np.ndarray):
            whole = np.empty(np.shape(values), dtype=object)
            whole[...] = values
            if not whole.size:
                raise EconomicsError("an empty list names no run; give one value or more")
            for value in whole.flat:
                if not isinstance(value, Hashable):
                    get(value)  # says what was expected
                    raise EconomicsError(f"{value!r} in a list; give names")
            seen: dict = {}
            index = [seen.setdefault(value, len(seen)) for value in whole.flat]
            self.index, items = np.reshape(index, whole.shape), list(seen)
        self.items = [get(item) for item in items]

    def each(self, get: Callable = lambda item: item) -> object:
        """What `get` gives of the value, or an array of it."""
        found = np.empty(len(self.items), dtype=object)
        found[:] = [get(item) for item in self.items]
        return found[self.index]

    def floats(self, get: Callable) -> np.ndarray:
        """The same as float64; None becomes NaN."""
        return np.asarray(self.each(get), dtype=np.float64)


def _check_kinds(convention: object, provider: object, spot: object) -> None:
    if not isinstance(convention, str):
        raise EconomicsError(
            f"convention is {convention!r}; expected one of {', '.join(CONVENTIONS)}"
        )
    for one in each_of("provider", provider):
        if not isinstance(one, str | None):
            raise EconomicsError(f"provider is {one!r}; expected a name, such as runpod, or None")
        if one is not None:  # beside a price of one's own too: a misspelt one is no provider
            check_provider(one)
    for one in each_of("spot", spot):
        if not isinstance(one, bool | np.bool_):
            raise EconomicsError(f"spot is {one!r}; expected True or False")


def _times(what: str, amount: object, price_name: str, price: object) -> np.ndarray:
    """An amount times its price, which has to be given where there is an amount."""
    amount = number(what, amount, low=0)
    if price is None:
        if (amount > 0).any():
            raise EconomicsError(f"{what} is above 0 and has no price; give {price_name}")
        return amount * 0.0
    return amount * number(price_name, price, low=0)


def _price(own, provider, cards, spot, n_gpus, notes: list[str]) -> np.ndarray:
    """US dollars an hour for each card used: the reader's own, else the provider's, else NaN.

    Of a machine that is sold whole, the cards that stand idle are in the price of those at work.
    """
    if own is not None:
        price = number("usd_per_gpu_hour", own, low=0)
        notes.append(
            "your own price" + ("" if price.ndim else f": {dollars(price.item())} an hour and card")
        )
        return price
    if provider is None:
        notes.append("no price: give usd_per_gpu_hour or provider")
        return np.float64(np.nan)
    seen: dict[tuple, Price] = {}

    def look(provider, card, spot, n_gpus) -> float:
        key = (provider, card.name, bool(spot), int(n_gpus))
        if key not in seen:
            seen[key] = price_of(provider, card, key[2], key[3])
        price, wanted = seen[key], key[3]
        billed = math.ceil(wanted / price.gpus) * price.gpus  # machines are sold whole
        return price.usd_per_gpu_hour * billed / wanted

    wide = [provider, cards, spot, n_gpus]
    found = np.frompyfunc(look, 4, 1)(*(np.array(w, dtype=object) for w in wide))
    for (_, _, spot, cards_wanted), price in list(seen.items())[:3]:
        notes.append(price.line())
        if price.age_days() > STALE_DAYS:
            notes.append(f"that price is {price.age_days()} days old: look at the page")
        if cards_wanted % price.gpus:
            whole = f"sold in machines of {price.gpus} cards"
            notes.append(f"{whole}: for {cards_wanted} you pay for the rest of one too, as here")
        if spot:
            notes.append("spot: what evictions cost is in failed_share alone")
    return np.asarray(found, dtype=np.float64)


def _plain(value: object) -> object:
    """A float, bool or name for one run, None for an unknown one; an array for many."""
    if value is None or isinstance(value, str) or np.ndim(value):
        return value
    value = np.asarray(value).item()
    return None if value != value else value
