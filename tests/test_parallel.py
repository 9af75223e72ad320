"""Many cards and interruptions: the arithmetic against papers, real tensors, and simulated runs."""

import math

import numpy as np
import pytest
import torch

from x1lib.economics import GPUS, EconomicsError, memory, parallel, restarts
from x1lib.economics.parallel import Layout, networks, step
from x1lib.economics.published import PUBLISHED_RUNS
from x1lib.economics.published_clusters import (
    LLAMA_2_70B,
    LLAMA_2_BATCH_TOKENS,
    LLAMA_2_SEQ_LEN,
    MEGATRON_TABLE_1,
    ZERO_FIGURE_1,
)
from x1lib.shapes import count_params
from x1lib.train import GPT, Config

A100, H100 = "A100-80GB-SXM", "H100-80GB-SXM"
NVLINK = networks(A100)["NVLink + InfiniBand"]
BIG, TOKENS, WINDOW = LLAMA_2_70B, LLAMA_2_BATCH_TOKENS, LLAMA_2_SEQ_LEN


def of_70b(layout, network=NVLINK, gpu=A100):
    return step(BIG, layout, gpu, network, TOKENS, WINDOW)


# Memory


@pytest.mark.parametrize("zero", range(4))
def test_zero_divides_memory_as_its_paper_says(zero):
    """7.5B parameters on 64 cards: 120, 31.4, 16.6 and 1.9 GB, to the digits printed."""
    states = parallel.state_bytes(7.5e9, Layout(dp=64, zero=zero))
    assert round(sum(states.values()) / 1e9, 1) == ZERO_FIGURE_1[zero]


def test_the_states_are_what_torch_holds():
    """bf16 weights and gradients, and AdamW over copies in float32: 16 bytes a parameter."""
    model = GPT(Config(shape="2x64", steps=1), vocab_size=512).bfloat16()
    master = [p.detach().float().requires_grad_() for p in model.parameters()]
    optimizer = torch.optim.AdamW(master)
    model(torch.zeros(1, 8, dtype=torch.long), torch.zeros(1, 8, dtype=torch.long)).backward()
    for copy, p in zip(master, model.parameters(), strict=True):
        copy.grad = p.grad.float()
    optimizer.step()
    moments = [s[key] for s in optimizer.state.values() for key in ("exp_avg", "exp_avg_sq")]
    held = {
        "weights": list(model.parameters()),
        "gradients": [p.grad for p in model.parameters()],
        "optimizer": master + moments,
    }
    n_params = sum(p.numel() for p in model.parameters())
    assert parallel.state_bytes(n_params, Layout()) == {
        part: sum(t.numel() * t.element_size() for t in tensors) for part, tensors in held.items()
    }


def test_a_70b_has_the_parameters_of_its_published_checkpoint():
    assert count_params(BIG).total == 68_976_648_192


def test_recomputation_keeps_one_layer_and_the_inputs_of_the_rest():
    kept = parallel.memory(BIG, Layout(dp=8), WINDOW)["activations"]
    whole = parallel.memory(BIG, Layout(dp=8, recompute=False), WINDOW)["activations"]
    a_layer = 2 * memory.activation_elements_per_token(BIG) * WINDOW
    assert whole == 80 * a_layer
    assert kept == 80 * 2 * 8192 * WINDOW + a_layer


def test_a_pipelines_first_stage_holds_a_micro_batch_for_each_stage():
    one, deep = Layout(recompute=False), Layout(pp=8, recompute=False)
    single = parallel.memory(BIG, one, WINDOW)["activations"]
    assert parallel.memory(BIG, deep, WINDOW, passes=64)["activations"] == single
    assert parallel.memory(BIG, deep, WINDOW, passes=2)["activations"] == single / 4


# Traffic


def test_zero_moves_what_its_paper_says():
    """Twice the weights a step for DP and stages 1 and 2, three times for stage 3 (section 7)."""
    weights = 2 * count_params(BIG).total
    for zero, times in parallel.ZERO_PASSES.items():
        sent = parallel.traffic(BIG, Layout(dp=1024, zero=zero), WINDOW)["data"]
        assert math.isclose(sent, times * weights * 1023 / 1024)


def test_tensor_parallelism_reduces_four_times_a_layer():
    sent = parallel.traffic(BIG, Layout(tp=8, recompute=False), WINDOW, passes=3)["tensor"]
    assert sent == 3 * 80 * 4 * (2 * 7 / 8) * (2 * WINDOW * 8192)
    again = parallel.traffic(BIG, Layout(tp=8), WINDOW, passes=3)["tensor"]
    assert again == sent * 6 / 4


def test_a_ring_leaves_a_machine_over_the_nics_of_its_cards():
    inside, out = NVLINK.link_bytes_per_sec, NVLINK.nic_bytes_per_sec
    assert (inside, out) == (300e9, 25e9)
    assert NVLINK.bytes_per_sec(8, 1) == inside
    assert NVLINK.bytes_per_sec(64, 1) == 8 * out
    assert NVLINK.bytes_per_sec(64, 4) == 2 * out
    assert NVLINK.bytes_per_sec(64, 8) == out
    alone = networks(A100)["InfiniBand alone"]
    assert alone.bytes_per_sec(2, 1) == out


# Time


def test_the_arithmetic_lies_near_ten_published_clusters():
    """Megatron-LM's table 1, 1.7B to 1T parameters: one assumed efficiency, all within 1.3."""
    ratios = []
    for row in MEGATRON_TABLE_1:
        assert math.isclose(count_params(row.shape).total, row.n_params, rel_tol=0.04), row
        made = step(row.shape, row.layout, A100, NVLINK, row.sequences * 2048, 2048)
        assert made.fits, row
        ratios.append(made.mfu * 4 / 3 * 312 / row.tflops_per_sec)  # they count recomputation
    assert all(1 / 1.3 < ratio < 1.3 for ratio in ratios), ratios
    # The small ones are slower than the arithmetic says: their matrices are small.
    assert ratios[0] > ratios[-1]


def test_it_is_a_ceiling_for_llama_2_70b():
    """About 2,000 A100s; published hours mean 43.5% by 6ND; the best layout may reach 54%."""
    (run,) = [run for run in PUBLISHED_RUNS if run.name == "Llama-2-70B"]
    best = parallel.fastest(parallel.steps(BIG, A100, NVLINK, 2048, TOKENS, WINDOW))
    top = next(iter(best.values()))
    assert run.implied_mfu() < top.mfu < 1.3 * run.implied_mfu()


def test_the_bubble_is_stages_less_one_over_passes():
    parts = of_70b(Layout(tp=8, pp=8, dp=4, zero=1)).seconds_by_part
    busy = parts["products"] + parts["tensor traffic"]
    assert math.isclose(parts["pipeline idle"], 7 / 256 * busy)


def test_no_layout_beats_its_kernels_and_the_parts_add_up():
    for made in parallel.steps(BIG, H100, networks(H100)["NVLink + InfiniBand"], 64, TOKENS, 4096):
        assert 0 < made.mfu <= parallel.KERNEL_EFFICIENCY
        assert math.isclose(made.seconds, sum(made.seconds_by_part.values()))
        assert made.layout.cards == 64


def winners(network: str, cards: int, gpu: str = A100) -> list[str]:
    found = parallel.steps(BIG, gpu, networks(gpu)[network], cards, TOKENS, WINDOW)
    return list(parallel.fastest(found))


def test_regimes_of_a_70b():
    assert winners("NVLink + InfiniBand", 8) == []  # 1.1 TB into 0.64
    assert winners("NVLink + InfiniBand", 256)[0] == "TP + ZeRO-3"
    assert winners("InfiniBand alone", 64)[0] == "ZeRO-3"  # TP needs NVLink
    assert winners("NVLink + Ethernet", 256)[0] == "TP + PP + ZeRO-1"
    # 1,024 sequences are no more than 1,024 copies: beyond, ZeRO alone has nothing to divide.
    assert "ZeRO-3" not in winners("NVLink + InfiniBand", 2048)
    assert not {"DP", "ZeRO-1", "ZeRO-2"} & set(winners("NVLink + InfiniBand", 1024))


@pytest.mark.parametrize(
    ("layout", "said"),
    [
        (Layout(dp=2048, zero=3), "0.5 passes"),
        (Layout(tp=128), "has to divide 64 heads"),
        (Layout(pp=128), "at most 80 layers"),
    ],
)
def test_a_layout_that_cannot_be_is_refused(layout, said):
    with pytest.raises(EconomicsError, match=said):
        of_70b(layout)


def test_a_card_without_nvlink_is_refused():
    with pytest.raises(EconomicsError, match="no NVLink"):
        networks("L40S")
    assert GPUS["A100-80GB-PCIe"].link_bytes_per_sec
    with pytest.raises(EconomicsError, match="no NVLink"):
        networks("A100-80GB-PCIe")


# Interruptions


SAVE, RESTART, MEAN = 0.02, 0.2, 8.0  # hours


@pytest.mark.parametrize("interval", [0.2, 0.5, 2.0])
def test_the_formula_is_what_simulated_runs_take(interval):
    """400 runs of 96 h, each played out; within four standard errors or 1%."""
    billed = restarts.simulate(96, interval, SAVE, RESTART, MEAN, n_runs=400, seed=1) / 96
    said = restarts.slowdown(interval, SAVE, RESTART, MEAN)
    error = billed.std() / math.sqrt(len(billed))
    assert abs(billed.mean() - said) < max(4 * error, 0.01 * said)


def test_the_simulation_would_tell_a_wrong_formula():
    """Young's sum without its half (a loss costs half an interval on average) is found out."""
    billed = restarts.simulate(96, 2.0, SAVE, RESTART, MEAN, n_runs=400, seed=1) / 96
    wrong = 1 + SAVE / 2.0 + (2.0 + RESTART) / MEAN
    assert abs(billed.mean() - wrong) > 4 * billed.std() / math.sqrt(len(billed))


def test_youngs_interval_is_near_the_best():
    every = np.geomspace(0.05, 8, 2000)
    best = restarts.slowdown(every, SAVE, RESTART, MEAN).min()
    ours = restarts.slowdown(restarts.young_interval(SAVE, MEAN), SAVE, RESTART, MEAN)
    assert best <= ours < 1.001 * best


def test_without_interruptions_only_the_saves_cost():
    billed = restarts.simulate(24, 1.0, SAVE, RESTART, 1e12, n_runs=3)
    assert np.allclose(billed, 24 * (1 + SAVE))
    assert math.isclose(restarts.slowdown(1.0, SAVE, RESTART, 1e9), 1 + SAVE, rel_tol=1e-6)


@pytest.mark.parametrize("wrong", [0, -1, math.nan, "often"])
def test_an_impossible_rate_is_refused(wrong):
    with pytest.raises(EconomicsError, match="mean_hours_between"):
        restarts.young_interval(SAVE, wrong)
