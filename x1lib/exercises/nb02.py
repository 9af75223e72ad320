"""Notebook 02's exercises: what they ask for, and the slips that lead astray."""

from __future__ import annotations

import math

from x1lib.economics import GPUS, restarts
from x1lib.economics.published_clusters import LLAMA_2_70B
from x1lib.exercises.key import Key
from x1lib.shapes import count_params


def texts_at_ridge() -> Key:
    h100 = GPUS["H100-80GB-SXM"]
    ridge = h100.bf16_flops_per_sec / h100.memory_bytes_per_sec
    return Key(
        ridge,
        "Each weight is 2 bytes, read once, and does 2 FLOPs for each text: B texts do B FLOPs a"
        " byte. At which B do arithmetic and memory take equally long?",
        {
            2 * ridge: "That is twice too many: the data sheet's figure with sparsity, or 1 FLOP"
            " a weight where a product and a sum are 2.",
            ridge / 2: "That is half: a weight is 2 bytes, and each text does 2 FLOPs with it.",
        },
    )


def usd_a_useful_hour() -> Key:
    def at(interval: float, price: float = 1.10) -> float:
        return price * float(restarts.slowdown(interval, 0.02, 0.2, 2.0))

    young = float(restarts.young_interval(0.02, 2.0))
    simple = 1.10 * (1 + 0.02 / young + (young / 2 + 0.2) / 2.0)
    return Key(
        at(young),
        "Find Young's interval for a save of 0.02 h and a mean of 2 h, ask"
        " `restarts.slowdown` for the hours billed to a useful one, then multiply by the price.",
        {
            simple: "That is the simple sum, which forgets that work done again can be lost again;"
            " at 2 h it matters. Daly's formula is `restarts.slowdown`.",
            at(2.0): "You saved once in 2 h, the time between interruptions; Young's interval is"
            " the square root of 2 x save x mean.",
            at(young, 1.79): "That is the price on demand; the spot card costs 1.10.",
        },
        rel_tol=0.01,
    )


def h200s() -> Key:
    n, card_bytes = count_params(LLAMA_2_70B).total, GPUS["H200-141GB-SXM"].memory_bytes
    exact = 16 * n / (0.9 * card_bytes)
    return Key(
        math.ceil(exact),
        "Divide 16 bytes of each of 68,976,648,192 parameters by nine tenths of 141 GB. Cards come"
        " whole: round up.",
        {
            exact: "Nobody rents a part of a card here: round up.",
            math.floor(exact): "So many hold a little less than all of it: round up.",
            math.ceil(2 * n / (0.9 * card_bytes)): "That holds the weights in bf16 alone; training"
            " keeps 16 bytes of each parameter.",
        },
        rel_tol=0,
    )


def idle_share() -> Key:
    stages, passes = 8, 64
    return Key(
        (stages - 1) / (passes + stages - 1),
        "The card works for 64 passes and waits for 7; what share of all that time is the wait?",
        {
            (stages - 1) / passes: "That is idle over busy, which papers print as the bubble; you"
            " are asked for idle over all.",
            stages / (passes + stages): "Of 8 stages a pass crosses 7 edges: the last stage waits"
            " for 7 passes, not for 8.",
        },
        rel_tol=0.01,
    )


EXERCISES = (texts_at_ridge, usd_a_useful_hour, h200s, idle_share)
