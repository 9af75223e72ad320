"""Test text inside training text, found by the n-grams of words that both hold.

GPT-3 called a document contaminated when it shared a 13-gram with a test set (Brown et al. 2020,
arXiv 2005.14165, appendix C). Words are compared in lower case, without punctuation.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

NGRAM_WORDS = 13
_WORD = re.compile(r"[^\W_]+")


def plain_words(text: str) -> list[str]:
    """Words of letters and digits, in lower case."""
    return _WORD.findall(text.lower())


def ngrams(text: str, n: int = NGRAM_WORDS) -> set[tuple[str, ...]]:
    """The n-grams of a text's plain words; a shorter text has none."""
    words = plain_words(text)
    return set(zip(*(words[i:] for i in range(n))))


class OverlapIndex:
    """The n-grams of the texts to be kept apart, such as a test set."""

    def __init__(self, texts: Iterable[str], n: int = NGRAM_WORDS):
        self.n = n
        self._ngrams: set[tuple[str, ...]] = set()
        for text in texts:
            self._ngrams |= ngrams(text, n)

    def __len__(self) -> int:
        return len(self._ngrams)

    def shared(self, text: str) -> list[str]:
        """The n-grams that a text shares with the index, in its order, each once."""
        words = plain_words(text)
        found = (gram for gram in zip(*(words[i:] for i in range(self.n))) if gram in self._ngrams)
        return [" ".join(gram) for gram in dict.fromkeys(found)]

    def is_contaminated(self, text: str) -> bool:
        """Whether a text shares an n-gram with the index."""
        words = plain_words(text)
        return any(gram in self._ngrams for gram in zip(*(words[i:] for i in range(self.n))))
