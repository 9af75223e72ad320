"""Training FLOPs per token under each convention, and model FLOPs utilisation (MFU)."""

from __future__ import annotations

import numpy as np

from x1lib.economics.cards import Gpu, gpu
from x1lib.economics.checks import EconomicsError
from x1lib.shapes import count_params, resolve

CONVENTIONS = {
    "palm": "6 x matmul parameters (head included, lookup not) + full-square attention",
    "6n": "6 x all parameters, attention ignored",
    "kaplan": "6 x body parameters: no head, no attention",
    "causal": "as palm, with only the unmasked half of attention counted",
}


def flops_per_token(shape: object, seq_len: int, convention: str = "palm") -> float:
    """Training FLOPs (forward and backward) for one token of a sequence of seq_len tokens.

    shape: a name, a Shape or a Config. Attention is 12 x n_layers x n_heads x head_dim x seq_len
    (Chowdhery et al. 2022, PaLM, appendix B); grouped key/value heads do not change it. An array
    of seq_len gives an array. Raises EconomicsError for an unknown convention.
    """
    if not np.all(np.asarray(seq_len) >= 1):
        raise EconomicsError(f"seq_len is {seq_len}; a sequence has at least one token")
    s = resolve(shape)
    n = count_params(s)
    attention = 12 * s.n_layers * s.n_heads * s.head_dim * seq_len
    match convention:
        case "palm":
            return 6.0 * n.matmul + attention
        case "causal":
            return 6.0 * n.matmul + attention / 2
        case "6n":
            return 6.0 * n.total
        case "kaplan":
            return 6.0 * n.body
    known = ", ".join(CONVENTIONS)
    raise EconomicsError(f"unknown FLOP convention {convention!r}; give one of {known}")


def mfu(
    tokens_per_sec: float,
    shape: object,
    seq_len: int,
    gpu: str | Gpu | float,
    n_gpus: int = 1,
    convention: str = "palm",
) -> float:
    """Model FLOPs utilisation: the fraction of peak FLOP/s that the model's own FLOPs use.

    gpu: a name (see `x1lib.economics.gpu`), a Gpu, or a measured peak in FLOP/s. Raises
    EconomicsError for a card that the table lacks, because a guessed peak makes any MFU.
    """
    peak = _peak(gpu)
    if not peak > 0 or n_gpus < 1:
        raise EconomicsError(f"peak {peak} FLOP/s on {n_gpus} cards; both must be above zero")
    return tokens_per_sec * flops_per_token(shape, seq_len, convention) / (peak * n_gpus)


def _peak(card: str | Gpu | float) -> float:
    return gpu(card).training_flops_per_sec() if isinstance(card, str | Gpu) else float(card)
