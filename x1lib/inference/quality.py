"""What a changed model lost: loss, bits per byte and divergence from the full one."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from x1lib.data import DataError, windows
from x1lib.train import pair


@dataclass(frozen=True)
class Quality:
    """Of one model on held-out text; kl and agreement are None without a full one beside it."""

    loss: float  # nats a token
    bits_per_byte: float
    kl: float | None  # nats a token: KL(full || this)
    agreement: float | None  # share of positions with the same likeliest token
    n_tokens: int
    n_bytes: int

    def rise(self, full: Quality) -> float:
        """How much higher the loss is, as a share of the full model's."""
        return self.loss / full.loss - 1


@torch.no_grad()
def quality(
    models: dict[str, object],
    tokens,
    token_bytes,
    seq_len: int,
    full: str | None = None,
    max_tokens: int = 0,
    batch_size: int = 8,
) -> dict[str, Quality]:
    """Measure models side by side over windows of held-out tokens[n], each token once.

    models: name -> tokens [batch, seq] to logits [batch, seq, vocab]. full: the name that the
    others diverge from; None: the first. Bits per byte is a ratio of sums, and a special token
    stands for no byte.
    """
    tokens = tokens[: max_tokens + 1] if max_tokens else tokens
    full = full or next(iter(models))
    sums = {name: torch.zeros(3, dtype=torch.float64) for name in models}  # nats, kl, same
    n_tokens = n_bytes = 0
    for rows in windows(tokens, seq_len, batch_size):
        device = next(models[full].parameters()).device
        inputs, targets = pair(torch.from_numpy(rows), device)
        own = F.log_softmax(models[full](inputs).flatten(0, 1), -1)
        for name, model in models.items():
            if name == full:
                here = own
            else:
                here = F.log_softmax(model(inputs).flatten(0, 1), -1)
            nats = F.nll_loss(here, targets.flatten(), reduction="sum")
            kl = (own.exp() * (own - here)).sum()
            same = (own.argmax(-1) == here.argmax(-1)).sum()
            sums[name] += torch.stack((nats, kl, same)).double().cpu()
        n_tokens += targets.numel()
        n_bytes += int(token_bytes[rows[:, 1:]].sum())
    if not n_bytes:
        raise DataError("the held-out text holds no byte to predict; give more text")
    found = {}
    for name, (nats, kl, same) in ((name, s.tolist()) for name, s in sums.items()):
        bits = nats / (math.log(2) * n_bytes)
        beside = (None, None) if name == full else (max(0.0, kl / n_tokens), same / n_tokens)
        found[name] = Quality(nats / n_tokens, bits, *beside, n_tokens, n_bytes)
    return found
