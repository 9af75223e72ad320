"""From a crawl to text: the shipped archive, traps in it, languages, the score of a page."""

import gzip

import numpy as np
import pytest

from x1lib.data import SourceError, make_warc
from x1lib.data.building import build, recipe
from x1lib.data.shards import Shards
from x1lib.data.sources import ASSETS, open_source
from x1lib.data.stages import Count, quality, run_stages
from x1lib.data.streams import open_stream

pytest.importorskip("warcio", reason="warcio is not installed: no WARC can be read")
pytest.importorskip("trafilatura", reason="trafilatura is not installed: no text out of HTML")

from x1lib.data.stages import extract

WARC = ASSETS / "pages.warc.gz"


@pytest.fixture(scope="module")
def extracted():
    count = Count()
    return list(extract.documents_of(WARC, count)), count


def test_the_shipped_archive_is_what_the_command_writes():
    # gzip's bytes may differ between versions of zlib: the content may not
    assert gzip.decompress(make_warc.warc_bytes()) == gzip.decompress(WARC.read_bytes())


def test_every_record_is_sound_by_the_standard():
    """warcio's own check of the records: lengths, and headers that must be there."""
    from warcio.archiveiterator import ArchiveIterator

    kinds, names = [], set()
    with WARC.open("rb") as file:
        for record in ArchiveIterator(file, check_digests="raise"):
            kinds.append(record.rec_type)
            names.add(record.rec_headers.get_header("WARC-Record-ID"))
            length = int(record.rec_headers.get_header("Content-Length"))
            head = record.http_headers
            body = record.raw_stream.read()
            if record.rec_type == "response":
                assert int(head.get_header("Content-Length")) == len(body) <= length
    assert kinds[0] == "warcinfo" and kinds.count("response") == kinds.count("request") == 70
    assert len(names) == len(kinds)


def test_pages_give_documents_or_a_reason(extracted):
    documents, count = extracted
    assert count.documents_in == 70 and count.documents_out == len(documents) == 66
    assert count.dropped == {
        "status_404": 1,
        "not_html": 1,
        "charset_unknown": 1,
        "no_main_text": 1,
    }
    assert count.bytes_in > 2 * count.bytes_out
    assert len({d.id for d in documents}) == 66


def test_the_text_is_kept_and_menus_and_notices_are_not(extracted):
    by_id = {d.id: d.text for d in extracted[0]}
    pages = [page for page in quality.labelled_pages() if page["prose"]]
    for page in pages:
        text = by_id[f"{make_warc.SITE}/{page['id']}"]
        assert page["text"] in text.replace("\n", " ")
        for junk in ("Subscribe to our newsletter", "Accept all", "Powered by", "dataLayer"):
            assert junk not in text
    assert "café" in by_id[f"{make_warc.SITE}/old/volcano"]


def test_an_archive_that_breaks_off_is_named(tmp_path):
    path = tmp_path / "cut.warc.gz"
    raw = WARC.read_bytes()
    path.write_bytes(raw[: len(raw) // 2])
    with pytest.raises(SourceError, match=r"cut\.warc\.gz breaks off after record \d+"):
        list(extract.read_warc(path))
    for content in (b"", gzip.compress(b"hello\n"), b"no archive at all\n"):
        path.write_bytes(content)
        with pytest.raises(SourceError, match=r"cut\.warc\.gz"):
            list(extract.read_warc(path))


def test_what_is_no_page_is_told_apart():
    def page(**changes):
        fields = {"url": "u", "date": "", "status": 200, "media_type": "text/html"}
        html = make_warc.page_html("Title", "A page with a text of some length. " * 9).encode()
        return extract.Page(**fields | {"charset": None, "html": html} | changes)

    assert extract.page_document(page()).id == "u"
    assert extract.page_document(page(status=301)) == "status_301"
    assert extract.page_document(page(media_type="application/pdf")) == "not_html"
    assert extract.page_document(page(html=b"x" * (extract.MAX_HTML_BYTES + 1))) == "html_too_large"
    assert extract.page_document(page(html=b"\xff\xfe\xfa", charset="utf-8")) == "charset_unknown"
    assert extract.page_document(page(charset="no-such-charset")).id == "u"  # UTF-8 fits
    assert extract.page_document(page(html=b"<p></p>")) == "no_main_text"


def test_the_whole_way_from_archive_to_shards(tmp_path):
    pytest.importorskip("py3langid", reason="py3langid is not installed")
    pytest.importorskip("rensa", reason="rensa is not installed")
    chosen = recipe("web", tokenizer="bytes", block_tokens=4_096, heldout_tokens=2_000)
    index = Shards(build(WARC, chosen, root=tmp_path, log=None)).index
    counts = index["counts"]
    assert counts["read"][:2] == [70, 66] and counts["read"][4]["status_404"] == 1
    reasons = counts["duplicates"][4]
    assert reasons["exact_duplicate"] >= 1 and reasons["near_duplicate"] >= 1
    text = b"".join((tmp_path / p).read_bytes() for p in tmp_path.rglob("block-*.npy"))
    assert b"m\0a\0r\0i\0a\0@" not in text  # the address in it was replaced
    languages = counts["language"][4]
    assert languages["language_es"] == 2


# languages


def test_languages_are_told_apart():
    pytest.importorskip("py3langid", reason="py3langid is not installed")
    from x1lib.data.stages.language import language_of, language_reason

    pages = {page["id"]: page["text"] for page in quality.labelled_pages()}
    assert language_of(pages["marea"])[0] == "es" and language_of(pages["tides"])[0] == "en"
    assert language_reason(pages["tides"]) is None
    assert language_reason(pages["marea"]) == "language_es"
    assert language_reason(pages["marea"], wanted="es") is None
    assert language_reason(pages["tides"], min_probability=1.1) == "language_unsure"
    long = pages["tides"] * 40 + pages["marea"] * 400
    assert language_of(long)[0] == "en"  # the first 2,000 characters decide


def test_the_embedded_text_is_english():
    pytest.importorskip("py3langid", reason="py3langid is not installed")
    from x1lib.data.stages.language import language_reason

    texts = [d.text for b in open_stream("embedded").batches() for d in b.documents][::40]
    dropped = [language_reason(text) for text in texts if language_reason(text)]
    assert len(dropped) <= len(texts) // 100


# the educational score


def test_the_score_does_on_unseen_labelled_pages_what_the_docs_say():
    wanted = np.array([page["educational"] for page in quality.labelled_pages()])
    scores = quality.leave_one_out()
    assert len(wanted) == 51 and np.corrcoef(scores, wanted)[0, 1] > 0.8
    precision, recall = quality.precision_recall(scores >= 3, wanted >= 3)
    assert precision > 0.85 and recall >= 0.75


def test_the_score_orders_texts_that_nobody_labelled():
    by_source: dict[str, list[float]] = {}
    for number, document in enumerate(open_source("embedded").documents()):
        if number % 20 == 0:
            score = quality.educational_score(document.text)
            by_source.setdefault(document.source, []).append(score)
    means = {source: np.mean(scores) for source, scores in by_source.items()}
    assert means["wikipedia"] > means["sotu"] > means["moby-dick"] > means["austen"]


def test_a_planted_weight_is_found():
    rng = np.random.default_rng(0)
    pages = []
    for _ in range(300):
        n = int(rng.integers(0, 12))
        words = ["because"] * n + ["stone"] * (60 - n)
        text = " ".join(rng.permutation(words))
        pages.append({"text": text, "educational": n / 4})
    model = quality.fit(pages[:200])
    errors = [model.score(page["text"]) - page["educational"] for page in pages[200:]]
    assert np.abs(errors).max() < 0.1
    assert quality.FEATURES[np.argmax(np.abs(model.weights))] == "cause"


def test_the_stage_drops_below_the_threshold():
    documents = list(open_source("embedded").documents())[:5]
    outcome = run_stages(documents, [quality.quality_stage(6.0)])
    assert outcome.counts["educational score"].dropped == {"educational_score_low": 5}
    assert len(run_stages(documents, [quality.quality_stage(0.0)]).kept) == 5


def test_precision_and_recall():
    assert quality.precision_recall([1, 1, 0, 0], [1, 0, 1, 0]) == (0.5, 0.5)
    precision, recall = quality.precision_recall([0, 0], [1, 0])
    assert np.isnan(precision) and recall == 0.0
