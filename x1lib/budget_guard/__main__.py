"""Show the account of a ledger: what was spent, by whom, what is set aside, what is left."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from x1lib import exit_code_of
from x1lib.budget_guard.account import SECONDS_PER_HOUR
from x1lib.budget_guard.journal import LedgerError
from x1lib.budget_guard.ledger import Ledger
from x1lib.budget_guard.machine import this_machine
from x1lib.budget_guard.merging import take_in
from x1lib.budget_guard.purse import END_SECONDS

NOTES = 8  # the newest are shown


def opened(path: Path, cap_usd: float | None) -> Ledger:
    """The ledger at a path, which must exist; without a cap of its own, under the recorded one."""
    if not path.exists():
        raise LedgerError(f"{path} does not exist; give the path of a ledger.jsonl")
    ledger = Ledger(path, overspent_ok=True)
    if cap_usd is not None:
        ledger.cap_usd = cap_usd
    elif ledger.recorded_cap_usd is not None:
        ledger.cap_usd = ledger.recorded_cap_usd
    return ledger


def table(ledger: Ledger) -> list[str]:
    """The account as lines of text, one a run; US dollars."""
    rows = [("run", "label", "hours", "spent $", "set aside $", "reservation", "machines", "last")]
    for run_id, run in ledger.runs.items():
        states = [r for r in ledger.reservations.values() if r.run_id == run_id]
        aside = sum(ledger.remaining(r) for r in states)
        rows.append(
            (
                run_id[:12],
                run.label,
                f"{run.seconds / SECONDS_PER_HOUR:.2f}",
                f"{run.usd:.2f}",
                f"{aside:.2f}",
                f"{states[-1].id} {states[-1].state}" if states else "none",
                str(len(run.machines)),
                run.last,
            )
        )
    spent, aside = ledger.spent_usd, ledger.committed_usd
    rows.append(("all", "", "", f"{spent:.2f}", f"{aside:.2f}", "", str(len(ledger.bills)), ""))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    numbers = {2, 3, 4, 6}
    lines = [
        "  ".join(
            cell.rjust(widths[i]) if i in numbers else cell.ljust(widths[i])
            for i, cell in enumerate(row)
        ).rstrip()
        for row in rows
    ]
    left = ledger.cap_usd - spent - aside
    lines += ["", f"cap {ledger.cap_usd:.2f}, left {left:.2f} US dollars"]
    if left < 0:
        lines[-1] += ": over the cap"
    notes = ledger.notes[-NOTES:]
    if notes:
        lines += ["", *(f"{n['time']}  {n['run_id'][:12]}  {_text(n)}" for n in notes)]
    return lines


def _text(note: dict) -> str:
    return note.get("text") or f"left: {note['reason']}"


def last_line(ledger: Ledger, ending: bool) -> list[str]:
    """Write what this machine has cost since its last line; what was done, in words.

    ending: three minutes more, for its end, and what was set aside for after a settled run is
    given back.
    """
    usd = ledger.catch_up(this_machine(), END_SECONDS if ending else 0.0)
    if usd is None:
        return ["this machine is in no line of the ledger, so nothing was metered"]
    ahead = f", {END_SECONDS / 60:g} minutes for its end included" if ending else ""
    said = [f"{usd:.2f} US dollars more for this machine{ahead}"]
    if ending and (freed := ledger.release_leftovers()):
        said.append(f"no longer set aside: {', '.join(freed)}, for after a run that is settled")
    return said


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m x1lib.budget_guard", description=__doc__)
    parser.add_argument("ledger", type=Path, help="the file, say experiments/.../ledger.jsonl")
    parser.add_argument("--cap-usd", type=float, metavar="X", help="default: the recorded one")
    parser.add_argument(
        "--release",
        metavar="ID",
        help="first give back what is set aside under this reservation (r1, r2, ...)",
    )
    parser.add_argument(
        "--take",
        type=Path,
        metavar="LEDGER",
        help="first add what a ledger that grew elsewhere has spent since the two parted",
    )
    parser.add_argument(
        "--meter",
        action="store_true",
        help="first write what this machine has cost since its last line, idle hours included",
    )
    parser.add_argument(
        "--ending",
        action="store_true",
        help=f"as --meter, and {END_SECONDS:.0f} s more: for a machine that is ended now",
    )
    arguments = parser.parse_args(argv)

    def show() -> None:
        if arguments.take:
            usd = take_in(arguments.ledger, arguments.take)
            print(f"{usd:.2f} US dollars of {arguments.take} are counted here now\n")
        ledger = opened(arguments.ledger, arguments.cap_usd)
        if arguments.release:
            ledger.release(arguments.release)
        if arguments.meter or arguments.ending:
            print("\n".join([*last_line(ledger, arguments.ending), ""]))
        print("\n".join(table(ledger)))

    return exit_code_of(show)


if __name__ == "__main__":
    sys.exit(main())
