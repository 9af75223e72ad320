"""What a stream gives: batches of documents, each with the place in the source where it ends."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from x1lib.data.sources import Document

# Text of one batch: enough to keep a worker busy for a tenth of a second, little for memory.
BATCH_CHARACTERS = 2**20


@dataclass
class Batch:
    """Documents in source order; `cursor` (JSON) is where the source goes on after them.

    `dropped` counts the records that held no document, by reason; `n_records` counts all.
    """

    documents: list[Document] = field(default_factory=list)
    cursor: Any = None
    n_records: int = 0
    dropped: dict[str, int] = field(default_factory=dict)

    def drop(self, reason: str) -> None:
        """Count a record that is no document."""
        self.n_records += 1
        self.dropped[reason] = self.dropped.get(reason, 0) + 1


class Stream(Protocol):
    """A source that is read once, in a fixed order, from any place on."""

    name: str

    def identity(self) -> dict:
        """What decides the documents and their order, JSON."""

    def batches(self, cursor: Any = None) -> Iterator[Batch]:
        """Batches from a cursor on; None is the beginning. The same cuts from every cursor."""


def batched(
    records: Iterable[tuple[Document | str, Any]], cursor_of: Callable[[Any], Any] = lambda x: x
) -> Iterator[Batch]:
    """Batches out of (document or reason, place behind it); `cursor_of` makes a place a cursor.

    The cuts depend on the documents alone, so a stream that goes on from a batch's cursor gives
    the batches that it would have given. `cursor_of` is called before the next record is taken.
    """
    batch, size, place = Batch(), 0, None
    for record, place in records:
        if isinstance(record, str):
            batch.drop(record)
            size += 1  # so that a file of junk comes in batches as well
        else:
            batch.n_records += 1
            batch.documents.append(record)
            size += len(record.text)
        if size >= BATCH_CHARACTERS:
            batch.cursor = cursor_of(place)
            yield batch
            batch, size = Batch(), 0
    if batch.n_records:
        batch.cursor = cursor_of(place)
        yield batch
