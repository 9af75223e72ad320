"""Feeding: training starts with the first block, follows the writer, and hears of what happens."""

import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from data_folders import SMALL, distinct_blocks, slow_writer, write_folder, write_jsonl

from x1lib.data import DataError, ShardError, Shards, writer
from x1lib.data.building import FollowedShards, build, build_command, feed, has_writer, recipe

REPOSITORY = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_jsonl(tmp_path_factory.mktemp("source") / "text.jsonl", 700)


@pytest.fixture(scope="module")
def whole(source, tmp_path_factory):
    return build(source, recipe("plain", **SMALL), root=tmp_path_factory.mktemp("w"), log=None)


def first_block(folder, **options):
    for _ in range(600):
        try:
            return FollowedShards(folder, **options)
        except ShardError:
            time.sleep(0.05)
    raise AssertionError("no block was written")


def assert_same_batches(shards, whole, n_batches=None, rows=8, seq_len=100):
    expected = Shards(whole)
    n = expected.samples_per_epoch(seq_len) // rows if n_batches is None else n_batches
    for i in range(n):
        ours, numbers = shards.batch(i * rows, rows, seq_len, seed=5)
        theirs, _ = expected.batch(i * rows, rows, seq_len, seed=5)
        np.testing.assert_array_equal(ours, theirs)
        assert numbers[0] == i * rows


def test_a_reader_follows_the_writer_and_sees_what_is_written(source, whole, tmp_path):
    child = slow_writer(source, tmp_path)
    heard = []
    shards = first_block(tmp_path / whole.name, on_event=heard.append)
    assert 0 < shards.n_blocks < Shards(whole).n_blocks and not shards.complete
    np.testing.assert_array_equal(shards.heldout("documents"), Shards(whole).heldout("documents"))
    assert has_writer(shards.folder)
    assert_same_batches(shards, whole)
    n = Shards(whole).samples_per_epoch(100)
    across, _ = shards.batch(n - 2, 4, 100, seed=5)  # waits for the end, then the next epoch
    assert child.wait() == 0 and not has_writer(shards.folder)
    np.testing.assert_array_equal(across, Shards(whole).batch(n - 2, 4, 100, seed=5)[0])
    waits = [event for event in shards.events if event["event"] == "waited"]
    assert waits and shards.waited_seconds >= sum(event["seconds"] for event in waits) * 0.99
    assert heard == shards.events
    (ended,) = (event for event in shards.events if event["event"] == "source_ended")
    assert ended == {
        "event": "source_ended",
        "n_tokens": Shards(whole).n_tokens,
        "ended": "source",
    }


def test_a_writer_that_is_killed_and_started_again_is_followed_on(source, whole, tmp_path):
    child = slow_writer(source, tmp_path)
    shards = first_block(tmp_path / whole.name)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert not has_writer(shards.folder)
    child = slow_writer(source, tmp_path, seconds=0.05)
    assert_same_batches(shards, whole)
    assert child.wait() == 0


def test_without_a_writer_it_says_so_and_does_not_wait_for_ever(tmp_path):
    folder = write_folder(tmp_path / "f", distinct_blocks(1_000), complete=False)
    (folder / ".lock").touch()
    shards = FollowedShards(folder, patience_seconds=0.3)
    began = time.monotonic()
    with pytest.raises(ShardError, match="nobody has written to it for 0 s; run the same"):
        shards.batch(0, 50, 100, seed=0)
    assert 0.3 <= time.monotonic() - began < 5
    assert shards.batch(0, 9, 100, seed=0)[0].shape == (9, 101)  # what is there can be read


def test_blocks_that_change_under_the_reader_are_refused(tmp_path):
    folder = write_folder(tmp_path / "f", distinct_blocks(1_000, 1_000), complete=False)
    shards = FollowedShards(folder, patience_seconds=0.3)
    write_folder(folder, distinct_blocks(999, 1_001, 1_000))
    with pytest.raises(ShardError, match="blocks already read have changed"):
        shards.batch(0, 25, 100, seed=0)


def test_feed_starts_the_writer_and_returns_with_the_first_block(source, whole, tmp_path):
    shards, child = feed(source, "plain", root=tmp_path, **SMALL)
    assert shards.folder.name == whole.name and shards.n_blocks >= 1
    assert_same_batches(shards, whole)
    assert child.wait(60) == 0
    log = shards.folder.with_name(shards.folder.name + ".log").read_text()
    assert "tokens in" in log
    again, nobody = feed(source, "plain", root=tmp_path, **SMALL)
    assert nobody is None and again.complete


def test_feed_tells_why_a_writer_did_not_start(source, tmp_path, monkeypatch):
    gone = tmp_path / "text.jsonl"
    gone.write_text("not json\n" * 30)
    with pytest.raises(
        DataError, match=r"the writer ended before its first block: error: .*no text"
    ):
        feed(gone, "plain", root=tmp_path, **SMALL)


def test_the_command_builds_the_same_folder(source, whole, tmp_path):
    words = build_command(source, "plain", root=tmp_path, **SMALL)
    done = subprocess.run(words, capture_output=True, text=True, cwd=REPOSITORY, env=os.environ)
    assert done.returncode == 0, done.stderr
    folder = Path(done.stdout.splitlines()[-1])
    assert folder.name == whole.name
    for name in ("index.json", "block-00000.npy"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes()
    assert writer.INDEX == "index.json"
