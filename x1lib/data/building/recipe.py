"""What is done to a source: its filters in order, duplicates, tokeniser, sizes of blocks."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import partial

from x1lib.data.errors import DataError
from x1lib.data.sources import Document
from x1lib.data.stages import gopher, language, minhash, pii, quality, web_rules
from x1lib.data.stages.chain import Stage, text_change, text_rule

# Raised whenever a rule changes, so that an older folder is not taken for this one's work.
RULES_VERSION = 1
# Beyond this a rule that counts n-grams would want gigabytes; Gopher's 100,000 words are far less.
MAX_FILTERED_CHARACTERS = 5_000_000
DEDUP = ("none", "exact", "near")


def _c4_stage(name: str, terminals: bool) -> Stage:
    def apply(document: Document):
        text, reason = web_rules.c4(document.text, terminals)
        return reason or replace(document, text=text)

    return Stage(name, apply)


def _too_large(text: str) -> str | None:
    return "too_large" if len(text) > MAX_FILTERED_CHARACTERS else None


def _is_empty(text: str) -> str | None:
    return None if text.strip() else "empty"


FILTERS = {
    "not empty": text_rule("not empty", _is_empty),
    "size": text_rule("size", _too_large),
    "language": text_rule("language", partial(language.language_reason, wanted="en")),
    "gopher repetition": text_rule("gopher repetition", gopher.repetition_reason),
    "gopher quality": text_rule("gopher quality", gopher.quality_reason),
    "c4": _c4_stage("c4", terminals=True),
    "c4 but line ends": _c4_stage("c4 but line ends", terminals=False),
    "fineweb": text_rule("fineweb", web_rules.fineweb_reason),
    "educational score": quality.quality_stage(),
    "pii": text_change("pii", lambda text: pii.scrub(text)[0]),
}
# FineWeb's order (Penedo et al. 2024, section 3): language, Gopher, C4 less its rule on line ends,
# its own rules; personal data last.
FINEWEB = (
    "language",
    "gopher repetition",
    "gopher quality",
    "c4 but line ends",
    "fineweb",
    "pii",
)
PRESETS = {
    "plain": ((), "none"),
    "dedup": ((), "near"),
    "web": (FINEWEB, "near"),
    "web-edu": ((*FINEWEB[:-1], "educational score", "pii"), "near"),
}


@dataclass(frozen=True)
class Recipe:
    """Filters by name, in order; `dedup` is "none", "exact" or "near"; sizes in tokens.

    `heldout_tokens` are drawn from the opening of the stream: every fourth document there, by the
    hash of its id, until that many. With `dedup` on, later copies of them are dropped like all
    others, so training never sees a near-duplicate of what is held out.
    """

    filters: tuple[str, ...] = ()
    dedup: str = "none"
    tokenizer: str = "gpt2"
    block_tokens: int = 2**22
    heldout_tokens: int = 2**20

    def __post_init__(self):
        unknown = [name for name in self.filters if name not in FILTERS]
        if unknown:
            raise DataError(f"unknown filter {unknown[0]!r}; there are {', '.join(FILTERS)}")
        if self.dedup not in DEDUP:
            raise DataError(f"unknown dedup {self.dedup!r}; there are {', '.join(DEDUP)}")
        if not isinstance(self.block_tokens, int) or self.block_tokens < 2:
            raise DataError(
                f"block_tokens is {self.block_tokens!r}; give a whole number of 2 or more"
            )

        if not isinstance(self.heldout_tokens, int) or self.heldout_tokens < 1:
            raise DataError(
                f"heldout_tokens is {self.heldout_tokens!r}; give 1 or more to judge a run on"
            )

    def stages(self) -> list[Stage]:
        """The stages of a document; empty ones always go, oversized ones where there are rules."""
        names = ["not empty", *(["size"] if self.filters else []), *self.filters]
        return [FILTERS[name] for name in names]

    @property
    def key_width(self) -> int:
        """Keys of a document in the index of duplicates."""
        return {"none": 0, "exact": 1, "near": 1 + minhash.N_BANDS}[self.dedup]

    def identity(self) -> dict:
        """All that decides the bytes that come out, but the source and the tokeniser's files."""
        marks = {**asdict(self), "filters": list(self.filters), "rules_version": RULES_VERSION}
        if self.dedup == "near":
            marks["minhash"] = minhash.algorithm()
        return marks


def recipe(name: str, **changes) -> Recipe:
    """The recipe called "plain", "dedup", "web" or "web-edu", with fields changed.

    Raises DataError for an unknown name.
    """
    if name not in PRESETS:
        raise DataError(f"unknown recipe {name!r}; there are {', '.join(PRESETS)}")
    filters, dedup = PRESETS[name]
    return Recipe(**{"filters": filters, "dedup": dedup, **changes})
