"""`metrics.jsonl`: the record that everything else about a run is read from."""

from __future__ import annotations

import errno
import json
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path

from x1lib import X1Error
from x1lib.tracking.secrets import scrub

METRICS = "metrics.jsonl"


class TrackingError(X1Error, ValueError):
    """A record of a run that is missing or cannot be read."""


class RecordError(TrackingError):
    """The disk of the run folder takes no more records."""

    exit_code = 74  # EX_IOERR, as in x1lib.runtime


class Run:
    """Appends one JSON object a line to `folder/metrics.jsonl`; survives kill -9 at any byte.

    A line torn by a kill is closed with a line end, so that the next one starts whole; readers
    pass over it. Every line has `kind` ("step", "eval", "sample", "event") and `time` (UTC).
    """

    def __init__(self, folder: Path) -> None:
        self.path = Path(folder) / METRICS
        self._file = open(self.path, "ab", buffering=0)  # a line is written whole or torn at once
        if self._file.tell() and self.path.read_bytes()[-1:] != b"\n":
            self._write(b"\n")

    def log(self, kind: str, **values: object) -> None:
        """Write one line and hand it to the system at once; a value that is not finite is null."""
        line = finite({"kind": kind, "time": round(time.time(), 3), **values})
        self._write(json.dumps(line, allow_nan=False).encode() + b"\n")

    def _write(self, data: bytes) -> None:
        try:
            if self._file.write(data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise RecordError(
                f"{self.path} cannot be written ({error.strerror}); make room and start again"
            ) from error

    def event(self, name: str, **values: object) -> None:
        """Write something that happened, without secrets: a start, a new schedule, an error."""
        self.log("event", event=name, **scrub(values))

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._file.close()


def finite(value: object) -> object:
    """The value with every NaN and infinity in it, however deep, as None: JSON knows neither."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


def read_lines(path: Path) -> list[dict]:
    """Every whole line of a metrics file in the order written, steps that were redone included.

    A kilobyte of memory a line: `tracking.columns_of` reads a long run in a twentieth of that.
    """
    return list(_lines(path))


def _lines(path: Path) -> Iterator[dict]:
    """The same, one at a time; none where there is no file."""
    if not path.exists():
        return
    with open(path, "rb") as file:
        for raw in file:
            try:
                yield json.loads(raw)
            except ValueError:
                continue  # torn by a kill; the run closed it and went on


def read_metrics(path: Path, kind: str | None = None) -> list[dict]:
    """Return the lines of a run as one history: what a resume took back is left out.

    path: a run folder or a metrics file. kind: only lines of this kind. A "resume" event carries
    the step it went on from; lines of later steps that stand before it were lost with the crash.
    A "start" takes back everything: nothing had been saved. Of an evaluation or a sample that was
    made twice at one step the later one counts. Raises TrackingError when there is no file.
    """
    path = Path(path)
    path = path / METRICS if path.is_dir() else path
    if not path.exists():
        raise TrackingError(f"{path} does not exist; has the run been started?")
    history: list[dict] = []
    for line in read_lines(path):
        if line.get("event") in ("resume", "start"):
            step = line["step"] if line["event"] == "resume" else -1
            history = [old for old in history if _not_later(old, step)]
        history.append(line)
    latest = {_identity(i, line): i for i, line in enumerate(history)}
    kept = (line for i, line in enumerate(history) if latest[_identity(i, line)] == i)
    return [line for line in kept if kind is None or line["kind"] == kind]


def _identity(number: int, line: dict) -> tuple:
    """What two lines share when the later one stands for both; else the line's own number."""
    if line["kind"] in ("eval", "sample"):
        return line["kind"], line.get("step"), line.get("name"), line.get("opening")
    return (number,)


def _not_later(line: dict, step: int) -> bool:
    return line["kind"] == "event" or line.get("step", 0) <= step


def last_step(folder: Path) -> int:
    """The last step that any process recorded in a run folder, 0 where none did."""
    lines = _lines(Path(folder) / METRICS)
    return max((line["step"] for line in lines if line["kind"] == "step"), default=0)


def used_seconds(folder: Path) -> float:
    """Wall-clock that earlier segments of a run took, by the last line each of them wrote."""
    lines = _lines(Path(folder) / METRICS)
    return max((line.get("elapsed_seconds") or 0.0 for line in lines), default=0.0)
