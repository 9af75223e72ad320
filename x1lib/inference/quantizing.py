"""A whole model with its matrices as codes, and what is kept full.

Weight-only: activations, norms, biases and the cache stay as they are. It saves bytes, which is
what one reader at a time waits for; the arithmetic stays bf16's.
"""

from __future__ import annotations

import copy
from collections import Counter

import torch
import torch.nn as nn
import torch.nn.functional as F

from x1lib.inference import kernels
from x1lib.inference.codes import KINDS, Codes, encode
from x1lib.inference.errors import InferenceError
from x1lib.inference.kernels import PackedLinear

HEADS = ("same", "full", *KINDS)
HEAD_NAMES = ("head", "lm_head", "embed_out")  # ours, most of transformers, GPT-NeoX


class QuantLinear(nn.Module):
    """y = x W' + b with W as codes; torch's kernel once `use_kernel` found one, else readable."""

    def __init__(self, codes: Codes, bias: torch.Tensor | None = None):
        super().__init__()
        self.kind = codes.kind
        self.register_buffer("codes", codes.codes)
        self.register_buffer("scales", codes.scales)
        self.register_buffer("zeros", codes.zeros)
        self.register_buffer("bias", bias)
        self.n_rows, self.n_columns = codes.shape
        self.packed: kernels.Packed | None = None

    @property
    def quantized(self) -> Codes:
        if self.codes is None:
            raise InferenceError(
                "the codes were given up for the kernel's own layout; save or measure the model"
                " before `use_kernels`, or load it from its file"
            )
        return Codes(self.kind, self.codes, self.scales, self.zeros)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.packed is None:
            return F.linear(x, self.quantized.weights(x.dtype), self.bias)
        y = self.packed.product(x.reshape(-1, self.n_columns).contiguous())
        y = y.view(*x.shape[:-1], self.n_rows)
        return y if self.bias is None else y + self.bias

    def rows(self, tokens: torch.Tensor) -> torch.Tensor:
        """Rows of the table, where the head is tied to the embedding."""
        return self.quantized.rows(tokens.flatten()).weights().view(*tokens.shape, self.n_columns)

    def use_kernel(self, dtype: torch.dtype, keep_codes: bool) -> str | None:
        """Take torch's packed kernel; returns the reason where it cannot be, None where it is."""
        reason = kernels.why_not(self.quantized, dtype)
        if reason is None:
            self.packed = kernels.pack(self.quantized, dtype)
            if self.kind == "int8":  # the kernel reads the codes themselves
                keep_codes = True
            if not keep_codes:
                self.codes = self.scales = self.zeros = None
        return reason

    @property
    def n_bytes(self) -> int:
        """Held in memory: the codes, the kernel's layout where that is another, the bias."""
        held = {t.data_ptr(): t.numel() * t.element_size() for t in self.buffers()}
        if self.packed is not None:
            for t in (self.packed.weights, self.packed.scales):
                held[t.data_ptr()] = t.numel() * t.element_size()
        return sum(held.values())


def quantize(model: nn.Module, kind: str, head: str = "same", group: int | None = None):
    """A copy of the model with every matrix as codes of `kind`, in the readable form.

    model: a Decoder, or a model of transformers. kind: "int8" or "int4". head: what becomes of the
    output matrix, which for a small model with a large vocabulary is a large share of it: "same",
    "full" (left as it is), or another kind. In a Decoder it is the embedding, too; in a model of
    transformers a tied embedding stays full beside it. group: see `codes.encode`; it is for the
    body, the head takes its kind's own. Raises InferenceError.
    """
    if kind not in KINDS:
        raise InferenceError(f"{kind!r} is no way to quantise; give one of {', '.join(KINDS)}")
    if head not in HEADS:
        raise InferenceError(f"head is {head!r}; give one of {', '.join(HEADS)}")
    if any(isinstance(m, PackedLinear) for m in model.modules()):
        raise InferenceError("its matrices lie in a kernel's layout; quantise before `use_kernels`")
    model = copy.deepcopy(model)
    found = [(name, m) for name, m in model.named_modules() if name and is_matrix(m)]
    if not found:
        raise InferenceError("no matrix was found; give a Decoder or a model of transformers")
    for name, module in found:
        is_head = name.rpartition(".")[2] in HEAD_NAMES
        wanted = kind if not is_head or head == "same" else head
        if wanted == "full":
            continue
        weight, bias = _matrix(module)
        codes = encode(weight, wanted, None if is_head else group)
        _replace(model, name, QuantLinear(codes, bias))
    model.quantization = {"kind": kind, "head": kind if head == "same" else head, "group": group}
    return model.eval()


def is_matrix(module: nn.Module) -> bool:
    """A linear layer of torch, or GPT-2's Conv1D, whose matrix lies the other way round."""
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"


def _matrix(module: nn.Module) -> tuple[torch.Tensor, torch.Tensor | None]:
    """A layer's matrix [rows, columns], as torch's linear layer has it, and its bias."""
    weight = module.weight.T if hasattr(module, "nf") else module.weight
    # Contiguous: of codes that lie the other way round a kernel would keep a second copy.
    return weight.detach().contiguous(), None if module.bias is None else module.bias.detach()


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, module)


def use_kernels(model: nn.Module, dtype: torch.dtype | None = None, log=print) -> dict[str, int]:
    """Let torch's packed kernels do the products, where they are right here; say what is used.

    In place. int4 codes are given up for the kernel's layout, and on a CPU full matrices in bf16
    for oneDNN's blocks, but not in a tied head, whose rows are looked up. Save or quantise a model
    before. dtype: of the activations; None: the model's own. Returns matrices by what computes
    them: "packed int4", "packed bf16", "reference int4: why", "full float32".
    """
    used: Counter[str] = Counter()
    dtype = dtype or _dtype_of(model)
    for name, module in list(model.named_modules()):
        tied = module is getattr(model, "head", None)
        if isinstance(module, QuantLinear):
            reason = module.use_kernel(dtype, keep_codes=tied)
            used[f"reference {module.kind}: {reason}" if reason else f"packed {module.kind}"] += 1
        elif isinstance(module, PackedLinear):
            used["packed bf16"] += 1
        elif name and is_matrix(module):  # a matrix alone has no place for another module
            full = f"full {str(module.weight.dtype).removeprefix('torch.')}"
            if reason := kernels.why_not_blocks(module.weight):
                used[full if reason.startswith(full[5:]) else f"{full}: {reason}"] += 1
                continue
            weight, bias = _matrix(module)
            _replace(model, name, PackedLinear(weight, bias, keep_weight=tied))
            used["packed bf16"] += 1
    log("products: " + "; ".join(f"{n} {how}" for how, n in used.items()))
    return dict(used)


def _dtype_of(model: nn.Module) -> torch.dtype:
    """Of a model's activations: its own word, else that of its first weights that are not codes."""
    if isinstance(own := getattr(model, "dtype", None), torch.dtype):
        return own
    floats = (p.dtype for p in model.parameters() if p.is_floating_point())
    return next(floats, torch.bfloat16)


def memory_bytes(model: nn.Module) -> int:
    """Bytes that a model's weights hold in memory, each tensor once (RoPE's tables left out)."""
    quantized = [m for m in model.modules() if isinstance(m, QuantLinear)]
    inside = {id(b) for m in quantized for b in m.buffers()}
    own = {p.data_ptr(): p.numel() * p.element_size() for p in model.parameters()}
    kept = {
        name: b.numel() * b.element_size()
        for name, b in model.state_dict(keep_vars=True).items()
        if isinstance(b, torch.Tensor) and id(b) not in inside and b.data_ptr() not in own
    }
    blocks = sum(m.packed_bytes for m in model.modules() if isinstance(m, PackedLinear))
    return sum(own.values()) + sum(kept.values()) + sum(m.n_bytes for m in quantized) + blocks
