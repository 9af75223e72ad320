"""Notebook 01's exercises: what they ask for, and the slips that lead astray."""

from __future__ import annotations

import math

import numpy as np

from x1lib.exercises.key import Key
from x1lib.scaling import MUENNIGHOFF_2023, PUBLISHED, identifiability
from x1lib.shapes import count_params

LAW = PUBLISHED["besiroglu2024"].law


def tokens_50m() -> Key:
    count = count_params("50m")
    return Key(
        LAW.optimal_tokens(count.total),
        "Ask the law's `optimal_tokens` at the N that it counts, which is all parameters.",
        {
            LAW.optimal_tokens(count.body): "That is for the body's 54.6M; this law counts all"
            " parameters, the embedding too.",
            20.0 * count.total: "That is the rule of 20; the law has a ratio of its own at this"
            " size.",
        },
    )


def exponent_of_tokens() -> Key:
    alpha, beta = 0.30, 0.40
    return Key(
        alpha / (alpha + beta),
        "N grows as C to the power beta / (alpha + beta). As N times D is C / 6, what is left?",
        {
            beta / (alpha + beta): "That is the exponent of N; tokens take the rest of 1.",
            alpha / beta: "That is how D_opt and N_opt go together; you are asked for D over C.",
        },
    )


def epochs_needed() -> Key:
    scale = MUENNIGHOFF_2023.r_tokens
    return Key(
        1 - scale * math.log(1 - 2 / scale),
        "The worth of e epochs is 1 + R (1 - exp(-(e - 1) / R)) with R = 15.39; set it to 3.",
        {
            3.0: "Three epochs are worth a little less than three fresh ones: repeats wear off.",
            -scale * math.log(1 - 2 / scale): "Those are repetitions; the first epoch comes on"
            " top of them.",
            -scale * math.log(1 - 3 / scale): "The first epoch counts in full: two more, not three,"
            " have to come from repeats.",
        },
        rel_tol=0.01,
    )


def served_tokens() -> Key:
    n_tokens = LAW.optimal(float(LAW.compute_for(2.5))).n_tokens
    return Key(
        3 * n_tokens,
        "Training costs 6 N D, a token served 2 N. Set 6 N D = 2 N S; D is the optimum's at the"
        " compute that reaches 2.5 (`compute_for`).",
        {
            n_tokens: "That is D itself: serving a token costs a third of training on it.",
            n_tokens / 3: "The wrong way round: a token served is cheaper, so it takes more.",
        },
    )


def rank_of_five_sizes() -> Key:
    return Key(
        identifiability(np.geomspace(1e7, 1e8, 5), np.full(5, 1e9)).rank,
        "At one D, what does B / D^beta look like beside E? Ask `identifiability` for the rank.",
        {
            5: "Five runs are five equations, but at one D some of them say the same.",
            4: "E and B / D^beta are one constant there, and beta shows in nothing else: two gone.",
        },
        rel_tol=0,
    )


EXERCISES = (tokens_50m, exponent_of_tokens, epochs_needed, served_tokens, rank_of_five_sizes)
