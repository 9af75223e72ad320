"""Spikes: what makes them, what finds them, what mends them."""

from __future__ import annotations

import math

import numpy as np

from x1lib.pacing import Schedule
from x1lib.quiz.question import Bank, Draw, Item
from x1lib.stability import detect, largest_update

bank = Bank("stability", "04_training_stability")


@bank("2. Adam's update, and a second moment that is late")
def late_moment(draw: Draw) -> Item:
    beta2 = draw.pick([0.98, 0.99, 0.999])
    right = largest_update(0.9, beta2)
    return Item(
        "After a long quiet stretch the gradient jumps to a hundred million times its size and"
        f" stays. With beta1 0.9 and beta2 {beta2}, how many learning rates is Adam's largest"
        " update?",
        f"{largest_update(0.9, beta2, 1e8):.1f}",
        (
            f"{largest_update(0.9, 0.95):.1f}",
            f"{1 / math.sqrt(1 - beta2):.1f}",
            f"{right * right:.1f}",
        ),
        "The second moment forgets in 1 / (1 − beta2) steps and the first in ten: until it has"
        " caught up, the update is divided by too little. At beta2 0.95 it is 1.1 at most, which is"
        " why this course takes it.",
    )


@bank("8. Alarms")
def probe(draw: Draw) -> Item:
    return Item(
        "At a spike the batch's loss is up by 2 nats, and the loss of a fixed held-out probe after"
        " the update has not moved. What happened?",
        "the batch was hard or broken; the model is not damaged",
        (
            "the weights are damaged, and the batch was ordinary",
            "the learning rate is too high for this width",
            "the second moment was late: lower beta2",
        ),
        "Loss is measured before the update, so a bad batch shows at once. A damaged model shows on"
        " every text afterwards; a probe tells the two apart.",
    )


@bank("8. Alarms")
def short_windows(draw: Draw) -> Item:
    k, window = 7.0, draw.pick([32, 40, 48])
    values = np.zeros(2 * window)
    values[::2] = 0.01
    values[-1] = 1e6
    assert not len(detect(values, "llmc", window=window, k=k))
    return Item(
        f"A rule flags what is over {k:g} standard deviations above the mean of the last {window}"
        " values, the value itself among them. A loss goes to a million. Is it flagged?",
        f"no: no score can pass the root of {window - 1}, {math.sqrt(window - 1):.1f}",
        (
            f"yes, with a score of a million over {k:g}",
            f"yes, once {window} more values have come",
            "no: a rule of deviations never flags a single value",
        ),
        "The value widens the deviation that it is measured by. llm.c's window of 128 allows 11.3;"
        " a robust level from medians of earlier values has no such ceiling.",
    )


@bank("5. Clipping, and what it does not mend")
def clipping(draw: Draw) -> Item:
    return Item(
        "The gradient is clipped to norm 1 all along, and Adam's learning rate is ten times too"
        " high. What does clipping at 0.1 change?",
        "little: Adam divides a constant scale out again",
        (
            "the updates become ten times smaller, and the run is saved",
            "the second moment grows, so that updates become larger",
            "the weight decay becomes ten times stronger",
        ),
        "A constant factor on the gradient is in the first moment and in the root of the second."
        " Clipping helps against a gradient that is suddenly larger than those before it.",
    )


@bank("7. One rate for all widths")
def mup(draw: Draw) -> Item:
    base, width, lr = draw.pick([(64, 256, 0.01), (128, 768, 0.006), (256, 640, 0.004)])
    m = width / base
    return Item(
        f"muP with Adam: the rate {lr:g} was tuned at width {base}. Which rate do the hidden"
        f" matrices of width {width} get?",
        f"{lr / m:.4g}",
        (f"{lr * m:.4g}", f"{lr:.4g}", f"{lr / math.sqrt(m):.4g}"),
        "Hidden matrices get lr / m with m = width over base width; their initial deviation is"
        " divided by the root of m. Depth is not covered.",
    )


@bank("9. Recovery: a tree of questions")
def placebo(draw: Draw) -> Item:
    return Item(
        "Leaving out the spike's batches ends 0.02 nats better than the untouched control. Leaving"
        " out innocent batches (a placebo) ends up to 0.03 nats from it. What is shown?",
        "nothing: the gain lies within what any change of batches does",
        (
            "that the batches were the cause",
            "that the state was damaged before the spike",
            "that 0.03 nats can be had by skipping more",
        ),
        "Any change of the order of batches moves the end a little. The placebo measures how much;"
        " only a gain beyond it says something about the cure.",
    )


@bank("3. Warm-up")
def warm_up(draw: Draw) -> Item:
    total, share = draw.pick([(2_000, 0.02), (600, 0.02), (20_000, 0.02)])
    right = Schedule.of(total, share, 0.2).warmup_steps
    others = {round(share * total), 100, total // 10, 2 * right, right // 2} - {right}
    a, b, c = (f"{n} steps" for n in sorted(others)[:3])
    return Item(
        f"A run of {total:,} steps asks for a warm-up of {share:.0%}; the trainer takes at least"
        " 100 steps where that is under a tenth of the run. How long is it?",
        f"{right} steps",
        (a, b, c),
        "Adam's second moment is an average over a few steps at first, and its updates are as large"
        " as the rate allows. Short runs need the 100 steps too, but never more than a tenth.",
    )
