"""Going on: with other settings, beside another trainer, with other kernels, without a moment."""

import math
import re
import signal

import pytest
from runs import CHECKPOINT_EVERY, CUT, STEPS, Folder, assert_equal_runs, needs_compiler

LAST = CUT - CHECKPOINT_EVERY  # the step of the cut run's newest checkpoint


@pytest.mark.parametrize(
    "name, then, now",
    [("lr", 0.0, 0.001), ("steps", STEPS, 80), ("seed", 11, 12), ("shape", "2x64", "3x64")],
)
def test_changed_configuration(refused, half, name, then, now):
    """Fault 20: configuration changed on resume: refused with the difference, both values named."""
    line = refused(half, **{name: now})
    assert line.startswith(f"ConfigError: {name} was {then!r} when this run was started")
    assert f"is {now!r} now" in line and f"--branch-from {half.out}" in line


def test_branch(finish, half, tmp_path):
    """Fault 20: asked for as a branch, the change is made, and the manifest records the lineage."""
    branch = Folder(tmp_path / "branch")
    before = half.contents()
    finish(branch, branch_from=half.out, lr=0.001, steps=40)
    assert half.contents() == before  # the parent is only read
    expected = {
        "from": str(half.out),
        "step": LAST,
        "changed": {"steps": [STEPS, 40], "lr": [0.0, 0.001]},
    }
    for lineage in (branch.manifest()["lineage"], branch.events("start")[0]["lineage"]):
        assert expected.items() <= lineage.items()
    assert sorted(branch.history()) == list(range(LAST + 1, 41))
    first = branch.history()[LAST + 1]
    assert first["loss"] == half.history()[LAST + 1]["loss"]  # same weights, same batch
    assert first["lr"] == 0.001 and half.history()[LAST + 1]["lr"] != 0.001


def test_branch_killed_and_branch_of_a_step(start, finish, half, reference, tmp_path):
    """Fault 20: a branch resumes as any run; RUN@STEP takes that step; nothing changed is S."""
    branch = Folder(tmp_path / "branch")
    branch_from = f"{half.out}@{LAST - CHECKPOINT_EVERY}"
    trainer = start(branch, {"signal_in_step": {"place": "forward", "step": 45, "number": 9}},
                    branch_from=branch_from)  # fmt: skip
    assert trainer.wait() == -signal.SIGKILL, trainer.output
    finish(branch, branch_from=branch_from)
    assert branch.manifest()["lineage"]["step"] == LAST - CHECKPOINT_EVERY
    assert branch.manifest()["lineage"]["changed"] == {}
    assert branch.tensor_hashes(STEPS) == reference.tensor_hashes(STEPS)


def test_branch_stopped_before_its_first_step(start, finish, half, tmp_path):
    """Faults 6, 20: SIGTERM in a branch's first evaluation: what is saved is the parent's state."""
    branch, announced = Folder(tmp_path / "branch"), tmp_path / "phase"
    plants = {"long_phase": {"phase": "evaluation", "announce": announced}}
    trainer = start(branch, plants, branch_from=half.out, lr=0.001)
    trainer.until(announced.exists)
    trainer.signal(signal.SIGTERM)
    assert trainer.wait(20) == 75, trainer.output
    assert branch.tensor_hashes(LAST) == half.tensor_hashes(LAST)
    finish(branch, branch_from=half.out, lr=0.001)
    straight = Folder(tmp_path / "straight")
    finish(straight, branch_from=half.out, lr=0.001)
    assert branch.history() == straight.history()
    assert branch.tensor_hashes(STEPS) == straight.tensor_hashes(STEPS)


def test_branch_stopped_while_loading(start, finish, half, tmp_path):
    """Faults 6, 20: SIGTERM while a branch loads its parent: no untrained weights are saved."""
    branch = Folder(tmp_path / "branch")
    trainer = start(branch, {"signal_before_restore": {}}, branch_from=half.out, lr=0.001)
    assert trainer.wait(20) == 75, trainer.output
    if branch.saved_steps():
        assert branch.saved_steps() == [LAST]
        assert branch.tensor_hashes(LAST) == half.tensor_hashes(LAST)
    finish(branch, branch_from=half.out, lr=0.001)
    assert sorted(branch.history()) == list(range(LAST + 1, STEPS + 1))
    assert branch.history()[LAST + 1]["loss"] == half.history()[LAST + 1]["loss"]


def test_free_settings_may_change(finish, half, reference):
    """Fault 20: settings that the result does not depend on may change; it still equals S."""
    finish(half, eval_every=7, keep_last=5, checkpoint_every=3, sample_tokens=0)
    assert half.events("resume")[-1]["changes"] == []
    looks = {line["step"] for line in half.lines() if line["kind"] == "eval"}
    assert looks == {0, 10, 20, 30, 35, 42, 49, 56, 60}  # every 10 before the kill, then every 7
    assert half.saved_steps()[-5:] == [48, 51, 54, 57, 60]
    assert_equal_runs(half, reference)


def test_two_trainers_on_one_folder(start, finish, refused, run, reference, tmp_path):
    """Fault 25: the second refuses, naming the first; a stale lock is recovered."""
    announced = tmp_path / "phase"
    plants = {"long_phase": {"phase": "evaluation", "step": 30, "announce": announced}}
    first = start(run, plants)
    first.until(announced.exists)
    line = refused(run)
    assert line.startswith("FolderInUse: ") and re.search(rf"\b{first.pid}\b", line)
    assert first.poll() is None  # it was not disturbed
    first.signal(signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    assert str(first.pid) in (run.out / "lock").read_text()  # stale
    finish(run)
    assert_equal_runs(run, reference)


def test_rate_and_moments(finish, half, reference):
    """Fault 27: LR and optimiser moments after resume: equal to S to the bit."""
    finish(half)
    found, expected = half.tensor_hashes(STEPS), reference.tensor_hashes(STEPS)
    for key in ("exp_avg", "exp_avg_sq", "step"):
        names = [name for name in expected if name.endswith("." + key)]
        assert len(names) == len([name for name in expected if name.startswith("model/")])
        assert all(found[name] == expected[name] for name in names)
    after = range(LAST + 1, STEPS + 1)
    assert [half.history()[s]["lr"] for s in after] == [reference.history()[s]["lr"] for s in after]


def test_forgotten_adam_steps_are_seen(finish, half, reference):
    """Fault 27's control: the known bug, planted, is seen by the comparison with S."""
    finish(half, plants={"drop_adam_steps": {}})
    with pytest.raises(AssertionError):
        assert_equal_runs(half, reference)
    found, expected = half.history(), reference.history()
    assert found[LAST + 1]["loss"] == expected[LAST + 1]["loss"]  # the weights were right
    assert found[LAST + 2]["loss"] != expected[LAST + 2]["loss"]
    differ = {
        n for n, h in reference.tensor_hashes(STEPS).items() if half.tensor_hashes(STEPS)[n] != h
    }
    assert any(name.startswith("model/") for name in differ)
    assert all(name in differ for name in reference.tensor_hashes(STEPS) if name.endswith(".step"))


# float32: the bound that is promised; measured here 0. bfloat16 rounds to 8 bits, and where it
# rounds differs when compiled: measured here 6.7e-5 at this shape, and the bound is 15 times that.
TOLERANCE = {"float32": 1e-4, "bfloat16": 1e-3}
DTYPES = ["float32", pytest.param("bfloat16", marks=pytest.mark.long)]  # half a minute of g++ each


@needs_compiler
@pytest.mark.parametrize("dtype", DTYPES)
def test_compile_switched_between_runs(start, half, dtype, tmp_path):
    """Fault 29: compile switched between runs: first-step loss within 1e-4 in fp32; recorded."""
    if dtype == "bfloat16":  # an eager run of its own, killed at the same place
        plants = {"kill_in_save": {"step": CUT, "call": 0, "report": tmp_path / "killed-at"}}
        half = Folder(tmp_path / "bfloat16")
        assert start(half, plants, dtype=dtype).wait() == -signal.SIGKILL
    eager = half.history()[LAST + 1]["loss"]
    quick = {"TORCHINDUCTOR_COMPILE_THREADS": "1"}  # no pool of processes to start
    resumed = start(half, environment=quick, compile="on", dtype=dtype)
    resumed.until(lambda: len(half.step_lines()) > CUT, 200)
    resumed.signal(signal.SIGTERM)
    assert resumed.wait() == 75, resumed.output
    compiled = half.step_lines()[CUT]
    assert compiled["step"] == LAST + 1, resumed.output[-3000:]
    assert "compile on" in resumed.output
    difference = abs(compiled["loss"] - eager) / eager
    print(f"{dtype}: {eager} eager, {compiled['loss']} compiled, {difference:.1e} relative")
    assert math.isclose(compiled["loss"], eager, rel_tol=TOLERANCE[dtype])
    (change,) = half.events("resume")[-1]["changes"]
    assert change == "compile: False at the start, True now"
    assert f"note: resumed on other terms, equal within rounding only: {change}" in resumed.output
