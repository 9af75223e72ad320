"""A shuffled, random-access copy of a source on disk, so that memory stays flat."""

import tempfile
import time
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from x1lib.data.errors import SourceError
from x1lib.data.sources import HELDOUT_BELOW, HELDOUT_SOURCE, Source, stable_hash


class Spool:
    """Reads a source once, and then gives its documents in a stable pseudo-random order.

    The order is by a hash of the id, so shards are pre-shuffled and independent of file order.
    Texts lie in an unnamed temporary file in `folder` (it disappears with the process); in memory
    are 25 bytes a document. `.training` and `.heldout[name]` hold document numbers in order.
    """

    def __init__(self, source: Source, folder: Path, log: Callable[[str], None]):
        self._file = tempfile.TemporaryFile(dir=folder)
        self._ends = array("Q", [0])
        self.empty_documents = 0
        order, draw, whole = array("Q"), array("Q"), array("b")
        said = time.monotonic()
        for document in source.documents():
            if not document.text.strip():
                self.empty_documents += 1
                continue
            self._file.write(document.text.encode("utf-8"))
            self._ends.append(self._file.tell())
            order.append(stable_hash(document.id, b"order"))
            draw.append(stable_hash(document.id, b"heldout"))
            whole.append(document.source == HELDOUT_SOURCE)
            if time.monotonic() - said >= 1.0:
                said = time.monotonic()
                log(f"read {len(order):,} documents, {self._ends[-1] / 1e6:,.0f} MB")
        self._file.flush()
        self._divide(source, np.array(order), np.array(draw), np.array(whole, dtype=bool))

    def _divide(self, source: Source, order: np.ndarray, draw: np.ndarray, whole: np.ndarray):
        if len(order) < 2:
            raise SourceError(
                f"{source.name} has {len(order)} documents with text; at least 2 are needed, "
                "one to train on and one to hold out"
            )
        by_hash = np.argsort(order, kind="stable")
        same = order[by_hash][1:] == order[by_hash][:-1]
        if same.any():
            first, second = by_hash[np.flatnonzero(same)[0] :][:2]
            raise SourceError(
                f"{source.name}: documents {first + 1} and {second + 1} with text have the same "
                'id; make the "id" fields different or leave them out'
            )
        drawn = ~whole & (draw < HELDOUT_BELOW)
        rest = np.flatnonzero(~whole)
        if len(rest) > 1 and not drawn.any():
            drawn[rest[np.argmin(draw[rest])]] = True  # a small source still holds one out
        self.heldout = {"documents": by_hash[drawn[by_hash]], "source": by_hash[whole[by_hash]]}
        self.heldout = {name: chosen for name, chosen in self.heldout.items() if len(chosen)}
        self.training = by_hash[~(whole | drawn)[by_hash]]
        if not len(self.training):
            raise SourceError(f"{source.name}: every document is held out; add documents")

    def text(self, number: int) -> str:
        """The text of document `number`."""
        start, end = self._ends[number], self._ends[number + 1]
        self._file.seek(start)
        return self._file.read(end - start).decode("utf-8")

    def texts(self, numbers: np.ndarray) -> Iterator[str]:
        """The texts of `numbers`, in that order."""
        return (self.text(int(number)) for number in numbers)

    def bytes_of(self, numbers: np.ndarray) -> int:
        """UTF-8 bytes of the documents `numbers` together."""
        ends = np.asarray(self._ends)
        return int((ends[numbers + 1] - ends[numbers]).sum())

    def close(self) -> None:
        """Give the temporary file back to the disk."""
        self._file.close()
