"""Sources: what is a document, what is held out, and errors that name the line."""

import json
import lzma

import pytest
from data_folders import write_jsonl
from hypothesis import given
from hypothesis import strategies as st

from x1lib.data import Shards, SourceError, prepare
from x1lib.data.sources import HELDOUT_BELOW, open_source, stable_hash
from x1lib.data.spool import Spool


def spooled(path, folder) -> Spool:
    return Spool(open_source(path), folder, print)


def test_the_embedded_source_is_both_texts():
    documents = list(open_source("embedded").documents())
    assert len(documents) == 10_656 == len({d.id for d in documents})
    assert {d.source for d in documents} == {"austen", "moby-dick", "sotu", "cfi", "wikipedia"}


@pytest.mark.parametrize("name", ["fineweb-edu", "text.parquet", "embeded", ""])
def test_an_unknown_source_is_refused_with_what_exists(name):
    with pytest.raises(SourceError, match=r"give 'embedded' or the path .* \.jsonl\.xz"):
        open_source(name)


def test_a_path_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(SourceError, match=r"gone\.jsonl does not exist"):
        open_source(tmp_path / "gone.jsonl")


def test_packed_and_plain_files_give_the_same_documents_and_other_hashes(tmp_path):
    plain = write_jsonl(tmp_path / "text.jsonl", 20)
    packed = tmp_path / "text.jsonl.xz"
    packed.write_bytes(lzma.compress(plain.read_bytes()))
    a, b = open_source(plain), open_source(str(packed))
    assert list(a.documents()) == list(b.documents()) and a.name == b.name == "text"
    assert a.fingerprint() != b.fingerprint()


def test_ids_and_sources_default_to_the_file(tmp_path):
    path = tmp_path / "my text.jsonl"
    path.write_text('{"text": "one"}\n\n{"text": "two", "id": 7, "source": "s"}\n')
    found = [(d.id, d.source, d.text) for d in open_source(path).documents()]
    assert found == [("my text/1", "my text", "one"), ("7", "s", "two")]
    assert " " not in prepare(path, "bytes", root=tmp_path, log=None).name


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"text": "a\xff"}', r"line 2: not valid UTF-8 \(invalid start byte at byte 11\)"),
        (b'{"text": "a"', "line 2: not JSON"),
        (b'{"content": "a"}', 'line 2: no "text" string'),
        (b'{"text": null}', 'line 2: no "text" string'),
        (b'["a"]', 'line 2: no "text" string'),
        (b'{"text": "a\\ud800"}', "line 2: half of a surrogate pair at character 1"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, message):
    path = tmp_path / "text.jsonl"
    path.write_bytes(b'{"text": "good"}\n' + line + b'\n{"text": "good"}\n')
    with pytest.raises(SourceError, match=message) as error:
        prepare(path, "bytes", root=tmp_path, log=None)
    assert str(path) in str(error.value)
    with pytest.raises(SourceError):  # and it is not taken for done afterwards
        prepare(path, "bytes", root=tmp_path, log=None)


def test_a_packed_file_that_breaks_off_is_named(tmp_path):
    packed = lzma.compress(write_jsonl(tmp_path / "text.jsonl", 500).read_bytes())
    path = tmp_path / "text.jsonl.xz"
    for content in (packed[: len(packed) // 2], b"not xz at all"):
        path.write_bytes(content)
        with pytest.raises(SourceError, match=r"text\.jsonl\.xz breaks off after line"):
            list(open_source(path).documents())


def test_empty_documents_are_skipped_and_counted(tmp_path):
    path = tmp_path / "text.jsonl"
    texts = ["one", "", " \n\t", "two", "three"]
    path.write_text("".join(json.dumps({"text": t}) + "\n" for t in texts))
    index = Shards(prepare(path, "bytes", root=tmp_path, log=None)).index
    assert index["empty_documents_skipped"] == 2
    assert index["n_documents"] + index["heldout"]["documents"]["n_documents"] == 3


def test_the_same_id_twice_is_refused(tmp_path):
    path = tmp_path / "text.jsonl"
    path.write_text("".join(json.dumps({"id": i % 3, "text": f"t{i}"}) + "\n" for i in range(4)))
    with pytest.raises(SourceError, match="documents 1 and 4 with text have the same id"):
        spooled(path, tmp_path)


@pytest.mark.parametrize("n", [0, 1])
def test_too_few_documents_are_refused(tmp_path, n):
    path = write_jsonl(tmp_path / "text.jsonl", n)
    with pytest.raises(SourceError, match=f"has {n} documents with text; at least 2"):
        spooled(path, tmp_path)


def test_a_small_source_still_holds_one_document_out(tmp_path):
    spool = spooled(write_jsonl(tmp_path / "text.jsonl", 2), tmp_path)
    assert len(spool.training) == len(spool.heldout["documents"]) == 1
    assert set(spool.heldout) == {"documents"}


def test_one_per_cent_is_held_out_by_the_hash_of_the_id(tmp_path):
    path = tmp_path / "text.jsonl"
    path.write_text("".join(f'{{"text": "t{i}"}}\n' for i in range(20_000)))
    spool = spooled(path, tmp_path)
    held = {int(spool.text(i)[1:]) for i in spool.heldout["documents"]}
    ids = {i for i in range(20_000) if stable_hash(f"text/{i + 1}", b"heldout") < HELDOUT_BELOW}
    assert held == ids
    assert abs(len(held) - 200) < 3.3 * 200**0.5  # binomial, 0.1% two-sided


def test_everything_from_the_held_out_book_leaves_nothing_to_train_on(tmp_path):
    path = write_jsonl(tmp_path / "text.jsonl", 5, sources=("moby-dick",))
    with pytest.raises(SourceError, match="every document is held out"):
        spooled(path, tmp_path)


def test_a_plain_text_is_cut_at_blank_lines_into_documents(tmp_path):
    paragraph = "The sea was grey.\n" * 100 + "\n"
    text = "\ufeff" + paragraph * 30 + "the end"
    path = tmp_path / "book.txt"
    path.write_text(text, encoding="utf-8")
    documents = list(open_source(path).documents())
    assert "".join(d.text for d in documents) == text
    assert len(documents) == 6 + 1
    assert all(d.text.endswith("\n\n") for d in documents[:-1])
    assert [d.id for d in documents] == [f"book/{i}" for i in range(7)]
    assert Shards(prepare(path, "bytes", root=tmp_path, log=None)).n_blocks == 1


@given(st.text(max_size=30))
def test_hashes_depend_on_purpose(text):
    assert stable_hash(text, b"order") != stable_hash(text, b"heldout")


def test_hashes_are_pinned():
    # They decide what is held out: another value would let training see a held-out document.
    assert stable_hash("austen/0/1", b"heldout") == 3_290_321_780_025_378_859
    assert stable_hash("austen/0/1", b"order") == 12_451_873_511_712_531_121
