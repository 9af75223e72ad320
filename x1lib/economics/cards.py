"""Cards: dense peaks, memory, power and links from data sheets, found by name or driver's name."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from x1lib.economics.checks import EconomicsError, near

PCIE3, PCIE4, PCIE5 = 32e9, 64e9, 128e9  # bytes/s of 16 lanes, both directions together


@dataclass(frozen=True)
class Gpu:
    """A card as its maker's data sheet states it, dense: figures with sparsity are halved.

    bf16_flops_per_sec: products of bf16 summed in float32, which is what torch's matmul does.
    memory_bytes: in decimal gigabytes, as sold. watts: the board's limit. link_bytes_per_sec: to
    the other cards of the machine, both directions together, as data sheets count it; PCIe for
    cards that are sold without a bridge. None is unknown or absent; `missing` says which.
    """

    name: str
    driver_pattern: str = ""  # regular expression for the whole name that the driver reports
    bf16_flops_per_sec: float | None = None
    source: str = ""
    fp8_flops_per_sec: float | None = None
    memory_bytes: float | None = None
    memory_bytes_per_sec: float | None = None
    watts: float | None = None
    link_bytes_per_sec: float | None = None
    missing: dict[str, str] = field(default_factory=dict, compare=False)  # field -> why it is None

    def training_flops_per_sec(self) -> float:
        """The dense bf16 peak; raises EconomicsError, with the reason, for a card without one."""
        peak = self.bf16_flops_per_sec
        if peak is None:
            why = self.missing.get("bf16_flops_per_sec", "no bf16 peak is known for it")
            raise EconomicsError(f"{self.name} is no card to train on here: {why}")
        if not 0 < peak < float("inf"):
            raise EconomicsError(
                f"{self.name}: peak {peak} FLOP/s; expected a finite number above zero"
            )
        return float(peak)


_NO_FP8 = {"fp8_flops_per_sec": "tensor cores multiply FP8 since Ada and Hopper; this is Ampere"}
_A100 = "NVIDIA A100 data sheet, June 2021"
_H100 = "NVIDIA H100 data sheet, 2023; figures with sparsity halved"
_H200 = "NVIDIA H200 data sheet, 2024; figures with sparsity halved"


def _a100(memory_gb: int, form: str, pattern: str, gb_per_sec: float, watts: float) -> Gpu:
    return Gpu(
        name=f"A100-{memory_gb}GB-{form}",
        driver_pattern=pattern,
        bf16_flops_per_sec=312e12,
        source=_A100,
        memory_bytes=memory_gb * 1e9,
        memory_bytes_per_sec=gb_per_sec * 1e9,
        watts=watts,
        link_bytes_per_sec=600e9 if form == "SXM" else PCIE4,
        missing=_NO_FP8,
    )


def _sparse(name: str, pattern: str, bf16: float, fp8: float, source: str, *rest: float) -> Gpu:
    """A card whose sheet states TFLOP/s with 2:4 sparsity, twice what dense matrices reach.

    rest: memory [GB], memory bandwidth [GB/s], power [W], link [bytes/s].
    """
    memory_gb, gb_per_sec, watts, link = rest
    return Gpu(
        name=name,
        driver_pattern=pattern,
        bf16_flops_per_sec=bf16 * 1e12 / 2,
        source=source,
        fp8_flops_per_sec=fp8 * 1e12 / 2,
        memory_bytes=memory_gb * 1e9,
        memory_bytes_per_sec=gb_per_sec * 1e9,
        watts=watts,
        link_bytes_per_sec=link,
    )


GPUS = {
    card.name: card
    for card in (
        _a100(40, "PCIe", r"A100-PCIE-40GB|A100 40GB PCIe", 1555, 250),
        _a100(40, "SXM", r"A100-SXM4?-40GB", 1555, 400),
        _a100(80, "PCIe", r"A100 80GB PCIe|A100-PCIE-80GB", 1935, 300),
        _a100(80, "SXM", r"A100-SXM4?-80GB", 2039, 400),
        _sparse("H100-80GB-PCIe", r"H100 PCIe", 1513, 3026, _H100, 80, 2000, 350, PCIE5),
        _sparse("H100-80GB-SXM", r"H100 80GB HBM3", 1979, 3958, _H100, 80, 3350, 700, 900e9),
        # Sold as pairs under a bridge; 400 W is the upper end of its configurable range.
        _sparse("H100-94GB-NVL", r"H100 NVL", 1671, 3341, _H100, 94, 3900, 400, 600e9),
        _sparse("H200-141GB-SXM", r"H200", 1979, 3958, _H200, 141, 4800, 700, 900e9),
        _sparse(
            "B200-180GB-SXM",
            r"B200",
            4500,
            9000,
            "NVIDIA Blackwell data sheet, 2024, HGX B200 at 1,000 W; figures with sparsity halved",
            180,
            8000,
            1000,
            1800e9,
        ),
        # The module with 96 GB of HBM3. Its limit counts the Grace CPU and the memory too; the
        # link is NVLink-C2C to that CPU, and NVLink to other modules is as fast.
        _sparse(
            "GH200",
            r"GH200 (480|120)GB",
            1979,
            3958,
            "NVIDIA GH200 data sheet, 2023, 96 GB HBM3; figures with sparsity halved",
            96,
            4000,
            1000,
            900e9,
        ),
        # The sheet's rows read "362.05 | 733" and "733 | 1,466": dense, then with sparsity.
        Gpu(
            name="L40S",
            driver_pattern=r"L40S",
            bf16_flops_per_sec=362.05e12,
            source="NVIDIA L40S data sheet, 2023",
            fp8_flops_per_sec=733e12,
            memory_bytes=48e9,
            memory_bytes_per_sec=864e9,
            watts=350,
            link_bytes_per_sec=PCIE4,
        ),
        _sparse(
            "L4",
            r"L4",
            242,
            485,
            "NVIDIA L4 data sheet, 2023; figures with sparsity halved",
            24,
            300,
            72,
            PCIE4,
        ),
        # Not AWS's A10G, another product with 70 TFLOP/s.
        Gpu(
            name="A10",
            driver_pattern=r"A10",
            bf16_flops_per_sec=125e12,
            source="NVIDIA A10 data sheet, March 2021",
            memory_bytes=24e9,
            memory_bytes_per_sec=600e9,
            watts=150,
            link_bytes_per_sec=PCIE4,
            missing=_NO_FP8,
        ),
        Gpu(
            name="T4",
            driver_pattern=r"T4",
            source="NVIDIA T4 data sheet, 2019",
            memory_bytes=16e9,
            memory_bytes_per_sec=320e9,
            watts=70,
            link_bytes_per_sec=PCIE3,
            missing={
                "bf16_flops_per_sec": "its tensor cores (Turing, 2018) multiply fp16 but not bf16,"
                " and in float32 it has 8 TFLOP/s; take an L4 or newer",
                "fp8_flops_per_sec": "tensor cores multiply FP8 since Ada and Hopper",
            },
        ),
        # GeForce cards sum in float32 at half the rate at which they sum in fp16 (330.3 and 419
        # TFLOP/s); torch's bf16 matmul sums in float32.
        Gpu(
            name="RTX-4090",
            driver_pattern=r"RTX 4090",
            bf16_flops_per_sec=165.2e12,
            source="NVIDIA Ada architecture white paper, 2022: dense, summed in float32",
            fp8_flops_per_sec=330.3e12,
            memory_bytes=24e9,
            memory_bytes_per_sec=1008e9,
            watts=450,
            link_bytes_per_sec=PCIE4,
        ),
        Gpu(
            name="RTX-5090",
            driver_pattern=r"RTX 5090",
            bf16_flops_per_sec=209.5e12,
            source="NVIDIA RTX Blackwell architecture white paper, 2025: dense, summed in float32",
            fp8_flops_per_sec=419e12,
            memory_bytes=32e9,
            memory_bytes_per_sec=1792e9,
            watts=575,
            link_bytes_per_sec=PCIE5,
        ),
    )
}

_MAKER = r"(?:NVIDIA |Tesla |GeForce )*"


def gpu_by_driver_name(driver_name: str) -> Gpu | None:
    """Return the card that a driver's device name means, or None for one we have no data of.

    The whole name has to match: a laptop's chip, a virtual or cut-down card and a MIG slice bear
    their parent's name with a suffix, and are never the whole card.
    """
    for card in GPUS.values():
        if re.fullmatch(f"{_MAKER}(?:{card.driver_pattern})", driver_name.strip()):
            return card
    return None


def gpu(name: str | Gpu) -> Gpu:
    """Return the card of a name: a key of GPUS in any case, the driver's name, or a Gpu itself.

    Raises EconomicsError for another name, with the cards nearest to it, and for a MIG slice.
    """
    if isinstance(name, Gpu):
        return name
    if not isinstance(name, str):
        raise EconomicsError(f"gpu is {name!r}; expected a name, such as A100-80GB-SXM, or a Gpu")
    keys = {key.lower(): card for key, card in GPUS.items()}
    key = name.strip().lower().replace(" ", "-").replace("_", "-")
    card = keys.get(key) or gpu_by_driver_name(name)
    if card is not None:
        return card
    if re.search(r"\bMIG\b", name):
        whole = gpu_by_driver_name(name.partition(" MIG")[0])
        raise EconomicsError(
            f"{name!r} is a MIG slice, a part of {whole.name if whole else 'a card'}, and no peak"
            " is known for it; switch MIG off, or give a Gpu with the slice's own measured peak"
        )
    alike = near(name, GPUS)
    which = f"near it are {', '.join(alike)}" if alike else f"known are {', '.join(GPUS)}"
    raise EconomicsError(f"no peak is known for {name!r}; give a measured one in a Gpu, or a card:"
                         f" {which}")  # fmt: skip
