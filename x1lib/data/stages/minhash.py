"""Keys by which documents are found again: one for the same text, some for nearly the same one.

MinHash (Broder 1997) over 5-grams of words: two texts share a signature place with probability
equal to their Jaccard similarity s. 112 places in 14 bands of 8, as FineWeb has them (Penedo et
al. 2024, section 3.5): texts of similarity s share a whole band with probability
1 − (1 − s⁸)¹⁴, half of them at s = 0.684, 77% at 0.75. Sharing one band counts as near-duplicate.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from functools import cache

import numpy as np

from x1lib.data.errors import missing_library

NGRAM_WORDS = 5
N_BANDS, BAND_ROWS = 14, 8
SEED = 1
_WORD = re.compile(r"[^\W_]+")
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
# Hashes of words kept at hand; a word is hashed anew when the table was emptied.
_CACHED_WORDS = 500_000
# The words of a text are listed in stretches of this: as a list they take ten times their memory.
STRETCH_CHARACTERS = 2**20
_SPACE = re.compile(r"\s")


def _words(text: str) -> Iterator[list[str]]:
    """The plain words of a text in lower case, a stretch at a time; none is cut."""
    at = 0
    while at < len(text):
        space = _SPACE.search(text, at + STRETCH_CHARACTERS)
        end = space.end() if space else len(text)
        yield _WORD.findall(text[at:end].lower())
        at = end


def normalised(text: str) -> str:
    """A text as duplicates are compared: lower case, letters and digits only, single spaces."""
    return " ".join(filter(None, map(" ".join, _words(text))))


def exact_key(text: str) -> int:
    """A 64-bit key that equal texts share whatever their case, punctuation and white space.

    Two different texts collide with probability n²/2⁶⁵: 0.03 among a billion documents.
    """
    digest = hashlib.blake2b(normalised(text).encode(), digest_size=8, person=b"x1-exact")
    return int.from_bytes(digest.digest(), "little")


class _WordHashes(dict):
    """64-bit hash by word, computed when first asked for."""

    def __missing__(self, word: str) -> int:
        if len(self) >= _CACHED_WORDS:
            self.clear()
        digest = hashlib.blake2b(word.encode(), digest_size=8, person=b"x1-word")
        value = self[word] = int.from_bytes(digest.digest(), "little")
        return value


_word_hashes = _WordHashes()


def shingles(text: str) -> np.ndarray:
    """Hashes of a text's 5-grams of plain words: uint64[n], n ≥ 1; a shorter text is one n-gram."""
    parts = [
        np.fromiter(map(_word_hashes.__getitem__, words), np.uint64, len(words))
        for words in _words(text)
    ]
    hashes = np.concatenate(parts) if parts else np.empty(0, np.uint64)
    n = max(1, len(hashes) - NGRAM_WORDS + 1)
    mixed = np.zeros(n, np.uint64)
    with np.errstate(over="ignore"):
        for i in range(min(NGRAM_WORDS, len(hashes))):
            mixed = (mixed ^ hashes[i : i + n]) * _MULTIPLIER
            mixed ^= mixed >> np.uint64(32)
    return mixed


def jaccard(one: str, other: str) -> float:
    """The exact share of 5-grams that two texts have in common."""
    a, b = set(shingles(one).tolist()), set(shingles(other).tolist())
    return len(a & b) / len(a | b)


def band_probability(
    similarity: float | np.ndarray, n_bands: int = N_BANDS, rows: int = BAND_ROWS
) -> float | np.ndarray:
    """The probability that texts of this Jaccard similarity share a band: the S-curve."""
    return 1 - (1 - similarity**rows) ** n_bands


@cache
def _rensa():
    try:
        from rensa import RMinHash
    except ImportError as error:
        raise missing_library("rensa", "to find near-duplicates") from error
    return RMinHash


def algorithm() -> str:
    """The name of what computes signatures; other names give other keys."""
    return f"rensa RMinHash {_rensa().ALGORITHM_VERSION}, seed {SEED}"


def signatures(texts: list[str]) -> np.ndarray:
    """MinHash signatures: uint32[n_texts, 112]. Raises DataError where rensa is not installed."""
    if not texts:
        return np.empty((0, N_BANDS * BAND_ROWS), np.uint32)
    parts = [shingles(text) for text in texts]
    offsets = np.zeros(len(parts) + 1, np.uint64)
    np.cumsum([len(part) for part in parts], out=offsets[1:])
    matrix = _rensa().digest_matrix_from_flat_token_hashes(
        np.concatenate(parts), offsets, N_BANDS * BAND_ROWS, SEED
    )
    return np.array(matrix.to_rows(), dtype=np.uint32)


def band_keys(texts: list[str]) -> np.ndarray:
    """The keys of a text's 14 bands: uint64[n_texts, 14]; one in common is a near-duplicate.

    A key mixes the 8 places of a band with the band's number, so that bands never meet.
    """
    rows = signatures(texts).astype(np.uint64).reshape(-1, N_BANDS, BAND_ROWS)
    keys = np.tile(np.arange(1, N_BANDS + 1, dtype=np.uint64), (len(rows), 1))
    with np.errstate(over="ignore"):
        for i in range(BAND_ROWS):
            keys = (keys ^ rows[:, :, i]) * _MULTIPLIER
            keys ^= keys >> np.uint64(29)
    return keys
