"""What is done to one batch of documents, by itself and in worker processes; results in order."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from x1lib.data.building.encode import Encoder
from x1lib.data.building.recipe import Recipe
from x1lib.data.errors import DataError
from x1lib.data.sources import Document
from x1lib.data.stages import minhash
from x1lib.data.stages.chain import Count, n_utf8_bytes, run_stages
from x1lib.data.tokenizer import load_tokenizer


@dataclass
class Worked:
    """A batch after its stages: the surviving documents' ids, sources, bytes, tokens and keys."""

    ids: list[str]
    sources: list[str]
    n_bytes: list[int]
    tokens: np.ndarray
    edges: np.ndarray
    keys: np.ndarray
    counts: dict[str, Count]
    seconds: dict[str, float]


class Worker:
    """The pure part of a recipe: the same batch gives the same result in any process."""

    def __init__(self, recipe: Recipe):
        self.recipe = recipe
        self.stages = recipe.stages()
        self.encoder = Encoder(load_tokenizer(recipe.tokenizer))

    def __call__(self, documents: list[Document]) -> Worked:
        outcome = run_stages(documents, self.stages)
        texts = [document.text for document in outcome.kept]
        began = perf_counter()
        tokens, edges = self.encoder.encode_documents(texts)
        encoded = perf_counter()
        keys = document_keys(texts, self.recipe.dedup)
        seconds = {"tokenise": encoded - began, "keys": perf_counter() - encoded}
        return Worked(
            ids=[document.id for document in outcome.kept],
            sources=[document.source for document in outcome.kept],
            n_bytes=[n_utf8_bytes(text) for text in texts],
            tokens=tokens,
            edges=edges,
            keys=keys,
            counts=outcome.counts,
            seconds=outcome.seconds | seconds,
        )


def document_keys(texts: list[str], dedup: str) -> np.ndarray:
    """The keys of each text in the index of duplicates: uint64[n, width], the exact one first."""
    if dedup == "none":
        return np.empty((len(texts), 0), np.uint64)
    exact = np.array([minhash.exact_key(text) for text in texts], np.uint64).reshape(-1, 1)
    return exact if dedup == "exact" else np.hstack([exact, minhash.band_keys(texts)])


_worker: Worker | None = None


def _start(recipe: Recipe, parent: int) -> None:
    global _worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears Ctrl-C and ends the workers
    if sys.platform == "linux":
        # die with the parent, whatever ends it: PR_SET_PDEATHSIG
        ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
    _worker = Worker(recipe)


def _ready() -> bool:
    return _worker is not None


def _run(documents: list[Document]) -> Worked:
    return _worker(documents)


class Workers:
    """`n` processes that work on batches; with n = 1 the work is done in this one.

    They are forked at once, before a stream opens connections or threads of its own.
    """

    def __init__(self, recipe: Recipe, n: int):
        if n < 1:
            raise DataError(f"workers is {n}; give 1 or more")
        self.n = n
        self._alone = Worker(recipe) if n == 1 else None
        self._pool = None
        if n > 1:
            context = multiprocessing.get_context("fork")
            self._pool = ProcessPoolExecutor(
                n, context, initializer=_start, initargs=(recipe, os.getpid())
            )
            self._watched(self._pool.submit(_ready))

    def _watched(self, future):
        try:
            return future.result()
        except BrokenProcessPool as error:
            raise DataError(
                "a worker process was ended from outside, perhaps for memory; run the same"
                " command again, with fewer --workers"
            ) from error

    def results(self, batches: Iterable) -> Iterator[tuple]:
        """Yield (batch, Worked) in the order of `batches`, whose `.documents` are worked on.

        At most two batches a worker are under way, which bounds the memory.
        """
        if self._alone:
            for batch in batches:
                yield batch, self._alone(batch.documents)
            return
        under_way: deque = deque()
        failure = None
        source = iter(batches)
        while True:
            try:
                batch = next(source)
            except StopIteration:
                break
            except Exception as error:  # what was read before the source failed is still of use
                failure = error
                break
            under_way.append((batch, self._pool.submit(_run, batch.documents)))
            if len(under_way) > 2 * self.n:
                first, future = under_way.popleft()
                yield first, self._watched(future)
        while under_way:
            first, future = under_way.popleft()
            yield first, self._watched(future)
        if failure:
            raise failure

    def close(self) -> None:
        """End the processes."""
        if self._pool:
            self._pool.shutdown(wait=True, cancel_futures=True)
