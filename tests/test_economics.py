"""FLOPs against what torch counts on the built model; cards, driver's names and prices."""

import math
import tomllib
import warnings
from dataclasses import fields, replace
from datetime import date, timedelta

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from x1lib.economics import (
    CONVENTIONS,
    GPUS,
    PRICES,
    PROVIDERS,
    EconomicsError,
    Gpu,
    StalePrice,
    flops_per_token,
    gpu,
    gpu_by_driver_name,
    mfu,
    price_of,
)
from x1lib.economics.prices import PRICE_FILE, STALE_DAYS, read_prices
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


TRAINABLE = [name for name in GPUS if name != "T4"]


@pytest.mark.parametrize("card", TRAINABLE)
def test_mfu_is_flops_over_peak(card):
    peak = GPUS[card].bf16_flops_per_sec
    speed = 0.4 * peak / flops_per_token("50m", 1024)
    assert math.isclose(mfu(speed, "50m", 1024, card), 0.4)
    assert math.isclose(mfu(speed, "50m", 1024, GPUS[card], n_gpus=2), 0.2)
    assert math.isclose(mfu(speed, "50m", 1024, 2 * peak), 0.2)
    by_body = mfu(speed, "50m", 1024, card, convention="kaplan")
    assert math.isclose(by_body, 0.4 * 6 * count_params("50m").body / flops_per_token("50m", 1024))


def test_one_mfu_is_a_float_and_many_are_an_array():
    speeds, lengths = [1e3, 2e3], [256, 1024]
    assert type(mfu(1e3, "50m", 1024, "L4")) is type(flops_per_token("50m", 1024)) is float
    flops = flops_per_token("50m", lengths)
    assert flops.tolist() == [flops_per_token("50m", length) for length in lengths]
    many = mfu(speeds, "50m", lengths, "L4")
    assert many.tolist() == [mfu(s, "50m", n, "L4") for s, n in zip(speeds, lengths, strict=True)]
    assert mfu(0, "50m", 1024, "L4") == 0.0


def test_the_briefs_mfu():
    """50M x 5B tokens in 3.0 hours of an A100 is MFU 0.45 if 6ND with N = 50M counts it."""
    seconds = 6 * 50e6 * 5e9 / (0.45 * GPUS["A100-80GB-SXM"].bf16_flops_per_sec)
    assert math.isclose(seconds / 3600, 2.97, rel_tol=1e-3)


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: mfu(1e5, "50m", 1024, "A100"), "no peak is known for 'A100'; give a measured one"),
        (lambda: mfu(1e5, "50m", 1024, "T4"), "T4 is no card to train on here: its tensor cores"),
        (lambda: mfu(1e5, "50m", 1024, "RTX 9999"), "no peak is known"),
        (lambda: mfu(1e5, "50m", 1024, 0.0), "gpu is 0; .* above 0; give a card's name, a Gpu, or"),
        (lambda: mfu(1e5, "50m", 1024, math.nan), "gpu is nan; expected a finite number above 0"),
        (lambda: mfu(1e5, "50m", 1024, None), "gpu is None; .* above 0; give a card's name, a Gpu"),
        (lambda: mfu(1e5, "50m", 1024, ["L4"]), r"gpu is \['L4'\]; .* give a card's name"),
        (lambda: mfu(1e5, "50m", 1024, "L4", n_gpus=0), "n_gpus is 0; expected a whole number at"),
        (lambda: mfu(1e5, "50m", 1024, "L4", n_gpus=1.5), "n_gpus is 1.5"),
        (lambda: mfu(1e5, "50m", 1024, "L4", n_gpus=None), "n_gpus is None"),
        (lambda: mfu(-1, "50m", 1024, "L4"), "tokens_per_sec is -1; expected .* at least 0"),
        (lambda: mfu(math.nan, "50m", 1024, "L4"), "tokens_per_sec is nan"),
        (lambda: mfu("fast", "50m", 1024, "L4"), "tokens_per_sec is 'fast'"),
        (lambda: mfu(None, "50m", 1024, "L4"), "tokens_per_sec is None"),
        (
            lambda: mfu(1e6, "50m", 1024, "L4"),
            r"MFU 5\.08 is more than the cards' peak; look whether",
        ),
        (lambda: mfu([1e3, 1e6], "50m", 1024, "L4"), r"MFU 5\.08"),
        (lambda: mfu(1e5, "50m", "x", "L4"), "seq_len is 'x'; expected a whole number at least 1"),
        (lambda: mfu(1e5, "50m", None, "L4"), "seq_len is None"),
        (lambda: mfu(1e4, "50m", 1024, "L4", convention="8n"), "unknown FLOP convention '8n'"),
        (lambda: mfu(1e4, "50m", 1024, "L4", convention=None), "unknown FLOP convention None"),
        (lambda: flops_per_token("50m", 0), "seq_len is 0; expected a whole number at least 1"),
        (lambda: flops_per_token("50m", 10.5), "seq_len is 10.5"),
        (lambda: flops_per_token("50m", [[1], [1, 2]]), "seq_len is .*; expected a whole number"),
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
        ("NVIDIA B200", "B200-180GB-SXM"),
        ("NVIDIA GH200 480GB", "GH200"),
        ("NVIDIA GH200 120GB", "GH200"),
        ("Tesla T4", "T4"),
        ("NVIDIA T4", "T4"),
        ("NVIDIA GeForce RTX 4090", "RTX-4090"),
        ("NVIDIA GeForce RTX 5090", "RTX-5090"),
        # neighbours by name that are other cards, or parts of one
        ("NVIDIA A10G", None),
        ("NVIDIA A10-24Q", None),
        ("NVIDIA A10M", None),
        ("NVIDIA L40", None),
        ("NVIDIA L40S-48Q", None),
        ("NVIDIA L20", None),
        ("NVIDIA A1000", None),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", None),
        ("NVIDIA H100 80GB HBM3 MIG 3g.40gb", None),
        ("NVIDIA A100-SXM-64GB", None),
        ("NVIDIA A800-SXM4-80GB", None),
        ("GRID A100D-80C", None),
        ("NVIDIA H800", None),
        ("NVIDIA H20", None),
        ("NVIDIA H200 NVL", None),
        ("NVIDIA GH200 144G HBM3e", None),
        ("NVIDIA GB200", None),
        ("NVIDIA B300", None),
        ("NVIDIA T4G", None),
        ("Tesla T40", None),
        ("NVIDIA GeForce RTX 4090 D", None),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("NVIDIA GeForce RTX 5090 D", None),
        ("NVIDIA GeForce RTX 5090 Laptop GPU", None),
        ("NVIDIA RTX 6000 Ada Generation", None),
        ("AMD EPYC 9R14", None),
        ("", None),
    ],
)
def test_driver_names(driver_name, card):
    found = gpu_by_driver_name(driver_name)
    assert (found and found.name) == card


# Typed a second time, from the data sheets and not from the table: dense bf16 and fp8 TFLOP/s, GB,
# GB/s, W, and the link in GB/s both ways. The sheets of Hopper, Blackwell and L4 print twice the
# first two, "with sparsity".
SHEETS = {
    "A100-40GB-PCIe": (312, None, 40, 1555, 250, 64),
    "A100-40GB-SXM": (312, None, 40, 1555, 400, 600),
    "A100-80GB-PCIe": (312, None, 80, 1935, 300, 64),
    "A100-80GB-SXM": (312, None, 80, 2039, 400, 600),
    "H100-80GB-PCIe": (756.5, 1513, 80, 2000, 350, 128),
    "H100-80GB-SXM": (989.5, 1979, 80, 3350, 700, 900),
    "H100-94GB-NVL": (835.5, 1670.5, 94, 3900, 400, 600),
    "H200-141GB-SXM": (989.5, 1979, 141, 4800, 700, 900),
    "B200-180GB-SXM": (2250, 4500, 180, 8000, 1000, 1800),
    "GH200": (989.5, 1979, 96, 4000, 1000, 900),
    "L40S": (362.05, 733, 48, 864, 350, 64),
    "L4": (121, 242.5, 24, 300, 72, 64),
    "A10": (125, None, 24, 600, 150, 64),
    "T4": (None, None, 16, 320, 70, 32),
    "RTX-4090": (165.2, 330.3, 24, 1008, 450, 64),
    "RTX-5090": (209.5, 419, 32, 1792, 575, 128),
}


def test_every_card_is_its_data_sheet():
    assert list(GPUS) == list(SHEETS)
    for name, sheet in SHEETS.items():
        card = GPUS[name]
        found = (card.bf16_flops_per_sec, card.fp8_flops_per_sec, card.memory_bytes)
        found += (card.memory_bytes_per_sec, card.watts, card.link_bytes_per_sec)
        scale = (1e12, 1e12, 1e9, 1e9, 1, 1e9)
        assert found == tuple(x and x * s for x, s in zip(sheet, scale, strict=True)), name


# SMs x dense bf16 FLOP a cycle and SM (summed in float32) x boost clock [Hz]: the chips' own
# arithmetic, from their architecture white papers, which the sheets round.
CHIPS = {
    "A100-80GB-SXM": 108 * 2048 * 1.410e9,
    "H100-80GB-SXM": 132 * 4096 * 1.830e9,
    "L40S": 142 * 1024 * 2.520e9,
    "L4": 60 * 1024 * 2.040e9,
    "A10": 72 * 1024 * 1.695e9,
    "RTX-4090": 128 * 512 * 2.520e9,
    "RTX-5090": 170 * 512 * 2.407e9,
}


@pytest.mark.parametrize("name", CHIPS)
def test_peaks_follow_from_the_chips(name):
    """Within 4%: sheets round, and NVIDIA's L4 and L40S sheets print a little under the clock."""
    assert math.isclose(GPUS[name].bf16_flops_per_sec, CHIPS[name], rel_tol=0.04)


def test_fp8_is_twice_bf16_where_there_is_any():
    """Within 1.5%: the L40S sheet prints 733 beside 362.05."""
    for card in GPUS.values():
        if card.fp8_flops_per_sec:
            ratio = card.fp8_flops_per_sec / card.bf16_flops_per_sec
            assert math.isclose(ratio, 2, rel_tol=0.015), card.name


def test_every_card_names_its_source_and_why_something_is_missing():
    for name, card in GPUS.items():
        assert card.name == name
        assert card.source.startswith("NVIDIA") and any(c.isdigit() for c in card.source)
        absent = {f.name for f in fields(card) if getattr(card, f.name) is None}
        assert absent == card.missing.keys() and all(card.missing.values())
    assert GPUS["T4"].missing.keys() == {"bf16_flops_per_sec", "fp8_flops_per_sec"}


# Cards by name


@pytest.mark.parametrize("name", [*GPUS, "a100-80gb-sxm", "rtx 4090", "NVIDIA H100 80GB HBM3"])
def test_a_card_is_found_by_its_key_and_by_the_drivers_name(name):
    assert gpu(name) in GPUS.values()
    assert gpu(gpu(name)) is gpu(name)


@pytest.mark.parametrize(
    "name, near",
    [
        ("A100", "near it are A100-40GB-PCIe, A100-40GB-SXM, A100-80GB-PCIe, A100-80GB-SXM"),
        ("H100-SXM", "H100-80GB-SXM"),
        ("RTX 4080", "RTX-4090"),
        ("NVIDIA GeForce RTX 4090 D", "RTX-4090"),
        ("NVIDIA A10G", "A10"),
        ("Radeon", "known are|near it are"),
        ("", "known are"),
    ],
)
def test_an_unknown_card_lists_near_ones(name, near):
    with pytest.raises(EconomicsError, match=f"no peak is known for '{name}'.*({near})"):
        gpu(name)


def test_a_slice_of_a_card_says_what_to_do():
    for name in ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", "NVIDIA H100 80GB HBM3 MIG 3g.40gb"):
        with pytest.raises(EconomicsError, match=r"MIG slice, a part of .*; switch MIG off, or"):
            gpu(name)
    with pytest.raises(EconomicsError, match="a part of A100-40GB-SXM"):
        gpu("NVIDIA A100-SXM4-40GB MIG 1g.5gb")


def test_a_card_of_your_own_counts():
    own = Gpu("mine", bf16_flops_per_sec=1e14)
    assert gpu(own) is own
    assert mfu(1e5, "50m", 1024, own) == mfu(1e5, "50m", 1024, 1e14)
    assert Gpu("mine", "pattern", 1e14, "a measurement").source == "a measurement"
    with pytest.raises(EconomicsError, match="mine is no card to train on here: no bf16 peak"):
        mfu(1e5, "50m", 1024, Gpu("mine"))
    with pytest.raises(EconomicsError, match="expected a finite number above zero"):
        Gpu("mine", bf16_flops_per_sec=math.inf).training_flops_per_sec()


# Prices

ROWS = sum(len(t.get("prices", [])) for t in tomllib.loads(PRICE_FILE.read_text()).values())


def test_prices_are_of_the_providers_and_each_says_where_it_was_read():
    sellers = {"lambda", "runpod", "runpod-community", "vast", "nebius", "aws", "gcp", "azure"}
    assert set(PROVIDERS) == sellers | {"brief"} == {p.provider for p in PRICES}
    assert len(PRICES) == ROWS > 60
    for price in PRICES:
        assert price.source.startswith("https://")
        if price.usd_per_gpu_hour is None:
            assert price.date is None and "unverified" in price.line()
        else:
            assert 0.1 < price.usd_per_gpu_hour < 20 and date(2024, 1, 1) < price.date
            assert str(price.date) in price.line()
    keys = [(p.provider, p.gpu, p.spot, p.gpus) for p in PRICES]
    assert len(keys) == len(set(keys))


def test_spot_is_cheaper_where_both_are_known():
    known = {(p.provider, p.gpu, p.spot): p.usd_per_gpu_hour for p in PRICES if p.usd_per_gpu_hour}
    pairs = [(v, known[a, b, False]) for (a, b, s), v in known.items() if s]
    assert len(pairs) >= 4 and all(spot < on_demand for spot, on_demand in pairs)


def test_the_briefs_prices_are_nobodys():
    brief = {p.spot: p.usd_per_gpu_hour for p in PRICES if p.provider == "brief"}
    assert brief == {False: 1.79, True: 1.10}
    assert PROVIDERS["brief"] == "the course's brief"


def test_a_price_depends_on_the_machine():
    day = date(2026, 11, 22)
    one = price_of("lambda", "H100-80GB-SXM", today=day)
    eight = price_of("lambda", "H100-80GB-SXM", n_gpus=8, today=day)
    assert (one.gpus, eight.gpus) == (1, 8)
    assert one.usd_per_gpu_hour > eight.usd_per_gpu_hour
    # sold only by eight: that price, whatever is asked
    assert price_of("lambda", "A100-80GB-SXM", n_gpus=1, today=day).gpus == 8


def test_an_old_price_warns_with_its_age():
    price = next(p for p in PRICES if (p.provider, p.gpu) == ("runpod", "A100-80GB-SXM"))
    fresh, stale = (price.date + timedelta(days=STALE_DAYS + extra) for extra in (0, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert price_of("runpod", "A100-80GB-SXM", today=fresh) == price
    with pytest.warns(StalePrice, match=f"{STALE_DAYS + 1} days old; look at the page"):
        assert price_of("runpod", "A100-80GB-SXM", today=stale) == price


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("lamda", "A10"), "no provider 'lamda' in prices.toml; near it are lambda"),
        (("runpod", "A100"), "no peak is known for 'A100'"),
        (("runpod", "RTX-5090"), "no verified on-demand price of RTX-5090 at runpod; look at http"),
        (("runpod", "T4"), "no verified on-demand price of T4 .* that has one: .*H100-80GB-SXM"),
        (("runpod", "A100-80GB-SXM", True), "no verified spot price .* that has one: none"),
        (("lambda", "A100-40GB-SXM", True), "Lambda sells no spot machines"),
    ],
)
def test_a_price_that_nobody_has_seen_is_no_price(arguments, words):
    with pytest.raises(EconomicsError, match=words):
        price_of(*arguments)


@pytest.mark.parametrize(
    "row, words",
    [
        ('{ gpu = "A100" }', "gpu has to be a key of GPUS"),
        ('{ gpu = "L4", usd_per_gpu_hour = -1, date = 2026-11-22 }', "a number of 0 or more"),
        ('{ gpu = "L4", usd_per_gpu_hour = nan, date = 2026-11-22 }', "a number of 0 or more"),
        ('{ gpu = "L4", usd_per_gpu_hour = "1", date = 2026-11-22 }', "a number of 0 or more"),
        ('{ gpu = "L4", usd_per_gpu_hour = 1 }', "needs the date"),
        ('{ gpu = "L4", usd_per_gpu_hour = 1, date = "2026-11-22" }', "needs the date"),
        ('{ gpu = "L4", spot = 1 }', "spot has to be true or false"),
        ('{ gpu = "L4", gpus = 0 }', "a whole number of 1 or more"),
        ('{ gpu = "L4", read_by = "a friend" }', "read_by has to be one of"),
        ('{ gpu = "L4", usd = 1 }', "unknown field; expected date, gpu"),
        ('{ gpu = "L4", usd_per_gpu_hour = true, date = 2026-11-22 }', "a number of 0 or more"),
        ('{ gpu = "L4", usd_per_gpu_hour = [1], date = 2026-11-22 }', "a number of 0 or more"),
        ('{ gpu = "L4", usd_per_gpu_hour = 1, date = 2026-11-22T10:00:00 }', "needs the date"),
        ('{ gpu = ["L4"] }', "gpu has to be a key of GPUS"),
        ("{ }", "gpu has to be a key of GPUS"),
        ('{ gpu = "L4", read_by = ["us"] }', "read_by has to be one of us"),
        ('{ gpu = "L4", gpus = 2.0 }', "a whole number of 1 or more"),
        ('"L4"', r"row 2, L4: expected a row such as \{ gpu = \"L4\""),
        ("5", "row 2, 5: expected a row such as"),
        ('[{ gpu = "L4" }]', "row 2, .*: expected a row such as"),
    ],
)
def test_a_slip_in_the_price_file_is_named(tmp_path, row, words):
    path = tmp_path / "prices.toml"
    path.write_text(f'[readers]\nus = "here"\n[shop]\nprices = [{{ gpu = "L4" }}, {row}]\n')
    with pytest.raises(EconomicsError, match=words) as caught:
        read_prices(path)
    assert str(caught.value).startswith(f"{path}: [shop] row 2, ")


@pytest.mark.parametrize(
    "text, words",
    [
        ("[shop]\nprices = [{ gpu = ", "cannot be read as TOML"),
        ("x = 5", r"\[x\] is 5; expected a table"),
        ("x = [1]", r"\[x\] is \[1\]; expected a table"),
        ("readers = 5", r"\[readers\] is 5; expected a table"),
        ("[readers]\nus = 5", r"\[readers\] us is 5; expected a text"),
        ("[shop]\nprices = 5", r"\[shop\] prices is 5; expected a list of rows"),
        ("[shop]\nprices = { gpu = 'L4' }", "expected a list of rows"),
        ("[shop]\npage = 5", r"\[shop\] page is 5; expected a text"),
        ("[shop]\npag = 'x'", r"\[shop\] has pag; expected name, no_spot, page, prices"),
    ],
)
def test_a_price_file_of_another_form_is_named(tmp_path, text, words):
    path = tmp_path / "prices.toml"
    path.write_text(text)
    with pytest.raises(EconomicsError, match=words) as caught:
        read_prices(path)
    assert str(path) in str(caught.value)
    with pytest.raises(EconomicsError, match="cannot be read as TOML"):
        read_prices(tmp_path / "nowhere.toml")


def test_a_price_was_not_read_after_today(tmp_path):
    path, today = tmp_path / "prices.toml", date.today()

    def write(day: date) -> None:
        row = f'{{ gpu = "L4", usd_per_gpu_hour = 1, date = {day} }}'
        path.write_text(f"[shop]\nprices = [{row}]\n")

    write(today + timedelta(days=1))  # it may be tomorrow where it was read
    assert read_prices(path)[0][0].date > today
    write(today + timedelta(days=2))
    with pytest.raises(EconomicsError, match=f"its date is after today, {today}"):
        read_prices(path)


def test_a_row_that_a_person_adds_is_enough(tmp_path):
    path = tmp_path / "prices.toml"
    row = '{ gpu = "L4", usd_per_gpu_hour = 0.8, date = 2026-11-22 }'
    path.write_text(f'[shop]\nname = "A shop"\npage = "https://a.shop"\nprices = [{row}]\n')
    (price,), providers = read_prices(path)
    assert (price.provider, price.gpu, price.usd_per_gpu_hour) == ("shop", "L4", 0.8)
    assert price.source == "https://a.shop" and providers == {
        "shop": {"name": "A shop", "page": "https://a.shop"}
    }
