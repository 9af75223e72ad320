"""Taking up a ledger that grew elsewhere: what it counts and this one does not, as one sum."""

from __future__ import annotations

import hashlib
import itertools
import tempfile
from pathlib import Path

from x1lib.budget_guard.journal import LedgerError
from x1lib.budget_guard.ledger import Ledger


def take_in(here: Path, other: Path) -> float:
    """Add to a ledger what another one has spent since the two were the same; returns that, in $.

    other: a copy that went on elsewhere, or one that began there. What it spent stands here as one
    settled run, named after the first line that only the other has: taking in the same ledger
    again, or one that grew since, counts nothing twice. What it had set aside is not taken. The
    lines of `other` are not changed. Raises LedgerError where one of the two cannot be counted.
    """
    if not other.exists():
        raise LedgerError(f"{other} does not exist; give the ledger that came from elsewhere")
    ours, theirs = (
        path.read_bytes().split(b"\n")[:-1] if path.exists() else []  # whole lines
        for path in (here, other)
    )
    pairs = zip(ours, theirs, strict=False)
    shared = [one for one, same in itertools.takewhile(lambda both: both[0] == both[1], pairs)]
    with tempfile.TemporaryDirectory() as folder:
        beginning = Path(folder) / "ledger.jsonl"
        beginning.write_bytes(_joined(shared))
        before_usd = Ledger(beginning, overspent_ok=True).spent_usd
    elsewhere = Ledger(other, overspent_ok=True)
    usd = elsewhere.spent_usd - before_usd
    if len(theirs) == len(shared):
        return 0.0  # all of it stands here
    ledger = Ledger(here, overspent_ok=True)
    if ledger.recorded_cap_usd is None:
        ledger.cap_usd = elsewhere.recorded_cap_usd or ledger.cap_usd
    parted = _joined(theirs[: len(shared) + 1])
    name = f"elsewhere-{hashlib.sha256(parted).hexdigest()[:12]}"
    with ledger.journal.locked():
        if name not in ledger.runs:
            ledger.set_aside(0.0, "spent in another ledger", name)
            ledger.note(name, f"taken in from {other.name}: spent elsewhere since they parted")
        (id,) = [one.id for one in ledger.reservations.values() if one.run_id == name]
        was = ledger.runs[name].usd
        ledger.settle(id, max(usd, was))
        return max(0.0, usd - was)


def _joined(lines: list[bytes]) -> bytes:
    return b"".join(line + b"\n" for line in lines)
