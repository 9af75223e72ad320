"""After the run: bytes of a quantised model, what bounds decoding, the price of a token."""

from __future__ import annotations

from x1lib.economics import GPUS, flops_per_token
from x1lib.inference.pricing import break_even_tokens, usd_per_million_tokens
from x1lib.inference.roofline import Peak, Work
from x1lib.quiz.question import Bank, Draw, Item, figures
from x1lib.shapes import SHAPES, count_params

bank = Bank("inference", "lab03")


def _work(name: str, n_bytes: float = 2.0) -> Work:
    """A shape's decoding step with weights of so many bytes each and a cache in bf16."""
    s, count = SHAPES[name], count_params(name)
    return Work(
        round(n_bytes * count.matmul),
        count.matmul,
        2 * 2 * s.n_layers * s.n_kv_heads * s.head_dim,
        4 * s.n_layers * s.n_heads * s.head_dim,
    )


@bank("The price")
def price(draw: Draw) -> Item:
    rate, usd, share = draw.pick([(2_000, 1.10, 0.5), (500, 0.60, 0.25), (8_000, 2.50, 0.4)])
    right = usd_per_million_tokens(rate, usd, share)
    say = lambda v: f"${v:.3g}"  # noqa: E731
    return Item(
        f"A machine of ${usd:.2f} an hour decodes {rate:,} tokens a second, in {share:.0%} of the"
        " hours that are billed. What does a million tokens cost?",
        say(right),
        (say(right * share), say(right * share * share), say(right * 60)),
        "Dollars a second over tokens a second; and the idle hours are billed as well, so a quarter"
        " of the use is four times the price.",
    )


@bank("Run: a cache of keys and values")
def cache(draw: Draw) -> Item:
    name, context = draw.pick(["50m", "100m", "240m"]), draw.pick([1024, 2048])
    s, work = SHAPES[name], _work(name)
    right = context * work.cache_bytes_per_token / 1e6
    say = lambda v: f"{v:.1f} MB"  # noqa: E731
    return Item(
        f"`{name}`: {s.n_layers} layers, {s.n_heads} heads and {s.n_kv_heads} key/value heads of"
        f" {s.head_dim}. How large is the cache of one text of {context:,} positions in bf16?",
        say(right),
        (say(right * s.n_heads / s.n_kv_heads), say(right / 2), say(right * s.n_layers)),
        "Keys and values of the key/value heads, 2 bytes each, in every layer. Grouped heads are"
        " there to make this small: with all heads it would be some times as large.",
    )


@bank("Cost: why decoding waits for memory")
def bound(draw: Draw) -> Item:
    card = GPUS[draw.pick(["A100-80GB-SXM", "H100-80GB-SXM"])]
    peak = Peak(card.memory_bytes_per_sec, card.bf16_flops_per_sec, card.source)
    work = _work("240m")
    assert work.bound(1, 0, peak) == "memory"
    micro = 1e6 * work.step_seconds(1, 0, peak)
    compute = 1e6 * 2 * work.matmul_params / peak.flops_per_sec
    say = lambda v: f"{v:.3g} µs"  # noqa: E731
    return Item(
        f"`240m` in bf16 decodes one text on a card of {card.bf16_flops_per_sec / 1e12:.0f} TFLOP/s"
        f" and {card.memory_bytes_per_sec / 1e12:.2f} TB/s. What is the least time of a step by the"
        " roofline, context left out?",
        say(micro),
        (say(compute), say(2 * micro), say(3 * compute)),
        "Every weight is read once for a step, and at batch 1 it does only two FLOPs: memory sets"
        " the pace by two orders of magnitude. So more texts at once are nearly free.",
    )


@bank("What is quantised, and what is not")
def int4(draw: Draw) -> Item:
    name = draw.pick(["50m", "100m"])
    count = count_params(name)
    body = count.matmul - count.embedding
    full, all_int4 = 2 * count.matmul, 0.5 * count.matmul
    body_int4 = 0.5 * body + 2 * count.embedding
    say = lambda v: f"{full / v:.1f} times"  # noqa: E731
    return Item(
        f"`{name}` has {count.matmul / 1e6:.0f}M weights in its products,"
        f" {count.embedding / 1e6:.0f}M of them the head. Only the body goes from bf16 to int4"
        " (scales left out). How much less is read for a token?",
        say(body_int4),
        (say(all_int4), say(0.5 * count.embedding + 2 * body), say(count.matmul)),
        "The head stays in bf16 and is a large part of a small model, so that four times smaller"
        " matrices do not make a four times faster step. Say what is quantised.",
    )


@bank("Does harm grow with training?")
def harm(draw: Draw) -> Item:
    return Item(
        "Two checkpoints of one model, the second trained on four times as many tokens, are"
        " quantised to int4. Which loses more, by Kumar et al. (2024)?",
        "the one that was trained for longer: it has more in its weights to lose",
        (
            "the one that was trained for less: its weights are still random",
            "both the same: rounding does not know how they were trained",
            "the one with the larger loss before",
        ),
        "The harm of rounding after training grows with tokens per parameter. Over-trained small"
        " models are cheap to serve and hard to quantise: a figure for one is none for the other.",
    )


@bank("The price")
def paid_back(draw: Draw) -> Item:
    usd, own, other = draw.pick([(50, 0.02, 0.05), (50, 0.01, 0.06), (40, 0.03, 0.04)])
    right = break_even_tokens(usd, own, other)
    return Item(
        f"Training cost ${usd}. Your model serves a million tokens for ${own:.2f}, the one that"
        f" it takes the place of for ${other:.2f}, on like hardware. After how many tokens has it"
        " paid?",
        figures(right),
        (figures(usd / own * 1e6), figures(usd / other * 1e6), figures(right / 1e3)),
        "Only the difference pays back: dollars over what each million saves. Against an API's"
        " price the sum flatters, since that holds a margin and idle hours.",
    )


@bank("Over-training as an investment")
def forward(draw: Draw) -> Item:
    name = draw.pick(["25m", "50m", "100m"])
    training = flops_per_token(name, 1024)
    say = lambda v: f"{v / 1e6:.0f} MFLOP"  # noqa: E731
    return Item(
        f"A training token of `{name}` costs {training / 1e6:.0f} MFLOP at 1,024 positions. What"
        " does a token cost that is only read, as in prefill?",
        say(training / 3),
        (say(training), say(training / 2), say(2 * training / 3)),
        "The backward pass is twice the forward one: it computes the gradient of the inputs and of"
        " the weights. A token served is a third of one trained.",
    )
