"""Held-out tokens that stay with a run: its loss can be measured again where its data are gone."""

from __future__ import annotations

import math
import os
import time
from typing import TYPE_CHECKING

import numpy as np
import torch

from x1lib.data import windows
from x1lib.tracking import RecordError

if TYPE_CHECKING:
    from x1lib.session.session import Session

SAMPLE, SAMPLE_TOKENS = "heldout-sample.npy", 65_536


def keep(run: Session, model, results: dict) -> dict | None:
    """Save the first held-out tokens beside the run and return the loss on exactly those.

    results: of the last evaluation, by text. Where it read no more than the sample, its own loss
    stands; else the sample is read once more, as far as the clock allows. None without a text.
    """
    name = next(iter(results), None)
    if name is None:
        return None
    n_read, loss = results[name]["n_tokens"], results[name]["loss"]
    n_tokens = min(n_read, SAMPLE_TOKENS)
    tokens = np.array(run.shards.heldout(name)[: n_tokens + 1])
    if n_tokens < n_read:
        loss, n_tokens = _loss(run, model, tokens)
    _save(run, tokens[: n_tokens + 1])
    return {"file": SAMPLE, "text": name, "loss": loss, "n_tokens": n_tokens}


@torch.no_grad()
def _loss(run: Session, model, tokens: np.ndarray) -> tuple[float, int]:
    """Mean loss [nats a token] and the tokens read, a whole batch at least."""
    nats, n_tokens = 0.0, 0
    until = time.monotonic() + run.pace.seconds_for_last_look
    was_training, device = model.training, model.cos.device
    model.eval()
    for rows in windows(tokens, run.config.window, min(run.plan.micro_batch, 16)):
        rows = torch.from_numpy(rows).long().to(device)
        nats += model(rows[:, :-1], rows[:, 1:], reduction="sum").double().item()
        n_tokens += rows[:, 1:].numel()
        if time.monotonic() > until:
            break
    model.train(was_training)
    if not math.isfinite(nats):
        raise RecordError(f"the loss on the held-out sample is {nats}; the weights are broken")
    return nats / n_tokens, n_tokens


def _save(run: Session, tokens: np.ndarray) -> None:
    path = run.out / SAMPLE
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(aside, "wb") as file:
            np.save(file, tokens, allow_pickle=False)
        os.replace(aside, path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise RecordError(
            f"{path} cannot be written ({error.strerror}); make room and start again"
        ) from error
