"""What lies in state/ is damaged, torn, or not from us: the next sound checkpoint, or a refusal."""

import pickle
import shutil

import pytest
from runs import CHECKPOINT_EVERY, CUT, assert_equal_runs

NEWEST, BEFORE = CUT - CHECKPOINT_EVERY, CUT - 2 * CHECKPOINT_EVERY


def truncate(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def flip_a_byte(path):
    content = bytearray(path.read_bytes())
    content[len(content) * 2 // 3] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage, file",
    [
        pytest.param(truncate, "model.safetensors", id="fault-7-truncated-weights"),
        pytest.param(truncate, "state.json", id="fault-7-truncated-state"),
        pytest.param(flip_a_byte, "optimizer.safetensors", id="fault-8-flipped-moments"),
        pytest.param(flip_a_byte, "state.json", id="fault-8-flipped-state"),
    ],
)
def test_newest_damaged(finish, half, reference, damage, file):
    """Faults 7, 8: truncated or a byte flipped: passed over by name, the one before is used."""
    damage(half.state_path(NEWEST) / file)
    resumed = finish(half)
    warning = next(line for line in resumed.output.splitlines() if line.startswith("warning"))
    assert f"{half.state_path(NEWEST)}/{file}" in warning
    assert half.events("resume")[-1]["step"] == BEFORE
    assert_equal_runs(half, reference)


def test_leftover_temporary(finish, half, reference):
    """Fault 9: a leftover temporary folder is ignored and cleaned."""
    torn = half.out / "state" / f"tmp-step-{CUT:08d}-0123abcd"
    shutil.copytree(half.state_path(NEWEST), torn)
    truncate(torn / "model.safetensors")
    resumed = finish(half)
    assert half.events("resume")[-1]["step"] == NEWEST and "warning" not in resumed.output
    assert not torn.exists()
    assert_equal_runs(half, reference)


def test_all_bad(refused, half):
    """Fault 10: all checkpoints bad: refused, non-zero; never a silent restart at step 0."""
    for step in half.saved_steps():
        flip_a_byte(half.state_path(step) / "model.safetensors")
    line = refused(half)
    assert line.startswith("CheckpointError: no checkpoint in ")
    for step in (NEWEST, BEFORE):
        assert f"step-{step:08d}/model.safetensors" in line
    assert "move the folder away to start from step 0 on purpose" in line


class Trap:
    """Unpickling this makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_pickle_in_the_folder(finish, half, reference, tmp_path):
    """Fault 28: untrusted checkpoint folder: safetensors only; a pickle in it never runs."""
    sprung = tmp_path / "sprung"
    trap = pickle.dumps(Trap(sprung))
    pickle.loads(trap).close()
    assert sprung.exists()  # the trap works
    sprung.unlink()
    for name in ("model.pt", "optimizer.pt", "training_state.bin", "data.pkl", "state.pkl"):
        (half.state_path(BEFORE) / name).write_bytes(trap)
        (half.out / "state" / name).write_bytes(trap)
    for name in ("model.safetensors", "optimizer.safetensors"):  # and under the names it reads
        (half.state_path(NEWEST) / name).write_bytes(trap)
    resumed = finish(half)
    assert half.events("resume")[-1]["step"] == BEFORE and "warning: damaged" in resumed.output
    assert not sprung.exists()
    assert_equal_runs(half, reference)
