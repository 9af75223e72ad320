"""Where a post-mortem begins: the run, its spike, and the checkpoint to rewind to."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from x1lib import checkpoint, tracking
from x1lib.postmortem.classifier import LOSS_RULE, PROBE_RULE
from x1lib.postmortem.rewound import PostmortemError
from x1lib.session.spikes import BEFORE
from x1lib.stability import detect
from x1lib.tracking.manifest import MANIFEST

PARTS = {"step": ("step",), "probe": ("step",), "spike": ("step", "scores")}  # of a line
LEVEL = 15  # values that make the level before a spike


def find_run(name: str | Path, root: Path | str = ".") -> Path:
    """The run folder of that path, or under `root` the one whose mlflow or own run id it is.

    Raises PostmortemError where there is none.
    """
    folder = Path(name)
    if (folder / tracking.metrics.METRICS).exists():
        return folder
    for path in sorted(Path(root).rglob("mlflow.json")) + sorted(Path(root).rglob(MANIFEST)):
        try:
            found = json.loads(path.read_text()).get("run_id")
        except (OSError, ValueError, AttributeError):
            continue
        if found == str(name):
            return path.parent
    raise PostmortemError(
        f"{name} is no run folder, and no run under {Path(root).absolute()} has that id; give the"
        " folder that holds metrics.jsonl"
    )


def read_record(folder: Path) -> list[dict]:
    """Lines of a run's record; raises PostmortemError where there is none, or a line lacks a part.

    Steps that a run took back are among them.
    """
    path = Path(folder) / tracking.metrics.METRICS
    lines = tracking.read_lines(path)
    if not any(line.get("kind") == "step" for line in lines):
        raise PostmortemError(f"{path} has no step; give the folder of a run that has trained")
    for line in lines:
        kind = "spike" if line.get("event") == "spike" else line.get("kind")
        if lost := [name for name in PARTS.get(kind, ()) if name not in line]:
            raise PostmortemError(
                f"{path}: a line of kind {kind!r} has no {lost[0]!r}; it is no record that x1lib"
                " wrote, or was changed"
            )
    return lines


def find_spike(folder: Path) -> int:
    """The step of the run's worst spike: the one its own watch scored highest, else by its record.

    Losses by the watch's own rule, then by the more sensitive one of those who look closely, then
    the probe where it was read. Raises PostmortemError where nothing left its level.
    """
    lines = read_record(folder)
    watched = [line for line in lines if line.get("event") == "spike"]
    if watched:
        return max(watched, key=lambda line: line["scores"].get("loss", 0.0))["step"]
    for kind, options in (("step", {}), ("step", LOSS_RULE), ("probe", PROBE_RULE)):
        if (step := _worst(tracking.read_metrics(folder, kind), options)) is not None:
            return step
    raise PostmortemError(
        f"no loss of {folder} left its level, nor did its probe; give --step to look at one"
    )


def _worst(lines: list[dict], options: dict) -> int | None:
    """The step of the loss that is highest above its level of those that a rule flags."""
    lines = [line for line in lines if line.get("loss") is not None]
    values = np.array([line["loss"] for line in lines])
    found = detect(values, **options)
    if not len(found):
        return None
    level = np.array([np.median(values[max(0, i - LEVEL) : max(1, i)]) for i in found])
    return lines[found[np.argmax(values[found] - level)]]["step"]


def start_before(folder: Path, step: int) -> int:
    """The checkpoint to rewind to: the newest that leaves room to see what was normal."""
    there = [s for s in checkpoint.list_steps(Path(folder) / "state") if s < step]
    if not there:
        raise PostmortemError(f"{folder} holds no checkpoint before step {step}; nothing to rewind")
    return max([s for s in there if s <= step - BEFORE] or there[-1:])
