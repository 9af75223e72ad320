"""What the fault tests share: a small real text, the uninterrupted run S, and one cut in half."""

import json
import os
import sys
from pathlib import Path

import pytest
from filelock import FileLock

sys.path.insert(0, str(Path(__file__).parent))
import runs

TEXT_CHARACTERS = 13_500


@pytest.fixture(scope="session")
def server():
    """Starts trainers; see runs.Server."""
    server = runs.Server()
    yield server
    server.close()


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory):
    """One folder for all workers of this pytest run."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder = base / "shared-by-faults"
    folder.mkdir(exist_ok=True)
    return folder


def made_once(folder, name, make):
    """folder/name, made by whichever worker comes first; the others wait for it."""
    with FileLock(folder / f"{name}.lock"):
        if not (folder / f"{name}.done").exists():
            make()
            (folder / f"{name}.done").touch()
    return folder / name


@pytest.fixture(scope="session")
def shards(shared_folder):
    """A folder of shards of the first Wikipedia introductions in bytes."""

    def make():
        from x1lib.data import prepare
        from x1lib.data.sources import open_source

        size, path = 0, shared_folder / "text.jsonl"
        with path.open("w") as file:
            for document in open_source("embedded").documents():
                if document.source == "wikipedia" and size < TEXT_CHARACTERS:
                    size += len(document.text)
                    file.write(json.dumps({"id": document.id, "text": document.text}) + "\n")
        prepared = prepare(str(path), "bytes", root=shared_folder, block_tokens=4096, log=None)
        prepared.rename(shared_folder / "shards")

    return made_once(shared_folder, "shards", make)


@pytest.fixture(scope="session")
def reference(server, shards, shared_folder):
    """S: the run that nothing disturbs. `.calls`: the disk's calls in the save of step CUT."""
    out = shared_folder / "S"

    def make():
        plants = {
            "record_batches": {"path": runs.Folder(out).batches_path},
            "kill_in_save": {
                "step": runs.CUT,
                "call": runs.FOREVER,
                "report": shared_folder / "calls",
            },
        }
        trainer = server.start(runs.arguments(out, shards), shared_folder, plants)
        assert trainer.wait() == 0, trainer.output[-3000:]

    made_once(shared_folder, "S", make)
    folder = runs.Folder(out)
    folder.calls = int((shared_folder / "calls").read_text())
    assert sorted(folder.history()) == list(range(1, runs.STEPS + 1))
    return folder


@pytest.fixture(scope="session")
def cut_run(server, shards, shared_folder):
    """A run that SIGKILL ended as it began to save step CUT; the tests copy it."""
    out = shared_folder / "cut"

    def make():
        plants = {
            "record_batches": {"path": runs.Folder(out).batches_path},
            "kill_in_save": {"step": runs.CUT, "call": 0, "report": shared_folder / "killed-at"},
        }
        trainer = server.start(runs.arguments(out, shards), shared_folder, plants)
        assert trainer.wait() == -9, trainer.output[-3000:]

    made_once(shared_folder, "cut", make)
    folder = runs.Folder(out)
    assert (
        folder.saved_steps()[-1] == runs.CUT - runs.CHECKPOINT_EVERY
        and folder.last_step() == runs.CUT
    )
    return folder


@pytest.fixture
def half(cut_run, tmp_path):
    """A copy of the cut run: checkpoints of steps 24 and 28, metrics up to 32."""
    return cut_run.copied_to(tmp_path / "run")


@pytest.fixture
def run(tmp_path):
    """An empty run folder to be."""
    return runs.Folder(tmp_path / "run")


@pytest.fixture
def start(server, shards, tmp_path):
    """start(folder, plants={...}, environment={...}, **changed settings) -> Trainer."""

    def started(folder, plants=None, environment=None, source=shards, **changes):
        plants = {"record_batches": {"path": folder.batches_path}} | (plants or {})
        argv = runs.arguments(folder.out, source, **changes)
        return server.start(argv, tmp_path, plants, **(environment or {}))

    return started


@pytest.fixture
def finish(start):
    """finish(folder, **as start) -> Trainer that ended well."""

    def finished(folder, **options):
        trainer = start(folder, **options)
        assert trainer.wait() == 0, trainer.output[-3000:]
        return trainer

    return finished


@pytest.fixture
def refused(start):
    """refused(folder, code, **as start) -> the one line that a trainer was refused with."""

    def ended(folder, code=2, **options):
        before = folder.contents()
        trainer = start(folder, **options)
        assert trainer.wait() == code, trainer.output[-3000:]
        assert "Traceback" not in trainer.output
        assert folder.contents() == before, "a refused trainer changed the run"
        return trainer.last_line()

    return ended
