"""The trainer is killed or asked to leave; the run that goes on equals the one left alone."""

import random
import signal
import time

import pytest
from runs import CHECKPOINT_EVERY, CUT, STEPS, Folder, assert_equal_runs, needs_compiler

INTERRUPTED = 75
WITHIN_SECONDS = 20.0


@pytest.mark.parametrize(
    "place, saved",
    [("forward", CUT - 1), ("backward", CUT - 1), ("update", CUT), ("finaliser", CUT)],
)
def test_sigterm_in_mid_step(start, finish, run, reference, place, saved):
    """Fault 1: SIGTERM in mid-step: exit code 75, a checkpoint within one step, resume equals S."""
    trainer = start(run, {"signal_in_step": {"place": place, "step": CUT - 1}})
    assert trainer.wait() == INTERRUPTED, trainer.output[-3000:]
    assert run.saved_steps()[-1] == saved == run.last_step()
    assert trainer.last_line() == "Interrupted: SIGTERM"
    assert run.events("interrupted")[-1]["step"] == saved
    resumed = finish(run)
    assert f"resume at step {saved} " in resumed.output
    assert_equal_runs(run, reference)


def test_sigterm_from_outside(start, finish, run, reference):
    """Fault 1, at a moment that the trainer does not choose: within one step, resume equals S."""
    trainer = start(run)
    at = random.randrange(5, STEPS - 5)
    trainer.until(lambda: run.last_step() >= at)
    time.sleep(random.uniform(0, 0.03))
    seen = run.last_step()
    trainer.signal(signal.SIGTERM)
    assert trainer.wait() == INTERRUPTED, trainer.output[-3000:]
    saved = run.saved_steps()[-1]
    assert saved == run.last_step() and seen <= saved <= seen + 1, (at, seen, saved)
    finish(run)
    assert_equal_runs(run, reference)


@pytest.mark.parametrize(
    "compile", ["off", pytest.param("on", marks=[pytest.mark.long, needs_compiler])]
)
def test_bf16_resumes_as_exactly(start, finish, tmp_path, compile):
    """Fault 2 as a laptop runs: products in bf16, attention by blocks, compiled or not."""
    settings = {"dtype": "bfloat16", "attention": "blocked", "compile": compile}
    whole, killed = Folder(tmp_path / "whole"), Folder(tmp_path / "killed")
    finish(whole, **settings)
    trainer = start(killed, **settings)
    trainer.until(lambda: killed.last_step() >= CUT, seconds=300)
    trainer.signal(signal.SIGKILL)
    trainer.wait()
    finish(killed, **settings)
    assert killed.events("resume")[-1]["changes"] == []
    assert_equal_runs(killed, whole)


SEEDS = [*range(5), *(pytest.param(seed, marks=pytest.mark.long) for seed in range(5, 20))]


@pytest.mark.parametrize("seed", SEEDS)
def test_sigkill_twice_in_a_row(start, finish, run, reference, seed):
    """Fault 2: SIGKILL at a random moment, twice in a row: the resumed run equals S."""
    moment = random.Random(seed)
    first = moment.randrange(1, STEPS - 2)
    for at in (first, moment.randrange(first, STEPS)):
        trainer = start(run)
        if seed % 4 == 3:  # by the clock: start-up, the first evaluation and the first save too
            time.sleep(moment.uniform(0, 1.5))
        else:
            trainer.until(lambda at=at: run.last_step() >= at)
            time.sleep(moment.uniform(0, 0.04))
        trainer.signal(signal.SIGKILL)
        assert trainer.wait() == -signal.SIGKILL, trainer.output[-3000:]
        saved = run.saved_steps()
        assert not run.last_step() or saved[-1] > run.last_step() - 2 * CHECKPOINT_EVERY
    finish(run)
    assert_equal_runs(run, reference)


def kill_at_call(start, finish, half, reference, tmp_path, call):
    report = tmp_path / "killed-at"
    trainer = start(half, {"kill_in_save": {"step": CUT, "call": call, "report": report}})
    assert trainer.wait() == -signal.SIGKILL, trainer.output[-3000:]
    resumed = finish(half)
    at = half.events("resume")[-1]["step"]
    assert at in (CUT - CHECKPOINT_EVERY, CUT), f"older than the previous one: {at}"
    assert "warning" not in resumed.output  # a torn temporary is no damaged checkpoint
    assert sorted(path.name for path in (half.out / "state").iterdir()) == [
        f"step-{step:08d}" for step in half.saved_steps()
    ]
    assert_equal_runs(half, reference)
    return at


# Shares of the save: making the folder, in the tensors, at the rename, while deleting the old one.
@pytest.mark.parametrize("share", [0.1, 0.4, 0.7, 0.95])
def test_sigkill_in_a_save(start, finish, half, reference, tmp_path, share):
    """Fault 3: SIGKILL at a write, fsync or rename of a save: a valid checkpoint always loads."""
    kill_at_call(start, finish, half, reference, tmp_path, round(share * (reference.calls - 1)))


@pytest.mark.long
@pytest.mark.parametrize("part", range(8))  # for the workers to share
def test_sigkill_at_each_call_of_a_save(start, finish, cut_run, reference, tmp_path, part):
    """Fault 3, at each of them: never older than the previous one, and resume equals S."""
    found = []
    for call in range(part, reference.calls, 8):
        here = tmp_path / f"call-{call}"
        here.mkdir()
        half = cut_run.copied_to(here / "run")
        found.append(kill_at_call(start, finish, half, reference, here, call))
    assert found == sorted(found) and found[0] == CUT - CHECKPOINT_EVERY
    assert len(found) >= 10


def test_sigterm_during_a_save(start, finish, half, reference, tmp_path):
    """Fault 4: SIGTERM during a save: it completes, one checkpoint of the step, none torn."""
    announced, writes = tmp_path / "saving", tmp_path / "writes"
    plants = {
        "slow_disk": {"step": CUT, "seconds": 0.1, "announce": announced},
        "record_writes": {"path": writes},
    }
    trainer = start(half, plants)
    trainer.until(announced.exists)
    time.sleep(0.15)
    assert CUT not in half.saved_steps()  # it is being written
    trainer.signal(signal.SIGTERM)
    assert trainer.wait() == INTERRUPTED, trainer.output[-3000:]
    assert writes.read_text().split() == [str(CUT)]
    assert half.saved_steps() == [CUT - CHECKPOINT_EVERY, CUT] and half.last_step() == CUT
    assert len(list((half.out / "state").iterdir())) == 2
    assert "warning" not in finish(half).output
    assert half.events("resume")[-1]["step"] == CUT
    assert_equal_runs(half, reference)


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
def test_more_signals_while_leaving(start, finish, half, reference, tmp_path, first):
    """Fault 5: a second SIGTERM or Ctrl-C: no double save; it exits."""
    announced, writes = tmp_path / "saving", tmp_path / "writes"
    step = CUT - 1  # of no periodic save: what is written there the signal asked for
    plants = {
        "signal_in_step": {"place": "forward", "step": step, "number": first},
        "slow_disk": {"step": step, "seconds": 0.1, "announce": announced},
        "record_writes": {"path": writes},
    }
    trainer = start(half, plants)
    trainer.until(announced.exists)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
        time.sleep(0.05)
        trainer.signal(number)
    assert trainer.wait(WITHIN_SECONDS) == INTERRUPTED, trainer.output[-3000:]
    assert trainer.last_line() == f"Interrupted: {first.name}"
    assert writes.read_text().split() == [str(step)]
    assert len(half.events("interrupted")) == 1
    finish(half)
    assert half.events("resume")[-1]["step"] == step
    assert_equal_runs(half, reference)


def leave(trainer, announced):
    """Send SIGTERM once the phase is announced; it must end within the time a spot box gives."""
    trainer.until(announced.exists, 90)
    time.sleep(0.3)
    begun = time.monotonic()
    trainer.signal(signal.SIGTERM)
    assert trainer.wait(WITHIN_SECONDS) == INTERRUPTED, trainer.output[-3000:]
    assert time.monotonic() - begun < WITHIN_SECONDS


# In evaluation at step 30 the periodic save stands at 28; sampling comes first before any save.
@pytest.mark.parametrize("phase, step", [("evaluation", 30), ("sampling", 0), ("export", STEPS)])
def test_sigterm_in_a_long_phase(start, finish, run, reference, tmp_path, phase, step):
    """Fault 6: SIGTERM in evaluation, sampling, export: the last step's state within 20 s."""
    announced = tmp_path / "phase"
    trainer = start(run, {"long_phase": {"phase": phase, "step": step, "announce": announced}})
    leave(trainer, announced)
    assert run.saved_steps()[-1] == step == run.last_step()
    finish(run)
    assert run.events("resume")[-1]["step"] == step
    assert_equal_runs(run, reference)
    assert (run.out / "checkpoint" / "model.safetensors").exists()


@needs_compiler
def test_sigterm_while_compiling(start, finish, run, reference, tmp_path):
    """Fault 6: SIGTERM during compile: a loadable state of the last step within 20 s."""
    announced = tmp_path / "compiling"
    cold = {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "inductor")}
    trainer = start(run, {"announce_compile": {"path": announced}}, cold, compile="on")
    leave(trainer, announced)
    assert run.last_step() == 0  # it was in the first step
    assert run.saved_steps() == [0]
    finish(run)  # eager, so it can be held against S
    assert_equal_runs(run, reference)
