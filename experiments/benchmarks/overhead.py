"""What a step costs beside its arithmetic: reading the batch, checking, recording, pacing.

    python experiments/benchmarks/overhead.py --out overhead.json

Runs the real trainer in this process with a stopwatch around everything in its loop that is no
forward, backward or update, on shapes from nanoGPT's small CPU example up. The share is of the
time of whole steps, compiling left out.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections import defaultdict
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from x1lib import data, session, tracking, train

SHAPES = {
    "4x128:4/4:341": (64, 768, 150),
    "tiny": (256, 4096, 60),
    "6x384:6/6:1024": (256, 4096, 12),
}
UNTIMED = 3


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
    stopwatch(data.Shards, "batch", "read", spent)
    stopwatch(session.Session, "check_finite", "check", spent)
    stopwatch(session.Session, "stepped", "record", spent)
    stopwatch(train, "review_pace", "pace", spent)
    train.train(
        train.Config(
            shape=shape, tokenizer="bpe4096", seq_len=seq_len, batch_tokens=batch_tokens,
            steps=steps, out=str(folder), compile="on", sample_tokens=0, eval_every=steps,
            eval_tokens=seq_len, checkpoint_every=steps,
        ),
        log=lambda line: None,
    )  # fmt: skip
    seconds = [line["step_seconds"] for line in tracking.read_metrics(folder, "step")][UNTIMED:]
    step = statistics.median(seconds)
    shares = {k: statistics.median(v[UNTIMED:]) / step for k, v in spent.items()}
    return {"step_seconds": step, "shares": shares, "together": sum(shares.values())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    arguments = parser.parse_args()
    results = {}
    originals = (data.Shards.batch, session.Session.check_finite, session.Session.stepped)
    for shape in SHAPES:
        with tempfile.TemporaryDirectory() as folder:
            results[shape] = measure(shape, Path(folder) / "run")
        data.Shards.batch, session.Session.check_finite, session.Session.stepped = originals
        train.review_pace = session.review_pace
    print(json.dumps(results, indent=1))
    if arguments.out:
        tracking.write_json(arguments.out, results)


if __name__ == "__main__":
    main()
