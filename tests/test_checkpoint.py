"""Checkpoints: equal to the bit, retained, damage found, faults survived, nothing unpickled."""

import errno
import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from x1lib import X1Error
from x1lib.checkpoint import (
    CheckpointError,
    NoSpaceError,
    NoSuchStepError,
    files,
    list_steps,
    load_latest,
    pin,
    pins,
    save,
)

ROOT = Path(__file__).parents[1]


def tensors_of(step):
    return {"model": {"w": torch.full((4, 3), float(step))}, "optimizer": {"m": torch.ones(2)}}


def save_steps(folder, *steps, **options):
    for step in steps:
        save(folder, step, tensors_of(step), {"step": step}, **options)


def bits(tensor):
    return tensor.contiguous().reshape(-1).view(torch.uint8).tolist()


# --- round trip ---------------------------------------------------------------------------------


def test_round_trip_is_equal_to_the_bit(tmp_path):
    generator = torch.Generator().manual_seed(0)
    awkward = torch.tensor([0.0, -0.0, float("inf"), float("nan"), 1e-45, 3.4e38])
    tensors = {
        "model": {
            "fp32": torch.randn(65, 33, generator=generator),
            "bf16": torch.randn(129, generator=generator).bfloat16(),
            "awkward": awkward,
            "awkward_bf16": awkward.bfloat16(),
            "transposed": torch.randn(5, 7, generator=generator).T,
            "parameter": torch.nn.Parameter(torch.randn(3, generator=generator)),
        },
        "optimizer": {
            "step": torch.tensor(7.0),
            "empty": torch.empty(0, 4),
            "flags": torch.tensor([True, False]),
            "rng": torch.get_rng_state(),
            "samples": torch.arange(3) + 2**40,
        },
    }
    state = {"next_sample": 2**40, "loss": 0.1 + 0.2, "skip": [3, 5], "kernel": "sdpa", "á": None}
    path = save(tmp_path / "run" / "state", 123, tensors, state)
    assert path == tmp_path / "run" / "state" / "step-00000123"
    expected = ["checksums.json", "model.safetensors", "optimizer.safetensors", "state.json"]
    assert sorted(os.listdir(path)) == expected
    loaded = load_latest(tmp_path / "run" / "state")
    assert (loaded.step, loaded.path, loaded.state) == (123, path, state)
    assert loaded.tensors.keys() == tensors.keys()
    for stem, group in tensors.items():
        assert loaded.tensors[stem].keys() == group.keys()
        for name, tensor in group.items():
            found = loaded.tensors[stem][name]
            assert (found.dtype, found.shape) == (tensor.dtype, tensor.shape), name
            assert bits(found) == bits(tensor.detach()), name


def test_a_tensor_of_several_chunks_is_hashed_and_written_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "CHUNK_BYTES", 1000)
    values = torch.arange(12_345, dtype=torch.int32)
    save(tmp_path, 1, {"model": {"w": values}}, {})
    assert torch.equal(load_latest(tmp_path).tensors["model"]["w"], values)


def test_loaded_tensors_can_be_trained_on_in_place(tmp_path):
    """They may be a memory map of the file: writing to them must not reach it."""
    save_steps(tmp_path, 1)
    load_latest(tmp_path).tensors["model"]["w"].mul_(2)
    assert torch.equal(load_latest(tmp_path).tensors["model"]["w"], tensors_of(1)["model"]["w"])


def test_all_is_on_the_disk_before_the_rename(tmp_path, monkeypatch):
    """A power cut cannot be made here; the order of the calls that guard against it can be seen."""
    events, real_fsync, real_rename = [], os.fsync, os.rename

    def fsync(descriptor):
        real_fsync(descriptor)
        events.append(os.fstat(descriptor).st_ino)

    def rename(source, destination):
        real_rename(source, destination)
        events.append("rename")

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "rename", rename)
    path = save(tmp_path, 1, tensors_of(1), {})
    assert events.count("rename") == 1
    before, after = events[: events.index("rename")], events[events.index("rename") + 1 :]
    assert sorted(before[:-1]) == sorted(file.stat().st_ino for file in path.iterdir())
    assert before[-2] == (path / "checksums.json").stat().st_ino  # the last file written
    assert before[-1] == path.stat().st_ino
    assert after == [tmp_path.stat().st_ino]


def test_nothing_there_is_none(tmp_path):
    assert load_latest(tmp_path) is None
    assert load_latest(tmp_path / "missing") is None
    assert list_steps(tmp_path / "missing") == []


def test_one_step_can_be_asked_for(tmp_path):
    save_steps(tmp_path, 1, 2)
    assert load_latest(tmp_path, step=1).state == {"step": 1}
    with pytest.raises(NoSuchStepError, match=r"no checkpoint of step 3 .* steps 1, 2 are there"):
        load_latest(tmp_path, step=3)
    (tmp_path / "step-00000001" / "state.json").unlink()
    with pytest.raises(CheckpointError, match=r"step-00000001/state\.json: No such file"):
        load_latest(tmp_path, step=1)


def test_saving_a_step_twice_keeps_one(tmp_path):
    path = save(tmp_path, 5, tensors_of(5), {"turn": 1})
    before = {file.name: file.stat().st_mtime_ns for file in path.iterdir()}
    save(tmp_path, 5, tensors_of(5), {"turn": 2}, milestone=True)
    assert {file.name: file.stat().st_mtime_ns for file in path.iterdir()} == before
    assert list_steps(tmp_path) == [5] and load_latest(tmp_path).state == {"turn": 1}
    assert pins(tmp_path) == {5: ["milestone"]}  # the mark is not lost with the second save


def test_saving_a_damaged_step_again_replaces_it(tmp_path):
    path = save(tmp_path, 5, tensors_of(5), {})
    (path / "model.safetensors").write_bytes(b"short")
    save(tmp_path, 5, tensors_of(5), {"turn": 2})
    assert load_latest(tmp_path).state == {"turn": 2}
    assert os.listdir(tmp_path) == ["step-00000005"]


def test_what_cannot_be_saved_is_named(tmp_path):
    complex_tensor = {"model": {"w": torch.zeros(2, dtype=torch.complex64)}}
    for arguments, options, words in (
        ((1, {}, {"x": torch.ones(1)}), {}, "state of step 1 is not JSON"),
        ((1, complex_tensor, {}), {}, "'w' has dtype torch.complex64"),
        ((1, {"../x": {}}, {}), {}, "cannot name a file"),
        ((1, {}, {}), {"keep_last": 0}, "keep_last is 0"),
    ):
        with pytest.raises(CheckpointError, match=words):
            save(tmp_path, *arguments, **options)
        assert os.listdir(tmp_path) == []
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="cannot create the folder"):
        save(tmp_path / "file", 1, {}, {})
    assert issubclass(NoSpaceError, CheckpointError) and issubclass(CheckpointError, X1Error)


# --- retention ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "keep_last, milestones, pinned, expected",
    [
        (1, (), (), [600]),
        (2, (), (), [500, 600]),
        (3, (), (), [400, 500, 600]),
        (9, (), (), [100, 200, 300, 400, 500, 600]),
        (1, (200,), (), [200, 600]),
        (2, (500,), (), [500, 600]),
        (1, (), (300,), [300, 600]),
        (2, (100, 400), (100, 200), [100, 200, 400, 500, 600]),
    ],
)
def test_retention(tmp_path, keep_last, milestones, pinned, expected):
    for step in (100, 200, 300, 400, 500, 600):
        save_steps(tmp_path, step, keep_last=keep_last, milestone=step in milestones)
        if step in pinned:
            pin(tmp_path, step, "before the spike")
    assert list_steps(tmp_path) == expected
    for step in expected:
        assert load_latest(tmp_path, step=step).state == {"step": step}


def test_pins_carry_their_reasons_and_survive(tmp_path):
    save_steps(tmp_path, 1, 2)
    pin(tmp_path, 1, "spike at 17")
    pin(tmp_path, 1, "spike at 17")
    pin(tmp_path, 1, "replay")
    assert pins(tmp_path) == {1: ["spike at 17", "replay"]}
    save_steps(tmp_path, 3, 4, 5)
    assert list_steps(tmp_path) == [1, 4, 5]
    with pytest.raises(
        NoSuchStepError, match=r"no checkpoint of step 3 .* steps 1, 4, 5 are there"
    ):
        pin(tmp_path, 3, "gone")
    assert 3 not in pins(tmp_path)


def test_unreadable_pins_delete_nothing(tmp_path):
    save_steps(tmp_path, 1, 2)
    pin(tmp_path, 1, "spike")
    data = (tmp_path / "pins.json").read_bytes()
    for position in range(len(data)):
        (tmp_path / "pins.json").write_bytes(flipped(data, position))
        with pytest.raises(CheckpointError, match=r"pins\.json cannot be read"):
            pins(tmp_path)
    lines = []
    save_steps(tmp_path, 3, 4, log=lines.append)
    assert list_steps(tmp_path) == [1, 2, 3, 4]
    assert len(lines) == 2 and all("pins.json" in line for line in lines)


def test_a_damaged_newest_never_costs_the_last_valid_one(tmp_path):
    """Resumed from 200 because 300 is bad, keep_last 1: 250 must stay, 300 takes no place."""
    save_steps(tmp_path, 100, 200, 300, keep_last=3)
    (tmp_path / "step-00000300" / "model.safetensors").write_bytes(b"")
    save_steps(tmp_path, 250, keep_last=1)
    assert list_steps(tmp_path) == [250, 300]
    assert load_latest(tmp_path, log=lambda line: None).step == 250
    save_steps(tmp_path, 350, keep_last=2)
    assert list_steps(tmp_path) == [250, 300, 350]  # 300 is bad: two sound ones are kept
    save_steps(tmp_path, 360, keep_last=2)
    assert list_steps(tmp_path) == [350, 360]


def test_a_rename_that_fails_does_not_stop_training(tmp_path, monkeypatch):
    save_steps(tmp_path, 1, 2)
    real_rename, lines = os.rename, []

    def rename(source, destination):
        if Path(destination).name.startswith("old-"):
            raise OSError(errno.EBUSY, "planted")
        real_rename(source, destination)

    monkeypatch.setattr(os, "rename", rename)
    save_steps(tmp_path, 3, log=lines.append)
    assert len(lines) == 1 and "step-00000001" in lines[0] and "planted" in lines[0]
    assert list_steps(tmp_path) == [1, 2, 3] and load_latest(tmp_path).step == 3
    monkeypatch.undo()
    save_steps(tmp_path, 4, log=lines.append)
    assert list_steps(tmp_path) == [3, 4] and len(lines) == 1


def test_a_deletion_that_fails_does_not_stop_training(tmp_path, monkeypatch):
    save_steps(tmp_path, 1, 2)
    lines = []

    def rmtree(path, *arguments, **options):
        (path / "model.safetensors").unlink()  # half of it is gone
        raise OSError(errno.EIO, "planted")

    monkeypatch.setattr(shutil, "rmtree", rmtree)
    save_steps(tmp_path, 3, log=lines.append)
    assert len(lines) == 1 and "planted" in lines[0]
    assert list_steps(tmp_path) == [2, 3]  # the half-deleted one is no checkpoint
    monkeypatch.undo()
    save_steps(tmp_path, 4, log=lines.append)
    assert sorted(os.listdir(tmp_path)) == ["step-00000003", "step-00000004"] and len(lines) == 1


# --- damage -------------------------------------------------------------------------------------


def flipped(data, position):
    return data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]


def assert_passed_over(folder, file):
    """The newest of two is passed over for the other, with a line that names folder and file."""
    lines = []
    assert load_latest(folder, log=lines.append).step == 1
    assert len(lines) == 1 and f"step-00000002/{file}: " in lines[0], lines


FILES = ["checksums.json", "model.safetensors", "optimizer.safetensors", "state.json"]


@pytest.mark.parametrize("file", FILES)
def test_any_flipped_byte_is_found(tmp_path, file):
    save_steps(tmp_path, 1, 2)
    path = tmp_path / "step-00000002" / file
    data = path.read_bytes()
    for position in range(len(data)):
        path.write_bytes(flipped(data, position))
        assert_passed_over(tmp_path, file)
    path.write_bytes(data)
    assert load_latest(tmp_path).step == 2


@pytest.mark.parametrize("file", FILES)
def test_a_truncated_or_missing_file_is_found(tmp_path, file):
    save_steps(tmp_path, 1, 2)
    path = tmp_path / "step-00000002" / file
    data = path.read_bytes()
    for size in (len(data) - 1, len(data) // 2, 0):
        os.truncate(path, size)
        assert_passed_over(tmp_path, file)
        path.write_bytes(data)
    path.unlink()
    assert_passed_over(tmp_path, file)


def test_a_renamed_checkpoint_is_found(tmp_path):
    """Whole files under another step's name would resume at the wrong place."""
    save_steps(tmp_path, 1)
    shutil.copytree(tmp_path / "step-00000001", tmp_path / "step-00000002")
    assert_passed_over(tmp_path, "checksums.json")


def test_a_leftover_temporary_is_ignored_then_cleaned(tmp_path):
    save_steps(tmp_path, 1)
    whole = tmp_path / "step-00000001"
    for name in ("tmp-step-00000009-0123abcd", "old-step-00000008-0123abcd"):
        shutil.copytree(whole, tmp_path / name)
    (tmp_path / "tmp-pins.json-0123abcd").write_text("{")
    mine = ["notes.txt", "tmp-notes-0123abcd", "step-7", "old-step-00000001"]
    for name in mine:
        (tmp_path / name).mkdir()
    assert list_steps(tmp_path) == [1] and load_latest(tmp_path).step == 1
    save_steps(tmp_path, 2)
    kept = ["step-00000001", "step-00000002"]
    assert sorted(os.listdir(tmp_path)) == sorted(mine + kept)


def test_only_a_leftover_is_nothing_there(tmp_path):
    (tmp_path / "tmp-step-00000001-0123abcd").mkdir()
    assert load_latest(tmp_path) is None


def test_all_bad_is_refused(tmp_path):
    save_steps(tmp_path, 1, 2)
    (tmp_path / "step-00000001" / "state.json").write_text("{}")
    (tmp_path / "step-00000002" / "checksums.json").unlink()
    lines = []
    with pytest.raises(CheckpointError) as refused:
        load_latest(tmp_path, log=lines.append)
    assert "step-00000002/checksums.json: missing" in str(refused.value)
    assert "step-00000001/state.json: 2 bytes, expected" in str(refused.value)
    assert len(lines) == 2


# --- untrusted folders --------------------------------------------------------------------------


class Malicious:
    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return os.mkdir, (str(self.canary),)


def forge(path, **records):
    """Rewrite a checkpoint's list as an attacker would, with checksums that match."""
    listed = files.unseal((path / "checksums.json").read_bytes())
    for name, file in records.items():
        data = file.read_bytes()
        record = files.write_bytes(path / "scratch", data)
        (path / "scratch").unlink()
        listed["files"][name] = record
    (path / "checksums.json").write_bytes(files.seal(listed))


def test_a_pickle_never_runs(tmp_path):
    canary, state = tmp_path / "canary", tmp_path / "state"
    bomb = pickle.dumps(Malicious(canary))
    pickle.loads(bomb)
    assert canary.exists()  # it does run when unpickled
    canary.rmdir()

    save_steps(state, 1, 2)
    newest = state / "step-00000002"
    torch.save(Malicious(canary), newest / "model.pt")
    for name in ("state.pkl", "optimizer.bin"):
        (newest / name).write_bytes(bomb)
    assert load_latest(state).step == 2
    assert not canary.exists()

    (newest / "model.safetensors").write_bytes(bomb)
    forge(newest, **{"model.safetensors": newest / "model.safetensors"})
    assert_passed_over(state, "model.safetensors")
    (newest / "state.json").write_bytes(bomb)
    forge(newest, **{"state.json": newest / "state.json"})
    assert_passed_over(state, "state.json")
    assert not canary.exists()


@pytest.mark.parametrize("name", ["../x.safetensors", "model.pt", "/x.safetensors", ".safetensors"])
def test_a_list_cannot_name_other_files(tmp_path, name):
    save_steps(tmp_path, 1, 2)
    newest = tmp_path / "step-00000002"
    forge(newest, **{name: newest / "model.safetensors"})
    assert_passed_over(tmp_path, "checksums.json")


# --- real faults, in a process of their own -----------------------------------------------------


def run_fault(fault, folder, prefix=()):
    command = [*prefix, sys.executable, str(ROOT / "tests" / "checkpoint_faults.py"), fault, folder]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [str(word) for word in command],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return json.loads(result.stdout.splitlines()[-1])


def in_a_small_disk(folder, mount_bytes):
    """A command prefix that mounts a tmpfs on `folder` for itself alone; skips where it cannot."""
    mount = f"mount -t tmpfs -o size={mount_bytes} none {folder}"
    prefix = ["unshare", "-rm", "sh", "-c", f'{mount} && exec "$@"', "sh"]
    try:
        trial = subprocess.run([*prefix, "true"], capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("no unshare here; RLIMIT_FSIZE stands in for the full disk (the next test)")
    if trial.returncode:
        pytest.skip(
            f"no tmpfs in a namespace here ({trial.stderr.strip()}); RLIMIT_FSIZE stands in"
        )
    return prefix


def test_a_kill_at_each_write_fsync_and_rename_of_a_save(tmp_path):
    report = run_fault("kills", tmp_path)
    assert len(report["killed_at"]) >= 30
    names = {"mkdir", "write", "torn write", "fsync", "rename", "replace", "unlink", "rmdir"}
    assert set(report["killed_at"]) == names
    assert report["found"] == sorted(report["found"])  # once the new one is in, it stays
    assert set(report["found"]) == {200, 300}


def test_a_kill_at_each_call_of_an_export(tmp_path):
    report = run_fault("export_kills", tmp_path)
    assert len(report["killed_at"]) >= 10
    in_place, is_new = zip(*report["found"])
    assert is_new[0] is False and is_new[-1] is True
    assert in_place.count(False) == 1  # only between the two renames, and the old one is whole


def test_a_full_disk(tmp_path):
    report = run_fault("full_disk", tmp_path, in_a_small_disk(tmp_path, 1 << 20))
    assert report["refused"] >= 10  # 36 kB of tensors take at least 9 pages
    assert "no space for the checkpoint of step 200" in report["message"]
    assert "it needs 36.02 kB, 40.96 kB are free" in report["message"], report["message"]
    assert "free some space there" in report["message"]


def test_a_file_size_limit(tmp_path):
    report = run_fault("size_limit", tmp_path)
    assert "no space for the checkpoint of step 200" in report["message"]
    assert "raise the file-size limit (ulimit -f)" in report["message"]


def test_a_read_only_mount(tmp_path):
    report = run_fault("read_only", tmp_path, in_a_small_disk(tmp_path, 1 << 20))
    assert "Read-only file system" in report["message"]
