"""What a step costs beside its arithmetic: reading the batch, checking, recording, pacing.

    python experiments/benchmarks/overhead.py --out overhead.json

Runs the real trainer in this process with a stopwatch around everything in its loop that is no
forward, backward or update, on shapes from nanoGPT's small CPU example up, watching for spikes
(`on_spike = record`). The share is of the time of whole steps, compiling left out. `watch` judges
loss and gradient norm; `probe` is one reading of the probe over the steps between two of them.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import tempfile
import time
from collections import defaultdict
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from x1lib import data, session, tracking, train
from x1lib.session import spikes

SHAPES = {
    "4x128:4/4:341": (64, 768, 150),
    "tiny": (256, 4096, 60),
    "6x384:6/6:1024": (256, 4096, 12),
}
UNTIMED = 3


# What is timed: (owner, name, label). `record` calls `after`, and that reads the probe.
TIMED = (
    (data.Shards, "batch", "read"),
    (session.Session, "check_finite", "check"),
    (session.Session, "stepped", "record"),
    (spikes.Spikes, "judged", "judged"),
    (spikes.Spikes, "after", "after"),
    (spikes, "probe_loss", "probe"),
    (train, "review_pace", "pace"),
)
READINGS = 4  # of the probe in a run, however short


def stopwatch(owner: object, name: str, label: str, spent: dict[str, list[float]]) -> None:
    """Replace owner.name by itself with its seconds noted."""
    inner = getattr(owner, name)

    def timed(*args, **kwargs):
        start = time.perf_counter()
        try:
            return inner(*args, **kwargs)
        finally:
            spent[label].append(time.perf_counter() - start)

    setattr(owner, name, timed)


def measure(shape: str, folder: Path) -> dict:
    """Train the shape; returns seconds a step, and the share of each part that is no arithmetic."""
    seq_len, batch_tokens, steps = SHAPES[shape]
    spent: dict[str, list[float]] = defaultdict(list)
    for timed in TIMED:
        stopwatch(*timed, spent)
    train.train(
        train.Config(
            shape=shape, tokenizer="bpe4096", seq_len=seq_len, batch_tokens=batch_tokens,
            steps=steps, out=str(folder), compile="on", sample_tokens=0, eval_every=steps,
            eval_tokens=seq_len, checkpoint_every=steps, on_spike="record",
            probe_every=steps // READINGS,
        ),
        log=lambda line: None,
    )  # fmt: skip
    lines = tracking.read_metrics(folder, "step")
    step = statistics.median(line["step_seconds"] for line in lines[UNTIMED:])
    each = {k: np.array(v[UNTIMED if len(v) == steps else 1 :]) for k, v in spent.items()}
    each["record"] -= each["after"]  # which a reading of the probe is part of, in few steps
    judged, after = each.pop("judged"), each.pop("after")
    each["watch"] = judged + after
    # As often as the trainer reads it where nobody says how often.
    stride = math.ceil(spikes.PROBE_ROWS / (spikes.PROBE_SHARE * batch_tokens / seq_len))
    each["probe"] = each["probe"] / stride
    shares = {k: float(np.median(v)) / step for k, v in each.items()}
    return {"step_seconds": step, "shares": shares, "together": sum(shares.values())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    arguments = parser.parse_args()
    results = {}
    originals = [(owner, name, getattr(owner, name)) for owner, name, _ in TIMED]
    for shape in arguments.shapes:
        with tempfile.TemporaryDirectory() as folder:
            results[shape] = measure(shape, Path(folder) / "run")
        for original in originals:
            setattr(*original)
    print(json.dumps(results, indent=1))
    if arguments.out:
        tracking.write_json(arguments.out, results)


if __name__ == "__main__":
    main()
