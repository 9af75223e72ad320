"""Watch one run from outside: end it when it hangs or the cap is reached, then end the machine.

Start it beside the trainer, on the same machine, so that it outlives your shell (tmux, nohup). A
trainer without a heartbeat for so many minutes (no step in heartbeat.json, nothing new in
metrics.jsonl, train.log or state/), or one that was killed and not started again in that time, is
ended: SIGTERM, a minute to save, SIGKILL; then --terminate ends the machine, tried until it works.

A trainer that ends by itself is left alone, and so is the machine: end it yourself, it is billed
until then. With a price and --terminate the watchdog stays, meters it, and ends it before the cap
if you do not. Without them nobody ends it: the trainer stays under the cap, its idle machine not.
A `shutdown` typed on the machine may leave it on the bill.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import sys
import time
from pathlib import Path

from x1lib import X1Error
from x1lib.budget_guard import Ledger, Purse
from x1lib.watchdog.holding import digest, take
from x1lib.watchdog.terminate import TEMPLATES, terminator
from x1lib.watchdog.trainer import WatchdogError, trainer_of
from x1lib.watchdog.watching import END_SECONDS, GRACE_SECONDS, POLL_SECONDS, Watchdog

FIRST_WORDS_SECONDS = 300.0  # tokenising a large text comes before a manifest


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m x1lib.watchdog",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("folder", type=Path, help="of the run")
    add("--silent-minutes", type=_positive, default=15.0, metavar="N", help="(default: 15)")
    add("--grace-seconds", type=_positive, default=GRACE_SECONDS, metavar="X", help="(60)")
    add("--poll-seconds", type=_positive, default=POLL_SECONDS, metavar="X", help="(10)")
    add(
        "--terminate",
        metavar="CMD",
        help=f"a template ({', '.join(TEMPLATES)}) or a command line in which $NAME stands for an"
        " environment variable; none: only the trainer is ended",
    )
    add("--ledger", type=Path, help="(default: ledger.jsonl beside the run's folder)")
    add("--cap-usd", type=_positive, metavar="X", help="(default: the cap the ledger records)")
    add("--usd-per-hour", type=float, metavar="X", help="(default: the run's price in the ledger)")
    add("--billed-since", type=float, metavar="T", help="seconds since 1970")
    return parser


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no number above 0")
    return value


def purse_for(
    folder: Path,
    ledger_path: Path | None,
    cap_usd: float | None,
    usd_per_hour: float | None,
    billed_since: float | None,
    grace_seconds: float,
    poll_seconds: float,
) -> Purse | None:
    """The watchdog's purse, or None where there is neither a ledger nor a price.

    The run is the newest one that the folder's manifest names.
    """
    path = ledger_path or folder.absolute().parent / "ledger.jsonl"
    if not path.exists() and usd_per_hour is None:
        if cap_usd is not None:
            raise WatchdogError(
                f"a cap needs a price, and {path} does not exist; give --usd-per-hour or --ledger"
            )
        return None
    ledger = Ledger(path, overspent_ok=True)
    if cap_usd is not None:
        ledger.cap_usd = cap_usd
        ledger.record_cap()
    ledger.follow_cap()
    run_id = _run_id(folder) or folder.absolute().name  # of a run that never said a word
    if usd_per_hour is None:
        usd_per_hour = ledger.runs[run_id].usd_per_hour if run_id in ledger.runs else 0.0
    return Purse(
        ledger,
        usd_per_hour,
        run_id,
        role="watchdog",
        billed_since=billed_since,
        keep_seconds=grace_seconds,
        end_seconds=END_SECONDS,
        tick_seconds=90.0,  # longer than a trainer's, so that it writes where no trainer does
        step_seconds=2 * poll_seconds,
    )


def _run_id(folder: Path) -> str | None:
    """The run's own name in the ledger; a trainer that was just started gets time to write it."""
    until = time.monotonic() + FIRST_WORDS_SECONDS
    while True:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            return json.loads((folder / "manifest.json").read_text())["run_id"]
        if trainer_of(folder) is None or time.monotonic() > until:
            return None
        time.sleep(0.5)


def main(argv: list[str] | None = None) -> int:
    sys.stdout.reconfigure(line_buffering=True)
    given = _parser().parse_args(argv)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the shell may go
    try:
        terminate = terminator(given.terminate) if given.terminate else None
        if terminate:
            terminate.check()  # before a line is written
        told = sys.argv[1:] if argv is None else argv
        lock = take(given.folder, digest(told))  # before waiting, so that a second one is refused
        purse = purse_for(
            given.folder,
            given.ledger,
            given.cap_usd,
            given.usd_per_hour,
            given.billed_since,
            given.grace_seconds,
            given.poll_seconds,
        )
        if purse is None or not purse.usd_per_hour:
            print("watchdog: no price is known, so only silence is watched, no cap")
        return Watchdog(
            given.folder,
            silent_seconds=given.silent_minutes * 60,
            purse=purse,
            terminate=terminate,
            grace_seconds=given.grace_seconds,
            poll_seconds=given.poll_seconds,
            lock=lock,
        ).run()
    except X1Error as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
