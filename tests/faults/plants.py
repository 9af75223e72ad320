"""Faults planted inside a trainer's process before it starts: the work itself stays the real one.

Each function changes one place of the running program. Signals are real signals, a limit is the
kernel's, a poisoned gradient goes through torch's own hooks.
"""

import contextlib
import hashlib
import json
import os
import resource
import signal
import time
from pathlib import Path

import torch
from checkpoint_faults import Killer

from x1lib import checkpoint, train
from x1lib.checkpoint import store
from x1lib.data import Shards
from x1lib.session import Session, session


def record_batches(path):
    """Append the sample numbers and the hash of each window of every batch that is read."""
    batch = Shards.batch

    def recorded(self, *args, **kwargs):
        tokens, ids = batch(self, *args, **kwargs)
        windows = [hashlib.sha256(row.tobytes()).hexdigest()[:16] for row in tokens]
        with open(path, "a") as file:
            file.write(json.dumps({"ids": ids.tolist(), "windows": windows}) + "\n")
        return tokens, ids

    Shards.batch = recorded


def record_writes(path):
    """Append the step of every checkpoint that is really written."""
    write = store._write

    def recorded(folder, step, *args):
        with open(path, "a") as file:
            file.write(f"{step}\n")
        write(folder, step, *args)

    store._write = recorded


def kill_in_save(step, call, report):
    """SIGKILL just before the call-th system call that changes the disk in the save of `step`.

    With more calls than there are the save completes, and `report` holds their number.
    """
    save = checkpoint.save
    os.environ["KILLED_AT"] = str(report)

    def killed(folder, saved_step, *args, **kwargs):
        if saved_step != step:
            return save(folder, saved_step, *args, **kwargs)
        kept = {name: getattr(os, name) for name in ("mkdir", "fsync", "rename", "replace")}
        kept |= {name: getattr(os, name) for name in ("unlink", "rmdir")}
        killer = Killer(call)
        killer.install()
        try:
            return save(folder, saved_step, *args, **kwargs)
        finally:
            for name, function in kept.items():
                setattr(os, name, function)
            del checkpoint.files.open
            Path(report).write_text(str(call - killer.left))

    checkpoint.save = killed


def slow_disk(step, seconds, announce):
    """Every fsync in the save of `step` takes so long, as on a busy network disk."""
    save, fsync = checkpoint.save, os.fsync

    def slow(descriptor):
        time.sleep(seconds)
        fsync(descriptor)

    def slowed(folder, saved_step, *args, **kwargs):
        os.fsync = slow if saved_step == step else fsync
        try:
            if saved_step == step:
                Path(announce).touch()
            return save(folder, saved_step, *args, **kwargs)
        finally:
            os.fsync = fsync

    checkpoint.save = slowed


def long_phase(phase, announce, step=0, seconds=60.0):
    """Say when a phase begins, from `step` on, and repeat its real work for so many seconds."""
    steps = _count_steps()

    def lengthened(function):
        def repeated(*args, **kwargs):
            result = function(*args, **kwargs)
            if steps["done"] >= step:
                Path(announce).touch()
                end = time.monotonic() + seconds
                while time.monotonic() < end:
                    result = function(*args, **kwargs)
            return result

        return repeated

    where, name = {
        "evaluation": (train, "evaluate"),
        "sampling": (session, "generate"),
        "export": (checkpoint, "export_hf"),
    }[phase]
    setattr(where, name, lengthened(getattr(where, name)))


def announce_compile(path):
    """Touch a file when inductor begins to compile the model; nothing is slowed down."""
    from torch._inductor import compile_fx

    original = compile_fx.compile_fx

    def announced(*args, **kwargs):
        Path(path).touch()
        return original(*args, **kwargs)

    compile_fx.compile_fx = announced


def signal_in_step(place, step, number=signal.SIGTERM):
    """Send this process a signal in the forward pass, the backward pass or the update of a step.

    "finaliser": in the forward pass, from where exceptions are swallowed, as torch.compile's guards
    do too: what the signal raises there is lost.
    """
    steps, make = _count_steps(), train.make_optimizer

    class Finalised:
        def __del__(self):
            send()

    def send(*args):
        if steps["done"] == step:
            steps["done"] = -1  # once
            os.kill(os.getpid(), number)

    def made(model, *args, **kwargs):
        optimizer = make(model, *args, **kwargs)
        if place == "forward":
            model.blocks[0].register_forward_hook(lambda *_: send())
        elif place == "finaliser":
            model.blocks[0].register_forward_hook(lambda *_: Finalised() and None)
        elif place == "backward":
            model.blocks[0].mlp.up.weight.register_hook(send)
        else:
            optimizer.register_step_pre_hook(lambda *_: send())
        return optimizer

    train.make_optimizer = made


def overflow_in_forward(step):
    """At one step the hidden state is scaled until the logits overflow float32."""
    steps, make = _count_steps(), train.make_optimizer

    def scaled(module, inputs, output):
        return output * 3e38 if steps["done"] == step and module.training else output

    def made(model, *args, **kwargs):
        model.norm.register_forward_hook(lambda m, i, o: scaled(model, i, o))
        return make(model, *args, **kwargs)

    train.make_optimizer = made


def poison_gradient(step, value="nan"):
    """At one step one element of one gradient is not finite, under a finite loss."""
    steps, make = _count_steps(), train.make_optimizer

    def poisoned(gradient):
        if steps["done"] != step:
            return gradient
        gradient = gradient.clone()
        gradient[0, 0] = float(value)
        return gradient

    def made(model, *args, **kwargs):
        model.blocks[0].mlp.up.weight.register_hook(poisoned)
        return make(model, *args, **kwargs)

    train.make_optimizer = made


def drop_adam_steps():
    """The known bug of resuming: Adam's step count is not restored, its moments are."""
    restore = checkpoint.restore_training

    def restored(model, optimizer, tensors):
        restore(model, optimizer, tensors)
        for state in optimizer.state.values():
            state["step"].zero_()

    checkpoint.restore_training = restored


def signal_before_restore():
    """SIGTERM comes just as the weights of a checkpoint are about to replace the new ones."""
    restore = checkpoint.restore_training

    def restored(*args):
        os.kill(os.getpid(), signal.SIGTERM)
        restore(*args)

    checkpoint.restore_training = restored


def limit_memory(megabytes, when):
    """The kernel gives this process so much more address space, from "begin" or "training" on."""
    owner, name = {"begin": (Session, "begin"), "training": (train, "loop")}[when]
    original = getattr(owner, name)

    def limited(*args, **kwargs):
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        bytes_now = pages * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (bytes_now + int(megabytes * 2**20),) * 2)
        return original(*args, **kwargs)

    setattr(owner, name, limited)


def fill_disk(step, path):
    """Once `step` is saved, another file takes every byte that the disk has left."""
    stepped = Session.stepped

    def filled(self, *args, **kwargs):
        if self.step == step + 1:
            with contextlib.suppress(OSError), open(path, "wb", buffering=0) as filler:
                for size in (65_536, 1):  # down to the last byte of the last page
                    with contextlib.suppress(OSError):
                        while True:
                            filler.write(bytes(size))
        stepped(self, *args, **kwargs)

    Session.stepped = filled


def limit_file_size(bytes):
    """No file may grow beyond so many bytes: the kernel's RLIMIT_FSIZE, from the start."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # as Python itself does: EFBIG, not a death
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes, resource.RLIM_INFINITY))


def _count_steps():
    """Steps that the run has completed, by the real counter of the session."""
    steps = {"done": 0}
    begin, stepped = Session.begin, Session.stepped

    def begun(self, *args):
        begin(self, *args)
        steps["done"] = self.step

    def counted(self, *args, **kwargs):
        stepped(self, *args, **kwargs)
        steps["done"] = self.step

    Session.begin, Session.stepped = begun, counted
    return steps


torch.set_num_threads(1)
