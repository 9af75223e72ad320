"""FLOPs per token, peak FLOP/s by card, and model FLOPs utilisation (MFU)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from x1lib import X1Error
from x1lib.shapes import count_params, resolve

CONVENTIONS = {
    "palm": "6 x matmul parameters (head included, lookup not) + full-square attention",
    "6n": "6 x all parameters, attention ignored",
    "kaplan": "6 x body parameters: no head, no attention",
    "causal": "as palm, with only the unmasked half of attention counted",
}


class EconomicsError(X1Error, ValueError):
    """A card, convention or quantity that the arithmetic cannot use."""


@dataclass(frozen=True)
class Gpu:
    """A card's dense peak, as its maker's data sheet states it (sparsity figures halved)."""

    name: str
    driver_pattern: str  # regular expression over the name that the driver reports
    bf16_flops_per_sec: float
    source: str


# Each peak was copied from the data sheet named beside it. Patterns are tried in this order, so the
# narrower name of a family stands before the wider one.
GPUS = {
    gpu.name: gpu
    for gpu in (
        Gpu("A100-80GB-SXM", r"A100-SXM.?-80GB", 312e12, "NVIDIA A100 data sheet, 2021"),
        Gpu("A100-80GB-PCIe", r"A100.*80GB", 312e12, "NVIDIA A100 data sheet, 2021"),
        Gpu("A100-40GB-SXM", r"A100-SXM.?-40GB", 312e12, "NVIDIA A100 data sheet, 2021"),
        Gpu("A100-40GB-PCIe", r"A100-PCI|A100.*40GB", 312e12, "NVIDIA A100 data sheet, 2021"),
        Gpu("H100-94GB-NVL", r"H100 NVL", 1671e12 / 2, "NVIDIA H100 data sheet, 2023"),
        Gpu("H100-80GB-PCIe", r"H100 PCIe", 1513e12 / 2, "NVIDIA H100 data sheet, 2023"),
        Gpu("H100-80GB-SXM", r"H100.*80GB", 1979e12 / 2, "NVIDIA H100 data sheet, 2023"),
        Gpu("H200-141GB-SXM", r"\bH200(?! NVL)", 1979e12 / 2, "NVIDIA H200 data sheet, 2024"),
        Gpu("L40S", r"L40S", 362.05e12, "NVIDIA L40S data sheet, 2023"),
        Gpu("L4", r"L4$", 242e12 / 2, "NVIDIA L4 data sheet, 2023"),
        Gpu("A10", r"A10$", 125e12, "NVIDIA A10 data sheet, 2021"),
    )
}


def gpu_by_driver_name(driver_name: str) -> Gpu | None:
    """Return the card that a driver's device name means, or None for one we have no peak of.

    A MIG slice reports its parent's name with a suffix and is never the whole card: None.
    """
    if "MIG" in driver_name:
        return None
    hits = (gpu for gpu in GPUS.values() if re.search(gpu.driver_pattern, driver_name))
    return next(hits, None)


def flops_per_token(shape: object, seq_len: int, convention: str = "palm") -> float:
    """Training FLOPs (forward and backward) for one token of a sequence of seq_len tokens.

    shape: a name, a Shape or a Config. Attention is 12 x n_layers x n_heads x head_dim x seq_len
    (Chowdhery et al. 2022, PaLM, appendix B); grouped key/value heads do not change it.
    Raises EconomicsError for an unknown convention.
    """
    if seq_len < 1:
        raise EconomicsError(f"seq_len is {seq_len}; a sequence has at least one token")
    s = resolve(shape)
    n = count_params(s)
    attention = 12 * s.n_layers * s.n_heads * s.head_dim * seq_len
    match convention:
        case "palm":
            return 6.0 * n.matmul + attention
        case "causal":
            return 6.0 * n.matmul + attention / 2
        case "6n":
            return 6.0 * n.total
        case "kaplan":
            return 6.0 * n.body
    known = ", ".join(CONVENTIONS)
    raise EconomicsError(f"unknown FLOP convention {convention!r}; give one of {known}")


def mfu(
    tokens_per_sec: float,
    shape: object,
    seq_len: int,
    gpu: str | Gpu | float,
    n_gpus: int = 1,
    convention: str = "palm",
) -> float:
    """Model FLOPs utilisation: the fraction of peak FLOP/s that the model's own FLOPs use.

    gpu: a key of GPUS, a Gpu, or a measured peak in FLOP/s. Raises EconomicsError for a card
    that the table lacks, because a guessed peak makes any MFU.
    """
    if isinstance(gpu, str):
        if gpu not in GPUS:
            known = ", ".join(GPUS)
            raise EconomicsError(f"no peak is known for {gpu!r}; give a measured one or of {known}")
        gpu = GPUS[gpu]
    peak = gpu.bf16_flops_per_sec if isinstance(gpu, Gpu) else float(gpu)
    if not peak > 0 or n_gpus < 1:
        raise EconomicsError(f"peak {peak} FLOP/s on {n_gpus} cards; both must be above zero")
    return tokens_per_sec * flops_per_token(shape, seq_len, convention) / (peak * n_gpus)
