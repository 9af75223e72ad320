"""The schedule's values, the clock that shapes it, and what is derived before step 0."""

import math
import random
from dataclasses import asdict, dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from x1lib.pacing import Pace, PacingError, Schedule
from x1lib.planning import (
    MIN_SEQUENCES,
    Plan,
    derive,
    largest_divisor,
    split_batch,
    step_law_batch_tokens,
    step_law_lr,
    tokens_of_steps,
)
from x1lib.session.clockwork import AFTER_SECONDS, recall_pace, review_pace
from x1lib.shapes import count_params
from x1lib.tracking import Run
from x1lib.tracking.heartbeat import SECONDS
from x1lib.train import Config

WSD = Schedule.of(1000, warmup=0.05, cooldown=0.2, min_warmup=0)


def test_wsd_by_value():
    assert (WSD.warmup_steps, WSD.cooldown_start, WSD.total_steps) == (50, 800, 1000)
    assert WSD.multiplier(0) == 1 / 50 and WSD.multiplier(24) == 0.5
    assert WSD.multiplier(49) == 1.0  # the last warm-up step is at the peak
    assert {WSD.multiplier(step) for step in range(49, 801)} == {1.0}
    for share in (0.04, 0.25, 0.5, 0.81):
        step = 800 + round(200 * share)
        assert math.isclose(WSD.multiplier(step), 1 - math.sqrt(share), rel_tol=1e-12)
    assert WSD.multiplier(1000) == 0.0
    assert all(WSD.multiplier(step) > 0 for step in range(1000))  # zero only after the last step


def test_phases_follow_the_multiplier():
    phases = [WSD.phase(step) for step in range(1000)]
    assert phases == ["warmup"] * 50 + ["constant"] * 750 + ["cooldown"] * 200


@pytest.mark.parametrize(
    "total, warmup, cooldown, expected",
    [
        (10_000, 0.02, 0.2, (200, 8000)),
        (2_000, 0.02, 0.2, (100, 1600)),  # at least 100 steps of warm-up
        (500, 0.02, 0.2, (50, 400)),  # where they are under a tenth of the run
        (5, 0.02, 0.2, (0, 4)),
        (1, 0.02, 0.2, (0, 1)),
        (1000, 0.0, 0.2, (0, 800)),  # none asked for, none made
        (1000, 0.02, 0.0, (100, 1000)),
        (1000, 0.5, 0.6, (500, 500)),  # cooldown waits for the end of warm-up
    ],
)
def test_of(total, warmup, cooldown, expected):
    schedule = Schedule.of(total, warmup, cooldown)
    assert (schedule.warmup_steps, schedule.cooldown_start) == expected
    assert schedule.total_steps == total
    assert all(0 < schedule.multiplier(step) <= 1 for step in range(total))


schedules = st.builds(
    Schedule.of, st.integers(1, 3000), st.floats(0, 0.3), st.floats(0, 1), st.integers(0, 100)
)


@given(schedules, st.lists(st.tuples(st.floats(0, 0.999), st.integers(1, 4000)), max_size=4))
def test_deciding_again_keeps_what_was_trained(schedule, decisions):
    """Any chain of new ends: the past is unchanged, the present continuous, the end at zero."""
    done = 0
    for share, more in decisions:
        step = done + int(share * (schedule.total_steps - done))
        new = schedule.ending_at(step, step + more, 0.2)
        assert new.total_steps == step + more
        for past in range(step):
            assert math.isclose(new.multiplier(past), schedule.multiplier(past), abs_tol=1e-9)
        if step > schedule.cooldown_start:  # a decision in the cooldown continues it
            assert math.isclose(new.progress(step), schedule.progress(step), abs_tol=1e-9)
        after = [new.multiplier(s) for s in range(max(step, new.cooldown_start), new.total_steps)]
        if new.cooldown_start >= new.warmup_steps:
            assert after == sorted(after, reverse=True) and all(m > 0 for m in after)
        schedule, done = new, step
    if schedule.cooldown_start < schedule.total_steps:
        assert schedule.progress(schedule.total_steps) == 1.0


def test_deciding_again_before_the_cooldown_moves_its_start():
    later, sooner = WSD.ending_at(300, 2000, 0.2), WSD.ending_at(300, 350, 0.2)
    assert (later.cooldown_start, later.total_steps) == (1600, 2000)
    assert (sooner.cooldown_start, sooner.total_steps) == (300, 350)
    assert sooner.multiplier(300) == WSD.multiplier(300) == 1.0
    assert sooner.multiplier(325) == 1 - math.sqrt(0.5)
    assert later.warmup_steps == 50


def test_deciding_again_in_the_cooldown_stretches_what_is_left():
    new = WSD.ending_at(900, 1300, 0.2)
    assert new.cooldown_start == 800
    assert [new.multiplier(s) for s in (0, 850, 899)] == [WSD.multiplier(s) for s in (0, 850, 899)]
    assert new.multiplier(900) == WSD.multiplier(900)
    assert new.progress(1100) == 0.75 and new.multiplier(1300) == 0.0
    assert new.multiplier(1000) > WSD.multiplier(999)


@dataclass
class Clock:
    """Time that only the test moves."""

    now: float = 5000.0

    def __call__(self) -> float:
        return self.now


def test_the_clock_counts_from_the_process_and_over_segments():
    clock = Clock()
    pace = Pace(1.0, cooldown=0.2, used_seconds=600, started_at=clock.now - 20, clock=clock)
    clock.now += 30
    assert pace.elapsed_seconds == 650
    assert pace.seconds_left == 3600 - 650
    pace.reserve_seconds = 100
    assert pace.seconds_left == 3600 - 650 - 100


def test_no_time_for_a_step_is_refused():
    clock = Clock()
    pace = Pace(0.01, cooldown=0.2, clock=clock, reserve_seconds=10)
    with pytest.raises(PacingError, match=r"36 s leave no time for a step of 60.0 s .* more hours"):
        pace.first_total(60.0)
    assert pace.first_total(1.0) > 10
    clock.now += 30
    with pytest.raises(PacingError):
        pace.first_total(0.5)


def test_until_the_cooldown_is_due_nothing_is_decided():
    """A machine twice as fast as planned: its one decision comes where cooldown was to begin."""
    clock = Clock()
    pace = Pace(1.0, cooldown=0.2, clock=clock)
    schedule = Schedule.of(pace.first_total(1.0), 0.02, 0.2)
    start, total = schedule.cooldown_start, schedule.total_steps
    for step in range(0, start, 20):
        pace.mark(step)
        decided = pace.review(step, schedule, stride=20)
        assert (decided is None) == (step + 20 <= start), step
        clock.now += 10
    assert decided.total_steps > 1.5 * total and decided.cooldown_start > 1.5 * start
    assert decided.multiplier(start) == 1.0  # which was to be the last step at the peak
    bounded = pace.review(step, schedule, total + 500, stride=20)
    assert bounded.total_steps == total + 500  # a target in steps is never passed
    assert pace.review(step, schedule, total, stride=20) is None


def test_a_slow_machine_cools_down_as_soon_as_it_must():
    clock = Clock()
    pace = Pace(1.0, cooldown=0.2, clock=clock)
    schedule = Schedule.of(pace.first_total(1.0), 0.02, 0.2)
    step, decided = 0, None
    while decided is None:
        pace.mark(step)
        decided = pace.review(step, schedule, stride=20)
        clock.now += 40
        step += 20
    assert 0.35 < (step - 20) / schedule.total_steps < 0.45  # 0.8 of what half the speed allows
    assert decided.cooldown_start < step and decided.total_steps < 0.55 * schedule.total_steps


def test_after_the_ceiling_one_step_ends_the_run():
    clock = Clock()
    pace = Pace(1.0, cooldown=0.2, clock=clock)
    schedule = Schedule.of(pace.first_total(1.0), 0.02, 0.2)
    pace.mark(100)
    clock.now += 3601
    assert pace.review(500, schedule).total_steps == 501


def test_review_says_nothing_before_it_has_measured():
    pace = Pace(1.0, cooldown=0.2, clock=Clock())
    assert pace.recent_step_seconds is None and pace.review(5, WSD) is None
    pace.mark(5)
    pace.mark(5)
    assert pace.recent_step_seconds is None


@dataclass
class Simulated:
    """What the trainer's own review of the pace wants of a run, and what became of it."""

    plan: Plan
    pace: Pace = field(repr=False)
    step: int = 0
    decisions: int = 0
    billed: float = 0.0  # share of the ceiling
    multipliers: list[float] = field(default_factory=list, repr=False)
    config = Config(hours=1.0)
    resuming = False
    redo_until = 0  # no killed process before this one

    def due(self, every: int) -> bool:
        return self.step % every == 0 and self.step < self.plan.schedule.total_steps

    def event(self, name: str, **values: object) -> None:
        assert name == "schedule"
        self.decisions += 1


def test_decisions_of_a_killed_process_come_again(tmp_path):
    """What it decided is adopted at the same step; the clock has a word from the first new one."""
    plan = replace(plan_of(steps=100), step_bound=None)
    shorter = plan.schedule.ending_at(40, 80, 0.2)
    with Run(tmp_path) as metrics:
        for step in range(1, 51):
            metrics.log("step", step=step)
            if step in (20, 40):  # the one at 20 is in the saved plan already
                metrics.event("schedule", step=step, schedule=asdict(shorter))
    clock = Clock()
    pace = Pace(1.0, cooldown=0.2, started_at=clock.now, clock=clock)
    run = Simulated(plan, pace, step=30)
    run.resuming, run.metrics = True, metrics
    recall_pace(run)
    assert run.redo_until == 50 and list(run.redo_schedules) == [40]
    while run.step < 49:
        run.step += 1
        clock.now += 3000 if run.step == 45 else 1  # alone, this would end the run
        review_pace(run)
        assert run.plan.schedule == (plan.schedule if run.step < 40 else shorter)
    assert run.decisions == 1
    run.step += 1
    clock.now += 3600
    review_pace(run)
    assert run.decisions == 2 and run.plan.schedule.total_steps == run.step + 1


KINDS = ("fast", "slow", "smooth", "ramp", "noise", "first_minute", "stall")


def simulate(kind: str, seed: int) -> Simulated:
    """A run in hours on a fake clock, with the trainer's order of probe, steps, looks and saves.

    The machine's speed changes within 50% on either side, and the final evaluation takes as much
    longer as a step does by then.
    """
    rng, clock = random.Random(f"{kind} {seed}"), Clock()
    hours = math.exp(rng.uniform(math.log(0.2), math.log(24)))
    ceiling, start = 3600 * hours, clock.now
    base = ceiling / math.exp(rng.uniform(math.log(60), math.log(3000)))
    phase, period = rng.uniform(0, math.tau), rng.uniform(0.3, 3) * ceiling
    depth = rng.uniform(0, 0.5)
    direction = rng.choice((-1, 1))
    stalls_at = rng.uniform(0.05, 0.8) * ceiling if kind == "stall" else math.inf
    evaluation, saving = base * rng.uniform(0.5, 5), rng.uniform(0, 3)
    evaluation = min(evaluation, 0.03 * ceiling)

    def slowness() -> float:
        share = (clock.now - start) / ceiling
        match kind:
            case "fast" | "slow":  # than the probe found, from the first step on
                changed = 1 / 1.5 if kind == "fast" else 1.5
                return changed if probed else 1.0
            case "ramp":
                return 1 + direction * depth * (2 * share - 1)
            case "noise":
                return rng.uniform(1 - depth, 1 + depth)
            case "first_minute":
                return 3.0 if clock.now - start < 60 else 1.0
        return 1 + depth * math.sin(phase + math.tau * (clock.now - start) / period)

    probed = False
    pace = Pace(hours, cooldown=0.2, started_at=start, clock=clock)
    clock.now += rng.uniform(2, 15)  # imports and data
    seconds = []
    for _ in range(5):
        took = base * slowness()
        seconds.append(took)
        clock.now += took
    took = evaluation * slowness()
    clock.now += took / 10
    pace.reserve_seconds = 1.5 * took + saving + AFTER_SECONDS
    schedule = Schedule.of(pace.first_total(sorted(seconds[1:])[2]), 0.02, 0.2)
    probed = True
    look, save = max(1, schedule.total_steps // 10), max(1, schedule.total_steps // 20)
    run = Simulated(replace(plan_of(steps=1), schedule=schedule, step_bound=None), pace)
    while run.step < run.plan.schedule.total_steps:
        run.multipliers.append(run.plan.schedule.multiplier(run.step))
        clock.now += base * slowness()
        if clock.now - start > stalls_at:
            clock.now, stalls_at = clock.now + rng.uniform(0.01, 0.1) * ceiling, math.inf
        run.step += 1
        if run.step == 3:
            pace.mark(run.step)
        clock.now += run.due(look) * evaluation * slowness() / 10
        clock.now += run.due(save) * saving
        review_pace(run)
    clock.now += evaluation * slowness() + saving + rng.uniform(0, AFTER_SECONDS)
    run.billed = (clock.now - start) / ceiling
    return run


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_in_hours_ends_inside_its_ceiling(kind):
    """Never past it, final evaluation and export included; near it, where the drift is smooth."""
    outcomes = {seed: simulate(kind, seed) for seed in range(300)}
    over = {seed: o for seed, o in outcomes.items() if o.billed > 1}
    worst = max(outcomes.items(), key=lambda item: item[1].billed)
    assert not over, f"{len(over)} of 300 pass the ceiling; worst: seed {worst[0]}, {worst[1]}"
    billed = sorted(o.billed for o in outcomes.values())
    if kind in ("fast", "slow", "smooth", "ramp"):
        assert billed[0] >= 0.9, (billed[0], billed[:5])
    assert billed[150] >= 0.95, billed[150]
    for o in outcomes.values():
        # What was really trained with is one schedule, cooled down to its end.
        replayed = [o.plan.schedule.multiplier(step) for step in range(o.step)]
        assert all(math.isclose(a, b, abs_tol=1e-9) for a, b in zip(o.multipliers, replayed))
        assert o.step == o.plan.schedule.total_steps and o.plan.schedule.multiplier(o.step) == 0.0


def simulate_killed(seed: int) -> tuple[Simulated, int]:
    """A run in hours whose process is killed up to three times, and goes on from its last save.

    Returns it as its last process left it, and how many steps were done twice. `billed` is summed
    by hand over the processes: from each one's first second to its last.
    """
    rng, clock = random.Random(f"killed {seed}"), Clock()
    hours = math.exp(rng.uniform(math.log(0.2), math.log(24)))
    ceiling = 3600 * hours
    base = ceiling / math.exp(rng.uniform(math.log(200), math.log(3000)))
    kills = sorted(rng.uniform(0.02, 0.97) * ceiling for _ in range(rng.randint(1, 3)))
    slower = [1.0, *(rng.uniform(0.6, 2.0) for _ in kills)]  # another machine each time
    evaluation = min(2 * base, 0.03 * ceiling)
    plan, saved_step, reached, redone, used, billed, record = None, 0, 0, 0, 0.0, 0.0, {}
    while True:
        begun, speed = clock.now, base * slower[len(slower) - len(kills) - 1]
        pace = Pace(hours, cooldown=0.2, used_seconds=used, started_at=begun, clock=clock)
        clock.now += rng.uniform(2, 15) + 5 * speed * (plan is None)
        if plan is None:
            pace.reserve_seconds = 1.5 * evaluation + AFTER_SECONDS
            schedule = Schedule.of(pace.first_total(speed), 0.02, 0.2)
            plan = saved = replace(plan_of(steps=1), schedule=schedule, step_bound=None)
        pace.reserve_seconds = 1.5 * evaluation + AFTER_SECONDS
        pace.planned_step_seconds = base
        run = Simulated(saved, pace, step=saved_step)
        run.redo_until, run.redo_schedules = (
            reached,
            {s: v for s, v in record.items() if s > saved_step},
        )
        here, killed = 0, False
        while run.step < run.plan.schedule.total_steps:
            killed = bool(kills) and billed + clock.now + speed - begun > kills[0]
            if killed:
                clock.now += speed * rng.uniform(0, 1)  # in the middle of a step
                break
            clock.now += speed
            run.step, here, redone = run.step + 1, here + 1, redone + (run.step < reached)
            reached, used = max(reached, run.step), pace.elapsed_seconds
            if here == 3:
                pace.mark(run.step)
            before = run.plan.schedule
            review_pace(run)
            if run.plan.schedule != before:
                record[run.step] = run.plan.schedule
            if run.due(max(1, run.plan.schedule.total_steps // 20)):
                saved, saved_step = run.plan, run.step
        if killed:
            used = max(used, pace.elapsed_seconds - rng.uniform(0, SECONDS))  # its last heartbeat
        else:
            clock.now += min(evaluation * speed / base, pace.seconds_for_last_look)
            clock.now += rng.uniform(0, AFTER_SECONDS / 2)
        billed += clock.now - begun
        if not killed:
            run.billed = billed / ceiling
            return run, redone
        kills.pop(0)
        clock.now += rng.uniform(0, 3600)  # nobody restarts it at once; that time is not the run's


def test_a_run_that_is_killed_ends_inside_its_ceiling():
    """Lost steps are done again inside the hours, and the clock goes on from the first process."""
    outcomes = [simulate_killed(seed) for seed in range(300)]
    billed = sorted(run.billed for run, _ in outcomes)
    assert billed[-1] <= 1.0, billed[-5:]
    assert billed[15] >= 0.9 and billed[150] >= 0.95, (billed[15], billed[150])
    assert sum(redone > 0 for _, redone in outcomes) > 250
    assert all(run.plan.schedule.multiplier(run.step) == 0.0 for run, _ in outcomes)


@pytest.mark.parametrize(("slowness", "tokens_first"), [(1.0, True), (3.0, False)])
def test_whichever_of_tokens_and_hours_ends_first_ends_the_run(slowness, tokens_first):
    """Half of what the hours hold at first: reached on time, or not when the machine slows."""
    clock = Clock()
    pace = Pace(1.0, cooldown=0.2, started_at=clock.now, clock=clock)
    bound = pace.first_total(1.0) // 2
    plan = replace(plan_of(steps=1), schedule=Schedule.of(bound, 0.02, 0.2), step_bound=bound)
    run = Simulated(plan, pace)
    while run.step < run.plan.schedule.total_steps:
        clock.now += slowness
        run.step += 1
        review_pace(run)
    assert (run.step == bound) == tokens_first
    assert (run.decisions == 0) == tokens_first
    assert run.plan.schedule.multiplier(run.step) == 0.0
    assert (
        (0.45 < pace.elapsed_seconds / 3600 < 0.5) if tokens_first else pace.elapsed_seconds < 3600
    )


def test_the_simulation_exercises_new_decisions():
    """Else the test above would show nothing about them."""
    for kind in KINDS:
        decisions = [simulate(kind, seed).decisions for seed in range(20)]
        assert sum(n > 0 for n in decisions) >= 10, (kind, decisions)
    assert max(simulate("smooth", seed).multipliers[-1] for seed in range(20)) < 0.2


def test_step_law_numbers():
    """The plan's own example, 50m on 5B tokens, worked by hand from the published exponents."""
    n_body = count_params("50m").body
    lr = math.exp(math.log(1.79) - 0.713 * math.log(n_body) + 0.307 * math.log(5e9))
    assert math.isclose(step_law_lr(n_body, 5e9), lr, rel_tol=1e-12)
    assert round(step_law_lr(n_body, 5e9), 5) == 0.00518
    assert round(step_law_batch_tokens(5e9), -3) == 200_000
    assert math.isclose(step_law_lr(4 * n_body, 5e9) / lr, 4**-0.713)
    assert math.isclose(step_law_batch_tokens(8e9) / step_law_batch_tokens(1e9), 8**0.571)


def test_a_derived_rate_is_capped():
    """At `tiny`, 0.03 was measured to be worse than 0.01 (LOG.md); the law alone would give 0.5."""
    n_body, day = count_params("tiny").body, 2e10
    assert 1.79 * n_body**-0.713 * day**0.307 > 0.1
    assert step_law_lr(n_body, day) == 0.01


@given(st.integers(1, 10**6))
def test_tokens_of_steps_is_the_fixed_point(n_steps):
    n_tokens = tokens_of_steps(n_steps)
    assert math.isclose(n_steps * step_law_batch_tokens(n_tokens), n_tokens, rel_tol=1e-9)


@given(st.floats(0.1, 5000), st.integers(1, 300), st.booleans())
def test_split_batch(n_sequences, limit, exact):
    batch, micro = split_batch(n_sequences, limit, exact)
    assert batch % micro == 0 and 1 <= micro <= min(batch, limit)
    if exact:
        assert batch == max(1, round(n_sequences))
        assert not any(batch % d == 0 for d in range(micro + 1, min(limit, batch) + 1))
    elif n_sequences > limit:
        assert batch % limit == 0 or batch < limit + 1  # passes are full
        assert abs(batch - max(n_sequences, MIN_SEQUENCES)) <= limit / 2 + 1
    assert exact or batch >= min(MIN_SEQUENCES, limit)


@given(st.integers(1, 2000), st.integers(1, 2000))
def test_largest_divisor(n, limit):
    assert largest_divisor(n, limit) == max(d for d in range(1, min(n, limit) + 1) if n % d == 0)


def plan_of(parent=None, micro_limit=16, guess_tokens=0.0, fits=(70, 4), **settings):
    asked = []

    def steps_in_time(batch, micro):
        asked.append((batch, micro))
        return fits

    config = Config(**({"seq_len": 128} | settings))
    plan = derive(
        config,
        n_body=count_params(config).body,
        guess_tokens=guess_tokens,
        micro_limit=micro_limit,
        steps_in_time=steps_in_time,
        parent=parent,
    )
    assert len(asked) == (1 if config.hours else 0)  # only hours need the clock
    return plan


def test_plan_in_steps_takes_its_batch_from_the_tokens_they_make():
    plan = plan_of(steps=2000, micro_limit=2)  # whole passes round little
    n_tokens = 2000 * plan.batch_size * 128
    assert abs(n_tokens / tokens_of_steps(2000) - 1) < 0.05
    n_body = count_params("tiny").body
    assert plan.lr == plan.reference_lr == step_law_lr(n_body, n_tokens)
    assert plan.schedule == Schedule.of(2000, 0.02, 0.2)
    assert (plan.step_bound, plan.eval_every, plan.checkpoint_every) == (2000, 200, 100)


def test_plan_in_tokens_rounds_the_steps_up():
    plan = plan_of(tokens=100_000, batch_tokens=128 * 12)
    assert (plan.batch_size, plan.micro_batch) == (12, 12)
    assert plan.schedule.total_steps == math.ceil(100_000 / (128 * 12))
    assert plan_of(tokens=10_000_000).schedule.total_steps > 100


def test_what_is_given_is_taken_as_given():
    plan = plan_of(steps=50, batch_tokens=128 * 24, lr=0.02, micro_limit=7, eval_every=9)
    assert (plan.batch_size, plan.micro_batch, plan.lr) == (24, 6, 0.02)
    assert plan.reference_lr == step_law_lr(count_params("tiny").body, 50 * 24 * 128)
    assert plan.eval_every == 9
    # Independent decay: what torch multiplies by lr is counted in Step Law's rate.
    assert math.isclose(plan.weight_decay * plan.lr, 0.1 * plan.reference_lr)


def test_whichever_end_comes_first():
    both = {"steps": 50, "tokens": 128 * 8 * 40, "batch_tokens": 128 * 8}
    assert plan_of(**both).schedule.total_steps == 40
    hours = plan_of(hours=1.0, guess_tokens=1e6, **both, fits=(30, 2))
    assert (hours.schedule.total_steps, hours.step_bound, hours.micro_batch) == (30, 40, 2)
    assert plan_of(hours=1.0, guess_tokens=1e6, **both, fits=(300, 2)).schedule.total_steps == 40
    alone = plan_of(hours=1.0, guess_tokens=1e6, fits=(123, 4))
    assert (alone.schedule.total_steps, alone.step_bound) == (123, None)


def test_a_branch_keeps_its_parents_batch_and_learning_rate():
    parent = plan_of(steps=500, lr=0.011)
    branch = plan_of(parent, steps=5000)
    assert branch.batch_size == parent.batch_size
    assert (branch.lr, branch.reference_lr) == (0.011, parent.reference_lr)
    assert branch.schedule.total_steps == 5000
    alone = plan_of(steps=5000)
    assert alone.batch_size != parent.batch_size and alone.lr != parent.lr
    # Said aloud, they change; the decay goes on being counted in the parent's.
    changed = plan_of(parent, steps=5000, lr=0.001, batch_tokens=128 * 4)
    assert (changed.batch_size, changed.lr) == (4, 0.001)
    assert changed.reference_lr == parent.reference_lr


def test_a_branch_with_other_windows_keeps_the_tokens_a_step():
    parent = plan_of(steps=2000, seq_len=128)
    branch = plan_of(parent, steps=2000, seq_len=64)
    assert branch.batch_size == 2 * parent.batch_size
    assert plan_of(parent, steps=2000, micro_limit=4).micro_batch <= 4
