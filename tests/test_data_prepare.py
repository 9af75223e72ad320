"""Preparing: the same bytes whatever happens on the way, nothing held out leaks, errors by name."""

import fcntl
import json
import os
import random
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from data_folders import PEAK, contents, write_jsonl

from x1lib.data import DataError, Shards, load_tokenizer, prepare, writer
from x1lib.data.sources import open_source
from x1lib.data.spool import Spool

QUIET = {"log": None, "tokenizer": "bytes"}
COMMAND = [sys.executable, "-m", "x1lib.data"]
REPOSITORY = Path(__file__).parent.parent


def run(*arguments, **settings) -> subprocess.CompletedProcess:
    command = [*COMMAND, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, **settings)


def documents_of(tokens: np.ndarray, name: str) -> list[str]:
    """The texts in a stream of tokens: each follows one end-of-text id."""
    words = load_tokenizer(name)
    starts = np.flatnonzero(tokens == words.eot_id)
    assert starts[0] == 0
    parts = np.split(np.asarray(tokens), starts[1:])
    return [words.decode(part[1:].tolist()) for part in parts]


def all_tokens(shards: Shards) -> np.ndarray:
    return np.concatenate([np.load(shards.folder / entry["file"]) for entry in shards.blocks])


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    sources = ("made-up", "made-up", "made-up", "moby-dick")
    return write_jsonl(tmp_path_factory.mktemp("source") / "text.jsonl", 120, sources=sources)


@pytest.fixture(scope="module")
def whole(source, tmp_path_factory) -> Path:
    return prepare(source, root=tmp_path_factory.mktemp("whole"), block_tokens=4_096, **QUIET)


def test_every_document_is_in_exactly_one_part(embedded_shards):
    shards = Shards(embedded_shards)
    given = {d.text: d for d in open_source("embedded").documents()}
    training = documents_of(all_tokens(shards), "bpe4096")
    documents = documents_of(shards.heldout("documents"), "bpe4096")
    book = documents_of(shards.heldout("source"), "bpe4096")
    assert sorted(training + documents + book) == sorted(given)
    assert {given[text].source for text in book} == {"moby-dick"} and len(book) == 134
    assert "moby-dick" not in {given[text].source for text in training + documents}
    assert 0.005 < len(documents) / len(given) < 0.015
    for name, texts in (("documents", documents), ("source", book)):
        entry = shards.index["heldout"][name]
        counted = load_tokenizer("bpe4096").token_bytes[shards.heldout(name)].sum()
        assert entry["n_bytes"] == counted == sum(len(text.encode()) for text in texts)
        assert entry["n_documents"] == len(texts)
    assert shards.index["n_documents"] == len(training)
    in_blocks = sum(entry["n_bytes"] for entry in shards.blocks)
    assert shards.index["n_bytes"] == in_blocks == sum(len(text.encode()) for text in training)


def test_documents_are_shuffled_and_the_order_does_not_depend_on_the_file_order(source, tmp_path):
    order = documents_of(all_tokens(Shards(prepare(source, root=tmp_path, **QUIET))), "bytes")
    numbers = [int(text.split(":")[0]) for text in order]
    assert numbers != sorted(numbers)
    lines = source.read_text().splitlines(keepends=True)
    other = tmp_path / "text.jsonl"
    other.write_text("".join(reversed(lines)))
    folder = prepare(other, root=tmp_path, **QUIET)
    assert documents_of(all_tokens(Shards(folder)), "bytes") == order


def test_blocks_are_full_but_the_last_and_batches_never_change_bytes(source, whole, tmp_path):
    shards = Shards(whole)
    shards.verify()
    assert {entry["n_tokens"] for entry in shards.blocks[:-1]} == {4_096}
    assert 0 < shards.blocks[-1]["n_tokens"] <= 4_096
    assert shards.complete and len(shards.blocks) > 5
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("x1lib.data.pipeline.BATCH_CHARACTERS", 1_500)
        again = prepare(source, root=tmp_path, block_tokens=4_096, **QUIET)
    assert contents(again) == contents(whole)


def test_a_second_call_reuses_the_folder_and_touches_nothing(source, whole, monkeypatch):
    before = {p: p.stat().st_mtime_ns for p in whole.iterdir()}
    monkeypatch.setattr("x1lib.data.pipeline.Spool", None)  # reading the source again would fail
    lines = []
    again = prepare(source, "bytes", root=whole.parent, block_tokens=4_096, log=lines.append)
    assert again == whole and not lines
    assert {p: p.stat().st_mtime_ns for p in whole.iterdir()} == before


def test_other_text_tokeniser_or_block_size_never_shares_a_folder(source, tmp_path):
    changed = tmp_path / "text.jsonl"
    changed.write_text(source.read_text().replace("sea", "SEA", 1))
    folders = [
        prepare(source, root=tmp_path, **QUIET),
        prepare(source, root=tmp_path, block_tokens=5_000, **QUIET),
        prepare(source, "bpe4096", root=tmp_path, log=None),
        prepare(changed, root=tmp_path, **QUIET),
    ]
    assert len(set(folders)) == 4


def test_killed_at_every_write_fsync_and_rename_the_rerun_gives_the_same_bytes(tmp_path):
    source = tmp_path / "text.jsonl"
    write_jsonl(source, 40, sources=("made-up", "moby-dick"))
    expected = prepare(source, root=tmp_path / "whole", block_tokens=4_096, **QUIET)
    done = subprocess.run(
        [sys.executable, "tests/data_killed.py", source, tmp_path / "root", expected],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert done.returncode == 0, done.stderr
    # each file is a write, two fsyncs and a rename; the index is written after each block
    n_files, n_blocks = len(contents(expected)) - 1, Shards(expected).n_blocks
    assert n_blocks > 3 and int(done.stdout) == 4 * (n_files + n_blocks + 1)


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.long)])
def test_the_command_killed_at_random_moments_goes_on_to_the_same_bytes(
    embedded_shards, tmp_path, seed
):
    rng = random.Random(seed)
    command = [*COMMAND, "prepare", "--root", str(tmp_path)]
    kills = 0
    for _ in range(40):
        child = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL)
        try:
            child.wait(rng.uniform(0.3, 0.9) * (1 + kills))
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGKILL)
            child.wait()
            kills += 1
        else:
            assert child.returncode == 0
            break
    assert kills, "the command was never killed"
    assert contents(tmp_path / embedded_shards.name) == contents(embedded_shards)


def test_leftover_temporary_files_are_cleaned_and_a_torn_block_is_never_taken(source, whole):
    root = whole.parent / "again"
    folder = prepare(source, root=root, block_tokens=4_096, **QUIET)
    (folder / "block-00002.npy").write_bytes(b"torn")
    (folder / "block-00009.npy.tmp").write_bytes(b"torn")
    lines = []
    prepare(source, "bytes", root=root, block_tokens=4_096, log=lines.append)
    assert contents(folder) == contents(whole)
    assert any("block-00002.npy" in line and "writing again" in line for line in lines)
    (folder / "heldout-source.npy").unlink()
    prepare(source, "bytes", root=root, block_tokens=4_096, log=lines.append)
    assert contents(folder) == contents(whole)


def test_a_block_that_changed_while_the_work_lay_cut_off_is_written_again(source, whole, tmp_path):
    folder = prepare(source, root=tmp_path, block_tokens=4_096, **QUIET)
    index = json.loads((folder / "index.json").read_bytes())
    index["complete"] = False
    del index["blocks"][-2:]
    writer.write_index(folder, index)
    raw = bytearray((folder / "block-00001.npy").read_bytes())
    raw[-1] ^= 1
    (folder / "block-00001.npy").write_bytes(raw)
    lines = []
    prepare(source, "bytes", root=tmp_path, block_tokens=4_096, log=lines.append)
    assert contents(folder) == contents(whole)
    assert any("going on after 1 blocks" in line for line in lines)


def test_two_at_once_work_on_one_folder_in_turn(source, whole, tmp_path):
    command = [*COMMAND, "prepare", "--source", str(source), "--tokenizer", "bytes"]
    command += ["--root", str(tmp_path), "--block-tokens", "4096"]
    folder = tmp_path / whole.name
    folder.mkdir()
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        both = [
            subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
            for _ in range(2)
        ]
        time.sleep(2)
        assert not (folder / "index.json").exists() and all(p.poll() is None for p in both)
    outputs = [child.communicate(timeout=60)[0] for child in both]
    assert [child.returncode for child in both] == [0, 0]
    assert contents(folder) == contents(whole)
    assert all("waiting for it" in text for text in outputs)
    assert sum("tokens in" in text for text in outputs) == 1, "the second prepared again"


@pytest.mark.parametrize(("limit", "file"), [(3_000, ""), (1.2, "/block-00000.npy")])
def test_a_full_disk_leaves_a_valid_folder_and_one_line(source, tmp_path, limit, file):
    # RLIMIT_FSIZE stands in for a full disk. Text is spooled at a byte a character, a block of
    # these ids takes two, so 1.2 times the source lets the one through and not the other.
    if limit < 10:
        limit *= source.stat().st_size

    def narrow():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))

    arguments = ["prepare", "--source", source, "--tokenizer", "bytes", "--root", tmp_path]
    done = run(*arguments, preexec_fn=narrow)
    assert done.returncode == 1
    assert re.fullmatch(
        rf"error: cannot write [^ ]*{file}: File too large; free space .*\n", done.stderr
    )
    assert run(*arguments).returncode == 0
    folder = next(path for path in tmp_path.iterdir())
    Shards(folder).verify()
    assert contents(folder) == contents(prepare(source, root=tmp_path / "other", **QUIET))


def test_the_root_is_the_argument_then_the_environment_then_the_cache(
    source, tmp_path, monkeypatch
):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("X1_DATA", str(tmp_path / "variable"))
    assert prepare(source, root=tmp_path / "given", **QUIET).parent == tmp_path / "given"
    assert prepare(source, **QUIET).parent == tmp_path / "variable"
    monkeypatch.delenv("X1_DATA")
    assert prepare(source, **QUIET).parent == tmp_path / "home/.cache/x1lib/data"


@pytest.mark.parametrize("block_tokens", [0, 1, -5, 2.5, "many"])
def test_impossible_block_sizes_are_refused(source, tmp_path, block_tokens):
    with pytest.raises(DataError, match="block_tokens is"):
        prepare(source, root=tmp_path, block_tokens=block_tokens, **QUIET)


def test_a_folder_that_cannot_be_made_is_refused(source, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot write .*name another folder"):
        prepare(source, root=tmp_path / "file", **QUIET)


def test_long_work_says_something_at_most_once_a_second(tmp_path, monkeypatch):
    clock = iter(x / 10 for x in range(10**9))  # a tenth of a second passes at each look
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    lines = []
    source = write_jsonl(tmp_path / "text.jsonl", 300)
    prepare(source, "bytes", root=tmp_path, log=lines.append)
    progress = [line for line in lines if line.startswith("tokenised")]
    assert 10 <= len(progress) <= 30
    assert re.fullmatch(r"tokenised [\d,]+ of 298 documents, about \d+ s left", progress[0])


def test_memory_does_not_grow_with_the_text(tmp_path):
    # 60 MB of text in 30,000 documents; the whole of it as Python strings would show.
    line = '{"text": "' + "a quiet sea " * 166 + '"}\n'
    (tmp_path / "big.jsonl").write_text(line * 30_000)
    spool_code = (
        "from x1lib.data.sources import *; from x1lib.data.spool import Spool;"
        "before = peak_mb();"
        "spool = Spool(open_source(sys.argv[1]), Path(sys.argv[2]), print);"
        "n = sum(len(text) for text in spool.texts(spool.training));"
        "print(n, peak_mb() - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", PEAK + spool_code, tmp_path / "big.jsonl", tmp_path],
        capture_output=True,
        text=True,
        check=True,
        cwd=REPOSITORY,
    )
    n_characters, grown_mb = map(float, done.stdout.split()[-2:])
    assert n_characters > 55e6 and grown_mb < 20


def test_the_spool_disappears(source, tmp_path):
    spool = Spool(open_source(source), tmp_path, print)
    assert len(list(spool.texts(spool.training))) == len(spool.training) > 80
    spool.close()
    assert not list(tmp_path.iterdir())


# the command


def test_prepare_inspect_and_verify_from_the_command_line(source, tmp_path):
    done = run("prepare", "--source", source, "--tokenizer", "bpe4096", "--root", tmp_path)
    assert done.returncode == 0, done.stderr
    folder = Path(done.stdout.splitlines()[-1])
    assert folder.parent == tmp_path and Shards(folder).complete
    seen = run("inspect", folder)
    assert seen.returncode == 0, seen.stderr
    for part in ("4,096 ids, uint16", "held out     source: 30 documents", "sample 0"):
        assert part in seen.stdout
    assert Shards(folder).fingerprint() in seen.stdout
    assert run("verify", folder).stdout.rstrip().endswith("all as written")
    path = folder / "block-00000.npy"
    path.write_bytes(path.read_bytes()[:-2] + b"\1\0")
    broken = run("verify", folder)
    assert broken.returncode == 1 and broken.stderr.count("\n") == 1
    assert str(path) in broken.stderr and not broken.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["prepare", "--source", "fineweb"], "unknown source 'fineweb'"),
        (["prepare", "--tokenizer", "gpt5"], "unknown tokeniser 'gpt5'"),
        (["inspect", "/nowhere"], "index.json cannot be read"),
        (["verify", "/nowhere"], "index.json cannot be read"),
    ],
)
def test_errors_are_one_line(arguments, message):
    done = run(*arguments)
    assert done.returncode == 1 and not done.stdout
    assert message in done.stderr and done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: ")


@pytest.mark.parametrize("command", [[], ["prepare"], ["inspect"], ["verify"]])
def test_help_is_there(command):
    done = run(*command, "--help")
    assert done.returncode == 0 and "usage: python -m x1lib.data" in done.stdout
