"""Notebook 05's exercises: what was done to the log that they are read from."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from x1lib.exercises.key import Key

MADE = "experiments/reference/reading-log/truth.json"


@cache
def made() -> dict:
    """What happened in the log "reading-log", and at which step."""
    return json.loads((Path(__file__).resolve().parents[2] / MADE).read_text())


def warmup_olmo2() -> Key:
    tokens, sequences, seq_len = 8_388_608_000, 1024, 4096
    return Key(
        tokens / (sequences * seq_len),
        "A step reads 1,024 sequences of 4,096 tokens: how many such steps make 8,388,608,000?",
        {
            tokens / sequences: "You divided by sequences; the warm-up is given in tokens, and a"
            " sequence has 4,096.",
            tokens / (sequences * 2048): "OLMo 2's sequences have 4,096 tokens, twice OLMo's.",
        },
        rel_tol=0,
    )


def warmup_steps() -> Key:
    said = made()
    return Key(
        said["warmup_steps"],
        "Look for the first step whose rate is the one that then stays, not for the largest rate of"
        " the log.",
        {
            said["bad_rate_steps"][0]: "That is where the rate is largest in all the log, and it"
            " stays there for four steps only. When does it first reach the plateau?",
            said["warmup_steps"] - 1: "Count from 1, as the column `step` does, not from 0.",
        },
        rel_tol=0,
    )


def full_batch_step() -> Key:
    said = made()
    *_, before, full = (int(step) for step in said["batch_tokens_from_step"])
    return Key(
        full,
        "The tokens of a step are what the column `tokens` grows by. From which step on is that at"
        " its largest?",
        {
            before: "There the batch grows for the first time; it grows once more.",
            full - 1: "That is a line, counted from 0, or the last step of the smaller batch: the"
            " column `step` says which step it is.",
        },
        rel_tol=0,
    )


def boundary_step() -> Key:
    said = made()
    return Key(
        said["first_step_of_second_source"],
        "The loss goes up at once, by less than in the spikes, and does not come back: it falls"
        " from there as if it learned anew. Rate and gradient show no fault before it.",
        {
            said["bad_batch_step"]: "There the loss is back after a step: it was one batch.",
            said["bad_rate_steps"][0]: "There the rate is twelve times too high: the loss rises"
            " because the model was hurt.",
            said["first_step_of_second_source"] - 1: "That step's loss still belongs to the first"
            " text. Mind that lines count from 0 and steps from 1.",
        },
        rel_tol=0,
    )


def bad_batch_step() -> Key:
    said = made()
    return Key(
        said["bad_batch_step"],
        "Of the alarms, take the one with an innocent rate whose loss is back after a step or two.",
        {
            said["bad_rate_steps"][0] + 2: "There the logged rate is twelve times too high: that"
            " cause can be named, and it is not the batch.",
            said["first_step_of_second_source"]: "There the loss stays up: other text from then on,"
            " not one batch.",
            said["bad_batch_step"] - 1: "That is the line, counted from 0; what is its step?",
        },
        rel_tol=0,
    )


def resumed_from() -> Key:
    said = made()
    return Key(
        said["resumed_from_step"],
        "Nothing shows in the curve. Look at the column `step` itself: does it always grow? The"
        " state was saved after the step before the first that is done again.",
        {
            said["killed_after_step"]: "That is the last step that the killed process wrote. Which"
            " one had been saved?",
            said["resumed_from_step"] + 1: "That is the first step that was done again; the state"
            " it started from was saved one before.",
        },
        rel_tol=0,
    )


EXERCISES = (
    warmup_olmo2,
    warmup_steps,
    full_batch_step,
    boundary_step,
    bad_batch_step,
    resumed_from,
)
