"""The held-out text that a model is measured on: that of its own run, wherever it can be had."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from x1lib import launch
from x1lib.data import Tokenizer, load_tokenizer
from x1lib.inference.errors import InferenceError
from x1lib.train import Config

EMBEDDED = "embedded"


@dataclass(frozen=True)
class HeldOut:
    """Tokens[n] of held-out documents, their tokeniser, and whose documents they are."""

    tokens: np.ndarray
    words: Tokenizer
    source: str  # as in the run's settings: "embedded", or the text's name or path
    note: str  # why it is not all held-out documents of the run's own text; empty where it is

    @property
    def name(self) -> str:
        """What results, page and notebook call it."""
        source = "the embedded text" if self.source == EMBEDDED else self.source
        return f"held-out documents of {source}" + (f" ({self.note})" if self.note else "")


def held_out(run: Path, manifest: dict, root: Path) -> HeldOut:
    """The text of a run: where it lies; else the sample that the run kept; else the embedded one.

    The last is another text than the run was trained on, and the note says so. Raises
    InferenceError for a sample that does not fit, DataError for a text without held-out documents.
    """
    source, tokenizer = manifest["config"]["source"], manifest["data"]["tokenizer"]
    there = source == EMBEDDED or (root / Path(source).expanduser()).exists()
    sample = manifest.get("heldout_sample") or {}
    if not there and (path := run / sample.get("file", "")).is_file():
        return _sample(path, load_tokenizer(tokenizer), launch.shown(source))
    config = Config(steps=1, source=source if there else EMBEDDED, tokenizer=tokenizer)
    shards, words = launch.open_text(config)
    tokens = shards.heldout("documents")
    if there:
        return HeldOut(tokens, words, launch.shown(source), "")
    note = f"not the run's own text, {launch.shown(source)}, which is not here"
    return HeldOut(tokens, words, EMBEDDED, note)


def _sample(path: Path, words: Tokenizer, source: str) -> HeldOut:
    try:
        tokens = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InferenceError(f"{path} cannot be read ({error}); copy it from the run") from error
    if tokens.ndim != 1 or len(tokens) < 2 or tokens.max() >= len(words.token_bytes):
        raise InferenceError(f"{path} holds no tokens of {words.name}; copy it from the run")
    return HeldOut(tokens, words, source, f"the {len(tokens) - 1:,} tokens that the run kept")
