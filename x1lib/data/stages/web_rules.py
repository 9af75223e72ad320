"""C4's and FineWeb's rules for what is left of a web page once its text is extracted.

C4: Raffel et al. 2020 (arXiv 1910.10683, section 2.2). FineWeb: Penedo et al. 2024 (arXiv
2406.17557, section 3.6); thresholds are those of the pipeline that its authors published
(datatrove, class FineWebQualityFilter, 0.10.1), whose duplicate-line limit, 0.01, is stricter than
the 0.1 of the paper's text. A word is what stands between white space.
"""

from __future__ import annotations

import re

MIN_LINE_WORDS, MAX_WORD_CHARACTERS, MIN_SENTENCES = 3, 1_000, 5
TERMINALS = (".", "?", "!", '"', "'")
POLICY_PHRASES = (
    "terms of use",
    "privacy policy",
    "cookie policy",
    "uses cookies",
    "use of cookies",
    "use cookies",
)
_CITATION = re.compile(r"\[\d*\]|\[edit\]|\[citation needed\]")
# The end of a sentence: a terminal, closing quotes or brackets, then white space or the end.
_SENTENCE_END = re.compile(r"""[.!?]+["'”’)\]]*(?=\s|$)""")

MIN_PUNCTUATED_LINES = 0.12
MAX_SHORT_LINES, SHORT_LINE_CHARACTERS = 0.67, 30
MAX_REPEATED_CHARACTERS = 0.01
MAX_LINES_PER_WORD = 0.3
# Marks that end a sentence, in the scripts that a web page in English is likely to quote.
LINE_ENDS = (".", "!", "?", "‼", "⁇", "⁈", "⁉", "‽", "。", "！", "？", "؟", "।", "։")


def n_sentences(text: str) -> int:
    """Sentences of a text: its ends of sentence, or 1 for words without one."""
    return len(_SENTENCE_END.findall(text)) or int(bool(text.strip()))


def c4(text: str, terminals: bool = True) -> tuple[str, str | None]:
    """The lines that C4 keeps of a text, and why the page is dropped, or None.

    FineWeb used all of it but the rule on line ends: `terminals=False`.

    A line goes if it lacks terminal punctuation, has under 3 words or a word over 1,000 characters,
    or speaks of JavaScript or of a site's policy. A page goes that says "lorem ipsum", has a curly
    bracket or keeps under 5 sentences. The paper's list of bad words is not applied: it also drops
    medicine and minority dialects (Dodge et al. 2021, arXiv 2104.08758).
    """
    kept = []
    sentences = 0
    for raw in text.splitlines():
        words = raw.split()
        line = _CITATION.sub("", raw.strip())
        low = line.lower()
        if terminals and (not line.endswith(TERMINALS) or line.endswith("...")):
            continue
        if len(words) < MIN_LINE_WORDS or max(map(len, words)) > MAX_WORD_CHARACTERS:
            continue
        if "lorem ipsum" in low:
            return "", "c4_lorem_ipsum"
        if "javascript" in low:
            continue
        if "{" in line:
            return "", "c4_curly_bracket"
        if any(phrase in low for phrase in POLICY_PHRASES):
            continue
        sentences += n_sentences(line)
        kept.append(line)
    if sentences < MIN_SENTENCES:
        return "", "c4_too_few_sentences"
    return "\n".join(kept), None


def fineweb_reason(text: str) -> str | None:
    """Why FineWeb's own rules drop a text, or None."""
    lines = [line for line in text.split("\n") if line.strip()]
    if not lines:
        return "fineweb_empty"
    if sum(line.endswith(LINE_ENDS) for line in lines) / len(lines) < MIN_PUNCTUATED_LINES:
        return "fineweb_lines_without_punctuation"
    short = sum(len(line) <= SHORT_LINE_CHARACTERS for line in lines)
    if short / len(lines) > MAX_SHORT_LINES:
        return "fineweb_short_lines"
    seen: set[str] = set()
    repeated = 0
    for line in lines:
        if line in seen:
            repeated += len(line)
        seen.add(line)
    if repeated / max(1, len(text) - text.count("\n")) > MAX_REPEATED_CHARACTERS:
        return "fineweb_repeated_lines"
    if text.count("\n") / len(text.split()) > MAX_LINES_PER_WORD:
        return "fineweb_list"
    return None
