"""From `hours` to steps: the learning-rate schedule, and the clock that shapes it.

A run in hours becomes a run in steps. Throughput is measured once, the schedule decided from it and
written down; where the machine drifts, the schedule is decided again, as a logged event. A resumed
run does the steps of a killed process again with the decisions that stand in its record, and the
clock decides from there on. In `steps` or `tokens` the clock decides nothing.
"""

from __future__ import annotations

import math
import statistics
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from x1lib import X1Error

SECONDS_PER_HOUR = 3600.0
TARGET = 0.97  # of the time left: aim here, so that a slow last stretch still ends inside
SLACK = 0.005  # of the ceiling, and one step: the margin that is left when no time is
TOLERANCE = 0.02  # of the steps left: a forecast that misses the plan by less changes nothing


class PacingError(X1Error, ValueError):
    """A ceiling in hours that leaves no time to train."""


@dataclass(frozen=True)
class Schedule:
    """Warm-up, constant, cooldown (WSD), as a pure function of the step.

    knots: (step, progress) pairs; progress through the cooldown is linear between them, 0 at the
    first and 1 at the last, where the run ends. A cooldown that is decided again half-way gets
    another knot, so what was already trained keeps its learning rate.
    """

    warmup_steps: int
    knots: tuple[tuple[int, float], ...]

    @classmethod
    def of(
        cls,
        total_steps: int,
        warmup: float,
        cooldown: float,
        min_warmup: int = 100,
        first_step: int = 0,
    ):
        """Schedule total_steps: warmup and cooldown are fractions of them.

        Warm-up has at least min_warmup steps where that is under a tenth of the run. first_step:
        where a branch begins; its cooldown begins there at the earliest.
        """
        warmup_steps = round(warmup * total_steps)
        if warmup > 0:
            warmup_steps = max(warmup_steps, min(min_warmup, total_steps // 10))
        start = max(warmup_steps, first_step, round((1 - cooldown) * total_steps))
        start = min(total_steps, start)
        return cls(warmup_steps, ((start, 0.0), (total_steps, 1.0)))

    @classmethod
    def from_json(cls, values: dict) -> Schedule:
        """The schedule that `dataclasses.asdict` and JSON made these values of."""
        knots = tuple((int(step), float(progress)) for step, progress in values["knots"])
        return cls(values["warmup_steps"], knots)

    @property
    def cooldown_start(self) -> int:
        return self.knots[0][0]

    @property
    def total_steps(self) -> int:
        return self.knots[-1][0]

    def progress(self, step: int) -> float:
        """How far through the cooldown the run is at this step: 0 before it, 1 at the end."""
        if step <= self.cooldown_start:
            return 0.0
        for (a, p), (b, q) in pairwise(self.knots):
            if step < b:
                return p + (q - p) * (step - a) / (b - a)
        return 1.0

    def multiplier(self, step: int) -> float:
        """The learning rate of this step as a share of the peak.

        Linear warm-up; cooldown 1 - sqrt(progress) to zero (Haegele et al. 2024, arXiv 2405.18392).
        """
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        return 1.0 - math.sqrt(self.progress(step))

    def phase(self, step: int) -> str:
        if step < self.warmup_steps:
            return "warmup"
        return "cooldown" if step >= self.cooldown_start else "constant"

    def ending_at(self, step: int, total_steps: int, cooldown: float) -> Schedule:
        """The same schedule up to `step`, with its end moved to total_steps."""
        if step > self.cooldown_start:
            kept = tuple(k for k in self.knots if k[0] < step)
            return Schedule(
                self.warmup_steps, (*kept, (step, self.progress(step)), (total_steps, 1.0))
            )
        start = max(step, self.warmup_steps, round((1 - cooldown) * total_steps))
        return Schedule(self.warmup_steps, ((min(start, total_steps), 0.0), (total_steps, 1.0)))


class Pace:
    """Holds a run inside its ceiling of wall-clock hours.

    hours: the ceiling over all segments. used_seconds: what earlier segments took. started_at:
    when this segment began, on `clock`. reserve_seconds: kept for the last evaluation and export.
    """

    def __init__(
        self,
        hours: float,
        *,
        cooldown: float,
        used_seconds: float = 0.0,
        started_at: float | None = None,
        reserve_seconds: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.ceiling_seconds = hours * SECONDS_PER_HOUR
        self.cooldown = cooldown
        self.reserve_seconds = reserve_seconds
        self.planned_step_seconds = 0.0
        self.limit: Callable[[], float] = lambda: math.inf  # seconds that something else leaves
        self._marks: deque[tuple[int, float]] = deque(maxlen=6)
        self._clock = clock
        self._origin = (clock() if started_at is None else started_at) - used_seconds

    @property
    def elapsed_seconds(self) -> float:
        """Wall-clock used so far, earlier segments included."""
        return self._clock() - self._origin

    @property
    def seconds_left(self) -> float:
        """Time left for training steps: what is left in all, less what is kept."""
        return self._left_in_all - self.reserve_seconds

    @property
    def _left_in_all(self) -> float:
        return min(self.ceiling_seconds - self.elapsed_seconds, self.limit())

    @property
    def is_limited(self) -> bool:
        """Whether something else than the hours ends the run."""
        return self.limit() < self.ceiling_seconds - self.elapsed_seconds

    @property
    def seconds_for_last_look(self) -> float:
        """Time that the last evaluation may take, with half of the reserve kept for the export."""
        return max(0.0, self._left_in_all - self.reserve_seconds / 2)

    def mark(self, step: int) -> None:
        """Note when this step was reached; the last six notes give the recent speed."""
        self._marks.append((step, self.elapsed_seconds))

    def forget(self) -> None:
        """Begin the notes again: the next step is an earlier one."""
        self._marks.clear()

    @property
    def recent_step_seconds(self) -> float | None:
        """Seconds a step over the recent notes, evaluations and saves included; None for none."""
        if len(self._marks) < 2 or self._marks[-1][0] == self._marks[0][0]:
            return None
        (first, start), (last, end) = self._marks[0], self._marks[-1]
        return (end - start) / (last - first)

    def _slowdown(self) -> float:
        """How much slower the machine is than when the run was planned: 1 or more.

        The median between notes, so that one stall is no slowdown. What follows the last step
        was timed at the start, and is expected to have become slower by as much.
        """
        marks = list(self._marks)
        gaps = [(t - s) / (n - m) for (m, s), (n, t) in pairwise(marks) if n > m]
        if not gaps or not self.planned_step_seconds:
            return 1.0
        return max(1.0, statistics.median(gaps) / self.planned_step_seconds)

    def steps_left(self, step_seconds: float) -> int:
        """How many more steps fit at so many seconds a step, with a margin for the unforeseen."""
        left = self.seconds_left - (self._slowdown() - 1) * self.reserve_seconds
        margin = max((1 - TARGET) * left, SLACK * self.ceiling_seconds + step_seconds)
        return max(0, int((left - margin) / step_seconds))

    def has_time_for(self, n_steps: int) -> bool:
        """Whether so many steps fit, at the planned speed or the slower one there is."""
        if not self.planned_step_seconds:
            return True
        return self.steps_left(self.planned_step_seconds * self._slowdown()) >= n_steps

    def first_total(self, step_seconds: float) -> int:
        """Steps that the whole run can hold; raises PacingError when that is none."""
        total = self.steps_left(step_seconds)
        if total < 1 and self.is_limited:
            raise PacingError(
                f"the money leaves {max(0.0, self.limit()):.0f} s, and none for a step of"
                f" {step_seconds:.1f} s before {self.reserve_seconds:.0f} s of evaluation and"
                " export; settle what other runs have set aside, or raise cap_usd"
            )
        if total < 1:
            raise PacingError(
                f"{self.ceiling_seconds:.0f} s leave no time for a step of {step_seconds:.1f} s"
                f" after {self.elapsed_seconds:.0f} s of start-up and {self.reserve_seconds:.0f} s"
                " kept for evaluation and export; give more hours or a smaller shape"
            )
        self.planned_step_seconds = step_seconds
        return total

    def review(
        self, step: int, schedule: Schedule, max_steps: int | None = None, *, stride: int = 1
    ) -> Schedule | None:
        """Decide the schedule again where the clock says so; None where it stands.

        Until the cooldown there is one question, when to start it: at once where the recent speed
        leaves no more time, and later than planned where it leaves more. In the cooldown its end
        moves with the speed. max_steps: a target in steps. stride: steps until the next review.
        """
        step_seconds = self.recent_step_seconds
        if self.seconds_left <= 0:
            fits = step + 1  # the one after this is the last
        elif step_seconds is None:
            return None
        else:
            fits = step + max(1, self.steps_left(step_seconds))
        if max_steps is not None:
            fits = min(fits, max_steps)
        if abs(fits - schedule.total_steps) <= TOLERANCE * (schedule.total_steps - step):
            return None
        new = schedule.ending_at(step, fits, self.cooldown)
        if step < schedule.cooldown_start:
            starts_now = new.cooldown_start < step + stride
            was_to_start = schedule.cooldown_start < step + stride
            if not (starts_now or was_to_start):
                return None
        return new
