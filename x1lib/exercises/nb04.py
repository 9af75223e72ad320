"""Notebook 04: what its exercises ask for, and the slips that lead astray."""

from __future__ import annotations

import math

from x1lib.exercises.key import Key
from x1lib.postmortem import CAUSES
from x1lib.stability import largest_update


def largest_at_98() -> Key:
    return Key(
        largest_update(0.9, 0.98),
        "Take the largest of (1 - 0.9^n) / sqrt(1 - 0.98^n) over n, or ask"
        " `stability.largest_update`.",
        {
            0.1 / math.sqrt(0.02): "That is the first step alone; m has come a tenth of the way"
            " there and goes on rising.",
            1 / math.sqrt(0.02): "That is m in full over the first step's v; by then v has moved,"
            " too.",
        },
        rel_tol=0.01,
    )


def settled_rms() -> Key:
    lr, decay = 3e-4, 0.1
    return Key(
        math.sqrt(lr / (2 * decay)),
        "What a step takes off w^2, 2 lr decay w^2, equals what it adds, lr^2. Solve for w.",
        {
            math.sqrt(lr / decay): "The square of 1 - lr decay takes off twice lr decay: a factor"
            " of 2 is missing under the root.",
            lr / (2 * decay): "That is the mean square; the root is asked for.",
        },
    )


def hidden_rate() -> Key:
    rate, m = 0.008, 1024 / 128
    return Key(
        rate / m,
        "Aligned sums grow with the width, so the rate of hidden matrices falls with it.",
        {
            rate / math.sqrt(m): "The root belongs to random sums, the initial weights; updates"
            " are aligned.",
            rate: "That is what embedding and norms keep; hidden matrices are eight times wider.",
        },
    )


def cause_of_spike() -> Key:
    named = tuple(cause for cause in CAUSES if cause not in ("clean", "unknown"))
    return Key(
        "rare-token",
        "Ask in the tree's order: rate, update, moments, and only then what the batch holds.",
        {
            "corrupt-data": "The batch it is; but what is odd is which tokens it holds, not that"
            " they lost their order.",
            "adam-beta2": "Then updates would be several times their usual size, the gradient over"
            " the root of v too, and any batch would do it.",
            "lr-too-high": "Rate and update are as usual.",
        },
        choices=named,
    )


EXERCISES = (largest_at_98, settled_rms, hidden_rate, cause_of_spike)
