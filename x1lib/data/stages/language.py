"""Which language a text is in, by py3langid (Lui and Baldwin 2012's langid.py, kept up to date)."""

from __future__ import annotations

from functools import cache

from x1lib.data.errors import missing_library

# The language of a page is plain from its beginning; the rest would only cost time.
CHARACTERS = 2_000
# FineWeb keeps a page at 0.65 and above (Penedo et al. 2024, section 3.4); there the classifier is
# fastText's, whose probabilities are not the same as these.
MIN_PROBABILITY = 0.65


@cache
def _identifier():
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError as error:
        raise missing_library("py3langid", "to tell languages apart") from error
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def language_of(text: str) -> tuple[str, float]:
    """The language (ISO 639-1) of a text's first 2,000 characters, and its probability in 0..1.

    Raises DataError where py3langid is not installed.
    """
    language, probability = _identifier().classify(text[:CHARACTERS])
    return str(language), float(probability)


def language_reason(
    text: str, wanted: str = "en", min_probability: float = MIN_PROBABILITY
) -> str | None:
    """Why a text is not taken for one in the `wanted` language, or None."""
    language, probability = language_of(text)
    if language != wanted:
        return f"language_{language}"
    return None if probability >= min_probability else "language_unsure"
