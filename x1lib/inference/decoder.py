"""A trained GPT as it is read from: a cache of keys and values, and one step a token.

Training computes all positions of a window at once. Reading aloud, each new token needs the keys
and values of those before it, which do not change: they are kept, and a step computes one position.
"""

from __future__ import annotations

import copy

import torch
import torch.nn as nn
import torch.nn.functional as F

from x1lib.inference.errors import InferenceError
from x1lib.train import GPT, rotate


class Head(nn.Linear):
    """The table of tokens, tied: its rows are looked up, and all of them score the result."""

    def rows(self, tokens: torch.Tensor) -> torch.Tensor:
        return F.embedding(tokens, self.weight)


class Cache:
    """Keys and values of what was read: [batch, kv_heads, max_tokens, head_dim] a layer.

    With grouped queries (GQA) it holds kv_heads, not heads: that is what they are for. `static`:
    positions live on the device and every step has the same shapes, as a CUDA graph needs.
    """

    def __init__(self, decoder: Decoder, batch: int, max_tokens: int, static: bool = False):
        s, head = decoder.shape, next(decoder.parameters())
        size = (s.n_layers, 2, batch, s.n_kv_heads, max_tokens, s.head_dim)
        self.kept = torch.zeros(size, dtype=decoder.dtype, device=head.device)
        self.max_tokens, self.length, self.static = max_tokens, 0, static
        self.position = torch.zeros(1, dtype=torch.long, device=head.device)
        self.slots = torch.arange(max_tokens, device=head.device)

    @property
    def n_bytes(self) -> int:
        return self.kept.numel() * self.kept.element_size()

    def add(self, layer: int, k: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Append k and v [batch, kv_heads, n, head_dim]; returns all that are to be looked at."""
        keys, values = self.kept[layer]
        n = k.shape[2]
        if self.static and n == 1:
            keys.index_copy_(2, self.position, k)
            values.index_copy_(2, self.position, v)
            return keys, values
        end = self.length + n
        keys[:, :, self.length : end], values[:, :, self.length : end] = k, v
        return keys[:, :, :end], values[:, :, :end]

    def mask(self, n: int, device) -> torch.Tensor | None:
        """Which slots each of n new positions may see: bool [n, slots], or None for all of them."""
        if self.static and n == 1:
            return (self.slots <= self.position)[None]
        if n == 1:
            return None
        seen = torch.arange(self.length + n, device=device)
        return seen <= torch.arange(self.length, self.length + n, device=device)[:, None]

    def advance(self, n: int) -> None:
        self.length += n
        self.position += n


class Decoder(nn.Module):
    """A GPT's own weights in `dtype`, with and without a cache; called like the GPT itself.

    max_tokens: positions that rotations are made for; 0: the window that it was trained with.
    """

    def __init__(self, model: GPT, dtype: torch.dtype | None = None, max_tokens: int = 0):
        super().__init__()
        self.config, self.shape, self.dtype = model.config, model.shape, dtype or model.dtype
        self.logit_multiplier = model.logit_multiplier
        self.blocks = copy.deepcopy(model.blocks).to(self.dtype)
        self.norm = copy.deepcopy(model.norm).to(self.dtype)
        table = model.embedding.weight.detach()
        self.head = Head(*table.shape[::-1], bias=False, device="meta")
        self.head.weight = nn.Parameter(table.to(self.dtype, copy=True))
        s, n = self.shape, max_tokens or model.config.window
        half = torch.arange(0, s.head_dim, 2).float() / s.head_dim
        angle = torch.outer(torch.arange(n).float(), model.config.rope_theta**-half)[:, None, :]
        self.register_buffer("cos", angle.cos().to(table.device, self.dtype), persistent=False)
        self.register_buffer("sin", angle.sin().to(table.device, self.dtype), persistent=False)
        self.eval().requires_grad_(False)

    @property
    def max_tokens(self) -> int:
        return len(self.cos)

    def forward(self, tokens: torch.Tensor, targets=None, reduction: str = "mean"):
        """Logits [batch, seq, vocab] in float32, or with targets their cross-entropy [nats]."""
        logits = self.logits(self.read(tokens, Cache(self, *tokens.shape)))
        if targets is None:
            return logits
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction=reduction)

    def read(self, tokens: torch.Tensor, cache: Cache) -> torch.Tensor:
        """Vectors [batch, n, width] of tokens [batch, n] that follow what is in the cache."""
        n = tokens.shape[1]
        if cache.length + n > min(cache.max_tokens, self.max_tokens):
            raise InferenceError(
                f"{cache.length + n} positions do not fit: the cache holds {cache.max_tokens} and"
                f" the model was made for {self.max_tokens}; give a larger max_tokens"
            )
        x = self.head.rows(tokens).to(self.dtype)
        if cache.static and n == 1:
            cos, sin = self.cos[cache.position], self.sin[cache.position]
        else:
            here = slice(cache.length, cache.length + n)
            cos, sin = self.cos[here], self.sin[here]
        mask = cache.mask(n, tokens.device)
        for layer, block in enumerate(self.blocks):
            y = attend(block.attention, block.attention_norm(x), cos, sin, mask, cache, layer)
            x = x + block.multiplier * y
            x = x + block.multiplier * block.mlp(block.mlp_norm(x))
        cache.advance(n)
        return x

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """Scores in float32 of vectors [..., width]; the rows that pad the vocabulary are cut."""
        scores = self.head(self.norm(x))[..., : self.shape.vocab_size]
        return scores.float() * self.logit_multiplier

    def prefill(self, prompt: torch.Tensor, max_tokens: int, static: bool = False):
        """Read prompts [batch, n]; returns the logits after each, [batch, vocab], and the cache."""
        cache = Cache(self, len(prompt), max_tokens, static)
        return self.logits(self.read(prompt, cache)[:, -1]), cache

    def step(self, tokens: torch.Tensor, cache: Cache) -> torch.Tensor:
        """Logits [batch, vocab] after one more token of each text, tokens [batch]."""
        return self.logits(self.read(tokens[:, None], cache)[:, -1])


def attend(attention, x, cos, sin, mask, cache: Cache, layer: int) -> torch.Tensor:
    """x1lib.train.Attention over a cache; x [batch, n, width].

    The queries of one group share their keys, so they are further rows of one product with them:
    [batch, kv_heads, group x n, head_dim]. Nothing is repeated.
    """
    q, k, v = (
        m(x).unflatten(-1, (-1, attention.head_dim))
        for m in (attention.q, attention.k, attention.v)
    )
    q, k = rotate(attention.q_norm(q), cos, sin), rotate(attention.k_norm(k), cos, sin)
    batch, n, n_heads, head_dim = q.shape
    keys, values = cache.add(layer, k.transpose(1, 2), v.transpose(1, 2))
    groups = n_heads // keys.shape[1]
    q = q.unflatten(2, (-1, groups)).permute(0, 2, 3, 1, 4).flatten(2, 3)
    mask = mask if mask is None else mask.repeat(groups, 1)
    y = F.scaled_dot_product_attention(q, keys, values, attn_mask=mask)
    y = y.unflatten(2, (groups, n)).permute(0, 3, 1, 2, 4)
    return attention.o(y.reshape(batch, n, n_heads * head_dim))


@torch.no_grad()
def greedy(decoder: Decoder, ids: list[int], n_tokens: int) -> list[int]:
    """Continue ids by the likeliest token, n_tokens times, over a cache."""
    total = len(ids) + n_tokens
    logits, cache = decoder.prefill(_row(decoder, ids), total)
    out = list(ids)
    for _ in range(n_tokens):
        token = logits.argmax(-1)
        out.append(int(token))
        if len(out) < total:
            logits = decoder.step(token, cache)
    return out


@torch.no_grad()
def greedy_without_cache(model, ids: list[int], n_tokens: int) -> list[int]:
    """The same by reading the whole text again for every token: what a cache saves.

    model: a Decoder, or anything from tokens [1, n] to logits [1, n, vocab].
    """
    out = list(ids)
    for _ in range(n_tokens):
        row = _row(model, out)
        if isinstance(model, Decoder):  # only the last position is scored, as with a cache
            logits, _ = model.prefill(row, row.shape[1])
        else:
            logits = model(row)[:, -1]
        out.append(int(logits.argmax(-1)))
    return out


def _row(model, ids: list[int]) -> torch.Tensor:
    if not len(ids):
        raise InferenceError("ids is empty; give at least one token to continue")
    return torch.tensor([ids], device=next(model.parameters()).device)
