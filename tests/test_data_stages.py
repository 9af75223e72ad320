"""Stages: counts and reasons, each rule with a text that it alone drops, well-known ones beside."""

import itertools
import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from x1lib.data import DataError
from x1lib.data.sources import Document, open_source
from x1lib.data.stages import Count, Stage, gopher, overlap, pii, run_stages, text_rule, web_rules
from x1lib.data.stages.quality import labelled_pages

PROSE = (
    "The harbour lay still under a grey sky and the boats had not gone out that day.",
    "Men mended their nets with slow hands, and one of them sang to himself.",
    "It is said that the wind turns when the church bell rings at noon.",
    "Nobody believed it, but they all looked up from their work when it rang.",
    "Then the wind turned, as it does on most days in spring along this coast.",
    "By evening the whole fleet was far out, and lamps were lit on every mast.",
)
GOOD = "\n".join(PROSE)
DICTIONARY = "sea boat wind stone lamp mast gull rope wave shore cloud salt tide reef sail".split()


def document(text, name="a", source="s"):
    return Document(name, source, text)


@pytest.fixture(scope="module")
def embedded_documents():
    wanted = itertools.islice(open_source("embedded").documents(), 0, None, 40)
    return [d.text for d in wanted]


# the chain


def test_counts_reasons_bytes_and_examples_add_up():
    stages = [
        text_rule("long enough", lambda text: None if len(text) > 2 else "short"),
        Stage("without a", lambda d: document(d.text.replace("a", ""), d.id)),
        text_rule("no x", lambda text: "has_x" if "x" in text else None),
    ]
    texts = ["hé", "banana", "xaxa", "x", "çedilla"]
    outcome = run_stages(
        [document(t, str(i)) for i, t in enumerate(texts)], stages, examples_per_reason=1
    )
    assert [d.text for d in outcome.kept] == ["bnn", "çedill"]
    first, second, third = outcome.counts.values()
    assert first == Count(5, 3, sum(len(t.encode()) for t in texts), 6 + 4 + 8, {"short": 2})
    assert (second.bytes_in, second.bytes_out) == (18, 3 + 2 + 7) and not second.dropped
    assert (third.documents_in, third.documents_out, third.dropped) == (3, 2, {"has_x": 1})
    shown = [(e.stage, e.reason, e.document.id) for e in outcome.examples]
    assert shown == [("long enough", "short", "0"), ("no x", "has_x", "2")]
    assert "short" in outcome.table() and outcome.seconds.keys() == outcome.counts.keys()


@pytest.mark.parametrize("bad", [None, "", True])
def test_a_stage_that_gives_neither_document_nor_reason_is_named(bad):
    with pytest.raises(TypeError, match="stage broken returned"):
        run_stages([document("text")], [Stage("broken", lambda d: bad)])


# Gopher


def words(n, length=5):
    rng = random.Random(n)
    return ["".join(rng.choices("abcdefghij", k=length)) for _ in range(n)]


STOPS = "the of and to"
GOPHER_CASES = {
    "gopher_too_few_words": f"{STOPS} " + " ".join(words(45)),
    "gopher_words_too_short": f"{STOPS} " + " ".join(words(100, 2)),
    "gopher_words_too_long": f"{STOPS} " + " ".join(words(100, 12)),
    "gopher_too_many_hashes": f"{STOPS} "
    + " ".join(w + "#" * (i % 5 == 0) for i, w in enumerate(words(100))),
    "gopher_too_many_ellipses": f"{STOPS} "
    + " ".join(w + "…" * (i % 5 == 0) for i, w in enumerate(words(100))),
    "gopher_lines_are_bullets": "\n".join(f"- {STOPS} {w}" for w in words(20)),
    "gopher_lines_end_in_ellipsis": "\n".join(
        f"{STOPS} " + " ".join(words(15)) + ("..." if i % 2 else ".") for i in range(8)
    ),
    "gopher_words_without_letters": f"{STOPS} " + " ".join(words(60)) + " 12345" * 30,
    "gopher_too_few_stop_words": " ".join(words(100)) + " the the",
}


@pytest.mark.parametrize("reason", GOPHER_CASES)
def test_each_gopher_rule_drops_its_own_text_and_not_good_prose(reason):
    assert gopher.quality_reason(GOOD) is None
    assert gopher.quality_reason(GOPHER_CASES[reason]) == reason


def test_gopher_word_limits_are_exact():
    text = f"{STOPS} " + " ".join(words(46))
    assert len(text.split()) == 50 and gopher.quality_reason(text) is None
    assert gopher.quality_reason(text + " -- !!") is None  # symbols are no words
    long = f"{STOPS} " + " ".join(words(100_000 - 4))
    assert gopher.quality_reason(long) is None
    assert gopher.quality_reason(long + " more") == "gopher_too_many_words"


def distinct_lines(n):
    return [" ".join(words(12 + i % 3, 6)[i % 2 :]) + f" number {i}" for i in range(n)]


def repetition_cases():
    lines = [f"{' '.join(random.Random(i).choices(DICTIONARY, k=9))} {i}" for i in range(30)]
    body = "\n".join(lines)
    return {
        "gopher_empty": " \n ",
        "gopher_duplicate_paragraphs": "\n\n".join(lines[:6] + ["again"] * 5),
        "gopher_duplicate_paragraph_characters": "\n\n".join([*lines[:8], body[:600], body[:600]]),
        "gopher_duplicate_lines": "\n".join(lines[:6] + ["again"] * 5),
        "gopher_duplicate_line_characters": "\n".join(
            [*lines[:8], body[:600].replace("\n", " ")] * 1
        )
        + "\n"
        + body[:600].replace("\n", " "),
        "gopher_top_2_gram": " ".join(f"{w} best mattress" for w in words(40, 6)),
    }


@pytest.mark.parametrize("reason", repetition_cases())
def test_each_repetition_rule_drops_its_own_text(reason):
    assert gopher.repetition_reason(GOOD) is None
    assert gopher.repetition_reason(repetition_cases()[reason]) == reason


def brute_repetition(text):
    """The n-gram rules of Table A1 without the bounds that make them fast."""
    found = gopher.words_of(text)
    for n, limit in gopher.MAX_TOP_NGRAM.items():
        if gopher.top_ngram_characters(found, n) / len(text) > limit:
            return f"gopher_top_{n}_gram"
    for n, limit in gopher.MAX_DUPLICATE_NGRAM.items():
        if gopher.duplicate_ngram_characters(found, n) / len(text) > limit:
            return f"gopher_duplicate_{n}_gram"
    return None


@given(st.integers(0, 10**6), st.integers(2, 15), st.integers(5, 120))
@settings(max_examples=300, deadline=None)
def test_the_bounds_change_no_verdict(seed, n_words, length):
    text = " ".join(random.Random(seed).choices(DICTIONARY[:n_words], k=length))
    fast = gopher.repetition_reason(text)
    assert fast == brute_repetition(text)


def test_duplicate_ngrams_are_counted_as_defined():
    found = "a b c d e a b c d e a b c d e x".split()
    # the second "a b c d e" repeats the first and is stepped over, so is the third
    assert gopher.duplicate_ngram_characters(found, 5) == 10
    assert gopher.top_ngram_characters(found, 2) == 3 * len("a b")
    assert gopher.duplicate_ngram_characters(["a"], 5) == gopher.top_ngram_characters(["a"], 2) == 0


# C4, FineWeb


def test_c4_keeps_and_drops_lines():
    dropped = [
        "A menu line without an end",
        "Two words.",
        "It trails off at the end...",
        "Please enable Javascript to see this page.",
        "This site uses cookies to make you happy.",
        "x" * 1_001 + " is a very long word.",
    ]
    mixed = [line for pair in zip(PROSE, dropped) for line in pair]
    assert web_rules.c4("\n".join(mixed)) == (GOOD, None)
    assert web_rules.c4("\n".join(mixed), terminals=False)[0].count("\n") == 7
    assert web_rules.c4(GOOD.replace("noon.", "noon.[12]"))[0] == GOOD


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("Here lorem ipsum stands for text.", "c4_lorem_ipsum"),
        ("Here is function() { return 1 }.", "c4_curly_bracket"),
    ],
)
def test_c4_drops_whole_pages(line, reason):
    assert web_rules.c4(f"{GOOD}\n{line}") == ("", reason)
    assert web_rules.c4("\n".join(PROSE[:4])) == ("", "c4_too_few_sentences")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (" \n ", "fineweb_empty"),
        (GOOD.replace(".", ""), "fineweb_lines_without_punctuation"),
        (GOOD + "\nShort line." * 20, "fineweb_short_lines"),
        (GOOD + "\n" + PROSE[0], "fineweb_repeated_lines"),
        ("\n".join(f"Unusuallylongwordforalinenumber{i} end." for i in range(20)), "fineweb_list"),
        (GOOD, None),
    ],
)
def test_each_fineweb_rule(text, reason):
    assert web_rules.fineweb_reason(text) == reason


# the well-known implementation beside ours


@pytest.fixture(scope="module")
def datatrove():
    """datatrove's filters with words as ours: what stands between white space."""
    pytest.importorskip("datatrove", reason="datatrove is not installed: no rules to compare with")
    from datatrove.data import Document as TroveDocument
    from datatrove.pipeline.filters import (
        FineWebQualityFilter,
        GopherQualityFilter,
        GopherRepetitionFilter,
        fineweb_quality_filter,
        gopher_quality_filter,
        gopher_repetition_filter,
    )

    filters = {
        "quality": GopherQualityFilter(),
        "repetition": GopherRepetitionFilter(),
        "fineweb": FineWebQualityFilter(),
    }
    with pytest.MonkeyPatch.context() as patch:
        for module in (gopher_quality_filter, gopher_repetition_filter, fineweb_quality_filter):
            patch.setattr(module, "split_into_words", lambda text, language: text.split())
        yield lambda name, text: filters[name].filter(TroveDocument(text=text, id="0"))


NAMES = {
    "gopher_short_doc": "gopher_too_few_words",
    "gopher_below_avg_threshold": "gopher_words_too_short",
    "gopher_above_avg_threshold": "gopher_words_too_long",
    "gopher_too_many_ellipsis": "gopher_too_many_ellipses",
    "gopher_too_many_bullets": "gopher_lines_are_bullets",
    "gopher_too_many_end_ellipsis": "gopher_lines_end_in_ellipsis",
    "gopher_below_alpha_threshold": "gopher_words_without_letters",
    "gopher_enough_stop_words": "gopher_too_few_stop_words",
    "dup_para_frac": "gopher_duplicate_paragraphs",
    "dup_para_char_frac": "gopher_duplicate_paragraph_characters",
    "dup_line_frac": "gopher_duplicate_lines",
    "dup_line_char_frac": "gopher_duplicate_line_characters",
    "line_punct_ratio": "fineweb_lines_without_punctuation",
    "short_line_ratio": "fineweb_short_lines",
    "char_dup_ratio": "fineweb_repeated_lines",
    "list_ratio": "fineweb_list",
}


def named(verdict):
    if verdict is True:
        return None
    reason = verdict[1]
    if found := re.fullmatch(r"top_(\d)_gram", reason):
        return f"gopher_top_{found[1]}_gram"
    if found := re.fullmatch(r"duplicated_(\d+)_n_grams", reason):
        return f"gopher_duplicate_{found[1]}_gram"
    return NAMES.get(reason, reason)


def test_rules_agree_with_datatrove(datatrove, embedded_documents):
    made = [*GOPHER_CASES.values(), *repetition_cases().values(), GOOD]
    texts = [page["text"] for page in labelled_pages()] + made + embedded_documents
    ours = {
        "quality": gopher.quality_reason,
        "repetition": gopher.repetition_reason,
        "fineweb": web_rules.fineweb_reason,
    }
    reasons = set()
    for name, reason_of in ours.items():
        for text in filter(str.strip, texts):
            reason = reason_of(text)
            assert reason == named(datatrove(name, text)), (name, text[:200])
            reasons.add(reason)
    assert len(reasons - {None}) >= 14, sorted(reasons - {None})


# personal data


@pytest.mark.parametrize(
    ("text", "scrubbed", "kind"),
    [
        ("Write to anna.b+x@mail.example.co.uk!", f"Write to {pii.EMAIL}!", "email"),
        ("the host 8.8.8.8 answers", f"the host {pii.IPV4} answers", "ip"),
        ("at 2606:4700:4700::1111 now", f"at {pii.IPV6} now", "ip"),
        ("Call (202) 555-0143 today.", f"Call {pii.PHONE} today.", "phone"),
        ("Tel. +44 20 7946 0958, ask", f"Tel. {pii.PHONE}, ask", "phone"),
        ("call 202-555-0143.", f"call {pii.PHONE}.", "phone"),
    ],
)
def test_personal_data_is_replaced_once(text, scrubbed, kind):
    found, counts = pii.scrub(text)
    assert found == scrubbed and counts == {"email": 0, "ip": 0, "phone": 0} | {kind: 1}
    assert pii.scrub(found) == (found, {"email": 0, "ip": 0, "phone": 0})


@pytest.mark.parametrize(
    "text",
    [
        "the private host 192.168.0.1 and version 1.2.3.4.5",
        "in 2019-2020 and on 2021-03-04 at 12:30:15",
        "1 234 567 890 people, or 1.234.567.890 of them",
        "ISBN 9783161484100 and 0.1234 567",
        "twitter @anna and a @ b",
        "the years 1914-1918 and pages 100-120",
        "the 10.0.0.1 network",
    ],
)
def test_what_is_no_personal_data_stays(text):
    assert pii.scrub(text)[0] == text


@given(st.text(max_size=200))
def test_scrubbing_twice_changes_nothing(text):
    once = pii.scrub(text)[0]
    assert pii.scrub(once)[0] == once


def test_scrubbing_leaves_prose_alone(embedded_documents):
    changed = [text for text in embedded_documents if pii.scrub(text)[0] != text]
    assert len(changed) <= len(embedded_documents) // 50


# contamination


def test_overlap_finds_a_shared_13_gram_whatever_its_case():
    index = overlap.OverlapIndex([GOOD])
    assert len(index) == len(overlap.plain_words(GOOD)) - 12
    inside = "He wrote: " + PROSE[1].upper().replace(",", " --") + " It is said"
    assert index.is_contaminated(inside)
    assert index.shared(inside)[0].startswith("men mended their nets")
    twelve = " ".join(PROSE[0].split()[:12]) + " something else"
    assert not index.is_contaminated(twelve) and not index.shared(twelve)


# libraries that are absent


def test_an_absent_library_is_named_with_what_installs_it(monkeypatch):
    import sys

    from x1lib.data.stages import extract, language, minhash

    for module in ("py3langid.langid", "rensa", "trafilatura", "warcio.archiveiterator"):
        monkeypatch.setitem(sys.modules, module, None)
    language._identifier.cache_clear()
    minhash._rensa.cache_clear()
    for call in (
        lambda: language.language_of("text"),
        lambda: minhash.signatures(["text"]),
        lambda: extract.main_text("<p>text</p>"),
        lambda: list(extract.read_warc("x.warc.gz")),
    ):
        with pytest.raises(DataError, match=r"is needed .*'x1lib\[data\]'"):
            call()
