"""From a source to a folder of shards: tokenise in a stable order, block by block, resumably."""

import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from x1lib.data import writer
from x1lib.data.errors import DataError, ShardError
from x1lib.data.shards import Shards, sound_index
from x1lib.data.sources import Source, open_source
from x1lib.data.spool import Spool
from x1lib.data.tokenizer import Tokenizer, load_tokenizer

# Small enough that a partial last block and the shuffle inside a block cost nothing on 6M tokens.
DEFAULT_BLOCK_TOKENS = 2**20
# Text tokenised at once: enough to keep the cores busy, little enough for memory.
BATCH_CHARACTERS = 2**20


def data_root(root=None) -> Path:
    """Where prepared folders lie: `root`, else $X1_DATA, else ~/.cache/x1lib/data."""
    chosen = root or os.environ.get("X1_DATA") or "~/.cache/x1lib/data"
    return Path(chosen).expanduser()


def prepare(
    source="embedded",
    tokenizer="bpe4096",
    *,
    root=None,
    block_tokens=None,
    log: Callable[[str], None] | None = print,
) -> Path:
    """Tokenise `source` into blocks and return their folder; a folder already there is reused.

    `source` is "embedded" or a path, `block_tokens` the tokens in one block. The folder's name
    holds a hash of the inputs, so that another text or tokeniser never meets old blocks. Killed
    and run again it goes on and gives the same bytes. Raises SourceError, TokenizerError or
    DataError.
    """
    log = log or (lambda line: None)
    origin, words = open_source(source), load_tokenizer(tokenizer)
    block_tokens = DEFAULT_BLOCK_TOKENS if block_tokens is None else block_tokens
    if not isinstance(block_tokens, int) or block_tokens < 2:
        raise DataError(f"block_tokens is {block_tokens!r}; give a whole number of 2 or more")
    header = {
        "format": writer.FORMAT,
        "version": writer.VERSION,
        "source": origin.name,
        "source_sha256": origin.fingerprint(),
        "tokenizer": words.name,
        "tokenizer_sha256": words.fingerprint,
        "vocab_size": words.vocab_size,
        "eot_id": words.eot_id,
        "dtype": writer.token_dtype(words.vocab_size).name,
        "block_tokens": block_tokens,
    }
    identity = hashlib.sha256(json.dumps(header).encode()).hexdigest()[:10]
    stem = re.sub(r"[^\w.]+", "_", origin.name)
    folder = data_root(root) / f"{stem}-{words.name}-{block_tokens}-{identity}"
    if _is_ready(folder):
        return folder
    with writer.folder_lock(folder, log):
        if not _is_ready(folder):
            _Preparation(folder, header, origin, words, log).run()
    return folder


def _is_ready(folder: Path) -> bool:
    try:
        return Shards(folder).complete
    except ShardError:
        return False


class _Preparation:
    """One run of the pipeline on one folder, under its lock."""

    def __init__(self, folder: Path, header: dict, origin: Source, words: Tokenizer, log):
        self.folder, self.header, self.words, self.log = folder, header, words, log
        self.began = time.monotonic()
        with writer.named_os_errors(folder):
            for leftover in folder.glob("*.tmp"):
                leftover.unlink()
            self.spool = Spool(origin, folder, log)

    def run(self) -> None:
        index = sound_index(self.folder, self.log) or self._started()
        blocks, spool = index["blocks"], self.spool
        chain = blocks[-1]["chain"] if blocks else writer.first_link(self.header)
        if blocks:
            self.log(f"going on after {len(blocks)} blocks of {self.folder.name}")
        document, offset = blocks[-1]["next"] if blocks else (0, 0)
        index["complete"] = False
        for tokens, place in self._blocks(document, offset):
            entry = writer.write_tokens(self.folder, f"block-{len(blocks):05d}.npy", tokens)
            chain = writer.next_link(chain, entry["sha256"])
            n_bytes = int(self.words.token_bytes[tokens].sum())
            blocks.append({**entry, "n_bytes": n_bytes, "chain": chain, "next": place})
            writer.write_index(self.folder, index)
        index["complete"] = True
        writer.write_index(self.folder, index)
        spool.close()
        self._tell(index)

    def _started(self) -> dict:
        heldout = {}
        for name, numbers in self.spool.heldout.items():
            dtype = self.header["dtype"]
            tokens = np.concatenate([np.array(ids, dtype) for ids in self._encoded(numbers)])
            entry = writer.write_tokens(self.folder, f"heldout-{name}.npy", tokens)
            n_bytes = self.spool.bytes_of(numbers)
            heldout[name] = {**entry, "n_bytes": n_bytes, "n_documents": len(numbers)}
        training = self.spool.training
        return {
            **self.header,
            "n_documents": len(training),
            "n_bytes": self.spool.bytes_of(training),
            "empty_documents_skipped": self.spool.empty_documents,
            "complete": False,
            "heldout": heldout,
            "blocks": [],
        }

    def _encoded(self, numbers: np.ndarray) -> Iterator[list[int]]:
        """Token ids of each document, `<|endoftext|>` before it."""
        batch, size = [], 0
        for text in self.spool.texts(numbers):
            batch.append(text)
            size += len(text)
            if size >= BATCH_CHARACTERS:
                yield from self._with_eot(batch)
                batch, size = [], 0
        yield from self._with_eot(batch)

    def _with_eot(self, texts: list[str]) -> Iterator[list[int]]:
        for ids in self.words.encode_batch(texts):
            yield [self.words.eot_id, *ids]

    def _blocks(self, document: int, offset: int) -> Iterator[tuple[np.ndarray, list[int]]]:
        """Blocks from a place on, each with the place (document, token in it) where it ends."""
        self.began_blocks = self.said = time.monotonic()
        size, dtype = self.header["block_tokens"], self.header["dtype"]
        block = np.empty(size, dtype)
        filled = 0
        numbers = self.spool.training
        for i, ids in enumerate(self._encoded(numbers[document:]), document):
            ids = np.array(ids, dtype)
            while offset < len(ids):
                part = ids[offset : offset + size - filled]
                block[filled : filled + len(part)] = part
                filled, offset = filled + len(part), offset + len(part)
                if filled == size:
                    yield block, [i, offset]
                    filled = 0
            offset = 0
            self._progress(i + 1, len(numbers))
        if filled:
            yield block[:filled], [len(numbers), 0]

    def _progress(self, done: int, total: int) -> None:
        if time.monotonic() - self.said >= 1.0:
            self.said = time.monotonic()
            left = (self.said - self.began_blocks) * (total - done) / done
            self.log(f"tokenised {done:,} of {total:,} documents, about {left:.0f} s left")

    def _tell(self, index: dict) -> None:
        n_tokens = sum(entry["n_tokens"] for entry in index["blocks"])
        seconds = time.monotonic() - self.began
        self.log(
            f"{self.folder.name}: {n_tokens:,} tokens in {len(index['blocks'])} blocks from "
            f"{index['n_bytes'] / 1e6:.1f} MB, {seconds:.1f} s"
        )
