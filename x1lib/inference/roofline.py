"""What a token must cost at least: bytes to read and FLOPs to do, against what the machine can.

A decoding step reads every weight once, whatever the batch, and each text's own keys and values.
So at batch 1 it waits for memory, and the arithmetic of more texts is free until it is not.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

import torch

from x1lib import runtime
from x1lib.economics import gpu as card_of
from x1lib.economics import gpu_by_driver_name
from x1lib.inference.decoder import Decoder
from x1lib.inference.errors import InferenceError
from x1lib.inference.quantizing import QuantLinear, is_matrix, memory_bytes
from x1lib.shapes import count_params, resolve


@dataclass(frozen=True)
class Work:
    """What one decoding step of a model takes."""

    weight_bytes: int  # read once a step: every matrix, the head included, a pure lookup not
    matmul_params: int  # weights that multiply activations
    cache_bytes_per_token: int  # keys and values of one position of one text
    attention_flops_per_token: int  # of one new position over one position of context

    def step_bytes(self, batch: int, context: int) -> float:
        """Bytes that one step must read for `batch` texts of `context` positions each."""
        return self.weight_bytes + batch * context * self.cache_bytes_per_token

    def step_flops(self, batch: int, context: int) -> float:
        """FLOPs of one step: a product and a sum for each weight, and attention."""
        return batch * (2 * self.matmul_params + context * self.attention_flops_per_token)

    def step_seconds(self, batch: int, context: int, peak: Peak) -> float:
        """The roofline: the longer of reading and computing, as if each hid the other wholly."""
        return max(
            self.step_bytes(batch, context) / peak.bytes_per_sec,
            self.step_flops(batch, context) / peak.flops_per_sec,
        )

    def bound(self, batch: int, context: int, peak: Peak) -> str:
        reading = self.step_bytes(batch, context) / peak.bytes_per_sec
        computing = self.step_flops(batch, context) / peak.flops_per_sec
        return "memory" if reading >= computing else "arithmetic"


@dataclass(frozen=True)
class Peak:
    """What a machine can do at best, and who says so."""

    bytes_per_sec: float
    flops_per_sec: float
    source: str


def work_of_shape(shape: object, bytes_per_weight: float = 2.0) -> Work:
    """The work of a shape (a name, a Shape or a Config) that nobody has built; bf16 caches.

    bytes_per_weight: 2 for bf16, 1 and a little for int8, 0.625 for int4 in groups of 32.
    """
    s = resolve(shape)
    matmul = count_params(s).matmul
    width, kv_width = s.n_heads * s.head_dim, s.n_kv_heads * s.head_dim
    return Work(
        round(bytes_per_weight * matmul), matmul, 4 * s.n_layers * kv_width, 4 * s.n_layers * width
    )


def work_of(model) -> Work:
    """The work of a Decoder or a model of transformers, full or quantised."""
    if isinstance(model, Decoder):
        s = model.shape
        layers, heads, kv_heads, dim = s.n_layers, s.n_heads, s.n_kv_heads, s.head_dim
        itemsize = torch.empty(0, dtype=model.dtype).element_size()
    else:
        c = getattr(model, "config", None)
        if c is None or not hasattr(c, "num_hidden_layers"):
            raise InferenceError("give a Decoder or a model of transformers")
        layers, heads = c.num_hidden_layers, c.num_attention_heads
        kv_heads = getattr(c, "num_key_value_heads", None) or heads
        dim = getattr(c, "head_dim", None) or c.hidden_size // heads
        itemsize = next(p for p in model.parameters() if p.is_floating_point()).element_size()
    weight_bytes = matmul_params = 0
    for module in model.modules():
        if isinstance(module, QuantLinear):
            packed = module.packed
            weight_bytes += packed.n_bytes if packed else module.quantized.n_bytes
            matmul_params += module.n_rows * module.n_columns
        elif is_matrix(module):
            weight_bytes += module.weight.numel() * module.weight.element_size()
            matmul_params += module.weight.numel()
    return Work(
        weight_bytes,
        matmul_params,
        2 * layers * kv_heads * dim * itemsize,
        4 * layers * heads * dim,
    )


def card_peak(name: str) -> Peak:
    """The peaks of a card's data sheet, bf16; raises EconomicsError for an unknown card."""
    card = card_of(name)
    if card.memory_bytes_per_sec is None:
        raise InferenceError(f"{card.name}: no memory bandwidth is known")
    return Peak(
        card.memory_bytes_per_sec, card.training_flops_per_sec(), f"{card.name}: {card.source}"
    )


def machine_peak(model, trials: int = 15) -> Peak:
    """The peaks of the machine that a model stands on: a known card's, or measured here.

    Bandwidth is measured on memory as large as the model's weights, because a small model lies in a
    cache and a large one does not.
    """
    device = next(model.parameters(), torch.empty(0)).device.type
    if device == "cuda" and (card := gpu_by_driver_name(torch.cuda.get_device_name())):
        return card_peak(card.name)
    machine = runtime.choose_machine(device, "auto", "auto", "off", False, 0, 0.0, 0.0)
    flops, _ = runtime.peak_flops(machine)
    n_bytes = max(memory_bytes(model), 1 << 20)
    rate = read_rate(n_bytes, device, trials)
    threads = torch.get_num_threads()
    return Peak(
        rate,
        flops,
        f"measured here on {machine.device_name}, {threads} threads: {n_bytes / 1e6:.1f} MB read"
        f" once, and products of square matrices in {machine.dtype}",
    )


def read_rate(n_bytes: int, device: str = "cpu", trials: int = 15) -> float:
    """Bytes a second at which float32 memory of a size is read, the median of some passes."""
    memory = torch.ones(max(n_bytes // 4, 1024), device=device)
    halves = memory[: len(memory) // 2], memory[len(memory) // 2 : 2 * (len(memory) // 2)]
    seconds = []
    for _ in range(trials + 2):
        synchronize(device)
        begun = time.perf_counter()
        torch.dot(*halves)
        synchronize(device)
        seconds.append(time.perf_counter() - begun)
    return 2 * len(halves[0]) * 4 / statistics.median(seconds[2:])


def synchronize(device: str) -> None:
    """Wait until a device has done what it was given, so that a clock tells the truth."""
    if device in ("cuda", "mps"):
        getattr(torch, device).synchronize()
