"""MB of text per CPU-second of each stage, and the bytes that a document takes in the dedup index.

    python experiments/benchmarks/data_stages.py [--source PATH] [--megabytes 8] [--turns 5]

CPU time of one process, in turns over all stages; the median and the spread. A stage is given every
document here, also those that an earlier one would have dropped.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from x1lib.data import load_tokenizer
from x1lib.data.building.encode import Encoder
from x1lib.data.building.keyindex import KeyIndex
from x1lib.data.building.work import document_keys
from x1lib.data.stages import gopher, language, minhash, pii, quality, web_rules
from x1lib.data.stages.chain import n_utf8_bytes
from x1lib.data.streams import open_stream

KEYED_DOCUMENTS = 1_000  # of one call, as a batch has them


def sample(source: str, megabytes: float) -> list[str]:
    """Every tenth document of a source, up to so many megabytes."""
    found, size, number = [], 0, 0
    for batch in open_stream(source).batches():
        for document in batch.documents:
            number += 1
            if number % 10 == 0 and document.text.strip():
                found.append(document.text)
                size += n_utf8_bytes(document.text)
                if size >= megabytes * 1e6:
                    return found
    return found


def stages() -> dict[str, Callable[[list[str]], object]]:
    """What is timed, by name: functions of all the texts."""
    fast = Encoder(load_tokenizer("gpt2"), engine="tiktoken")
    slow = Encoder(load_tokenizer("gpt2"), engine="tokenizers")

    def each(function):
        return lambda texts: [function(text) for text in texts]

    return {
        "language": each(language.language_of),
        "gopher repetition": each(gopher.repetition_reason),
        "gopher quality": each(gopher.quality_reason),
        "c4": each(web_rules.c4),
        "fineweb": each(web_rules.fineweb_reason),
        "educational score": each(quality.educational_score),
        "pii": each(pii.scrub),
        "exact keys": each(minhash.exact_key),
        "minhash keys": minhash.band_keys,
        "tokenise, tiktoken": fast.encode_documents,
        "tokenise, tokenizers": slow.encode_documents,
    }


def index_bytes(texts: list[str]) -> dict[str, float]:
    """Bytes of a document in the index of near-duplicates, on disk and sorted."""
    with tempfile.TemporaryDirectory() as folder:
        index = KeyIndex(Path(folder), 1 + minhash.N_BANDS, 0)
        for i in range(0, len(texts), KEYED_DOCUMENTS):
            index.take(document_keys(texts[i : i + KEYED_DOCUMENTS], "near"))
        index.commit()
        on_disk = (Path(folder) / "dedup.keys").stat().st_size
        found = {"documents": index.n_rows, "journal_bytes_per_document": on_disk / index.n_rows}
        index.close()
        began = time.perf_counter()
        index = KeyIndex(Path(folder), 1 + minhash.N_BANDS, found["documents"])
        found["reopen_seconds"] = time.perf_counter() - began
        found["sorted_bytes_per_document"] = index.memory_keys_bytes / index.n_rows
        index.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", default="embedded")
    parser.add_argument("--megabytes", type=float, default=8.0)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--out", type=Path, help="write the figures to this .json")
    options = parser.parse_args()
    texts = sample(options.source, options.megabytes)
    n_mb = sum(map(n_utf8_bytes, texts)) / 1e6
    found: dict[str, list[float]] = {}
    ways = stages()
    for function in ways.values():
        function(texts[:20])  # models are loaded outside the timed part
    for _ in range(options.turns):
        for name, function in ways.items():
            began = time.process_time()
            function(texts)
            found.setdefault(name, []).append(n_mb / (time.process_time() - began))
    print(f"{options.source}: {n_mb:.1f} MB in {len(texts):,} documents, {options.turns} turns")
    for name, turns in found.items():
        middle = statistics.median(turns)
        print(f"{name:22}{middle:8.1f} MB per CPU-second ({min(turns):.1f} .. {max(turns):.1f})")
    index = index_bytes(texts)
    print(
        f"near-duplicate index: {index['journal_bytes_per_document']:.0f} bytes a document on disk,"
        f" {index['sorted_bytes_per_document']:.0f} sorted, {index['documents']:,} documents kept"
    )
    if options.out:
        record = {
            "command": sys.argv,
            "machine": platform.platform(),
            "cpus": os.cpu_count(),
            "megabytes": n_mb,
            "documents": len(texts),
            "mb_per_cpu_second": found,
            "index": index,
        }
        options.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
