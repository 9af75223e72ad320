"""Data sets of the Hugging Face Hub as streams, by the `datasets` library; a lost line is mended.

No shuffle buffer: `datasets` loses and repeats documents when a shuffled stream goes on from a
saved place. Documents keep the order of the files.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from x1lib.data.errors import SourceError, missing_library
from x1lib.data.sources import Document
from x1lib.data.streams import network
from x1lib.data.streams.batches import Batch, batched
from x1lib.data.streams.files import document_of

# Seconds before each new try after a lost connection; the last one counts for all further tries.
BACK_OFF_SECONDS = (1, 2, 4, 8, 16, 30, 60)
# Tries in a row without a single new batch, some 8 minutes of them, before giving up.
MAX_TRIES = 12
# The library's own retries are many and silent (20 of 5 s); ours are counted and told.
LIBRARY_RETRIES, LIBRARY_RETRY_SECONDS = 2, 1
READ_TIMEOUT_SECONDS = 30


@dataclass
class HubStream:
    """A data set of the Hub, or files behind addresses, read as they come.

    `data_files` with `repository` "json" or "parquet" reads addresses instead of a repository. With
    `column` and `value` only rows are kept whose column (a path into nested ones) holds the value.
    `part` is (s, n): the s-th of n parts, by whole files or else every n-th row.
    A cursor is {"state": the library's own, "documents": so many done}. `events` records each lost
    connection and each new try.
    """

    name: str
    repository: str
    config: str | None = None
    split: str = "train"
    column: tuple[str, ...] = ()
    value: str | None = None
    data_files: str | list[str] | None = None
    revision: str | None = None
    log: Callable[[str], None] | None = print
    back_off_seconds: tuple[float, ...] = BACK_OFF_SECONDS
    part: tuple[int, int] = (0, 1)
    maybe_path: bool = False  # the name may be a mistyped path: errors say that none is there
    events: list[dict] = field(default_factory=list)

    def identity(self) -> dict:
        """The repository at the revision that it has now, so that a changed data set is another."""
        return {
            "repository": self.repository,
            "config": self.config,
            "split": self.split,
            "column": list(self.column),
            "value": self.value,
            "data_files": self.data_files,
            "revision": self._revision(),
            "part": list(self.part),
        }

    def _described(self) -> str:
        return f"{self.name} (no such file or folder here)" if self.maybe_path else self.name

    def _revision(self) -> str | None:
        if self.revision is None and self.data_files is None:
            network.require(self._described())
            from huggingface_hub import HfApi

            try:
                self.revision = HfApi(endpoint=network.endpoint()).dataset_info(self.repository).sha
            except Exception as error:
                raise SourceError(
                    f"{self._described()}: {self.repository} is not on the Hub or cannot be read"
                    f" ({type(error).__name__}); check the name, or use --source embedded"
                ) from error
        return self.revision

    def batches(self, cursor: dict | None = None) -> Iterator[Batch]:
        """Batches from a cursor on; a connection lost in between costs time and no document."""
        tries = 0
        while True:
            try:
                rows, (s, n) = self._own_rows(self._opened())
                if cursor:
                    rows.load_state_dict(cursor["state"])
                records = self._records(rows, cursor["documents"] if cursor else 0, s, n)
                # the library's state is that behind the row last taken, so it is asked at a cut

                def place(done: int, rows=rows) -> dict:
                    return {"state": rows.state_dict(), "documents": done}

                for batch in batched(records, place):
                    cursor, tries = batch.cursor, 0
                    yield batch
                return
            except Exception as error:
                if isinstance(error, SourceError) or not network.is_network_error(error):
                    raise
                tries += 1
                self._lost(error, tries, cursor)

    def _lost(self, error: Exception, tries: int, cursor: dict | None) -> None:
        """Tell of a lost connection and wait; raises SourceError after too many in a row."""
        done = cursor["documents"] if cursor else 0
        why = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        if tries >= MAX_TRIES:
            raise SourceError(
                f"{self.name} could not be read after document {done:,} in {tries} tries ({why});"
                " run the same command again to go on from there"
            ) from error
        seconds = self.back_off_seconds[min(tries, len(self.back_off_seconds)) - 1]
        self.events.append({"event": "connection_lost", "documents": done, "why": why})
        if self.log:
            self.log(
                f"{self.name}: connection lost after document {done:,} ({why});"
                f" try {tries + 1} in {seconds:g} s"
            )
        time.sleep(seconds)

    def _own_rows(self, rows):
        """The rows of this part, by whole files where there are enough, and what is left to do."""
        s, n = self.part
        if n > 1 and rows.num_shards >= n:
            return rows.shard(num_shards=n, index=s), (0, 1)
        return rows, (s, n)

    def _records(self, rows, done: int, s: int, n: int) -> Iterator[tuple[Document | str, int]]:
        for number, row in enumerate(rows, done + 1):
            if (number - 1) % n == s:
                yield self._document(row, number), number

    def _document(self, row: dict, number: int) -> Document | str:
        found: Any = row
        for key in self.column:
            found = found.get(key) if isinstance(found, dict) else None
        if self.column and found != self.value:
            return "other_subset"
        return document_of(row, f"{self.name}/{number}", self.name)

    def _opened(self):
        """The library's own stream, from its beginning."""
        if self.data_files is None:
            network.require(self._described())
        try:
            import datasets
        except ImportError as error:
            raise missing_library("datasets", f"to stream {self.name}") from error
        datasets.config.STREAMING_READ_MAX_RETRIES = LIBRARY_RETRIES
        datasets.config.STREAMING_READ_RETRY_INTERVAL = LIBRARY_RETRY_SECONDS
        datasets.disable_progress_bars()
        try:
            return datasets.load_dataset(
                self.repository,
                self.config,
                split=self.split,
                data_files=self.data_files,
                revision=None if self.data_files else self._revision(),
                streaming=True,
            )
        except (ValueError, FileNotFoundError, datasets.exceptions.DatasetNotFoundError) as error:
            if network.is_network_error(error):
                raise
            why = str(error).splitlines()[0][:200]
            if not network.is_reachable(self._address()):
                raise ConnectionError(why) from error  # the library says "not found" to this too
            raise SourceError(
                f"{self.name} cannot be opened ({why}); check name, configuration and split"
            ) from error

    def _address(self) -> str:
        """An address of the server that the documents come from."""
        files = self.data_files or network.endpoint()
        return files if isinstance(files, str) else files[0]
