"""Gopher's rules for pages that are not prose (Rae et al. 2021, arXiv 2112.11446, appendix A.1).

A word here is what stands between white space, punctuation included: "sea," is one word. That is
what makes the rules fast; a linguistic tokeniser, which counts the comma by itself, moves the
ratios by a few per cent. Where the paper leaves a rule open, the reading is that of datatrove,
with which FineWeb was made, so that the two can be compared document by document.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise

MIN_WORDS, MAX_WORDS = 50, 100_000
MIN_MEAN_WORD_CHARACTERS, MAX_MEAN_WORD_CHARACTERS = 3.0, 10.0
MAX_SYMBOLS_PER_WORD = 0.1
MAX_BULLET_LINES, MAX_ELLIPSIS_LINES = 0.9, 0.3
MIN_ALPHABETIC_WORDS = 0.8
MIN_STOP_WORDS = 2
STOP_WORDS = frozenset("the be to of and that have with".split())

# Table A1: the largest share of the text that may be repetition.
MAX_DUPLICATE_LINES = MAX_DUPLICATE_PARAGRAPHS = 0.30
MAX_DUPLICATE_LINE_CHARACTERS = MAX_DUPLICATE_PARAGRAPH_CHARACTERS = 0.20
MAX_TOP_NGRAM = {2: 0.20, 3: 0.18, 4: 0.16}
MAX_DUPLICATE_NGRAM = {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}

_ELLIPSES = ("...", "…")
_PARAGRAPH_BREAK = re.compile(r"\n{2,}")
_LINE_BREAK = re.compile(r"\n+")


def words_of(text: str) -> list[str]:
    """The words of a text: what stands between white space, as it stands."""
    return text.split()


def is_symbol(word: str) -> bool:
    """Whether a word has no letter and no digit."""
    return not word.isalnum() and not any(map(str.isalnum, word))


def quality_reason(text: str) -> str | None:
    """Why Gopher's quality rules drop a text, or None.

    Words of symbols only are not counted against the word limits, nor in the mean length.
    """
    words = words_of(text)
    spoken = [word for word in words if not is_symbol(word)]
    if len(spoken) < MIN_WORDS:
        return "gopher_too_few_words"
    if len(spoken) > MAX_WORDS:
        return "gopher_too_many_words"
    mean_characters = sum(map(len, spoken)) / len(spoken)
    if mean_characters < MIN_MEAN_WORD_CHARACTERS:
        return "gopher_words_too_short"
    if mean_characters > MAX_MEAN_WORD_CHARACTERS:
        return "gopher_words_too_long"
    if text.count("#") / len(words) > MAX_SYMBOLS_PER_WORD:
        return "gopher_too_many_hashes"
    if sum(map(text.count, _ELLIPSES)) / len(words) > MAX_SYMBOLS_PER_WORD:
        return "gopher_too_many_ellipses"
    lines = text.splitlines()
    if sum(line.lstrip()[:1] in ("•", "-") for line in lines if line) > (
        MAX_BULLET_LINES * len(lines)
    ):
        return "gopher_lines_are_bullets"
    if sum(line.rstrip().endswith(_ELLIPSES) for line in lines) > MAX_ELLIPSIS_LINES * len(lines):
        return "gopher_lines_end_in_ellipsis"
    alphabetic = sum(1 for word in words if word.isalpha() or any(map(str.isalpha, word)))
    if alphabetic / len(words) < MIN_ALPHABETIC_WORDS:
        return "gopher_words_without_letters"
    if len(STOP_WORDS.intersection(words)) < MIN_STOP_WORDS:
        return "gopher_too_few_stop_words"
    return None


def _repeated(parts: Iterable[str]) -> tuple[int, int]:
    """How many parts stood before already, and the characters in them."""
    seen: set[str] = set()
    n = n_characters = 0
    for part in parts:
        if part in seen:
            n, n_characters = n + 1, n_characters + len(part)
        else:
            seen.add(part)
    return n, n_characters


def top_ngram_characters(words: list[str], n: int) -> int:
    """Characters of the most frequent n-gram, single spaces included, times its count."""
    counts = Counter(zip(*(words[i:] for i in range(n))))
    if not counts:
        return 0
    ngram, count = max(counts.items(), key=lambda item: item[1])
    return (sum(map(len, ngram)) + n - 1) * count


def duplicate_ngram_characters(words: list[str], n: int) -> int:
    """Characters in n-grams that occurred before, each word counted once.

    Reads from the left; after an n-gram that was seen before it goes on behind it.
    """
    ngrams = list(zip(*(words[i:] for i in range(n))))
    seen: set[tuple[str, ...]] = set()
    n_characters = i = 0
    while i < len(ngrams):
        if ngrams[i] in seen:
            n_characters += sum(map(len, ngrams[i]))
            i += n
        else:
            seen.add(ngrams[i])
            i += 1
    return n_characters


def repeated_characters(words: list[str], n: int) -> int:
    """Characters of all words that lie in an n-gram which occurred before."""
    seen: set[tuple[str, ...]] = set()
    n_characters = end = 0
    for i, ngram in enumerate(zip(*(words[i:] for i in range(n)))):
        if ngram in seen:
            n_characters += sum(map(len, words[max(i, end) : i + n]))
            end = i + n
        else:
            seen.add(ngram)
    return n_characters


def repetition_reason(text: str) -> str | None:
    """Why Gopher's repetition rules (Table A1) drop a text, or None."""
    if not text.strip():
        return "gopher_empty"
    n_characters = len(text)
    paragraphs = _PARAGRAPH_BREAK.split(text.strip())
    n, repeated = _repeated(paragraphs)
    if n / len(paragraphs) > MAX_DUPLICATE_PARAGRAPHS:
        return "gopher_duplicate_paragraphs"
    if repeated / n_characters > MAX_DUPLICATE_PARAGRAPH_CHARACTERS:
        return "gopher_duplicate_paragraph_characters"
    lines = _LINE_BREAK.split(text)
    n, repeated = _repeated(lines)
    if n / len(lines) > MAX_DUPLICATE_LINES:
        return "gopher_duplicate_lines"
    if repeated / n_characters > MAX_DUPLICATE_LINE_CHARACTERS:
        return "gopher_duplicate_line_characters"
    words = words_of(text)
    # No longer n-gram is more frequent than the most frequent pair: mostly that settles it.
    pairs = Counter(pairwise(words))
    most, longest = max(pairs.values(), default=0), max(map(len, words))
    for n, limit in MAX_TOP_NGRAM.items():
        if most * (n * longest + n - 1) / n_characters <= limit:
            continue
        if top_ngram_characters(words, n) / n_characters > limit:
            return f"gopher_top_{n}_gram"
    # A repeat of a longer n-gram lies within repeats of 5-grams, so no rule counts more than these
    # cover: mostly that settles it.
    covered = repeated_characters(words, min(MAX_DUPLICATE_NGRAM))
    for n, limit in MAX_DUPLICATE_NGRAM.items():
        if covered / n_characters <= limit:
            continue
        if duplicate_ngram_characters(words, n) / n_characters > limit:
            return f"gopher_duplicate_{n}_gram"
    return None
