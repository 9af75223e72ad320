"""Duplicates: MinHash against the true similarity, the index on disk against a plain set."""

import random
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from x1lib.data import DataError
from x1lib.data.building.keyindex import FRESH_KEYS, JOURNAL, KeyIndex
from x1lib.data.stages import minhash

pytest.importorskip("rensa", reason="rensa is not installed: no MinHash to test")
VOCABULARY = [f"w{i}" for i in range(5_000)]


def pair_of(similarity, rng, n=600):
    """Two texts whose word 5-grams have this Jaccard similarity: the tail of one is replaced."""
    shared = round(n * 2 * similarity / (1 + similarity))
    one = rng.choices(VOCABULARY, k=n)
    other = one[:shared] + rng.choices(VOCABULARY, k=n - shared)
    return " ".join(one), " ".join(other)


def test_signatures_estimate_the_jaccard_similarity():
    rng = random.Random(0)
    for wanted in (0.2, 0.5, 0.8):
        pairs = [pair_of(wanted, rng) for _ in range(40)]
        ones, others = (minhash.signatures(list(side)) for side in zip(*pairs))
        estimated = (ones == others).mean(1)
        true = np.array([minhash.jaccard(*pair) for pair in pairs])
        assert abs(true.mean() - wanted) < 0.02
        # one estimate has a standard error of sqrt(s (1 - s) / 112) ≤ 0.047, the mean of 40 0.0075
        assert abs((estimated - true).mean()) < 4 * 0.0075
        assert np.abs(estimated - true).max() < 4.5 * 0.047


def test_sharing_a_band_follows_the_s_curve():
    rng = random.Random(1)
    for similarity in (0.5, 0.7, 0.85):
        pairs = [pair_of(similarity, rng, 300) for _ in range(200)]
        ones, others = (minhash.band_keys(list(side)) for side in zip(*pairs))
        found = (ones == others).any(1).mean()
        expected = np.mean([minhash.band_probability(minhash.jaccard(*pair)) for pair in pairs])
        assert abs(found - expected) < 4 * np.sqrt(expected * (1 - expected) / 200) + 1e-9


def test_the_curve_is_what_the_docstring_says():
    assert minhash.band_probability(0.69) == pytest.approx(0.5, abs=0.03)
    assert minhash.band_probability(0.75) == pytest.approx(0.77, abs=0.005)


def test_words_listed_by_stretches_are_those_of_the_whole(monkeypatch):
    """A long text is never listed at once, and gives the same keys; no word is cut."""
    rng = random.Random(3)
    kinds = ["Σ", "ΟΔΟΣ", "don't", "a_b", "\u00a0", "\n\n", "—", "x" * 60, "Wort", "İ"]
    texts = [" ".join(rng.choices(kinds, k=n)) for n in (0, 1, 4, 300)] + ["y" * 90, " \t "]
    expected = [(minhash.normalised(text), minhash.shingles(text).tolist()) for text in texts]
    assert expected[3][0] == " ".join(re.findall(r"[^\W_]+", texts[3].lower()))
    lists = []
    words = minhash._words
    monkeypatch.setattr(minhash, "_words", lambda text: lists.append([*words(text)]) or lists[-1])
    for stretch in (1, 10, 64):
        monkeypatch.setattr(minhash, "STRETCH_CHARACTERS", stretch)
        found = [(minhash.normalised(text), minhash.shingles(text).tolist()) for text in texts]
        assert found == expected
    assert max(map(len, lists)) > 20  # it was cut at all


def test_signatures_agree_with_datasketch():
    datasketch = pytest.importorskip("datasketch", reason="datasketch is not installed")
    rng = random.Random(2)
    pairs = [pair_of(0.6, rng) for _ in range(20)]
    ours, theirs = [], []
    for pair in pairs:
        a, b = minhash.signatures(list(pair))
        ours.append((a == b).mean())
        sketches = []
        for text in pair:
            sketch = datasketch.MinHash(num_perm=112)
            sketch.update_batch([h.tobytes() for h in minhash.shingles(text)])
            sketches.append(sketch)
        theirs.append(sketches[0].jaccard(sketches[1]))
    assert abs(np.mean(ours) - np.mean(theirs)) < 0.05


def test_keys_do_not_change_between_versions_and_machines():
    # They decide what is dropped: a folder that is gone on with must meet the same keys.
    text = "It is a truth universally acknowledged that a single man must be in want of a wife."
    assert minhash.exact_key(text) == PINNED_EXACT
    assert minhash.band_keys([text])[0, :2].tolist() == PINNED_BANDS
    assert minhash.algorithm() == "rensa RMinHash 2, seed 1"


PINNED_EXACT = 7_682_218_600_811_930_744
PINNED_BANDS = [10_453_820_928_314_496_762, 6_875_698_157_930_451_670]


def test_exact_keys_ignore_case_marks_and_spaces_and_nothing_else():
    assert minhash.exact_key("The  sea,\nwas calm!") == minhash.exact_key("the sea was calm")
    assert minhash.exact_key("the sea was calm") != minhash.exact_key("the sea was calmer")


@pytest.mark.parametrize("text", ["", "one", "one two three four"])
def test_short_texts_have_keys(text):
    assert minhash.band_keys([text]).shape == (1, 14) and len(minhash.shingles(text)) == 1
    assert minhash.band_keys([]).shape == (0, 14)


# the index


def plain_take(rows, seen):
    """What KeyIndex.take does, with a set."""
    verdicts = []
    for row in rows.tolist():
        if row[0] in seen:
            verdicts.append("exact")
        elif any(key in seen for key in row):
            verdicts.append("near")
        else:
            verdicts.append(None)
            seen.update(row)
    return verdicts


def rows_with_repeats(rng, n, width=3, values=400):
    return rng.integers(0, values, (n, width)).astype(np.uint64)


@given(st.integers(0, 10**6), st.integers(1, 60), st.integers(1, 7))
@settings(max_examples=60, deadline=None)
def test_the_index_equals_a_set_through_runs_files_and_reopening(
    tmp_path_factory, seed, n_batches, fresh
):
    folder = tmp_path_factory.mktemp("keys")
    rng = np.random.default_rng(seed)
    seen: set[int] = set()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("x1lib.data.building.keyindex.FRESH_KEYS", 2**fresh)
        patch.setattr("x1lib.data.building.keyindex.READ_ROWS", 16)
        index = KeyIndex(folder, 3, 0, memory_bytes=256)
        for i in range(n_batches):
            rows = rows_with_repeats(rng, int(rng.integers(0, 12)))
            assert index.take(rows) == plain_take(rows, seen)
            if i % 7 == 3:
                n_rows = index.n_rows
                index.close()
                index = KeyIndex(folder, 3, n_rows, memory_bytes=256)
        assert index.memory_keys_bytes <= 256
        assert index.journal_bytes == index.n_rows * 3 * 8
        index.close()


def test_cut_to_fewer_rows_it_decides_as_it_did_then(tmp_path):
    rng = np.random.default_rng(0)
    rows = rows_with_repeats(rng, 300, values=2_000)
    index = KeyIndex(tmp_path, 3, 0)
    index.take(rows[:100])
    n_rows = index.n_rows
    later = index.take(rows[100:])
    index.close()
    again = KeyIndex(tmp_path, 3, n_rows)
    assert again.take(rows[100:]) == later and "near" in later and None in later
    again.close()


def test_a_journal_that_is_too_short_is_refused(tmp_path):
    KeyIndex(tmp_path, 3, 0).close()
    with pytest.raises(DataError, match=rf"{JOURNAL} has 0 bytes, expected 240"):
        KeyIndex(tmp_path, 3, 10)


def test_bytes_of_a_document_in_the_index(tmp_path):
    """15 keys of 8 bytes, once in the journal and once in the sorted copy."""
    n = 40_000
    index = KeyIndex(tmp_path, 15, 0, memory_bytes=2**20)
    rng = np.random.default_rng(0)
    for _ in range(n // 1_000):
        index.take(rng.integers(0, 2**63, (1_000, 15)).astype(np.uint64))
    index.commit()
    on_disk = (tmp_path / JOURNAL).stat().st_size
    assert index.n_rows == n and on_disk == index.journal_bytes == 120 * n
    sorted_bytes = index.file_keys_bytes + index.memory_keys_bytes
    assert index.memory_keys_bytes <= 2**20 < index.file_keys_bytes
    assert 120 * n - 8 * FRESH_KEYS < sorted_bytes <= 120 * n  # the newest are in a set
    index.close()
