"""Prices by provider and card, each with the day it was read: inputs that age, not constants."""

from __future__ import annotations

import math
import tomllib
import warnings
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache
from pathlib import Path

import numpy as np

from x1lib.economics.cards import GPUS, Gpu, gpu
from x1lib.economics.checks import EconomicsError, near, number
from x1lib.economics.wording import dollars

PRICE_FILE = Path(__file__).with_name("prices.toml")
STALE_DAYS = 90
_DAY = date  # tests set another clock in the place of `date`
_TEXTS = {"name", "page", "no_spot"}
_ROW = {"gpu", "usd_per_gpu_hour", "date", "spot", "gpus", "read_by"}


class StalePrice(UserWarning):
    """A price that was read more than STALE_DAYS ago."""


@dataclass(frozen=True)
class Price:
    """US dollars an hour for one card; usd_per_gpu_hour is None where nobody has verified it."""

    provider: str
    gpu: str
    spot: bool
    usd_per_gpu_hour: float | None
    date: date | None
    source: str
    gpus: int = 1  # cards of the smallest machine at this price

    def age_days(self, today: date | None = None) -> int | None:
        """Days since it was read, None for an unverified one."""
        return None if self.date is None else ((today or date.today()) - self.date).days

    def line(self) -> str:
        """The price as a note says it."""
        kind = "spot" if self.spot else "on demand"
        if self.usd_per_gpu_hour is None:
            return f"{self.gpu} {kind} at {self.provider}: unverified"
        return (
            f"{dollars(self.usd_per_gpu_hour)} an hour for {self.gpu} {kind} at {self.provider},"
            f" read {self.date} ({self.source})"
        )


def read_prices(path: Path = PRICE_FILE) -> tuple[tuple[Price, ...], dict[str, dict]]:
    """Return the prices of a file and, by provider, what it says besides: name, page, no_spot.

    Raises EconomicsError that names the row for a card, field, price or reader that cannot be.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise EconomicsError(f"{path} cannot be read as TOML ({error}); mend it there") from error
    readers = tables.pop("readers", {})
    prices, providers = [], {}
    if wrong := _texts_fault(readers, None):
        raise EconomicsError(f"{path}: [readers] {wrong}")
    for provider, table in tables.items():
        rows = table.pop("prices", []) if isinstance(table, dict) else []
        if wrong := _texts_fault(table, _TEXTS) or _rows_fault(rows):
            raise EconomicsError(f"{path}: [{provider}] {wrong}")
        providers[provider] = table
        for at, row in enumerate(rows, start=1):
            if wrong := _fault(row, readers):
                raise EconomicsError(f"{path}: [{provider}] row {at}, {row}: {wrong}")
            reader = f", as read by {readers[row['read_by']]}" if "read_by" in row else ""
            prices.append(
                Price(
                    provider=provider,
                    gpu=row["gpu"],
                    spot=row.get("spot", False),
                    usd_per_gpu_hour=row.get("usd_per_gpu_hour"),
                    date=row.get("date"),
                    source=table.get("page", "") + reader,
                    gpus=row.get("gpus", 1),
                )
            )
    return tuple(prices), providers


def _texts_fault(table: object, known: set[str] | None) -> str:
    """What is wrong with a table of texts, whose keys are known ones; empty when nothing is."""
    if not isinstance(table, dict):
        return f"is {table!r}; expected a table"
    strange = table.keys() - known if known else set()
    if strange:
        return f"has {', '.join(sorted(strange))}; expected {', '.join(sorted(known))}, prices"
    wrong = [f"{key} is {one!r}" for key, one in table.items() if not isinstance(one, str)]
    return f"{', '.join(wrong)}; expected a text" if wrong else ""


def _rows_fault(rows: object) -> str:
    return "" if isinstance(rows, list) else f"prices is {rows!r}; expected a list of rows"


def _fault(row: object, readers: dict) -> str:
    """What is wrong with a row of the file; empty when nothing is."""
    if not isinstance(row, dict):
        return 'expected a row such as { gpu = "L4", usd_per_gpu_hour = 0.8, date = 2026-11-22 }'
    usd, day, gpus = row.get("usd_per_gpu_hour"), row.get("date"), row.get("gpus", 1)
    if row.keys() - _ROW:
        return f"unknown field; expected {', '.join(sorted(_ROW))}"
    if not isinstance(row.get("gpu"), str) or row["gpu"] not in GPUS:
        return f"gpu has to be a key of GPUS: {', '.join(GPUS)}"
    if usd is not None and not (type(usd) in (int, float) and 0 <= usd < math.inf):
        return "usd_per_gpu_hour has to be a number of 0 or more"
    if type(day) is not _DAY and (day is not None or usd is not None):
        return "a price needs the date on which it was read, such as 2026-11-22"
    # A day's grace: where the price was read it may be tomorrow already.
    if day is not None and day > date.today() + timedelta(days=1):
        return f"its date is after today, {date.today()}; expected the day on which it was read"
    if not isinstance(row.get("spot", False), bool):
        return "spot has to be true or false"
    if type(gpus) is not int or gpus < 1:
        return "gpus has to be a whole number of 1 or more"
    reader = row.get("read_by")
    if reader is not None and not (isinstance(reader, str) and reader in readers):
        return f"read_by has to be one of {', '.join(readers)}"
    return ""


@cache
def _table() -> tuple[tuple[Price, ...], dict[str, dict]]:
    return read_prices()


def __getattr__(name: str):
    # Read on first use: a slip of a person's pen in the price file must not stop a trainer.
    if name == "PRICES":
        return _table()[0]
    if name == "PROVIDERS":
        return {key: table.get("name", key) for key, table in _table()[1].items()}
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def check_provider(provider: object) -> None:
    """Raise EconomicsError, with the names near it, for a provider that has no prices."""
    _, providers = _table()
    if not isinstance(provider, str) or provider not in providers:
        alike = near(str(provider), providers) or list(providers)
        raise EconomicsError(
            f"no provider {provider!r} in {PRICE_FILE.name}; near it are {', '.join(alike)};"
            " or give usd_per_gpu_hour and no provider"
        )


def price_of(
    provider: str,
    card: str | Gpu,
    spot: bool = False,
    n_gpus: int = 1,
    today: date | None = None,
) -> Price:
    """Return a provider's price of a card, of the largest machine that n_gpus fill.

    Warns with StalePrice, saying the age, when it was read more than 90 days before today. Raises
    EconomicsError for an unknown provider, and where there is no verified price; it says which
    cards that provider has one for.
    """
    prices, providers = _table()
    if not isinstance(spot, bool | np.bool_):
        raise EconomicsError(f"spot is {spot!r}; expected True or False")
    n_gpus = number("n_gpus", n_gpus, low=1, whole=True)
    if n_gpus.ndim:
        raise EconomicsError(f"n_gpus is {n_gpus}; expected one whole number")
    check_provider(provider)
    card, spot = gpu(card).name, bool(spot)
    kind = "spot" if spot else "on-demand"
    rows = [p for p in prices if (p.provider, p.gpu, p.spot) == (provider, card, spot)]
    verified = [p for p in rows if p.usd_per_gpu_hour is not None]
    if not verified:
        raise EconomicsError(_nothing(providers[provider], provider, card, kind, prices))
    fitting = [p for p in verified if p.gpus <= n_gpus]
    price = max(fitting, key=lambda p: p.gpus) if fitting else min(verified, key=lambda p: p.gpus)
    age = price.age_days(today)
    if age > STALE_DAYS:
        warnings.warn(
            f"{price.line()}: {age} days old; look at the page and give usd_per_gpu_hour",
            StalePrice,
            stacklevel=2,
        )
    return price


def _nothing(table: dict, provider: str, card: str, kind: str, prices) -> str:
    if kind == "spot" and "no_spot" in table:
        return f"{table['no_spot']}; take it on demand (spot=False), or another provider"
    others = sorted({
        p.gpu
        for p in prices
        if p.provider == provider
        and p.usd_per_gpu_hour is not None
        and p.spot == (kind == "spot")
    })  # fmt: skip
    return (
        f"no verified {kind} price of {card} at {provider}; look at {table.get('page', 'its page')}"
        f" and give usd_per_gpu_hour, or take a card that has one: {', '.join(others) or 'none'}"
    )
