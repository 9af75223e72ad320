"""Lab 03's exercises: what they ask for, and the slips that lead astray."""

from __future__ import annotations

from x1lib.economics import GPUS
from x1lib.exercises.key import Key


def bits_a_weight() -> Key:
    return Key(
        4 + 2 * 16 / 64,
        "Each weight has its 4 bits, and 64 of them share a scale and a zero of 16 bits each.",
        {
            4.0: "That leaves out what the group shares, which has to be read as well.",
            4 + 16 / 64: "That is the scale alone; a group of 4-bit codes has a zero, too.",
            4 + 2 * 16 / 32: "That is for groups of 32; this group has 64 weights.",
        },
        rel_tol=0.001,
    )


def texts_until_arithmetic() -> Key:
    card = GPUS["A100-80GB-SXM"]
    ridge = card.bf16_flops_per_sec / card.memory_bytes_per_sec  # FLOPs for each byte read
    return Key(
        0.625 * ridge / 2,
        "A weight is 0.625 bytes, read once a step, and does 2 FLOPs for each text. At which number"
        " of texts do reading and computing take equally long?",
        {
            2 * ridge / 2: "That is for weights in bf16, 2 bytes each; these are smaller.",
            0.625 * ridge: "A weight does a product and a sum for each text: 2 FLOPs, not 1.",
            0.5 * ridge / 2: "That leaves out the scales and zeros, an eighth of a byte a weight.",
        },
    )


def tokens_to_break_even() -> Key:
    return Key(
        12 / (0.08 - 0.05) * 1e6,
        "Each million served on your own model saves the difference of the two prices.",
        {
            12 / 0.05 * 1e6: "That is where serving has cost as much as training; nothing is"
            " compared with the other model.",
            12 / 0.08 * 1e6: "Your own model costs something to serve, too.",
            12 / (0.08 - 0.05): "That is in millions; you are asked for tokens.",
        },
    )


EXERCISES = (bits_a_weight, texts_until_arithmetic, tokens_to_break_even)
