"""What training costs: FLOPs, MFU, cards, prices, energy, memory, and `estimate` over them."""

from x1lib.economics import prices as _prices
from x1lib.economics.cards import GPUS, Gpu, gpu, gpu_by_driver_name
from x1lib.economics.checks import EconomicsError
from x1lib.economics.costs import Estimate, estimate
from x1lib.economics.flops import CONVENTIONS, flops_per_token, mfu
from x1lib.economics.prices import Price, StalePrice, price_of

__all__ = [
    "CONVENTIONS",
    "GPUS",
    "PRICES",
    "PROVIDERS",
    "EconomicsError",
    "Estimate",
    "Gpu",
    "Price",
    "StalePrice",
    "estimate",
    "flops_per_token",
    "gpu",
    "gpu_by_driver_name",
    "mfu",
    "price_of",
]


def __getattr__(name: str):
    if name in ("PRICES", "PROVIDERS"):  # read on first use, see prices.py
        return getattr(_prices, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
