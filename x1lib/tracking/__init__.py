"""What a run writes about itself: metrics.jsonl is the truth, the rest is made from it."""

from x1lib.tracking.columns import Columns, columns_of
from x1lib.tracking.curve import draw_loss_curve, plot_loss, token_unit
from x1lib.tracking.manifest import (
    MANIFEST_FORMAT,
    Manifest,
    git_state,
    sha256_of,
    utc_now,
    versions,
    write_json,
)
from x1lib.tracking.manifest.checking import ManifestError, manifest_faults
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
from x1lib.tracking.secrets import environment, scrub, scrub_output, scrubbed

__all__ = [
    "MANIFEST_FORMAT",
    "Columns",
    "Manifest",
    "ManifestError",
    "Meter",
    "RecordError",
    "Run",
    "TrackingError",
    "columns_of",
    "draw_loss_curve",
    "environment",
    "git_state",
    "last_step",
    "manifest_faults",
    "plot_loss",
    "read_lines",
    "read_metrics",
    "scrub",
    "scrub_output",
    "scrubbed",
    "sha256_of",
    "token_unit",
    "used_seconds",
    "utc_now",
    "versions",
    "write_json",
]
