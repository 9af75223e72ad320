"""Post-mortems: a replay equals its run to the bit, causes are read off, recoveries compared."""

import itertools
import json
import math
import shutil
import subprocess
import sys
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from x1lib import X1Error, checkpoint, postmortem, tracking
from x1lib.checkpoint.store import step_path
from x1lib.data import Shards
from x1lib.postmortem import (
    CAUSES,
    CURES,
    Changes,
    Corpus,
    Features,
    Incident,
    Outcome,
    PostmortemError,
    Rewound,
    Theatre,
    analyse,
    better,
    classify,
    features,
    find_onset,
    find_run,
    find_spike,
    lab,
    noise_floor,
    read_log,
    recover,
    tables,
    write,
)
from x1lib.postmortem.classifier import DECISIONS, GV, UPDATE_RATIO
from x1lib.postmortem.finding import start_before
from x1lib.postmortem.trace import SERIES, Trace
from x1lib.settings import ConfigError
from x1lib.stability import detect
from x1lib.train import Config, train

STEPS, FAULT = 120, 90
BASE = Config(
    out="none", shape="1x32:1/1:64", tokenizer="bpe4096", seq_len=32, batch_tokens=256, lr=3e-3,
    steps=STEPS, compile="off", device="cpu", dtype="float32", threads=1, sample_tokens=0,
    eval_every=STEPS, eval_tokens=64, final_eval_tokens=64, checkpoint_every=20, keep_last=4,
    on_spike="record", inject=f"corrupt-data@{FAULT}:1,kind=1,steps=2", hours=1.0, usd_per_hour=0.0,
)  # fmt: skip


@pytest.fixture(scope="module")
def spiked(tmp_path_factory, embedded_shards):
    """A run with two batches of garbage at step 90, finished."""
    out = tmp_path_factory.mktemp("labs") / "run"
    train(replace(BASE, out=str(out), hours=0.0), log=lambda line: None)
    return out


@pytest.fixture(scope="module")
def analysed(spiked):
    return analyse(spiked, log=lambda line: None)


@pytest.fixture(scope="module")
def corpus(embedded_shards):
    return Corpus(Shards(embedded_shards), 300_000)


def record(folder):
    return {line["step"]: line for line in tracking.read_metrics(folder, "step")}


# Replays


def test_an_untouched_replay_is_the_run_to_the_bit(spiked):
    run = Rewound.of_run(spiked, 60, log=lambda line: None)
    lines = record(spiked)
    for found in run.run(STEPS - 60, probe=True):
        then = lines[found["step"]]
        assert (found["loss"], found["grad_norm"], found["lr"]) == (
            then["loss"], then["grad_norm"], then["lr"],
        )  # fmt: skip
    tensors = checkpoint.training_tensors(run.model, run.optimizer)
    for name in ("model", "optimizer"):
        then = load_file(step_path(spiked / "state", STEPS) / f"{name}.safetensors")
        assert then.keys() == tensors[name].keys()
        assert all(torch.equal(then[key], tensors[name][key]) for key in then), name
    probes = {p["step"]: p["loss"] for p in tracking.read_metrics(spiked, "probe")}
    again = run.again().run(STEPS - 60, probe=True)
    assert {p["step"]: p["probe"] for p in again if p["step"] in probes} == {
        k: v for k, v in probes.items() if k > 60
    }


def test_a_forgotten_bias_correction_would_be_seen(spiked):
    run = Rewound.of_run(spiked, 60, log=lambda line: None)
    for state in run.optimizer.state.values():
        state["step"].zero_()
    lines = record(spiked)
    found = run.run(3)
    assert found[0]["loss"] == lines[61]["loss"]  # the weights are right
    assert found[2]["loss"] != lines[63]["loss"]  # and the moments are not


def test_a_snapshot_can_be_gone_back_to_again_and_again(spiked):
    run = Rewound.of_run(spiked, 80, log=lambda line: None)
    first = run.run(15, probe=True)
    run.changes = Changes(lr_factor=3.0, beta2=0.5, clip=0.01, skip={1, 2}, seq_share=0.5)
    run.run(3)
    assert run.again().run(15, probe=True) == first
    assert run.inject("").again().run(15, probe=True) == first  # the fault comes back too


def test_a_step_that_was_not_finite_leaves_nothing_behind(spiked):
    run = Rewound.of_run(spiked, 80, log=lambda line: None)
    first = run.run(4, probe=True)
    run.again().optimizer.zero_grad()
    for p in run.params:
        p.grad = torch.full_like(p, math.nan)  # as a backward pass that overflowed leaves it
    with pytest.raises(Exception, match="gradient norm nan"):
        run.take_step()
    assert run.again().run(4, probe=True) == first


def test_an_older_state_is_held_against_the_control_at_the_same_step(spiked):
    run = Rewound.of_run(spiked, 60, log=lambda line: None)
    run.inject(f"lr-too-high@{FAULT}:30,steps=3").keep_as_start()
    theatre = Theatre(run, Incident.of(run, FAULT, 2))
    control, earlier = theatre.play("untouched"), theatre.play("earlier-checkpoint")
    assert (control.series["step"][0], earlier.series["step"][0]) == (61, 41)
    assert control.series["step"][-1] == earlier.series["step"][-1] == FAULT + 40
    highest = [one.series["step"][int(np.argmax(one.series["probe"][25:])) + 25]
               for one in (control, earlier)]  # fmt: skip
    assert all(FAULT <= step <= FAULT + 10 for step in highest), highest
    assert earlier.peak > 0.2 and control.peak > 0.2


def test_each_change_changes_what_it_says(spiked):
    run = Rewound.of_run(spiked, 60, log=lambda line: None)
    plain = run.run(4, observe=True)

    def tried(**values):
        run.again().changes = Changes(**values)
        return run.run(4, observe=True)

    def ratio(found, name="update_rms"):
        return found[0][name] / plain[0][name]

    assert ratio(tried(lr_factor=0.3)) == pytest.approx(0.3, rel=1e-3)
    assert tried(lr_factor=0.3)[0]["lr"] == 0.3 * plain[0]["lr"]
    assert 0.5 < ratio(tried(hidden_lr_factor=0.1)) < 1
    assert tried(hidden_lr_factor=0.1)[0]["lr"] == plain[0]["lr"]
    assert ratio(tried(clip=1e-3)) < 1
    assert ratio(tried(beta2=0.5)) != 1
    assert tried(beta2=0.95) == plain
    assert tried(skip={60 * 8 + i for i in range(8)})[0]["loss"] != plain[0]["loss"]
    assert tried(skip={60 * 8 + 8})[0] == plain[0] != tried(skip={60 * 8})[0]
    short = tried(seq_share=0.5)
    assert run.injector.rows.shape == (16, 17) and short[0]["loss"] != plain[0]["loss"]
    until = tried(lr_factor=0.3, until=61)
    assert [round(one["lr"] / p["lr"], 6) for one, p in zip(until, plain, strict=True)] == [
        0.3, 1, 1, 1,
    ]  # fmt: skip


def test_a_fault_in_the_data_goes_with_its_samples(spiked):
    """Skipped, they do no harm; met at another step by another state, they do."""
    run = Rewound.of_run(spiked, 60, log=lambda line: None)
    at = Incident.of(run, FAULT, 2)
    assert (at.first_sample, at.last_sample) == (89 * 8, 91 * 8)
    theatre = Theatre(run, at)
    control, skipped = theatre.play("untouched"), theatre.play("skip-batch")
    assert control.peak_loss > 1.0 > 0.5 > skipped.peak_loss
    assert skipped.tokens_lost >= (91 - 60) * 256
    assert skipped.series["loss"][:29] == control.series["loss"][:29]
    cells = theatre.two_by_two()
    for state in ("old", "spike"):
        assert cells[f"{state}, spike"]["excess"] > 1.0 > 0.3 > cells[f"{state}, other"]["excess"]


def test_an_incident_after_its_checkpoint(spiked):
    run = Rewound.of_run(spiked, 60, log=lambda line: None)
    with pytest.raises(PostmortemError):
        Incident.of(run, 60)
    with pytest.raises(PostmortemError, match="unknown recovery"):
        Theatre(run, Incident.of(run, 90)).play("prayer")


def test_the_noise_is_what_placebos_do(spiked):
    run = Rewound.of_run(spiked, 80, log=lambda line: None)
    theatre = Theatre(run, Incident.of(run, FAULT, 2), usd_per_token=1e-6)
    control, placebos = theatre.play("untouched"), theatre.placebos(2)
    assert len({one.end for one in placebos}) == 2 and control.end not in {o.end for o in placebos}
    noise = noise_floor(control, placebos)
    assert noise["end"] == max(abs(one.end - control.end) for one in placebos) > 0
    assert all(one.peak_loss > 1 for one in placebos)  # the spike is still there
    for one in (control, *placebos):
        if one.tokens_lost is not None:
            assert one.usd_lost == pytest.approx(one.tokens_lost * 1e-6)


def test_better_is_better_than_noise_on_both_texts():
    def one(name, end, heldout, failed=None):
        return Outcome(name, 0.5, end, heldout, 0.5, 3, 9, None, {}, failed)

    outcomes = {
        "untouched": one("untouched", 0.1, 6.0),
        "lr-cut": one("lr-cut", -0.1, 5.9),
        "beta2-lower": one("beta2-lower", -0.2, 5.8),
        "data-swap": one("data-swap", -0.3, 6.1),  # the probe is of its kind, and flattered
        "clip-tighter": one("clip-tighter", 0.07, 5.5),  # within the probe's noise
        "skip-batch": one("skip-batch", math.inf, None, "step 9: loss nan"),
        "placebo-1": one("placebo-1", -9.0, 1.0),
    }
    noise = {"end": 0.05, "heldout": 0.05}
    assert better(outcomes, noise) == ["beta2-lower", "lr-cut"]
    assert better(outcomes, {"end": math.nan, "heldout": math.nan})[0] == "beta2-lower"
    assert better(outcomes, {"end": 1.0, "heldout": 0.0}) == []
    outcomes["untouched"] = one("untouched", math.inf, None, "step 8: loss nan")
    assert "skip-batch" not in better(outcomes, noise) and "data-swap" in better(outcomes, noise)


# The whole of it


def test_the_cause_of_a_real_run_is_found(spiked, analysed):
    assert find_spike(spiked) == FAULT and start_before(spiked, FAULT) == 40
    assert analysed.is_exact and analysed.n_compared == FAULT + 20 - 40
    assert analysed.verdict.cause == "corrupt-data"
    assert analysed.incident.onset == FAULT and analysed.incident.n_steps == 2
    assert analysed.features.excess > 1 and analysed.features.update_ratio < 2
    assert set(analysed.outcomes) >= set(CURES) - {"earlier-checkpoint"}
    earlier = analysed.outcomes["earlier-checkpoint"]
    assert earlier.peak_loss > 1  # broken data is broken for every state
    assert {line["event"] for line in tracking.read_lines(spiked / "metrics.jsonl")
            if line["kind"] == "event"} >= {"spike", "finished"}  # fmt: skip


def test_a_replay_that_differs_is_said(spiked, tmp_path, analysed):
    copy = tmp_path / "run"
    shutil.copytree(spiked, copy)
    lines = (copy / "metrics.jsonl").read_text().splitlines()
    edited = [json.loads(line) for line in lines]
    for line in edited:
        if line["kind"] == "step" and line["step"] == 70:
            line["loss"] = np.nextafter(line["loss"], 9)
    (copy / "metrics.jsonl").write_text("\n".join(json.dumps(line) for line in edited) + "\n")
    said = []
    found = analyse(copy, cures=(), log=said.append)
    assert not found.is_exact and any("not equal" in line for line in said)
    assert found.verdict == analysed.verdict and found.outcomes == {}


def test_the_detail_of_a_step(analysed, spiked):
    detail = analysed.detail
    assert detail.step == FAULT and detail.samples == [89 * 8, 89 * 8 + 7]
    total = math.sqrt(sum(one["gradient"] ** 2 for one in detail.tensors.values()))
    assert total == pytest.approx(record(spiked)[FAULT]["grad_norm"], rel=1e-4)
    assert np.mean(detail.sample_losses) == pytest.approx(record(spiked)[FAULT]["loss"], rel=1e-5)
    assert len(detail.sample_losses) == 8
    losses = [one["loss"] for one in detail.worst]
    assert losses == sorted(detail.sample_losses)[::-1][:3]
    assert all(one["text"] for one in detail.worst)
    assert sum(row["share"] for row in detail.embedding_rows) <= 1
    assert sum(detail.histogram["batch"]) == pytest.approx(1)
    assert detail.histogram["corpus"] == pytest.approx([0.1] * 10, abs=0.03)


def test_the_page(analysed, tmp_path):
    path = write(analysed, tmp_path, log=lambda line: None)
    text = path.read_text()
    for words in ("corrupt-data", "## Why", "## Evidence", "## Data or state?", "## Recovery",
                  "| skip-batch |", "| placebo-3 |", "samples | 712 to 727", " UTC |",
                  "to the bit over 70 steps", "no price was given", "## Cost", "- left alone: ",
                  "- lr-cut trains at 0.3 of the rate", analysed.manifest["run_id"]):  # fmt: skip
        assert words in text, words
    for name in ("grad-norm.png", "token-histogram.png"):
        assert f"(spike/{name})" in text and (tmp_path / "spike" / name).stat().st_size > 5_000
    analysis = json.loads((tmp_path / "spike" / "analysis.json").read_text())
    assert analysis["verdict"]["cause"] == "corrupt-data"
    trace = json.loads((tmp_path / "spike" / "trace.json").read_text())
    assert len(trace["series"]["loss"]) == 70
    priced = replace(analysed, usd_per_token=1e-3)
    priced.outcomes = {k: replace(o, usd_lost=1.5) for k, o in analysed.outcomes.items()}
    assert r"\$1.5000" in postmortem.report.page(priced)
    assert "$" not in postmortem.report.page(priced).replace(r"\$", "")


def test_the_command(spiked, tmp_path):
    command = [sys.executable, "-m", "x1lib.postmortem"]
    done = subprocess.run([*command, "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and "mlflow" in done.stdout
    done = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 2 and "PostmortemError: " in done.stderr
    assert len(done.stderr.splitlines()) == 1
    out = ["--cures", "none", "--out", str(tmp_path)]
    done = subprocess.run([*command, str(spiked), *out], capture_output=True, text=True)
    assert done.returncode == 0 and (tmp_path / "spike-postmortem.md").exists(), done.stderr


def test_a_run_is_found_by_its_id(spiked, tmp_path):
    root = spiked.parent
    (spiked / "mlflow.json").write_text(json.dumps({"run_id": "abc123", "name": "x"}))
    own = json.loads((spiked / "manifest.json").read_text())["run_id"]
    for name in (spiked, "abc123", own):
        assert find_run(name, root) == spiked
    (spiked / "mlflow.json").unlink()
    with pytest.raises(PostmortemError):
        find_run("abc123", root)


def test_a_calm_run_has_no_spike_and_a_run_without_state_no_replay(tmp_path):
    rows = [{"kind": "step", "step": i, "loss": 3.0 + 0.01 * (i % 3), "tokens": i, "time": 0}
            for i in range(1, 90)]  # fmt: skip
    (tmp_path / "metrics.jsonl").write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    with pytest.raises(PostmortemError, match="left its level"):
        find_spike(tmp_path)
    with pytest.raises(PostmortemError, match="no checkpoint"):
        analyse(tmp_path, 50)
    for step in (0, 500):
        with pytest.raises(PostmortemError, match="not in the record"):
            analyse(tmp_path, step)
    step = '{"kind": "step", "step": 1}\n'
    for lines, words in (
        (step, "left its level"),  # no loss
        ("", "has no step"),
        (step + '{"kind": "step"}\n', "has no 'step'"),
        (step + '{"kind": "event", "event": "spike", "step": 1}\n', "has no 'scores'"),
    ):
        (tmp_path / "metrics.jsonl").write_text(lines)
        with pytest.raises(PostmortemError, match=words):
            find_spike(tmp_path)
    assert issubclass(PostmortemError, X1Error)


def test_a_small_spike_is_looked_for_more_closely(tmp_path):
    draw = np.random.default_rng(0)

    def found(loss=0.0, probe=0.0):
        kinds = (("step", 0.02, loss), ("probe", 0.0005, probe))
        rows = [
            {"kind": kind, "step": i, "loss": 3 + noise * draw.normal() + rise * (i in (70, 71))}
            for i in range(1, 90)
            for kind, noise, rise in kinds
        ]
        (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
        return find_spike(tmp_path)

    assert found(loss=0.1) in (70, 71)  # and the watch's own rule passes over it:
    assert not len(detect([one["loss"] for one in tracking.read_metrics(tmp_path, "step")]))
    assert found(probe=0.2) in (70, 71)
    with pytest.raises(PostmortemError):
        found()


def test_a_calm_step_has_no_spike(spiked, tmp_path):
    said = []
    found = analyse(spiked, 62, log=said.append)
    assert found.verdict.cause == "clean" and found.outcomes == {}
    assert any(line.startswith("no spike here: neither") for line in said)
    with pytest.raises(PostmortemError, match="no folder"):
        write(found, spiked / "metrics.jsonl", log=said.append)
    text = write(found, tmp_path, log=said.append).read_text()
    assert text.startswith("# Post-mortem: no spike, at step 62 of run")


def test_another_runs_page_is_moved_aside(analysed, tmp_path):
    said = []
    first = write(analysed, tmp_path, log=said.append).read_text()
    write(analysed, tmp_path, log=said.append)
    assert not (tmp_path / "postmortem-1").exists()  # of the same run
    other = replace(analysed, manifest={**analysed.manifest, "run_id": "another"})
    write(other, tmp_path, log=said.append)
    assert (tmp_path / "postmortem-1" / "spike-postmortem.md").read_text() == first
    assert (tmp_path / "postmortem-1" / "spike" / "trace.json").exists()
    assert "id another" in (tmp_path / "spike-postmortem.md").read_text()
    assert sum("postmortem of another" in line.replace("-", "") for line in said) == 1


# The lab


def bench_of(out, **values):
    return lab.open_bench(lab.Settings(out=str(out), **values), log=lambda line: None)


def test_a_case_says_its_fault_and_nothing_else_does():
    drawn = [lab.draw(case, 240) for case in range(1, 120)]
    assert {one.fault.name for one in drawn} == set(lab.KINDS)
    assert all(120 <= one.step <= 144 and one.first_step > 60 for one in drawn)
    assert lab.draw(7, 240) == drawn[6] and len({one.spec for one in drawn}) > 100


def test_what_a_reader_wrote_stays_and_is_not_taken_late(tmp_path):
    bench = bench_of(tmp_path, case=5)
    assert lab.write_down(bench, cause=None, why=None) == {"cause": None, "why": None}
    assert lab.write_down(bench, cause="rare-token")["cause"] == "rare-token"
    assert lab.write_down(bench, cause="unknown", gain=0.1) == {"cause": "rare-token", "gain": 0.1}
    for wrong in ({"cause": "magic"}, {"recovery": "prayer"}, {"gain": math.nan}, {"gain": "much"}):
        with pytest.raises(ConfigError):
            lab.write_down(bench, **wrong)
    (bench.evidence / lab.OUTCOMES).write_text("{}")
    assert lab.write_down(bench, recovery="lr-cut", why="late?") == {
        "recovery": None, "why": "late?",
    }  # fmt: skip
    (bench.evidence / lab.REVEALED).write_text("{}")
    again = bench_of(tmp_path)  # the case under way
    assert (again.case, again.folder) == (5, bench.folder)
    assert lab.write_down(again, cause="unknown")["cause"] == "rare-token"
    another = bench_of(tmp_path, case=6)
    assert (tmp_path / "postmortem-1" / "spike" / lab.WRITTEN).exists()
    assert lab.write_down(another, cause="unknown")["cause"] == "unknown"


def test_the_seal_is_held_against_what_was_done(tmp_path):
    bench = bench_of(tmp_path, case=5)
    bench.folder.mkdir()
    lab.write_down(bench, cause="unknown")
    for spec, fits in ((bench.config.inject, True), ("rare-token@130:0.5", False)):
        (bench.folder / "manifest.json").write_text(json.dumps({"config": {"inject": spec}}))
        if fits:
            assert lab.reveal(bench).spec == spec
        else:
            with pytest.raises(PostmortemError, match="sealed"):
                lab.reveal(bench)


def test_the_seal_stays_closed_without_a_diagnosis(analysed, tmp_path):
    bench, said = bench_of(tmp_path, case=5), []
    bench.folder.mkdir()
    spec = bench.config.inject
    (bench.folder / "manifest.json").write_text(json.dumps({"config": {"inject": spec}}))
    page = write(analysed, tmp_path / "page", log=said.append)

    def shown():
        truth = lab.reveal(bench, log=said.append)
        parts = [*itertools.chain(*lab.summary(bench, analysed, truth)),
                 *lab.reasons(bench, analysed), lab.head(bench, page)]  # fmt: skip
        return truth, "\n".join([*said, *map(str, parts)])

    truth, text = shown()
    assert truth is None and "stays closed until you write a cause above" in text
    assert "the diagnosis is open" in text
    assert spec not in text and "corrupt-data at" not in text and "**corrupt-data**" not in text
    assert not lab.is_open(bench) and not (bench.evidence / "verdict.json").exists()
    assert lab.write_down(bench, cause="lr-too-high")["cause"] == "lr-too-high"  # still taken
    truth, text = shown()
    assert truth.spec == spec and f"what was done: {spec}" in text and "# Post-mortem" in text
    assert lab.is_open(bench) and (bench.evidence / "verdict.json").exists()
    asked = bench_of(tmp_path / "asked", case=5, open_seal=True)
    shutil.copytree(bench.folder, asked.folder)
    assert lab.reveal(asked, log=said.append).spec == spec


def test_a_bench_in_a_cell_does_not_say_what_was_done(analysed, tmp_path):
    bench = bench_of(tmp_path, case=5)
    assert bench.config.inject and bench.config.inject not in repr(bench)
    said = repr(bench) + repr(analysed)
    assert "inject" not in said and analysed.manifest["config"]["inject"] not in said
    assert analysed.verdict.cause not in said


def test_a_readers_own_run_is_the_patient(spiked, tmp_path):
    bench = bench_of(tmp_path, run=str(spiked))
    assert not bench.is_made and bench.folder == spiked and lab.spike_of(bench) == FAULT
    assert lab.reveal(bench) is None
    shutil.copytree(spiked, tmp_path / "run-local")
    assert bench_of(tmp_path).folder == tmp_path / "run-local"  # lab00's, not asked for by name
    for path in (tmp_path / "run-local" / "state").glob("step-*"):
        shutil.rmtree(path)
    assert bench_of(tmp_path).is_made  # it cannot be rewound
    with pytest.raises(PostmortemError):
        bench_of(tmp_path, run=str(tmp_path / "run-local"))
    with pytest.raises(ConfigError, match="unknown recovery"):
        lab.Settings(cures="lr-cut, prayer")


def test_replays_are_kept_and_read(analysed, tmp_path, monkeypatch):
    store = tmp_path / "outcomes.json"
    first = replace(analysed, outcomes={}, noise={}, two_by_two={}, not_tried={})
    recover(first, ("skip-batch",), store=store, log=lambda line: None)
    for name in ("untouched", "skip-batch", "placebo-2"):
        assert first.outcomes[name] == analysed.outcomes[name]
    assert first.noise == analysed.noise and first.two_by_two == analysed.two_by_two
    equal, compared = tables.control_equals_record(first)
    assert equal == compared == STEPS - first.incident.start
    monkeypatch.setattr(Theatre, "play", lambda *_: pytest.fail("replayed again"))
    again = replace(first, outcomes={}, noise={}, two_by_two={})
    recover(again, ("skip-batch",), store=store, log=lambda line: None)
    assert again == first
    other = replace(first, incident=replace(first.incident, onset=FAULT + 1))
    with pytest.raises(pytest.fail.Exception, match="replayed again"):
        recover(other, ("skip-batch",), store=store, log=lambda line: None)


# The corpus and the list of decisions


def test_gains_are_what_pairs_save(corpus, embedded_shards):
    shards = Shards(embedded_shards)
    rows = shards.batch(0, 4, 32, 0)[0]
    share = 300_000 // shards.n_blocks
    streams = [np.load(shards.folder / e["file"], mmap_mode="r")[:share] for e in shards.blocks]
    own, pairs = {}, {}
    for stream in streams:
        stream = stream.tolist()
        for i, token in enumerate(stream):
            own[token] = own.get(token, 0) + 1
            if i:
                pair = stream[i - 1], token
                pairs[pair] = pairs.get(pair, 0) + 1
    n = sum(own.values()) + 0.5 * shards.vocab_size
    for row, found in zip(rows.tolist(), corpus.gains(rows), strict=True):
        bits = []
        for a, b in itertools.pairwise(row):
            alone = (own.get(b, 0) + 0.5) / n
            both = 0.75 * pairs.get((a, b), 0) / max(1, own.get(a, 0)) + 0.25 * alone
            bits.append(math.log2(both / alone))
        assert found == pytest.approx(sum(bits) / len(bits), rel=1e-9)


def test_a_batch_is_described(corpus, embedded_shards):
    rows = Shards(embedded_shards).batch(0, 8, 64, 0)[0]
    usual = corpus.describe(rows)
    assert usual["gain"] > 2 and usual["rare"] < 0.05 and usual["repetition"] < 0.2
    assert corpus.orderless_gain(rows) < 0
    rare = np.flatnonzero(corpus.rare & (corpus.counts > 0))
    assert corpus.counts[rare].sum() <= 0.01 * corpus.counts.sum()
    odd = rows.copy()
    odd[3], odd[5, :32] = 17, rare[:32]
    found = corpus.describe(odd)
    assert found["repetition"] == 1.0 and found["row_gain"] < 0 < usual["row_gain"]
    assert found["rare"] > usual["rare"] + 0.05
    batch, whole = corpus.histogram(odd)
    assert batch.sum() == pytest.approx(1) and whole == pytest.approx([0.1] * 10, abs=0.03)
    assert batch[-1] > whole[-1]


CASES = {
    "clean": Features(None),
    "lr-too-high": Features(9, 1.0, 0.9, lr_ratio=8.0, update_ratio=8.0),
    "adam-beta2": Features(9, 1.0, 0.9, update_ratio=6.0, gv=9.0, excess=0.0),
    "rare-token": Features(9, 3.0, 0.1, rare=0.5, disorder=0.9, excess=3.0),
    "corrupt-data": Features(9, 3.0, 0.1, row_disorder=0.9, excess=3.0),
    "unknown": Features(9, 1.0, 0.1, excess=0.9),
}


@pytest.mark.parametrize("cause", CAUSES)
def test_each_cause_has_its_case(cause):
    found = classify(CASES[cause])
    assert found.cause == cause and found.evidence_for
    assert found.confidence == ("low" if cause == "unknown" else "high")
    assert json.loads(json.dumps(found.to_json()))["cause"] == cause


def test_a_rate_that_the_log_hides_is_told_from_a_stale_moment():
    hidden = Features(9, 1.0, 0.9, update_ratio=8.0, gv=1.1)
    assert (
        classify(hidden).cause == "lr-too-high" and "log says" in classify(hidden).evidence_for[0]
    )
    assert classify(replace(hidden, gv=GV)).cause == "adam-beta2"
    assert classify(replace(hidden, update_ratio=UPDATE_RATIO - 0.1)).cause == "unknown"


def test_the_state_is_asked_before_the_batch():
    both = Features(9, 1.0, 0.9, update_ratio=8.0, gv=9.0, disorder=0.9, excess=2.0)
    found = classify(both)
    assert found.cause == "adam-beta2" and found.confidence != "high"
    assert any("harder" in words for words in found.evidence_against)


def test_text_of_another_kind_is_not_broken_text():
    found = classify(Features(9, 1.0, 0.1, disorder=0.6, row_disorder=0.45, rare=0.06, excess=1.0))
    assert found.cause == "unknown" and any("another kind" in words for words in found.evidence_for)


def test_an_easy_batch_is_not_blamed():
    odd = Features(9, 1.0, 0.9, row_disorder=2.0, rare=0.3, repetition=0.9, excess=0.0)
    assert classify(odd).cause == "unknown"
    assert classify(replace(odd, excess=None)).cause == "rare-token"


def test_confidence_falls_with_margin_and_with_evidence_against():
    clear = CASES["adam-beta2"]
    assert classify(clear).confidence == "high"
    assert sum("updates were" in words for words in classify(clear).evidence_for) == 1
    assert classify(replace(clear, update_ratio=2.6)).confidence == "medium"
    assert classify(replace(clear, update_ratio=2.6, excess=0.9)).confidence == "low"


def test_the_classifier_is_not_told_the_settings():
    names = {f.name for f in fields(Features)}
    assert not names & {f.name for f in fields(Config)}
    assert {d.cause for d in DECISIONS} | {"unknown"} == set(CAUSES)


@pytest.mark.parametrize(
    ("probe_rise", "words"),
    [
        (-0.05, "not hurt: the probe did not rise"), (0.02, "not hurt: the probe rose by 0.02"),
        (0.05, "hardly hurt: the probe rose by 0.05"), (0.57, "was hurt, and less than the batch"),
    ],
)  # fmt: skip
def test_words_for_the_harm_follow_its_size(probe_rise, words):
    found = classify(replace(CASES["rare-token"], probe_rise=probe_rise, probe_noise=0.01))
    (said,) = [words for words in found.evidence_for if "the model" in words]
    assert words in said
    assert found.cause == "rare-token" and found.confidence == "high"  # words only


def made_trace(n=60):
    draw = np.random.default_rng(0)
    series = {name: [1.0] * n for name in SERIES}
    series["step"] = list(range(101, 101 + n))
    series["loss"] = (4 + draw.normal(0, 0.05, n)).tolist()
    series["probe"] = (4 - 0.001 * np.arange(n)).tolist()
    series |= {name: [0.0] * n for name in ("rare", "repetition")}
    series["gain"] = (3 + draw.normal(0, 0.1, n)).tolist()
    series["row_gain"] = (2 + draw.normal(0, 0.1, n)).tolist()
    return Trace(series, orderless_gain=-1.0)


def test_features_are_read_off_a_trace():
    calm = made_trace()
    assert find_onset(calm) is None and features(calm) == Features(None)
    trace = made_trace()
    trace.series["loss"][45] += 2
    trace.series["gain"][45] = 1.0
    trace.series["lr"][40] = 3.0
    trace.series["update_rms"][41] = 5.0
    trace.series["grad_norm"][43:46] = [9.0] * 3
    trace.series["grad_norm"][38] = 9.0  # it leaps for a step now and then
    asked = []
    found = features(trace, excess=lambda place: asked.append(place) or 1.5)
    assert asked == [45] and found.onset == 146 and found.excess == 1.5
    assert found.loss_rise == pytest.approx(2, abs=0.15) and abs(found.probe_rise) < 0.1
    assert (found.lr_ratio, found.update_ratio, found.lead) == (3.0, 5.0, 2)
    assert found.disorder == pytest.approx(0.5, abs=0.05)
    assert found.probe_noise < 1e-9  # a probe that falls evenly has none
    assert features(trace, first=46).onset is None
    trace.series["probe"][50:] = [4.5] * 10
    assert find_onset(trace, 46) == 50


def test_a_weak_witness_needs_another():
    def onset(**changed):
        trace = made_trace()
        for name, value in changed.items():
            trace.series[name][45] += value
        return find_onset(trace)

    assert onset(loss=0.2) is None and onset(row_gain=-3.5) is None
    assert onset(loss=0.2, row_gain=-3.5) == 45
    assert onset(loss=0.2, rare=0.2) == 45 == onset(loss=0.2, repetition=1.0)
    assert onset(probe=0.08) is None and onset(update_rms=2.0) is None
    assert onset(probe=0.08, update_rms=2.0) == 45


# Logs


def test_a_log_names_a_wrong_rate_and_hints_at_the_rest():
    draw = np.random.default_rng(0)
    loss, norm, lr = 3 + draw.normal(0, 0.02, 400), np.full(400, 0.3), np.full(400, 1e-3)
    loss[100] += 1  # a batch
    loss[200:230] += 1  # the state: the norm leaves three values earlier
    norm[197:230] = 3.0
    loss[300:320] += 1
    lr[298:310] *= 5
    batch, state, rate = read_log(loss, norm, lr)
    assert (batch.place, batch.duration, batch.lead, batch.cause) == (100, 1, None, "unknown")
    assert any("rather the batch" in hint for hint in batch.hints)
    assert (state.place, state.duration, state.lead, state.cause) == (200, 30, 3, "unknown")
    assert any("rather the state" in hint for hint in state.hints)
    assert (rate.place, rate.cause, rate.lr_ratio) == (300, "lr-too-high", pytest.approx(5))
    assert batch.rise == pytest.approx(1, abs=0.1)
    assert read_log(loss)[0].lr_ratio is None
    with pytest.raises(PostmortemError, match="grad_norm has shape"):
        read_log(loss, [1, 2])


def test_the_spikes_of_llmcs_log(optional_data):
    table = np.genfromtxt(optional_data("logs/llmc_gpt2_124M.csv"), delimiter=",", names=True)
    found = read_log(table["train_loss"], table["grad_norm"], table["lr"], rule="olmo2")
    assert [one.place for one in found] == [7856, 16645]
    assert all(one.cause == "unknown" and one.duration == 1 for one in found)


def test_a_trace_can_be_cut_and_joined(tmp_path):
    trace = made_trace()
    joined = trace.part(0, 20) + trace.part(20)
    assert joined.series == trace.series and joined.place(121) == 20
    trace.save(tmp_path / "t.json")
    assert json.loads((tmp_path / "t.json").read_text())["series"]["step"][0] == 101
