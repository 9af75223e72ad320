"""Rates of what is billed beside the card, as somebody read them: examples, not offers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rate:
    """US dollars a GB; a month for storage."""

    usd_per_gb: float
    what: str
    source: str


STORAGE = Rate(
    0.07,
    "network volume below 1 TB at RunPod, a month",
    "docs.runpod.io/get-started/billing-information, an undated copy, read 2026-11-22",
)
EGRESS = Rate(
    0.09,
    "out of AWS to the internet, beyond the first 100 GB of a month",
    "wring.co/blog/aws-data-transfer-pricing-guide, 2026, read 2026-11-22; not Amazon's own page",
)
EGRESS_RUNPOD = Rate(0.0, "out of RunPod", "docs.runpod.io/pods/pricing, read 2026-11-22")
