"""What works beside a trainer: the mirror of its metrics, the watchdog, the bill of what follows.

X1_TERMINATE names the command that ends the machine: see `python -m x1lib.watchdog --help`.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from x1lib import watchdog
from x1lib.budget_guard import BudgetRefused, Ledger, LedgerError, Purse
from x1lib.launch.detached import detached
from x1lib.launch.places import manifest, project_root, say, shown
from x1lib.session.money import guard_of, ledger_path
from x1lib.tracking import mirror, scrub
from x1lib.tracking.holders import read_json
from x1lib.train import Config

if TYPE_CHECKING:
    from x1lib.launch.starting import Launched

TERMINATE = "X1_TERMINATE"
WATCHDOG_LOG = "watchdog.log"
WATCHDOG_SECONDS = 120.0  # as for a trainer: importing from a cold network disk


def check_terminate(config: Config) -> None:
    """Raise WatchdogError where a run costs money and the command to end its machine is no good."""
    if config.usd_per_hour and os.environ.get(TERMINATE):
        watchdog.terminator(os.environ[TERMINATE]).check()


def mirrored(run: Launched) -> str | None:
    """Start the mirror of a run's metrics where there is none and one is wanted; a line for it."""
    if why := mirror.absent():
        begins = run.how in ("started", "resumed")
        return f"no mlflow mirror of this run: {why}" if begins else None
    if mirror.at_work(run.folder) or (run.how == "finished" and mirror.is_complete(run.folder)):
        return None
    arguments = [sys.executable, "-m", "x1lib.tracking.mirror", str(run.folder), "--follow"]
    try:
        child = detached(arguments, run.folder / mirror.LOG, cwd=run.folder.parent)
    except OSError as error:  # a full disk, say: no reason to lose sight of the run
        return f"no mlflow mirror of this run: {error.strerror}"
    where = shown(scrub(mirror.tracking_uri(run.folder)))
    return f"mirrored into mlflow, {where}, by process {child.pid}"


def watched(run: Launched, config: Config) -> str | None:
    """Start the watchdog of a run that costs money; a line for it.

    One that is at work under another price, stamp or terminate command makes room for the new one;
    the cap it reads from the ledger. One that is ending its machine is left to it. Returns when the
    new one holds the folder, so that the line is true.
    """
    if not config.usd_per_hour or run.pid is None:
        return None
    wanted = _watchdog_arguments(run.folder, config)
    again = ""
    if watchdog.at_work(run.folder):
        if watchdog.asked(run.folder) == watchdog.digest(wanted):
            return None
        if not watchdog.retire(run.folder):
            return "watchdog: the old one, with the old settings, is ending the run and stays"
        again = "in place of the one with the old settings, "
    arguments = [sys.executable, "-m", "x1lib.watchdog", *wanted]
    if config.cap_usd and not ledger_path(run.folder).exists():  # whoever comes first makes it
        arguments.append(f"--cap-usd={config.cap_usd}")
    child = detached(arguments, run.folder / WATCHDOG_LOG, cwd=run.folder.parent)
    if not _takes_folder(child, run.folder):
        end = (run.folder / WATCHDOG_LOG).read_text(errors="replace").strip().rpartition("\n")[2]
        return f"warning: NO watchdog is at work, process {child.pid} did not take the run: {end}"
    ends = "and not the machine: set X1_TERMINATE for that"
    if os.environ.get(TERMINATE):
        ends = "and the machine"
    return f"watchdog: {again}process {child.pid} ends a run that hangs or passes the cap, {ends}"


def _takes_folder(child: subprocess.Popen, folder: Path) -> bool:
    until = time.monotonic() + WATCHDOG_SECONDS
    while child.poll() is None and time.monotonic() < until:
        if watchdog.holder(folder) == child.pid:
            return True
        time.sleep(0.05)
    return False


def told(run: Launched, config: Config) -> list[str]:
    """What becomes of a cap and a price that differ from those of a trainer at work; lines.

    The cap is recorded, and all who are at work follow it; its price a trainer keeps.
    """
    known = manifest(run.folder).get("config") or read_json(run.folder / "launch.json")
    price = known.get("usd_per_hour", config.usd_per_hour)
    lines = []
    if price != config.usd_per_hour:
        lines.append(
            f"budget: the trainer at work keeps its price of {price:g} an hour, not"
            f" {config.usd_per_hour:g}: launch.stop(run), or `make stop`, and start it again"
        )
    if not config.cap_usd or not (price or config.usd_per_hour):
        return lines
    try:
        ledger = Ledger(ledger_path(run.folder), config.cap_usd)
        was = ledger.recorded_cap_usd
        ledger.record_cap()
    except LedgerError as error:
        return [*lines, f"budget: the trainer at work keeps its cap: {error}"]
    if was not in (None, config.cap_usd):
        new = f"budget: the cap of all labs was {was:.2f} and is {config.cap_usd:.2f} now"
        lines.append(f"{new}; the trainer at work follows it")
    return lines


def unwatched(folder: Path, usd_per_hour: float) -> str:
    """What to do about a priced machine that nobody ends after a run that was not begun, or ""."""
    command = os.environ.get(TERMINATE)
    if not usd_per_hour or (command and watchdog.at_work(folder)):
        return ""
    how = "at your provider's console" + (f", or with {scrub(command)!r}" if command else "")
    return (
        f"This machine is billed on at {usd_per_hour:g} an hour and nothing ends it: end it"
        f" yourself {how}, or start a run that fits"
    )


def _watchdog_arguments(folder: Path, config: Config) -> list[str]:
    """What a watchdog is told, but for the cap, which it reads from the ledger at each look."""
    arguments = [str(folder), f"--usd-per-hour={config.usd_per_hour}"]
    arguments.append(f"--ledger={ledger_path(folder)}")
    if config.billed_since:
        arguments.append(f"--billed-since={config.billed_since}")
    if terminate := os.environ.get(TERMINATE):
        arguments.append(f"--terminate={terminate}")
    return arguments


@contextlib.contextmanager
def metered(
    config: Config, minutes: float, what: str, log: Callable[[str], object] = say
) -> Iterator[None]:
    """Bill what is done on this machine after a run to that run: `with metered(...): measure()`.

    minutes: how long it may take. Takes up what the run set aside for it (Config.after_hours).
    Raises BudgetRefused, before it begins, where the money for it is not there.
    """
    folder = project_root() / config.out
    purse = None
    try:
        guard, _ = guard_of(config, folder)
        label, run_id = folder.name, manifest(folder).get("run_id") or folder.name
        since = config.billed_since or None
        step = {"keep_seconds": 60 * minutes, "step_seconds": 0.0}
        purse = Purse(
            guard.ledger, config.usd_per_hour, run_id,
            label=label, role="after", billed_since=since, **step,
        )  # fmt: skip
        _refuse_unpaid(purse, minutes, what)
    except LedgerError as error:
        if config.usd_per_hour:
            raise
        log(f"note: no ledger is kept ({error})")
    try:
        yield
    finally:
        if purse:
            _settle(purse, what, log)


def _settle(purse: Purse, what: str, log: Callable[[str], object]) -> None:
    try:
        usd = purse.settle(f"{what}: over")
        if purse.usd_per_hour:
            log(f"{what} is metered too: with it the run has cost {usd:.2f} US dollars")
    except LedgerError as error:
        if purse.usd_per_hour:
            log(f"warning: the ledger has not the cost of {what}: {error}")


def _refuse_unpaid(purse: Purse, minutes: float, what: str) -> None:
    if not purse.usd_per_hour or purse.seconds_left > 0:
        return
    left = purse.available_usd
    usd = minutes / 60 * purse.usd_per_hour
    purse.leave(f"refused: {what}")
    raise BudgetRefused(
        f"{what} takes {minutes:g} minutes, {usd:.2f} US dollars, and the machine must be ended"
        f" after it: {left:.2f} are left under the cap of {purse.ledger.cap_usd:.2f}; leave it out,"
        " or raise cap_usd",
        usd,
        left,
    )
