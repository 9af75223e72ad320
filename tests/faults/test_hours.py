"""A run in hours that is killed: its steps come again as they were, and the ceiling holds."""

import signal
import time

import pytest

HOURS = 0.006  # about 10 s of steps between start-up and the reserve
SETTINGS = {"hours": HOURS, "steps": None, "checkpoint_every": 60, "eval_every": 10**6}


def test_killed_run_in_hours(start, finish, run):
    """The hours end with evaluation and export done; steps done again are the same to the bit."""
    first = start(run, **SETTINGS)
    first.until(lambda: run.last_step() >= 100)
    first.signal(signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    reached = run.last_step()
    finish(run, **SETTINGS)
    resumed_at = run.events("resume")[-1]["step"]
    assert 60 <= resumed_at < reached
    steps = [line["step"] for line in run.step_lines()]
    assert steps == [*range(1, reached + 1), *range(resumed_at + 1, max(steps) + 1)]
    assert run.redone_alike()
    manifest = run.manifest()
    assert manifest["status"] == "finished" and manifest["val_loss"] > 0
    assert manifest["wall_clock_seconds"] <= 3600 * HOURS
    assert max(steps) == manifest["steps"] == manifest["plan"]["schedule"]["knots"][-1][0]
    assert run.step_lines()[-1]["phase"] == "cooldown"


@pytest.mark.parametrize("phase", ["evaluation", "export"])
def test_what_takes_for_ever_is_cut_off_before_the_ceiling(start, run, tmp_path, phase):
    """Nothing planned for it: the last guard saves the state and ends the run inside its hours."""
    plants = {"long_phase": {"phase": phase, "step": 20, "announce": tmp_path / "there"}}
    begun = time.monotonic()
    trainer = start(run, plants, **{**SETTINGS, "eval_every": 20})
    assert trainer.wait() == 75, trainer.output[-2000:]
    assert time.monotonic() - begun <= 3600 * HOURS
    assert trainer.last_line() == "Interrupted: the hours are over"
    assert (tmp_path / "there").exists() and run.events("interrupted")
    assert run.saved_steps()[-1] == run.last_step() >= 20
