"""Model shapes by name and their parameter counts.

One family: head_dim 64, two query heads to a key/value head, width / depth near 50. Sizes are named
by their body (non-embedding) parameters; `240m`, the shape that the brief prints, by its total.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from x1lib import X1Error

HEAD_DIM = 64
VOCAB_MULTIPLE = 128  # rows of the embedding are padded to this, so that matmuls tile evenly


class ShapeError(X1Error, ValueError):
    """A model shape that does not exist or cannot be built."""


@dataclass(frozen=True)
class Shape:
    """Dimensions of a decoder-only transformer with SwiGLU, GQA and tied embeddings."""

    name: str
    n_layers: int
    d_model: int
    n_heads: int
    n_kv_heads: int
    d_ff: int
    vocab_size: int = 50257  # GPT-2's
    head_dim: int = HEAD_DIM
    qk_norm: bool = True
    tied: bool = True  # False only for published models that we price, never for ours

    def __post_init__(self) -> None:
        for field in ("n_layers", "d_model", "n_heads", "n_kv_heads", "d_ff", "vocab_size"):
            if getattr(self, field) < 1:
                raise ShapeError(f"{self.name}: {field} is {getattr(self, field)}; give 1 or more")
        if self.n_heads % self.n_kv_heads:
            raise ShapeError(
                f"{self.name}: {self.n_heads} heads cannot share {self.n_kv_heads} key/value heads;"
                " give a divisor of n_heads"
            )
        if self.head_dim < 2 or self.head_dim % 2:
            raise ShapeError(f"{self.name}: head_dim {self.head_dim} is odd; RoPE rotates pairs")

    @property
    def padded_vocab_size(self) -> int:
        """Rows that the embedding really has: vocab_size rounded up to a multiple of 128."""
        return -(-self.vocab_size // VOCAB_MULTIPLE) * VOCAB_MULTIPLE


@dataclass(frozen=True)
class ParamCount:
    """Parameters of one shape; every published N is one of these, so say which.

    body: everything but embedding and head, norms included (Kaplan's and Step Law's N).
    embedding: the lookup table. head: the output matrix, 0 when tied to the embedding.
    total: each stored parameter once (Hoffmann's N). matmul: weights that multiply activations,
    head included and lookup not, which is what FLOPs are counted over.
    """

    body: int
    embedding: int
    head: int
    matmul: int

    @property
    def total(self) -> int:
        return self.body + self.embedding + self.head


def _family(name: str, n_layers: int, d_model: int, n_kv_heads: int | None = None) -> Shape:
    """A member of the family: its heads and its SwiGLU width follow from d_model."""
    n_heads = max(1, d_model // HEAD_DIM)
    if d_model % HEAD_DIM:
        raise ShapeError(f"{name}: width {d_model} is no multiple of head_dim {HEAD_DIM}")
    d_ff = -(-8 * d_model // (3 * HEAD_DIM)) * HEAD_DIM  # 8/3 of the width, up to a multiple of 64
    return Shape(name, n_layers, d_model, n_heads, n_kv_heads or -(-n_heads // 2), d_ff)


SHAPES = {
    shape.name: shape
    for shape in (
        replace(_family("tiny", 4, 128), vocab_size=4096),
        _family("5m", 7, 256),
        _family("12m", 8, 384),
        _family("25m", 9, 512),
        _family("50m", 12, 640),
        _family("100m", 16, 768),
        _family("240m", 32, 768, n_kv_heads=4),
    )
}

_SPEC = re.compile(r"(\d+)x(\d+)(?::(\d+)/(\d+):(\d+))?")


def resolve(shape: object, vocab_size: int | None = None, qk_norm: bool | None = None) -> Shape:
    """Return the Shape for a name, a spec, a Shape, or anything with a `.shape` (a train.Config).

    A spec is "LAYERSxWIDTH" ("2x64": the family's heads and SwiGLU width) or
    "LAYERSxWIDTH:HEADS/KV_HEADS:FF" ("6x384:6/6:1024"). Raises ShapeError for an unknown name.
    """
    if not isinstance(shape, str | Shape) and hasattr(shape, "shape"):
        if qk_norm is None:
            qk_norm = getattr(shape, "qk_norm", None)
        shape = shape.shape
    if isinstance(shape, str):
        shape = SHAPES.get(shape) or _parse(shape)
    if not isinstance(shape, Shape):
        raise ShapeError(f"{shape!r} is no shape; give a name ({', '.join(SHAPES)}) or a Shape")
    changes = {"vocab_size": vocab_size, "qk_norm": qk_norm}
    return replace(shape, **{k: v for k, v in changes.items() if v is not None})


def _parse(spec: str) -> Shape:
    match = _SPEC.fullmatch(spec)
    if not match:
        raise ShapeError(
            f"unknown shape {spec!r}; give one of {', '.join(SHAPES)}, or LAYERSxWIDTH such as 2x64"
        )
    n_layers, d_model, n_heads, n_kv_heads, d_ff = (int(g) if g else None for g in match.groups())
    if n_heads is None:
        return _family(spec, n_layers, d_model)
    if not n_heads or d_model % n_heads:
        raise ShapeError(f"{spec}: width {d_model} does not divide into {n_heads} heads")
    return Shape(spec, n_layers, d_model, n_heads, n_kv_heads, d_ff, head_dim=d_model // n_heads)


def count_params(shape: object) -> ParamCount:
    """Count the parameters of a shape (a name, a Shape or a Config), vocabulary unpadded."""
    s = resolve(shape)
    attention = 2 * s.d_model * s.head_dim * (s.n_heads + s.n_kv_heads)  # q and o, k and v
    weights = s.n_layers * (attention + 3 * s.d_model * s.d_ff)
    norms = s.n_layers * (2 * s.d_model + 2 * s.head_dim * s.qk_norm) + s.d_model
    embedding = s.vocab_size * s.d_model
    return ParamCount(
        body=weights + norms,
        embedding=embedding,
        head=0 if s.tied else embedding,
        matmul=weights + embedding,
    )
