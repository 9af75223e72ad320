"""The text under a run: the edge of an epoch, shards that are wrong, shards that changed."""

import hashlib
import json
import shutil

import numpy as np
import pytest
from runs import BATCH, CUT, STEPS, WINDOW, Folder, arguments, assert_equal_runs

from x1lib.data import Shards, writer


def windows_of_an_epoch(shards):
    """Hash of each window at stride 32 of every block, straight from the files."""
    found = []
    for entry in json.loads((shards / "index.json").read_text())["blocks"]:
        tokens = np.load(shards / entry["file"])
        for start in range(0, len(tokens) - WINDOW, WINDOW):
            window = tokens[start : start + WINDOW + 1]
            found.append(hashlib.sha256(window.tobytes()).hexdigest()[:16])
    return found


def delivered(run):
    """Window hash by sample number, over all the steps of a run."""
    windows = {}
    for batch in run.batches().values():
        windows |= dict(zip(batch["ids"], batch["windows"]))
    assert sorted(windows) == list(range(STEPS * BATCH))
    return [windows[sample] for sample in range(STEPS * BATCH)]


def assert_each_once(run, shards):
    expected = windows_of_an_epoch(shards)
    n = len(expected)
    assert len(set(expected)) == n and n < STEPS * BATCH < 2 * n
    found = delivered(run)
    assert sorted(found[:n]) == sorted(expected)  # each exactly once
    assert len(set(found[n:])) == len(found[n:])  # and none twice in the next
    assert found[n:] != found[: len(found) - n]  # which has an order of its own
    return n


def test_epoch_edge(start, finish, run, shards, reference, tmp_path):
    """Fault 17: resume across an epoch edge: each window exactly once an epoch, order equals S."""
    n = assert_each_once(reference, shards)
    edge = n // BATCH  # the batch of this step holds the end of one epoch and the start of another
    assert n % BATCH and edge * BATCH < n < (edge + 1) * BATCH
    trainer = start(run, {"signal_in_step": {"place": "update", "step": edge - 1}})
    assert trainer.wait() == 75
    assert run.saved_steps()[-1] == edge  # the next batch straddles the edge
    trainer = start(run, {"signal_in_step": {"place": "forward", "step": edge, "number": 9}})
    assert trainer.wait() == -9  # killed with the straddling batch in its hands
    trainer = start(run, {"signal_in_step": {"place": "update", "step": edge}})
    assert trainer.wait() == 75
    assert run.saved_steps()[-1] == edge + 1  # just past it
    finish(run)
    assert [event["step"] for event in run.events("resume")] == [edge, edge, edge + 1]
    assert_each_once(run, shards)
    assert_equal_runs(run, reference)


def reseal(folder):
    """Make the index agree with the files again, hash chain included."""
    index = json.loads((folder / "index.json").read_text())
    chain = writer.first_link(index)
    for entry in [*index["heldout"].values(), *index["blocks"]]:
        entry["sha256"] = writer.file_sha256(folder / entry["file"])
        if "chain" in entry:
            chain = entry["chain"] = writer.next_link(chain, entry["sha256"])
    writer.write_index(folder, index)


def missing(path):
    path.unlink()


def short(path):
    path.write_bytes(path.read_bytes()[:-100])


def other_dtype(path):
    np.save(path, np.load(path).astype(np.uint32))


def token_beyond_the_vocabulary(path):
    tokens = np.load(path)
    tokens[7] = 257  # the ids of bytes end at 256
    np.save(path, tokens)


@pytest.mark.parametrize("damage", [missing, short, other_dtype, token_beyond_the_vocabulary])
@pytest.mark.parametrize("file", ["block-00002.npy", "heldout-documents.npy"])
def test_bad_shard(refused, run, shards, tmp_path, damage, file):
    """Fault 18: shard missing, short, of another dtype, with a token ≥ vocabulary: refused."""
    folder = shutil.copytree(shards, tmp_path / "shards")
    damage(folder / file)
    if damage is token_beyond_the_vocabulary:
        reseal(folder)  # so that no hash gives it away
    line = refused(run, source=folder)
    assert line.startswith("ShardError: ") and str(folder / file) in line
    said = {missing: "cannot be read", short: "bytes, expected", other_dtype: "uint32"}
    assert said.get(damage, "holds token 257") in line
    assert run.saved_steps() == [] and run.lines() == []


@pytest.fixture
def movable(server, cut_run, tmp_path, shards):
    """A killed run whose folder of shards may be changed, and that folder."""
    folder = shutil.copytree(shards, tmp_path / "shards")
    run = Folder(tmp_path / "moved")
    plants = {
        "record_batches": {"path": run.batches_path},
        "kill_in_save": {"step": CUT, "call": 0, "report": tmp_path / "killed-at"},
    }
    assert server.start(arguments(run.out, folder), tmp_path, plants).wait() == -9
    return run, folder


def change_consistently(folder, file):
    tokens = np.load(folder / file)
    tokens[100:110] = tokens[100:110][::-1]
    np.save(folder / file, tokens)
    reseal(folder)
    Shards(folder).verify()  # by itself the folder is in order


def test_shard_changed_between_runs(finish, refused, movable, reference):
    """Fault 19: shard changed between runs: the fingerprint's mismatch refuses resume."""
    run, folder = movable
    used = Shards(folder).blocks_consumed((CUT - 4) * BATCH, WINDOW)
    assert 1 <= used < 4
    original = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    change_consistently(folder, f"block-{used - 1:05d}.npy")
    line = refused(run, source=folder)
    assert line.startswith(f"ShardError: the first {used} blocks of {folder} are not those")
    for name, content in original.items():
        (folder / name).write_bytes(content)
    finish(run, source=folder)  # brought back, as the message asks
    assert_equal_runs(run, reference)


def test_shard_not_yet_read_may_change(finish, movable):
    """Fault 19's other side: the fingerprint covers the blocks already trained on, no more."""
    run, folder = movable
    change_consistently(folder, "block-00003.npy")
    finish(run, source=folder)
    assert run.events("resume")[-1]["step"] == CUT - 4
