"""An educational-quality score from 0 to 5, as FineWeb-Edu's, by a small linear model.

FineWeb-Edu kept what a classifier trained on Llama-3's judgements scored at 3 or more (Penedo et
al. 2024, section 4). That classifier needs a download; this one is a ridge regression on the
counts below, fitted to the 51 pages of assets/labelled_pages.jsonl, which the authors of this
course wrote and scored by hand. It tells explaining prose from stories, chatter and sales talk. It
knows nothing of whether what is explained is true, and 51 pages are few: `leave_one_out` says how
well it does on pages that it was not fitted to. `published_scores` asks the published one instead.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from x1lib.data.errors import DataError, missing_library
from x1lib.data.stages.chain import Stage, text_rule

ASSETS = Path(__file__).parent.parent / "assets"
LABELLED = ASSETS / "labelled_pages.jsonl"
THRESHOLD = 3.0  # FineWeb-Edu's
RIDGE = 1.0
MAX_CHARACTERS = 20_000  # what is scored of a long text
# Length and repetition are those of the opening: the labelled pages are short, and a book is not
# a hundred times more of whatever a page is.
OPENING_WORDS = 60
PUBLISHED = "HuggingFaceFW/fineweb-edu-classifier"

_WORD = re.compile(r"[a-z']+")
_SENTENCE = re.compile(r"[.!?]+(?:\s|$)")
# Shares of all words, by what a word does in an explanation, a story or an advertisement.
_SETS = {
    "cause": "because therefore thus since hence so why reason reasons explains cause caused causes"
    " depends means",
    "example": "example examples suppose notice note consider remember exercise question rule"
    " called known such define defined compare",
    "general": "is are can may most many often usually some each both either other same different",
    "first person": "i me my mine we us our myself",
    "address": "you your u",
    "past narration": "was were had said went came took told knew looked sat stood did thought",
    "sale": "buy free sale best price prices order online click now offer deal deals shipping cart"
    " discount bonus review reviews call save stock call today",
    "function": "the of to and a in that it for as with on by from at which this be or an but not",
}
_WORDS = {name: frozenset(words.split()) for name, words in _SETS.items()}
FEATURES = (*_SETS, "digits", "capitals", "exclamations", "repetition", "sentence length", "length")


def features(text: str) -> np.ndarray:
    """What the score looks at: float64[14], named by FEATURES, per word or per character."""
    text = text[:MAX_CHARACTERS]
    words = _WORD.findall(text.lower())
    n, n_characters = max(1, len(words)), max(1, len(text))
    shares = [sum(map(chosen.__contains__, words)) / n for chosen in _WORDS.values()]
    sentences = max(1, len(_SENTENCE.findall(text)))
    return np.array(
        [
            *shares,
            sum(map(str.isdigit, text)) / n_characters,
            sum(map(str.isupper, text)) / n_characters,
            min(1.0, text.count("!") / sentences),
            1 - len(set(words[:OPENING_WORDS])) / min(n, OPENING_WORDS),
            min(n / sentences, 40.0) / 40.0,
            min(n, OPENING_WORDS) / OPENING_WORDS,
        ]
    )


@dataclass(frozen=True)
class Model:
    """A linear model over standardised features; `.weights` are score per standard deviation."""

    mean: np.ndarray
    scale: np.ndarray
    weights: np.ndarray
    intercept: float

    def score(self, text: str) -> float:
        """The score of a text, cut to 0..5."""
        z = (features(text) - self.mean) / self.scale
        return float(np.clip(self.intercept + z @ self.weights, 0.0, 5.0))


@cache
def labelled_pages() -> tuple[dict, ...]:
    """The hand-labelled pages: `id`, `kind`, `prose` (keep it?), `educational` 0..5, `text`."""
    with LABELLED.open(encoding="utf-8") as file:
        return tuple(json.loads(line) for line in file)


def fit(pages: list[dict]) -> Model:
    """Ridge regression of `educational` on the features of `text`; deterministic."""
    if len(pages) < 2:
        raise DataError(f"a quality model was given {len(pages)} pages; give 2 or more, labelled")
    rows = np.array([features(page["text"]) for page in pages])
    wanted = np.array([page["educational"] for page in pages], dtype=np.float64)
    mean, scale = rows.mean(0), rows.std(0) + 1e-9
    z = (rows - mean) / scale
    gram = z.T @ z + RIDGE * np.eye(z.shape[1])
    weights = np.linalg.solve(gram, z.T @ (wanted - wanted.mean()))
    return Model(mean, scale, weights, float(wanted.mean()))


@cache
def default_model() -> Model:
    """The model fitted to all the labelled pages."""
    return fit(list(labelled_pages()))


def educational_score(text: str) -> float:
    """The score of a text, from 0 (none) to 5 (a good lesson)."""
    return default_model().score(text)


def leave_one_out() -> np.ndarray:
    """The score of each labelled page by a model that was fitted to all the others: float64[n]."""
    pages = list(labelled_pages())
    return np.array(
        [fit(pages[:i] + pages[i + 1 :]).score(page["text"]) for i, page in enumerate(pages)]
    )


def precision_recall(predicted: np.ndarray, wanted: np.ndarray) -> tuple[float, float]:
    """Precision and recall of a yes-or-no rule: bool[n] each; nan where nothing was chosen."""
    predicted, wanted = np.asarray(predicted, bool), np.asarray(wanted, bool)
    hits = float((predicted & wanted).sum())
    precision = hits / predicted.sum() if predicted.any() else float("nan")
    return precision, hits / wanted.sum() if wanted.any() else float("nan")


def quality_stage(threshold: float = THRESHOLD) -> Stage:
    """A stage that drops what scores below `threshold`."""

    def reason(text: str) -> str | None:
        return None if educational_score(text) >= threshold else "educational_score_low"

    return text_rule("educational score", reason)


def published_scores(texts: list[str]) -> list[float]:
    """The scores of FineWeb-Edu's own classifier, which is downloaded when first asked for.

    Needs transformers, torch and a network; unverified here, where there is none. Raises DataError
    where it cannot be had.
    """
    try:
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer
    except ImportError as error:
        raise missing_library("transformers", "for the published classifier") from error
    try:
        words = AutoTokenizer.from_pretrained(PUBLISHED)
        model = AutoModelForSequenceClassification.from_pretrained(PUBLISHED)
    except OSError as error:
        raise DataError(
            f"{PUBLISHED} cannot be downloaded; use educational_score, which needs no network"
        ) from error
    batch = words(texts, return_tensors="pt", padding="longest", truncation=True)
    with torch.no_grad():
        return model(**batch).logits.squeeze(-1).tolist()
