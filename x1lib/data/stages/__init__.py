"""Stages between a crawled page and a token: each says what it drops and why."""

from x1lib.data.stages.chain import (
    Count,
    Dropped,
    Outcome,
    Stage,
    run_stages,
    text_change,
    text_rule,
)

__all__ = ["Count", "Dropped", "Outcome", "Stage", "run_stages", "text_change", "text_rule"]
