"""The money of one run: admitted before it begins, metered in the ledger, stopped in time."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path

from x1lib import X1Error, tracking
from x1lib.budget_guard import (
    END_SECONDS,
    MARGIN,
    RESTART_SHARE,
    BudgetGuard,
    BudgetRefused,
    Ledger,
    LedgerError,
    Plan,
    Purse,
    this_machine,
)
from x1lib.runtime import EXIT_BUDGET

LEDGER = "ledger.jsonl"
SECONDS_PER_HOUR = 3600.0
LABS = "X1-pretraining"  # the folder of all labs, which share one ledger
CAP_USD = 50.0  # of all labs, where neither the reader nor the ledger says another
STRETCHED = (
    "an end that the money brought forward moves back to the hours' own, and a cooldown already"
    " begun is stretched, not taken back"
)
NO_PRICE = "not counted: no price was given"


class BudgetStop(X1Error, RuntimeError):
    """A run that saved its state and left, because the money for more is not there."""

    exit_code = EXIT_BUDGET


def ledger_path(out: Path) -> Path:
    """The ledger that a run in this folder is billed to: that of all labs, else one beside it."""
    out = Path(out).absolute()
    labs = next((place for place in out.parents if place.name == LABS), out.parent)
    return labs / LEDGER


def ledger_of(out: Path, cap_usd: float = 0.0) -> Ledger:
    """That ledger under the cap that was given, else the one it records, else 50 dollars."""
    path = ledger_path(out)
    recorded = Ledger(path, overspent_ok=True).recorded_cap_usd
    return Ledger(path, cap_usd=cap_usd or recorded or CAP_USD)


def plan_of(config, out: Path) -> Plan:
    """What a run is planned to take; where it costs money, what a relaunch would add too."""
    restart = config.restart_hours or RESTART_SHARE * config.hours * (config.usd_per_hour > 0)
    after = config.after_hours
    return Plan(Path(out).name, config.hours, restart_hours=restart, after_hours=after)


def guard_of(config, out: Path, **machine) -> tuple[BudgetGuard, Plan]:
    """The guard of a run's ledger, and what the run is planned to take.

    Raises LedgerError for a run that was metered before in a ledger that is gone.
    """
    path = ledger_path(out)
    if config.usd_per_hour and not path.exists() and _was_metered(out):
        raise LedgerError(
            f"{path} is gone, and {Path(out).name} was metered in it before: restore it from a"
            " copy, or put an empty file there to begin again at 0, which forgets what was spent"
        )
    guard = BudgetGuard(ledger_of(out, config.cap_usd), config.usd_per_hour, **machine)
    return guard, plan_of(config, out)


def _was_metered(out: Path) -> bool:
    """Whether a run that cost money has made a step."""
    config = tracking.Manifest(out).values.get("config", {})
    return bool(config.get("usd_per_hour")) and tracking.last_step(out) > 0


def check(config, out: Path) -> str:
    """Say what a run would take of the budget, before it is started.

    A run under way has its money set aside already, and a finished one needs none. Raises
    BudgetRefused where it does not fit, with the price and the hours that would.
    """
    known = tracking.Manifest(out).values
    since = config.billed_since or None
    guard, plan = guard_of(config, out, machine=this_machine(), billed_since=since)
    if known.get("status") == "finished":
        spent, cap = guard.ledger.spent_usd, guard.ledger.cap_usd
        return f"{plan.label} is finished; {spent:.2f} of {cap:.2f} US dollars are spent in all"
    return guard.admit(plan, known.get("run_id")).text


class Money:
    """A session's hold on its purse; at a price of 0 the same path, and no ledger can stop it."""

    def __init__(self, config, out: Path, run_id: str, log) -> None:
        self.config, self.log, self.purse, self.is_settled = config, log, None, False
        try:
            guard, plan = guard_of(config, out)
            ledger = guard.ledger
            cap_was, known = ledger.recorded_cap_usd, run_id in ledger.runs
            self.purse = Purse(  # before the plan, so that what the machine has cost is written
                ledger,
                config.usd_per_hour,
                run_id,
                label=Path(out).name,
                billed_since=config.billed_since or None,
                end_seconds=END_SECONDS + SECONDS_PER_HOUR * config.after_hours,
            )
            admitted = self._admit(guard, plan, run_id)
        except LedgerError as error:
            if config.usd_per_hour:
                raise
            log(f"note: no ledger is kept ({error})")
            return
        if config.usd_per_hour:
            log(f"budget: {admitted.text}")
            if known and cap_was and ledger.cap_usd > cap_was:
                log(f"budget: the cap was {cap_was:.2f}; {STRETCHED}")

    def _admit(self, guard: BudgetGuard, plan: Plan, run_id: str):
        try:
            admitted = guard.admit(plan, run_id)
        except BudgetRefused as error:
            self.purse.leave(f"refused: {error}")
            raise
        if self.config.cap_usd:  # the reader's own word, once it holds
            guard.ledger.record_cap()
        return admitted

    @property
    def seconds_left(self) -> float:
        """Until everything must be over, the end included; infinite where nothing is billed."""
        if self.purse is None or not self.config.usd_per_hour:
            return math.inf
        return self.purse.seconds_left + self.purse.keep_seconds

    def keep(self, seconds: float) -> None:
        """Note how long the end of this run takes: evaluation, export, the last save."""
        if self.purse is not None and seconds:
            self.purse.keep_seconds = seconds

    def check(self) -> None:
        """Meter; raise BudgetStop when this run must save and leave now."""
        reason = self.purse.must_stop() if self.purse else None
        if reason and self.purse.is_ledger_lost:
            raise BudgetStop(f"{reason}; the state is saved, and the same command goes on then")
        if reason:
            raise BudgetStop(
                f"{reason}; the state is saved: raise cap_usd, or give a cheaper machine's"
                f" usd_per_hour, and the same command goes on: {STRETCHED}"
            )

    def note(self, text: str) -> None:
        if self.purse is not None:
            with contextlib.suppress(LedgerError):  # a note is no money
                self.purse.note(text)

    def forecast(self, seconds_to_go: float) -> str:
        """What it will have cost when this run needs so many seconds more."""
        return self.purse.forecast(seconds_to_go).text if self.purse else ""

    def leave(self, reason: str, done: bool = False) -> dict:
        """Write this process's last line, the run's where it is done; what the manifest says."""
        self.is_settled = True
        if self.purse is None:
            return {"usd": None, "usd_status": NO_PRICE}
        price, unknown = self.config.usd_per_hour, None
        after = self.config.after_hours * price * (1 + MARGIN)
        try:
            self.purse.settle(reason, usd_after=after) if done else self.purse.leave(reason)
        except LedgerError as error:
            self.log(f"warning: the ledger has not this run's last line: {error}")
            unknown = f"unknown: the ledger has not this run's last line: {error}"
        if unknown and price:
            return {"usd": None, "usd_status": unknown}
        if not self.config.usd_per_hour:
            return {"usd": None, "usd_status": NO_PRICE}
        return {"usd": self.purse.summary()["usd"], "usd_status": None}
