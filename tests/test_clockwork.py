"""What a run in hours decides by timing: probes that end in time, a reserve for the end."""

from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest

from x1lib.pacing import Pace, Schedule
from x1lib.planning import Plan
from x1lib.session import clockwork, rehearse_end
from x1lib.train import Config


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now

    def take(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class Shards:
    sizes: dict[str, int]

    @property
    def heldout_names(self):
        return list(self.sizes)

    def heldout(self, name):
        return np.zeros(self.sizes[name], np.uint16)


@dataclass
class FakeRun:
    """The part of a session that the clockwork touches, on a clock that only the test moves."""

    hours: float
    clock: Clock = field(default_factory=Clock)
    sizes: dict = field(default_factory=lambda: {"documents": 10_000, "source": 90_000})

    def __post_init__(self):
        self.config = Config(hours=self.hours) if self.hours else Config(steps=10)
        self.pace = Pace(self.hours or 1e9, cooldown=0.2, clock=self.clock)
        self.shards, self.shape = Shards(self.sizes), Config(steps=1)
        self.plan = Plan(256, 8, 8, 0.01, 0.01, 0.1, Schedule.of(100, 0, 0.2), reserve_seconds=5.0)
        self.events, self.out, self.log = [], None, print
        self.kept, self.money = [], SimpleNamespace(keep=lambda seconds: self.kept.append(seconds))

    def event(self, name, **values):
        self.events.append((name, values))


@pytest.fixture
def timed(monkeypatch):
    """timed(clock): the clockwork reads the test's clock."""

    def use(clock):
        monkeypatch.setattr(clockwork, "time", SimpleNamespace(perf_counter=clock))
        monkeypatch.setattr(
            clockwork.tracking, "draw_loss_curve", lambda out, log: clock.take(0.25)
        )

    return use


def takes(run, seconds, result=None):
    """Work of so many seconds."""

    def work():
        run.clock.now += seconds
        return result

    return work


def test_a_probe_of_a_slow_machine_stops_at_half_of_the_ceiling(timed):
    run = FakeRun(hours=0.05)  # 180 s
    timed(run.clock)
    assert clockwork._timed(run, takes(run, 1.0), 5) == [1.0] * 5
    assert clockwork._timed(run, takes(run, 30.0), 5) == [30.0] * 2  # 65 s, and 95 is too much
    assert clockwork._timed(run, takes(run, 30.0), 5) == [30.0]  # one it always needs


def test_the_end_is_rehearsed_and_its_reserve_grows_with_a_slow_machine(timed):
    looked = {"documents": {"n_tokens": 1_000}, "source": {"n_tokens": 1_000}}
    run = FakeRun(hours=0.05)
    timed(run.clock)
    rehearse_end(run, takes(run, 0.01, looked), takes(run, 0.5))
    # 2,000 tokens in 0.01 s: 100,000 in half a second; with the rest 1 s, and 5 are kept already
    assert run.plan.reserve_seconds == 5.0 and not run.events
    rehearse_end(run, takes(run, 0.2, looked), takes(run, 3.0))
    assert run.plan.reserve_seconds == pytest.approx(1.5 * (0.2 * 50 + 3.0 + 0.25))
    assert run.pace.reserve_seconds == run.plan.reserve_seconds == run.kept[-1]
    ((name, values),) = run.events
    assert name == "reserve" and values["was"] == 5.0 and values["others"] == pytest.approx(3.25)


def test_without_hours_nothing_is_kept(timed):
    run = FakeRun(hours=0.0)
    timed(run.clock)
    rehearse_end(run, takes(run, 9.0, {"documents": {"n_tokens": 1}}), takes(run, 9.0))
    assert run.plan.reserve_seconds == 5.0 and run.clock.now == 18.0


@pytest.mark.parametrize("token_seconds", [1e-6, 1e-4, 1e-2])
def test_evaluations_take_a_fixed_share_of_the_hours(token_seconds):
    run = FakeRun(hours=0.05, sizes={"documents": 200_000, "source": 400_000})
    timing = clockwork._Timing(eval_tokens=32_768)
    clockwork._share_out(run, timing, token_seconds * 2 * clockwork.PROBE_TOKENS)
    one, last = 2 * timing.eval_tokens, clockwork._last_tokens(run, timing.final_eval_tokens)
    least = 2 * clockwork.PROBE_TOKENS  # fewer would say nothing
    assert one <= max(least, 0.011 * 180 / token_seconds) and timing.eval_tokens <= 32_768
    assert last <= max(least, 0.041 * 180 / token_seconds)
    assert run.pace.reserve_seconds > 1.5 * last * token_seconds
