"""Where measurement decides: the plan from timed steps, the micro-batch from memory, the pace."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import TypeVar

from x1lib import checkpoint, planning, runtime, tracking
from x1lib.pacing import SECONDS_PER_HOUR, Schedule
from x1lib.planning import Plan
from x1lib.session.session import Session
from x1lib.shapes import count_params

T = TypeVar("T")
PROBE_STEPS, PROBE_TOKENS = 5, 4096
DISK_BYTES_PER_SEC = 300e6  # a slow rented disk; a first guess, until a save has been timed
AFTER_SECONDS = 5.0  # samples, the figure, the hashes; a first guess likewise
EVAL_SHARE = 0.04  # of the ceiling, for the last evaluation
LOOK_SHARE = 0.01  # of the ceiling, for each of those on the way


@dataclass
class _Timing:
    """What timed steps and evaluations say of a run in hours."""

    reserve_seconds: float = 0.0
    final_eval_tokens: int | None = None  # of each held-out text; None: all of it
    eval_tokens: int = 0


def make_plan(
    run: Session, one_step: Callable[[], object], evaluate: Callable[[int], object]
) -> None:
    """Derive run.plan; in hours, `one_step` and `evaluate(n_tokens)` are timed for it."""
    c = run.config
    rate = planning.ASSUMED_MFU[run.machine.device] * run.peak_flops / run.flops_per_token
    limit = runtime.micro_batch_limit(run.machine, run.shape, c.window)
    timing = _Timing(final_eval_tokens=c.final_eval_tokens or None, eval_tokens=c.eval_tokens)

    def steps_in_time(batch_size: int, micro_batch: int) -> tuple[int, int]:
        return _probe(run, timing, batch_size, micro_batch, one_step, evaluate)

    plan = planning.derive(
        c,
        n_body=count_params(run.shape).body,
        guess_tokens=rate * SECONDS_PER_HOUR * c.hours,
        micro_limit=c.micro_batch or limit,
        steps_in_time=steps_in_time,
        parent=Plan.from_json(run.parent_plan) if run.parent_plan else None,
        first_step=run.first_step,
    )
    run.injector.check_within(run.first_step, plan.schedule.total_steps)
    run.plan = p = replace(plan, step_seconds=run.pace.planned_step_seconds, **vars(timing))
    run.money.keep(p.reserve_seconds)
    run.event("plan", **asdict(p))
    run.log(
        f"plan: {p.schedule.total_steps:,} steps of {p.batch_size} x {c.window} tokens"
        f" ({p.micro_batch} sequences a pass), {p.schedule.warmup_steps} of warm-up, cooldown"
        f" from {p.schedule.cooldown_start:,}, peak lr {p.lr:.2e}"
    )


def _probe(run: Session, timing, batch_size, micro_batch, one_step, evaluate) -> tuple[int, int]:
    """Time real steps at lr 0, which leave the weights alone; then forget their moments."""
    step, sample = run.step, run.sample
    run.plan = Plan(run.config.window, batch_size, micro_batch, 0.0, 0.0, 0.0, Schedule.of(1, 0, 0))
    try:
        seconds = _timed(run, one_step, PROBE_STEPS)
        eval_seconds = min(_timed(run, lambda: evaluate(PROBE_TOKENS), 2))
        micro_batch = run.plan.micro_batch  # smaller, if memory was short
    finally:
        run.plan, run.step, run.sample = None, step, sample
        run.optimizer.state.clear()
        if run.saved:
            checkpoint.restore_training(run.model, run.optimizer, run.saved.tensors)
    _share_out(run, timing, eval_seconds)
    return step + run.pace.first_total(statistics.median(seconds[1:] or seconds)), micro_batch


def _share_out(run: Session, timing: _Timing, eval_seconds: float) -> None:
    """Say how much is evaluated, and keep wall-clock for what follows the last step.

    A short run cannot read all held-out text: its last evaluation may take 4% of the ceiling, and
    each one on the way 1%.
    """
    sizes = [len(run.shards.heldout(name)) for name in run.shards.heldout_names]
    token_seconds = eval_seconds / sum(min(n, PROBE_TOKENS) for n in sizes)
    in_ceiling = run.pace.ceiling_seconds / token_seconds  # tokens
    wanted = timing.final_eval_tokens or max(sizes)
    if sum(min(n, wanted) for n in sizes) > EVAL_SHARE * in_ceiling:
        timing.final_eval_tokens = max(PROBE_TOKENS, int(EVAL_SHARE * in_ceiling / len(sizes)))
    on_the_way = max(PROBE_TOKENS, int(LOOK_SHARE * in_ceiling / len(sizes)))
    timing.eval_tokens = min(timing.eval_tokens, on_the_way)
    disk = 5 * 4 * count_params(run.shape).total / DISK_BYTES_PER_SEC
    timing.reserve_seconds = run.pace.reserve_seconds = (
        1.5 * token_seconds * _last_tokens(run, timing.final_eval_tokens) + disk + AFTER_SECONDS
    )


def _last_tokens(run: Session, limit: int | None) -> int:
    """Tokens that the last evaluation reads, over all held-out texts."""
    sizes = (len(run.shards.heldout(name)) for name in run.shards.heldout_names)
    return sum(min(n, limit or n) for n in sizes)


def rehearse_end(run: Session, look: Callable[[], dict], others: Callable[[], object]) -> None:
    """Do for the first time what the end will do again: look, sample, save, draw; and time it.

    In hours the reserve grows to what this machine took for it, half as much again.
    """
    begun = time.perf_counter()
    looked = look()
    look_seconds = time.perf_counter() - begun
    others_seconds = _seconds(others)
    if not run.config.hours:
        return
    tracking.draw_loss_curve(run.out, log=run.log)  # imports and looks for fonts: once a process
    others_seconds += _seconds(lambda: tracking.draw_loss_curve(run.out, log=run.log))
    done = sum(result["n_tokens"] for result in looked.values())
    again = look_seconds * _last_tokens(run, run.plan.final_eval_tokens) / done + others_seconds
    if 1.5 * again > run.plan.reserve_seconds:
        was, run.pace.reserve_seconds = run.plan.reserve_seconds, 1.5 * again
        run.plan = replace(run.plan, reserve_seconds=1.5 * again)
        run.money.keep(1.5 * again)
        run.event("reserve", seconds=1.5 * again, was=was, look=look_seconds, others=others_seconds)


def _timed(run: Session, work: Callable[[], object], times: int) -> list[float]:
    """Seconds of each time; fewer times where they would take more than half of the ceiling."""
    seconds = [_seconds(work)]
    while len(seconds) < times:
        if run.pace.elapsed_seconds + seconds[-1] > run.pace.ceiling_seconds / 2:
            break
        seconds.append(_seconds(work))
    return seconds


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def fit_memory(run: Session, params: list, attempt: Callable[[int], T]) -> T:
    """attempt(micro_batch), with smaller ones, at an equal batch, while memory is short.

    Raises NoMemoryError when one sequence does not fit.
    """
    while True:
        micro = run.plan.micro_batch
        try:
            return attempt(micro)
        except (RuntimeError, MemoryError) as error:
            if not runtime.is_out_of_memory(error):
                raise
            if micro == 1:
                raise runtime.NoMemoryError(
                    f"one sequence of {run.config.window} tokens does not fit in memory beside the"
                    " model; give a smaller --shape or --seq-len"
                ) from error
        for p in params:
            p.grad = None
        smaller = planning.largest_divisor(run.plan.batch_size, micro // 2)
        run.plan = replace(run.plan, micro_batch=smaller)
        run.event("micro_batch", was=micro, now=smaller, why="out of memory")
        run.log(f"out of memory: {smaller} sequences a pass, not {micro}; the batch is equal")


def review_pace(run: Session) -> None:
    """In hours: hold the schedule against the clock now and then; decide again on a miss.

    Steps that a killed process had already done are done again as they were: what it decided is
    taken from its record, and the clock has a word only from the first new step on, or where the
    hours do not hold so many steps again.
    """
    if not run.config.hours:
        return
    schedule = run.plan.schedule
    stride = max(1, schedule.total_steps // 50)
    due = run.due(stride) or (run.pace.seconds_left <= 0 and run.step < schedule.total_steps)
    if due:
        run.pace.mark(run.step)
    if run.step < run.redo_until and run.pace.has_time_for(run.redo_until - run.step):
        new = run.redo_schedules.get(run.step)
    elif due:
        new = run.pace.review(run.step, schedule, stride=stride, max_steps=run.plan.step_bound)
    else:
        return
    if new is not None:
        run.plan = replace(run.plan, schedule=new)
        why = "money" if run.pace.is_limited else "hours"
        run.event("schedule", schedule=asdict(new), was=asdict(schedule), why=why)
        if why == "money" and new.total_steps < schedule.total_steps:
            end = f"the run ends at step {new.total_steps:,}, not {schedule.total_steps:,}"
            to_go = (schedule.total_steps - run.step) * (run.pace.recent_step_seconds or 0.0)
            to_go += run.pace.reserve_seconds
            run.money.note(f"{end}; to the planned one, {run.money.forecast(to_go)}")
            run.log(f"budget: {end}")


def recall_pace(run: Session) -> None:
    """In hours, after a resume: note from the record what a killed process did beyond its state."""
    if not (run.config.hours and run.resuming):
        return
    run.redo_until, run.redo_schedules = run.step, {}
    for line in tracking.read_lines(run.metrics.path):
        if line["kind"] == "step":
            run.redo_until = max(run.redo_until, line["step"])
        elif line.get("event") == "schedule" and line["step"] > run.step:
            run.redo_schedules[line["step"]] = Schedule.from_json(line["schedule"])
