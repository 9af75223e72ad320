"""FLOPs against what torch counts on the built model; peaks against the driver's names."""

import math
from dataclasses import replace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from x1lib.economics import (
    CONVENTIONS,
    GPUS,
    EconomicsError,
    flops_per_token,
    gpu_by_driver_name,
    mfu,
)
from x1lib.shapes import SHAPES, Shape, count_params
from x1lib.train import GPT, Config

ODD_HEADS = Shape("odd", 3, 100, 4, 2, 96, vocab_size=128, head_dim=40)  # 4 x 40 is not 100


@pytest.mark.parametrize("shape", [SHAPES["50m"], ODD_HEADS])
def test_each_convention_is_its_formula(shape):
    n, seq_len = count_params(shape), 512
    attention = 12 * shape.n_layers * shape.n_heads * shape.head_dim * seq_len
    expected = {
        "palm": 6 * n.matmul + attention,
        "causal": 6 * n.matmul + attention / 2,
        "6n": 6 * n.total,
        "kaplan": 6 * n.body,
    }
    assert expected.keys() == CONVENTIONS.keys()
    assert {name: flops_per_token(shape, seq_len, name) for name in CONVENTIONS} == expected
    assert len(set(expected.values())) == 4


def test_attention_counts_heads_times_head_dim_and_not_the_width():
    growth = flops_per_token(ODD_HEADS, 101) - flops_per_token(ODD_HEADS, 1)
    assert growth == 12 * 3 * (4 * 40) * 100
    assert growth != 12 * 3 * 100 * 100  # what the width would give


def test_grouped_heads_change_the_matrices_and_never_the_attention():
    one, two, four = (replace(ODD_HEADS, n_kv_heads=n) for n in (1, 2, 4))
    growths = {flops_per_token(s, 900) - flops_per_token(s, 1) for s in (one, two, four)}
    assert len(growths) == 1
    # Keys and values of two more heads: 2 matrices of 100 x 80 in each of 3 layers.
    assert flops_per_token(four, 1) - flops_per_token(two, 1) == 6 * 3 * 2 * 100 * 80


def test_untied_head_costs_nothing_more_by_palm_and_its_storage_by_6n():
    tied, untied = SHAPES["5m"], replace(SHAPES["5m"], tied=False)
    assert flops_per_token(untied, 64) == flops_per_token(tied, 64)
    assert flops_per_token(untied, 64, "6n") > flops_per_token(tied, 64, "6n")


@pytest.mark.parametrize(
    "spec, vocab_size", [("2x64", 256), ("3x96:4/2:160", 384), ("2x128:2/1:384", 128)]
)
def test_torch_counts_the_same_on_the_built_model(spec, vocab_size):
    """Forward and backward, counted product by product: equal, not nearly equal.

    The mathematics backend is forced because the flash one counts as 0 on a CPU; it multiplies the
    full square, as the convention does. The vocabulary is a multiple of 128, so nothing is padded.
    """
    seq_len, batch = 96, 2
    config = Config(shape=spec, steps=1, seq_len=seq_len)
    model = GPT(config, vocab_size=vocab_size, kernel="sdpa")
    assert model.shape.padded_vocab_size == vocab_size
    tokens = torch.randint(0, vocab_size, (batch, seq_len), generator=torch.Generator())
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(tokens, tokens).backward()
    counted = counter.get_total_flops() / tokens.numel()
    assert counted == flops_per_token(model.shape, seq_len)
    assert counted != flops_per_token(model.shape, seq_len, "causal")


def test_padding_the_vocabulary_is_real_work_that_we_do_not_claim():
    config = Config(shape="1x64", steps=1, seq_len=32)
    model = GPT(config, vocab_size=200)
    tokens = torch.zeros(1, 32, dtype=torch.long)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(tokens, tokens).backward()
    padding = 6 * (256 - 200) * 64
    assert counter.get_total_flops() / 32 == flops_per_token(model.shape, 32) + padding


def test_flops_take_a_name_a_shape_and_a_config():
    config = Config(shape="12m", steps=1)
    expected = flops_per_token(SHAPES["12m"], 1024)
    assert flops_per_token("12m", 1024) == flops_per_token(config, 1024) == expected


@pytest.mark.parametrize("card", GPUS)
def test_mfu_is_flops_over_peak(card):
    peak = GPUS[card].bf16_flops_per_sec
    speed = 0.4 * peak / flops_per_token("50m", 1024)
    assert math.isclose(mfu(speed, "50m", 1024, card), 0.4)
    assert math.isclose(mfu(speed, "50m", 1024, GPUS[card], n_gpus=2), 0.2)
    assert math.isclose(mfu(speed, "50m", 1024, 2 * peak), 0.2)
    by_body = mfu(speed, "50m", 1024, card, convention="kaplan")
    assert math.isclose(by_body, 0.4 * 6 * count_params("50m").body / flops_per_token("50m", 1024))


def test_the_briefs_mfu():
    """50M x 5B tokens in 3.0 hours of an A100 is MFU 0.45 if 6ND with N = 50M counts it."""
    seconds = 6 * 50e6 * 5e9 / (0.45 * GPUS["A100-80GB-SXM"].bf16_flops_per_sec)
    assert math.isclose(seconds / 3600, 2.97, rel_tol=1e-3)


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: mfu(1e5, "50m", 1024, "A100"), "no peak is known for 'A100'; give a measured one"),
        (lambda: mfu(1e5, "50m", 1024, "RTX 9999"), "no peak is known"),
        (lambda: mfu(1e5, "50m", 1024, 0.0), "both must be above zero"),
        (lambda: mfu(1e5, "50m", 1024, math.nan), "both must be above zero"),
        (lambda: mfu(1e5, "50m", 1024, "L4", n_gpus=0), "on 0 cards"),
        (lambda: mfu(1e5, "50m", 1024, "L4", convention="8n"), "unknown FLOP convention '8n'"),
        (lambda: flops_per_token("50m", 0), "at least one token"),
    ],
)
def test_refusals_name_what_is_wrong(call, words):
    with pytest.raises(EconomicsError, match=words):
        call()


@pytest.mark.parametrize(
    "driver_name, card",
    [
        ("NVIDIA A100-SXM4-80GB", "A100-80GB-SXM"),
        ("NVIDIA A100-SXM-80GB", "A100-80GB-SXM"),
        ("NVIDIA A100 80GB PCIe", "A100-80GB-PCIe"),
        ("NVIDIA A100-PCIE-80GB", "A100-80GB-PCIe"),
        ("NVIDIA A100-PCIE-40GB", "A100-40GB-PCIe"),
        ("A100-PCIE-40GB", "A100-40GB-PCIe"),
        ("NVIDIA A100-SXM4-40GB", "A100-40GB-SXM"),
        ("NVIDIA H100 80GB HBM3", "H100-80GB-SXM"),
        ("NVIDIA H100 PCIe", "H100-80GB-PCIe"),
        ("NVIDIA H100 NVL", "H100-94GB-NVL"),
        ("NVIDIA H200", "H200-141GB-SXM"),
        ("NVIDIA L40S", "L40S"),
        ("NVIDIA L4", "L4"),
        ("NVIDIA A10", "A10"),
        # neighbours by name that are other cards, or parts of one
        ("NVIDIA A10G", None),
        ("NVIDIA A10-24Q", None),
        ("NVIDIA L40", None),
        ("NVIDIA A1000", None),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", None),
        ("NVIDIA H100 80GB HBM3 MIG 3g.40gb", None),
        ("NVIDIA H200 NVL", None),
        ("NVIDIA GeForce RTX 4090", None),
        ("AMD EPYC 9R14", None),
        ("", None),
    ],
)
def test_driver_names(driver_name, card):
    found = gpu_by_driver_name(driver_name)
    assert (found and found.name) == card


def test_every_card_names_its_source():
    for name, card in GPUS.items():
        assert card.name == name and "data sheet" in card.source
        assert 1e13 < card.bf16_flops_per_sec < 1e16
