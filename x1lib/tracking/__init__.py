"""What a run writes about itself: metrics.jsonl is the truth, the rest is made from it."""

from x1lib.tracking.curve import draw_loss_curve, plot_loss
from x1lib.tracking.manifest import Manifest, git_state, sha256_of, utc_now, versions, write_json
from x1lib.tracking.metrics import (
    RecordError,
    Run,
    TrackingError,
    last_step,
    read_lines,
    read_metrics,
    used_seconds,
)
from x1lib.tracking.progress import Meter

__all__ = [
    "Manifest",
    "Meter",
    "RecordError",
    "Run",
    "TrackingError",
    "draw_loss_curve",
    "git_state",
    "last_step",
    "plot_loss",
    "read_lines",
    "read_metrics",
    "sha256_of",
    "used_seconds",
    "utc_now",
    "versions",
    "write_json",
]
