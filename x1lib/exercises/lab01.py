"""Lab 01's exercises: what they ask for, and the slips that lead astray."""

from __future__ import annotations

from x1lib.exercises.key import Key
from x1lib.scaling import PUBLISHED


def share_of_tokens() -> Key:
    apart, starts = 1 + 2 + 4 + 8, 0.8 * (1 + 2 + 4)
    return Key(
        (apart - starts) / apart,
        "Each run but the first starts where the one before it began to cool down: at 0.8 of that"
        " one's tokens.",
        {
            8
            / apart: "That is the longest run alone; the others cool down on tokens of their own.",
            starts / apart: "That is the share that is saved; you are asked for the rest.",
            (apart - (1 + 2 + 4)) / apart: "A run starts where the one before began to cool down,"
            " not where it ended.",
        },
    )


def hidden_lr() -> Key:
    return Key(
        0.001 / (128 / 256),
        "m is the width over the base width, and hidden matrices get lr / m.",
        {
            0.001 * (128 / 256): "A narrower model has m below 1, and the rate is divided by it.",
            0.001: "That is the rate at the base width; this model is narrower.",
        },
    )


def growth_of_tokens() -> Key:
    law = PUBLISHED["besiroglu2024"].law
    return Key(
        1000 ** (law.alpha / law.beta),
        "D_opt goes as N to the power alpha / beta.",
        {
            1000.0: "That would be a fixed number of tokens a parameter, which takes alpha = beta.",
            1000 ** (law.beta / law.alpha): "The exponent is alpha / beta, not beta / alpha.",
            1000**law.a: "That exponent is of compute; you are asked for one of parameters.",
        },
    )


EXERCISES = (share_of_tokens, hidden_lr, growth_of_tokens)
