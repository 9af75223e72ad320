"""Spikes: rules that find them, and faults that make them. Arrays and floats; numpy only."""

from x1lib.stability.faults import (
    FAULTS,
    KINDS,
    Fault,
    Injection,
    largest_update,
    rarest,
)
from x1lib.stability.rules import (
    POLICIES,
    RULES,
    Rule,
    StabilityError,
    detect,
    detector,
    lead,
    spike_score,
)

__all__ = [
    "FAULTS",
    "KINDS",
    "POLICIES",
    "RULES",
    "Fault",
    "Injection",
    "Rule",
    "StabilityError",
    "detect",
    "detector",
    "largest_update",
    "lead",
    "rarest",
    "spike_score",
]
