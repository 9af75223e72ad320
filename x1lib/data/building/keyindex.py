"""The keys of all documents kept so far, so that a later one is found to be the same or nearly so.

Each kept document is a row of 64-bit keys: one of its exact text, 14 of its MinHash bands, 120
bytes. Rows go to a journal in document order, so that cutting it to n rows gives back the index as
it was after n documents: a run that is killed and started again makes the same decisions. For
looking up, the keys lie in sorted arrays, in memory up to a limit and in unnamed files beyond it.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

import numpy as np

from x1lib.data.errors import DataError
from x1lib.data.writer import named_os_errors

JOURNAL = "dedup.keys"
KEY_BYTES = 8
# Keys in the newest, unsorted part, a Python set (some 60 bytes each).
FRESH_KEYS = 2**18
MEMORY_BYTES = 2**30
READ_ROWS = 2**16


class KeyIndex:
    """Rows of `width` keys; a row is a duplicate when any of its keys was seen before."""

    def __init__(self, folder: Path, width: int, n_rows: int, memory_bytes: int = MEMORY_BYTES):
        """Open the journal in `folder`, cut to `n_rows`; raises DataError if it has less."""
        self.folder, self.width, self.memory_bytes = Path(folder), width, memory_bytes
        self.n_rows = n_rows
        self._fresh: set[int] = set()
        self._runs: list[np.ndarray] = []
        self._files: list[np.memmap] = []
        self._path = self.folder / JOURNAL
        with named_os_errors(self._path):
            self._journal = open(self._path, "a+b")
            size = self._journal.seek(0, os.SEEK_END)
            wanted = n_rows * width * KEY_BYTES
            if size < wanted:
                raise DataError(
                    f"{self._path} has {size} bytes, expected {wanted}; delete {self.folder} and"
                    " build the data again"
                )
            self._journal.truncate(wanted)
        self._reload()

    def _reload(self) -> None:
        self._journal.seek(0)
        while raw := self._journal.read(READ_ROWS * self.width * KEY_BYTES):
            self._add_run(np.unique(np.frombuffer(raw, np.uint64)))

    # looking up

    def take(self, rows: np.ndarray, exact_column: int = 0) -> list[str | None]:
        """Add rows [n, width] in order; for each None, "exact" or "near" if it was seen before.

        Only the rows that are new are added, so that likeness is never passed on from one
        duplicate to the next.
        """
        known = self._known(rows)
        verdicts: list[str | None] = []
        new = []
        for i, row in enumerate(rows.tolist()):
            in_fresh = [key in self._fresh for key in row]
            if known[i, exact_column] or in_fresh[exact_column]:
                verdicts.append("exact")
            elif known[i].any() or any(in_fresh):
                verdicts.append("near")
            else:
                self._fresh.update(row)
                new.append(i)
                verdicts.append(None)
        with named_os_errors(self._path):
            self._journal.write(np.ascontiguousarray(rows[new]).tobytes())
        self.n_rows += len(new)
        if len(self._fresh) >= FRESH_KEYS:
            self._add_run(np.sort(np.fromiter(self._fresh, np.uint64, len(self._fresh))))
            self._fresh.clear()
        return verdicts

    def _known(self, rows: np.ndarray) -> np.ndarray:
        found = np.zeros(rows.shape, dtype=bool)
        for run in (*self._files, *self._runs):
            places = np.searchsorted(run, rows)
            found |= run[np.minimum(places, len(run) - 1)] == rows
        return found

    # sorted runs

    def _add_run(self, keys: np.ndarray) -> None:
        """Add a sorted run to those in memory, merged with the smaller ones, so that they are few.

        Beyond the limit all of them become one file, which is never merged again: a merge would
        want it in memory.
        """
        while self._runs and len(self._runs[-1]) < 2 * len(keys):
            keys = np.union1d(self._runs.pop(), keys)
        self._runs.append(keys)
        if self.memory_keys_bytes > self.memory_bytes:
            whole = np.sort(np.concatenate(self._runs))
            self._runs.clear()
            self._files.append(self._filed(whole))

    def _filed(self, run: np.ndarray) -> np.memmap:
        with named_os_errors(self.folder):
            file = tempfile.TemporaryFile(dir=self.folder)
            run.tofile(file)
            file.flush()
        return np.memmap(file, np.uint64, mode="r")

    @property
    def memory_keys_bytes(self) -> int:
        """Bytes of the sorted arrays that lie in memory."""
        return sum(run.nbytes for run in self._runs)

    @property
    def file_keys_bytes(self) -> int:
        """Bytes of the sorted arrays that lie in files."""
        return sum(run.nbytes for run in self._files)

    @property
    def journal_bytes(self) -> int:
        """Bytes of the journal on disk."""
        return self.n_rows * self.width * KEY_BYTES

    def commit(self) -> None:
        """Bring the journal to the disk; what is committed survives a loss of power."""
        with named_os_errors(self._path):
            self._journal.flush()
            os.fsync(self._journal.fileno())

    def close(self) -> None:
        """Let go of the files; rows that were not committed may be lost."""
        with contextlib.suppress(OSError):  # a full disk was told of when the rows were written
            self._journal.close()
        self._runs.clear()
        self._files.clear()
