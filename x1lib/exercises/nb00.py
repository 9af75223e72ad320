"""Notebook 00's exercises, a self-check of what the course takes for granted."""

from __future__ import annotations

from x1lib.exercises.key import Key


def times_too_large() -> Key:
    parts = 4
    return Key(
        parts,
        "backward() adds to .grad. Write the batch's mean loss in terms of the means of its parts.",
        {
            1: "That is so once each part's loss is divided by the number of parts, and here none"
            " was.",
            1 / parts: "The sum of the parts' gradients is larger than their mean, not smaller.",
            parts**2: "Each part is a quarter of the batch, but its loss is a mean already.",
        },
        rel_tol=0,
    )


def bits_a_weight() -> Key:
    return Key(
        4 + 16 / 32,
        "Each group of 32 weights shares one scale of 16 bits, which has to be stored too.",
        {
            4: "Those are the codes alone; without their scale nobody can read them.",
            4 + 16: "One scale serves a whole group, not a weight.",
            4 + 2 * 16 / 32: "That counts a zero point as well; this scheme is symmetric.",
        },
        rel_tol=0.001,
    )


def which_parallelism() -> Key:
    return Key(
        "tensor",
        "Is it the text, the layers, or each matrix that is divided among the cards?",
        {
            "data": "There every card has a whole copy of the model and reads a text of its own.",
            "pipeline": "There each card has some of the layers, and all of each of them.",
            "zero": "There weights are divided to be stored, and gathered whole to be used.",
        },
        choices=("data", "tensor", "pipeline", "zero"),
    )


EXERCISES = (times_too_large, bits_a_weight, which_parallelism)
