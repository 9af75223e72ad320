"""The settings that runs were published with, each with where it was read, and quoted log lines."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from x1lib.published_logs.reading import UNITS, Log, LogError

FACTS = Path(__file__).parent / "facts.json"
# What is asked of each run, and the words for it.
FIELDS = {
    "tokens": "training tokens",
    "batch": "batch [tokens]",
    "batch_ramp": "batch ramp",
    "lr_peak": "peak learning rate",
    "schedule": "schedule",
    "warmup": "warm-up",
    "beta2": "Adam's beta2",
    "eps": "Adam's epsilon",
    "weight_decay": "weight decay",
    "clip": "gradient clipping",
    "norm": "norms",
    "qk_norm": "QK-norm",
    "z_loss": "z-loss",
    "init": "initialisation",
    "precision": "precision",
    "data_order": "data order",
    "tokenizer": "tokeniser",
    "seq_len": "sequence length [tokens]",
}


@dataclass(frozen=True)
class Fact:
    """One published setting: a number or words, and where it was read (a key of `sources`)."""

    value: float | int | str
    source: str


@dataclass(frozen=True)
class PublishedRun:
    """A run as published. facts: every name of FIELDS, None where it is not known here.

    log: what of its training log is public, and how that was looked for. sources: title, address,
    date of the source and day it was read, by the keys that facts name.
    """

    name: str
    log: str
    sources: dict[str, dict[str, str]]
    facts: dict[str, Fact | None]

    def value(self, field: str):
        """A fact's value, None where it is not known."""
        fact = self.facts[field]
        return None if fact is None else fact.value


@cache
def _file() -> dict:
    return json.loads(FACTS.read_text())


def runs() -> dict[str, PublishedRun]:
    """Every published run by name, in the order of the file."""
    found = {}
    for name, said in _file()["runs"].items():
        facts = {
            field: None if given is None else Fact(*given) for field, given in said["facts"].items()
        }
        found[name] = PublishedRun(name, said["log"], said["sources"], facts)
    return found


def quoted(name: str) -> Log:
    """A few lines of a published log, quoted with their source; raises LogError for none such."""
    quotes = _file()["quoted"]
    if name not in quotes:
        raise LogError(f"no lines are quoted of {name!r}; there are {', '.join(quotes)}")
    said = quotes[name]
    rows = np.array(said["rows"], float).T
    columns = dict(zip(said["columns"], rows, strict=True))
    return Log(name, {k: columns[k] for k in UNITS if k in columns}, said["source"])
