"""Follow a run: a few plain lines and one picture, wherever it was started from."""

from __future__ import annotations

import contextlib
import math
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from x1lib import checkpoint
from x1lib.launch.places import LOG, PROGRESS, manifest, shown
from x1lib.launch.starting import Launched, LaunchError, RunFailed, why
from x1lib.tracking import mirror
from x1lib.tracking.heartbeat import last_beat

PROGRESS_LINES = 28  # of one run, however long it is, besides a few early ones
SECONDS_BETWEEN_LINES = 4.0
POLL_SECONDS = 0.5
SILENT_SECONDS = 60.0  # without a heartbeat, which comes every two: it hangs, or is suspended
DRAWING_SHARE = 0.02  # of the wall-clock, at most: the trainer needs the cores

_HELDOUT = re.compile(r"^step [\d,]+ \| held-out (\w+): .*?([\d.]+) bits/byte")


def follow(run: Launched, draw: Callable[[Path], object] | None = None, log=print) -> dict:
    """Print how a run is doing until it ends; return its manifest.

    draw: of the run's folder, something that IPython can display; in a notebook it is shown at
    once and then replaced in place. At most some forty lines, whatever the length of the run.
    Ctrl-C stops the following and not the run. Raises RunFailed with the last lines of its log.
    """
    picture = _Picture(run.folder, draw)
    try:
        picture.show_if_due()
        for line in _lines(run, picture):
            log(line)
    except KeyboardInterrupt:
        log(
            f"stopped following; the run goes on as process {run.pid}. Run this cell again to"
            " follow it, or launch.stop(run) to end it"
        )
        raise
    values = manifest(run.folder)
    if values.get("status") != "finished" or run.exit_code:
        raise RunFailed(why(run))
    picture.show()
    if why_not := mirror.trouble(run.folder):
        log(f"{why_not}; {mirror.LOG} in the run's folder says more")
    return values


def stop(run: Launched, timeout_seconds: float = 120.0, log=print) -> None:
    """Ask a run to save and end (SIGTERM), and wait for it; raises LaunchError when it does not."""
    if not run.alive:
        log(f"no trainer is at work in {shown(run.folder)}")
        return
    os.kill(run.pid, signal.SIGTERM)
    os.kill(run.pid, signal.SIGCONT)  # a suspended process hears nothing else
    until = time.monotonic() + timeout_seconds
    while run.alive:
        if time.monotonic() > until:
            raise LaunchError(
                f"process {run.pid} has not ended in {timeout_seconds:.0f} s; read {LOG}"
            )
        time.sleep(0.1)
    steps = checkpoint.list_steps(run.folder / "state")
    log(f"stopped at step {steps[-1] if steps else 0:,}; start it again to go on from there")


def _lines(run: Launched, picture: _Picture) -> Iterator[str]:
    """Lines of a run's log worth reading, as they come, to its end."""
    thinner, heldout = _Thinner(), ""
    for line in _tail(run, picture):
        if found := _HELDOUT.match(line):
            heldout = f" | held-out {found[2]} bits/byte" if found[1] == "documents" else heldout
        elif found := PROGRESS.match(line):
            done, total = (int(number.replace(",", "")) for number in found.groups())
            if thinner.lets_through(line.partition(" ")[0], done / total):
                yield line + heldout
        elif " | sample: " not in line:
            yield line


class _Thinner:
    """Keeps few of many progress lines: even parts of the run, and some early ones for patience."""

    def __init__(self) -> None:
        self.begun, self.last = time.monotonic(), -math.inf
        self.kind, self.share, self.early = "", 0.0, SECONDS_BETWEEN_LINES

    def lets_through(self, kind: str, share: float) -> bool:
        """Whether to print a line of this kind now that this share of the work is done."""
        now = time.monotonic()
        if kind != self.kind:
            self.kind, self.share = kind, 0.0
        is_early = now - self.begun >= self.early
        due = is_early or share >= self.share + 1 / PROGRESS_LINES
        if share < 1 and not (due and now - self.last >= SECONDS_BETWEEN_LINES):
            return False
        self.last, self.share = now, share
        self.early *= 4 if is_early else 1
        return True


def _tail(run: Launched, picture: _Picture) -> Iterator[str]:
    """Whole lines that a run adds to its log, until its trainer is gone; draws between them."""
    at, silence = run.log_bytes, _Silence(run)
    while run.pid is not None:
        alive = run.alive  # before reading, so that the last lines are not missed
        with contextlib.suppress(FileNotFoundError), open(run.folder / LOG, "rb") as file:
            file.seek(at)
            text = file.read()
            whole = text if not alive else text[: text.rfind(b"\n") + 1]
            at += len(whole)
            for line in whole.decode(errors="replace").splitlines():
                yield shown(line)
        if not alive:
            return
        yield from silence.lines()
        picture.show_if_due()
        time.sleep(POLL_SECONDS)


class _Silence:
    """Says once when a trainer's heart has stopped beating, and once when it beats again."""

    def __init__(self, run: Launched) -> None:
        self.run, self.beat, self.since, self.said = run, None, time.monotonic(), False

    def lines(self) -> Iterator[str]:
        now, beat = time.monotonic(), last_beat(self.run.folder).get("time")
        if beat is None or beat != self.beat:
            if self.said:
                yield "the trainer gives signs of life again"
            self.beat, self.since, self.said = beat, now, False
        elif now - self.since > SILENT_SECONDS and not self.said:
            self.said = True
            yield (
                f"no sign of life from process {self.run.pid} for {SILENT_SECONDS:.0f} s: it hangs"
                " or is suspended; launch.stop(run) or `make stop` ends it, and a new start resumes"
            )


class _Picture:
    """One output of a notebook, replaced in place; nothing outside a notebook."""

    def __init__(self, folder: Path, draw: Callable[[Path], object] | None) -> None:
        self.folder, self.handle, self.next = folder, None, 0.0
        ipython = sys.modules.get("IPython")
        self.draw = draw if ipython and ipython.get_ipython() else None

    def show_if_due(self) -> None:
        if time.monotonic() >= self.next:
            begun = time.monotonic()
            self.show()
            seconds = time.monotonic() - begun
            self.next = time.monotonic() + max(5.0, seconds / DRAWING_SHARE)

    def show(self) -> None:
        """Draw what the run has written so far."""
        if self.draw and self.handle:
            self.handle.update(self.draw(self.folder))
        elif self.draw:
            from IPython.display import display

            self.handle = display(self.draw(self.folder), display_id=True)
