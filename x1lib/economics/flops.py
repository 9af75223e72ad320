"""Training FLOPs per token under each convention, and model FLOPs utilisation (MFU)."""

from __future__ import annotations

import numpy as np

from x1lib.economics.cards import Gpu, gpu
from x1lib.economics.checks import EconomicsError, number
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
    of seq_len gives an array. Raises EconomicsError for an unknown convention or sequence length.
    """
    if not isinstance(convention, str):
        raise EconomicsError(_unknown(convention))
    length = number("seq_len", seq_len, low=1, whole=True)
    s = resolve(shape)
    n = count_params(s)
    per_token = 12.0 * s.n_layers * s.n_heads * s.head_dim
    attention = per_token * length if length.ndim else per_token * length.item()
    match convention:
        case "palm":
            return 6.0 * n.matmul + attention
        case "causal":
            return 6.0 * n.matmul + attention / 2
        case "6n":
            return 6.0 * n.total
        case "kaplan":
            return 6.0 * n.body
    raise EconomicsError(_unknown(convention))


def _unknown(convention: object) -> str:
    return f"unknown FLOP convention {convention!r}; give one of {', '.join(CONVENTIONS)}"


@np.errstate(over="ignore")
def mfu(
    tokens_per_sec: float,
    shape: object,
    seq_len: int,
    gpu: str | Gpu | float,
    n_gpus: int = 1,
    convention: str = "palm",
) -> float:
    """Model FLOPs utilisation: the fraction of peak FLOP/s that the model's own FLOPs use.

    tokens_per_sec: of all the cards together. gpu: a name (see `x1lib.economics.gpu`), a Gpu, or a
    measured peak in FLOP/s. Raises EconomicsError for a card that the table lacks, because a
    guessed peak makes any MFU; for a quantity that cannot be; and for more than the whole peak.
    """
    rate = number("tokens_per_sec", tokens_per_sec, low=0)
    peak = _peak(gpu) * number("n_gpus", n_gpus, low=1, whole=True)
    share = rate * flops_per_token(shape, seq_len, convention) / peak
    if (share > 1).any():
        raise EconomicsError(
            f"MFU {share.max():.3g} is more than the cards' peak; look whether the card, the number"
            " of cards and tokens_per_sec (of all of them) are right, or at a very long seq_len"
            ' take convention="causal"'
        )
    return share if share.ndim else share.item()


def _peak(card: str | Gpu | float) -> float:
    if isinstance(card, str | Gpu):
        return gpu(card).training_flops_per_sec()
    hint = "; give a card's name, a Gpu, or its measured peak in FLOP/s"
    peak = number("gpu", card, above=0, hint=hint)
    if peak.ndim:
        raise EconomicsError(f"gpu is {card!r}; expected one{hint}")
    return peak.item()
