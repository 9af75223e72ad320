"""torch's packed products: used where they are right here, and it is said.

Integer weights have kernels of their own. Matrices in bf16 on a CPU have oneDNN's: F.linear hands
it rows as they lie, and one that was put into blocks beforehand is read at up to twice the speed.
Each is tried once on a small product beside the reference (`codes.Codes.weights`) for the device,
dtype and group in question. One that is missing, raises or differs is not used, with the reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
import torch.nn as nn
import torch.nn.functional as F

from x1lib.inference.codes import Codes, encode
from x1lib.inference.errors import InferenceError

ROWS_MULTIPLE = 16  # int4 kernels want whole tiles of output rows
INT4_GROUPS = (32, 64, 128, 256)  # that torch's kernels take
TOLERANCE = 2e-2  # largest error beside the reference over its largest value: bf16 keeps 8 bits
INNER_K_TILES = 8  # of the CUDA layout; any of 2, 4, 8 is right


@dataclass(frozen=True)
class Packed:
    """A matrix in the layout of torch's kernel, and what that kernel needs beside it."""

    kind: str
    weights: torch.Tensor
    scales: torch.Tensor  # int8: [rows]; int4: [columns / group, rows, 2], scale and zero
    group: int
    n_rows: int  # of the matrix; those beyond it only fill a tile

    @property
    def n_bytes(self) -> int:
        return sum(t.numel() * t.element_size() for t in (self.weights, self.scales))

    def product(self, x: torch.Tensor) -> torch.Tensor:
        """x [n, columns] times the matrix transposed: [n, rows]."""
        if self.kind == "int8":
            return torch._weight_int8pack_mm(x, self.weights, self.scales)
        if x.is_cuda:
            product = torch._weight_int4pack_mm
        else:
            product = torch.ops.aten._weight_int4pack_mm_for_cpu
        return product(x, self.weights, self.group, self.scales)[:, : self.n_rows]


def pack(codes: Codes, dtype: torch.dtype = torch.bfloat16) -> Packed:
    """The matrix in the layout of torch's kernel for its device; fails where there is none."""
    rows, _ = codes.shape
    if codes.kind == "int8":
        scales = codes.scales[:, 0].to(dtype)
        return Packed("int8", codes.codes.contiguous(), scales, codes.group, rows)
    filled = (0, 0, 0, -rows % ROWS_MULTIPLE)
    scales, zeros = (F.pad(t, filled).T for t in (codes.scales, codes.zeros))
    both = torch.stack((scales, zeros), dim=-1).to(dtype).contiguous()
    integers = F.pad(codes.integers(), filled)
    if codes.codes.is_cuda:  # that layout has the even column in the high half
        bytes_ = ((integers[:, 0::2] << 4) | integers[:, 1::2]).contiguous()
        packed = torch._convert_weight_to_int4pack(bytes_, INNER_K_TILES)
    else:
        packed = torch._convert_weight_to_int4pack_for_cpu(integers.int().contiguous(), 1)
    return Packed("int4", packed, both, codes.group, rows)


def why_not(codes: Codes, dtype: torch.dtype) -> str | None:
    """Why torch's kernel cannot be used for this matrix here; None where it can."""
    _, columns = codes.shape
    if dtype != torch.bfloat16:
        return f"activations are {str(dtype).removeprefix('torch.')}; the packed kernels want bf16"
    if codes.kind == "int8" and codes.group != columns:
        return f"torch's int8 kernel takes one scale a row, and these are groups of {codes.group}"
    if codes.kind == "int4" and codes.group not in INT4_GROUPS:
        return f"torch's int4 kernel takes groups of 32, 64, 128, 256, not of {codes.group}"
    return tried(codes.kind, codes.group if codes.kind == "int4" else 0, str(codes.codes.device))


class PackedLinear(nn.Module):
    """y = x W' + b with W in bf16 in oneDNN's blocks; what a linear layer becomes on a CPU.

    keep_weight: a tied head's rows are looked up, too, so that it stays beside its blocks. A copy
    makes its blocks anew; `state_dict` has no matrix, so save a model before, and `to` leaves the
    blocks where they are. Raises InferenceError for another x than bf16 [..., columns] on a CPU.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None, keep_weight: bool):
        super().__init__()
        self.n_rows, self.n_columns = weight.shape
        self.register_buffer("weight", weight if keep_weight else None)
        self.register_buffer("bias", bias)
        self.packed = _blocks(weight)

    @property
    def packed_bytes(self) -> int:
        """Of the blocks alone: what a step reads; rows that fill the last block are left out."""
        return 2 * self.n_rows * self.n_columns

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        try:
            return torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, "none", [], "")
        except RuntimeError as error:  # oneDNN says of all of them that it has no primitive
            fits = x.dtype == torch.bfloat16 and x.shape[-1:] == (self.n_columns,) and not x.is_cuda
            if fits:
                raise
            raise InferenceError(
                f"x is {str(x.dtype).removeprefix('torch.')} {list(x.shape)} on {x.device.type};"
                f" these blocks take bfloat16 [..., {self.n_columns}] on cpu"
            ) from error

    def rows(self, tokens: torch.Tensor) -> torch.Tensor:
        return F.embedding(tokens, self.weight)

    def __getstate__(self) -> dict:
        return self.__dict__ | {"packed": self.packed.to_dense()}

    def __setstate__(self, state: dict) -> None:
        super().__setstate__(state)
        self.packed = _blocks(self.packed)


def _blocks(weight: torch.Tensor) -> torch.Tensor:
    return torch.ops.mkldnn._reorder_linear_weight(weight.contiguous())


def why_not_blocks(weight: torch.Tensor) -> str | None:
    """Why a full matrix cannot be put into oneDNN's blocks here; None where it can."""
    if weight.dtype != torch.bfloat16 or weight.device.type != "cpu":
        return f"{str(weight.dtype).removeprefix('torch.')} on {weight.device.type}"
    return blocks_tried()


@cache
def blocks_tried() -> str | None:
    """Try oneDNN's blocks beside F.linear; None when they are right, else what was wrong."""
    generator = torch.Generator().manual_seed(0)
    weight, x = (torch.randn(n, 96, generator=generator).bfloat16() for n in (72, 3))
    expected = F.linear(x.float(), weight.float())
    try:
        got = PackedLinear(weight, None, keep_weight=False)(x).float()
    except (RuntimeError, AttributeError) as error:
        return f"oneDNN's blocks did not run: {str(error).splitlines()[0][:120]}"
    error = ((got - expected).abs().max() / expected.abs().max()).item()
    return None if error < TOLERANCE else f"oneDNN's blocks are off by {error:.1%}"


@cache
def tried(kind: str, group: int, device: str) -> str | None:
    """Try the kernel beside the reference; None when it is right, else what was wrong."""
    generator = torch.Generator().manual_seed(0)
    n = 4 * max(group, 64)
    weights = torch.randn(72, n, generator=generator).to(device)
    x = torch.randn(3, n, generator=generator).to(device, torch.bfloat16)
    codes = encode(weights, kind, group or None)
    try:
        got = pack(codes).product(x).float()
    except (RuntimeError, AttributeError) as error:
        return f"torch's {kind} kernel did not run: {str(error).splitlines()[0][:120]}"
    expected = x.float() @ codes.weights().T
    error = ((got - expected).abs().max() / expected.abs().max()).item()
    if not error < TOLERANCE:
        return f"torch's {kind} kernel is off by {error:.1%} beside the reference"
    return None
