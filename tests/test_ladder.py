"""The MFU ladder: rungs that agree, time that adds up, figures of what was measured."""

import itertools
import json
import math
import os
import re
import subprocess
import sys
from dataclasses import asdict, replace

import pytest
import torch

from x1lib import ladder, runtime
from x1lib.economics import flops_per_token
from x1lib.figures import Picture
from x1lib.figures import ladder as figures
from x1lib.ladder import LadderError, Settings, WrongRung, accounting, lay_out, measuring
from x1lib.ladder.__main__ import main
from x1lib.ladder.bench import Bench, Climber
from x1lib.ladder.rungs import MEASURED, NAMES, NOT_MEASURED, Agreement, Models, Rung
from x1lib.runtime import Machine
from x1lib.settings import ConfigError, from_command_line
from x1lib.shapes import Shape
from x1lib.train import GPT, Config, gradients

SMALL = {"shape": "1x64", "seq_len": 32, "batch_tokens": 256, "compile": "off"}
SMALL |= {"rungs": "eager,bf16,attention"}
BF16 = Machine("cpu", "a processor", "bfloat16", "blocked", True, True, True, 1, torch.__version__)


def settings(out, **changes) -> Settings:
    return Settings(out=str(out), **(SMALL | changes))


def silent(line: str) -> None:
    pass


@pytest.fixture(autouse=True)
def bf16_machine(monkeypatch, embedded_shards):
    """A CPU with bf16 products, whatever the tests run on; text prepared once, 4,096 pieces."""
    monkeypatch.setattr(runtime.machine, "_cpu_has_bf16_products", lambda: True)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    before = Settings.trainer_config
    monkeypatch.setattr(
        Settings,
        "trainer_config",
        lambda self, tokens: replace(before(self, tokens), source=str(embedded_shards)),
    )


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A folder with a ladder of a few rounds of the small shape, and what climbing returned."""
    return tmp_path_factory.mktemp("ladder")


@pytest.fixture
def folder(measured, monkeypatch):
    if not (measured / "ladder.json").exists():
        monkeypatch.setattr(measuring, "EARLY_ROUNDS", 2)
        monkeypatch.setattr(measuring, "MAX_ROUNDS", 2)
        measuring.climb(settings(measured), silent)
    return measured


# Which rungs there are


def test_each_rung_adds_one_change_to_the_one_before():
    rungs = lay_out(BF16, 50257, 50304)
    assert [one.name for one in rungs] == list(NAMES)
    assert all(one.status == MEASURED and one.why is None for one in rungs)
    changed = []
    for before, now in itertools.pairwise(rungs):
        a, b = asdict(before), asdict(now)
        changed.append([k for k in a if a[k] != b[k] and k not in ("name", "change")])
    assert changed == [["dtype"], ["compile"], ["attention"], ["padded"], ["deterministic"]]
    first, fastest = rungs[0], rungs[-2]
    assert (first.dtype, first.attention, first.compile) == ("float32", "plain", False)
    assert (fastest.dtype, fastest.attention, fastest.compile) == ("bfloat16", "blocked", True)
    assert first.deterministic and not first.padded and fastest.padded


def test_a_rung_that_would_change_nothing_is_not_measured_and_says_why():
    notes = (
        "float32: no bf16 matrix instructions found on this cpu",
        "eager: torch.compile needs a C++ compiler and this machine has none",
    )
    poor = replace(BF16, dtype="float32", attention="sdpa", compile=False, notes=notes)
    rungs = {one.name: one for one in lay_out(replace(poor, deterministic=False), 4096, 4096)}
    skipped = {name: one.why for name, one in rungs.items() if one.status == NOT_MEASURED}
    assert skipped == {
        "bf16": notes[0],
        "compile": notes[1],
        "vocabulary": "4,096 is a multiple of 128 already",
        "not-deterministic": "no rung is deterministic, as was asked",
    }
    attention = rungs["attention"]  # goes on from what is possible
    assert (attention.dtype, attention.compile, attention.attention) == ("float32", False, "sdpa")


# One set of weights


def test_the_model_of_a_rung_is_the_trainers_own_on_shared_weights():
    config = Config(shape="1x64", seq_len=32, steps=1, seed=3)
    models = Models(config, 200, "cpu")
    tokens = torch.arange(60).reshape(2, 30) % 200
    for rung in lay_out(BF16, 200, 256):
        model = models.build(rung)
        own = GPT(config, 200, rung.attention, getattr(torch, rung.dtype))
        assert torch.equal(model(tokens), own(tokens))
        assert len(model.embedding.weight) == (256 if rung.padded else 200)
        shared = {id(p) for p in models.base.parameters()} | {id(models.unpadded)}
        assert {id(p) for p in model.parameters()} <= shared


def test_a_step_of_the_ladder_leaves_the_weights_alone(tmp_path):
    bench = Bench(settings(tmp_path), silent)
    climber = Climber(Rung("eager", ""), bench)
    before = [p.detach().clone() for p in climber.params]
    climber.take_step()
    climber.take_step()
    assert all(map(torch.equal, before, climber.params)) and climber.sample == 2 * 8
    assert climber.optimizer.state[climber.params[0]]["step"] == 2  # and the optimiser worked


def test_memory_that_is_short_halves_the_micro_batch(tmp_path, monkeypatch):
    from x1lib.ladder import bench as module

    def short(forward, params, rows, micro_batch, clip):
        if micro_batch > 2:
            raise torch.OutOfMemoryError("out of memory")
        return gradients(forward, params, rows, micro_batch, clip)

    lines = []
    bench = Bench(settings(tmp_path), lines.append)
    whole = Climber(Rung("eager", ""), bench)
    whole.warm_up()
    monkeypatch.setattr(module, "gradients", short)
    halved = Climber(Rung("eager", ""), bench)
    halved.warm_up()  # the same loss, which the bench checks
    assert (whole.plan.micro_batch, halved.plan.micro_batch) == (8, 2)
    assert any("2 sequences a pass, not 4" in line for line in lines)


# Rungs agree, or are refused


def test_rungs_share_loss_and_batch(folder):
    found = ladder.load(folder)
    rungs = [one for one in found["rungs"] if one["status"] == MEASURED]
    assert [one["name"] for one in rungs] == ["eager", "bf16", "attention"]
    first = rungs[0]
    for one in rungs[1:]:
        assert math.isclose(one["first_loss"], first["first_loss"], rel_tol=2e-4)
        assert math.isclose(one["first_grad_norm"], first["first_grad_norm"], rel_tol=5e-3)
        assert one["first_loss"] != first["first_loss"]  # another rounding: it is really bf16
    assert abs(first["first_loss"] - math.log(4096)) < 0.2


def unmasked(q, k, v):
    k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for x in (k, v))
    return ((q @ k.transpose(-1, -2)).float() * q.shape[3] ** -0.5).softmax(-1).to(q.dtype) @ v


def unscaled(q, k, v):
    return runtime.ATTENTION["plain"](q * q.shape[3] ** 0.5, k, v)


def shifted(q, k, v):
    """Each query sees one key that is still to come."""
    k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for x in (k, v))
    unseen = torch.ones(q.shape[2], q.shape[2], dtype=torch.bool).triu(2)
    scores = (q @ k.transpose(-1, -2)).float() * q.shape[3] ** -0.5
    return scores.masked_fill(unseen, -math.inf).softmax(-1).to(q.dtype) @ v


@pytest.mark.parametrize("wrong", [unmasked, unscaled, shifted])
def test_a_rung_that_computes_something_else_is_refused(tmp_path, monkeypatch, wrong):
    monkeypatch.setitem(runtime.ATTENTION, "blocked", wrong)
    with pytest.raises(WrongRung, match=r"rung 'attention' computes something else: .*'eager' has"):
        measuring.climb(settings(tmp_path, rungs="eager,attention"), silent)
    assert not (tmp_path / "ladder.json").exists()


@pytest.mark.parametrize(
    "rung, loss, norm, good",
    [
        (Rung("b", ""), 8.0 * (1 + 9e-6), 1.0, True),
        (Rung("b", ""), 8.0 * (1 + 2e-5), 1.0, False),
        (Rung("b", ""), 8.0, 1.0005, False),
        (Rung("b", "", dtype="bfloat16"), 8.0 * (1 - 1e-4), 1.004, True),
        (Rung("b", "", dtype="bfloat16"), 8.0 * (1 - 3e-4), 1.0, False),
        (Rung("b", "", dtype="bfloat16"), 8.0, 0.99, False),
        (Rung("b", ""), math.nan, 1.0, False),
    ],
)
def test_agreement_is_within_rounding_and_no_more(rung, loss, norm, good):
    agreement = Agreement()
    agreement.check(Rung("a", ""), 0, 8.0, 1.0)
    if good:
        agreement.check(rung, 0, loss, norm)
        agreement.check(rung, 16, 2 * loss, norm)  # another batch has another loss
    else:
        with pytest.raises(WrongRung, match="rung 'b'"):
            agreement.check(rung, 0, loss, norm)


# What is stored


def test_the_record_is_whole_and_follows_from_its_seconds(folder):
    found = ladder.load(folder)
    assert [one["name"] for one in found["rungs"]] == list(NAMES)
    assert found["machine"]["deterministic"] and found["float32_products"] == "float32"
    assert found["batch_tokens"] == found["batch_size"] * found["seq_len"] == 256
    assert found["flops_convention"] == "palm" and found["peak_source"].startswith("measured here")
    flops = flops_per_token(Shape(**found["shape"]), 32)
    assert found["flops_per_token"] == flops
    keys = {frozenset(one) for one in found["rungs"]}
    assert len(keys) == 1
    for one in found["rungs"]:
        if one["status"] == NOT_MEASURED:
            assert one["why"] and one["tokens_per_sec"] is one["mfu"] is one["first_loss"] is None
            continue
        seconds, rate, share = one["step_seconds"], one["tokens_per_sec"], one["mfu"]
        assert 0 < seconds["low"] <= seconds["median"] <= seconds["high"]
        for side, other in (("low", "high"), ("median", "median"), ("high", "low")):
            assert math.isclose(rate[side], 256 / seconds[other])
            assert math.isclose(share[side], rate[side] * flops / found["peak_flops_per_sec"])
        assert one["n_steps"] >= 2 and one["compile_seconds"] is None
    over = [one["speed_up_over"] for one in found["rungs"]]
    assert over == [None, "eager", None, "bf16", None, None]


def test_speed_up_and_cost_are_taken_round_by_round():
    """A slow minute that hits both rungs alike moves neither."""
    from x1lib.ladder import results

    class Timed:
        def __init__(self, rung, seconds):
            self.rung, self.seconds = rung, seconds

    rungs = {one.name: one for one in lay_out(BF16, 4096, 4096)}
    kept = Timed(rungs["attention"], {1: 2.0, 2: 20.0, 3: 2.0})
    free = Timed(rungs["not-deterministic"], {1: 1.0, 2: 10.0})
    cost = results.cost_of_deterministic({"attention": kept, "not-deterministic": free})
    assert cost == {"low": 1.0, "median": 1.0, "high": 1.0}
    other = Timed(rungs["bf16"], {1: 2.0})  # another rung is nothing to compare with
    assert results.cost_of_deterministic({"bf16": other, "not-deterministic": free}) is None
    assert results.cost_of_deterministic({"attention": kept}) is None


def test_a_second_call_measures_nothing(folder, monkeypatch, capsys):
    monkeypatch.setattr(measuring, "climb", None)  # calling it would fail
    lines = []
    again = ladder.measure(settings(folder), lines.append)
    assert again == ladder.load(folder)
    assert lines == [f"measured at {again['created']} and stored in {folder}"]
    flags = [f"--{k.replace('_', '-')}={v}" for k, v in SMALL.items()]
    assert main([f"--out={folder}", *flags]) == 0
    assert "stored in" in capsys.readouterr().out


@pytest.mark.parametrize("changed", ["seq_len", "machine", "damaged"])
def test_what_was_measured_otherwise_is_not_shown(folder, tmp_path, changed):
    from x1lib.ladder.stored import same

    found = ladder.load(folder)
    (tmp_path / "profile.json").write_text((folder / "profile.json").read_text())
    asked = settings(tmp_path)
    if changed == "machine":
        found["machine"]["device_name"] = "another processor"
    (tmp_path / "ladder.json").write_text("{" if changed == "damaged" else json.dumps(found))
    if changed == "seq_len":
        assert same(asked) == found
        asked = settings(tmp_path, seq_len=16)
    assert same(asked) is None


def test_measure_runs_in_a_process_of_its_own_and_hands_on_its_error(tmp_path):
    lines = []
    with pytest.raises(LadderError, match=r"exit code 2\): SourceError: .*nowhere.txt"):
        wrong = settings(tmp_path, source="nowhere.txt", minutes=0.1)
        ladder.measure(wrong, lines.append)
    assert lines and not (tmp_path / "ladder.json").exists()


def test_what_is_missing_or_damaged_is_named(tmp_path):
    with pytest.raises(LadderError, match=r"ladder.json does not exist; measure it with"):
        ladder.load(tmp_path)
    (tmp_path / "profile.json").write_text("{")
    with pytest.raises(LadderError, match=r"profile.json is damaged"):
        ladder.load_profile(tmp_path)
    (tmp_path / "ladder.json").write_text('{"format": 0}')
    with pytest.raises(LadderError, match="not of format"):
        ladder.load(tmp_path)


# The clock


class Clock:
    """time.monotonic that moves on by itself at each look."""

    def __init__(self, step: float):
        self.now, self.step = 0.0, step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


def test_minutes_that_end_leave_rungs_unmeasured_and_never_invented(tmp_path, monkeypatch):
    from x1lib.ladder import bench as module

    clock = Clock(0.0)
    monkeypatch.setattr(module.time, "monotonic", clock)
    before = Climber.take_step

    def slow(self):
        clock.now += 10.0
        before(self)
        return 10.0

    monkeypatch.setattr(Climber, "take_step", slow)
    monkeypatch.setattr(measuring, "profile_step", lambda climber: {"categories": []})
    monkeypatch.setattr(runtime.machine, "_choose_compile", lambda *asked: True)
    found = measuring.climb(
        settings(tmp_path, minutes=1, rungs="eager,bf16,compile", compile="auto"), silent
    )
    named = {one["name"]: one for one in found["rungs"]}
    assert named["eager"]["n_steps"] == 1 and named["bf16"]["n_steps"] == 1
    assert named["compile"]["status"] == NOT_MEASURED and "minutes" in named["compile"]["why"]
    assert clock.now <= 60 + 10  # over by a step at most
    with pytest.raises(LadderError, match=r"no step was timed in 0.1 minutes; give more"):
        measuring.climb(settings(tmp_path, minutes=0.1, rungs="eager,bf16"), silent)


# The command line


@pytest.mark.parametrize(
    "flags, words",
    [
        ([], "out is empty"),
        (["--out=x", "--rungs=eager,fused"], "rungs names 'fused'; the rungs are eager, bf16"),
        (["--out=x", "--minutes=0"], "minutes is 0"),
        (["--out=x", "--seq-len=32", "--batch-tokens=100"], "batch_tokens is 100; expected k x 32"),
        (["--out=x", "--shape=huge"], "unknown shape 'huge'"),
        (["--out=x", "--device=tpu"], "device.*tpu"),
        (["--out=x", "--hours=1"], "--hours"),
        (["--out=x", "--minutes=soon"], "minutes.*soon"),
    ],
)
def test_a_wrong_command_line_is_one_named_line(flags, words, capsys):
    assert main(flags) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "Traceback" not in error
    assert re.search(words, error), error


def test_help_names_every_setting_and_rung():
    command = [sys.executable, "-m", "x1lib.ladder", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0 and "python -m x1lib.ladder" in done.stdout
    words = " ".join(done.stdout.split())
    for name in asdict(settings("x")):
        assert f"--{name.replace('_', '-')}" in words
    assert all(name in words for name in NAMES)


def test_flags_and_settings_are_the_same():
    flags = ["--out=x", "--shape=1x64", "--no-deterministic", "--minutes=2"]
    found = from_command_line(Settings, flags, "")
    assert found == Settings(out="x", shape="1x64", deterministic=False, minutes=2.0)
    with pytest.raises(ConfigError, match="seq_len is -1"):
        Settings(out="x", seq_len=-1)


# The profile


def test_a_profile_accounts_for_the_step(folder):
    found = ladder.load_profile(folder)
    assert found["status"] == MEASURED and found["owners"] == "operators"
    assert [one["name"] for one in found["categories"]] == list(accounting.CATEGORIES)
    for parts in (found["categories"], found["regions"]):
        assert math.isclose(sum(p["seconds"] for p in parts), found["seconds"], rel_tol=0.02)
        assert math.isclose(sum(p["share"] for p in parts), 1.0, rel_tol=0.02)
    shares = {one["name"]: one["share"] for one in found["categories"]}
    assert all(share > 0 for share in shares.values())
    seen = {one["name"] for one in found["regions"]}
    assert {"forward", "loss", "backward", "clip", "optimizer"} <= seen
    by_region = {one["name"]: one["categories"] for one in found["regions"]}
    for region in ("forward", "backward"):
        assert {"attention", "matrix products", "norms and element-wise"} <= by_region[
            region
        ].keys()
    assert by_region["optimizer"].keys() == {"optimiser"}
    assert by_region["loss"]["softmax and cross-entropy"] > 0
    assert found["seconds"] <= found["wall_seconds"] * 1.02
    assert (folder / "profile.json").stat().st_size <= 200_000
    line = found["timeline"]
    assert line["start_us"][0] == 0 and line["start_us"][1:] == line["end_us"][:-1]
    assert math.isclose(line["end_us"][-1] / 1e6, found["seconds"], rel_tol=1e-3)


def raw(name, start, end, kind="cpu_op", **args) -> dict:
    """An event of a chrome trace, as torch's profiler writes it."""
    mark = kind == "user_annotation"
    return {
        "ph": "X", "cat": kind, "name": accounting.MARK + name if mark else name,
        "ts": 1e9 + start, "dur": end - start, "pid": 1, "tid": 1, "args": args,
    }  # fmt: skip


def planted() -> list[dict]:
    """A step of 1,000 microseconds of which every part is known."""
    mark = {"kind": "user_annotation"}
    made, gradient = {"Sequence number": 7, "Fwd thread id": 0}, {"Fwd thread id": 1}
    return [
        raw("step", 0, 1000, **mark),
        raw("gradients", 0, 900, **mark),
        raw("forward", 0, 400, **mark),
        raw("aten::linear", 10, 110),
        raw("aten::t", 10, 20),  # a view inside a product
        raw("aten::mm", 20, 110),
        raw("aten::copy_", 110, 150),
        raw("attention", 200, 300, **mark),
        raw("aten::mul", 200, 220, **{"Sequence number": 6, "Fwd thread id": 0}),
        raw("aten::bmm", 220, 300, **made),
        raw("aten::view", 310, 320),
        raw("loss", 400, 450, **mark),
        raw("aten::_log_softmax", 400, 450),
        raw("backward", 450, 800, **mark),
        raw("autograd::engine::evaluate_function: BmmBackward0", 460, 600,
            **gradient, **{"Sequence number": 7}),
        raw("aten::bmm", 470, 600),
        raw("autograd::engine::evaluate_function: MmBackward0", 600, 800,
            **gradient, **{"Sequence number": 3}),
        raw("aten::mm", 610, 800),
        raw("aten::square", 820, 880),
        raw("optimizer", 900, 1000, **mark),
        raw("aten::_fused_adamw_", 910, 990),
        raw("step", 2000, 4000, **mark),  # a slower step, and what runs in it, count for nothing
        raw("aten::mm", 2000, 4000),
    ]  # fmt: skip


def test_every_microsecond_of_a_planted_step_has_its_owner():
    found = accounting.account(planted())
    us = {one["name"]: round(one["seconds"] * 1e6, 3) for one in found["categories"]}
    assert us == {
        "matrix products": 100 + 190,
        "attention": 100 + 140,
        "softmax and cross-entropy": 50,
        "norms and element-wise": 60,
        "optimiser": 100,
        "copies and look-ups": 40,
        "other": 10 + 10,
        "idle": 10 + 50 + 10 + 80 + 10 + 20 + 20,
    }
    regions = {one["name"]: round(one["seconds"] * 1e6) for one in found["regions"]}
    assert regions == {"forward": 400, "loss": 50, "backward": 350, "clip": 100, "optimizer": 100}
    assert found["seconds"] == 1e-3 and math.isclose(found["accounted"], 1.0)


def test_kernels_own_the_time_of_a_card():
    gpu = {"kind": "kernel"}
    names = {
        "void pytorch_flash::flash_bwd_kernel<>": "attention",
        "sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n": "matrix products",
        "nvjet_tst_128x256_64x4_1x2_h_bz_coopA_TNT": "matrix products",
        "triton_per_fused__to_copy_mean_mul_pow_rsqrt_3": "norms and element-wise",
        "triton_red_fused__log_softmax_nll_loss_forward_9": "softmax and cross-entropy",
        "triton_tem_fused_mm_4": "matrix products",
        "void vectorized_elementwise_kernel<4, CUDAFunctor_add>": "norms and element-wise",
        "Memcpy DtoD (Device -> Device)": "copies and look-ups",
        "void cub::DeviceScanKernel<>": "other",
    }
    events = [
        raw("step", 0, 1000, kind="user_annotation"),
        raw("gradients", 0, 900, kind="user_annotation"),
        raw("forward and loss", 0, 300, kind="user_annotation"),
        raw("backward", 300, 800, kind="user_annotation"),
        raw("optimizer", 900, 1000, kind="user_annotation"),
        raw("aten::mm", 0, 1000),  # a card's step belongs to its kernels
        *(raw(name, 50 * i, 50 * i + 40, **gpu) for i, name in enumerate(names)),
        raw("void at::native::multi_tensor_apply_kernel<FusedAdam>", 900, 960, **gpu),
        raw("triton_poi_fused_0", 960, 980, **gpu),
    ]
    found = accounting.account(events)
    assert found["owners"] == "kernels"
    for name, category in names.items():
        assert accounting._kernel_category(name) == category, name
    us = {one["name"]: round(one["seconds"] * 1e6) for one in found["categories"]}
    assert us["matrix products"] == 3 * 40 and us["attention"] == 40 and us["other"] == 40
    assert us["optimiser"] == 60 + 20  # whatever runs in that region
    assert us["idle"] == 1000 - len(names) * 40 - 80 and sum(us.values()) == 1000


def test_a_trace_without_its_step_or_with_lost_time_is_refused():
    events = [one for one in planted() if one["name"] != accounting.MARK + "step"]
    with pytest.raises(accounting.AccountError, match="no marked step"):
        accounting.account(events)
    segments = [accounting.Segment(0.0, 900.0, "forward", "idle", None)]
    with pytest.raises(accounting.AccountError, match="900 us together and the step took 1000"):
        accounting._sums(segments, [(0.0, 1000.0, "forward")], 1000.0)


def test_a_long_timeline_is_thinned_and_keeps_its_length():
    names = ["matrix products", "idle", "attention"]
    segments = [
        accounting.Segment(float(i), i + 1.0, "forward", names[i % 3], None) for i in range(10_000)
    ]
    line = accounting._timeline(segments)
    assert 1 <= len(line["start_us"]) <= accounting.MAX_SEGMENTS
    assert line["start_us"][0] == 0 and line["end_us"][-1] == 10_000
    assert line["start_us"][1:] == line["end_us"][:-1]


# Figures


def is_png(picture: Picture) -> bool:
    return picture.png[:8] == b"\x89PNG\r\n\x1a\n" and len(picture.png) > 5_000


def test_figures_draw_what_is_stored(folder):
    found = ladder.load(folder)
    picture = figures.rungs(folder)
    assert is_png(picture) and picture.width == 768
    for one in found["rungs"]:
        if one["mfu"]:
            assert f"{one['name']}: {one['mfu']['median']:.1%}" in picture.words
    trace = figures.trace(folder)
    assert is_png(trace)
    top = max(ladder.load_profile(folder)["categories"], key=lambda one: one["share"])
    assert trace.words.startswith(f"{top['share']:.0%} of the step is {top['name']}")


def test_figures_draw_what_was_not_measured(folder, tmp_path):
    found = ladder.load(folder)
    for one in found["rungs"]:
        if one["status"] == NOT_MEASURED:
            one["why"] = "eager: torch.compile needs a C++ compiler and this machine has none"
    (tmp_path / "ladder.json").write_text(json.dumps(found))
    missing = {"format": 1, "status": NOT_MEASURED, "why": "the minutes were over"}
    (tmp_path / "profile.json").write_text(json.dumps(missing))
    assert is_png(figures.rungs(tmp_path))
    assert figures.trace(tmp_path).words == "No profile of a step: the minutes were over."
    for one in found["rungs"][1:]:
        one.update(status=NOT_MEASURED, why="none", mfu=None, speed_up=None, n_steps=None)
    (tmp_path / "ladder.json").write_text(json.dumps(found))
    assert figures.rungs(tmp_path).words.startswith("One rung was measured")


# With the compiler, minutes


@pytest.mark.long
def test_the_whole_ladder_with_its_compiled_rungs(tmp_path, monkeypatch):
    monkeypatch.setattr(measuring, "MAX_ROUNDS", 3)
    asked = settings(tmp_path, rungs="", minutes=5, compile="auto")
    found = measuring.climb(asked, silent)
    status = {one["name"]: one["status"] for one in found["rungs"]}
    assert status == dict.fromkeys(NAMES, MEASURED) | {"vocabulary": NOT_MEASURED}
    for one in found["rungs"]:
        if one["compile"] and one["mfu"]:
            assert one["compile_seconds"] > 0
    assert found["cost_of_deterministic"] is not None
    assert is_png(figures.rungs(tmp_path)) and is_png(figures.trace(tmp_path))
