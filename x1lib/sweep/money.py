"""The money of a sweep: one plan, one reservation, refused whole; metered here and nowhere else."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from x1lib import tracking
from x1lib.budget_guard import (
    RESTART_SHARE,
    BudgetGuard,
    LedgerError,
    Plan,
    Purse,
    this_machine,
)
from x1lib.session.money import ledger_of, ledger_path

METERED = "metered.json"  # in the sweep's folder: it costs money, so there is a ledger


@dataclass(frozen=True)
class Price:
    """What the machine costs; see x1lib.train for the meaning of each."""

    usd_per_hour: float = 0.0
    cap_usd: float = 0.0
    billed_since: float = 0.0


def admit(price: Price, hours: float, out: Path, run_id: str | None = None) -> str:
    """Say what a sweep would take of the budget; with a run_id the money is set aside.

    Raises BudgetRefused, with the price and the hours that would fit, and LedgerError for a sweep
    that was metered before in a ledger that is gone.
    """
    if not price.usd_per_hour:
        return "no price was given: nothing is metered"
    return _guard(price, out, this_machine()).admit(_plan(hours, out), run_id).text


def _plan(hours: float, out: Path) -> Plan:
    return Plan(Path(out).name, hours, restart_hours=RESTART_SHARE * hours)


def _guard(price: Price, out: Path, machine=None) -> BudgetGuard:
    path = ledger_path(out)
    if not path.exists() and (Path(out) / METERED).exists():
        raise LedgerError(
            f"{path} is gone, and {Path(out).name} was metered in it before: restore it from a"
            " copy, or put an empty file there to begin again at 0, which forgets what was spent"
        )
    ledger, since = ledger_of(out, price.cap_usd), price.billed_since or None
    return BudgetGuard(ledger, price.usd_per_hour, machine=machine, billed_since=since)


class SweepMoney:
    """The purse of a sweep at work; at a price of 0 there is none."""

    def __init__(self, purse: Purse | None) -> None:
        self.purse = purse

    def must_stop(self) -> str | None:
        """Meter; why everything must save and leave, or None."""
        return self.purse.must_stop() if self.purse else None

    @property
    def usd(self) -> float | None:
        """What the sweep has cost, its machine to this second."""
        return self.purse.run_usd if self.purse else None

    @property
    def hours_left(self) -> float:
        return self.purse.seconds_left / 3600 if self.purse else math.inf


@contextlib.contextmanager
def metered(price: Price, hours: float, out: Path, run_id: str) -> Iterator[SweepMoney]:
    """Hold the money of a sweep: `with metered(...) as money:`; settled where nothing goes wrong.

    Raises BudgetRefused before anything runs where the whole plan does not fit.
    """
    if not price.usd_per_hour:
        yield SweepMoney(None)
        return
    guard = _guard(price, out)
    since = price.billed_since or None
    label = {"label": Path(out).name, "billed_since": since}
    purse = Purse(guard.ledger, price.usd_per_hour, run_id, **label)
    try:
        guard.admit(_plan(hours, out), run_id)
        if price.cap_usd:
            guard.ledger.record_cap()
        _say_metered(Path(out) / METERED, run_id)
        yield SweepMoney(purse)
    except BaseException as error:
        purse.leave(f"{type(error).__name__}: {error}")
        raise
    purse.settle("the sweep is over")


def _say_metered(path: Path, run_id: str) -> None:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        tracking.write_json(path, {"run_id": run_id, "since": tracking.utc_now()})
