"""Hours, disk and dollars for so many tokens, from a speed that was measured on this machine."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from x1lib.data.building.recipe import Recipe
from x1lib.data.building.work import Worker
from x1lib.data.sources import open_source
from x1lib.data.stages.chain import n_utf8_bytes

# Five billion for the course's run, FineWeb-Edu's 100B sample, Llama 3's pretraining (15T:
# Grattafiori et al. 2024, arXiv 2407.21783).
TOKENS = (5_000_000_000, 100_000_000_000, 15_000_000_000_000)
KEY_BYTES = 8


@dataclass(frozen=True)
class Speed:
    """What a recipe did with a sample on one core: CPU seconds, bytes in, bytes and tokens out."""

    recipe: Recipe
    cpu_seconds: float
    bytes_in: int
    bytes_out: int
    tokens: int
    documents: int
    token_bytes: int  # bytes of one token on disk
    seconds_by_stage: dict[str, float]

    @property
    def bytes_per_core_second(self) -> float:
        """Bytes of source text that a core works off in a second."""
        return self.bytes_in / self.cpu_seconds

    @property
    def tokens_per_core_hour(self) -> float:
        """Tokens that come out of an hour of one core."""
        return self.tokens / self.cpu_seconds * 3600


def measure(recipe: Recipe, megabytes: float = 4.0) -> Speed:
    """Run a recipe over the beginning of the embedded text, two thirds encyclopaedia, one core.

    CPU time, so that a busy machine does not slow it much. The sample is clean: of a raw crawl far
    fewer bytes come through, so `bytes_in` per token is a floor there.
    """
    documents = []
    for wanted, share in (("wikipedia", 2 / 3), ("austen", 1 / 6), ("sotu", 1 / 6)):
        size = 0
        for document in open_source("embedded").documents():
            if document.source == wanted and size < megabytes * 1e6 * share:
                documents.append(document)
                size += n_utf8_bytes(document.text)
    worker = Worker(recipe)
    worker(documents[:20])  # libraries and models are loaded outside the timed part
    began = time.process_time()
    worked = worker(documents)
    return Speed(
        recipe=recipe,
        cpu_seconds=time.process_time() - began,
        bytes_in=sum(n_utf8_bytes(document.text) for document in documents),
        bytes_out=sum(worked.n_bytes),
        tokens=len(worked.tokens),
        documents=len(worked.ids),
        token_bytes=worker.encoder.dtype.itemsize,
        seconds_by_stage=worked.seconds,
    )


@dataclass(frozen=True)
class PlanRow:
    """What so many tokens take."""

    tokens: int
    source_bytes: float
    core_hours: float
    hours: float
    shard_bytes: int
    index_bytes: float
    usd: float | None


def plan_row(speed: Speed, tokens: int, cores: int, usd_per_core_hour: float | None) -> PlanRow:
    """The plan for `tokens` out on `cores` cores, at the speed and the yield of the sample.

    The index of duplicates is its journal and its sorted copy, 8 bytes a key each.
    """
    core_hours = tokens / speed.tokens_per_core_hour
    documents = tokens / speed.tokens * speed.documents
    return PlanRow(
        tokens=tokens,
        source_bytes=tokens / speed.tokens * speed.bytes_in,
        core_hours=core_hours,
        hours=core_hours / cores,
        shard_bytes=tokens * speed.token_bytes,
        index_bytes=documents * speed.recipe.key_width * KEY_BYTES * 2,
        usd=None if usd_per_core_hour is None else core_hours * usd_per_core_hour,
    )


def amount(n_bytes: float) -> str:
    """Bytes in the largest decimal unit that leaves a number of 1 or more."""
    for unit, size in (("PB", 1e15), ("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if n_bytes >= size:
            return f"{n_bytes / size:,.1f} {unit}"
    return f"{n_bytes / 1e3:,.1f} kB"


def plan_table(
    speed: Speed, tokens: Sequence[int], cores: int, usd_per_core_hour: float | None
) -> str:
    """The plan as text: one line for each number of tokens, and what it rests on."""
    lines = [
        f"measured: {speed.bytes_in / 1e6:.1f} MB in {speed.cpu_seconds:.1f} CPU-seconds,"
        f" {speed.bytes_per_core_second / 1e6:.2f} MB and"
        f" {speed.tokens / speed.cpu_seconds / 1e3:,.0f}k tokens per core and second;"
        f" {speed.bytes_out / speed.bytes_in:.0%} of the bytes kept",
        f"{'tokens':>10}{'text in':>12}{'core-hours':>13}{f'h, {cores} cores':>14}{'shards':>12}"
        f"{'dedup index':>13}{'USD':>12}",
    ]
    for n in tokens:
        row = plan_row(speed, n, cores, usd_per_core_hour)
        usd = "no price" if row.usd is None else f"{row.usd:,.2f}"
        lines.append(
            f"{n / 1e9:>9,.0f}B{amount(row.source_bytes):>12}{row.core_hours:>13,.1f}"
            f"{row.hours:>14,.1f}{amount(row.shard_bytes):>12}{amount(row.index_bytes):>13}{usd:>12}"
        )
    if usd_per_core_hour is None:
        lines.append("dollars need a price: --usd-per-core-hour, from your provider's page today")
    lines.append(
        "the sample is clean text: of a raw crawl less comes through, and text in and core-hours"
        " grow by as much"
    )
    return "\n".join(lines)
