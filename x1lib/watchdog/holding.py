"""Who watches a run folder: one watchdog at a time, which a lock says and a new one may replace."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from x1lib.tracking.holders import is_locked, read_json
from x1lib.watchdog.trainer import WatchdogError, holder_of

RECORD, LOCK = "watchdog.json", "watchdog.lock"


def at_work(folder: Path) -> bool:
    """Whether a watchdog of this run is at work."""
    return is_locked(Path(folder) / LOCK)


def digest(arguments: Sequence[str]) -> str:
    """A short name of a watchdog's arguments, the cap's left out: it is read at each look."""
    told = [one for one in arguments if not one.startswith("--cap-usd")]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]


def holder(folder: Path) -> int | None:
    """The number of the watchdog process of a run; None where none is at work."""
    return read_json(Path(folder) / LOCK).get("pid") if at_work(folder) else None


def asked(folder: Path) -> str | None:
    """The digest of what the newest watchdog of this run was told."""
    return read_json(Path(folder) / LOCK).get("asked")


def retire(folder: Path, seconds: float = 10.0) -> bool:
    """End the watchdog of a run, so that another can be started; False while it ends its machine.

    Raises WatchdogError where it does not go.
    """
    folder = Path(folder)
    if not at_work(folder):
        return True
    if read_json(folder / RECORD).get("status") == "ending":
        return False
    watcher, until = holder_of(folder / LOCK), time.monotonic() + seconds
    while at_work(folder):
        if watcher is None or time.monotonic() > until:
            raise WatchdogError(
                f"the watchdog of {folder} has other settings and does not go; end the process"
                f" that {folder / LOCK} names, and start the run again"
            )
        watcher.signal(signal.SIGTERM)
        time.sleep(0.05)
    return True


def take(folder: Path, asked: str = "") -> TextIO:
    """Take the watchdog's lock of a run folder; a dead one's lock frees itself.

    asked: a digest of what this watchdog was told, for `asked`. Raises WatchdogError.
    """
    path = Path(folder) / LOCK
    if not path.parent.is_dir():
        raise WatchdogError(f"{folder} is no folder; give the folder of a run")
    try:
        file = open(path, "a")
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        file.truncate(0)
        json.dump({"pid": os.getpid(), "host": platform.node(), "asked": asked}, file)
        file.flush()
    except BlockingIOError as error:
        raise WatchdogError(f"{path.parent} is watched already; one watchdog is enough") from error
    except OSError as error:
        raise WatchdogError(
            f"{path} cannot be written ({error.strerror}); give a writable run folder"
        ) from error
    return file
