"""Run documents through named stages, counting what goes in, what comes out and why the rest went.

A stage is a function of one document. It returns the document, changed or not, or a reason (a
string) to drop it. It holds no state, so it gives the same verdict in any order, on any machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from time import perf_counter

from x1lib.data.sources import Document

Verdict = Document | str


@dataclass(frozen=True)
class Stage:
    """A named step; `apply(document)` gives the document to go on with, or why it is dropped."""

    name: str
    apply: Callable[[Document], Verdict]


def text_rule(name: str, reason_of: Callable[[str], str | None]) -> Stage:
    """A stage from a function of the text that returns a reason to drop it, or None to keep it."""

    def apply(document: Document) -> Verdict:
        return reason_of(document.text) or document

    return Stage(name, apply)


def text_change(name: str, change: Callable[[str], str]) -> Stage:
    """A stage that replaces the text and drops nothing."""

    def apply(document: Document) -> Verdict:
        text = change(document.text)
        return document if text == document.text else replace(document, text=text)

    return Stage(name, apply)


@dataclass
class Count:
    """What one stage did: documents and UTF-8 bytes in and out, drops by reason."""

    documents_in: int = 0
    documents_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    dropped: dict[str, int] = field(default_factory=dict)

    def add(self, other: Count) -> None:
        """Add another count of the same stage."""
        self.documents_in += other.documents_in
        self.documents_out += other.documents_out
        self.bytes_in += other.bytes_in
        self.bytes_out += other.bytes_out
        for reason, n in other.dropped.items():
            self.dropped[reason] = self.dropped.get(reason, 0) + n

    def see(self, before: int, after: int | None, reason: str | None = None) -> None:
        """Count one document of `before` bytes: kept at `after` bytes, or dropped for a reason."""
        self.documents_in += 1
        self.bytes_in += before
        if after is None:
            self.dropped[reason] = self.dropped.get(reason, 0) + 1
        else:
            self.documents_out += 1
            self.bytes_out += after


@dataclass(frozen=True)
class Dropped:
    """A document that a stage dropped, to be looked at."""

    stage: str
    reason: str
    document: Document


@dataclass
class Outcome:
    """What a chain of stages did: survivors in order, counts by stage, examples, seconds."""

    kept: list[Document] = field(default_factory=list)
    counts: dict[str, Count] = field(default_factory=dict)
    examples: list[Dropped] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    def table(self) -> str:
        """The counts as text, one line a stage and one a reason, the largest first."""
        lines = [f"{'stage':<22}{'in':>10}{'out':>10}{'kept':>8}{'MB out':>10}"]
        for name, count in self.counts.items():
            share = count.documents_out / count.documents_in if count.documents_in else 1.0
            lines.append(
                f"{name:<22}{count.documents_in:>10,}{count.documents_out:>10,}{share:>8.1%}"
                f"{count.bytes_out / 1e6:>10.2f}"
            )
            for reason, n in sorted(count.dropped.items(), key=lambda item: (-item[1], item[0])):
                lines.append(f"    {reason:<38}{n:>6,}")
        return "\n".join(lines)


def n_utf8_bytes(text: str) -> int:
    """Bytes of a text in UTF-8."""
    return len(text) if text.isascii() else len(text.encode("utf-8"))


def run_stages(
    documents: Iterable[Document], stages: Iterable[Stage], *, examples_per_reason: int = 0
) -> Outcome:
    """Take each document through the stages in order, up to the first one that drops it.

    `.seconds` is wall-clock by stage. A reason that is empty text would be no reason: a stage
    returns a document or a non-empty string, anything else raises TypeError naming the stage.
    """
    stages = list(stages)
    outcome = Outcome(
        counts={stage.name: Count() for stage in stages},
        seconds={stage.name: 0.0 for stage in stages},
    )
    shown: dict[tuple[str, str], int] = {}
    for document in documents:
        size = n_utf8_bytes(document.text)
        for stage in stages:
            began = perf_counter()
            verdict = stage.apply(document)
            outcome.seconds[stage.name] += perf_counter() - began
            if isinstance(verdict, Document):
                after = size if verdict is document else n_utf8_bytes(verdict.text)
                outcome.counts[stage.name].see(size, after)
                document, size = verdict, after
                continue
            if not isinstance(verdict, str) or not verdict:
                raise TypeError(f"stage {stage.name} returned {verdict!r}, no document, no reason")
            outcome.counts[stage.name].see(size, None, verdict)
            if shown.get((stage.name, verdict), 0) < examples_per_reason:
                shown[stage.name, verdict] = shown.get((stage.name, verdict), 0) + 1
                outcome.examples.append(Dropped(stage.name, verdict, document))
            break
        else:
            outcome.kept.append(document)
    return outcome
