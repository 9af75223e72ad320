"""Small folders of shards and small texts for the tests of the data layer."""

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np

from x1lib.data import writer

REPOSITORY = Path(__file__).parent.parent
SMALL = {"tokenizer": "bytes", "block_tokens": 50_000, "heldout_tokens": 20_000}
WORDS = "the sea was calm and no wind moved over old grey stones while gulls slept 17 times".split()

# Goes before the code of a child process. ru_maxrss of a new program begins at the peak of the one
# that started it: in a large test process it hides all that the child does.
PEAK = """
import resource, sys
from pathlib import Path
MAXRSS_PER_MB = 2**20 if sys.platform == "darwin" else 2**10
def peak_mb():
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().split("VmHWM:")[1].split()[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MAXRSS_PER_MB
"""

# A build that stays a while at each block, so that a reader is faster than it.
SLOW = """
import sys, time
from x1lib.data.building import build, onepass, recipe
write = onepass.writer.write_tokens
def slowly(*arguments):
    time.sleep(float(sys.argv[3]))
    return write(*arguments)
onepass.writer.write_tokens = slowly
print(build(sys.argv[1], recipe("plain", tokenizer="bytes", block_tokens=50_000,
            heldout_tokens=20_000), root=sys.argv[2], log=None))
"""


def write_folder(folder: Path, blocks, *, complete=True, vocab_size=60_000, block_tokens=1_000):
    """A folder as the pipeline writes it, from arrays of tokens; an old one is written over."""
    folder.mkdir(parents=True, exist_ok=True)
    dtype = writer.token_dtype(vocab_size)
    index = {
        "format": writer.FORMAT,
        "version": writer.VERSION,
        "source": "made-up",
        "source_sha256": "0" * 64,
        "tokenizer": "bytes",
        "tokenizer_sha256": "0" * 64,
        "vocab_size": vocab_size,
        "eot_id": 0,
        "dtype": dtype.name,
        "block_tokens": block_tokens,
        "n_documents": 1,
        "n_bytes": 0,
        "complete": complete,
        "heldout": {},
        "blocks": [],
    }
    entry = writer.write_tokens(folder, "heldout-documents.npy", np.arange(50).astype(dtype))
    index["heldout"]["documents"] = {**entry, "n_bytes": 50, "n_documents": 1}
    chain = writer.first_link(index)
    for i, block in enumerate(blocks):
        entry = writer.write_tokens(folder, f"block-{i:05d}.npy", np.asarray(block).astype(dtype))
        chain = writer.next_link(chain, entry["sha256"])
        index["blocks"].append({**entry, "n_bytes": 0, "chain": chain, "next": [i, 0]})
    writer.write_index(folder, index)
    return folder


def distinct_blocks(*sizes: int) -> list[np.ndarray]:
    """Blocks in which no token repeats, so that a token names its place."""
    edges = np.cumsum([0, *sizes])
    return [np.arange(a, b) for a, b in pairwise(edges)]


def write_jsonl(path: Path, n_documents: int, *, seed=0, sources=("made-up",)) -> Path:
    """Documents of random words with ids, 50 to 300 words each."""
    rng = np.random.default_rng(seed)
    with path.open("w", encoding="utf-8") as file:
        for i in range(n_documents):
            text = " ".join(rng.choice(WORDS, rng.integers(50, 300)))
            record = {"id": f"d{i}", "source": sources[i % len(sources)], "text": f"{i}: {text}"}
            file.write(json.dumps(record) + "\n")
    return path


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a prepared folder but the lock, by name."""
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir()) if p.name != ".lock"}


def slow_command(source, root, seconds=0.3) -> list[str]:
    """A build of `source` into `root`, with the sizes of SMALL, that waits before each file."""
    return [sys.executable, "-c", SLOW, str(source), str(root), str(seconds)]


def slow_writer(source, root, seconds=0.3) -> subprocess.Popen:
    """The process of a slow command."""
    return subprocess.Popen(
        slow_command(source, root, seconds), cwd=REPOSITORY, stdout=subprocess.DEVNULL
    )
