"""Spikes: rules that find them, and faults that make them. Arrays and floats; numpy only."""

from x1lib.stability.rules import (
    RULES,
    Rule,
    StabilityError,
    detect,
    detector,
    lead,
    spike_score,
)

__all__ = [
    "RULES",
    "Rule",
    "StabilityError",
    "detect",
    "detector",
    "lead",
    "spike_score",
]
