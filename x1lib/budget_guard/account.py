"""What the lines of a ledger add up to."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from x1lib.budget_guard.journal import LedgerError

FORMAT = 1
SECONDS_PER_HOUR = 3600.0


class LedgerFormatError(LedgerError):
    """A ledger of a format that this version of x1lib does not know."""


@dataclass
class Reservation:
    """Money set aside for one run; what the run has cost since is no longer set aside."""

    id: str
    run_id: str
    label: str
    usd: float
    cost_before_usd: float  # of the run, when it was set aside
    state: str = "open"  # open, settled or released


@dataclass
class Bill:
    """What one machine has cost, on its own clock [s]."""

    machine: str
    host: str
    since: float
    until: float
    heard: float = 0.0  # the newest reading of that clock; until may lie a tick after it
    usd_per_hour: float = 0.0
    usd: float = 0.0
    stamp: float | None = None  # the reader's own `billed_since`, seconds since 1970


@dataclass
class Segment:
    """One process's hold on a run.

    keep_usd: what its machine may cost before it is next heard. tick_seconds: between its lines.
    """

    number: int
    run_id: str
    role: str
    machine: str
    tick_seconds: float = 0.0
    keep_usd: float = 0.0
    is_open: bool = True


@dataclass
class RunAccount:
    """What one run has cost: metered, or settled where that is more."""

    label: str = ""
    metered_usd: float = 0.0
    settled_usd: float = 0.0
    seconds: float = 0.0  # metered
    usd_per_hour: float = 0.0  # newest
    machines: set[str] = field(default_factory=set)
    last: str = ""  # time of its newest line

    @property
    def usd(self) -> float:
        return max(self.metered_usd, self.settled_usd)


class Account:
    """The sums of a ledger's lines, taken up one by one; it reads and writes no file."""

    def __init__(self) -> None:
        self.recorded_cap_usd: float | None = None  # as the newest line says
        self.reservations: dict[str, Reservation] = {}
        self.bills: dict[str, Bill] = {}
        self.runs: dict[str, RunAccount] = {}
        self.segments: list[Segment] = []
        self.notes: list[dict] = []
        self._open_of_run: dict[str, Reservation] = {}

    def total_usd(self) -> float:
        """What all runs have cost."""
        return math.fsum(run.usd for run in self.runs.values())

    def committed_to_others(self, run_id: str | None) -> float:
        """What is set aside for every run but this one."""
        return math.fsum(
            self.remaining(r) for r in self.reservations.values() if r.run_id != run_id
        )

    def kept_by_others(self, machine: str) -> float:
        """What machines other than this one may cost before their segments are next heard."""
        keep: dict[str, float] = {}
        for segment in self.segments:
            if segment.is_open and segment.machine != machine:
                keep[segment.machine] = max(keep.get(segment.machine, 0.0), segment.keep_usd)
        return math.fsum(keep.values())

    def remaining(self, reservation: Reservation) -> float:
        """What of a reservation is still set aside; nothing once it is settled or released."""
        if reservation.state != "open":
            return 0.0
        used = self.runs[reservation.run_id].usd - reservation.cost_before_usd
        return max(0.0, reservation.usd - used)

    def reservation_of(self, run_id: str) -> Reservation | None:
        """The open reservation of a run."""
        return self._open_of_run.get(run_id)

    def apply(self, entry: dict) -> None:
        """Take up one line; raises LedgerFormatError for one that this version does not know."""
        kind = entry.get("kind")
        if self.recorded_cap_usd is None and (kind != "ledger" or entry.get("format") != FORMAT):
            raise LedgerFormatError(
                f"the ledger begins with {kind!r}, format {entry.get('format')!r}; expected"
                f" 'ledger', format {FORMAT}: use the version of x1lib that wrote it"
            )
        apply = getattr(self, f"_apply_{kind}", None)
        if apply is None:
            raise LedgerFormatError(
                f"the ledger has a line of kind {kind!r}, which this version does not know; use"
                " the version of x1lib that wrote it"
            )
        if "run_id" in entry:
            self.runs.setdefault(entry["run_id"], RunAccount()).last = entry["time"]
        apply(entry)

    def _apply_ledger(self, entry: dict) -> None:
        self.recorded_cap_usd = entry["cap_usd"]

    _apply_cap = _apply_ledger

    def _apply_reserve(self, entry: dict) -> None:
        run = self.runs[entry["run_id"]]
        run.label = run.label or entry["label"]
        new = Reservation(entry["id"], entry["run_id"], entry["label"], entry["usd"], run.usd)
        self.reservations[new.id] = self._open_of_run[new.run_id] = new

    def _apply_settle(self, entry: dict) -> None:
        run = self.runs[entry["run_id"]]
        run.settled_usd = max(run.settled_usd, entry["usd"])
        self._close(entry["id"], "settled")

    def _apply_release(self, entry: dict) -> None:
        self._close(entry["id"], "released")

    def _close(self, id: str, state: str) -> None:
        found = self.reservations[id]
        if self._open_of_run.get(found.run_id) is found:
            del self._open_of_run[found.run_id]
        found.state = state

    def _apply_begin(self, entry: dict) -> None:
        name = entry["machine"]
        bill = self.bills.setdefault(name, Bill(name, entry["host"], 0.0, 0.0))
        if entry["since"] is not None:
            bill.since, bill.until = entry["since"], entry["from"]
            bill.heard = bill.until
        if entry["billed_since"] is not None:
            bill.stamp = entry["billed_since"]
        run = self.runs[entry["run_id"]]
        run.label = run.label or entry["label"]
        for earlier in self.earlier(entry["run_id"], entry["role"]):
            earlier.is_open = False
        held = (entry["run_id"], entry["role"], name, entry["tick_seconds"])
        self.segments.append(Segment(len(self.segments), *held))

    def earlier(self, run_id: str, role: str) -> list[Segment]:
        """The segments of a run that a new one of this role takes the place of."""
        held = (run_id, role)
        return [one for one in self.segments if one.is_open and (one.run_id, one.role) == held]

    def _apply_meter(self, entry: dict) -> None:
        bill, run = self.bills[entry["machine"]], self.runs[entry["run_id"]]
        bill.until, bill.usd_per_hour = max(bill.until, entry["until"]), entry["usd_per_hour"]
        bill.usd += entry["usd"]
        bill.heard = max(bill.heard, entry["heard"])
        run.metered_usd += entry["usd"]
        run.seconds += entry["until"] - entry["from"]
        run.usd_per_hour = entry["usd_per_hour"]
        run.machines.add(bill.machine)
        self.segments[entry["segment"]].keep_usd = entry["keep_usd"]

    def _apply_end(self, entry: dict) -> None:
        self.segments[entry["segment"]].is_open = False
        self.notes.append(entry)

    def _apply_note(self, entry: dict) -> None:
        self.notes.append(entry)


def span_usd(bill: Bill, usd_per_hour: float, until: float) -> float:
    """What a machine cost from its last line until then, at the dearer of the two prices."""
    return (until - bill.until) * max(bill.usd_per_hour, usd_per_hour) / SECONDS_PER_HOUR
