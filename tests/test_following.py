"""The trainer on text that is still being written: the same bits, what happened, and who writes."""

import os
import shutil
import signal
import time
from functools import partial

import pytest
from data_folders import SMALL, slow_command, slow_writer, write_jsonl

from x1lib.data import DataError, Shards, SourceError
from x1lib.data.building import build, feed, follow, has_writer, recipe
from x1lib.session import opening
from x1lib.tracking import read_metrics
from x1lib.train import Config, train

# 700 documents are 12 blocks of 781 windows: 1,500 windows are read beyond the first block.
SETTINGS = {"shape": "1x64", "seq_len": 64, "batch_tokens": 640, "tokenizer": "bytes"}
SETTINGS |= {"eval_tokens": 256, "sample_tokens": 2, "dtype": "float32", "compile": "off"}
SETTINGS |= {"steps": 150, "checkpoint_every": 40, "threads": 1}


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    return write_jsonl(tmp_path_factory.mktemp("text") / "text.jsonl", 700)


@pytest.fixture(scope="module")
def whole(text, tmp_path_factory):
    return build(text, recipe("plain", **SMALL), root=tmp_path_factory.mktemp("whole"), log=None)


def config(out, source, **changes):
    return Config(**{"out": str(out), "source": str(source), **SETTINGS, **changes})


def events(out, name):
    return [one for one in read_metrics(out, "event") if one["event"] == name]


def weights(out):
    return (out / "checkpoint" / "model.safetensors").read_bytes()


def wait_for(condition, seconds=60.0):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.02)


def test_training_follows_a_writer_and_ends_in_the_same_bits(text, whole, tmp_path):
    train(config(tmp_path / "complete", whole), log=lambda line: None)
    child = slow_writer(text, tmp_path, 4.0)
    folder = tmp_path / whole.name
    wait_for(lambda: opening.is_prepared(folder) and Shards(folder).n_blocks)
    manifest = train(config(tmp_path / "followed", folder), log=lambda line: None)
    child.kill()
    child.wait()
    assert weights(tmp_path / "followed") == weights(tmp_path / "complete")
    waits = events(tmp_path / "followed", "waited")
    assert waits and all(one["seconds"] > 0 and one["step"] < 150 for one in waits)
    data = manifest["data"]
    assert not data["complete"] and data["n_tokens"] < Shards(whole).n_tokens
    assert data["fingerprint"] == Shards(whole).fingerprint(Shards(folder).n_blocks)


@pytest.fixture
def streamed(text, tmp_path, monkeypatch):
    """A folder of text, streamed in small blocks by a writer that takes its time."""

    def make(seconds):
        source = tmp_path / "texts"
        source.mkdir()
        shutil.copy(text, source)
        monkeypatch.setenv("X1_DATA", str(tmp_path / "data"))
        sizes = {name: SMALL[name] for name in ("block_tokens", "heldout_tokens")}
        monkeypatch.setattr(opening, "feed", partial(feed, **sizes))
        slow = slow_command(source, tmp_path / "data", seconds)
        monkeypatch.setattr(follow, "build_command", lambda *_, **__: slow)
        return source

    return make


def only_folder(root):
    (folder,) = (path for path in root.iterdir() if path.is_dir())
    return folder


def test_a_folder_of_text_is_written_beside_the_training(streamed, tmp_path):
    """What dries up is an event with its step, and the next pass begins."""
    heard, out = [], tmp_path / "run"
    settings = {"steps": 1_000, "checkpoint_every": 900, "log_every": 50}
    manifest = train(config(out, streamed(0.3), **settings), log=heard.append)
    assert any("training starts with the first block" in line for line in heard)
    shards = Shards(only_folder(tmp_path / "data"))
    assert shards.complete and not has_writer(shards.folder)
    assert manifest["data"]["complete"] and manifest["data"]["n_tokens"] == shards.n_tokens
    (ended,) = events(out, "source_ended")
    assert ended["n_tokens"] == shards.n_tokens and ended["ended"] == "source"
    (again,) = events(out, "epoch")
    n_steps = shards.samples_per_epoch(64) // 10  # ten windows a step
    assert n_steps <= again["step"] <= n_steps + 1 and ended["step"] <= again["step"]


def test_a_run_that_ends_first_ends_its_writer(streamed, tmp_path):
    source = streamed(2.0)
    manifest = train(config(tmp_path / "run", source, steps=20), log=lambda line: None)
    folder = only_folder(tmp_path / "data")
    assert not has_writer(folder) and not Shards(folder).complete
    assert manifest["data"]["complete"] is False and manifest["status"] == "finished"
    replayed = opening.open_data(config(tmp_path / "run", source), print, str(folder))[0]
    assert replayed.batch(0, 10, 64, 0)[0].shape == (10, 65)  # and nobody was started for it
    assert not has_writer(folder)


def test_a_writer_that_fails_leaves_a_saved_run_that_goes_on(text, whole, tmp_path, monkeypatch):
    """Killed under a running trainer: the state is saved, and the same command ends as it would."""
    train(config(tmp_path / "complete", whole), log=lambda line: None)
    child = slow_writer(text, tmp_path, 0.5)
    folder = tmp_path / whole.name
    wait_for(lambda: opening.is_prepared(folder) and Shards(folder).n_blocks)
    child.send_signal(signal.SIGKILL)
    child.wait()
    out = tmp_path / "run"
    defaults = opening.FollowedShards.__init__.__kwdefaults__
    monkeypatch.setitem(defaults, "patience_seconds", 0.2)
    with pytest.raises(DataError, match="nobody has written to it"):
        train(config(out, folder), log=lambda line: None)
    (failed,) = events(out, "failed")
    assert failed["step"] > 40 and failed["step"] % 40
    assert os.listdir(out / "state")
    build(text, recipe("plain", **SMALL), root=tmp_path, log=None)
    train(config(out, folder), log=lambda line: None)
    assert events(out, "resume")[0]["step"] == failed["step"]
    assert weights(out) == weights(tmp_path / "complete")


def test_a_name_without_network_is_one_sentence(tmp_path):
    began = time.monotonic()
    with pytest.raises(SourceError, match=r"fineweb-edu.*--source embedded"):
        train(config(tmp_path / "run", "fineweb-edu"), log=lambda line: None)
    assert time.monotonic() - began < 5


def test_a_replay_starts_no_writer(tmp_path):
    with pytest.raises(SourceError, match="give that folder as --source"):
        opening.open_data(config(tmp_path / "run", tmp_path), log=print)
