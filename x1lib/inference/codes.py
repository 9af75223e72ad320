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
LARGEST = 1e38  # twice a weight is still a float32, and so is every place between two of them
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

    def fault(self) -> str | None:
        """What of it does not fit together; None where all does."""
        wanted = {"int8": torch.int8, "int4": torch.uint8}.get(self.kind)
        if wanted is None:
            return f"{self.kind!r} is no kind of codes"
        if self.codes.ndim != 2 or self.codes.dtype != wanted:
            return f"{self.kind} codes are a matrix of {wanted}"
        rows, columns = self.shape
        s, z = self.scales, self.zeros
        if s.ndim != 2 or len(s) != rows or not s.shape[1] or columns % s.shape[1]:
            return f"scales of shape {list(s.shape)} for a matrix of {rows} x {columns}"
        if (z is None) == (self.kind == "int4") or (z is not None and z.shape != s.shape):
            return (
                f"{self.kind} codes want {'a zero a scale' if self.kind == 'int4' else 'no zeros'}"
            )
        if not all(
            t.is_floating_point() and t.isfinite().all() for t in (s, s if z is None else z)
        ):
            return "a scale or a zero is no finite number"
        return None

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

    group: columns that share a scale; None: a whole row for int8, 32 for int4. A zero is rounded
    to bf16 as a scale is, so a group that lies far from 0 beside its own width loses more than half
    a scale. Raises InferenceError for an unknown kind, no matrix, a group that does not divide the
    columns, and weights that are not finite or beyond 1e38.
    """
    if kind not in KINDS:
        raise InferenceError(f"{kind!r} is no way to quantise; give one of {', '.join(KINDS)}")
    if weights.ndim != 2 or not weights.numel():
        raise InferenceError(
            f"weights of shape {list(weights.shape)}; give a matrix that holds some"
        )
    rows, columns = weights.shape
    size = group if group is not None else (columns if kind == "int8" else INT4_GROUP)
    if not isinstance(size, int) or size < 1:
        raise InferenceError(f"group is {size!r}; give a whole number of 1 or more, or None")
    if columns % size or (kind == "int4" and columns % 2):
        raise InferenceError(f"{columns} columns do not divide into groups of {size}; give another")
    if not (weights.abs() <= LARGEST).all():
        raise InferenceError(
            "a weight is NaN or infinite or beyond 1e38; quantise a sound checkpoint"
        )
    w = weights.detach().float().view(rows, -1, size)
    if kind == "int8":
        scales = _stored(w.abs().amax(-1) / 127)
        codes = (w / scales.float()[..., None]).round().clamp(-127, 127)
        return Codes(kind, codes.view(rows, columns).to(torch.int8), scales, None)
    low, high = w.amin(-1), w.amax(-1)
    span = (high - low) / 15
    scales = _stored(span)
    flat = span.to(SCALE_DTYPE) == 0  # equal weights: the zero is the weight, the code 8
    zeros = torch.where(flat, low, low + 8 * scales.float()).to(SCALE_DTYPE)
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
