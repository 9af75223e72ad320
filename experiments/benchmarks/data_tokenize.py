"""Tokenise and shard beside raw tiktoken: MB of text per second, the same cores, in turns.

    python experiments/benchmarks/data_tokenize.py [--cores 2] [--megabytes 200] [--out FILE.json]

Raw is one call of tiktoken's encode_ordinary_batch on texts that are in memory, with as many
threads as cores. Ours is all of `build` with the recipe "plain": read a .jsonl, encode, write and
sync blocks, index and hashes, with as many worker processes. Both use the same merges, and the
tokens of both are counted and must agree; X1_ENCODER=gigatoken lets ours encode with that. The
text is the embedded one, cut at 4,000 characters, over and over. Peak memory is that of the builder
and its largest worker.
"""

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import tiktoken

from x1lib.data import Shards, load_tokenizer
from x1lib.data.building import build, recipe
from x1lib.data.building.encode import Encoder, tiktoken_encoding
from x1lib.data.sources import open_source

DOCUMENT_CHARACTERS = 4_000


def texts_of(megabytes: float) -> list[str]:
    """So many megabytes of documents, each of 4,000 characters at most."""
    cut = []
    for document in open_source("embedded").documents():
        text = document.text
        cut += [text[i : i + DOCUMENT_CHARACTERS] for i in range(0, len(text), DOCUMENT_CHARACTERS)]
    found, size = [], 0.0
    while True:
        for text in cut:
            if size >= megabytes * 1e6:
                return found
            found.append(text)
            size += len(text.encode())


def run_raw(encoding: tiktoken.Encoding, texts: list[str], cores: int) -> tuple[float, int]:
    """Seconds of one raw call, and its tokens."""
    began = time.perf_counter()
    ids = encoding.encode_ordinary_batch(texts, num_threads=cores)
    return time.perf_counter() - began, sum(map(len, ids))


def run_ours(source: Path, root: Path, cores: int) -> tuple[float, int]:
    """Seconds of a whole build, and its tokens without the documents' marks."""
    shutil.rmtree(root, ignore_errors=True)
    began = time.perf_counter()
    folder = build(source, recipe("plain"), root=root, workers=cores, log=None)
    seconds = time.perf_counter() - began
    shards = Shards(folder)
    marks = shards.index["n_documents"] + shards.index["heldout"]["documents"]["n_documents"]
    return seconds, shards.n_tokens + len(shards.heldout("documents")) - marks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cores", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--megabytes", type=float, default=200.0, help="text of one turn")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--root", type=Path, help="folder for what is written (default: temporary)")
    parser.add_argument("--out", type=Path, help="write the figures to this .json")
    options = parser.parse_args()
    texts = texts_of(options.megabytes)
    n_mb = sum(len(text.encode()) for text in texts) / 1e6
    encoding = tiktoken_encoding(load_tokenizer("gpt2"))
    results = {}
    with tempfile.TemporaryDirectory(dir=options.root) as folder:
        source = Path(folder) / "text.jsonl"
        source.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        print(f"{n_mb:.1f} MB in {len(texts):,} documents, {options.turns} turns each")
        for cores in options.cores:
            raw, ours = [], []
            for _ in range(options.turns):
                # the larger memory of the raw call's lists is given back before ours begins
                seconds, n_raw = run_raw(encoding, texts, cores)
                raw.append(n_mb / seconds)
                seconds, n_ours = run_ours(source, Path(folder) / "root", cores)
                ours.append(n_mb / seconds)
                if n_raw != n_ours:
                    raise SystemExit(f"raw gave {n_raw:,} tokens, ours {n_ours:,}")
            ratios = [b / a for a, b in zip(raw, ours)]
            results[cores] = {"raw_mb_per_sec": raw, "ours_mb_per_sec": ours, "ratio": ratios}
            print(
                f"{cores} cores: raw {statistics.median(raw):.1f} MB/s, ours"
                f" {statistics.median(ours):.1f} MB/s, ratio {statistics.median(ratios):.2f}"
                f" ({min(ratios):.2f} .. {max(ratios):.2f}), {n_ours / 1e6:.1f}M tokens"
            )
    peak = {
        "builder_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "largest_worker_mb": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024,
    }
    print(f"largest worker {peak['largest_worker_mb']:.0f} MB")
    if options.out:
        record = {
            "command": sys.argv,
            "machine": platform.platform(),
            "cpus": os.cpu_count(),
            "python": platform.python_version(),
            "numpy": np.__version__,
            "tiktoken": tiktoken.__version__,
            "encoder": Encoder(load_tokenizer("gpt2")).engine,
            "megabytes": n_mb,
            "documents": len(texts),
            "by_cores": results,
            "peak": peak,
        }
        options.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
