"""How long a consumer waits for its data: a writer at work, a reader at a fixed rate behind it.

    python experiments/benchmarks/data_feed.py [--tokens-per-sec 500000] [--seconds 180]

The reader stands for a trainer: it asks for a batch, "computes" (sleeps) until the step's time is
over, and asks for the next. 500k tokens/s is more than an A100 takes at the shape 50m. A step's
waiting is the time until its batch is there, reading included; the first minute is told apart. The
writer tokenises a .jsonl made of the embedded text over and over, long enough for the whole run.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path

from data_tokenize import texts_of

from x1lib.data.building import feed

SEQ_LEN = 1_024
BATCH_TOKENS = 131_072


def consume(shards, tokens_per_sec: float, seconds: float) -> list[tuple[float, float]]:
    """(Second of the run, seconds waited) for each step."""
    rows, step_seconds = BATCH_TOKENS // SEQ_LEN, BATCH_TOKENS / tokens_per_sec
    waits, began, sample = [], time.perf_counter(), 0
    while (now := time.perf_counter()) - began < seconds:
        shards.batch(sample, rows, SEQ_LEN, seed=0)
        waited = time.perf_counter() - now
        waits.append((now - began, waited))
        sample += rows
        time.sleep(max(0.0, step_seconds - waited))
    return waits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens-per-sec", type=float, default=500_000.0)
    parser.add_argument("--seconds", type=float, default=180.0)
    parser.add_argument("--settled", type=float, default=60.0, help="seconds told apart")
    parser.add_argument(
        "--reserve",
        type=float,
        default=6.0,
        help="text for so many times what is read, so that the writer is at work to the end",
    )
    parser.add_argument("--recipe", default="plain")
    parser.add_argument("--workers", type=int, default=1, help="of the writer")
    parser.add_argument("--out", type=Path, help="write the figures to this .json")
    options = parser.parse_args()
    bytes_per_token = 4.6
    megabytes = options.tokens_per_sec * options.seconds * bytes_per_token * options.reserve / 1e6
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "text.jsonl"
        block = "".join(json.dumps({"text": text}) + "\n" for text in texts_of(20.0))
        with source.open("w") as file:
            for _ in range(int(megabytes / 20) + 1):
                file.write(block)
        began = time.perf_counter()
        shards, writer = feed(source, options.recipe, root=folder, workers=options.workers)
        first = time.perf_counter() - began
        waits = consume(shards, options.tokens_per_sec, options.seconds)
        was_at_work = writer is not None and writer.poll() is None
        if writer:
            writer.terminate()
            writer.wait()
    step_seconds = BATCH_TOKENS / options.tokens_per_sec
    later = [waited for at, waited in waits if at >= options.settled]
    share = sum(later) / (len(later) * step_seconds) if later else float("nan")
    print(f"first block after {first:.1f} s; writer still at work at the end: {was_at_work}")
    print(
        f"{len(later)} steps of {step_seconds * 1e3:.0f} ms after {options.settled:.0f} s: waiting"
        f" {share:.2%} of a step, median {statistics.median(later) * 1e3:.1f} ms, longest"
        f" {max(later) * 1e3:.0f} ms; source events: {shards.events}"
        if later
        else "no step after the first part; give more --seconds"
    )
    if options.out:
        record = {
            "command": sys.argv,
            "machine": platform.platform(),
            "cpus": os.cpu_count(),
            "first_block_seconds": first,
            "step_seconds": step_seconds,
            "waiting_share_settled": share,
            "waits": waits,
            "writer_at_work_at_the_end": was_at_work,
        }
        options.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
