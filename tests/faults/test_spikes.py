"""A planted loss spike is flagged at once, clean runs are not, and the watch outlives a kill."""

import signal

import pytest
from runs import CHECKPOINT_EVERY, Folder, assert_equal_runs

SPIKE = 45
WATCHED = {"on_spike": "record"}
PLANTED = WATCHED | {"inject": f"corrupt-data@{SPIKE}:1,kind=1,steps=1"}


@pytest.fixture(scope="module")
def spiked(server, shards, tmp_path_factory):
    """The run with a batch of random tokens at step 45, which nothing else disturbs."""
    from runs import arguments

    folder = Folder(tmp_path_factory.mktemp("spiked") / "run")
    plants = {"record_batches": {"path": folder.batches_path}}
    trainer = server.start(arguments(folder.out, shards, **PLANTED), folder.out.parent, plants)
    assert trainer.wait() == 0, trainer.output[-3000:]
    return folder


def test_a_planted_spike_is_flagged_within_one_step(spiked):
    """Fault 15: flagged in the step whose batch it is, with the checkpoint before it kept."""
    (found,) = spiked.events("spike")
    assert SPIKE <= found["step"] <= SPIKE + 1 and found["scores"]["loss"] > 7
    assert found["pinned"] in spiked.saved_steps() and found["pinned"] < SPIKE
    assert spiked.history()[SPIKE]["loss"] > spiked.history()[SPIKE - 1]["loss"] + 1


@pytest.mark.parametrize("seed", [11, 12, 13])
def test_a_clean_seed_is_not_flagged(finish, run, seed):
    """Fault 15: no alarm on seeds that nothing was planted in, the one of the spike among them."""
    finish(run, seed=seed, **WATCHED)
    assert run.events("spike") == [] and not (run.out / "state" / "pins.json").exists()


@pytest.mark.parametrize("at", [SPIKE - 2, SPIKE + 1])
def test_the_watch_survives_a_kill(start, finish, run, spiked, at):
    """Fault 15: killed shortly before or after the spike, it is flagged as it would have been."""
    trainer = start(run, **PLANTED)
    trainer.until(lambda: run.last_step() >= at)
    trainer.signal(signal.SIGKILL)
    assert trainer.wait() == -signal.SIGKILL, trainer.output[-3000:]
    saved = run.saved_steps()[-1]
    # What the detectors know of the steps before the kill is in the checkpoint, or nowhere.
    assert saved > at - 2 * CHECKPOINT_EVERY
    assert len(run.state(saved)["spikes"]["detectors"]["loss"]["past"]) > CHECKPOINT_EVERY
    finish(run, **PLANTED)
    assert_equal_runs(run, spiked)
    scores = [(one["step"], one["scores"], one["number"]) for one in run.events("spike")]
    there = [(one["step"], one["scores"], one["number"]) for one in spiked.events("spike")]
    assert scores and set(map(str, scores)) == set(map(str, there))
    assert run.state(60)["spikes"] == spiked.state(60)["spikes"]
