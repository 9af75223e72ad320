"""Real runs in hours, with a watch outside: each ends whole, in 90 to 100% of its ceiling.

They take their ceiling: minutes. One is in every test run, the others are long.
"""

import contextlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from x1lib import tracking

ROOT = Path(__file__).resolve().parent.parent


class Slowed:
    """Halves the speed of a process from some second on, by stopping it half of the time."""

    def __init__(self, after_seconds: float) -> None:
        self.after_seconds, self.over = after_seconds, threading.Event()

    def begin(self, pid: int) -> None:
        self.thread = threading.Thread(target=self._work, args=(pid,), daemon=True)
        self.thread.start()

    def _work(self, pid: int) -> None:
        self.over.wait(self.after_seconds)
        with contextlib.suppress(ProcessLookupError):
            while not self.over.is_set():
                for kind in (signal.SIGSTOP, signal.SIGCONT):
                    os.kill(pid, kind)
                    time.sleep(0.2)

    def end(self) -> None:
        self.over.set()
        self.thread.join()


class Crowded:
    """Keeps every core of the machine busy with other work, and one more."""

    def begin(self, pid: int) -> None:
        count = (os.cpu_count() or 1) + 1
        context = multiprocessing.get_context("spawn")
        self.workers = [context.Process(target=_burn, daemon=True) for _ in range(count)]
        for worker in self.workers:
            worker.start()

    def end(self) -> None:
        for worker in self.workers:
            worker.kill()


def _burn() -> None:
    while True:
        pass


class Left:
    """Nothing is done to the process."""

    def begin(self, pid: int) -> None: ...

    def end(self) -> None: ...


def train(folder: Path, hours: float, trouble) -> float:
    """Train with the notebook's defaults; returns the seconds that a watch outside saw."""
    command = [sys.executable, "-m", "x1lib.train", f"--hours={hours}", f"--out={folder}"]
    folder.mkdir()
    with open(folder / "train.log", "w") as log:
        begun = time.monotonic()
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
        trouble.begin(process.pid)
        try:
            assert process.wait(timeout=2 * 3600 * hours) == 0, (folder / "train.log").read_text()
            return time.monotonic() - begun
        finally:
            process.kill()
            trouble.end()


def is_whole(folder: Path, cooled: bool) -> bool:
    """Whether evaluation, export and, where it could be foreseen, the cooldown were done."""
    manifest = json.loads((folder / "manifest.json").read_text())
    steps = tracking.read_metrics(folder, "step")
    return (
        manifest["status"] == "finished"
        and manifest["val_loss"] > 0
        and (folder / "checkpoint" / "model.safetensors").exists()
        and (folder / "loss-curve.png").exists()
        and steps[-1]["phase"] == "cooldown"
        and (not cooled or steps[-1]["lr"] < 0.1 * max(line["lr"] for line in steps))
    )


@pytest.mark.parametrize(
    ("hours", "trouble", "least"),
    [
        pytest.param(0.05, Slowed(90.0), 0.90, id="slowed half-way"),
        pytest.param(0.05, Left(), 0.90, marks=pytest.mark.long, id="three minutes"),
        pytest.param(0.1, Left(), 0.90, marks=pytest.mark.long, id="six minutes"),
        # what else is at work may end at any time, so such a run may also end early
        pytest.param(0.05, Crowded(), 0.5, marks=pytest.mark.long, id="crowded"),
    ],
)
def test_a_run_in_hours_fills_its_ceiling_and_never_passes_it(hours, trouble, least, tmp_path):
    seconds = train(tmp_path / "run", hours, trouble)
    share = seconds / (3600 * hours)
    steps = tracking.read_metrics(tmp_path / "run", "step")[-1]["step"]
    print(f"{seconds:.1f} s of {3600 * hours:.0f} ({share:.1%}), {steps:,} steps")
    assert is_whole(tmp_path / "run", cooled=least >= 0.9)
    assert least <= share <= 1.0
