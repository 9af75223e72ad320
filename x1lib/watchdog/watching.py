"""The watch over one run: when to end it, and how that is done."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Hashable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TextIO

from x1lib.budget_guard import LedgerError, Purse
from x1lib.watchdog.holding import LOCK, RECORD, take
from x1lib.watchdog.terminate import Command, Request
from x1lib.watchdog.trainer import (
    Trainer,
    WatchdogError,
    heartbeat,
    last_word,
    trainer_of,
)

GRACE_SECONDS = 60.0  # from SIGTERM to SIGKILL: the trainer's save
END_SECONDS = 60.0  # for the terminate command, two failures included
KILL_SECONDS = 10.0  # until a killed process is gone
POLL_SECONDS = 10.0
LONGEST_WAIT_SECONDS = 300.0  # between two attempts to terminate
ERROR_EXIT = 70  # EX_SOFTWARE: the run was ended


@dataclass(frozen=True)
class Verdict:
    """What a look led to: "end" the run and the machine, or "go" because nothing is left to do."""

    action: str
    reason: str


class Watch:
    """Decides, look by look, from heartbeats and money alone; no process, no file of its own.

    silent_seconds: how long a run may go without a heartbeat. purse: the money (None: not
    watched). Silence is what was observed: a look that comes late, because the machine slept or
    this process was stopped, counts as two on time, and no wall clock is read.
    """

    def __init__(
        self,
        silent_seconds: float,
        purse: Purse | None = None,
        poll_seconds: float = POLL_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.silent_seconds, self.purse, self.poll_seconds = silent_seconds, purse, poll_seconds
        self.silence = 0.0
        self._clock, self._looked, self._beat = clock, clock(), None

    def look(
        self, beat: Hashable, alive: bool, ended: str | None, *, ends_machine: bool = False
    ) -> Verdict | None:
        """What to do now; None to go on watching.

        ends_machine: there is a command that ends the machine. A machine that costs money is then
        watched on when its trainer has ended, until its reader ends it or the money is over.
        beat: changes while the trainer works. ended: how a trainer that is gone ended by itself.
        One that was killed gave no such word: its machine is billed on, so that it is watched
        like a silent one until somebody starts the run again.
        """
        now = self._clock()
        waited, self._looked = min(now - self._looked, 2 * self.poll_seconds), now
        self.silence = 0.0 if beat != self._beat else self.silence + waited
        self._beat = beat
        if self.purse and (reason := self.purse.must_stop()):
            return Verdict("end", reason)
        if not alive and ended and ends_machine and self.purse and self.purse.usd_per_hour:
            return None
        if not alive and ended:
            return Verdict("go", f"the trainer ended by itself: {ended}")
        if self.silence >= self.silent_seconds:
            what = "hangs" if alive else "is gone without a word"
            minutes = self.silence / 60
            return Verdict("end", f"the trainer {what}: no heartbeat for {minutes:.1f} minutes")
        return None


@dataclass
class Record:
    """What the watchdog leaves beside the run, in watchdog.json."""

    status: str  # watching, left, ending, ended, terminated
    reason: str | None = None
    pid: int | None = None  # of the trainer
    silent_minutes: float = 0.0  # allowed
    terminate: str | None = None
    signals: list[str] = field(default_factory=list)
    attempts: list[dict] = field(default_factory=list)
    ledger_trouble: str | None = None
    updated: str = ""


class Watchdog:
    """Watches the run in a folder until it ends by itself, or ends it and then the machine.

    terminate: how to end the machine, checked at once; None ends the trainer alone. purse: with
    role "watchdog". lock: the folder's, where it is held already, as `take` gives it. Raises
    WatchdogError when the folder is missing or watched already.
    """

    def __init__(
        self,
        folder: Path,
        *,
        silent_seconds: float,
        purse: Purse | None = None,
        terminate: Command | Request | None = None,
        grace_seconds: float = GRACE_SECONDS,
        poll_seconds: float = POLL_SECONDS,
        retry_seconds: float = 2.0,
        lock: TextIO | None = None,
        log: Callable[[str], object] = print,
    ) -> None:
        self.folder, self.purse, self.terminate, self.log = Path(folder), purse, terminate, log
        self.grace_seconds, self.poll_seconds = grace_seconds, poll_seconds
        self.retry_seconds = retry_seconds
        described = terminate.check() if terminate else None
        self._lock = lock or take(self.folder)
        self.watch = Watch(silent_seconds, purse, poll_seconds)
        self.record = Record("watching", silent_minutes=silent_seconds / 60, terminate=described)

    def run(self) -> int:
        """Watch to the end; 0 when the run ended by itself, 70 when it was ended."""
        trainer: Trainer | None = None
        begun = time.monotonic()
        with self._lock:
            while True:
                if self._is_replaced():
                    return self._make_way()
                trainer = trainer_of(self.folder) or trainer
                if trainer and trainer.pid != self.record.pid:
                    self.record.pid = trainer.pid
                    self._say("watching", f"watching process {trainer.pid}")
                late = time.monotonic() - begun > self.watch.silent_seconds
                if trainer is None and late and not self._ends_what_is_billed:
                    self._leave("left", "no trainer took the folder")
                    raise WatchdogError(
                        f"no trainer took {self.folder} in {self.watch.silent_seconds / 60:.1f}"
                        " minutes, so nothing was ended; give the folder of the run at work"
                    )
                alive = trainer is not None and trainer.is_alive()
                ended = last_word(self.folder) if trainer and not alive else None
                if trainer is None and late:  # it may have ended before the first look
                    ended = last_word(self.folder) or "no trainer took the folder"
                if ended and self.record.reason != ended:
                    self.record.reason = ended
                    self.log(f"watchdog: the trainer ended by itself: {ended}")
                self._follow_cap()
                verdict = self.watch.look(
                    heartbeat(self.folder), alive, ended, ends_machine=self.terminate is not None
                )
                if verdict and verdict.action == "go":
                    self._leave("left", verdict.reason)
                    return 0
                if verdict:
                    return self._end(trainer, verdict.reason)
                time.sleep(self.poll_seconds)

    def _is_replaced(self) -> bool:
        """Whether the folder's lock is another's: it was moved aside, and a new run is there."""
        try:
            return not os.path.samestat(os.stat(self.folder / LOCK), os.fstat(self._lock.fileno()))
        except OSError:  # moved, and nobody came after
            return False

    def _make_way(self) -> int:
        """Leave all to the watchdog that came after, its watchdog.json too."""
        self.log(f"watchdog: another watches {self.folder} now; nothing was ended")
        with contextlib.suppress(LedgerError):
            if self.purse:
                self.purse.leave("watchdog: left: another watches the folder")
        return 0

    @property
    def _ends_what_is_billed(self) -> bool:
        return bool(self.terminate and self.purse and self.purse.usd_per_hour)

    def _follow_cap(self) -> None:
        try:
            if self.purse:
                self.purse.ledger.follow_cap()
        except LedgerError as error:
            self.record.ledger_trouble = str(error)

    # ---- the end of a run

    def _end(self, trainer: Trainer | None, reason: str) -> int:
        self._say("ending", reason)
        self._note(f"watchdog: {reason}")
        if trainer:
            self._end_process(trainer)
        if self.terminate is None:
            self._leave("ended", f"{reason}; the machine was left as it is, and is billed on")
            return ERROR_EXIT
        self._end_machine(self.terminate)
        self._leave("terminated", reason)
        return ERROR_EXIT

    def _end_process(self, trainer: Trainer) -> None:
        """SIGTERM, time to save, SIGKILL; never to another process of that number."""
        for number, seconds in (
            (signal.SIGTERM, self.grace_seconds),
            (signal.SIGKILL, KILL_SECONDS),
        ):
            if not trainer.signal(number):
                return
            self.record.signals.append(number.name)
            self._say("ending", f"{number.name} to process {trainer.pid}")
            until = time.monotonic() + seconds
            while trainer.is_alive() and time.monotonic() < until:
                time.sleep(0.05)
            self._tick()
        if trainer.is_alive():  # in a system call that cannot be interrupted
            self._say("ending", f"process {trainer.pid} does not die; the machine is ended anyway")

    def _end_machine(self, terminate: Command | Request) -> None:
        """Try until it works: a machine that nobody ends costs more than any number of tries."""
        wait = self.retry_seconds
        self._tick(force=True)  # the next may find the machine gone
        for number in range(1_000_000_000):
            worked, said = terminate.attempt(number)
            self.record.attempts.append({"time": _now(), "worked": worked, "said": said})
            del self.record.attempts[1:-50]  # the first and the newest
            self._say("terminated" if worked else "ending", f"terminate, try {number + 1}: {said}")
            if worked:
                return
            self._tick()
            time.sleep(wait)
            wait = min(2 * wait, LONGEST_WAIT_SECONDS)

    # ---- what is left behind

    def _say(self, status: str, line: str) -> None:
        self.record.status, self.record.reason = status, line
        self._write()
        self.log(f"watchdog: {line}")

    def _leave(self, status: str, reason: str) -> None:
        if self.purse:
            try:
                tries = f" after {len(self.record.attempts)} tries" if self.record.attempts else ""
                self.purse.leave(f"watchdog: {status}{tries}: {reason}")
            except LedgerError as error:
                self.record.ledger_trouble = str(error)
        self._say(status, reason)

    def _note(self, text: str) -> None:
        try:
            if self.purse:
                self.purse.note(text)
        except LedgerError as error:  # no reason to let the machine run on
            self.record.ledger_trouble = str(error)

    def _tick(self, force: bool = False) -> None:
        if self.purse:
            self.purse.tick(force)
            self.record.ledger_trouble = self.purse.trouble

    def _write(self) -> None:
        """Replace watchdog.json; a full disk is no reason to stop watching."""
        if self._is_replaced():
            return
        self.record.updated = _now()
        path = self.folder / RECORD
        with contextlib.suppress(OSError):
            aside = path.with_name(f".{RECORD}.{os.getpid()}")
            aside.write_text(json.dumps(asdict(self.record), indent=1) + "\n")
            os.replace(aside, path)


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
