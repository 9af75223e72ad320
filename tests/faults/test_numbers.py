"""Numbers that are not finite and memory that does not suffice."""

import math

import numpy as np
import pytest
from runs import CHECKPOINT_EVERY, CUT, Folder, assert_equal_runs
from safetensors.numpy import load_file

NOT_FINITE, NO_MEMORY = 65, 71
BAD_STEP = CUT - 1  # the step that fails when 31 are done


def all_finite(run, step):
    files = [run.state_path(step) / f"{name}.safetensors" for name in ("model", "optimizer")]
    return all(np.isfinite(t).all() for file in files for t in load_file(file).values())


def assert_stopped(trainer, run, step, batch=8):
    """Exit code 65; the message names step and samples; nothing bad was saved, no step counted."""
    assert trainer.wait() == NOT_FINITE, trainer.output[-3000:]
    line = trainer.last_line()
    assert line.startswith(f"NotFiniteError: step {step}: loss ")
    assert f"samples {step * batch} to {step * batch + batch - 1}" in line
    assert run.last_step() == step
    assert all(all_finite(run, saved) for saved in run.saved_steps())
    assert run.saved_steps()[-1] <= step
    assert "NotFiniteError" in run.manifest()["reason"] and run.manifest()["status"] == "failed"
    assert f"step {step}" in run.events("failed")[-1]["why"]
    return line


def test_loss_not_finite(start, finish, run, reference):
    """Fault 13: NaN or inf loss: optimiser not stepped, bad state never saved, step and samples."""
    line = assert_stopped(start(run, {"overflow_in_forward": {"step": BAD_STEP}}), run, BAD_STEP)
    assert "loss nan" in line or "loss inf" in line
    assert run.saved_steps()[-1] == CUT - CHECKPOINT_EVERY
    finish(run)  # without the overflow: what was saved is S's
    assert_equal_runs(run, reference)


def test_infinite_loss_in_the_first_step(start, run):
    """Fault 13, by settings alone: z-loss squares logits beyond float32; again on every resume."""
    settings = {"logit_multiplier": 1e25, "z_loss": 1e-4}
    lines = [assert_stopped(start(run, **settings), run, 0) for _ in range(2)]
    assert "loss inf" in lines[0] and lines[0] == lines[1]
    assert run.saved_steps() == [0] and len(run.events("resume")) == 1


@pytest.mark.parametrize("lr", [1e8, 1e30, 3e38])
def test_absurd_learning_rate(start, run, lr):
    """Fault 13: weights blown up by the learning rate: never a checkpoint that is not finite."""
    trainer = start(run, lr=lr, warmup=0.0, checkpoint_every=1, keep_last=100)
    code = trainer.wait()
    for step in run.saved_steps():
        assert all_finite(run, step), f"step {step} was saved: {trainer.last_line()}"
    if lr > 1e9:
        assert code == NOT_FINITE, trainer.output[-3000:]
        assert f"step {run.last_step()}: " in trainer.last_line()


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_gradient_not_finite(start, finish, run, reference, value):
    """Fault 14: NaN gradient under a finite loss: caught by the gradient norm; the same."""
    plants = {"poison_gradient": {"step": BAD_STEP, "value": value}}
    line = assert_stopped(start(run, plants), run, BAD_STEP)
    loss = float(line.split("loss ")[1].split(",")[0])
    assert math.isfinite(loss) and loss == reference.history()[CUT]["loss"]
    assert "gradient norm nan" in line or "gradient norm inf" in line
    finish(run)
    assert_equal_runs(run, reference)


# 32 windows of 256 bytes: as many as a CPU takes in one pass (8,192 tokens).
LARGE = {"seq_len": 256, "batch_tokens": 32 * 256, "steps": 2, "eval_every": 100}
LARGE_MEGABYTES = 60  # too little for 32 windows of this shape, enough for fewer


def test_out_of_memory_halves_the_micro_batch(finish, run, tmp_path):
    """Fault 16: out of memory: a halved micro-batch, equal batch, loss within 1e-5 of S in fp32."""
    roomy = Folder(tmp_path / "roomy")
    finish(roomy, **LARGE)
    # RLIMIT_AS, set once the model stands: a real allocation of the 32 windows' pass then fails.
    limit = {"megabytes": LARGE_MEGABYTES, "when": "training"}
    trainer = finish(run, plants={"limit_memory": limit}, **LARGE)
    (plan,) = run.events("plan")
    halvings = run.events("micro_batch")
    assert plan["micro_batch"] == 32 and halvings, trainer.output
    assert (halvings[0]["was"], halvings[0]["now"]) == (32, 16)
    assert "out of memory: 16 sequences a pass, not 32; the batch is equal" in trainer.output
    assert run.state(2)["plan"]["micro_batch"] == halvings[-1]["now"]  # and a resume keeps it
    assert run.batches() == roomy.batches()
    expected = roomy.history()
    assert sorted(run.history()) == sorted(expected) == [1, 2]
    for step, line in run.history().items():
        assert line["tokens"] == expected[step]["tokens"]
        assert math.isclose(line["loss"], expected[step]["loss"], rel_tol=1e-5)
        assert math.isclose(line["grad_norm"], expected[step]["grad_norm"], rel_tol=1e-5)


# A window of 1,024 bytes takes 128 MB in each of several tensors of the hidden layer, the 256
# bytes of the first evaluation 32 MB.
WIDE = {"shape": "1x64:1/1:32768", "seq_len": 1024, "batch_tokens": 1024, "steps": 2}
WIDE_MEGABYTES = 60


@pytest.mark.parametrize("when", ["training", "begin"])
def test_one_sequence_does_not_fit(start, run, when):
    """Fault 16: not even one sequence fits, in training or in the first evaluation: exit 71."""
    limit = {"megabytes": WIDE_MEGABYTES, "when": when}
    trainer = start(run, {"limit_memory": limit}, **WIDE)
    assert trainer.wait() == NO_MEMORY, trainer.output[-3000:]
    assert "Traceback" not in trainer.output
    assert trainer.last_line().startswith("NoMemoryError: one sequence of 1024 tokens does not fit")
    assert "smaller --shape or --seq-len" in trainer.last_line()
    assert run.last_step() == 0
