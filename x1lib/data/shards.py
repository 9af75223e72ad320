"""Reads a prepared folder: any batch by its sample numbers, at the speed of memory."""

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from x1lib.data import writer
from x1lib.data.errors import DataNotReady, ShardError
from x1lib.data.index import check_file, read_index
from x1lib.data.order import permutation, probe

# Maps kept open at once: each holds a file descriptor, of which a process has 1,024 at times.
OPEN_MAPS = 64


def windows(tokens: np.ndarray, seq_len: int, batch_size: int = 16) -> Iterator[np.ndarray]:
    """Yield batches [n, seq_len + 1] that predict each token of a text but the first one once.

    Windows share their edge token and do not overlap otherwise; the last one may be shorter.
    """
    n_whole = (len(tokens) - 1) // seq_len
    for first in range(0, n_whole, batch_size):
        last = min(first + batch_size, n_whole)
        stretch = np.array(tokens[first * seq_len : last * seq_len + 1])
        yield np.lib.stride_tricks.sliding_window_view(stretch, seq_len + 1)[::seq_len].copy()
    if len(tokens) > n_whole * seq_len + 1:
        yield np.array(tokens[None, n_whole * seq_len :])


def sound_index(folder: Path, log: Callable[[str], None]) -> dict | None:
    """The index of an unfinished folder, cut at the first block that is not as it was written.

    Reads every file whole. None where there is no index, or where held-out text has changed.
    """
    folder = Path(folder)

    def check(entry: dict) -> None:
        path = check_file(folder, index, entry)
        if writer.file_sha256(path) != entry["sha256"]:
            raise ShardError(f"{path} is not as it was written")

    try:
        index = read_index(folder)
        for entry in index["heldout"].values():
            check(entry)
    except ShardError as error:
        if (folder / writer.INDEX).exists():
            log(f"{error}: starting again")
        return None
    for i, entry in enumerate(index["blocks"]):
        try:
            check(entry)
        except ShardError as error:
            log(f"{error}: writing again from there")
            del index["blocks"][i:]
            break
    return index


class Shards:
    """A folder of token blocks, read by sample number; a writer may still be appending.

    A window is `seq_len + 1` tokens at stride `seq_len` inside one block. Blocks follow each other
    in writer order, the windows of a block in an order drawn from (seed, epoch, block), so what a
    sample holds is a function of seed, sample number and the blocks up to its own. Raises
    ShardError naming the file that is missing, short or of another dtype.
    """

    def __init__(self, folder):
        self.folder = Path(folder)
        self._maps: OrderedDict[str, np.ndarray] = OrderedDict()
        self._edges: dict[int, list[int]] = {}
        self._load(read_index(self.folder), checked=0)

    def _load(self, index: dict, checked: int) -> None:
        for entry in [*index["heldout"].values(), *index["blocks"][checked:]]:
            check_file(self.folder, index, entry)
        self.index = index
        self.blocks: list[dict] = index["blocks"]
        self.complete: bool = index["complete"]
        self.tokenizer: str = index["tokenizer"]
        self.source: str = index["source"]
        self.vocab_size: int = index["vocab_size"]
        self.eot_id: int = index["eot_id"]
        self.dtype = np.dtype(index["dtype"])
        self.n_blocks = len(self.blocks)
        self.n_tokens = sum(entry["n_tokens"] for entry in self.blocks)
        self.heldout_names: tuple[str, ...] = tuple(index["heldout"])
        self._edges.clear()

    def refresh(self) -> "Shards":
        """Read the index again; raises ShardError if blocks that were there have changed."""
        index = read_index(self.folder)
        known = [entry["chain"] for entry in self.blocks]
        if [entry["chain"] for entry in index["blocks"][: len(known)]] != known:
            raise ShardError(
                f"{self.folder / writer.INDEX}: blocks already read have changed; "
                "start again from the new data"
            )
        self._load(index, checked=len(known))
        return self

    # which sample is where

    def _sample_edges(self, seq_len: int) -> list[int]:
        """Number of windows before each block, and after the last: n_blocks + 1 integers."""
        if seq_len not in self._edges:
            if not isinstance(seq_len, int | np.integer) or seq_len < 1:
                raise ShardError(f"seq_len is {seq_len!r}; give a whole number of 1 or more")
            edges = [0]
            for entry in self.blocks:
                edges.append(edges[-1] + max(0, entry["n_tokens"] - 1) // seq_len)
            if self.complete and not edges[-1]:
                raise ShardError(
                    f"{self.folder}: no block holds a window of {seq_len} + 1 tokens; "
                    "choose a smaller seq_len or larger blocks"
                )
            self._edges[seq_len] = edges
        return self._edges[seq_len]

    def samples_per_epoch(self, seq_len: int) -> int:
        """Windows in all blocks so far."""
        return self._sample_edges(seq_len)[-1]

    def _epoch_and_place(self, sample: int, seq_len: int) -> tuple[int, int]:
        n = self.samples_per_epoch(seq_len)
        if sample < 0:
            raise ShardError(f"sample {sample} does not exist; samples count from 0")
        if not self.complete and sample >= n:
            raise DataNotReady(
                f"sample {sample} is not written yet, only {n} windows of {seq_len} tokens are; "
                "wait for the writer and call refresh()"
            )
        return divmod(sample, n)

    def epoch_of(self, sample: int, seq_len: int) -> int:
        """The pass over the data in which a sample falls, from 0."""
        return self._epoch_and_place(sample, seq_len)[0]

    def blocks_consumed(self, n_samples: int, seq_len: int) -> int:
        """How many blocks the samples 0 … n_samples − 1 have touched."""
        if n_samples <= 0:
            return 0
        epoch, place = self._epoch_and_place(n_samples - 1, seq_len)
        return self.n_blocks if epoch else bisect_right(self._sample_edges(seq_len), place)

    # tokens

    def batch(self, first_sample: int, batch_size: int, seq_len: int, seed: int, skip=()):
        """Samples `first_sample` … `first_sample + batch_size − 1`, and the numbers really read.

        Returns (tokens[batch_size, seq_len + 1] in the stored dtype, int64[batch_size]). A number
        in `skip` is replaced by another window of the same epoch out of the blocks up to its own:
        the search starts at a hash of (seed, number) and walks on to the first number not in
        `skip`; no other sample moves. Raises DataNotReady beyond what a writer has written.
        """
        if batch_size < 1:
            raise ShardError(f"batch_size is {batch_size}; give 1 or more")
        first, last, seed = int(first_sample), int(first_sample) + batch_size - 1, int(seed)
        self._epoch_and_place(last, seq_len)
        numbers = np.arange(first, last + 1, dtype=np.int64)
        if len(skip):
            skip = skip if isinstance(skip, set | frozenset) else frozenset(skip)
            for i, number in enumerate(range(first, last + 1)):
                if number in skip:
                    numbers[i] = self._replacement(number, seq_len, seed, skip)
        tokens = np.empty((batch_size, seq_len + 1), self.dtype)
        row = 0
        while row < batch_size:
            row = self._read_run(tokens, numbers, row, seq_len, seed)
        return tokens, numbers

    def _read_run(self, tokens, numbers, row: int, seq_len: int, seed: int) -> int:
        """Fill rows from `row` on while they follow each other in one block; return the next."""
        edges = self._sample_edges(seq_len)
        start = int(numbers[row])
        epoch, place = self._epoch_and_place(start, seq_len)
        block = bisect_right(edges, place) - 1
        longest = min(len(numbers) - row, edges[block + 1] - place)
        follows = numbers[row : row + longest] == np.arange(start, start + longest)
        n = longest if follows.all() else int(np.argmin(follows))
        n_windows = edges[block + 1] - edges[block]
        inside = place - edges[block]
        chosen = permutation(seed, epoch, block, n_windows)[inside : inside + n]
        tokens[row : row + n] = self._windows(block, seq_len, n_windows)[chosen]
        return row + n

    def _replacement(self, sample: int, seq_len: int, seed: int, skip) -> int:
        edges = self._sample_edges(seq_len)
        _, place = self._epoch_and_place(sample, seq_len)
        n = edges[bisect_right(edges, place)]
        base, start = sample - place, probe(seed, sample, n)
        for step in range(n):
            candidate = base + (start + step) % n
            if candidate not in skip:
                return candidate
        raise ShardError(
            f"sample {sample} cannot be replaced: all {n} windows up to its block are skipped; "
            "skip fewer"
        )

    def _windows(self, block: int, seq_len: int, n_windows: int) -> np.ndarray:
        """View of a block as its overlapping windows [n_windows, seq_len + 1]; copies nothing."""
        tokens = self._map(self.blocks[block])
        item = tokens.itemsize
        return np.lib.stride_tricks.as_strided(
            tokens, (n_windows, seq_len + 1), (seq_len * item, item), writeable=False
        )

    def _map(self, entry: dict) -> np.ndarray:
        name = entry["file"]
        if name not in self._maps:
            while len(self._maps) >= OPEN_MAPS:
                self._maps.popitem(last=False)
            path = check_file(self.folder, self.index, entry)
            self._maps[name] = np.asarray(np.load(path, mmap_mode="r"))
        self._maps.move_to_end(name)
        return self._maps[name]

    def heldout(self, name: str) -> np.ndarray:
        """Tokens of a held-out text, 1-D and mapped: "documents" or, where there is one, "source".

        Each document follows one `<|endoftext|>`, so every byte of text is predicted.
        """
        if name not in self.heldout_names:
            raise ShardError(
                f"{self.folder} holds out {' and '.join(self.heldout_names)}, not {name!r}"
            )
        return self._map(self.index["heldout"][name])

    # identity

    def fingerprint(self, n_blocks: int | None = None) -> str:
        """Hash chain over the first `n_blocks` blocks, all of them when None."""
        n = self.n_blocks if n_blocks is None else n_blocks
        if not 0 <= n <= self.n_blocks:
            raise ShardError(f"{self.folder} has {self.n_blocks} blocks, asked for the first {n}")
        return self.blocks[n - 1]["chain"] if n else writer.first_link(self.index)

    @property
    def has_checksum(self) -> bool:
        """Whether the index holds a checksum of itself; those of older versions do not."""
        return writer.CHECKSUM in self.index

    def verify(self) -> None:
        """Read every file whole: size, dtype, sha256, ids below vocab_size and hash chain.

        The index was held to its own checksum when it was read. Raises ShardError naming the first
        file that is wrong.
        """
        chain = writer.first_link(self.index)
        for entry in [*self.index["heldout"].values(), *self.blocks]:
            path = check_file(self.folder, self.index, entry)
            if writer.file_sha256(path) != entry["sha256"]:
                raise ShardError(
                    f"{path} has changed since it was written (sha256 differs); delete "
                    f"{self.folder} and prepare the data again"
                )
            largest = int(np.load(path, mmap_mode="r").max(initial=0))
            if largest >= self.vocab_size:
                raise ShardError(
                    f"{path} holds token {largest}, the vocabulary of {self.tokenizer} ends at "
                    f"{self.vocab_size - 1}; prepare the data again"
                )
            if "chain" in entry:
                chain = writer.next_link(chain, entry["sha256"])
                if chain != entry["chain"]:
                    raise ShardError(
                        f"{self.folder / writer.INDEX}: the hash chain breaks at {entry['file']}; "
                        f"delete {self.folder} and prepare the data again"
                    )
