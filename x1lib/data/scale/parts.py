"""A source in parts: each task works its part off by itself, one last step makes shards of them.

What needs no other document (filters, tokens, keys) is done by the tasks, in any number and order,
on any machines that share a folder. What does (duplicates, held-out text, blocks) is done at the
end by the same code as in one pass, part after part. So the bytes depend on the number of parts and
not on who worked on them.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from x1lib.data import writer
from x1lib.data.building.recipe import Recipe
from x1lib.data.building.work import Worked, Worker
from x1lib.data.errors import DataError, ShardError
from x1lib.data.stages.chain import Count
from x1lib.data.streams import Batch, FileStream, Stream, open_stream
from x1lib.data.streams.hub import HubStream

DONE = "done.json"


def part_of(stream: Stream, rank: int, n_parts: int) -> Stream:
    """Part `rank` of a stream: whole files where there are enough, else every n-th record."""
    if isinstance(stream, FileStream) and len(stream.files) >= n_parts:
        return replace(stream, files=stream.files[rank::n_parts])
    if isinstance(stream, FileStream | HubStream):
        return replace(stream, part=(rank, n_parts))
    raise DataError(f"{stream.name} cannot be divided; give files or a data set of the Hub")


@dataclass
class PartStep:
    """One task: filter, tokenise and key a part of a source into a folder of its own.

    An engine calls it with (data, rank, world_size) and pickles it to wherever it runs; `folder`
    must be the same there.
    """

    source: str
    recipe: Recipe
    folder: str

    def __call__(self, data: Any, rank: int, world_size: int) -> None:
        """Write the part whole, or not at all; a part that is there is kept."""
        final = part_folder(self.folder, rank)
        if (final / DONE).exists():
            return
        working = final.with_name(final.name + ".tmp")
        with writer.named_os_errors(working):
            shutil.rmtree(working, ignore_errors=True)
            working.mkdir(parents=True)
        worker = Worker(self.recipe)
        n = 0
        for batch in part_of(open_stream(self.source, log=None), rank, world_size).batches():
            write_worked(working / f"{n:06d}.npz", batch, worker(batch.documents))
            n += 1
        writer.write_atomically(
            working / DONE, lambda file: file.write(json.dumps({"batches": n}).encode())
        )
        with writer.named_os_errors(final):
            shutil.rmtree(final, ignore_errors=True)
            working.rename(final)


def part_folder(folder: str | Path, rank: int) -> Path:
    """Where the part of a task lies."""
    return Path(folder) / f"part-{rank:05d}"


def write_worked(path: Path, batch: Batch, worked: Worked) -> None:
    """One batch as arrays and JSON; nothing is pickled."""
    record = {
        "ids": worked.ids,
        "sources": worked.sources,
        "n_bytes": worked.n_bytes,
        "counts": {name: asdict(count) for name, count in worked.counts.items()},
        "n_records": batch.n_records,
        "n_documents": len(batch.documents),
        "dropped": batch.dropped,
    }
    packed = np.frombuffer(json.dumps(record).encode(), np.uint8)
    with writer.named_os_errors(path), path.open("wb") as file:
        np.savez(file, tokens=worked.tokens, edges=worked.edges, keys=worked.keys, record=packed)


@dataclass
class LoadedBatch(Batch):
    """A batch whose documents were worked on already."""

    worked: Worked | None = None


def read_worked(path: Path) -> LoadedBatch:
    """What write_worked wrote; raises ShardError naming the file where it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            record = json.loads(arrays["record"].tobytes())
            worked = Worked(
                ids=record["ids"],
                sources=record["sources"],
                n_bytes=record["n_bytes"],
                tokens=arrays["tokens"],
                edges=arrays["edges"],
                keys=arrays["keys"],
                counts={name: Count(**count) for name, count in record["counts"].items()},
                seconds={},
            )
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise ShardError(f"{path} is damaged ({error}); delete its folder and run again") from error
    except Exception as error:  # zipfile's and zlib's own
        if type(error).__module__ in ("zipfile", "zlib"):
            raise ShardError(
                f"{path} is damaged ({error}); delete its folder and run again"
            ) from error
        raise
    return LoadedBatch(
        documents=[None] * record["n_documents"],
        n_records=record["n_records"],
        dropped=record["dropped"],
        worked=worked,
    )


@dataclass
class PartsStream:
    """The parts of a source, one after the other; a cursor is [part, batch]."""

    origin: Stream
    folder: str
    n_parts: int

    @property
    def name(self) -> str:
        return self.origin.name

    def identity(self) -> dict:
        return {"source": self.origin.identity(), "parts": self.n_parts}

    def batches(self, cursor: list[int] | None = None) -> Iterator[LoadedBatch]:
        first_part, first_batch = cursor or (0, 0)
        for rank in range(first_part, self.n_parts):
            folder = part_folder(self.folder, rank)
            try:
                n = json.loads((folder / DONE).read_bytes())["batches"]
            except (OSError, ValueError, KeyError) as error:
                raise ShardError(f"{folder} is not finished; run the same command again") from error
            for i in range(first_batch if rank == first_part else 0, n):
                batch = read_worked(folder / f"{i:06d}.npz")
                batch.cursor = [rank, i + 1]
                yield batch


class DoneWork:
    """Stands where Workers do when the work was done by tasks."""

    def results(self, batches: Iterable[LoadedBatch]) -> Iterator[tuple[Batch, Worked]]:
        return ((batch, batch.worked) for batch in batches)

    def close(self) -> None:
        """Nothing to end."""
