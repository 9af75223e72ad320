"""Disks that are full, read-only, or keep what should be deleted; the kernel makes each of them."""

import json
import subprocess
import sys

import pytest
from runs import CHECKPOINT_EVERY, CUT, LAUNCHER, Folder, arguments, assert_equal_runs, environment

NO_SPACE = 74


def in_namespace(script, *words):
    """Run a shell script as root of a mount namespace of its own; skips where there is none."""
    command = ["unshare", "-rm", "sh", "-ec"]
    try:
        trial = subprocess.run(
            [*command, "mount -t tmpfs none /mnt"], capture_output=True, text=True
        )
    except FileNotFoundError:
        pytest.skip("no unshare on this machine, so no mounts of our own")
    if trial.returncode:
        pytest.skip(f"no mounts in a namespace on this machine: {trial.stderr.strip()}")
    return subprocess.run(
        [*command, script, "sh", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment(),
    )


def trainer_words(run, source, plants, **changes):
    """The command of a trainer that is no fork of the launcher, as namespaces need it."""
    request = {"argv": arguments(run.out, source, **changes), "plants": plants}
    return [sys.executable, LAUNCHER, "--once", json.dumps(request)]


def assert_policy(run, line):
    """The failure was told and recorded, and training went on to the end of its steps."""
    failures = run.events("checkpoint_failed")
    assert failures and all("no space for the checkpoint of step" in e["why"] for e in failures)
    assert failures[0]["policy"] == "train on, try at the next"
    assert run.last_step() == 60
    assert line.startswith("NoSpaceError: no space for the checkpoint of step 60 in ")


def test_full_disk(finish, run, shards, reference, tmp_path):
    """Fault 11: no space during a save (a full tmpfs): old one whole, clear message, recorded."""
    # Room for the first checkpoints only: all are asked to be kept.
    script = """
        mkdir "$1/disk" && mount -t tmpfs -o size=6m none "$1/disk" && disk=$1 && shift
        code=0; "$@" || code=$?
        cp -r "$disk/disk/run" "$disk/run"; exit $code
    """
    inside = Folder(tmp_path / "disk" / "run")
    plants = {"record_batches": {"path": str(run.batches_path)}}
    words = trainer_words(inside, shards, plants, keep_last=100)
    ended = in_namespace(script, tmp_path, *words)
    assert ended.returncode == NO_SPACE, (ended.stdout + ended.stderr)[-3000:]
    assert_policy(run, ended.stderr.splitlines()[-1])
    assert "Traceback" not in ended.stderr
    assert "Training goes on from memory" in ended.stdout and "free some space" in ended.stdout
    saved = run.saved_steps()
    assert saved[0] == 0 and 2 <= len(saved) < 15
    assert not list((run.out / "state").glob("tmp-*"))
    finish(run, keep_last=100)  # from the newest that fitted, now that there is space
    assert run.events("resume")[-1]["step"] == saved[-1]
    assert_equal_runs(run, reference)


def test_disk_without_a_free_byte(shards, run, tmp_path):
    """Fault 11, with no byte left for the records either: still one clear line, old one whole."""
    script = """
        mkdir "$1/disk" && mount -t tmpfs -o size=8m none "$1/disk" && disk=$1 && shift
        code=0; "$@" || code=$?
        cp -r "$disk/disk/run" "$disk/run"; exit $code
    """
    inside = Folder(tmp_path / "disk" / "run")
    plants = {"fill_disk": {"step": 20, "path": str(tmp_path / "disk" / "filler")}}
    ended = in_namespace(script, tmp_path, *trainer_words(inside, shards, plants))
    assert ended.returncode == NO_SPACE, (ended.stdout + ended.stderr)[-3000:]
    assert "Traceback" not in ended.stderr, ended.stderr[-3000:]
    assert "no space" in ended.stderr.splitlines()[-1].lower()
    assert run.saved_steps()[-1] == 20


def test_file_size_limit(start, finish, run, reference):
    """Fault 11 where no tmpfs can be mounted: RLIMIT_FSIZE refuses the optimiser's file."""
    saved = reference.state_path(60)
    model, optimizer = (
        (saved / f"{name}.safetensors").stat().st_size for name in ("model", "optimizer")
    )
    assert optimizer > 1.5 * model
    # Step 0 has no moments yet, so its checkpoint fits; none after it does.
    trainer = start(run, {"limit_file_size": {"bytes": (model + optimizer) // 2}})
    assert trainer.wait() == NO_SPACE, trainer.output[-3000:]
    assert_policy(run, trainer.last_line())
    assert "ulimit -f" in trainer.output
    assert run.saved_steps() == [0]
    finish(run)
    assert_equal_runs(run, reference)


def test_read_only_mount(shards, tmp_path):
    """Fault 12: output folder on a read-only mount: fails before step 0 with one line."""
    for made_before in (False, True):
        here = tmp_path / f"disk-{made_before}"
        here.mkdir()
        make = 'mkdir "$1/run" &&' if made_before else ""
        script = (
            f'mount -t tmpfs none "$1" && {make} mount -o remount,ro "$1" && shift && exec "$@"'
        )
        words = [sys.executable, "-m", "x1lib.train", *arguments(here / "run", shards)]
        ended = in_namespace(script, here, *words)
        assert ended.returncode == 2 and ended.stdout == "", (ended.stdout + ended.stderr)[-3000:]
        (line,) = ended.stderr.splitlines()
        assert str(here / "run") in line and "Read-only file system" in line


def test_parent_missing(refused, tmp_path):
    """Fault 12: the parent of the output folder is missing: fails before step 0, one line."""
    run = Folder(tmp_path / "missing" / "run")
    line = refused(run)
    assert str(run.out.parent) in line and "make" in line
    assert not run.out.parent.exists()


def test_old_checkpoint_cannot_be_deleted(start, finish, half, shards, reference):
    """Fault 26: deleting an old checkpoint fails: training goes on; the last is never deleted."""
    # A folder that something is mounted on cannot be renamed or removed (EBUSY).
    old = half.saved_steps()
    script = """
        for folder in "$1"/step-*; do mount --bind "$folder" "$folder"; done
        shift && exec "$@"
    """
    plants = {"record_batches": {"path": str(half.batches_path)}}
    words = trainer_words(half, shards, plants, keep_last=1)
    ended = in_namespace(script, half.out / "state", *words)
    assert ended.returncode == 0, (ended.stdout + ended.stderr)[-3000:]
    for step in old:
        assert f"could not delete {half.state_path(step)}" in ended.stdout
    assert half.saved_steps() == [*old, 60]  # the others were deleted as they should be
    assert_equal_runs(half, reference)


def test_keep_last_one(start, finish, run):
    """Fault 26: with keep_last 1 a kill at any save leaves one: the last is never deleted."""
    report = run.out.parent / "killed-at"
    for step, call in ((CUT, 3), (CUT + CHECKPOINT_EVERY, 100)):
        plants = {"kill_in_save": {"step": step, "call": call, "report": report}}
        trainer = start(run, plants, keep_last=1)
        assert trainer.wait() == -9, trainer.output[-3000:]
        assert len(run.saved_steps()) == 1
    finish(run, keep_last=1)
    assert run.saved_steps() == [60]
