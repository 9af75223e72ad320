"""The ledger: what was reserved, what machines have cost, and what is left under one cap."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from pathlib import Path

from x1lib import X1Error
from x1lib.budget_guard.account import FORMAT, Account, Bill, Reservation, Segment, span_usd
from x1lib.budget_guard.journal import Journal, LedgerError, amount
from x1lib.budget_guard.machine import Machine

CENT_FRACTION = 1e-6  # dollars: sums of floats that differ by less are equal


class BudgetRefused(X1Error, RuntimeError):
    """A plan that would pass the cap; .break_even_usd_per_hour is the price at which it fits.

    That price is None where no plan in hours was asked about. .usd is what was asked for,
    .available_usd what there is, .fits_hours what would fit at the price given (None: no price).
    """

    def __init__(self, message: str, usd: float, available_usd: float) -> None:
        super().__init__(message)
        self.usd, self.available_usd = usd, available_usd
        self.break_even_usd_per_hour: float | None = None
        self.fits_hours: float | None = None


class CapTooSmall(LedgerError):
    """The cap is below what was already spent."""


class Ledger(Account):
    """The account of all labs in one append-only file; see `Journal` for what it survives.

    path: the file; its folder must exist. cap_usd: the most that all labs together may cost; the
    first line records it, and later only `record_cap` does.
    spent_usd and committed_usd read what other processes added. Raises LedgerError by name:
    damaged, unknown format, not writable, or CapTooSmall (not with overspent_ok, for those who
    must go on counting).
    """

    def __init__(self, path: str | Path, cap_usd: float = 50.0, *, overspent_ok=False) -> None:
        super().__init__()
        self.cap_usd = amount(cap_usd, "cap_usd")
        self.journal = Journal(Path(path), self.apply)
        if not overspent_ok and self.spent_usd > self.cap_usd + CENT_FRACTION:
            raise CapTooSmall(
                f"{self.spent_usd:.2f} US dollars were spent before, more than the cap of"
                f" {self.cap_usd:.2f}; give a higher cap, or another ledger for another budget"
            )

    # ---- what is known

    @property
    def path(self) -> Path:
        return self.journal.path

    @property
    def spent_usd(self) -> float:
        """What all runs have cost, to the newest line."""
        self.journal.refresh()
        return self.total_usd()

    @property
    def committed_usd(self) -> float:
        """What is set aside for runs and not yet spent by them."""
        self.journal.refresh()
        return self.committed_to_others(None)

    def available_to(self, run_id: str | None) -> float:
        """What this run may still cost: the cap less what is spent and set aside for others."""
        return self.cap_usd - self.spent_usd - self.committed_to_others(run_id)

    def billed_to(self, run_id: str | None) -> float:
        """What this run has cost, to the newest line."""
        self.journal.refresh()
        return self.runs[run_id].usd if run_id in self.runs else 0.0

    # ---- reservations

    def reserve(self, usd: float, label: str, run_id: str) -> str:
        """Set money aside for a run; returns the reservation's id. Raises BudgetRefused.

        While a run's reservation is open, asking again returns its id and changes nothing; after
        it was settled or released, asking again sets money aside anew, under a new id.
        """
        usd = amount(usd, "usd")
        with self.journal.locked():
            if already := self.reservation_of(run_id):
                return already.id
            available = self.available_to(run_id)
            if usd > max(available, 0.0) + CENT_FRACTION:
                raise BudgetRefused(
                    f"{label} asks for {usd:.2f} US dollars and {available:.2f} are left under the"
                    f" cap of {self.cap_usd:.2f}; ask for less, release what is set aside, or"
                    " raise the cap",
                    usd,
                    available,
                )
            return self.set_aside(usd, label, run_id)

    def record_cap(self) -> None:
        """Make this ledger's cap that of all labs: only where a reader gave it, and it holds."""
        with self.journal.locked():
            if self.recorded_cap_usd not in (None, self.cap_usd):
                self._write("cap", cap_usd=self.cap_usd)

    def follow_cap(self) -> None:
        """Take the cap that the newest line says, one for all who are at work."""
        self.journal.refresh()
        self.cap_usd = self.recorded_cap_usd or self.cap_usd

    def set_aside(self, usd: float, label: str, run_id: str) -> str:
        """Write a reservation, or the new sum of the open one, without asking what is left."""
        with self.journal.locked():
            already = self.reservation_of(run_id)
            id = already.id if already else f"r{len(self.reservations) + 1}"
            self._write("reserve", id=id, run_id=run_id, label=label, usd=_rounded(usd))
            return id

    def settle(self, id: str, usd: float) -> None:
        """Close a reservation: the whole run cost so much, what was metered included.

        What was metered is never forgotten: the run counts with the larger of the two. Settling
        again with no more changes nothing.
        """
        usd = _rounded(amount(usd, "usd"))
        with self.journal.locked():
            found = self._known(id)
            run = self.runs[found.run_id]
            if found.state == "open" or usd > max(run.usd, run.settled_usd) + CENT_FRACTION:
                self._write("settle", id=id, run_id=found.run_id, usd=usd)

    def release(self, id: str) -> None:
        """Give back what is set aside; nothing happens where it was settled or released before."""
        with self.journal.locked():
            found = self._known(id)
            if found.state == "open":
                self._write("release", id=id, run_id=found.run_id)

    def _known(self, id: str) -> Reservation:
        if id not in self.reservations:
            known = ", ".join(self.reservations) or "none"
            raise LedgerError(f"{self.path} has no reservation {id!r}; it has {known}")
        return self.reservations[id]

    # ---- machines

    def begin(
        self,
        machine: Machine,
        usd_per_hour: float,
        run_id: str,
        *,
        label: str = "",
        role: str = "trainer",
        billed_since: float | None = None,
        tick_seconds: float = 0.0,
        keep_usd: float = 0.0,
    ) -> int:
        """Write that a process takes up a run on a machine; returns the segment's number.

        billed_since: the reader's own time stamp, seconds since 1970. What the machine has cost
        since then, or since its last line, counts at once: it was up all the time.
        """
        price = amount(usd_per_hour, "usd_per_hour")
        with self.journal.locked():
            for lost in self.earlier(run_id, role):
                self._meter_lost(lost, machine.name)
            since, until = self._start(machine, billed_since)
            self._write(
                "begin",
                machine=machine.name,
                host=machine.host,
                run_id=run_id,
                label=label,
                role=role,
                tick_seconds=tick_seconds,
                usd_per_hour=price,
                billed_since=billed_since,
                since=since,
                **{"from": until},
            )
            segment = len(self.segments) - 1
            self.meter(machine, price, segment, keep_usd)
            return segment

    def _start(
        self, machine: Machine, billed_since: float | None
    ) -> tuple[float | None, float | None]:
        """Where a machine's bill begins and where it goes on, on its clock; None: as is known."""
        bill, now = self.bills.get(machine.name), _clock(machine)
        stamped = None
        if billed_since is not None and (bill is None or bill.stamp != billed_since):
            stamped = now - self._owed_seconds(machine, billed_since)
        if bill is None:
            since = min(machine.began_seconds, now) if stamped is None else stamped
            return since, since
        if now < bill.heard:  # its clock began anew; what it has cost stays
            until = min(machine.began_seconds, now)
            return until - (bill.until - bill.since), until
        if stamped is not None and stamped < bill.since:  # what lies before is billed as well
            return stamped, bill.until - (bill.since - stamped)
        return None, None

    def unbilled_usd(
        self, machine: Machine, usd_per_hour: float, billed_since: float | None = None
    ) -> float:
        """What `begin` would bill at once for the time that the machine has been up."""
        bill = self.bills.get(machine.name, Bill(machine.name, machine.host, 0.0, 0.0))
        _, until = self._start(machine, billed_since)
        started = replace(bill, until=bill.until if until is None else until)
        return span_usd(started, usd_per_hour, max(_clock(machine), started.until))

    def _owed_seconds(self, machine: Machine, billed_since: float) -> float:
        """Seconds since the reader's stamp, less what earlier boots of the machine were billed."""
        owed = machine.wall() - billed_since
        if not math.isfinite(owed) or owed < 0:
            raise LedgerError(
                f"billed_since is {billed_since!r}; expected seconds since 1970 before now,"
                f" {machine.wall():.0f}"
            )
        earlier = (
            bill.until - bill.since
            for bill in self.bills.values()
            if bill.host == machine.host and bill.stamp == billed_since
        )
        return max(0.0, owed - math.fsum(earlier))

    def meter(
        self, machine: Machine, usd_per_hour: float, segment: int, keep_usd: float = 0.0
    ) -> None:
        """Write what the machine has cost since its last line, whoever wrote that one.

        A span is billed once, at the dearer of the prices that the lines at its ends give.
        """
        with self.journal.locked():
            self._meter(self.bills[machine.name], usd_per_hour, segment, _clock(machine), keep_usd)

    def catch_up(self, machine: Machine, ahead_seconds: float = 0.0) -> float | None:
        """Write what a machine has cost since its last line; returns that, None if it has none.

        For the time in which no process of ours is at work on it: it goes to the run that was the
        last there, at its price. ahead_seconds: bill so much more at once, for the machine's end;
        asking again bills no second twice.
        """
        with self.journal.locked():
            if machine.name not in self.bills:
                return None
            bill, usd = self.bills[machine.name], self.bills[machine.name].usd
            last = next(one for one in reversed(self.segments) if one.machine == machine.name)
            now, price = _clock(machine), bill.usd_per_hour
            self._meter(bill, price, last.number, now, last.keep_usd, ahead_seconds)
            return bill.usd - usd

    def release_leftovers(self) -> list[str]:
        """Give back what was set aside for after runs that are settled; their reservations' ids."""
        with self.journal.locked():
            done = {r.run_id for r in self.reservations.values() if r.state == "settled"}
            found = [r.id for r in self.reservations.values() if r.state == "open"]
            found = [id for id in found if self.reservations[id].run_id in done]
            for id in found:
                self.release(id)
            return found

    def _meter(
        self, bill: Bill, usd_per_hour: float, segment: int, now: float, keep_usd: float, lost=0.0
    ) -> None:
        until = max(now + lost, bill.until)
        self._write(
            "meter",
            machine=bill.machine,
            run_id=self.segments[segment].run_id,
            segment=segment,
            **{"from": bill.until, "until": until},
            heard=now,
            usd_per_hour=usd_per_hour,
            usd=_rounded(span_usd(bill, usd_per_hour, until)),
            keep_usd=_rounded(keep_usd),
        )

    def _meter_lost(self, lost: Segment, machine: str) -> None:
        """Bill a machine that fell silent for the tick in which it did; the run is elsewhere now.

        When exactly it was lost, nobody knows. Where others are at work on it, they know.
        """
        at_work = {one.machine for one in self.segments if one.is_open and one is not lost}
        if lost.machine == machine or lost.machine in at_work:
            return
        bill = self.bills[lost.machine]
        self._meter(bill, bill.usd_per_hour, lost.number, bill.heard, 0.0, lost.tick_seconds)

    def end(self, segment: int, reason: str) -> None:
        """Write that a segment ended, and why."""
        with self.journal.locked():
            self._write("end", run_id=self.segments[segment].run_id, segment=segment, reason=reason)

    def note(self, run_id: str, text: str) -> None:
        """Write something that a person should know: a cooldown begun early, a stop, a kill."""
        with self.journal.locked():
            self._write("note", run_id=run_id, text=text)

    # ---- lines

    def _write(self, kind: str, **values: object) -> None:
        """Append one line; the file's first says its format and cap."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())  # for people; nothing counts it
        if self.recorded_cap_usd is None:
            header = {"kind": "ledger", "format": FORMAT, "time": stamp, "cap_usd": self.cap_usd}
            self.journal.append(header)
        self.journal.append({"kind": kind, "time": stamp, **values})


def _clock(machine: Machine) -> float:
    return round(machine.seconds(), 3)  # as it is written, so that spans meet without a gap


def _rounded(usd: float) -> float:
    return round(usd, 9)
