"""Notebook 03's figures say what they were given; the published figures it leans on are sourced."""

import io
import math

import numpy as np
import pytest
from PIL import Image

from x1lib.data.published import (
    FINEWEB,
    LLAMA_3_VOCAB_SIZE,
    PRIMARY,
    SECOND_HAND,
    UNVERIFIED,
    Published,
)
from x1lib.data.stages.chain import Count
from x1lib.data.stages.minhash import band_probability
from x1lib.data.writer import token_dtype
from x1lib.figures import data


def drawn(picture, least_colors: int = 8) -> bytes:
    """The picture's PNG, which holds more than a blank page."""
    image = Image.open(io.BytesIO(picture.png))
    assert image.width > 500 and len(image.convert("RGB").getcolors(1 << 20)) > least_colors
    return picture.png


# Published


def test_a_published_figure_has_a_source_or_no_value():
    assert {one.seen for one in FINEWEB.values()} == {PRIMARY, SECOND_HAND, UNVERIFIED}
    for what, one in FINEWEB.items():
        assert one.what == what and one.source and one.unit
        assert (one.value is None) == (one.seen == UNVERIFIED)
        assert one.value is None or one.value > 0


def test_the_published_figures_agree():
    said = {what: one.value for what, one in FINEWEB.items()}
    kept = said["FineWeb-Edu at 3 and above"] / said["FineWeb"]
    assert kept == pytest.approx(1 - said["dropped by the threshold 3"], abs=0.01)
    tokens = [one.value for one in FINEWEB.values() if one.unit == "tokens" and one.value]
    assert tokens == sorted(tokens, reverse=True)
    assert token_dtype(LLAMA_3_VOCAB_SIZE).itemsize == 4 and LLAMA_3_VOCAB_SIZE > 2**16


def test_the_table_shows_no_value_where_none_was_seen():
    rows = {row[0]: row for row in data.published_table(FINEWEB).rows}
    assert rows["MinHash within each snapshot"][1:3] == ["–", UNVERIFIED]
    assert rows["FineWeb"][1] == "15T tokens" and rows["F1 of the classifier at 3"][1].startswith(
        "0"
    )
    assert rows.keys() == FINEWEB.keys()


def test_the_funnel_takes_its_title_from_the_figures():
    other = FINEWEB | {"FineWeb": Published("FineWeb", 2.6e12, "tokens", "a test")}
    assert "15T tokens, of which 9%" in data.funnel(FINEWEB).words
    assert "2.6T tokens, of which 50%" in data.funnel(other).words
    assert drawn(data.funnel(FINEWEB)) != drawn(data.funnel(other))


# What is lost, and the rules


def test_what_is_lost_is_said_by_pages_and_by_bytes():
    flow = {
        "extraction": Count(10, 9, 50_000, 20_000, {"status_404": 1}),
        "language": Count(9, 5, 20_000, 15_000, {"language_es": 4}),
        "duplicates": Count(5, 5, 15_000, 15_000),
    }
    picture = data.lost(flow)
    assert "10 pages in, 5 left: most go at language" in picture.words
    assert "50 kB in, 15 left: most go at extraction" in picture.words
    without = drawn(picture)
    # what is held out is kept apart and not lost
    apart = data.lost(flow | {"held out": Count(5, 1, 15_000, 1_000, {"held_out": 4})})
    assert apart.words == picture.words and drawn(apart) != without


def test_rules_name_the_best_one_and_all_together():
    found = {"a": (1.0, 0.25), "b": (0.5, 0.75), "all of them": (0.75, 1.0)}
    words = data.rules(found, 8).words
    assert "a 1.00 and 0.25" in words and "all of them 0.75 and 1.00" in words
    assert drawn(data.rules(found, 8)) != drawn(data.rules(found | {"a": (0.1, 0.9)}, 8))


# Near-duplicates


def test_the_s_curve_says_where_half_are_found():
    rng = np.random.default_rng(0)
    similarity = rng.random(400)
    found = rng.random(400) < band_probability(similarity)
    picture = data.s_curves(similarity, found)
    half = float(picture.words.split("similarity ")[1][:4])
    assert band_probability(half) == pytest.approx(0.5, abs=0.02)
    assert drawn(picture) != drawn(data.s_curves(similarity, ~found))


# Tokens and order


def test_bars_name_the_text_in_which_a_token_holds_most():
    found = {"prose": {"x": 4.5, "y": 1.0}, "code": {"x": 2.25, "y": 1.0}}
    picture = data.bytes_a_token(found)
    assert picture.words == "Bytes a token of x: prose 4.50; code 2.25."
    drawn(picture)


def test_coverage_ends_where_the_curves_end():
    epochs = np.linspace(0.01, 1, 100)
    read = {"by number": epochs, "at random": 1 - np.exp(-epochs)}
    picture = data.coverage(epochs, read, [0.5])
    assert f"by number 100%, at random {1 - math.exp(-1):.0%}".replace(",", ";") in picture.words
    drawn(picture)


def test_more_cores_are_drawn_for_slower_recipes():
    fast, slow = (data.cores({"plain": speed}, 0.45) for speed in (4e6, 1e5))
    assert "4,000,000" in fast.words and "MFU 0.45" in fast.words
    assert drawn(fast) != drawn(slow)
    assert drawn(data.cores({"plain": 4e6}, 0.45, {"50m": 6.1e8})) != drawn(fast)


# Texts in a table's cell


def test_an_opening_is_one_line_that_markdown_leaves_alone():
    said = data.opening("First | line\n\nsecond $5 and *stars* <b>", 90)
    assert said == r"First \| line / second \$5 and \*stars\* \<b>"
    assert len(data.opening("word " * 100, 30)) <= 30 and data.opening("word " * 100, 30)[-1] == "…"
