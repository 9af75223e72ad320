"""Tokenise and shard beside raw tiktoken: MB of text per second, the same cores, in turns.

    python experiments/benchmarks/data_tokenize.py [--cores 2] [--megabytes 200] [--out FILE.json]

Raw is one call of tiktoken's encode_ordinary_batch on texts that are in memory, with as many
threads as cores. Ours is all of `build` with the recipe "plain": read a .jsonl, encode, write and
sync blocks, index and hashes, with as many worker processes. Both use the same merges, and the
tokens of both are counted and must agree; X1_ENCODER=gigatoken lets ours encode with that. The
text is the embedded one, cut at 4,000 characters, over and over. Peak memory is that of a builder
and of its largest worker, of new processes that build a quarter, half and all of the text: those of
the turns begin with the texts and the ids of this one.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
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
# VmHWM and not ru_maxrss, which a new program takes over from the one that started it.
BUILD_AND_TELL = """
import re, resource, sys
from pathlib import Path
from x1lib.data.building import build, recipe
build(sys.argv[1], recipe("plain"), root=sys.argv[2], workers=int(sys.argv[3]), log=None)
print(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


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


def write_texts(path: Path, texts: list[str]) -> None:
    """The texts as a .jsonl."""
    with path.open("w") as file:
        file.writelines(json.dumps({"text": text}) + "\n" for text in texts)


def peak_mb(source: Path, root: Path, cores: int) -> list[float]:
    """MiB held at most by the builder and by its largest worker (0 without workers); Linux only."""
    words = [sys.executable, "-c", BUILD_AND_TELL, source, root, str(cores)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    shutil.rmtree(root)
    return [int(kib) / 1024 for kib in done.stdout.split()]


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
        write_texts(source, texts)
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
        peaks = []
        for part in (4, 2, 1):
            write_texts(source, texts[: len(texts) // part])
            for cores in options.cores:
                builder, worker = peak_mb(source, Path(folder) / "root", cores)
                peaks.append(
                    {
                        "megabytes": n_mb / part,
                        "cores": cores,
                        "builder_mb": builder,
                        "largest_worker_mb": worker,
                    }
                )
                print(
                    f"{n_mb / part:.0f} MB on {cores} cores: builder {builder:.0f} MB at its peak,"
                    f" largest worker {worker:.0f} MB"
                )
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
            "peaks": peaks,
        }
        options.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
