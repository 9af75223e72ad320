"""Hours, disk and dollars for so many tokens, from a speed that was measured on this machine."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from x1lib.data import writer
from x1lib.data.building.keyindex import KeyIndex
from x1lib.data.building.recipe import Recipe
from x1lib.data.building.work import Worker
from x1lib.data.errors import DataError
from x1lib.data.sources import ASSETS, open_source
from x1lib.data.stages import extract
from x1lib.data.stages.chain import n_utf8_bytes

# Five billion for the course's run, FineWeb-Edu's 100B sample, Llama 3's pretraining (15T:
# Grattafiori et al. 2024, arXiv 2407.21783).
TOKENS = (5_000_000_000, 100_000_000_000, 15_000_000_000_000)
KEY_BYTES = 8
# With less, a handful of long documents would decide the speed.
LEAST_MEGABYTES = 0.25
INDEXED_ROWS = 2**15  # on which the index of duplicates is timed
INDEXED_BLOCKS = 2**10  # and that of the folder
# Files in a folder, beyond which larger blocks are advised: its index is written anew with each.
MOST_BLOCKS = 2**13
EXTRACTED_PASSES = 3


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
    fewer bytes come through, so `bytes_in` per token is a floor there. Raises DataError for less
    than LEAST_MEGABYTES.
    """
    if not (math.isfinite(megabytes) and megabytes >= LEAST_MEGABYTES):
        raise DataError(
            f"a speed cannot be measured on {megabytes:g} MB; give {LEAST_MEGABYTES:g} or more"
        )
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


def measure_serial(recipe: Recipe) -> float | None:
    """Documents that the index of duplicates takes in a CPU second, in memory; None without one.

    One process looks all documents up, whatever the number of cores.
    """
    if not recipe.key_width:
        return None
    rng = np.random.default_rng(0)
    rows = rng.integers(2**63, size=(INDEXED_ROWS, recipe.key_width), dtype=np.uint64)
    with tempfile.TemporaryDirectory() as folder:
        keys = KeyIndex(folder, recipe.key_width, 0)
        began = time.process_time()
        for part in np.array_split(rows, 64):
            keys.take(part)
        seconds = time.process_time() - began
        keys.close()
    return len(rows) / seconds


def measure_index(recipe: Recipe) -> float:
    """CPU seconds that a block in a folder's index costs each time that the index is written."""
    names = [stage.name for stage in recipe.stages()]
    # as a block of a filtered source has them, to a few bytes
    count = [10**9, 10**9, 10**12, 10**12, {f"a reason of a stage, {i}": 10**7 for i in range(3)}]
    state = {"cursor": [1, 10**6], "n_keys": 10**9, "heldout": [10**6, 10**3], "tokens": 10**5}
    state["counts"] = dict.fromkeys(["read", *names, "duplicates", "held out"], count)
    entry = {"file": "block-00000.npy", "n_tokens": recipe.block_tokens, "n_bytes": 10**7}
    entry |= {"sha256": "0" * 64, "chain": "0" * 64, "next": state}
    with tempfile.TemporaryDirectory() as folder:
        began = time.process_time()
        writer.write_index(Path(folder), {"blocks": [entry] * INDEXED_BLOCKS})
        return (time.process_time() - began) / INDEXED_BLOCKS


def index_hours(tokens: int, block_tokens: int, seconds_per_block: float) -> float:
    """Hours of writing the index anew with each block: half the square of the blocks."""
    n_blocks = math.ceil(tokens / block_tokens)
    return n_blocks * (n_blocks + 1) / 2 * seconds_per_block / 3600


def larger_blocks(tokens: int, block_tokens: int) -> int:
    """The power of two that leaves MOST_BLOCKS blocks at most; `block_tokens` where they do."""
    if tokens <= block_tokens * MOST_BLOCKS:
        return block_tokens
    return 2 ** math.ceil(math.log2(tokens / MOST_BLOCKS))


def measure_extraction() -> float | None:
    """UTF-8 bytes of text that come out of HTML in a CPU second; None without the library.

    On the course's own crawl, a small sample; recipes begin behind this.
    """
    try:
        pages = [one for one in extract.read_warc(ASSETS / "pages.warc.gz") if one.html]
        found = [one for one in map(extract.page_document, pages) if not isinstance(one, str)]
    except DataError:
        return None
    began = time.process_time()
    for _ in range(EXTRACTED_PASSES):
        for page in pages:
            extract.page_document(page)
    seconds = time.process_time() - began
    return EXTRACTED_PASSES * sum(n_utf8_bytes(one.text) for one in found) / seconds


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
    serial_hours: float  # of the index of duplicates, in one process


def plan_row(
    speed: Speed,
    tokens: int,
    cores: int,
    usd_per_core_hour: float | None,
    documents_per_second: float | None = None,
) -> PlanRow:
    """The plan for `tokens` out on `cores` cores, at the speed and the yield of the sample.

    The index of duplicates is its journal and its sorted copy, 8 bytes a key each; one process
    looks up `documents_per_second` in it, which no number of cores can outrun. Raises DataError.
    """
    for name, value in (("tokens", tokens), ("cores", cores), ("price", usd_per_core_hour)):
        if value is not None and not (math.isfinite(value) and value > 0):
            raise DataError(f"{name} is {value}; give a finite number above 0")
    core_hours = tokens / speed.tokens_per_core_hour
    documents = tokens / speed.tokens * speed.documents
    serial_hours = documents / documents_per_second / 3600 if documents_per_second else 0.0
    return PlanRow(
        tokens=tokens,
        source_bytes=tokens / speed.tokens * speed.bytes_in,
        core_hours=core_hours,
        hours=max(core_hours / cores, serial_hours),
        shard_bytes=tokens * speed.token_bytes,
        index_bytes=documents * speed.recipe.key_width * KEY_BYTES * 2,
        usd=None if usd_per_core_hour is None else core_hours * usd_per_core_hour,
        serial_hours=serial_hours,
    )


def amount(n_bytes: float) -> str:
    """Bytes in the largest decimal unit that leaves a number of 1 or more."""
    for unit, size in (("PB", 1e15), ("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if n_bytes >= size:
            return f"{n_bytes / size:,.1f} {unit}"
    return f"{n_bytes / 1e3:,.1f} kB"


def many(tokens: int) -> str:
    """Tokens in billions, where that is short."""
    billions = tokens / 1e9
    return f"{billions:,.0f}B" if 1 <= billions < 1e6 else f"{tokens:.2g}"


def plan_table(
    speed: Speed,
    tokens: Sequence[int],
    cores: int,
    usd_per_core_hour: float | None,
    documents_per_second: float | None = None,
    extracted_per_second: float | None = None,
    index_seconds_per_block: float | None = None,
) -> str:
    """The plan as text: one line for each number of tokens, and what it rests on.

    The last three are those of `measure_serial`, `measure_extraction` and `measure_index`.
    """
    rows = [plan_row(speed, n, cores, usd_per_core_hour, documents_per_second) for n in tokens]
    lines = [
        f"measured: {speed.bytes_in / 1e6:.1f} MB in {speed.cpu_seconds:.1f} CPU-seconds,"
        f" {speed.bytes_per_core_second / 1e6:.2f} MB and"
        f" {speed.tokens / speed.cpu_seconds / 1e3:,.0f}k tokens per core and second;"
        f" {speed.bytes_out / speed.bytes_in:.0%} of the bytes kept",
        f"{'tokens':>10} {'text in':>11} {'core-hours':>12} {f'h, {cores} cores':>13}"
        f" {'shards':>11} {'dedup index':>12} {'USD':>11}",
    ]
    for row in rows:
        usd = "no price" if row.usd is None else f"{row.usd:,.2f}"
        lines.append(
            f"{many(row.tokens):>10} {amount(row.source_bytes):>11} {row.core_hours:>12,.1f}"
            f" {row.hours:>13,.1f} {amount(row.shard_bytes):>11} {amount(row.index_bytes):>12}"
            f" {usd:>11}"
        )
    if usd_per_core_hour is None:
        lines.append("dollars need a price: --usd-per-core-hour, from your provider's page today")
    lines.append("one process puts it together and writes the blocks, whatever the number of cores")
    if documents_per_second:
        lines[-1] += (
            f"; its index of duplicates alone takes {rows[-1].serial_hours:,.1f} h of the last line"
            f" ({documents_per_second / 1e3:,.0f}k documents a second in memory, measured; slower"
            " from disk)"
        )
    if index_seconds_per_block:
        most, size = max(tokens), speed.recipe.block_tokens
        larger = larger_blocks(most, size)
        hours = {one: index_hours(most, one, index_seconds_per_block) for one in (size, larger)}
        lines.append(
            f"it writes the folder's index anew with each block too: {hours[size]:,.1f} h more for"
            f" {many(most)} tokens in blocks of {size:,}"
        )
        if larger > size:
            lines[-1] += f", {hours[larger]:,.1f} h with `build --block-tokens {larger}`"
    lines.append(
        "the sample is clean text: of a raw crawl less comes through, and text in and core-hours"
        " grow by as much"
    )
    if extracted_per_second:
        times = 1 + speed.bytes_per_core_second / extracted_per_second
        lines.append(
            f"text in is text: from HTML, extraction comes first at"
            f" {extracted_per_second / 1e6:.2f} MB of text per core and second (measured on the"
            f" course's few pages), {times:.1f} times the core-hours in all"
        )
    else:
        lines.append("text in is text: extraction from HTML comes first and is not counted here")
    return "\n".join(lines)
