"""From a stream to a folder of shards in one pass, written so that training may begin at once."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from x1lib.data import writer
from x1lib.data.building.keyindex import KeyIndex
from x1lib.data.building.recipe import Recipe
from x1lib.data.building.tally import Tally
from x1lib.data.building.work import Worked, Workers
from x1lib.data.errors import ShardError, SourceError
from x1lib.data.pipeline import data_root
from x1lib.data.shards import Shards, sound_index
from x1lib.data.sources import HELDOUT_SOURCE, stable_hash
from x1lib.data.streams import Stream, open_stream
from x1lib.data.tokenizer import load_tokenizer

# One in four documents of the opening is held out, until there are enough tokens of them.
HELDOUT_BELOW = 2**64 // 4


def build(
    source: str | Path | Stream,
    recipe: Recipe,
    *,
    root=None,
    max_tokens: int | None = None,
    workers: int = 1,
    log: Callable[[str], None] | None = print,
) -> Path:
    """Filter, deduplicate, tokenise and shard a source in one pass; return the folder.

    Blocks appear in the folder as they fill, so that a trainer may read behind the writer. At
    `max_tokens` it ends with the block that reaches them. Killed anywhere and run again with the
    same arguments it goes on and gives the same bytes; a folder already there is reused. Raises
    SourceError, TokenizerError or DataError.
    """
    log = log or (lambda line: None)
    stream = source if hasattr(source, "batches") else open_stream(source, log=log)

    def hire() -> Workers:
        return Workers(recipe, workers)

    return assemble(stream, recipe, hire, root=root, max_tokens=max_tokens, log=log)


def assemble(
    stream: Stream, recipe: Recipe, workers, *, root=None, max_tokens=None, log=None
) -> Path:
    """The part of `build` that sees all documents: duplicates, held-out text, blocks.

    `workers()` gives what works on batches: its `.results(batches)` yields (Batch, Worked) in
    order, and it has `.close()`.
    """
    log = log or (lambda line: None)
    folder, header = plan_folder(stream, recipe, root=root, max_tokens=max_tokens)
    if not _is_ready(folder):
        with writer.folder_lock(folder, log):
            if not _is_ready(folder):
                _Building(folder, header, stream, recipe, max_tokens, workers, log).run()
    return folder


def plan_folder(stream: Stream, recipe: Recipe, *, root=None, max_tokens=None) -> tuple[Path, dict]:
    """The folder that a build of these would have, and the head of its index; writes nothing."""
    words = load_tokenizer(recipe.tokenizer)
    source_sha256 = hashlib.sha256(json.dumps(stream.identity()).encode()).hexdigest()
    header = {
        "format": writer.FORMAT,
        "version": writer.VERSION,
        "source": stream.name,
        "source_sha256": source_sha256,
        "tokenizer": words.name,
        "tokenizer_sha256": words.fingerprint,
        "vocab_size": words.vocab_size,
        "eot_id": words.eot_id,
        "dtype": writer.token_dtype(words.vocab_size).name,
        "block_tokens": recipe.block_tokens,
        "recipe": recipe.identity(),
        "max_tokens": max_tokens,
    }
    identity = hashlib.sha256(json.dumps(header).encode()).hexdigest()[:10]
    stem = re.sub(r"[^\w.]+", "_", stream.name)
    return data_root(root) / f"{stem}-{words.name}-{recipe.block_tokens}-{identity}", header


def _is_ready(folder: Path) -> bool:
    try:
        return Shards(folder).complete
    except ShardError:
        return False


class _Building:
    """One run of the pipeline on one folder, under its lock."""

    def __init__(self, folder: Path, header, stream: Stream, recipe: Recipe, max_tokens, hire, log):
        self.folder, self.header, self.recipe, self.log = folder, header, recipe, log
        self.stream, self.max_tokens, self.hire = stream, max_tokens, hire
        self.words = load_tokenizer(recipe.tokenizer)
        self.began = time.monotonic()
        self.seconds: dict[str, float] = {}
        with writer.named_os_errors(folder):
            for leftover in folder.glob("*.tmp"):
                leftover.unlink()

    def run(self) -> None:
        index = self._kept() or self._empty()
        blocks = index["blocks"]
        self.tally = Tally.restored(blocks[-1]["next"] if blocks else None)
        self.chain = blocks[-1]["chain"] if blocks else writer.first_link(self.header)
        written = blocks[-1]["next"]["tokens"] if blocks else 0
        if blocks:
            self.log(f"going on after {len(blocks)} blocks of {self.folder.name}")
        workers = self.hire()
        self.keys = None
        if self.recipe.key_width:
            self.keys = KeyIndex(self.folder, self.recipe.key_width, self.tally.n_keys)
        try:
            index["ended"] = self._fill(index, workers, written)
            if self.keys:
                self.keys.commit()
        finally:
            workers.close()
            if self.keys:
                self.keys.close()
        index["complete"] = True
        writer.write_index(self.folder, index)
        self._tell(index)

    def _empty(self) -> dict:
        return {
            **self.header,
            "n_documents": 0,
            "n_bytes": 0,
            "complete": False,
            "ended": None,
            "counts": {},
            "heldout": {},
            "blocks": [],
        }

    def _kept(self) -> dict | None:
        """The index of an earlier run as far as it is sound, its sums made to fit."""
        index = sound_index(self.folder, self.log)
        if index is None or not index["blocks"]:
            return None
        index["complete"] = False
        index["n_bytes"] = sum(entry["n_bytes"] for entry in index["blocks"])
        index["n_documents"] = sum(self._documents_in(entry) for entry in index["blocks"])
        return index

    def _documents_in(self, entry: dict) -> int:
        tokens = np.load(self.folder / entry["file"], mmap_mode="r")
        return int((tokens == self.words.eot_id).sum())

    # one pass

    def _fill(self, index: dict, workers: Workers, written: int) -> str:
        """Write blocks until the source or the wish for tokens ends; returns which of the two.

        `written` tokens of the first batch stand in blocks already.
        """
        self.said = time.monotonic()
        size = self.recipe.block_tokens
        block, filled = np.empty(size, self.header["dtype"]), 0
        if self._is_enough(index):
            return "max_tokens"
        for tokens, state in self._after_heldout(index, workers):
            at, written = written, 0
            while at < len(tokens):
                part = tokens[at : at + size - filled]
                block[filled : filled + len(part)] = part
                filled, at = filled + len(part), at + len(part)
                if filled == size:
                    self._write_block(index, block, {**state, "tokens": at})
                    filled = 0
                    if self._is_enough(index):
                        return "max_tokens"
        if filled:
            self._write_block(index, block[:filled], {**self.tally.state(), "tokens": 0})
        if not index["blocks"]:
            fewer = ", or a recipe with fewer filters" if self.recipe.filters else ""
            raise SourceError(
                f"{self.stream.name}: no text is left to train on ({self.tally.drops()}); give"
                f" more documents{fewer}"
            )
        index["counts"] = self.tally.state()["counts"]
        return "source"

    def _is_enough(self, index: dict) -> bool:
        n_tokens = sum(entry["n_tokens"] for entry in index["blocks"])
        return self.max_tokens is not None and n_tokens >= self.max_tokens

    def _after_heldout(self, index: dict, workers: Workers) -> Iterator[tuple[np.ndarray, dict]]:
        """The training tokens, the first of them once the held-out text is whole and written."""
        if index["heldout"]:
            yield from self._training(workers, None)
            return
        heldout: list[np.ndarray] = []
        waiting = []
        for tokens, state in self._training(workers, heldout):
            waiting.append((tokens, state))
            if self.tally.heldout_tokens >= self.recipe.heldout_tokens:
                if not index["heldout"]:
                    self._write_heldout(index, heldout)
                yield from waiting
                waiting = []
        if heldout and not index["heldout"]:
            self._write_heldout(index, heldout)
        yield from waiting

    def _training(
        self, workers: Workers, heldout: list[np.ndarray] | None
    ) -> Iterator[tuple[np.ndarray, dict]]:
        """The training tokens of each batch, and the state to go on from before it."""
        for batch, worked in workers.results(self.stream.batches(self.tally.cursor)):
            state = self.tally.state()
            for name, seconds in worked.seconds.items():
                self.seconds[name] = self.seconds.get(name, 0.0) + seconds
            keep = self._without_duplicates(worked)
            training = []
            for i in keep:
                tokens = worked.tokens[worked.edges[i] : worked.edges[i + 1]]
                if worked.sources[i] == HELDOUT_SOURCE and self.stream.name == "embedded":
                    self.tally.drop("held out", worked.n_bytes[i], "a source held out whole")
                elif self._is_held_out(worked.ids[i]):
                    self.tally.hold_out(len(tokens), worked.n_bytes[i])
                    if heldout is not None:
                        heldout.append(tokens)
                else:
                    self.tally.keep("held out", worked.n_bytes[i])
                    training.append(tokens)
            self.tally.add(batch, worked.counts)
            self._progress()
            yield np.concatenate(training) if training else worked.tokens[:0], state

    def _is_held_out(self, name: str) -> bool:
        """The very first document, and every fourth by its hash until there are enough tokens."""
        tally = self.tally
        if tally.heldout_tokens >= self.recipe.heldout_tokens:
            return False
        return not tally.heldout_documents or stable_hash(name, b"heldout") < HELDOUT_BELOW

    def _without_duplicates(self, worked: Worked) -> list[int]:
        if not self.keys:
            return list(range(len(worked.ids)))
        verdicts = self.keys.take(worked.keys)
        self.tally.n_keys = self.keys.n_rows
        kept = []
        for i, verdict in enumerate(verdicts):
            if verdict is None:
                self.tally.keep("duplicates", worked.n_bytes[i])
                kept.append(i)
            else:
                self.tally.drop("duplicates", worked.n_bytes[i], f"{verdict}_duplicate")
        return kept

    # writing

    def _write_heldout(self, index: dict, parts: list[np.ndarray]) -> None:
        tokens = np.concatenate(parts)
        entry = writer.write_tokens(self.folder, "heldout-documents.npy", tokens)
        n_documents = int((tokens == self.words.eot_id).sum())
        n_bytes = int(self.words.token_bytes[tokens].sum())
        index["heldout"]["documents"] = {**entry, "n_bytes": n_bytes, "n_documents": n_documents}

    def _write_block(self, index: dict, tokens: np.ndarray, state: dict) -> None:
        blocks = index["blocks"]
        entry = writer.write_tokens(self.folder, f"block-{len(blocks):05d}.npy", tokens)
        self.chain = writer.next_link(self.chain, entry["sha256"])
        n_bytes = int(self.words.token_bytes[tokens].sum())
        if self.keys:
            self.keys.commit()  # before the index that counts on it
        blocks.append({**entry, "n_bytes": n_bytes, "chain": self.chain, "next": state})
        index["n_documents"] += int((tokens == self.words.eot_id).sum())
        index["n_bytes"] += n_bytes
        index["counts"] = state["counts"]
        writer.write_index(self.folder, index)

    def _progress(self) -> None:
        now = time.monotonic()
        if now - self.said >= 10.0:
            self.said = now
            mb, seconds = self.tally.n_bytes_read / 1e6, now - self.began
            self.log(
                f"read {mb:,.0f} MB, kept {self.tally.n_documents:,} documents, {seconds:.0f} s"
            )

    def _tell(self, index: dict) -> None:
        n_tokens = sum(entry["n_tokens"] for entry in index["blocks"])
        seconds = time.monotonic() - self.began
        self.log(
            f"{self.folder.name}: {n_tokens:,} tokens in {len(index['blocks'])} blocks, "
            f"{seconds:.1f} s"
        )
        self.log(self.tally.drops())
        if self.seconds:
            parts = [f"{name} {spent:.1f}" for name, spent in self.seconds.items()]
            self.log(f"seconds of the workers by stage: {', '.join(parts)}")
        if index["ended"] == "source" and self.max_tokens:
            self.log(
                f"{self.stream.name} ended at {n_tokens:,} tokens, before the"
                f" {self.max_tokens:,} asked for"
            )
