"""Causal attention kernels by name: the same mathematics, each with its own rounding and speed."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F


def _sdpa(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return F.scaled_dot_product_attention(
        q, k, v, is_causal=True, enable_gqa=q.shape[1] != k.shape[1]
    )


def _blocked(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Causal attention by blocks of queries, each against the keys that it may see.

    bf16 products around a float32 softmax: on a CPU with bf16 instructions this beats SDPA, whose
    backward in bf16 falls back to slow code. Same mathematics, other rounding.
    """
    k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for x in (k, v))
    seq_len, scale = q.shape[2], q.shape[3] ** -0.5
    blocks = []
    for start in range(0, seq_len, 64):
        end = min(start + 64, seq_len)
        scores = (q[:, :, start:end] @ k[:, :, :end].transpose(-1, -2)).float() * scale
        unseen = torch.ones(end - start, end, dtype=torch.bool, device=q.device).triu(start + 1)
        weights = scores.masked_fill(unseen, float("-inf")).softmax(-1).to(q.dtype)
        blocks.append(weights @ v[:, :, :end])
    return torch.cat(blocks, dim=2)


def _plain(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Causal attention as its formula reads: every score, those of later keys hidden, a softmax.

    All [seq, seq] scores are in memory at once and half of them are thrown away: the reference,
    and the rung of the ladder that the other kernels are measured against.
    """
    k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for x in (k, v))
    seq_len, scale = q.shape[2], q.shape[3] ** -0.5
    scores = (q @ k.transpose(-1, -2)).float() * scale
    unseen = torch.ones(seq_len, seq_len, dtype=torch.bool, device=q.device).triu(1)
    return scores.masked_fill(unseen, float("-inf")).softmax(-1).to(q.dtype) @ v


def _flash2(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    from flash_attn import flash_attn_func

    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return flash_attn_func(q, k, v, causal=True, deterministic=True).transpose(1, 2)


# (batch, heads, seq, head_dim) three times -> the same; key/value heads may be fewer
ATTENTION: dict[str, Callable] = {
    "sdpa": _sdpa,
    "blocked": _blocked,
    "flash2": _flash2,
    "plain": _plain,
}
