"""The process around the trainer: exit codes, signals, the folder lock, when it began."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import math
import os
import platform
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from x1lib import X1Error
from x1lib.runtime.machine import RuntimeRefused

# Exit codes of `python -m x1lib.train`, after sysexits.h where it has a word for it.
EXIT_FINISHED = 0
EXIT_REFUSED = 2  # bad settings, bad data, bad checkpoint, a folder in use: see the message
EXIT_NOT_FINITE = 65  # EX_DATAERR: a loss or gradient was NaN or inf, the optimiser did not step
EXIT_NO_MEMORY = 71  # EX_OSERR: one sequence does not fit
EXIT_NO_SPACE = 74  # EX_IOERR: the last checkpoint could not be written
EXIT_INTERRUPTED = 75  # EX_TEMPFAIL: SIGTERM or Ctrl-C, state saved: run again to resume
EXIT_BUDGET = 77  # EX_NOPERM: the money for more is not there, state saved


HOURS_OVER = "the hours are over"
LOOK_SECONDS = 0.3  # more than a look at a lock takes


class NotFiniteError(X1Error, ArithmeticError):
    """A loss, a gradient or a weight became NaN or infinite; nothing of it was saved."""

    exit_code = EXIT_NOT_FINITE


class NoMemoryError(X1Error, MemoryError):
    """Not even one sequence fits into the device's memory."""

    exit_code = EXIT_NO_MEMORY


class FolderInUse(X1Error, RuntimeError):
    """Another trainer holds the run folder."""


class Interrupted(BaseException):
    """SIGTERM or Ctrl-C arrived while no training state was being changed.

    A BaseException, so that no `except Exception` of a library on the way swallows it.
    """

    exit_code = EXIT_INTERRUPTED


class Interrupts:
    """Turns SIGTERM and Ctrl-C into `Interrupted`, never in the middle of a state change.

    Inside `with interrupts.held():` (an optimiser step, a save) the signal waits for the end of
    the block; everywhere else, compiling and evaluating included, it is raised at once. Where it
    arrives inside a finaliser or a callback that swallows exceptions, it is raised again, at the
    end of each held block and every half second, until `leave()` says that it was heard. From
    then on signals change nothing: the save that the first one asked for is under way.
    """

    AGAIN_SECONDS = 0.5

    def __init__(self) -> None:
        self.received: str | None = None
        self._deadline = math.inf
        self._held = 0
        self._leaving = False

    def __enter__(self) -> Interrupts:
        caught = (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)
        self._before = {s: signal.signal(s, self._handle) for s in caught}
        return self

    def __exit__(self, *exc_info: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: object) -> None:
        is_over = time.monotonic() >= self._deadline
        if self.received is None and (is_over or number != signal.SIGALRM):
            self.received = HOURS_OVER if is_over else signal.Signals(number).name
            signal.setitimer(signal.ITIMER_REAL, self.AGAIN_SECONDS, self.AGAIN_SECONDS)
        self.check()

    def end_in(self, seconds: float) -> None:
        """Raise Interrupted after so many seconds, as if a signal came then: the last guard."""
        self._deadline = time.monotonic() + seconds
        signal.setitimer(signal.ITIMER_REAL, max(0.01, seconds), self.AGAIN_SECONDS)

    def check(self) -> None:
        """Raise Interrupted if a signal came and nobody has heard it yet."""
        if self.received and not self._held and not self._leaving:
            raise Interrupted(self.received)

    def leave(self) -> None:
        """Stop raising: the process is on its way out."""
        self._leaving = True
        signal.setitimer(signal.ITIMER_REAL, 0)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
        self.check()


class FolderLock:
    """Lets one trainer at a time write a run folder; a dead trainer's lock frees itself."""

    def __init__(self, folder: Path) -> None:
        self.path = Path(folder) / "lock"

    def __enter__(self) -> FolderLock:
        folder = self.path.parent
        try:
            folder.mkdir(exist_ok=True)
            self._file = open(self.path, "a+")
        except FileNotFoundError as error:
            raise RuntimeRefused(
                f"cannot make {folder}: its parent folder is missing; make {folder.parent} first"
            ) from error
        except OSError as error:
            raise RuntimeRefused(
                f"cannot write to {folder} ({error.strerror}); give --out a writable folder"
            ) from error
        try:
            self._take()
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            self._file.seek(0)
            holder = self._file.read().strip() or "another process"
            self._file.close()
            raise FolderInUse(
                f"{folder} is in use by {holder}; wait for it, end it, or give another --out"
            ) from error
        self._file.truncate(0)
        self._file.write(json.dumps({"pid": os.getpid(), "host": platform.node()}))
        self._file.flush()
        return self

    def _take(self) -> None:
        """Take the lock; whoever only looks whether it is taken holds it for an instant."""
        until = time.monotonic() + LOOK_SECONDS
        while True:
            try:
                return fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                if time.monotonic() > until:
                    raise
            time.sleep(0.02)

    def __exit__(self, *exc_info: object) -> None:
        self._file.close()  # closing drops the lock; the file stays, so nobody locks a ghost


def process_started_at() -> float:
    """When this process began, in seconds on the monotonic clock; importing torch counts too."""
    try:
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        ticks = float(fields[19])  # starttime, in clock ticks since boot (proc(5), field 22)
        since_boot = time.clock_gettime(time.CLOCK_BOOTTIME)
        return time.monotonic() - (since_boot - ticks / os.sysconf("SC_CLK_TCK"))
    except (OSError, AttributeError, IndexError, ValueError):
        return time.monotonic() - time.process_time()
