"""What a token must cost at least: bytes to read and FLOPs to do, against what the machine can.

A decoding step reads every weight once, whatever the batch, and each text's own keys and values.
So at batch 1 it waits for memory, and the arithmetic of more texts is free until it is not.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from x1lib import runtime
from x1lib.economics import gpu as card_of
from x1lib.economics import gpu_by_driver_name
from x1lib.inference.decoder import Decoder
from x1lib.inference.errors import InferenceError
from x1lib.inference.kernels import PackedLinear
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
        elif isinstance(module, PackedLinear):
            weight_bytes += module.packed_bytes
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
    """The peaks of the machine that a model stands on; see `machine_peaks`."""
    return machine_peaks({"": model}, trials)[""]


def machine_peaks(models: dict[str, object], trials: int = 15) -> dict[str, Peak]:
    """The peaks of the machine for each model: a known card's, or measured here.

    Bandwidth is measured on memory as large as the model, because a small one lies in a cache and a
    large one does not. Models whose names begin with the same word ("tiny bf16", "tiny int4") share
    one peak, of their largest, so that their shares of it compare; those of others do not.
    """
    device = next(next(iter(models.values())).parameters(), torch.empty(0)).device.type
    if device == "cuda" and (card := gpu_by_driver_name(torch.cuda.get_device_name())):
        return dict.fromkeys(models, card_peak(card.name))
    sizes: dict[str, int] = {}
    for name, model in models.items():
        family = name.partition(" ")[0]
        sizes[family] = max(sizes.get(family, 1 << 20), memory_bytes(model))
    machine = runtime.choose_machine(device, "auto", "auto", "off", False, 0, 0.0, 0.0)
    flops, _ = runtime.peak_flops(machine)
    rates = dict(zip(sizes, read_rates(list(sizes.values()), device, trials), strict=True))
    threads = torch.get_num_threads()
    peaks = {
        family: Peak(
            rates[family],
            flops,
            f"measured here on {machine.device_name}, {threads} thread(s): {n_bytes / 1e6:.1f} MB"
            f" read once, the best of {trials}, and products of square matrices in"
            f" {machine.dtype}",
        )
        for family, n_bytes in sizes.items()
    }
    return {name: peaks[name.partition(" ")[0]] for name in models}


def read_rate(n_bytes: int, device: str = "cpu", trials: int = 15) -> float:
    """Bytes a second at which float32 memory of a size is read, the best of some passes."""
    return read_rates([n_bytes], device, trials)[0]


def read_rates(sizes: list[int], device: str = "cpu", trials: int = 15) -> list[float]:
    """The same for some sizes that take turns; each pass comes right after one not counted.

    The best and not the median: a peak is what the machine can, and others only take from it.
    """
    memories = [torch.ones(max(n // 8, 512), device=device).repeat(2).chunk(2) for n in sizes]
    best = [float("inf")] * len(sizes)
    for _ in range(trials):
        for i, halves in enumerate(memories):
            torch.dot(*halves)  # what fits in a cache is there again after the others' turn
            synchronize(device)
            begun = time.perf_counter()
            torch.dot(*halves)
            synchronize(device)
            best[i] = min(best[i], time.perf_counter() - begun)
    return [2 * len(a) * 4 / least for (a, _), least in zip(memories, best, strict=True)]


def synchronize(device: str) -> None:
    """Wait until a device has done what it was given, so that a clock tells the truth."""
    if device in ("cuda", "mps"):
        getattr(torch, device).synchronize()
