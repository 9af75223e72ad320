"""Carry out a design's runs: what is there is kept, what died goes on, what cannot be is said."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from x1lib import checkpoint, runtime, settings
from x1lib.launch.starting import command
from x1lib.sweep.costs import Speed
from x1lib.sweep.design import Design, Run, SweepError
from x1lib.sweep.processes import LOG, NEAR_SECONDS, Runner, environment
from x1lib.tracking.holders import is_training, read_json

RUNS = "runs"
LINE_SECONDS, MOST_LINES = 15.0, 60  # between lines of progress, and how many the hours may hold
FINISHED, NOT_RUN = "finished", "not run"


@dataclass
class Clock:
    """When a sweep must be over."""

    hours: float
    started: float
    now: Callable[[], float] = time.monotonic

    @property
    def seconds_left(self) -> float:
        return 3600 * self.hours - (self.now() - self.started)


def manifest(folder: Path) -> dict:
    """What a run says of itself, or nothing."""
    return read_json(folder / "manifest.json")


def check_same(design: Design, out: Path) -> None:
    """Raise SweepError where a run that is there was made with other settings."""
    for run in design.runs:
        stored = manifest(out / RUNS / run.id).get("config", {})
        for name, (then, here) in settings.differences(stored, design.config(run)).items():
            raise SweepError(
                f"{run.id} is there with {name} {then!r} and is wanted with {here!r}: give another"
                " out, or the settings that it was made with"
            )


class Sweep:
    """Holds the runs of a design in `out/runs` and carries out those that are asked for.

    must_stop: asked a few times a second; a reason, or None. Raises SweepError where a run that is
    there was made with other settings.
    """

    def __init__(
        self,
        design: Design,
        out: Path,
        runner: Runner,
        speed: Speed,
        clock: Clock,
        *,
        metered_by: str = "",
        must_stop: Callable[[], str | None] = lambda: None,
        log: Callable[[str], object] = print,
    ) -> None:
        self.design, self.out, self.runner = design, Path(out), runner
        self.speed, self.clock, self.log = speed, clock, log
        self.metered_by, self.must_stop = metered_by, must_stop
        self.failed: dict[str, str] = {}  # in this call: run id -> why
        self.ended: str | None = None  # why nothing more is started
        self._active: dict[str, float] = {}  # run id -> when it began
        self._line_at = 0.0
        self._runs = {run.id: run for run in design.runs}
        (self.out / RUNS).mkdir(parents=True, exist_ok=True)
        check_same(design, self.out)

    def folder(self, run: Run | str) -> Path:
        return self.out / RUNS / (run if isinstance(run, str) else run.id)

    def is_finished(self, run: Run | str) -> bool:
        return manifest(self.folder(run)).get("status") == FINISHED

    # ---- one phase

    def carry_out(
        self, runs: Iterable[Run], sealed: dict[str, str] | None = None, keep_seconds: float = 0.0
    ) -> None:
        """Carry out runs, several at a time, until all that can be are done.

        sealed: run id -> sha256 of what was predicted of it. keep_seconds: of the hours, for what
        comes after. Ctrl-C and an end of the money stop what is at work, with its state saved.
        """
        runs = list(runs)
        waiting = [run for run in runs if not self.is_finished(run)]
        wanted = len(waiting)
        if there := len(runs) - wanted:
            self.log(f"{there} of {len(runs)} runs are there already")
        self._line_at = 0.0
        try:
            while (waiting or self._active) and not self.ended:
                self._collect()
                self._start_ready(waiting, sealed or {}, keep_seconds)
                self._say(wanted, waiting, keep_seconds)
                if not self._active and not self._next(waiting) and not self._orphans(waiting):
                    break
                time.sleep(NEAR_SECONDS)
                self._look_at_ends()
        except BaseException:
            self.stop("interrupted")
            raise
        if wanted:
            self._line_at = 0.0
            self._say(wanted, waiting, keep_seconds)
        for run in waiting:
            self.log(f"{run.id}: {self.why_not(run)}")

    def _start_ready(self, waiting: list[Run], sealed: dict, keep_seconds: float) -> None:
        for run in [run for run in waiting if self.is_finished(run)]:
            waiting.remove(run)  # an orphan's
        while len(self._active) < self.speed.jobs and (run := self._next(waiting)):
            waiting.remove(run)
            needed = self.speed.seconds(self.design, run)
            if needed > self.clock.seconds_left - keep_seconds:
                self.failed[run.id] = (
                    f"{NOT_RUN}: it takes {needed:.0f} s, and the hours leave"
                    f" {max(0.0, self.clock.seconds_left - keep_seconds):.0f}"
                )
                continue
            self._start(run, sealed.get(run.id, ""))

    def _next(self, waiting: list[Run]) -> Run | None:
        """The next run whose beginning is there; runs are in the order in which they matter."""
        return next((run for run in waiting if self._is_ready(run)), None)

    def _orphans(self, waiting: list[Run]) -> list[Run]:
        """Runs at work whose sweep was killed: they are waited for."""
        return [run for run in waiting if is_training(self.folder(run))]

    def _is_ready(self, run: Run) -> bool:
        if is_training(self.folder(run)):
            return False
        if run.parent is None:
            return True
        return run.branch_step in checkpoint.list_steps(self.folder(run.parent) / "state")

    def _start(self, run: Run, sealed: str) -> None:
        folder = self.folder(run)
        folder.mkdir(exist_ok=True)
        line = command(self.design.config(run, sealed))
        self.runner.start(run.id, line, folder.absolute(), environment(self.metered_by))
        self._active[run.id] = self.clock.now()

    def _collect(self) -> None:
        for name, code in self.runner.ended().items():
            self._active.pop(name, None)
            if code == runtime.EXIT_FINISHED and self.is_finished(name):
                self._clear(self._runs[name])
            else:
                self.failed[name] = f"failed: {_reason(self.folder(name), code)}"
                self.log(f"{name} {self.failed[name]}")

    def _clear(self, run: Run) -> None:
        """Drop the states that nothing begins from any more."""
        parent = self._runs.get(run.parent or "")
        for one in filter(None, (run if run.is_last else None, parent)):
            if self.is_finished(one):
                _remove_states(self.folder(one))

    def _look_at_ends(self) -> None:
        reason = self.must_stop()
        if not reason and self.clock.seconds_left <= 0:
            reason = "the hours are over"
        if reason:
            self.stop(reason)

    def stop(self, reason: str) -> None:
        """Stop what is at work, with its state saved; nothing more is started."""
        self.ended = reason
        if self._active:
            self.log(f"{reason}: {len(self._active)} runs save and leave")
        self.runner.stop()
        self._active.clear()

    def why_not(self, run: Run) -> str:
        """What stands in place of a number for a run that is not finished."""
        if run.id in self.failed:
            return self.failed[run.id]
        if self.ended:
            return f"{NOT_RUN}: {self.ended}"
        parent = self._runs.get(run.parent or "")
        if parent is not None and not self.is_finished(parent):
            return f"{NOT_RUN}: {parent.id} did not come as far as step {run.branch_step:,}"
        return NOT_RUN

    # ---- what a person wants to see

    def _say(self, wanted: int, waiting: list[Run], keep_seconds: float) -> None:
        now = self.clock.now()
        pause = max(LINE_SECONDS, 3600 * self.clock.hours / MOST_LINES)
        if self._line_at and now - self._line_at < pause:
            return
        self._line_at = now
        done = wanted - len(waiting) - len(self._active)
        words = [f"{done} of {wanted} runs done", f"{len(self._active)} at work"]
        words.append(f"{self._minutes_left(waiting) + keep_seconds / 60:.1f} min left")
        newest = sorted(
            (values.get("finished", ""), name, values["val_loss"])
            for name in self._runs
            if (values := manifest(self.folder(name))).get("status") == FINISHED
        )[-3:]
        losses = ", ".join(f"{name} {loss:.3f}" for _, name, loss in newest)
        self.log(" | ".join([*words, f"last: {losses}" if losses else "no loss yet"]))

    def _minutes_left(self, waiting: list[Run]) -> float:
        seconds = sum(self.speed.seconds(self.design, run) for run in waiting)
        for name, begun in self._active.items():
            planned = self.speed.seconds(self.design, self._runs[name])
            seconds += max(1.0, planned - (self.clock.now() - begun))
        return seconds / self.speed.jobs / 60


def _reason(folder: Path, code: int) -> str:
    """Why a run ended: its own words, else its exit code."""
    if code < 0:
        return f"ended by signal {-code}"
    if code == runtime.EXIT_INTERRUPTED:
        return "stopped by a signal"
    reason = manifest(folder).get("reason")
    if reason:
        return reason
    lines: list[str] = []
    with contextlib.suppress(OSError):
        lines = (folder / LOG).read_text(errors="replace").splitlines()
    return lines[-1] if lines else f"exit code {code}"


def _remove_states(folder: Path) -> None:
    shutil.rmtree(folder / "state", ignore_errors=True)
