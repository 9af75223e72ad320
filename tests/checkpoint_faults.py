"""Real faults under a save, each in this process of its own: kills, a full disk, a read-only mount.

    python tests/checkpoint_faults.py kills|export_kills|full_disk|size_limit|read_only FOLDER

`full_disk` and `read_only` expect FOLDER to be a small tmpfs that they may fill or remount.
"""

import builtins
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import torch

from x1lib.checkpoint import (
    CheckpointError,
    NoSpaceError,
    export_hf,
    files,
    list_steps,
    load_latest,
    pin,
    pins,
    save,
)
from x1lib.shapes import Shape

CALLS = ("mkdir", "fsync", "rename", "replace", "unlink", "rmdir")
PAGE_BYTES = 4096  # what a tmpfs hands out


def content(step, n_values=6000):
    """Tensors and state that only this step has."""
    generator = torch.Generator().manual_seed(step)
    values = torch.randn(n_values, generator=generator)
    return {"model": {"w": values}, "optimizer": {"m": values.bfloat16()}}, {"next": step * 16}


def assert_holds(folder, step, n_values=6000):
    """The newest checkpoint is `step`, to the bit; nothing unfinished is in the way."""
    loaded = load_latest(folder)
    tensors, state = content(step, n_values)
    assert loaded.step == step and loaded.state == state
    assert torch.equal(loaded.tensors["model"]["w"], tensors["model"]["w"])
    assert torch.equal(loaded.tensors["optimizer"]["m"], tensors["optimizer"]["m"])


def no_leftovers(folder):
    return all(name.startswith(("step-", "pins.json")) for name in os.listdir(folder))


class Killer:
    """Ends this process by SIGKILL just before the n-th call that changes the disk."""

    def __init__(self, n):
        self.left, self.seen = n, []

    def tick(self, name):
        if not self.left:
            with builtins.open(os.environ["KILLED_AT"], "w") as file:
                file.write(name)
            os.kill(os.getpid(), signal.SIGKILL)
        self.left -= 1

    def install(self):
        for name in CALLS:
            setattr(os, name, self._counted(name, getattr(os, name)))
        files.open = lambda path, mode: TornFile(path, mode, self)

    def _counted(self, name, call):
        def counted(*args, **kwargs):
            self.tick(name)
            return call(*args, **kwargs)

        return counted


class TornFile:
    """A file each of whose writes can die before it, or with half of it on the disk."""

    def __init__(self, path, mode, killer):
        self._file, self._killer = builtins.open(path, mode), killer

    def __getattr__(self, name):
        return getattr(self._file, name)

    def write(self, data):
        self._killer.tick("write")
        half = len(data) // 2
        self._file.write(data[:half])
        self._file.flush()
        self._killer.tick("torn write")
        self._file.write(data[half:])


def each_kill(folder, prepare, action, check):
    """Fork for n = 0, 1, 2, ...: prepare, act, die at call n, check; until the action completes."""
    os.environ["KILLED_AT"] = str(folder / "killed-at")
    killed_at, found = [], []
    for n in range(1000):
        here = folder / f"kill-{n}"
        here.mkdir()
        prepare(here)
        child = os.fork()
        if child == 0:
            Killer(n).install()
            action(here)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        completed = os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0
        assert completed or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL)
        found.append(check(here, completed))
        shutil.rmtree(here)
        if completed:
            return print(json.dumps({"killed_at": killed_at, "found": found}))
        killed_at.append((folder / "killed-at").read_text())
    raise AssertionError("the action never completed")


def kills(folder):
    """Steps 100 and 200 are there; the save of 300 (a milestone) dies at each of its calls."""

    def prepare(here):
        for step in (100, 200):
            save(here, step, *content(step))

    def check(here, completed):
        step = load_latest(here).step
        assert step in (200, 300) and (step == 300 or not completed)
        assert_holds(here, step)
        if step == 300:  # no kill leaves the milestone without its mark
            assert pins(here) == {300: ["milestone"]}
        save(here, 400, *content(400))
        assert_holds(here, 400)
        assert no_leftovers(here) and list_steps(here) == [max(step, 200), 400]
        return step

    each_kill(folder, prepare, lambda here: save(here, 300, *content(300), milestone=True), check)


def export_kills(folder):
    """An export replacing another dies at each of its calls; one of the two is always whole."""
    shape = Shape("test", 1, 8, 2, 1, 8, vocab_size=10, head_dim=4, qk_norm=False)
    names = {"attention.q": (8, 8), "attention.k": (4, 8), "attention.v": (4, 8)}
    names |= {"attention.o": (8, 8), "mlp.gate": (8, 8), "mlp.up": (8, 8), "mlp.down": (8, 8)}
    names |= {"attention_norm": (8,), "mlp_norm": (8,)}

    def export(here, value):
        dims = {f"blocks.0.{name}.weight": dims for name, dims in names.items()}
        dims |= {"embedding.weight": (128, 8), "norm.weight": (8,)}
        weights = {name: torch.full(dim, value) for name, dim in dims.items()}
        export_hf(here / "hf", shape, weights, rope_theta=1e4, norm_eps=1e-6, max_seq_len=8)

    def whole(path):
        return [(path / name).read_bytes() for name in ("config.json", "model.safetensors")]

    for name, value in (("first", 1.0), ("second", 2.0)):
        (folder / name).mkdir()
        export(folder / name, value)
    first, second = whole(folder / "first" / "hf"), whole(folder / "second" / "hf")

    def check(here, completed):
        in_place = (here / "hf").exists()
        path = here / "hf" if in_place else next(here.glob("old-hf-*"))
        found = whole(path)
        assert found == second or (found == first and not completed)
        export(here, 2.0)
        assert os.listdir(here) == ["hf"] and whole(here / "hf") == second
        return [in_place, found == second]

    each_kill(folder, lambda here: export(here, 1.0), lambda here: export(here, 2.0), check)


def full_disk(folder):
    """For every number of free pages that is too few: refused, old one whole, then it works."""
    state, filler = folder / "state", folder / "filler"
    save(state, 100, *content(100))
    refused = 0
    while True:
        free_pages = shutil.disk_usage(folder).free // PAGE_BYTES
        filler.write_bytes(bytes((free_pages - refused) * PAGE_BYTES))
        assert shutil.disk_usage(folder).free == refused * PAGE_BYTES
        try:
            save(state, 200, *content(200))
        except NoSpaceError as error:
            message = str(error)
            assert_holds(state, 100)
            assert no_leftovers(state) and list_steps(state) == [100]
            assert shutil.disk_usage(folder).free == refused * PAGE_BYTES  # nothing stays behind
            if refused == 0:
                try:
                    pin(state, 100, "spike")
                    raise AssertionError("a pin was written without space")
                except NoSpaceError:
                    assert pins(state) == {} and no_leftovers(state)
            filler.unlink()
            refused += 1
        else:
            break
    assert_holds(state, 200)
    filler.unlink()
    save(state, 300, *content(300))
    assert_holds(state, 300)
    print(json.dumps({"refused": refused, "message": message}))


def size_limit(folder):
    """RLIMIT_FSIZE ends the write of the tensors: the same must hold."""
    save(folder, 100, *content(100))
    resource.setrlimit(resource.RLIMIT_FSIZE, (16_384, resource.RLIM_INFINITY))
    try:
        save(folder, 200, *content(200))
        raise AssertionError("the limit did not hold")
    except NoSpaceError as error:
        message = str(error)
    assert_holds(folder, 100)
    assert no_leftovers(folder) and list_steps(folder) == [100]
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    save(folder, 200, *content(200))
    assert_holds(folder, 200)
    print(json.dumps({"refused": 1, "message": message}))


def read_only(folder):
    """A mount turned read-only: loading works, saving is a named error."""
    save(folder, 100, *content(100))
    subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
    for action in (lambda: save(folder, 200, *content(200)), lambda: pin(folder, 100, "spike")):
        try:
            action()
            raise AssertionError("the mount is not read-only")
        except NoSpaceError:
            raise
        except CheckpointError as error:
            message = str(error)
    assert_holds(folder, 100)
    print(json.dumps({"message": message}))


if __name__ == "__main__":
    FAULTS = (kills, export_kills, full_disk, size_limit, read_only)
    {fault.__name__: fault for fault in FAULTS}[sys.argv[1]](Path(sys.argv[2]))
