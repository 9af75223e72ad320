"""Building in one pass: the same bytes by any workers and after any kill; nothing twice."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import types
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from data_folders import PEAK, contents, write_jsonl
from data_killed import Killer
from hypothesis import example, given, settings
from hypothesis import strategies as st

from x1lib.data import DataError, ShardError, Shards, SourceError, load_tokenizer, writer
from x1lib.data.__main__ import main
from x1lib.data.building import Recipe, build, recipe
from x1lib.data.building.encode import MAX_UNBROKEN_CHARACTERS, Encoder
from x1lib.data.streams import open_stream

REPOSITORY = Path(__file__).parent.parent
SMALL = {"tokenizer": "bytes", "block_tokens": 4_096, "heldout_tokens": 3_000}
PLAIN = recipe("plain", **SMALL)
EXACT = recipe("plain", dedup="exact", **SMALL)


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    """Several batches out of little text; forked workers inherit it."""
    monkeypatch.setattr("x1lib.data.streams.batches.BATCH_CHARACTERS", 9_000)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """120 documents; every seventh stands there twice, the second time in capitals."""
    path = write_jsonl(tmp_path_factory.mktemp("source") / "text.jsonl", 120)
    records = [json.loads(line) for line in path.read_text().splitlines()]
    copies = [{**r, "id": r["id"] + "-copy", "text": r["text"].upper()} for r in records[::7]]
    path.write_text("".join(json.dumps(r) + "\n" for r in records + copies))
    return path


def documents_of(tokens):
    words = load_tokenizer("bytes")
    starts = np.flatnonzero(tokens == words.eot_id)
    return [words.decode(part[1:].tolist()) for part in np.split(np.asarray(tokens), starts)[1:]]


def stream_of(shards):
    return np.concatenate([np.load(shards.folder / entry["file"]) for entry in shards.blocks])


def built(source, the_recipe, root, **options):
    return build(source, the_recipe, root=root, log=None, **options)


# encoding


@pytest.mark.parametrize("name", ["gpt2", "bpe4096"])
def test_tiktoken_gives_the_same_ids(name, embedded_shards):
    pytest.importorskip("tiktoken", reason="tiktoken is not installed: nothing to compare")
    words = load_tokenizer(name)
    fast, slow = Encoder(words, engine="tiktoken"), Encoder(words, engine="tokenizers")
    assert (fast.engine, slow.engine) == ("tiktoken", "tokenizers")
    texts = [d.text for b in open_stream("embedded").batches() for d in b.documents][::25]
    for text in [
        *texts,
        "<|endoftext|> inside",
        "",
        " ",
        "\n\n a",
        "x" * 70_000,
        "😀é\u0301ß" * 50,
    ]:
        np.testing.assert_array_equal(fast.encode(text), slow.encode(text))
        assert words.decode(fast.encode(text)) == text


@given(st.text(max_size=60))
@example("\u2028 \u00a0\u3000 x")
@example("a\u0300٣४Ⅷ½²\u200d\ufeff'\u2019s 'S're'LL")
@settings(max_examples=400, deadline=None)
def test_tiktoken_gives_the_same_ids_for_any_characters(text):
    pytest.importorskip("tiktoken", reason="tiktoken is not installed: nothing to compare")
    assert gpt2_encoder().encode(text).tolist() == load_tokenizer("gpt2").encode(text)


@cache
def gpt2_encoder():
    return Encoder(load_tokenizer("gpt2"), engine="tiktoken")


def test_gigatoken_gives_the_same_ids_where_it_is_installed(monkeypatch):
    pytest.importorskip("gigatoken", reason="gigatoken is optional and not installed: not compared")
    monkeypatch.setenv("X1_ENCODER", "gigatoken")
    for name in ("gpt2", "bpe4096"):
        encoder, words = Encoder(load_tokenizer(name)), load_tokenizer(name)
        assert encoder.engine == "gigatoken"
        for batch in open_stream("embedded").batches():
            for document in batch.documents[::5]:
                assert encoder.encode(document.text).tolist() == words.encode(document.text)


def test_an_encoder_with_other_ids_is_refused(monkeypatch):
    """A stand-in for a gigatoken that is wrong about one thing: runs of white space."""
    words = load_tokenizer("gpt2")

    class Tokenizer:
        @classmethod
        def from_json(cls, text):
            return cls()

        def encode(self, text):
            return np.array(words.encode(text.replace("\t", " ")), np.uint32)

    stand_in = types.ModuleType("gigatoken")
    stand_in.Tokenizer = Tokenizer
    monkeypatch.setitem(sys.modules, "gigatoken", stand_in)
    with pytest.raises(DataError, match=r"gigatoken encodes .* to other ids than tokenizers"):
        Encoder(words, engine="gigatoken")
    monkeypatch.setitem(sys.modules, "gigatoken", None)
    with pytest.raises(DataError, match="gigatoken"):
        Encoder(words, engine="gigatoken")
    monkeypatch.setenv("X1_ENCODER", "fast")
    with pytest.raises(DataError, match="unknown encoder 'fast'"):
        Encoder(words)


@pytest.mark.parametrize("name", ["block_tokens", "heldout_tokens"])
def test_a_size_of_nothing_is_refused(name):
    with pytest.raises(DataError, match=f"{name} is 0; give"):
        recipe("plain", **{name: 0})


def test_documents_are_encoded_with_their_mark_and_edges():
    encoder = Encoder(load_tokenizer("bytes"))
    tokens, edges = encoder.encode_documents(["ab", "", "c"])
    assert tokens.tolist() == [256, 97, 98, 256, 256, 99] and edges.tolist() == [0, 3, 4, 6]
    assert tokens.dtype == np.uint16
    assert encoder.encode_documents([])[1].tolist() == [0]


def test_a_long_unbroken_run_does_not_take_the_square_of_its_length():
    import time

    encoder = Encoder(load_tokenizer("gpt2"))
    began = time.process_time()
    tokens = encoder.encode("a" * (10 * MAX_UNBROKEN_CHARACTERS))
    assert time.process_time() - began < 20
    assert load_tokenizer("gpt2").token_bytes[tokens].sum() == 10 * MAX_UNBROKEN_CHARACTERS


# what comes out


def test_each_document_is_in_one_place_and_duplicates_are_in_none(source, tmp_path):
    shards = Shards(built(source, EXACT, tmp_path))
    shards.verify()
    assert shards.complete and shards.index["ended"] == "source"
    given_texts = [json.loads(line)["text"] for line in source.read_text().splitlines()]
    training, held = documents_of(stream_of(shards)), documents_of(shards.heldout("documents"))
    assert sorted(training + held) == sorted(given_texts[:120])
    kept_order = [text for text in given_texts[:120] if text not in held]
    assert training == kept_order  # the order of the source
    entry = shards.index["heldout"]["documents"]
    assert entry["n_documents"] == len(held) and entry["n_bytes"] == sum(map(len, held))
    assert held[0] == given_texts[0] and 3_000 <= entry["n_tokens"] < 3_000 + 2_000
    assert shards.index["n_documents"] == len(training)
    assert shards.index["n_bytes"] == sum(map(len, training))
    counts = shards.index["counts"]
    assert counts["duplicates"][:2] == [138, 120]
    assert counts["duplicates"][4] == {"exact_duplicate": 18}
    assert counts["held out"][:2] == [120, len(training)]


def test_without_dedup_the_copies_stay(source, tmp_path):
    shards = Shards(built(source, PLAIN, tmp_path))
    n = len(documents_of(stream_of(shards))) + len(documents_of(shards.heldout("documents")))
    assert n == 138 and "duplicates" not in shards.index["counts"]


def test_any_number_of_workers_gives_the_same_bytes(source, tmp_path):
    one = built(source, EXACT, tmp_path / "one")
    for n in (2, 3):
        assert contents(built(source, EXACT, tmp_path / str(n), workers=n)) == contents(one)


def test_near_duplicates_go_and_of_the_held_out_ones_as_well(tmp_path):
    pytest.importorskip("rensa", reason="rensa is not installed: no near-duplicates")
    path = write_jsonl(tmp_path / "text.jsonl", 60)
    records = [json.loads(line) for line in path.read_text().splitlines()]
    near = [{"id": f"n{i}", "text": r["text"] + " the end"} for i, r in enumerate(records)]
    path.write_text("".join(json.dumps(r) + "\n" for r in records + near))
    shards = Shards(built(path, recipe("dedup", **SMALL), tmp_path))
    reasons = shards.index["counts"]["duplicates"][4]
    assert reasons.keys() == {"near_duplicate"} and reasons["near_duplicate"] >= 57
    held = {text.split(":")[0] for text in documents_of(shards.heldout("documents"))}
    trained = [text for text in documents_of(stream_of(shards)) if text.endswith(" the end")]
    assert len(trained) == 60 - reasons["near_duplicate"]
    assert held and not held & {text.split(":")[0] for text in trained}


def test_max_tokens_ends_with_the_block_that_reaches_them(source, tmp_path):
    shards = Shards(built(source, PLAIN, tmp_path, max_tokens=10_000))
    assert shards.complete and shards.n_tokens == 3 * 4_096
    assert shards.index["ended"] == "max_tokens"
    whole = Shards(built(source, PLAIN, tmp_path))
    assert whole.fingerprint(3) == shards.fingerprint() and whole.n_blocks > 3
    lines = []
    build(source, PLAIN, root=tmp_path, max_tokens=10**9, log=lines.append)
    assert any(
        "ended at" in line and "before the 1,000,000,000 asked for" in line for line in lines
    )


def test_the_folder_is_told_apart_by_all_that_decides_its_bytes(source, tmp_path):
    other = tmp_path / "text.jsonl"
    other.write_text(source.read_text().replace("sea", "SEA", 1))
    folders = {
        built(source, PLAIN, tmp_path),
        built(other, PLAIN, tmp_path),
        built(source, EXACT, tmp_path),
        built(source, recipe("plain", **SMALL | {"block_tokens": 5_000}), tmp_path),
        built(source, recipe("plain", **SMALL | {"heldout_tokens": 2_000}), tmp_path),
        built(source, recipe("plain", filters=("pii",), **SMALL), tmp_path),
        built(source, PLAIN, tmp_path, max_tokens=4_096),
    }
    assert len(folders) == 7


def test_a_second_call_reuses_the_folder(source, tmp_path, monkeypatch):
    folder = built(source, PLAIN, tmp_path)
    before = {p: p.stat().st_mtime_ns for p in folder.iterdir()}
    monkeypatch.setattr("x1lib.data.building.onepass._Building", None)
    assert built(source, PLAIN, tmp_path) == folder
    assert {p: p.stat().st_mtime_ns for p in folder.iterdir()} == before


@pytest.mark.parametrize("n", [0, 1])
def test_too_little_text_is_refused(tmp_path, n):
    path = write_jsonl(tmp_path / "text.jsonl", n)
    with pytest.raises(SourceError, match=rf"no text is left to train on \({n} records read"):
        built(path, PLAIN, tmp_path)
    assert not any((f / "index.json").exists() for f in tmp_path.iterdir() if f.is_dir())


def test_what_was_dropped_is_told_in_the_error_and_at_the_end(tmp_path):
    path = tmp_path / "mixed.jsonl"
    path.write_text('{"text": "a good line"}\nno\nneither\n{"a": 1}\n\n')
    with pytest.raises(SourceError) as caught:
        built(path, PLAIN, tmp_path)
    told = "5 records read, of which dropped or held out: 2 not_json, 1 blank_line, 1 held_out"
    assert told in str(caught.value) and "fewer filters" not in str(caught.value)
    lines = []
    path = write_jsonl(tmp_path / "text.jsonl", 40)
    with path.open("a") as file:
        file.write("no\n")
    build(path, PLAIN, root=tmp_path, log=lines.append)
    assert any("41 records read" in line and "1 not_json" in line for line in lines)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--max-tokens", "0"], "'0' is below 1"),
        (["--max-tokens", "-5"], "'-5' is below 1"),
        (["--workers", "0"], "'0' is below 1"),
        (["--tasks", "4"], "--tasks has no meaning without --executor"),
        (["--source", ""], "the source is an empty name"),
        (["--source", " ", "--executor", "local"], "the source is an empty name"),
        (["--source", "texts/mine"], r"texts/mine \(no such file or folder here\) needs a network"),
        (["--source", "a b/c"], "'a b/c' is no file or folder here"),
    ],
)
def test_impossible_options_are_refused(tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.setenv("X1_OFFLINE", "1")
    try:
        code = main(["build", "--root", str(tmp_path), *options])
    except SystemExit as left:
        code = left.code
    assert code and re.search(message, capsys.readouterr().err)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"filters": ("gopher",)}, "unknown filter 'gopher'"),
        ({"dedup": "fuzzy"}, "unknown dedup 'fuzzy'"),
        ({"block_tokens": 1}, "block_tokens is 1"),
    ],
)
def test_impossible_recipes_are_refused(changes, message):
    with pytest.raises(DataError, match=message):
        Recipe(**changes)
    with pytest.raises(DataError, match="unknown recipe 'best'"):
        recipe("best")


# kills


def build_killed_at(at, source, root, the_recipe):
    """Whether a child that dies at its `at`-th disk call died; False when it finished."""
    child = os.fork()
    if child == 0:
        killer = Killer(at)
        os.replace, os.fsync = killer.wrap(os.replace), killer.wrap(os.fsync)
        writer.write_atomically = killer.wrap_write(writer.write_atomically)
        try:
            built(source, the_recipe, root)
        except BaseException:
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, f"it failed, killed at {at}"
    return os.WIFSIGNALED(status)


def test_killed_at_every_write_fsync_and_rename_the_rerun_gives_the_same_bytes(source, tmp_path):
    """Fault 30, place by place; every third run is killed a second time."""
    exact = recipe("plain", dedup="exact", **SMALL | {"block_tokens": 24_576})
    whole = built(source, exact, tmp_path / "whole")
    expected, root, places = contents(whole), tmp_path / "root", 0
    for at in range(1, 1_000):
        shutil.rmtree(root, ignore_errors=True)
        died = build_killed_at(at, source, root, exact)
        places += died
        folder = root / whole.name
        try:
            Shards(folder).verify()
        except ShardError as error:
            assert "index.json cannot be read" in str(error)
        if died and at % 3 == 0:
            build_killed_at(at // 2 + 1, source, root, exact)
        assert built(source, exact, root) == folder
        assert contents(folder) == expected, f"killed at call {at}: other bytes"
        if not died:
            break
    shards = Shards(whole)
    # held-out text: 4 calls; a block: 4, the journal's fsync, the index's 4; at the end 1 and 4
    assert shards.n_blocks > 3 and places == 4 + 9 * shards.n_blocks + 5


def test_a_block_that_changed_is_written_again_with_the_same_decisions(source, tmp_path):
    folder = built(source, EXACT, tmp_path)
    expected = contents(folder)
    path = folder / "block-00002.npy"
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    index = json.loads((folder / "index.json").read_bytes())
    index["complete"] = False
    writer.write_index(folder, index)
    lines = []
    build(source, EXACT, root=tmp_path, log=lines.append)
    assert contents(folder) == expected
    assert any("block-00002.npy" in line and "again from there" in line for line in lines)
    assert any("going on after 2 blocks" in line for line in lines)


def test_workers_die_with_the_builder(source, tmp_path):
    """No process is left behind when the one that started them is killed."""
    code = (
        "import os, signal, sys; from x1lib.data.building.work import Workers;"
        "from x1lib.data.building import recipe;"
        "w = Workers(recipe('plain', tokenizer='bytes'), 3);"
        "print(*w._pool._processes, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY
    )
    assert done.returncode == -signal.SIGKILL
    import time

    for pid in map(int, done.stdout.split()):
        for _ in range(100):
            try:
                state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
            except FileNotFoundError:
                break
            if state == "Z":
                break
            time.sleep(0.05)
        else:
            pytest.fail(f"worker {pid} is still there")
    assert len(done.stdout.split()) == 3


def test_a_worker_that_is_killed_is_told(source, tmp_path, monkeypatch):
    from x1lib.data.building import work

    def die(self, documents):
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(work.Worker, "__call__", die)
    with pytest.raises(DataError, match="a worker process was ended from outside"):
        built(source, PLAIN, tmp_path, workers=2)
    monkeypatch.undo()
    assert Shards(built(source, PLAIN, tmp_path)).complete


MEMORY = """
from x1lib.data.building import build, recipe
chosen = recipe("plain", dedup="exact", tokenizer="bytes", block_tokens=2**20)
build(sys.argv[1], chosen, root=sys.argv[2], workers=int(sys.argv[3]), log=None)
print(peak_mb() + resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / MAXRSS_PER_MB)
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_memory_does_not_grow_with_the_text(tmp_path, workers):
    peaks = []
    for n in (10_000, 40_000):  # 20 and 80 MB
        path = tmp_path / f"{n}.jsonl"
        with path.open("w") as file:
            for i in range(n):
                file.write(json.dumps({"id": i, "text": f"{i} " + "a quiet sea " * 166}) + "\n")
        words = [sys.executable, "-c", PEAK + MEMORY, path, tmp_path / "root", str(workers)]
        done = subprocess.run(words, capture_output=True, text=True, cwd=REPOSITORY)
        assert done.returncode == 0, done.stderr
        peaks.append(float(done.stdout))  # of the builder and its largest worker
    # of 60 MB more text: 30,000 keys in a Python set, a few MB of index, nothing of the text
    assert peaks[1] - peaks[0] < 25


# the command


def test_build_inspect_and_verify_from_the_command_line(source, tmp_path):
    def run(*words):
        return subprocess.run(
            [sys.executable, "-m", "x1lib.data", *map(str, words)],
            capture_output=True,
            text=True,
            cwd=REPOSITORY,
        )

    words = ["build", "--source", source, "--dedup", "exact", "--tokenizer", "bytes"]
    words += ["--block-tokens", "4096", "--heldout_tokens", "3e3", "--root", tmp_path]
    done = run(*words)
    assert done.returncode == 0, done.stderr
    folder = Path(done.stdout.splitlines()[-1])
    seen = run("inspect", folder)
    assert seen.returncode == 0, seen.stderr
    for part in (
        "(complete)",
        "exact_duplicate",
        "held_out",
        "held out     documents:",
        "sample 0",
    ):
        assert part in seen.stdout
    read, first = (
        seen.stdout.split(f"\n{stage}  ")[1].split()[3] for stage in ("read", "not empty")
    )
    assert float(read) == float(first) > 0  # MB that come out of reading
    assert run("verify", folder).stdout.rstrip().endswith("all as written")
    assert run(*words).stdout.splitlines() == [str(folder)]  # nothing to do and nothing said


def test_a_reader_that_leaves_is_no_error(source, tmp_path):
    folder = built(source, PLAIN, tmp_path)
    there, gone = os.pipe()
    os.close(there)
    done = subprocess.run(
        [sys.executable, "-m", "x1lib.data", "inspect", folder],
        stdout=gone,
        stderr=subprocess.PIPE,
        cwd=REPOSITORY,
    )
    os.close(gone)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--source", "fineweb"], "unknown source 'fineweb'"),
        (["--filters", "language,best"], "unknown filter 'best'"),
        (["--tokenizer", "gpt5"], "unknown tokeniser 'gpt5'"),
        (["--executor", "local", "--max-tokens", "5e9"], "leave one of them out"),
    ],
)
def test_errors_of_the_command_are_one_line(words, message, tmp_path):
    command = [sys.executable, "-m", "x1lib.data", "build", "--root", str(tmp_path), *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode == 1 and not done.stdout
    assert message in done.stderr and done.stderr.count("\n") == 1
