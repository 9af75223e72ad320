"""The trainer as seen from outside: which process it is, whether it lives, its heartbeat."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import platform
import signal
from dataclasses import dataclass
from pathlib import Path

from x1lib import X1Error
from x1lib.tracking.heartbeat import last_beat

LOCK = "lock"  # of x1lib.runtime.FolderLock: names the process that holds the run folder
BEATS = ("metrics.jsonl", "train.log", "state")  # a change of one is a heartbeat
LAST_WORDS = ("finished", "failed", "interrupted")  # events of a trainer that ends by itself
TAIL_BYTES = 65_536


class WatchdogError(X1Error, RuntimeError):
    """A watchdog that cannot do its work as asked."""


@dataclass(frozen=True)
class Trainer:
    """One process, told from any later one with its number by when it started (None: unknown).

    A watchdog, too, is known in this way when it is to make room for another.
    """

    pid: int
    started: int | None  # clock ticks since boot: proc(5), /proc/pid/stat, field 22

    def is_alive(self) -> bool:
        """Whether this very process still runs; one that nobody waited for does not."""
        state, started = _stat(self.pid)
        if state is not None:
            return state not in "ZX" and started == self.started
        if self.started is not None:
            return False  # there was a /proc entry, and it is gone
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, 0)
            return True
        return False

    def signal(self, number: int) -> bool:
        """Send a signal to this process and to no other; returns whether it was there.

        A file descriptor of the process is taken first and its identity checked then, so that a
        number handed out anew in between is not hit (Linux 5.3 and newer).
        """
        try:
            handle = os.pidfd_open(self.pid)
        except (AttributeError, OSError):  # no such call here, or no such process
            if not self.is_alive():
                return False
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)
                return True
            return False
        try:
            if not self.is_alive():
                return False
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, number)
                return True
            return False
        finally:
            os.close(handle)


def trainer_of(folder: Path) -> Trainer | None:
    """The process that holds a run folder on this machine, or None."""
    return holder_of(Path(folder) / LOCK)


def holder_of(lock: Path) -> Trainer | None:
    """The process on this machine that a lock file names, or None.

    The number is believed only where that process has the lock file open.
    """
    try:
        holder = json.loads(lock.read_text())
        pid, host = int(holder["pid"]), holder["host"]
    except (OSError, ValueError, KeyError, TypeError):  # none, or just being written
        return None
    if host != platform.node() or not _holds(pid, lock):
        return None
    return Trainer(pid, _stat(pid)[1])


def _stat(pid: int) -> tuple[str | None, int | None]:
    """A process's state and when it started; None for both where /proc has no such process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return fields[0], int(fields[19])
    except (OSError, IndexError, ValueError):
        return None, None


def _holds(pid: int, lock: Path) -> bool:
    """Whether a process has the lock file open; without /proc, whether anybody has it locked."""
    try:
        wanted = os.stat(lock)
        if not Path("/proc/self/fd").exists():
            with open(lock) as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):  # closed meanwhile
                if os.path.samestat(os.stat(entry), wanted):
                    return True
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def heartbeat(folder: Path) -> tuple:
    """What changes while a trainer works: size and time of the files that it writes, and its step.

    heartbeat.json is written by a thread, which goes on when the training hangs: of it only the
    step counts, for a run that logs rarely.
    """
    beat: list[object] = [last_beat(folder).get("step")]
    for name in BEATS:
        try:
            found = os.stat(folder / name)
            beat.append((name, found.st_size, found.st_mtime_ns))
        except OSError:
            beat.append((name, None, None))
    return tuple(beat)


def last_word(folder: Path) -> str | None:
    """How the newest trainer of a folder ended by itself; None where it did not say so."""
    try:
        with open(folder / "metrics.jsonl", "rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - TAIL_BYTES))
            lines = file.read().splitlines()
    except OSError:
        return None
    for line in reversed(lines):
        with contextlib.suppress(ValueError, AttributeError):
            event = json.loads(line).get("event")
            if event in LAST_WORDS:
                return event
            if event in ("start", "resume"):
                return None
    return None
