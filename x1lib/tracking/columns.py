"""What a curve needs of a run, in columns: read on from the last look, so that looking stays cheap.

A line of `metrics.jsonl` is a dict of a kilobyte in memory; a day's run has some 300,000 of them.
"""

from __future__ import annotations

import json
import math
from array import array
from bisect import bisect_right
from pathlib import Path

from x1lib.tracking.metrics import METRICS

PHASES = ("warmup", "constant", "cooldown")


class Columns:
    """The steps, evaluations and events of a run as one history, as `read_metrics` has them.

    .step .tokens .loss .lr .phase are arrays of equal length, a place for each step that stands
    (phase: a place in PHASES; a loss that is null is NaN); .evals and .events are lists of lines.
    """

    def __init__(self, folder: Path) -> None:
        self.path = Path(folder) / METRICS
        self._clear()

    def _clear(self) -> None:
        self.step, self.tokens, self.phase = array("q"), array("q"), array("b")
        self.loss, self.lr = array("d"), array("d")
        self.evals: list[dict] = []
        self.events: list[dict] = []
        self._place = self._inode = 0

    def update(self) -> Columns:
        """Read what the file gained since the last call; a file that is another is read anew."""
        if not self.path.exists():
            self._clear()
            return self
        with open(self.path, "rb") as file:
            found = file.seek(0, 2), self.path.stat().st_ino
            if found[0] < self._place or found[1] != self._inode:
                self._clear()
            self._inode = found[1]
            file.seek(self._place)
            for raw in file:
                if not raw.endswith(b"\n"):
                    break  # being written: the next look sees it
                self._place += len(raw)
                try:
                    line = json.loads(raw)
                except ValueError:
                    continue  # torn by a kill
                self._take(line)
        return self

    def _take(self, line: dict) -> None:
        kind = line["kind"]
        if kind == "step":
            self.step.append(line["step"])
            self.tokens.append(line["tokens"])
            self.loss.append(_number(line["loss"]))
            self.lr.append(_number(line.get("lr")))
            self.phase.append(PHASES.index(line.get("phase", "constant")))
        elif kind == "eval":
            self.evals = [e for e in self.evals if _same(e) != _same(line)] + [line]
        elif kind == "event":
            if line["event"] in ("resume", "start"):
                self._take_back(line["step"] if line["event"] == "resume" else -1)
            self.events.append(line)

    def _take_back(self, step: int) -> None:
        """Forget what a crash lost: later steps, done again or never."""
        n_kept = bisect_right(self.step, step)
        for column in (self.step, self.tokens, self.loss, self.lr, self.phase):
            del column[n_kept:]
        self.evals = [line for line in self.evals if line["step"] <= step]


_seen: dict[Path, Columns] = {}


def columns_of(folder: Path) -> Columns:
    """The columns of a run as they are now; asked again, only what is new is read."""
    return _seen.setdefault(Path(folder).absolute(), Columns(folder)).update()


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _same(line: dict) -> tuple:
    return line["step"], line["name"]
