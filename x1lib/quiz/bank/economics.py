"""What a run costs: peaks and bandwidth, MFU, interruptions, memory of many cards."""

from __future__ import annotations

from x1lib.economics import GPUS, flops_per_token, mfu, restarts
from x1lib.economics.memory import GRADIENT_BYTES, MOMENT_BYTES, WEIGHT_BYTES, state_bytes
from x1lib.quiz.question import Bank, Draw, Item, figures
from x1lib.shapes import SHAPES, count_params

bank = Bank("economics", "02_cluster_economics")


@bank("4. One run, four MFUs")
def what_counts(draw: Draw) -> Item:
    name = draw.pick(["25m", "50m", "100m"])
    found = {c: flops_per_token(name, 1024, c) / 1e6 for c in ("palm", "6n", "kaplan", "causal")}
    return Item(
        f"How many MFLOP is a training token of `{name}` at 1,024 positions in PaLM's convention,"
        " to which this course keeps?",
        f"{found['palm']:.0f}",
        tuple(f"{found[c]:.0f}" for c in ("6n", "kaplan", "causal")),
        "Six for each parameter that multiplies an activation, the head among them, and 12 · layers"
        " · width of the heads · window for attention, its whole square. The others leave out"
        " attention, or head and attention, or the masked half.",
    )


@bank("4. One run, four MFUs")
def mfu_of_a_run(draw: Draw) -> Item:
    rate = draw.pick([150_000, 200_000, 220_000])
    right = mfu(rate, "50m", 1024, "A100-80GB-SXM")
    return Item(
        f"`50m` trains at {rate:,} tokens a second on an A100, windows of 1,024. Which MFU is that"
        " (PaLM's convention)?",
        f"{right:.2f}",
        (
            f"{mfu(rate, '50m', 1024, 'A100-80GB-SXM', convention='kaplan'):.2f}",
            f"{right / 2:.2f}",
            f"{right / 3:.2f}",
        ),
        "Tokens a second times FLOPs a token, over 312 TFLOP/s of dense bf16. Half of it would be"
        " the sparse peak of the data sheet; 6 times the body leaves out head and attention.",
    )


@bank("1. A card is two numbers")
def ridge(draw: Draw) -> Item:
    name = draw.pick(["A100-80GB-SXM", "H100-80GB-SXM", "H200-141GB-SXM"])
    card = GPUS[name]
    right = card.bf16_flops_per_sec / card.memory_bytes_per_sec
    return Item(
        f"{name}: {card.bf16_flops_per_sec / 1e12:.0f} TFLOP/s in bf16,"
        f" {card.memory_bytes_per_sec / 1e12:.2f} TB/s. From how many FLOPs a byte on does"
        " arithmetic, not memory, set the pace?",
        f"{right:.0f}",
        (f"{2 * right:.0f}", f"{right / 8:.0f}", f"{1000 / right:.1f}"),
        "The ridge is peak FLOP/s over bytes a second. Below it, as in decoding one text, faster"
        " arithmetic buys nothing.",
    )


@bank("2. Spot against on-demand")
def young(draw: Draw) -> Item:
    save, between = draw.pick([(0.02, 4.0), (0.05, 6.0), (0.01, 2.0)])
    right = float(restarts.young_interval(save, between))
    return Item(
        f"A save takes {save:g} h and a spot machine lasts {between:g} h on average. How many hours"
        " of work between saves cost least, by Young (1974)?",
        f"{right:.3g}",
        (f"{(save * between) ** 0.5:.3g}", f"{between / 2:.3g}", f"{2 * save * between:.3g}"),
        "The square root of 2 · save · mean: a shorter interval saves too often, a longer one loses"
        " too much, and at this one both cost the same.",
    )


@bank("6. Above ten billion: memory")
def sharded(draw: Draw) -> Item:
    n, cards = 7e9, draw.pick([8, 16, 64])
    by_stage = [sum(state_bytes(n, cards, stage).values()) / 1e9 for stage in (3, 1, 0)]
    bf16 = 2 * n / cards / 1e9
    return Item(
        f"A model of 7B parameters is trained on {cards} cards under ZeRO-3. How many GB of"
        f" weights, gradients and moments does each hold, at"
        f" {WEIGHT_BYTES + GRADIENT_BYTES + MOMENT_BYTES} bytes a parameter?",
        f"{by_stage[0]:.1f}",
        (f"{by_stage[1]:.1f}", f"{by_stage[2]:.1f}", f"{bf16:.2f}"),
        "Stage 3 divides all three among the cards; stage 1 the moments alone. Activations come on"
        " top, and weights have to be fetched layer by layer: that is paid in traffic.",
    )


@bank("7. Above ten billion: traffic")
def bubble(draw: Draw) -> Item:
    stages, passes = draw.pick([(4, 16), (8, 32), (16, 64)])
    right = (stages - 1) / (passes + stages - 1)
    return Item(
        f"A pipeline of {stages} stages takes {passes} passes a step. Which share of the time does"
        " a card wait?",
        f"{right:.1%}",
        (
            f"{(stages - 1) / passes:.1%}",
            f"{stages / (passes + stages):.1%}",
            f"{1 / stages:.1%}",
        ),
        "Of passes + stages − 1 slots, stages − 1 are idle. Papers print idle over busy, which is"
        " larger; more passes a step make both small.",
    )


@bank("4. One run, four MFUs")
def gqa(draw: Draw) -> Item:
    s = SHAPES["50m"]
    count = count_params(s)
    return Item(
        "Key/value heads are halved (GQA), all else kept. What becomes of the 12 · layers · heads ·"
        " head_dim · window FLOPs of attention?",
        "nothing: every query head still meets every position",
        (
            "they halve, as the key/value heads do",
            "they fall by the share of keys and values in the weights",
            "they double, because each head is used twice",
        ),
        "Grouped heads share keys and values; the products of queries with them are as many. What"
        f" shrinks is the projections' weights (a part of {figures(count.matmul)} at `50m`) and the"
        " cache.",
    )
