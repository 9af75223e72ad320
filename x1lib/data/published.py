"""What the makers of FineWeb and others say of their data, and how each figure was seen."""

from __future__ import annotations

from dataclasses import dataclass

PRIMARY, SECOND_HAND, UNVERIFIED = "as published", "second hand", "unverified"
_PAPER = "Penedo et al. 2024, arXiv 2406.17557, abstract"
_REPORT = (
    "FineWeb technical report, May 2024, huggingface.co/spaces/HuggingFaceFW/blogpost-fineweb-v1"
)
_CARD = "data card of HuggingFaceFW/fineweb-edu, June 2024"


@dataclass(frozen=True)
class Published:
    """One figure; `value` is None where it was not seen, and `seen` says how it was."""

    what: str
    value: float | None
    unit: str
    source: str
    seen: str = PRIMARY


FINEWEB = {
    one.what: one
    for one in (
        Published(
            "raw text of 96 snapshots",
            200e12,
            "tokens",
            "orply.com, an overview of FineWeb, 2026: 'roughly'",
            SECOND_HAND,
        ),
        Published(
            "extracted, English, Gopher's rules",
            36e12,
            "tokens",
            "eyesinai.com, an explainer that names the paper, 2026",
            SECOND_HAND,
        ),
        Published("MinHash within each snapshot", None, "tokens", _REPORT, UNVERIFIED),
        Published("FineWeb", 15e12, "tokens", f"{_PAPER}; GPT-2's tokens"),
        Published("FineWeb-Edu at 2 and above", 5.4e12, "tokens", _CARD),
        Published("FineWeb-Edu at 3 and above", 1.3e12, "tokens", _PAPER),
        Published(
            "FineWeb without exact copies across snapshots",
            5e12,
            "tokens, by others",
            "card of Salesforce/fineweb_deduplicated: 'from 15T to 5T'",
        ),
        Published("snapshots of CommonCrawl", 96, "snapshots", _PAPER),
        Published("FineWeb on disk", 44e12, "bytes", _REPORT),
        Published("dropped by the threshold 3", 0.92, "share", _CARD),
        Published("pages scored by Llama-3-70B", 450e3, "pages", "card of fineweb-edu-classifier"),
        Published("F1 of the classifier at 3", 0.82, "share", _CARD),
        Published("scoring FineWeb", 6e3, "H100 hours", _CARD),
        Published(
            "gain on MMLU by FineWeb-Edu",
            4,
            "points",
            "a reader's summary of the paper (1.71B model), figures 10 and 11",
            SECOND_HAND,
        ),
        Published(
            "gain on ARC by FineWeb-Edu",
            11,
            "points",
            "a reader's summary of the paper (1.71B model), figures 10 and 11",
            SECOND_HAND,
        ),
    )
}

# Ids of Llama 3's tokeniser: vocab_size in params.json of Meta-Llama-3.1-8B, 2024.
LLAMA_3_VOCAB_SIZE = 128_256
