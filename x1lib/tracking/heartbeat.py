"""`heartbeat.json`: that a trainer lives, how far it is, and how much wall-clock it has used.

metrics.jsonl gains a line a step, and a step can take a minute. Between two of them a killed
process would lose time that was billed, and a watcher could not tell slow from dead.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from x1lib.tracking.holders import read_json

HEARTBEAT = "heartbeat.json"
SECONDS = 2.0
_WIDTH = 160  # bytes: always written whole, over the old ones


class Heartbeat(contextlib.AbstractContextManager):
    """Writes `state()` with the time (UTC, seconds since 1970) every two seconds, from a thread.

    A beat that the disk refuses is left out: training is not the worse for it.
    """

    def __init__(self, folder: Path, state: Callable[[], dict]) -> None:
        self._path, self._state, self._over = Path(folder) / HEARTBEAT, state, threading.Event()

    def __enter__(self) -> Heartbeat:
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._over.set()
        self._thread.join()
        self._beat()

    def _work(self) -> None:
        self._beat()
        while not self._over.wait(SECONDS):
            self._beat()

    def _beat(self) -> None:
        line = json.dumps({"time": round(time.time(), 3), "pid": os.getpid(), **self._state()})
        with contextlib.suppress(OSError):
            file = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o644)
            try:
                os.pwrite(file, line.ljust(_WIDTH).encode() + b"\n", 0)
            finally:
                os.close(file)


def last_beat(folder: Path) -> dict:
    """The newest heartbeat of a run folder; empty where there is none to be read."""
    return read_json(Path(folder) / HEARTBEAT)
