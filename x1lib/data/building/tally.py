"""What a build has counted so far, and the state in a block that it can be gone on from."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import Any

from x1lib.data.stages.chain import Count, Outcome
from x1lib.data.streams import Batch

READ = "read"  # the stage of records that hold no document


def _by_number(item: tuple[str, int]) -> tuple[int, str]:
    return -item[1], item[0]


class Tally:
    """Counts by stage, the place in the source, rows of the index, held-out tokens."""

    def __init__(self):
        self.cursor: Any = None
        self.counts: dict[str, Count] = {}
        self.n_keys = 0
        self.heldout_tokens = self.heldout_documents = 0

    @classmethod
    def restored(cls, state: dict | None) -> Tally:
        """The tally that a block's state was taken of; a new one for None."""
        tally = cls()
        if state:
            tally.cursor, tally.n_keys = state["cursor"], state["n_keys"]
            tally.heldout_tokens, tally.heldout_documents = state["heldout"]
            tally.counts = {
                name: Count(*numbers, dropped=dict(dropped))
                for name, (*numbers, dropped) in state["counts"].items()
            }
        return tally

    def state(self) -> dict:
        """All of it as JSON, a copy."""
        return {
            "cursor": deepcopy(self.cursor),
            "n_keys": self.n_keys,
            "heldout": [self.heldout_tokens, self.heldout_documents],
            "counts": {
                name: [c.documents_in, c.documents_out, c.bytes_in, c.bytes_out, dict(c.dropped)]
                for name, c in self.counts.items()
            },
        }

    def count(self, stage: str) -> Count:
        """The count of a stage, made when first asked for."""
        return self.counts.setdefault(stage, Count())

    def keep(self, stage: str, n_bytes: int) -> None:
        """Count a document that a stage lets through."""
        self.count(stage).see(n_bytes, n_bytes)

    def drop(self, stage: str, n_bytes: int, reason: str) -> None:
        """Count a document that a stage drops."""
        self.count(stage).see(n_bytes, None, reason)

    def hold_out(self, n_tokens: int, n_bytes: int) -> None:
        """Count a document that is held out."""
        self.heldout_tokens += n_tokens
        self.heldout_documents += 1
        self.drop("held out", n_bytes, "held_out")

    def add(self, batch: Batch, counts: dict[str, Count]) -> None:
        """Count a batch: its records that were no documents, and what its stages did."""
        read = Count(batch.n_records, len(batch.documents), dropped=dict(batch.dropped))
        self.count(READ).add(read)
        for name, count in counts.items():
            self.count(name).add(count)
        self.cursor = batch.cursor

    def table(self) -> str:
        """The counts as text, stages in the order in which documents meet them."""
        last = [name for name in ("duplicates", "held out") if name in self.counts]
        inner = [name for name in self.counts if name not in (READ, *last)]
        names = [*([READ] if READ in self.counts else []), *inner, *last]
        counts = {name: self.counts[name] for name in names}
        if READ in counts:  # records have no bytes of text, what comes of them has
            counts[READ] = replace(counts[READ], bytes_out=self.n_bytes_read)
        return Outcome(counts=counts).table()

    def drops(self) -> str:
        """What was dropped and why, on one line; the stages in the order of the table."""
        reasons: dict[str, int] = {}
        for count in self.counts.values():
            for reason, n in count.dropped.items():
                reasons[reason] = reasons.get(reason, 0) + n
        n_records = self.counts[READ].documents_in if READ in self.counts else 0
        told = ", ".join(f"{n:,} {reason}" for reason, n in sorted(reasons.items(), key=_by_number))
        return f"{n_records:,} records read, of which dropped or held out: {told or 'none'}"

    @property
    def n_bytes_read(self) -> int:
        """UTF-8 bytes of the documents that went into the first stage."""
        first = self.counts.get("not empty")
        return first.bytes_in if first else 0

    @property
    def n_documents(self) -> int:
        """Documents kept for training."""
        last = self.counts.get("held out")
        return last.documents_out if last else 0
