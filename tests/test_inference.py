"""Quantised and cached decoding is held to the plain model; timings and prices to sums by hand."""

import copy
import json
import math
import pickle
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from data_folders import write_jsonl
from safetensors.torch import load_file, save_file

from x1lib import checkpoint, inference, tracking
from x1lib.data import Shards, load_tokenizer
from x1lib.inference import InferenceError, benchmark, kernels, lab, pricing, report
from x1lib.inference.codes import pack_nibbles, unpack_nibbles
from x1lib.inference.decoder import Cache, Decoder
from x1lib.scaling import PUBLISHED
from x1lib.scaling.serving import cheapest
from x1lib.settings import ConfigError
from x1lib.tracking import manifest_faults
from x1lib.train import GPT, Config, evaluate

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / lab.REFERENCE


def gpt(seed=0, shape="2x64:4/2:96", vocab_size=4096, **settings) -> GPT:
    """A small model with weights large enough that every part moves the logits."""
    config = Config(steps=1, shape=shape, seq_len=64, seed=seed, init_std=0.2, **settings)
    model = GPT(config, vocab_size)
    generator = torch.Generator().manual_seed(seed + 1)
    for p in model.parameters():
        if p.ndim == 1:
            p.data += 0.3 * torch.randn(p.shape, generator=generator)
    return model.eval()


TOKENS = torch.randint(0, 4096, (2, 40), generator=torch.Generator().manual_seed(1))


# Codes


@pytest.mark.parametrize(("kind", "group"), [("int8", None), ("int8", 32), ("int4", 32)])
def test_a_weight_is_off_by_at_most_half_a_step(kind, group):
    w = torch.randn(24, 128, generator=torch.Generator().manual_seed(0))
    codes = inference.encode(w, kind, group)
    size = group or 128
    steps = codes.scales.float().repeat_interleave(size, 1)
    # Scales are rounded to bf16, so the ends of a range may be cut off by a little of it.
    slack = 2**-8 * w.abs().view(24, -1, size).amax(-1).repeat_interleave(size, 1) * 2
    assert ((codes.weights() - w).abs() <= steps / 2 + slack).all()
    assert codes.shape == (24, 128) and codes.group == size
    assert codes.n_bytes < w.numel() * (1.1 if kind == "int8" and not group else 1.2)


def test_weights_that_lie_on_the_grid_come_back():
    generator = torch.Generator().manual_seed(0)
    whole = torch.randint(-127, 128, (8, 64), generator=generator).float()
    whole[:, 0] = 127
    assert torch.equal(inference.encode(0.5 * whole, "int8").weights(), 0.5 * whole)
    few = torch.randint(0, 16, (8, 64), generator=generator).float()
    few[:, ::32], few[:, 1::32] = 0, 15
    grid = 0.25 * (few - 8)
    assert torch.equal(inference.encode(grid, "int4").weights(), grid)
    assert torch.equal(inference.encode(torch.zeros(4, 32), "int4").weights(), torch.zeros(4, 32))


@pytest.mark.parametrize("value", [0.02, 0.1, -0.3, 5.0, 1e-42, 1e38])
def test_equal_weights_are_their_zero_and_large_ones_stay_finite(value):
    found = inference.encode(torch.full((2, 64), value), "int4")
    expected = torch.full((2, 64), value).bfloat16().float()  # a zero is stored in bf16
    assert torch.equal(found.weights(), expected)
    assert (found.integers() == 8).all() or value == 1e38  # where bf16 is coarser than 8 scales
    wide = inference.encode(torch.linspace(-value, value, 32)[None], "int4").weights()
    assert wide.isfinite().all() and (wide.abs() <= 1.1 * abs(value)).all()


def test_nibbles_and_rows_come_back():
    codes = torch.randint(0, 16, (6, 32), generator=torch.Generator().manual_seed(0)).byte()
    assert torch.equal(unpack_nibbles(pack_nibbles(codes)), codes)
    found = inference.encode(torch.randn(6, 64), "int4")
    some = torch.tensor([4, 0, 4])
    assert torch.equal(found.rows(some).weights(), found.weights()[some])


@pytest.mark.parametrize(
    ("weights", "kind", "group", "words"),
    [
        (torch.randn(4, 64), "int3", None, "give one of int8, int4"),
        (torch.randn(4, 64), "int4", 48, "64 columns do not divide into groups of 48"),
        (torch.full((4, 64), math.nan), "int8", None, "NaN or infinite"),
        (torch.full((4, 64), 3e38), "int4", None, "beyond 1e38"),
        (torch.randn(4, 64), "int4", 0, "group is 0; give a whole number"),
        (torch.randn(4, 64), "int4", -32, "group is -32; give a whole number"),
        (torch.randn(64), "int8", None, r"shape \[64\]; give a matrix"),
        (torch.randn(0, 64), "int4", None, r"shape \[0, 64\]; give a matrix"),
    ],
)
def test_what_cannot_be_quantised_is_named(weights, kind, group, words):
    with pytest.raises(InferenceError, match=words):
        inference.encode(weights, kind, group)


# Kernels


@pytest.mark.parametrize(("kind", "group"), [("int8", None), ("int4", 32), ("int4", 64)])
@pytest.mark.parametrize("n", [1, 5])
def test_the_packed_kernel_computes_what_the_reference_says(kind, group, n):
    codes = inference.encode(torch.randn(72, 128), kind, group)
    if reason := kernels.why_not(codes, torch.bfloat16):
        pytest.skip(reason)
    x = torch.randn(n, 128).bfloat16()
    expected = x.float() @ codes.weights().T
    got = kernels.pack(codes).product(x).float()
    assert got.shape == (n, 72)
    assert (got - expected).abs().max() < 0.02 * expected.abs().max()


def test_a_kernel_that_is_wrong_or_missing_is_not_used(monkeypatch):
    model = inference.quantize(Decoder(gpt(), torch.bfloat16), "int4")
    before, said = model(TOKENS), []
    whole = kernels.Packed.product
    try:
        kernels.tried.cache_clear()
        monkeypatch.setattr(kernels.Packed, "product", lambda self, x: 1.1 * whole(self, x))
        used = inference.use_kernels(model, log=said.append)
        assert torch.equal(model(TOKENS), before)
        assert all("reference int4" in how and "is off by" in how for how in used)

        def missing(self, x):
            raise RuntimeError("no such kernel\nand more")

        kernels.tried.cache_clear()
        monkeypatch.setattr(kernels.Packed, "product", missing)
        assert "did not run: no such kernel" in kernels.tried("int4", 32, "cpu")
    finally:
        kernels.tried.cache_clear()
    assert "is off by" in said[0]
    # In float32 torch's kernels are slow and not asked.
    model = inference.quantize(Decoder(gpt()), "int8")
    assert all("float32" in how for how in inference.use_kernels(model, torch.float32, log=str))


def _bf16_linears() -> list[torch.nn.Module]:
    from transformers.pytorch_utils import Conv1D

    conv = Conv1D(48, 96)
    torch.nn.init.normal_(conv.bias)
    return [torch.nn.Linear(96, 72), torch.nn.Linear(96, 72, bias=False), conv]


@pytest.mark.parametrize("n", [1, 5])
def test_a_full_matrix_in_blocks_gives_what_it_gave(n):
    x = torch.randn(2, n, 96).bfloat16()
    model = torch.nn.ModuleList(_bf16_linears()).bfloat16()
    before = [layer(x) for layer in model]
    used = inference.use_kernels(model, log=str)
    if "packed bf16" not in used:
        pytest.skip(str(used))
    assert used == {"packed bf16": 3}
    for layer, expected in zip(model, before, strict=True):
        torch.testing.assert_close(layer(x), expected)
    with pytest.raises(InferenceError, match="quantise before"):
        inference.quantize(model, "int8")
    again = inference.use_kernels(model, log=str)
    assert again == used


@pytest.mark.parametrize(
    "x",
    [
        torch.randn(96), torch.randn(0, 96), torch.randn(2, 0, 96), torch.randn(96, 7).T,
        torch.randn(4, 192)[:, ::2], torch.randn(3, 9, 96)[:, -1], torch.randn(1, 96).expand(4, 96),
    ],
)  # fmt: skip
def test_blocks_take_what_a_linear_layer_takes_and_name_what_they_do_not(x):
    layer = torch.nn.Linear(96, 72).bfloat16()
    if reason := kernels.why_not_blocks(layer.weight):
        pytest.skip(reason)
    packed = kernels.PackedLinear(layer.weight.detach(), layer.bias.detach(), keep_weight=False)
    x = x.bfloat16()
    torch.testing.assert_close(packed(x), layer(x))
    for again in (copy.deepcopy(packed), pickle.loads(pickle.dumps(packed))):
        assert torch.equal(again(x), packed(x)) and again.packed_bytes == packed.packed_bytes
    for wrong, words in ((torch.ones(3, 96), "x is float32"), (torch.ones(3, 97), r"\[3, 97\]")):
        with pytest.raises(InferenceError, match=words):
            packed(wrong.bfloat16() if wrong.shape[1] == 97 else wrong)


@pytest.mark.parametrize(("kind", "head"), [("int8", "full"), ("int4", "full")])
def test_a_model_in_kernels_layouts_is_copied_but_neither_saved_nor_quantised(tmp_path, kind, head):
    model = inference.quantize(Decoder(gpt(), torch.bfloat16), kind, head)
    inference.save_quantized(tmp_path, model)
    whole = (tmp_path / "model.safetensors").read_bytes()
    used = inference.use_kernels(model, log=str)
    if "packed bf16" not in used:
        pytest.skip(str(used))
    assert torch.equal(copy.deepcopy(model)(TOKENS), model(TOKENS))
    with pytest.raises(InferenceError, match="save before `use_kernels`"):
        inference.save_quantized(tmp_path, model)
    assert (tmp_path / "model.safetensors").read_bytes() == whole
    with pytest.raises(InferenceError, match="quantise before `use_kernels`"):
        inference.quantize(model, "int4")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("kind", inference.KINDS)
def test_kernels_are_asked_for_the_models_own_dtype(dtype, kind):
    model = inference.quantize(Decoder(gpt(), dtype), kind)
    before = model(TOKENS)
    used = inference.use_kernels(model, log=str)
    assert all(str(dtype).removeprefix("torch.") in how for how in used)
    assert torch.equal(model(TOKENS), before)


def test_a_whole_model_in_blocks_says_the_same_and_is_counted_whole():
    plain, model = Decoder(gpt(), torch.bfloat16), Decoder(gpt(), torch.bfloat16)
    used = inference.use_kernels(model, log=str)
    if "packed bf16" not in used:
        pytest.skip(str(used))
    torch.testing.assert_close(model(TOKENS), plain(TOKENS), rtol=0.02, atol=0.02)
    table = 2 * model.head.n_rows * model.head.n_columns
    assert inference.memory_bytes(model) == inference.memory_bytes(plain) + table
    assert inference.work_of(model) == inference.work_of(plain)
    exact = Decoder(gpt(), torch.float32)
    assert set(inference.use_kernels(exact, log=str)) == {"full float32"}


def test_blocks_that_are_wrong_or_missing_are_not_used(monkeypatch):
    model = Decoder(gpt(), torch.bfloat16)
    before, whole = model(TOKENS), kernels.PackedLinear.forward

    def missing(self, x):
        raise RuntimeError("no such kernel")

    try:
        for forward, words in ((missing, "did not run: no such"), (None, "are off by")):
            kernels.blocks_tried.cache_clear()
            wrong = forward or (lambda self, x: 1.1 * whole(self, x))
            monkeypatch.setattr(kernels.PackedLinear, "forward", wrong)
            used = inference.use_kernels(model, log=str)
            assert all(how.startswith("full bfloat16: ") for how in used)
            if forward or "off by" in str(used):
                assert words in str(used)
            assert torch.equal(model(TOKENS), before)
    finally:
        kernels.blocks_tried.cache_clear()


# Cached decoding


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"qk_norm": False, "branch_multiplier": 0.5, "logit_multiplier": 1.7},
        {"shape": "2x64:4/1:96"},
        {"shape": "1x64:2/2:96", "rope_theta": 500.0},
    ],
)
def test_a_decoder_computes_what_the_gpt_computes(settings):
    model = gpt(**settings)
    decoder = Decoder(model)
    with torch.no_grad():
        expected = model(TOKENS)
        torch.testing.assert_close(decoder(TOKENS), expected, rtol=1e-5, atol=1e-5)
        # Read in pieces, and token by token over a static cache, which a CUDA graph needs.
        cache = Cache(decoder, 2, 40)
        parts = [decoder.logits(decoder.read(part, cache)) for part in TOKENS.split((7, 1, 32), 1)]
        torch.testing.assert_close(torch.cat(parts, 1), expected, rtol=1e-4, atol=1e-4)
        logits, cache = decoder.prefill(TOKENS[:, :30], 40, static=True)
        steps = [logits, *(decoder.step(TOKENS[:, i], cache) for i in range(30, 40))]
        torch.testing.assert_close(torch.stack(steps, 1), expected[:, 29:40], rtol=1e-4, atol=1e-4)
        loss = model(TOKENS[:, :-1], TOKENS[:, 1:])
        torch.testing.assert_close(decoder(TOKENS[:, :-1], TOKENS[:, 1:]), loss)


@pytest.mark.parametrize("seed", range(3))
def test_greedy_with_a_cache_says_the_same_token_for_token(seed):
    model = gpt(seed)
    decoder, ids = Decoder(model), TOKENS[0, :5].tolist()
    said = inference.greedy(decoder, ids, 50)
    assert len(said) == 55 and said[:5] == ids and len(set(said)) > 10
    assert said == inference.greedy_without_cache(decoder, ids, 50)
    assert said == inference.greedy_without_cache(model, ids, 50)


def test_a_cache_that_forgets_its_place_would_be_found(monkeypatch):
    decoder, ids = Decoder(gpt()), TOKENS[0, :5].tolist()
    said = inference.greedy(decoder, ids, 30)
    monkeypatch.setattr(Cache, "advance", lambda self, n: setattr(self, "length", 5))
    assert inference.greedy(decoder, ids, 30) != said


def test_the_cache_holds_the_shared_heads_alone_and_has_an_end():
    decoder = Decoder(gpt(), torch.bfloat16)
    _, cache = decoder.prefill(TOKENS, 64)
    assert cache.n_bytes == 2 * 64 * inference.work_of(decoder).cache_bytes_per_token
    assert inference.work_of(decoder).cache_bytes_per_token == 2 * 2 * 2 * 16 * 2
    with pytest.raises(InferenceError, match="ids is empty; give at least one"):
        inference.greedy(decoder, [], 4)
    with pytest.raises(InferenceError, match="65 positions do not fit"):
        decoder.prefill(torch.zeros(1, 65, dtype=torch.long), 100)


@pytest.mark.long
def test_a_cache_more_than_halves_the_time_of_the_50m_shape():
    """At 256 tokens, one way after the other; how many times is measured in cached_decoding.py."""
    decoder = Decoder(GPT(Config(steps=1, shape="50m", seq_len=256)), torch.bfloat16)
    seconds = {}
    for how in (inference.greedy, inference.greedy_without_cache):
        how(decoder, [1], 2)
        start = time.perf_counter()
        how(decoder, [1], 255)
        seconds[how] = time.perf_counter() - start
    assert seconds[inference.greedy_without_cache] > 2 * seconds[inference.greedy]


# Whole models


def test_quantising_leaves_the_model_and_says_what_the_head_is():
    full = Decoder(gpt())
    before = full(TOKENS)
    for head, kind in (("same", "int4"), ("int8", "int8"), ("full", None)):
        model = inference.quantize(full, "int4", head=head)
        assert getattr(model.head, "kind", None) == kind
        assert model.blocks[0].mlp.up.kind == "int4"
        assert 0 < (model(TOKENS) - before).abs().mean() < before.abs().mean()
    assert torch.equal(full(TOKENS), before)
    with pytest.raises(InferenceError, match="give one of same, full, int8, int4"):
        inference.quantize(full, "int4", head="none")
    alone = torch.nn.Linear(64, 64).bfloat16()  # nothing holds it that could hold codes instead
    with pytest.raises(InferenceError, match="no matrix was found"):
        inference.quantize(alone, "int4")
    assert inference.use_kernels(alone, log=str) == {} and not list(alone.children())


def test_a_quantised_model_is_the_full_one_with_weights_rounded():
    """By hand: put the decoded weights into a full model; both must agree."""
    full = Decoder(gpt())
    model = inference.quantize(full, "int4")
    by_hand = Decoder(gpt())
    for module in by_hand.modules():
        if inference.quantizing.is_matrix(module):
            module.weight.copy_(inference.encode(module.weight, "int4").weights())
    torch.testing.assert_close(model(TOKENS), by_hand(TOKENS))


@pytest.mark.parametrize(("kind", "head"), [("int8", "same"), ("int4", "int8"), ("int4", "full")])
def test_saved_and_loaded_it_is_equal_to_the_bit(tmp_path, kind, head):
    model = inference.quantize(Decoder(gpt(branch_multiplier=0.7), torch.bfloat16), kind, head)
    n_bytes = inference.save_quantized(tmp_path, model)
    assert n_bytes == sum(path.stat().st_size for path in tmp_path.iterdir())
    again = inference.load_quantized(tmp_path)
    assert again.quantization == model.quantization
    assert torch.equal(again(TOKENS), model(TOKENS))
    wanted, found = model.state_dict(), again.state_dict()
    assert wanted.keys() == found.keys()
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)
    assert abs(inference.memory_bytes(model) - n_bytes) < 8_000


def test_a_damaged_or_packed_model_is_a_named_error(tmp_path):
    model = inference.quantize(Decoder(gpt(), torch.bfloat16), "int4")
    inference.save_quantized(tmp_path, model)
    whole = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[:-10])
    with pytest.raises(InferenceError, match="cannot be read"):
        inference.load_quantized(tmp_path)
    record = json.loads((tmp_path / "quantized.json").read_text())
    record["matrices"]["blocks.9.mlp.up"] = "int4"
    (tmp_path / "model.safetensors").write_bytes(whole)
    assert torch.equal(inference.load_quantized(tmp_path)(TOKENS), model(TOKENS))
    (tmp_path / "quantized.json").write_text(json.dumps(record))
    with pytest.raises(InferenceError, match="damaged"):
        inference.load_quantized(tmp_path)
    used = inference.use_kernels(model, log=str)
    if any(how.startswith("packed") for how in used):
        with pytest.raises(InferenceError, match="given up for the kernel's"):
            inference.save_quantized(tmp_path, model)


def _first(record: dict) -> str:
    return next(iter(record["matrices"]))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda r: r.update(format=1), "has format 1, not 2"),
        (lambda r: r.pop("sha256"), "is not the file that"),
        (lambda r: r.update(dtype="bogus"), "damaged"),
        (lambda r: r.update(dtype="int8"), "damaged"),
        (lambda r: r.update(matrices=[]), "damaged"),
        (lambda r: r["matrices"].popitem(), "damaged"),
        (lambda r: r["matrices"].update({_first(r): "int3"}), "'int3' is no kind of codes"),
        (lambda r: r["matrices"].update({_first(r): "int8"}), "int8 codes are a matrix"),
        (lambda r: r.update(rope_theta="x"), "damaged"),
        (lambda r: r["shape"].update(n_layers=1), "damaged"),
        (lambda r: r["shape"].update(n_layers=3), "damaged"),
        (lambda r: r["shape"].update(n_heads=3), "damaged"),
    ],
)
def test_a_record_that_does_not_fit_its_weights_is_a_named_error(tmp_path, damage, words):
    inference.save_quantized(tmp_path, inference.quantize(Decoder(gpt(), torch.bfloat16), "int4"))
    record = json.loads((tmp_path / "quantized.json").read_text())
    damage(record)
    (tmp_path / "quantized.json").write_text(json.dumps(record))
    with pytest.raises(InferenceError, match=words):
        inference.load_quantized(tmp_path)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (None, "is not the file that"),
        (lambda s: s[:1].clone(), "scales of shape"),
        (lambda s: s[:, :1].clone(), "want a zero a scale"),
        (lambda s: torch.full_like(s, math.nan), "no finite number"),
    ],
)
def test_damaged_scales_are_found_by_their_hash_and_without_it(tmp_path, damage, words):
    inference.save_quantized(tmp_path, inference.quantize(Decoder(gpt(), torch.bfloat16), "int4"))
    path = tmp_path / "model.safetensors"
    if damage is None:  # one byte of the codes
        data = bytearray(path.read_bytes())
        data[-5000] ^= 0xFF
        path.write_bytes(data)
    else:
        record = json.loads((tmp_path / "quantized.json").read_text())
        tensors, name = load_file(path), f"{_first(record)}.scales"
        tensors[name] = damage(tensors[name])
        save_file(tensors, path)
        record["sha256"] = checkpoint.files.file_sha256(path)
        (tmp_path / "quantized.json").write_text(json.dumps(record))
    with pytest.raises(InferenceError, match=words):
        inference.load_quantized(tmp_path)


def test_a_model_of_transformers_is_quantised_with_its_biases():
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(vocab_size=160, n_positions=64, n_embd=64, n_layer=2, n_head=2)
    full = transformers.AutoModelForCausalLM.from_config(config).eval()
    torch.nn.init.normal_(full.transformer.h[0].attn.c_attn.bias)
    tokens = TOKENS % 160
    model = inference.quantize(full, "int8")
    with torch.no_grad():
        off = (model(tokens).logits - full(tokens).logits).abs().max()
        assert 0 < off < 0.05 * full(tokens).logits.abs().max()
    work = inference.work_of(model)
    assert work.matmul_params == 2 * 12 * 64 * 64 + 160 * 64
    # Its matrices lie the other way round; codes that did so would be held twice by a kernel.
    served = inference.quantize(full.bfloat16(), "int8")
    held = inference.memory_bytes(served)
    inference.use_kernels(served, log=str)
    assert inference.memory_bytes(served) == held
    assert work.cache_bytes_per_token == 2 * 2 * 64 * 4


# Quality


def test_quality_is_the_trainers_loss_and_torchs_divergence():
    model, words = gpt(), load_tokenizer("bpe4096")
    text = np.random.default_rng(0).integers(0, 4095, 300).astype(np.uint16)
    full, coarse = Decoder(model), inference.quantize(Decoder(model), "int4")
    found = inference.quality({"full": full, "int4": coarse}, text, words.token_bytes, 64)
    expected = evaluate(model, text, words.token_bytes)
    assert math.isclose(found["full"].loss, expected["loss"], rel_tol=1e-5)
    assert math.isclose(found["full"].bits_per_byte, expected["bits_per_byte"], rel_tol=1e-5)
    assert (found["full"].kl, found["full"].rise(found["full"])) == (None, 0)
    # One window by hand.
    row = torch.from_numpy(text[:65].astype(np.int64))[None]
    one = inference.quality({"full": full, "int4": coarse}, text[:65], words.token_bytes, 64)
    p, q = (F.log_softmax(m(row[:, :-1])[0], -1) for m in (full, coarse))
    by_torch = F.kl_div(q, p, reduction="batchmean", log_target=True).item()
    assert math.isclose(one["int4"].kl, by_torch, rel_tol=1e-4) and by_torch > 1e-4
    same = (p.argmax(-1) == q.argmax(-1)).float().mean().item()
    assert math.isclose(one["int4"].agreement, same, rel_tol=1e-6) and same < 1


# Baselines, work, roofline


@pytest.mark.parametrize("name", inference.BASELINES)
def test_a_baseline_has_its_published_number_of_parameters(name):
    pytest.importorskip("transformers")
    model = inference.build(name, device="meta")
    assert inference.baselines.count(model) == inference.BASELINES[name].n_params
    assert inference.BASELINES[name].source


def test_work_is_counted_once_a_step_and_a_text():
    full = Decoder(gpt(), torch.bfloat16)
    work = inference.work_of(full)
    body = 2 * (2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 96)
    assert work.matmul_params == body + 4096 * 64
    assert work.weight_bytes == 2 * work.matmul_params
    assert work.step_bytes(3, 10) == work.weight_bytes + 3 * 10 * 256
    assert work.step_flops(3, 10) == 3 * (2 * work.matmul_params + 10 * 4 * 2 * 4 * 16)
    assert work == inference.work_of_shape(full.shape)
    codes = inference.work_of(inference.quantize(full, "int4"))
    assert codes.matmul_params == work.matmul_params
    assert codes.weight_bytes == work.matmul_params * (0.5 + 4 / 32)


def test_a_step_waits_for_memory_until_the_batch_is_large():
    work = inference.Work(2_000, 1_000, 0, 0)
    peak = inference.Peak(bytes_per_sec=10.0, flops_per_sec=80.0, source="made up")
    assert [work.bound(n, 5, peak) for n in (1, 7, 9)] == ["memory", "memory", "arithmetic"]
    assert work.step_seconds(1, 5, peak) == work.step_seconds(8, 5, peak) == 200
    assert work.step_seconds(16, 5, peak) == 400
    card = inference.card_peak("A100-80GB-SXM")
    assert (card.bytes_per_sec, card.flops_per_sec) == (2039e9, 312e12)


# Timing


def test_warm_up_is_left_out_models_take_turns_and_saturation_ends_it(monkeypatch):
    models = {"slow": Decoder(gpt(), torch.bfloat16), "quick": Decoder(gpt(), torch.bfloat16)}
    named, asked = {id(m): name for name, m in models.items()}, []
    steps = {"slow": {1: 1.0, 2: 1.9, 4: 4.0}, "quick": {1: 0.1, 2: 0.2, 4: 0.1, 8: 0.4, 16: 1.0}}

    def turn(model, batch, prompt, new):
        name = named[id(model)]
        n = sum(one == (name, batch) for one in asked)
        asked.append((name, batch))
        factor = (1000.0, 1.0, 0.5, 3.0)[n]  # the first turn is warm-up
        return 2.0 * factor, steps[name][batch] * factor

    monkeypatch.setattr(benchmark, "_turn", turn)
    peak = inference.Peak(1e9, 1e12, "made up")
    rows = inference.decode_benchmark(
        models, (8, 1, 2, 4, 16, 32), 10, 4, repeats=3, peaks=dict.fromkeys(models, peak)
    )
    assert [(row.model, row.batch) for row in rows] == [
        ("slow", 1), ("quick", 1), ("slow", 2), ("quick", 2), ("slow", 4), ("quick", 4),
        ("quick", 8), ("quick", 16),
    ]  # fmt: skip
    assert asked[:8] == [("slow", 1), ("quick", 1)] * 4
    row = rows[0]
    assert (row.tpot_seconds, row.ttft_seconds, row.repeats) == (1.0, 2.0, 3)
    assert row.tpot_spread == (0.5, 3.0) and row.prefill_tokens_per_sec == 5.0
    work = inference.work_of(models["slow"])
    assert row.bytes_per_step == work.step_bytes(1, 12) and row.bound == "memory"
    assert math.isclose(row.bandwidth_use, row.bytes_per_step / 1e9)
    assert math.isclose(row.roofline_share, row.roofline_seconds / 1.0)
    assert inference.best_batch(rows, "quick").batch == 4
    with pytest.raises(InferenceError, match="'slower' was not measured; there are quick, slow"):
        inference.best_batch(rows, "slower")


@pytest.mark.parametrize("batches", [(), (0,), (-1, 2), (1.5,)])
def test_impossible_batches_are_named(batches):
    with pytest.raises(InferenceError, match="give whole numbers of 1 or more"):
        inference.decode_benchmark({"a": Decoder(gpt())}, batches, 4, 2, repeats=1)


def test_the_forms_of_a_model_share_one_peak_of_its_largest(monkeypatch):
    full, asked = Decoder(gpt(), torch.bfloat16), []

    def rates(sizes, device, trials):
        asked.append(sizes)
        return [1e9 * (i + 1) for i in range(len(sizes))]

    monkeypatch.setattr(inference.roofline, "read_rates", rates)
    models = {"a int4": inference.quantize(full, "int4"), "a bf16": full, "b bf16": full}
    peaks = inference.machine_peaks(models)
    assert asked == [[max(inference.memory_bytes(full), 1 << 20)] * 2]
    assert peaks["a int4"] is peaks["a bf16"] and peaks["b bf16"].bytes_per_sec == 2e9
    monkeypatch.undo()
    assert all(1e8 < rate < 1e13 for rate in inference.roofline.read_rates([1 << 16, 1 << 20]))


def test_a_real_step_of_both_kinds_of_model_is_timed():
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        vocab_size=160, hidden_size=64, num_hidden_layers=1, num_attention_heads=4,
        num_key_value_heads=2, intermediate_size=96,
    )  # fmt: skip
    theirs = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval()
    models = {"ours": Decoder(gpt(), torch.bfloat16), "theirs": theirs}
    rows = inference.decode_benchmark(models, (1, 2), 8, 3, repeats=1)
    assert {row.model for row in rows} == {"ours", "theirs"}
    assert all(row.tpot_seconds > 0 and row.ttft_seconds > 0 for row in rows)
    assert all(0 < row.roofline_share < 1 for row in rows)
    # What is timed is right: their cached step says what a whole pass says.
    prompt = TOKENS[:, :8] % 160
    with torch.no_grad():
        token, cache = benchmark._prefill(theirs, prompt, 12)
        assert torch.equal(token, theirs(prompt).logits[:, -1].argmax(-1))
        longer = torch.cat((prompt, token[:, None]), 1)
        after, _ = benchmark._step(theirs, token, cache)
        assert torch.equal(after, theirs(longer).logits[:, -1].argmax(-1))


# Prices


def test_prices_by_hand():
    assert math.isclose(inference.usd_per_million_tokens(1000, 3.6), 1.0)
    assert math.isclose(inference.usd_per_million_tokens(1000, 3.6, 0.25), 4.0)
    work = inference.Work(2_000_000, 1_000_000, 0, 0)
    peak = inference.Peak(1e9, 1e12, "made up")
    # 2 ms a step for memory, whatever the batch: 4 texts, 2,000 tokens a second.
    usd = inference.roofline_usd_per_million(work, peak, 7.2, batch=4, context=9)
    assert math.isclose(usd, 1.0)
    half = inference.roofline_usd_per_million(work, peak, 7.2, 4, 9, roofline_share=0.5)
    assert math.isclose(half, 2.0)
    assert inference.break_even_tokens(100, 0.5, 1.5) == 100e6
    assert inference.break_even_tokens(100, 1.5, 0.5) == math.inf
    assert inference.serving_equals_training_tokens(3, 1.5) == 2e6
    for wrong in ((0, 1, 1), (10, -1, 1), (10, 1, 0), (10, 1, 1.5), (math.nan, 1, 1)):
        with pytest.raises(InferenceError):
            inference.usd_per_million_tokens(*wrong)


def test_over_training_pays_by_what_is_served():
    law = PUBLISHED["besiroglu2024"].law
    optimal, over = inference.over_training(law, 2.5, 0, 1e-18, 1e-18)
    assert optimal == over and optimal.serving_usd == 0
    for served in (1e10, 1e11, 1e12):
        _, over = inference.over_training(law, 2.5, served, 1e-18, 1e-18)
        assert math.isclose(over.n_params, cheapest(law, 2.5, served).n_params)
    optimal, dear = inference.over_training(law, 2.5, 1e12, 1e-18, 1e-17)
    assert dear.n_params < over.n_params < optimal.n_params
    assert dear.tokens_per_param > over.tokens_per_param > optimal.tokens_per_param
    assert dear.usd < optimal.usd and dear.training_usd > optimal.training_usd
    assert math.isclose(optimal.serving_usd, 2 * optimal.n_params * 1e12 * 1e-17)
    assert pricing.CPU_HOUR.source


# Files of a run


@pytest.fixture
def exported(tmp_path):
    """A folder as a finished run leaves it, of a small model with the small vocabulary."""
    model = gpt()
    c = model.config
    checkpoint.export_hf(
        tmp_path / "run" / "checkpoint", model.shape, model.state_dict(), load_tokenizer("bpe4096"),
        rope_theta=c.rope_theta, norm_eps=c.norm_eps, max_seq_len=c.window,
    )  # fmt: skip
    return model, tmp_path / "run" / "checkpoint"


def test_an_exported_folder_is_read_back(exported):
    model, folder = exported
    again = inference.load_checkpoint(folder)
    assert again.config.window == 64 and again.shape.vocab_size == 4096
    torch.testing.assert_close(again(TOKENS), model(TOKENS))
    assert inference.tokenizer_of(folder.parent, 4096).name == "bpe4096"
    config = json.loads((folder / "config.json").read_text())
    del config["head_dim"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InferenceError, match="has no 'head_dim'"):
        inference.load_checkpoint(folder)
    with pytest.raises(InferenceError, match="cannot be read"):
        inference.load_checkpoint(folder.parent)


def test_an_exported_folder_runs_in_transformers_pipeline(exported):
    transformers = pytest.importorskip("transformers")
    model, folder = exported
    pipe = transformers.pipeline("text-generation", model=str(folder), device="cpu")
    asked = {"max_new_tokens": 8, "do_sample": False, "return_full_text": True}
    (said,) = pipe("The sea", pad_token_id=0, **asked)
    words = load_tokenizer("bpe4096")
    ids = words.encode("The sea")
    ours = inference.greedy(Decoder(model), ids, 8)
    assert said["generated_text"] == words.decode(ours)


# The reference checkpoint and the lab


def test_the_reference_is_small_whole_and_sound():
    sizes = [path.stat().st_size for path in REFERENCE.rglob("*") if path.is_file()]
    assert 2_000_000 < sum(sizes) <= 6_000_000
    manifest = json.loads((REFERENCE / "manifest.json").read_text())
    assert manifest_faults(manifest) == [] and manifest["status"] == "finished"
    assert manifest["artefacts"] == tracking.sha256_of(
        (REFERENCE / "checkpoint").iterdir(), REFERENCE
    )
    assert lab.find("experiments/reference/tiny").is_own is False
    model = inference.load_checkpoint(REFERENCE / "checkpoint")
    assert sum(p.numel() for p in model.parameters()) == manifest["n_params"]["total"]


def test_the_reference_keeps_the_goals_at_its_tokens_a_parameter(embedded_shards):
    """Of 6,000 of its 27,843 held-out tokens; lab03 reads them all."""
    manifest = json.loads((REFERENCE / "manifest.json").read_text())
    assert math.isclose(manifest["tokens"] / manifest["n_params"]["total"], 2.723, abs_tol=1e-3)
    full = Decoder(inference.load_checkpoint(REFERENCE / "checkpoint"))
    models = {"full": full} | {kind: inference.quantize(full, kind) for kind in inference.KINDS}
    tokens, words = Shards(embedded_shards).heldout("documents"), load_tokenizer("bpe4096")
    found = inference.quality(models, tokens, words.token_bytes, 256, max_tokens=6000)
    assert abs(found["int8"].rise(found["full"])) < 0.005
    assert 0 < found["int4"].rise(found["full"]) < 0.03
    ids = tokens[:20].tolist()
    assert inference.greedy(full, ids, 60) == inference.greedy_without_cache(full, ids, 60)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"baselines": "gpt2"}, "no baseline 'gpt2'; there are gpt2-124m"),
        ({"batches": "1,two"}, "expected numbers such as"),
        ({"batches": "0,1"}, "expected numbers such as"),
        ({"utilisation": 0.0}, "utilisation is 0.0"),
        ({"utilisation": 1.005}, "utilisation is 1.005; expected a share of at most 1"),
    ],
)
def test_an_impossible_setting_of_the_lab_is_named(changes, words):
    with pytest.raises(ConfigError, match=words):
        lab.Settings(**changes)


@pytest.fixture
def own_run(tmp_path, monkeypatch):
    """A project of its own with one finished run of a reader in it, and the course's reference."""
    run = tmp_path / lab.LAB / "run-local"
    shutil.copytree(REFERENCE, run)
    shutil.copytree(REFERENCE, tmp_path / lab.REFERENCE)
    monkeypatch.setattr(lab, "project_root", lambda: tmp_path)
    return run


def test_the_newest_finished_run_is_taken_and_else_the_reference(own_run, monkeypatch):
    monkeypatch.delenv("X1_BUILDING", raising=False)
    newer = own_run.with_name("run-local-1")
    shutil.copytree(own_run, newer)
    manifest = tracking.Manifest(newer)
    manifest.update(finished="2027-01-01T00:00:00+00:00")
    assert lab.find().folder == newer and lab.find().is_own
    monkeypatch.setenv("X1_BUILDING", "1")
    assert lab.find().is_own is False and lab.find(str(newer)).is_own
    monkeypatch.delenv("X1_BUILDING")
    manifest.update(status="stopped")
    assert lab.find().folder == own_run
    with pytest.raises(InferenceError, match="holds no finished run"):
        lab.find(str(newer))
    shutil.rmtree(own_run.parent)
    assert lab.find().is_own is False
    shutil.rmtree(lab.find().folder)
    with pytest.raises(InferenceError, match="run lab00 first"):
        lab.find()


@pytest.mark.parametrize("own", [True, False])
def test_the_lab_writes_prices_and_leaves_the_reference_alone(
    own, own_run, tmp_path, embedded_shards
):
    folder = own_run if own else tmp_path / lab.REFERENCE
    before = (tmp_path / lab.REFERENCE / "manifest.json").read_bytes()
    settings = lab.Settings(
        checkpoint=str(folder), baselines="", batches="1", prompt_tokens=4, new_tokens=2,
        repeats=1, heldout_tokens=300, usd_per_hour=7.2, out=str(tmp_path / "out"),
    )  # fmt: skip
    work = lab.prepare(settings)
    assert work.in_time(int8=0.1) == {"int8": 0.1}
    work.measure_quality()
    work.store(log=str)
    served = work.measure_served()
    readable = ["int8, readable", "int4, readable"]
    assert list(served) == ["full", *readable, report._dtype(work.dtype), "int8", "int4"]
    assert math.isclose(served["int4, readable"].kl, work.quality["int4"].kl, rel_tol=1e-6)
    assert math.isclose(served["int4"].loss, served["int4, readable"].loss, rel_tol=1e-3)
    assert served["full"].loss == work.quality["full"].loss
    assert 0 < served["int8"].kl < served["int4"].kl
    work.measure_speed(log=str)
    found = report.write(work)
    assert work.in_time(int8=0.1) == {"int8": None}
    assert json.loads((tmp_path / "out" / lab.RESULTS).read_text()) == json.loads(json.dumps(found))
    assert (tmp_path / lab.REFERENCE / "manifest.json").read_bytes() == before
    manifest = tracking.Manifest(report.manifest_folder(work)).values
    assert (report.manifest_folder(work) == own_run) is own
    entry = manifest["inference"]
    speed = next(row for row in work.speed if row.model == entry["model"])
    expected = 7.2 / 3600 / (0.5 * speed.tokens_per_sec) * 1e6
    assert math.isclose(entry["usd_per_million_tokens"], expected)
    assert manifest_faults(manifest) == []
    assert "| tiny int4 | 1 |" in (tmp_path / "out" / lab.PAGE).read_text()
    hours = manifest["wall_clock_seconds"] / 3600
    assert math.isclose(found["model"]["training_usd"], 7.2 * hours)
    assert "held-out documents of the embedded text;" in (tmp_path / "out" / lab.PAGE).read_text()
    # A run on a rented card has another price an hour than this machine: none is made up.
    work.found.manifest["machine"] |= {"device": "cuda", "device_name": "NVIDIA H100"}
    work.speed += [replace(row, model=f"gpt2-124m {row.model[5:]}") for row in work.speed]
    work.settings = replace(work.settings, baselines="gpt2-124m")
    found = report.results(work)
    assert found["model"]["training_usd"] is None
    assert "NVIDIA H100" in found["model"]["training_usd_source"]
    assert found["serving_equals_training_tokens"] is None
    assert found["baselines"]["gpt2-124m"]["break_even_tokens"] is None


def test_texts_longer_than_a_window_are_refused_before_anything_is_measured(own_run, tmp_path):
    for changes, words in (
        ({"prompt_tokens": 250, "baselines": ""}, "266 together, and tiny has a window of 256"),
        ({"new_tokens": 1020, "checkpoint": ""}, "and tiny has a window"),
    ):
        settings = lab.Settings(**{"checkpoint": str(own_run), "out": str(tmp_path)} | changes)
        with pytest.raises(InferenceError, match=words):
            lab.prepare(settings)


def test_a_text_that_is_not_here_is_named_and_never_compared_with_a_record(
    own_run, tmp_path, embedded_shards
):
    """A run on named text: by the sample that it kept, else by the embedded text; it is said."""
    record = tmp_path / lab.RECORDED / "baseline-quality.json"
    record.parent.mkdir(parents=True)
    shutil.copy(ROOT / lab.RECORDED / record.name, record)
    manifest = tracking.Manifest(own_run)
    settings = lab.Settings(checkpoint=str(own_run), out=str(tmp_path / "out"), heldout_tokens=300)

    def prepared(recorded_bytes: int = 0):
        work = lab.prepare(settings)
        work.measure_quality()
        one = json.loads(record.read_text())
        one["smollm2-135m"]["n_bytes"] = recorded_bytes or work.quality["full"].n_bytes
        record.write_text(json.dumps(one))
        return work

    work = prepared()
    assert (work.text.source, work.text.note) == ("embedded", "")
    assert report.quality_of(work, "smollm2-135m")[0] == report.unpriced(work)["smollm2-135m"]
    assert report.quality_of(work, "gpt2-124m") == (None, report.NOT_MEASURED)
    assert report.quality_of(prepared(97_409), "smollm2-135m") == (None, report.OTHER_TEXT)

    manifest.update(config=manifest.values["config"] | {"source": "fineweb-edu"})
    work = prepared()
    assert "not the run's own text, fineweb-edu" in work.text.name
    assert len(work.text.tokens) > 20_000

    tokens = np.arange(3, 400, dtype=np.uint16)
    np.save(own_run / "heldout-sample.npy", tokens)
    manifest.update(heldout_sample={"file": "heldout-sample.npy"})
    work = prepared()
    assert np.array_equal(work.text.tokens, tokens) and work.text.source == "fineweb-edu"
    assert "396 tokens that the run kept" in work.text.name
    assert report.quality_of(work, "smollm2-135m") == (None, report.OTHER_TEXT)
    np.save(own_run / "heldout-sample.npy", tokens + 5000)
    with pytest.raises(InferenceError, match="holds no tokens of bpe4096"):
        lab.prepare(settings)


def test_what_the_lab_says_of_the_recorded_speeds_is_recorded():
    """Ranges in the prose of lab03 and of the record's README, from the record itself."""
    record = json.loads((ROOT / lab.RECORDED / "baselines-cpu.json").read_text())
    prose = (ROOT / "notebooks" / "src" / "lab03.py").read_text()
    page = (ROOT / lab.RECORDED / "README.md").read_text()
    rows = {(row["model"], row["batch"]): row for row in record["speed"]}
    names = list(dict.fromkeys(row["model"].split()[0] for row in record["speed"]))

    def ratios(key: str, kind: str, batch: int, but: str = "") -> list[float]:
        found = ((rows[f"{n} {k}", batch][key] for k in ("bf16", kind)) for n in names if n != but)
        return [full / codes for full, codes in found]

    def span(of: list[float], form: str) -> str:
        return f"{min(of):{form}} to {max(of):{form}}"

    alone = {kind: ratios("tpot_seconds", kind, 1) for kind in inference.KINDS}
    assert f"int8 decodes {span(alone['int8'], '.2f')} times" in page
    assert f"int4 {span(alone['int4'], '.2f')} times" in page
    small = [100 * (one - 1) for one in ratios("tpot_seconds", "int8", 1, but="tiny")]
    assert f"int8 gains only {span(small, '.0f')}% alone" in prose
    assert min(alone["int4"]) > 1
    for kind in inference.KINDS:
        assert max(ratios("tpot_seconds", kind, 16, but="tiny")) < 1
    longer = [
        1 / one
        for kind in inference.KINDS
        for batch in (1, 4, 16)
        for one in ratios("ttft_seconds", kind, batch, but="tiny")
    ]
    assert f"after {span(longer, '.1f')} times as long as in bf16" in prose
    assert f"codes {span(longer, '.1f')} times as long" in page
    use = (rows[f"50m {kind}", 1]["bandwidth_use"] for kind in ("bf16", "int8"))
    assert "it reads at {:.0%} of the peak where int8 reaches {:.0%}".format(*use) in prose
    assert f"at {rows['tiny int8', 1]['bandwidth_use']:.0%} of its bandwidth" in prose


@pytest.mark.long
def test_the_gpu_script_runs_on_a_cpu_at_a_tiny_size(tmp_path):
    """Every phase but the graph, which says why it is not there."""
    write_jsonl(tmp_path / "small.jsonl", 300)
    script = ROOT / "experiments" / "benchmarks" / "decode_gpu.py"
    sizes = "--shapes 2x64 --steps 3 --batches 1,2 --prompt-tokens 8 --new-tokens 4 --repeats 1"
    command = [
        sys.executable, script, "--device", "cpu", *sizes.split(), "--max-tokens", "64",
        "--source", tmp_path / "small.jsonl", "--out", tmp_path / "gpu.json",
        "--usd-per-hour", "1.1",
    ]  # fmt: skip
    subprocess.run(command, check=True, cwd=ROOT, capture_output=True)
    found = json.loads((tmp_path / "gpu.json").read_text())
    (one,) = found["shapes"].values()
    assert {row["model"] for row in found["speed"]} == {"2x64 bf16", "2x64 int8", "2x64 int4"}
    assert one["batch_1"]["2x64 bf16"]["graph_seconds"] is None
    assert "wants a CUDA device" in one["batch_1"]["2x64 bf16"]["status"]
    assert one["prices"]["2x64 int4"]["usd_per_million_tokens"] > 0
    assert found["predicted"]["graph_speedup_batch_1"]
