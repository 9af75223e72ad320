"""Faults on purpose: what each does, the counterfactual, and runs with them that resume exactly."""

import json
import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from x1lib import checkpoint, stability, tracking
from x1lib.data import Shards
from x1lib.pacing import Schedule
from x1lib.planning import Plan
from x1lib.postmortem.rewound import Rewound
from x1lib.runtime import choose_machine
from x1lib.session import spikes
from x1lib.stability import FAULTS, Injection, StabilityError, largest_update, rarest
from x1lib.train import Config, train

ROWS = np.arange(8 * 33, dtype=np.uint16).reshape(8, 33) % 500
IDS = np.arange(40, 48)
RARE = np.array([3, 7, 11])


def spoiled(spec, ids=IDS, first=40, seed=0):
    return Injection.parse(spec).rows(ROWS, ids, first, seed, RARE, 500)


# One fault


def test_a_spec_is_read_and_written():
    one = Injection.parse("adam-beta2@200:0.9999,jump=10")
    assert (one.step, one.strength, one.steps, one.options) == (200, 0.9999, 30, {"jump": 10.0})
    assert (one.first_step, one.last_step) == (170, 200)
    for name in FAULTS:
        one = Injection.parse(f"{name}@99")
        assert one == Injection.parse(one.spec)
        assert one.fault.mechanism and one.fault.counterfactual and one.fault.source


@pytest.mark.parametrize(
    "spec",
    [
        "", "spike@3", "rare-token", "rare-token@x", "rare-token@5:2", "rare-token@5:0",
        "rare-token@5:0.5,jump=3", "corrupt-data@5:1,kind=3", "adam-beta2@20:0.99", "lr-too-high@0",
        "rare-token@5,steps=nan", "rare-token@5,steps=inf", "corrupt-data@5,kind=nan",
        "adam-beta2@99:1", "lr-too-high@5:inf", "lr-too-high@5:nan", "rare-token@5:0.5,steps=0",
        "rare-token@5:0.5,steps=1.5", "adam-beta2@99:0.9,jump=0", "lr-too-high@5:-3",
    ],
)  # fmt: skip
def test_a_spec_that_cannot_be_is_refused(spec):
    with pytest.raises(StabilityError):
        Injection.parse(spec)
    if spec:
        with pytest.raises(StabilityError):
            Config(steps=9, inject=spec)


def test_a_batch_is_spoiled_by_sample_number_alone():
    whole = spoiled("corrupt-data@5:1,steps=2")
    assert not np.array_equal(whole, ROWS) and whole.dtype == ROWS.dtype
    # The same samples in another batch, in another order, at another time.
    order = np.array([5, 0, 3, 1])
    part = Injection.parse("corrupt-data@5:1,steps=2").rows(
        ROWS[order], IDS[order], 40, 0, RARE, 500
    )
    assert np.array_equal(part, whole[order])
    assert not np.array_equal(spoiled("corrupt-data@5:1,steps=2", seed=1), whole)
    # Samples 40 to 55 are hit (two batches of 8): not those before and not those after.
    for first, hit in ((40, 8), (44, 4), (48, 0), (32, 8), (28, 4), (24, 0)):
        changed = (spoiled("corrupt-data@5:1,kind=1,steps=2", first=first) != ROWS).any(1)
        assert changed.sum() == hit, first


@pytest.mark.parametrize(("kind", "name"), list(enumerate(stability.KINDS)))
def test_kinds_of_broken_samples(kind, name):
    found = spoiled(f"corrupt-data@5:1,kind={kind}")
    if name == "shuffle":
        assert np.array_equal(np.sort(found, 1), np.sort(ROWS, 1))
        assert (found != ROWS).mean() > 0.8
    elif name == "garbage":
        assert found.max() < 500 and len(np.unique(found)) > 150
    else:
        assert (found == found[:, :1]).all()
        assert all(row[0] in before for row, before in zip(found, ROWS, strict=True))


def test_shares_are_what_they_say():
    ids = np.arange(4000)
    rows = np.full((4000, 20), 100, np.uint16)
    broken = Injection.parse("corrupt-data@5:0.3,kind=1").rows(rows, ids, 0, 0, RARE, 500)
    assert abs((broken != 100).any(1).mean() - 0.3) < 0.03
    rare = Injection.parse("rare-token@5:0.2").rows(rows, ids, 0, 0, RARE, 500)
    assert abs(np.isin(rare, RARE).mean() - 0.2) < 0.01
    assert set(np.unique(rare)) == {3, 7, 11, 100}


def test_the_rarest_make_up_no_more_than_their_share():
    counts = np.array([0, 5, 1, 400, 3, 600, 2])
    assert rarest(counts, 0.01).tolist() == [2, 4, 6]  # 1 + 2 + 3 of 1,011; 5 more would be 11
    assert rarest(np.array([0, 50, 50]), 0.01).tolist() == [1]  # never none


def test_the_largest_update_is_adams():
    assert largest_update(0.9, 0.95) == pytest.approx(1.1, abs=0.05)
    assert largest_update(0.9, 0.999) == pytest.approx(6.6, abs=0.05)
    assert largest_update(0.9, 0.95, jump=33) < 1.15
    for beta2, jump in ((0.999, 33.0), (0.9999, 10.0), (0.95, 33.0)):
        p = torch.zeros(1, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.Adam([p], lr=1.0, betas=(0.9, beta2), eps=0.0)
        p.grad = torch.full((1,), 1 / jump, dtype=torch.float64)
        optimizer.step()
        state = optimizer.state[p]
        state["exp_avg"][:], state["exp_avg_sq"][:], state["step"] = (
            1 / jump,
            jump**-2,
            torch.tensor(1e7),
        )
        steps = []
        for _ in range(200):
            before, p.grad = p.item(), torch.ones(1, dtype=torch.float64)
            optimizer.step()
            steps.append(before - p.item())
        assert max(steps) == pytest.approx(largest_update(0.9, beta2, jump), rel=1e-6)


# In training


@pytest.fixture(scope="module")
def trunk(embedded_shards):
    """A small model trained past its first fall, and its state there."""
    shards = Shards(embedded_shards)
    config = Config(
        out="none", shape="2x64", tokenizer="bpe4096", seq_len=64, batch_tokens=512, steps=10**6,
        lr=3e-3, compile="off", device="cpu", dtype="float32", threads=1,
    )  # fmt: skip
    machine = choose_machine("cpu", "float32", "auto", "off", True, 1, hours=0.0, total_flops=1.0)
    plan = Plan(64, 8, 8, 3e-3, 3e-3, 0.1, Schedule(50, ((10**6, 0.0), (10**6 + 1, 1.0))))
    run = Rewound(config, plan, machine, shards)
    run.run(190)
    before = [run.take_step(observe=True, probe=True) for _ in range(10)]
    usual = {k: float(np.median([one[k] for one in before])) for k in ("probe", "update_rms")}
    return run, run.snapshot(), usual


def rise(trunk, spec, n_steps):
    """Largest rise of probe [nats] and of the update after a fault, and the steps."""
    run, state, usual = trunk
    run.restore(state).inject(spec)
    found = run.run(n_steps, observe=True, probe=True)
    probe = max(one["probe"] for one in found) - usual["probe"]
    return probe, max(one["update_rms"] for one in found) / usual["update_rms"], found


def test_a_slow_second_moment_hurts_and_a_fast_one_does_not(trunk):
    slow, slow_update, _ = rise(trunk, "adam-beta2@231:0.999,jump=33", 45)
    fast, fast_update, _ = rise(trunk, "adam-beta2@231:0.95,jump=33", 45)
    assert slow > 0.5 and slow_update > 4
    assert fast < 0.1 and fast_update < 2.5
    quiet, _, found = rise(trunk, "adam-beta2@260:0.999,jump=33,steps=59", 58)
    assert quiet < 0.1  # the stretch alone is harmless: the jump is what does it
    assert found[-1]["grad_norm"] < 0.1


def test_a_bad_batch_raises_the_loss_and_hardly_the_probe(trunk):
    for spec in ("rare-token@205:0.8,steps=1", "corrupt-data@205:1,kind=1,steps=1"):
        probe, update, found = rise(trunk, spec, 8)
        losses = [one["loss"] for one in found]
        assert losses.index(max(losses)) == 4 and losses[4] > losses[3] + 1.5
        assert probe < 0.3 and update < 1.5


def test_a_wrong_rate_hurts_the_model_whether_logged_or_not(trunk):
    for hidden in (0, 1):
        probe, update, found = rise(trunk, f"lr-too-high@205:20,steps=5,hidden={hidden}", 12)
        assert probe > 0.3 and 12 < update < 28
        rates = [round(one["lr"] / 3e-3, 6) for one in found]
        assert rates == [1.0] * 4 + [1.0 if hidden else 20.0] * 5 + [1.0] * 3


# A run with a fault in it


def settings(out, **more):
    base = Config(
        out=str(out), shape="1x32:1/1:64", tokenizer="bpe4096", seq_len=32, batch_tokens=256,
        steps=64, lr=3e-3, compile="off", device="cpu", dtype="float32", threads=1,
        sample_tokens=0, eval_every=64, eval_tokens=64, final_eval_tokens=64, checkpoint_every=8,
        keep_last=99, probe_every=16, on_spike="record",
    )  # fmt: skip
    return replace(base, **more)


def go(config):
    train(config, log=lambda line: None)
    return tracking.read_metrics(config.out)


def steps_of(lines):
    return {line["step"]: (line["loss"], line["grad_norm"], line["lr"]) for line in lines
            if line["kind"] == "step"}  # fmt: skip


def events(lines, name):
    return [line for line in lines if line.get("event") == name]


def weights(out, step=64):
    return load_file(checkpoint.store.step_path(out / "state", step) / "model.safetensors")


def killed_after(out, copy, step):
    """The folder as a kill would have left it after its checkpoint of `step`, and some steps on."""
    shutil.copytree(out, copy, ignore=shutil.ignore_patterns("*.lock", "checkpoint"))
    for path in (copy / "state").glob("step-*"):
        if int(path.name[5:]) > step:
            shutil.rmtree(path)
    pins = checkpoint.pins(copy / "state")
    if pins and max(pins) > step:
        (copy / "state" / "pins.json").unlink()
    lines = (copy / "metrics.jsonl").read_text().splitlines()
    kept = [line for line in lines if json.loads(line).get("step", 0) <= step + 3]
    (copy / "metrics.jsonl").write_text("\n".join(kept) + "\n")
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["status"] = "running"
    (copy / "manifest.json").write_text(json.dumps(manifest))


GARBAGE = "corrupt-data@45:1,kind=1,steps=1"


@pytest.fixture(scope="module")
def whole(tmp_path_factory, embedded_shards):
    """A function from policy and fault to an uninterrupted run and its lines, made once each."""
    done = {}

    def run(policy, inject):
        if (policy, inject) not in done:
            out = tmp_path_factory.mktemp("whole") / "run"
            done[policy, inject] = out, go(settings(out, inject=inject, on_spike=policy))
        return done[policy, inject]

    return run


@pytest.fixture(scope="module")
def calm(tmp_path_factory, embedded_shards):
    out = tmp_path_factory.mktemp("calm") / "run"
    return out, go(settings(out))


@pytest.fixture(scope="module")
def spiked(whole):
    return whole("record", GARBAGE)


def test_a_spike_is_flagged_in_its_step_and_the_checkpoint_before_it_kept(spiked):
    out, lines = spiked
    (found,) = events(lines, "spike")
    assert found["step"] == 45 and found["scores"]["loss"] > 7 and found["number"] == 1
    assert found["samples"] == [44 * 8, 45 * 8]
    assert found["pinned"] == 8  # a spike's length before it; and the one before that is kept too
    assert checkpoint.pins(out / "state") == {0: ["before a spike"], 8: ["before a spike"]}
    probes = {line["step"] for line in lines if line["kind"] == "probe"}
    assert probes == {16, 32, 48, 64} | set(range(45, 65))
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["config"]["inject"] == GARBAGE


@pytest.mark.parametrize("inject", ["rare-token@500", "adam-beta2@65:0.99"])
def test_a_fault_that_no_step_meets_is_refused(inject, tmp_path, embedded_shards):
    with pytest.raises(StabilityError, match="run are 1 to 64"):
        go(settings(tmp_path / "run", inject=inject))
    assert not tracking.read_metrics(tmp_path / "run", "step")


@pytest.mark.parametrize("inject", ["rare-token@40", "adam-beta2@50:0.99,steps=20"])
def test_a_fault_that_begins_before_a_branch_is_refused(inject, calm, tmp_path):
    branch = {"branch_from": f"{calm[0]}@40", "inject": inject}
    with pytest.raises(StabilityError, match="run are 41 to"):
        go(settings(tmp_path / "run", **branch))


def test_a_calm_run_raises_no_alarm(calm, spiked):
    out, lines = calm
    assert events(lines, "spike") == [] and checkpoint.pins(out / "state") == {}
    assert {k: v for k, v in steps_of(lines).items() if k < 45} == {
        k: v for k, v in steps_of(spiked[1]).items() if k < 45
    }
    assert steps_of(lines)[45][0] < steps_of(spiked[1])[45][0] - 1


def test_watching_changes_nothing(calm, tmp_path):
    lines = go(settings(tmp_path / "run", on_spike="off"))
    assert steps_of(lines) == steps_of(calm[1])
    assert not any(line["kind"] == "probe" for line in lines)
    for name, one in weights(tmp_path / "run").items():
        assert torch.equal(one, weights(calm[0])[name])


@pytest.mark.parametrize("at", [40, 48])
@pytest.mark.parametrize(
    ("policy", "inject"),
    [
        ("record", GARBAGE),
        ("skip", GARBAGE),
        ("rollback", GARBAGE),
        ("record", "adam-beta2@44:0.999,steps=12"),
        ("record", "lr-too-high@44:6,steps=3"),
        ("record", "rare-token@44:0.5,steps=3"),
    ],
)
def test_a_run_with_a_fault_resumes_to_the_bit(policy, inject, at, tmp_path, whole):
    out, lines = whole(policy, inject)
    if policy == "rollback" and at == 48:
        at = 56  # 48 is written once the run has come back to it
    again = tmp_path / "again"
    killed_after(out, again, at)
    resumed = go(settings(again, inject=inject, on_spike=policy))
    assert events(tracking.read_lines(again / "metrics.jsonl"), "resume")
    assert steps_of(resumed) == steps_of(lines)
    for name, one in weights(again).items():
        assert torch.equal(one, weights(out)[name]), name
    states = [checkpoint.load_latest(folder / "state").state["spikes"] for folder in (out, again)]
    assert states[0] == states[1] and states[0]["detectors"]["loss"]["past"]


def test_skip_leaves_the_batch_out_and_the_weights_alone(tmp_path, spiked):
    out = tmp_path / "run"
    lines = go(settings(out, inject=GARBAGE, on_spike="skip", checkpoint_every=1))
    (found,) = events(lines, "skipped")
    assert found["step"] == 45
    before, after = weights(out, 44), weights(out, 45)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert steps_of(lines)[45] == steps_of(spiked[1])[45]
    assert steps_of(lines)[46][0] != steps_of(spiked[1])[46][0]


def test_skip_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setitem(spikes.MOST_ACTIONS, "skip", 2)
    inject = "corrupt-data@45:1,kind=1,steps=6"
    lines = go(settings(tmp_path / "run", inject=inject, on_spike="skip"))
    assert [line["step"] for line in events(lines, "skipped")] == [45, 46]
    assert len(events(lines, "spike")) == 1


def test_rollback_goes_back_and_leaves_the_samples_out(whole, spiked):
    out, lines = whole("rollback", GARBAGE)
    raw_before = steps_of(spiked[1])
    (found,) = events(lines, "rollback")
    assert (found["step"], found["spike_step"]) == (40, 45)
    assert found["skipped_samples"] == [40 * 8, 45 * 8]  # back to 40: five batches are left out
    assert max(loss for loss, _, _ in steps_of(lines).values()) < 9
    assert steps_of(lines)[45][0] < raw_before[45][0] - 1
    assert {k: v for k, v in steps_of(lines).items() if k <= 40} == {
        k: v for k, v in raw_before.items() if k <= 40
    }
    raw = tracking.read_lines(out / "metrics.jsonl")
    assert [line["step"] for line in raw if line["kind"] == "step"].count(45) == 2
    assert len(events(raw, "spike")) == 1
    assert checkpoint.load_latest(out / "state").state["skip"] == list(range(40 * 8, 45 * 8))


def test_rollback_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setitem(spikes.MOST_ACTIONS, "rollback", 2)
    # A wrong rate is not in the data, so going back does not help.
    inject = "lr-too-high@45:40,steps=4"
    lines = go(settings(tmp_path / "run", inject=inject, on_spike="rollback"))
    assert 1 <= len(events(lines, "rollback")) <= 2
    assert steps_of(lines).keys() == set(range(1, 65))


def test_the_probe_costs_under_a_hundredth_by_its_own_rule():
    class Plain:
        batch_size = 16

    run = type("Run", (), {"config": Config(steps=9), "plan": Plain})()
    watch = object.__new__(spikes.Spikes)
    watch.run, watch._probe = run, torch.zeros(8, 65)
    assert watch.probe_every == 50  # 8 rows read every 50 steps of 16 rows trained
    assert 8 / (16 * watch.probe_every) <= 0.01
    assert math.isfinite(watch.probe_every)
