"""Lab 02's exercises: what they ask for, and the slips that lead astray."""

from __future__ import annotations

from x1lib.exercises.key import Key

STEP_TOKENS, SPIKE, CHECKPOINT, SKIPPED = 262_144, 20_000, 19_900, 200


def tokens_lost() -> Key:
    again = SPIKE - CHECKPOINT
    return Key(
        (again + SKIPPED) * STEP_TOKENS,
        "Count the steps from the checkpoint to the spike, and the batches that are left out.",
        {
            again * STEP_TOKENS: "Those are the steps thrown away; batches left out are lost too.",
            SKIPPED * STEP_TOKENS: "Those are the batches left out; steps were thrown away too.",
        },
        rel_tol=0,
    )


def what_it_was() -> Key:
    return Key(
        "state",
        "Which row or which column is high?",
        {
            "data": "Then the old state would suffer from the spike's batches as well.",
            "both": "Then the state at the spike would not suffer from other batches.",
        },
        choices=("data", "state", "both"),
    )


EXERCISES = (tokens_lost, what_it_was)
