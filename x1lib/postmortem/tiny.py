"""Runs of seconds, held in memory: what a mechanism is shown on."""

from __future__ import annotations

import functools

import numpy as np
import torch

from x1lib import train
from x1lib.data import Shards, prepare
from x1lib.data.sources import EMBEDDED_FILES
from x1lib.pacing import Schedule
from x1lib.planning import Plan
from x1lib.postmortem.rewound import Rewound
from x1lib.runtime import choose_machine

FOREVER = 10**6  # steps that no run of seconds comes to
CHECK_STEPS, CHECK_LR = 10, 1e-2  # of the coordinate check
HELDOUT_TOKENS = 8192  # of each kind


@functools.cache
def text() -> Shards:
    """Shards of the text that comes with the package, books and an encyclopaedia; made once."""
    return Shards(prepare("embedded", "bpe4096", log=lambda line: None))


@functools.cache
def encyclopaedia() -> Shards:
    """The second part of that text alone, which a run can be swapped to."""
    return Shards(prepare(EMBEDDED_FILES[1], "bpe4096", log=lambda line: None))


def steady(warmup_steps: int) -> Schedule:
    """Warm-up to the planned rate, which then holds."""
    return Schedule(warmup_steps, ((FOREVER, 0.0), (FOREVER + 1, 1.0)))


def tiny(warmup_steps: int = 50, width: int = 64, layers: int = 2, **settings) -> Rewound:
    """A run at step 0: 8 sequences of 64 tokens a step, float32, one thread, by default lr 3e-3.

    settings: the trainer's own (train.Config), such as lr, seed, clip, base_width.
    """
    shape = f"{layers}x{width}:{width // 16}/{width // 32}:{3 * width}"
    known = {"out": "none", "tokenizer": "bpe4096", "seq_len": 64, "batch_tokens": 512}
    known |= {"device": "cpu", "dtype": "float32", "compile": "off", "threads": 1}
    config = train.Config(**({"shape": shape, "steps": FOREVER, "lr": 3e-3} | known | settings))
    plan = Plan(64, 8, 8, config.lr, config.lr, config.weight_decay, steady(warmup_steps))
    return Rewound(config, plan, _machine(), text())


def activations(width: int, layers: int = 2, **settings) -> dict[str, float]:
    """The coordinate check's sizes, RMS on the probe's rows after a few steps without warm-up.

    Keys: queries (of the last layer, before QK-norm), stream (the residual stream past it), logits.
    """
    one, seen = tiny(0, width, layers, lr=CHECK_LR, **settings), {}
    one.run(CHECK_STEPS)
    last = one.model.blocks[-1]
    last.attention.q.register_forward_hook(lambda _, __, out: seen.update(queries=out))
    last.register_forward_hook(lambda _, __, out: seen.update(stream=out))
    with torch.no_grad():
        seen["logits"] = one.model(one.probe_rows.long()[:, :-1])
    order = ("queries", "stream", "logits")
    return {name: seen[name].double().square().mean().sqrt().item() for name in order}


def heldout(run: Rewound) -> dict[str, float]:
    """Loss [nats a token] on held-out text of each kind: a book, and the encyclopaedia's pages."""
    ones = np.ones(run.shards.vocab_size, np.int64)  # bytes are not asked for here
    kinds = {"book": (text(), "source"), "encyclopaedia": (encyclopaedia(), "documents")}
    return {
        kind: train.evaluate(run.model, shards.heldout(name), ones, HELDOUT_TOKENS)["loss"]
        for kind, (shards, name) in kinds.items()
    }


@functools.cache
def _machine():
    return choose_machine("cpu", "float32", "auto", "off", True, 1, hours=0.0, total_flops=1.0)
