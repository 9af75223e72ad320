"""What a process holds to its cap with: a meter, a forecast, and the word to stop."""

from __future__ import annotations

import math
from dataclasses import dataclass

from x1lib.budget_guard.account import SECONDS_PER_HOUR
from x1lib.budget_guard.journal import LedgerError, amount
from x1lib.budget_guard.ledger import CENT_FRACTION, BudgetRefused, Ledger
from x1lib.budget_guard.machine import Machine, this_machine

GIVE_UP_SECONDS = 600.0  # a ledger that takes no line for so long ends the run
LONGEST_STEP_SECONDS = 900.0
END_SECONDS = 180.0  # until a machine is gone that is to be ended


@dataclass(frozen=True)
class Forecast:
    """What all labs will have cost when this run ends, and whether that passes what it may."""

    usd: float
    over_usd: float  # 0 where it fits
    seconds_left: float  # until this run must stop
    text: str


class Purse:
    """One process's hold on the money: it meters the machine, and says when to stop.

    keep_seconds: what follows the word to stop (the save, the last evaluation, the export); to be
    set again when it has been timed. end_seconds: for what is measured on the machine after that,
    and to end it, for it is billed to then. tick_seconds: how often a line is written.
    step_seconds: how long a step may take unforeseen. role: "trainer", "watchdog", or "after" for
    what is measured after a run; all meter one machine, which is billed once, and all but a
    watchdog's money ends where other runs' reservations begin. Opening writes to the ledger. The
    cap is the one that the ledger records, for all who are at work the same.
    Raises BudgetRefused, before that, when what the machine has cost since it began, or since
    billed_since (the reader's stamp, seconds since 1970), passes what is left.
    """

    def __init__(
        self,
        ledger: Ledger,
        usd_per_hour: float,
        run_id: str,
        *,
        label: str = "",
        role: str = "trainer",
        billed_since: float | None = None,
        keep_seconds: float = 60.0,
        end_seconds: float = END_SECONDS,
        tick_seconds: float = 60.0,
        step_seconds: float = 60.0,
        machine: Machine | None = None,
    ) -> None:
        self.ledger, self.run_id, self.machine = ledger, run_id, machine or this_machine()
        self.usd_per_hour = amount(usd_per_hour, "usd_per_hour")
        self.keep_seconds, self.end_seconds = keep_seconds, end_seconds
        self.tick_seconds, self.step_seconds = tick_seconds, step_seconds
        self.role, self.trouble = role, None  # why the newest line could not be written
        self.is_ledger_lost = False  # the word to stop was for that, and not for the cap
        self._longest_gap, self._trouble_since = 0.0, math.inf
        self._refuse_what_is_gone(billed_since)
        self.segment = ledger.begin(
            self.machine,
            self.usd_per_hour,
            run_id,
            label=label,
            role=role,
            billed_since=billed_since,
            tick_seconds=self.tick_seconds + self.step_seconds,
            keep_usd=self._keep_usd(),
        )
        self._written = self._seen = self.machine.seconds()

    def _refuse_what_is_gone(self, billed_since: float | None) -> None:
        unbilled = self.ledger.unbilled_usd(self.machine, self.usd_per_hour, billed_since)
        left = self.ledger.cap_usd - self.ledger.spent_usd
        if unbilled > max(0.0, left) + CENT_FRACTION and self.machine.name not in self.ledger.bills:
            since = "billed_since" if billed_since is not None else self.machine.began_with
            raise BudgetRefused(
                f"this machine has cost {unbilled:.2f} US dollars since {since} began, at"
                f" {self.usd_per_hour:g} an hour, and {left:.2f} are left; give billed_since if it"
                " is billed from a later time, or the right price",
                unbilled,
                left,
            )

    # ---- the meter

    def tick(self, force: bool = False) -> bool:
        """Write a line when one is due; to be called at every step. Returns whether it did.

        A ledger that is locked or full for a moment loses nothing: the next line has it all, and
        the reason stands in .trouble until then. A watchdog writes only where nobody else does.
        """
        now = self.machine.seconds()
        if self.role == "trainer":  # a watchdog looks at fixed times
            self._longest_gap = max(self._longest_gap, now - self._seen)
        self._seen = now
        if not force and now - self._written < self.tick_seconds:
            return False
        try:
            if self.role == "watchdog":
                self.ledger.journal.refresh()
                self._written = max(self._written, self.ledger.bills[self.machine.name].heard)
                if not force and now - self._written < self.tick_seconds:
                    return False
            self.ledger.meter(self.machine, self.usd_per_hour, self.segment, self._keep_usd())
        except LedgerError as error:
            self.trouble, self._trouble_since = str(error), min(now, self._trouble_since)
            return False
        self._written, self.trouble, self._trouble_since = now, None, math.inf
        return True

    @property
    def spent_usd(self) -> float:
        """What all labs have cost by now, this machine to this second."""
        self.ledger.journal.refresh()
        return self._known_usd

    @property
    def _known_usd(self) -> float:
        """What all labs have cost by now, as far as this process has read the ledger."""
        return self.ledger.total_usd() + self.ledger.unbilled_usd(self.machine, self.usd_per_hour)

    @property
    def run_usd(self) -> float:
        """What this run has cost by now."""
        unmetered = self.ledger.unbilled_usd(self.machine, self.usd_per_hour)
        return self.ledger.runs[self.run_id].metered_usd + unmetered

    # ---- the cap

    @property
    def margin_seconds(self) -> float:
        """Time that must be left at every step: for one more, to save, and to end the machine.

        A step may take twice as long as the longest so far (a quarter of an hour at most: a
        machine that was frozen for hours teaches nothing), or step_seconds where that is more.
        """
        learnt = min(2 * self._longest_gap, LONGEST_STEP_SECONDS)
        return max(self.step_seconds, learnt) + self.keep_seconds + self.end_seconds

    @property
    def available_usd(self) -> float:
        """What this run may still cost: the cap less what is spent, set aside and kept by others.

        Kept is what another machine may cost before it writes its next line.
        """
        self.ledger.follow_cap()
        return self._available_as_known

    @property
    def _available_as_known(self) -> float:
        available = self.ledger.cap_usd - self._known_usd
        available -= self.ledger.kept_by_others(self.machine.name)
        if self.role == "watchdog":  # what is set aside is no reason to end a machine
            return available
        return available - self.ledger.committed_to_others(self.run_id)

    @property
    def seconds_left(self) -> float:
        """Time until this run must stop; infinite at a price of 0."""
        if not self.usd_per_hour:
            return math.inf
        return self._seconds_of(self.available_usd)

    def _seconds_of(self, usd: float) -> float:
        return max(0.0, usd / self.usd_per_hour * SECONDS_PER_HOUR - self.margin_seconds)

    def forecast(self, seconds_to_go: float) -> Forecast:
        """What it will come to if this run needs so many seconds more, its end included."""
        usd = self.spent_usd + seconds_to_go * self.usd_per_hour / SECONDS_PER_HOUR
        left = self.seconds_left
        short = max(0.0, seconds_to_go - left) if math.isfinite(left) else 0.0
        over = short * self.usd_per_hour / SECONDS_PER_HOUR
        text = f"{usd:.2f} US dollars at the end at {self.usd_per_hour:g} an hour"
        if over:
            text += (
                f", {over:.2f} more than this run may spend under the cap of"
                f" {self.ledger.cap_usd:.2f}: it has {left / 60:.0f} minutes left and needs"
                f" {seconds_to_go / 60:.0f}"
            )
        return Forecast(usd, over, left, text)

    def must_stop(self) -> str | None:
        """Why this run must save and leave now, or None; to be asked at every step.

        Writes the line that is due. True to its word, a run that does so at once, and no slower
        than .margin_seconds foresees, leaves the sum of all labs under the cap.
        """
        self.tick()
        if not self.usd_per_hour:
            return None
        try:
            self.ledger.follow_cap()
        except LedgerError as error:  # damaged or gone: a run must not spend uncounted
            if self.role != "watchdog":
                self.is_ledger_lost = True
                return f"budget: {error}"
        if self._seconds_of(self._available_as_known) <= 0:  # a watchdog goes on with what it read
            return self._reason()
        silent = self.machine.seconds() - self._trouble_since > GIVE_UP_SECONDS
        if silent and self.role != "watchdog":
            self.is_ledger_lost = True
            return f"budget: the ledger has taken no line for ten minutes: {self.trouble}"
        return None

    def _reason(self) -> str:
        return (
            f"budget: {self._known_usd:.2f} US dollars of {self.ledger.cap_usd:.2f} are spent,"
            f" {self.ledger.committed_to_others(self.run_id):.2f} are set aside for other runs, and"
            f" the rest is needed to save, leave and end the machine ({self.margin_seconds:.0f} s"
            f" at {self.usd_per_hour:g} an hour)"
        )

    def _keep_usd(self) -> float:
        """What this machine may cost before another line of it stands in the ledger."""
        return (self.tick_seconds + self.margin_seconds) * self.usd_per_hour / SECONDS_PER_HOUR

    # ---- the end

    def note(self, text: str) -> None:
        """Write a reason into the ledger: a cooldown begun early, a stop."""
        self.ledger.note(self.run_id, text)

    def leave(self, reason: str) -> None:
        """Write the last line of this process; the reservation stays for the one that resumes."""
        self.ledger.meter(self.machine, self.usd_per_hour, self.segment)
        self.ledger.end(self.segment, reason)

    def settle(self, reason: str, usd_fixed: float = 0.0, usd_after: float = 0.0) -> float:
        """Write the last line of the run and close its reservation; returns what the run cost.

        usd_fixed: what it cost besides hours (storage, egress). usd_after: set aside anew, for
        what is measured on this machine after it; to be settled by whoever does that.
        """
        self.leave(reason)
        run = self.ledger.runs[self.run_id]
        usd = run.metered_usd + amount(usd_fixed, "usd_fixed")
        with self.ledger.journal.locked():  # or another run would be admitted into the rest
            if reservation := self.ledger.reservation_of(self.run_id):
                self.ledger.settle(reservation.id, usd)
            if usd_after:
                self.ledger.set_aside(usd_after, f"{run.label}, after it", self.run_id)
        return max(usd, run.usd)

    def summary(self) -> dict:
        """What the manifest says of the money."""
        bill = self.ledger.bills[self.machine.name]
        return {
            "usd": round(self.ledger.runs[self.run_id].usd, 6),
            "usd_per_hour": self.usd_per_hour,
            "billed_seconds": round(self.ledger.runs[self.run_id].seconds, 3),
            "machine_billed_seconds": round(bill.until - bill.since, 3),
            "spent_usd_all_labs": round(self.ledger.total_usd(), 6),
            "cap_usd": self.ledger.cap_usd,
        }
