"""Climbing the ladder: warm every rung up, then time them in turn until the minutes are over."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

from x1lib import runtime, tracking
from x1lib.ladder.bench import Bench, Climber
from x1lib.ladder.profiling import profile_step
from x1lib.ladder.results import OUT_OF_TIME, cost_of_deterministic, describe, line, results
from x1lib.ladder.rungs import MEASURED, NAMES, NOT_ASKED, NOT_MEASURED, Rung, lay_out, naming
from x1lib.ladder.settings import Settings
from x1lib.ladder.stored import FORMAT, LADDER, PROFILE, LadderError

EARLY_ROUNDS, MAX_ROUNDS = 3, 40  # the early ones come before anything compiles
# Shares of the minutes: warm-ups have to be done by the first, the profile to begin by the second.
WARM_UP_UNTIL, PROFILE_UNTIL = 0.8, 0.9
COMPILE_SECONDS = 20.0  # expected of the first rung that compiles; the next ones: as long as it


def climb(settings: Settings, log: Callable[[str], None] = print) -> dict:
    """Measure the ladder in this process into settings.out; returns what ladder.json holds.

    Raises WrongRung, NoMemoryError, and what the trainer raises for wrong text or machines.
    """
    out = Path(settings.out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / LADDER).unlink(missing_ok=True)  # written last: it stands for a whole measurement
    except OSError as error:
        raise LadderError(f"{out} cannot be written ({error.strerror}); give another") from error
    bench = Bench(settings, log)
    log(bench.machine.line())
    padded = bench.shape.padded_vocab_size
    rungs = lay_out(bench.machine, bench.shape.vocab_size, padded, settings.wanted)
    climbers: dict[str, Climber] = {}
    try:
        # Eager rungs first, and some rounds of them: compiling may take all the time there is.
        _warm_up(bench, [rung for rung in rungs if not rung.compile], climbers)
        profile = _profile(bench, rungs, climbers) if bench.machine.device == "cpu" else None
        if any(rung.compile for rung in rungs):
            _rounds(bench, climbers, EARLY_ROUNDS)
        _warm_up(bench, [rung for rung in rungs if rung.compile], climbers)
        profile = profile or _profile(bench, rungs, climbers)
        _rounds(bench, climbers, MAX_ROUNDS)
    finally:
        runtime.make_deterministic(settings.deterministic)
    if not any(climber.seconds for climber in climbers.values()):
        raise LadderError(f"no step was timed in {settings.minutes:g} minutes; give more of them")
    tracking.write_json(out / PROFILE, {"format": FORMAT, **profile})
    found = describe(bench, settings)
    found["rungs"] = results(bench, rungs, climbers)
    found["cost_of_deterministic"] = cost_of_deterministic(climbers)
    tracking.write_json(out / LADDER, found)
    for one in found["rungs"]:
        if one["why"] != NOT_ASKED:
            log(line(one))
    log(f"{out / LADDER}: {bench.n_rounds} rounds, {found['seconds']:.0f} s")
    return found


def _warm_up(bench: Bench, rungs: list[Rung], climbers: dict[str, Climber]) -> None:
    """Warm up, into climbers, the rungs that are to be measured and for which there is time."""
    expected = {True: COMPILE_SECONDS, False: 0.0}  # of a warm-up, compiled or not
    for rung in rungs:
        late = bench.used_seconds + expected[rung.compile] > WARM_UP_UNTIL * bench.total_seconds
        if rung.status != MEASURED or late:
            if rung.why != NOT_ASKED:
                bench.log(f"{rung.name}: not measured: {rung.why or OUT_OF_TIME}")
            continue
        climber = climbers[rung.name] = Climber(rung, bench)
        climber.warm_up()
        expected[rung.compile] = climber.first_seconds + climber.latest
        bench.log(
            f"{rung.name}: first step {climber.first_seconds:.1f} s, loss {climber.first_loss:.5f}"
        )


def _profile(bench: Bench, rungs: list[Rung], climbers: dict[str, Climber]) -> dict:
    """The step that the trainer would take here; on a CPU eagerly, where its operators show."""
    if bench.machine.device == "mps":
        return {"status": NOT_MEASURED, "why": "torch's profiler does not see MPS kernels"}
    if bench.used_seconds > PROFILE_UNTIL * bench.total_seconds:
        bench.log(f"profile: not measured: {OUT_OF_TIME}")
        return {"status": NOT_MEASURED, "why": OUT_OF_TIME}
    best = next(rung for rung in rungs if rung.name == "vocabulary")  # with all before it
    if bench.machine.device == "cpu":
        best = replace(best, compile=False)
    same = [c for c in climbers.values() if replace(c.rung, **naming(best)) == best]
    climber = same[-1] if same else Climber(best, bench)
    runtime.make_deterministic(best.deterministic)
    found = profile_step(climber)
    shares = [f"{one['share']:.0%} {one['name']}" for one in found["categories"]]
    bench.log(f"profile: {', '.join(shares)}")
    return {"status": MEASURED, "why": None, "rung": asdict(best), **found}


def _rounds(bench: Bench, climbers: dict[str, Climber], n_rounds: int) -> None:
    """Time one step of every rung in turn, forwards and backwards, while there is time."""
    turn = [climbers[name] for name in NAMES if name in climbers]
    said = time.monotonic()
    for _ in range(n_rounds if turn else 0):
        timed = any(climber.seconds for climber in turn)
        if timed and sum(climber.latest for climber in turn) > bench.seconds_left:
            return
        bench.n_rounds += 1
        for climber in turn if bench.n_rounds % 2 else turn[::-1]:
            if bench.seconds_left <= 0:
                return
            climber.start_turn()
            climber.seconds[bench.n_rounds] = climber.latest = climber.take_fitting_step()
            climber.end_turn()
        if time.monotonic() - said > 5:
            said = time.monotonic()
            bench.log(
                f"round {bench.n_rounds}, {bench.used_seconds:.0f} s of {bench.total_seconds:.0f}"
            )
