"""How fast `Shards.batch` reads, beside a plain loop over rows: tokens per second, warm cache.

    python experiments/benchmarks/shards_read.py [--dir DIR] [--turns 7] [--out FILE.json]

Without --dir it reads the embedded text as bytes (20M ids, 40 MB). The loop beside it is the usual
one: open the map anew for each batch, copy a row at a time at random offsets, stack. Both take
turns on the same machine. Every token of both is in the page cache before the clock starts.
"""

import argparse
import json
import platform
import statistics
import sys
import time
from pathlib import Path

import numpy as np

from x1lib.data import Shards, prepare

SEQ_LENS = (256, 1_024)
BATCH_TOKENS = 16_384
TURN_TOKENS = 2**24


def read_shards(shards: Shards, seq_len: int) -> int:
    """Read consecutive batches in the order a trainer asks for them; returns the tokens."""
    rows = BATCH_TOKENS // seq_len
    n_batches = TURN_TOKENS // BATCH_TOKENS
    for i in range(n_batches):
        shards.batch(i * rows, rows, seq_len, seed=0)
    return n_batches * rows * seq_len


def read_rows(shards: Shards, seq_len: int) -> int:
    """Random rows of the first block, one copy each, from a map opened for each batch."""
    rng = np.random.default_rng(0)
    path = shards.folder / shards.blocks[0]["file"]
    rows = BATCH_TOKENS // seq_len
    n_batches = TURN_TOKENS // BATCH_TOKENS // 8  # slower: fewer, so that turns take alike
    for _ in range(n_batches):
        tokens = np.load(path, mmap_mode="r")
        starts = rng.integers(0, len(tokens) - seq_len - 1, rows)
        np.stack([tokens[start : start + seq_len + 1] for start in starts])
    return n_batches * rows * seq_len


def measure(shards: Shards, seq_len: int, n_turns: int) -> dict[str, list[float]]:
    """Millions of tokens per second of each way, turn by turn."""
    ways = {"Shards.batch": read_shards, "row by row": read_rows}
    found: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        way(shards, seq_len)  # warm
    for _ in range(n_turns):
        for name, way in ways.items():
            began = time.perf_counter()
            n_tokens = way(shards, seq_len)
            found[name].append(n_tokens / (time.perf_counter() - began) / 1e6)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dir", type=Path, help="a prepared folder")
    parser.add_argument("--turns", type=int, default=7, help="turns of each way")
    parser.add_argument("--out", type=Path, help="write the figures to this .json")
    options = parser.parse_args()
    shards = Shards(options.dir or prepare("embedded", "bytes"))
    shards.verify()  # reads every byte: the page cache is warm from here on
    results = {}
    print(f"{shards.folder.name}: {shards.n_tokens:,} tokens, {shards.dtype.name}")
    print(f"{'':14} seq_len  median M tokens/s  (least .. most of {options.turns} turns)")
    for seq_len in SEQ_LENS:
        results[seq_len] = measure(shards, seq_len, options.turns)
        for name, turns in results[seq_len].items():
            middle = statistics.median(turns)
            print(
                f"{name:14} {seq_len:7} {middle:18,.0f}  ({min(turns):,.0f} .. {max(turns):,.0f})"
            )
    if options.out:
        record = {
            "command": sys.argv,
            "machine": platform.platform(),
            "processor": platform.processor() or platform.machine(),
            "python": platform.python_version(),
            "numpy": np.__version__,
            "folder": shards.folder.name,
            "batch_tokens": BATCH_TOKENS,
            "million_tokens_per_sec": results,
        }
        options.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
