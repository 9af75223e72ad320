"""Reading logs: which choice is behind which line."""

from __future__ import annotations

import math

import numpy as np

from x1lib.published_logs.schedules import cosine, ramped
from x1lib.quiz.question import Bank, Draw, Item
from x1lib.stability import lead

bank = Bank("logs", "05_reading_logs")


@bank("2. Nine lines of GPT-2")
def first_loss(draw: Draw) -> Item:
    vocabulary = draw.pick([4096, 50_257, 128_256, 250_880])
    return Item(
        f"A log begins, at step 0, with a loss near {math.log(vocabulary):.2f} nats a token. Which"
        " vocabulary does that suggest?",
        f"{vocabulary:,} tokens",
        tuple(f"{n:,} tokens" for n in (257, 4096, 50_257, 128_256, 250_880) if n != vocabulary)[
            :3
        ],
        "A model that knows nothing spreads its probability evenly, and pays ln V for each token. A"
        " first loss far above it says that something is wrong with the initialisation.",
    )


@bank("3. What each choice does to the curve")
def warmup_tokens(draw: Draw) -> Item:
    steps, sequences, seq_len = draw.pick(
        [(2000, 1024, 4096), (1000, 512, 2048), (500, 2048, 2048)]
    )
    right = steps * sequences * seq_len
    say = lambda n: f"{n / 1e9:.2f} billion"  # noqa: E731
    return Item(
        f"A log warms up for {steps:,} steps of {sequences:,} sequences of {seq_len:,} tokens. How"
        " many tokens are that?",
        say(right),
        (
            f"{steps * sequences / 1e9:.4f} billion",
            say(right / 2),
            say(sequences * seq_len * 10 * steps),
        ),
        "Papers give warm-up in steps, samples or tokens, logs count in one of them. Nothing can be"
        " compared before it is in one unit.",
    )


@bank("1. One line of BLOOM")
def ramp(draw: Draw) -> Item:
    full, increment = draw.pick([(2048, 16), (2048, 32), (1024, 32)])
    samples = 4_000_000
    batches, _ = ramped(20_000, increment, increment, samples, full)
    right = int(np.argmax(batches == full))
    flat = samples // full
    doubled = samples // increment
    say = lambda n: f"about step {round(n, -2):,}"  # noqa: E731
    return Item(
        f"A batch ramps up from {increment} to {full:,} sequences by {increment}, over the first"
        f" {samples // 10**6} million samples. When is it full?",
        say(right),
        (say(flat), say(doubled), say(2 * flat if abs(2 * flat - right) > 200 else 4 * flat)),
        "Small batches need many steps for their share of the samples, so a ramp in samples takes"
        " far more steps than at the full batch; the curve over steps is stretched there.",
    )


@bank("3. What each choice does to the curve")
def last_drop(draw: Draw) -> Item:
    return Item(
        "A loss falls slowly for 80% of a run and then, with no change of text, faster to the end."
        " What was done?",
        "a constant rate, then a cooldown (WSD)",
        (
            "a cosine over the whole run",
            "a batch that was ramped up late",
            "weight decay that was switched on at the end",
        ),
        "At a constant high rate the loss keeps a part that is the noise of the steps; the cooldown"
        " takes it away at once. Under a cosine it goes little by little.",
    )


@bank("2. Nine lines of GPT-2")
def cosine_rate(draw: Draw) -> Item:
    peak, end = 3e-4, 100_000
    at = draw.pick([25_000, 50_000, 75_000])
    floor, warmup = peak / 10, 2_000
    right = cosine(at, peak, floor, warmup, end)
    line = peak + (floor - peak) * (at - warmup) / (end - warmup)
    zero = cosine(at, peak, 0.0, warmup, end)
    say = lambda v: f"{v:.3g}"  # noqa: E731
    return Item(
        f"Peak 3e-4, warm-up 2,000 of 100,000 steps, a cosine to a tenth of the peak. Which rate"
        f" does the log show at step {at:,}?",
        say(right),
        (
            say(line if at != 50_000 else peak / 2),
            say(zero),
            say(cosine(at, peak, peak / 2, warmup, end)),
        ),
        "Half a cosine between peak and floor, counted from the end of the warm-up. A log whose"
        " rate is elsewhere was resumed, rewound, or planned for another length.",
    )


@bank("6. Real spikes")
def leads(draw: Draw) -> Item:
    n = draw.pick([2, 3, 4, 6])
    loss, norm = np.ones(30), np.ones(30)
    loss[20:], norm[20 - n :] = 4.0, 5.0
    found = lead(loss, norm)
    return Item(
        f"In a log the gradient norm has doubled at line {20 - found} and the loss at line 20. What"
        " does that say?",
        f"the norm led the loss by {n} lines",
        (
            f"the log is shifted by {n} lines: both are of one step",
            f"clipping was late by {n} steps",
            f"the loss led the norm by {n} lines",
        ),
        "The loss is of the weights before the update, the norm of the update to come. BLOOM's norm"
        " led its loss by some steps in the lines that are public; that is no law.",
    )


@bank("3. What each choice does to the curve")
def boundary(draw: Draw) -> Item:
    return Item(
        "At one step the training loss drops by 0.3 nats and stays; the held-out loss of the old"
        " text rises a little. The rate and the batch are as before. What happened?",
        "the text changed: other documents, or ones read before",
        (
            "a spike that was skipped",
            "the gradient was clipped harder",
            "the run was resumed from an earlier checkpoint",
        ),
        "Training loss is of whatever is being read. Where it moves alone, look at the data: a"
        " boundary between sources, or a second epoch.",
    )
