"""Weights as integer codes and scales, one scale for each group of a row, and back.

int8: w = scale * code, codes -127 .. 127; a group is a whole row unless another is asked for.
int4: w = scale * (code - 8) + zero, codes 0 .. 15, groups of 32: with so few codes each group
keeps its own range, smallest weight to largest. Two codes share a byte.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from x1lib.inference.errors import InferenceError

KINDS = ("int8", "int4")
INT4_GROUP = 32  # weights a scale, as in GGUF's Q4_0 and Q4_1; torch's kernel takes 32, 64, 128
SCALE_DTYPE = torch.bfloat16  # what is stored; codes are chosen for the scale after rounding


@dataclass(frozen=True)
class Codes:
    """A matrix [rows, columns] as codes, with scales and zeros [rows, columns / group].

    codes: int8 [rows, columns], or for int4 uint8 [rows, columns / 2], even columns in the low
    half of a byte. zeros: None for int8, which is symmetric.
    """

    kind: str
    codes: torch.Tensor
    scales: torch.Tensor
    zeros: torch.Tensor | None

    @property
    def shape(self) -> tuple[int, int]:
        rows, columns = self.codes.shape
        return rows, columns * (2 if self.kind == "int4" else 1)

    @property
    def group(self) -> int:
        """Weights that share a scale."""
        return self.shape[1] // self.scales.shape[1]

    @property
    def n_bytes(self) -> int:
        tensors = (self.codes, self.scales, *([] if self.zeros is None else [self.zeros]))
        return sum(t.numel() * t.element_size() for t in tensors)

    def integers(self) -> torch.Tensor:
        """One code an entry, [rows, columns]."""
        return unpack_nibbles(self.codes) if self.kind == "int4" else self.codes

    def weights(self, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """What the codes stand for, [rows, columns]: the reference that every kernel is held to."""
        rows, columns = self.shape
        codes = self.integers().float().view(rows, -1, self.group)
        scales = self.scales.float()[..., None]
        if self.kind == "int8":
            grouped = scales * codes
        else:
            grouped = scales * (codes - 8) + self.zeros.float()[..., None]
        return grouped.view(rows, columns).to(dtype)

    def rows(self, index: torch.Tensor) -> Codes:
        """Some rows, as an embedding looks them up."""
        zeros = None if self.zeros is None else self.zeros[index]
        return Codes(self.kind, self.codes[index], self.scales[index], zeros)


def encode(weights: torch.Tensor, kind: str, group: int | None = None) -> Codes:
    """Quantise a matrix [rows, columns] by rounding to nearest, one scale a group of each row.

    group: columns that share a scale; None: a whole row for int8, 32 for int4. Raises
    InferenceError for an unknown kind, a group that does not divide the columns, and weights that
    are not finite.
    """
    if kind not in KINDS:
        raise InferenceError(f"{kind!r} is no way to quantise; give one of {', '.join(KINDS)}")
    rows, columns = weights.shape
    size = group or (columns if kind == "int8" else INT4_GROUP)
    if columns % size or (kind == "int4" and columns % 2):
        raise InferenceError(f"{columns} columns do not divide into groups of {size}; give another")
    if not weights.isfinite().all():
        raise InferenceError("a weight is NaN or infinite; quantise a sound checkpoint")
    w = weights.detach().float().view(rows, -1, size)
    if kind == "int8":
        scales = _stored(w.abs().amax(-1) / 127)
        codes = (w / scales.float()[..., None]).round().clamp(-127, 127)
        return Codes(kind, codes.view(rows, columns).to(torch.int8), scales, None)
    low, high = w.amin(-1), w.amax(-1)
    scales = _stored((high - low) / 15)
    zeros = (low + 8 * scales.float()).to(SCALE_DTYPE)
    codes = (w - zeros.float()[..., None]) / scales.float()[..., None] + 8
    codes = codes.round().clamp(0, 15).view(rows, columns).to(torch.uint8)
    return Codes(kind, pack_nibbles(codes), scales, zeros)


def _stored(scales: torch.Tensor) -> torch.Tensor:
    """Scales as they are stored; a group of equal weights gets 1, so that nothing divides by 0."""
    stored = scales.to(SCALE_DTYPE)
    return torch.where(stored > 0, stored, torch.ones_like(stored))


def pack_nibbles(codes: torch.Tensor) -> torch.Tensor:
    """uint8 [rows, columns] of 0 .. 15 -> [rows, columns / 2], even columns in the low half."""
    return codes[:, 0::2] | (codes[:, 1::2] << 4)


def unpack_nibbles(packed: torch.Tensor) -> torch.Tensor:
    """The inverse of `pack_nibbles`."""
    return torch.stack((packed & 15, packed >> 4), dim=-1).flatten(-2)
