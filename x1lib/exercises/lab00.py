"""Lab 00's exercises: what they ask for, and the slips that lead astray."""

from __future__ import annotations

from x1lib.economics import flops_per_token
from x1lib.exercises.key import Key
from x1lib.shapes import Shape, count_params


def share_beyond_body() -> Key:
    count, all_flops = count_params("50m"), flops_per_token("50m", 1024)
    by_6n = 1 - count.body / count.total
    head = 6 * (count.matmul - count.body) / all_flops
    return Key(
        1 - 6 * count.body / all_flops,
        "The convention `palm` counts all of them, `kaplan` those of the body alone.",
        {
            6 * count.body / all_flops: "That is the body's own share; you are asked for the rest.",
            by_6n: "That is a share of the parameters; attention costs FLOPs and has none.",
            head: "That is the head alone; attention is beyond the body, too.",
        },
    )


def window_of_equal_cost(shape: Shape) -> Key:
    count, width = count_params(shape), shape.n_layers * shape.n_heads * shape.head_dim
    window = 6 * count.matmul / (12 * width)
    return Key(
        window,
        "Set the two terms of the cost equal: 6 x the parameters in matrix products, and"
        " 12 x layers x width of the heads x window.",
        {
            count.body / (2 * width): "That leaves out the output head, which is a product, too.",
            2 * window: "That is where half of attention's square, the unmasked one, costs as"
            " much; the convention counts all of it.",
        },
    )


EXERCISES = (share_beyond_body, window_of_equal_cost)
