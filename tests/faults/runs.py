"""Starting trainers, waiting for them, and reading what they left; torch is not needed for it."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

LAUNCHER = Path(__file__).parent / "launcher.py"
ROOT = LAUNCHER.parents[2]
FOREVER = 10**6  # as the number of a call: beyond any that a save makes

# One shape and text for all: 60 steps of 8 windows over 430 of them cross an epoch's edge in step
# 54. Evaluation and saving do not fall together, so a signal in the one cannot lean on the other.
STEPS, BATCH, WINDOW, CHECKPOINT_EVERY, EVAL_EVERY = 60, 8, 32, 4, 10
CUT = 32  # the save of this step is the one that kills meet
SETTINGS = {
    "shape": "2x64",
    "seq_len": WINDOW,
    "batch_tokens": BATCH * WINDOW,
    "steps": STEPS,
    "checkpoint_every": CHECKPOINT_EVERY,
    "eval_every": EVAL_EVERY,
    "eval_tokens": 256,
    "sample_tokens": 2,
    "dtype": "float32",
    "compile": "off",
    "threads": 1,
    "seed": 11,
}

needs_compiler = pytest.mark.skipif(
    not shutil.which(os.environ.get("CXX", "g++")),  # what torch would call
    reason="no C++ compiler here, so torch.compile cannot be tried on the CPU",
)


def arguments(out, source, **changes):
    """The command line of a run in `out`; None leaves a setting out."""
    values = {"out": out, "source": source} | SETTINGS | changes
    return [
        word
        for name, value in values.items()
        if value is not None
        for word in (f"--{name.replace('_', '-')}", str(value))
    ]


def environment():
    return os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


class Trainer:
    """One process of the trainer. `.pid`, `.log_path`; output is also shown when a check fails."""

    def __init__(self, server, pid, log_path):
        self._server, self.pid, self.log_path, self.code = server, pid, log_path, None

    def poll(self):
        if self.code is None:
            self.code = self._server.ask({"poll": self.pid})
        return self.code

    def signal(self, number):
        if self.poll() is None:  # not reaped, so the number is still this process's
            os.kill(self.pid, number)

    def wait(self, seconds=60.0):
        """The exit code, negative for a signal; fails when the process does not end in time."""
        self.until(lambda: self.poll() is not None, seconds)
        return self.code

    def until(self, condition, seconds=60.0):
        """Wait until condition() holds or the process has ended; fails when neither comes."""
        end = time.monotonic() + seconds
        while not condition():
            if self.poll() is not None:
                return
            if time.monotonic() > end:
                os.kill(self.pid, signal.SIGKILL)
                raise AssertionError(f"nothing came in {seconds} s:\n{self.output}")
            time.sleep(0.002)

    @property
    def output(self):
        return self.log_path.read_text() if self.log_path.exists() else ""

    def last_line(self):
        return self.output.splitlines()[-1]


class Server:
    """The launcher that forks trainers; one for each process of pytest."""

    def __init__(self):
        self._process = subprocess.Popen(
            [sys.executable, str(LAUNCHER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        self._count = 0

    def ask(self, request):
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def start(self, argv, log_folder, plants=None, **environment):
        """Start a trainer; plants: name of a function in plants.py -> its arguments."""
        self._count += 1
        log = Path(log_folder) / f"trainer-{self._count}.log"
        request = {"argv": argv, "log": str(log), "plants": plants or {}}
        request["environment"] = environment
        return Trainer(self, self.ask(json.loads(json.dumps(request, default=str))), log)

    def close(self):
        self._process.stdin.close()
        self._process.wait(30)


@dataclass
class Folder:
    """A run folder beside its recorded batches, and what can be read from it."""

    out: Path

    @property
    def batches_path(self):
        return self.out.parent / f"{self.out.name}-batches.jsonl"

    def copied_to(self, out):
        """The same run at another place, batches and all."""
        copy = Folder(out)
        shutil.copytree(self.out, copy.out)
        shutil.copy(self.batches_path, copy.batches_path)
        return copy

    def lines(self):
        """Every whole line of metrics.jsonl, as written."""
        path = self.out / "metrics.jsonl"
        found = []
        for raw in path.read_bytes().splitlines() if path.exists() else ():
            try:
                found.append(json.loads(raw))
            except ValueError:
                continue  # torn by a kill
        return found

    def events(self, name):
        return [line for line in self.lines() if line.get("event") == name]

    def step_lines(self):
        return [line for line in self.lines() if line["kind"] == "step"]

    def last_step(self):
        return max((line["step"] for line in self.step_lines()), default=0)

    def history(self):
        """Step -> what was logged for it last; times and speeds, which no run repeats, left out."""
        kept = ("tokens", "loss", "grad_norm", "lr", "phase")
        return {line["step"]: {key: line[key] for key in kept} for line in self.step_lines()}

    def redone_alike(self):
        """Whether each step that was done again after a kill gave the same numbers again."""
        first, last = {}, self.history()
        for line in self.step_lines():
            first.setdefault(line["step"], line["loss"])
        return all(loss == last[step]["loss"] for step, loss in first.items())

    def batches(self):
        """First sample -> its batch's sample numbers and windows; a batch read again is equal."""
        found = {}
        for line in self.batches_path.read_text().splitlines():
            try:
                batch = json.loads(line)
            except ValueError:
                continue
            assert found.setdefault(batch["ids"][0], batch) == batch
        return found

    def saved_steps(self):
        names = os.listdir(self.out / "state") if (self.out / "state").exists() else []
        return sorted(int(name.removeprefix("step-")) for name in names if name[:5] == "step-")

    def state_path(self, step):
        return self.out / "state" / f"step-{step:08d}"

    def state(self, step):
        return json.loads((self.state_path(step) / "state.json").read_text())

    def tensor_hashes(self, step):
        """sha256 of every weight, moment and step count of a checkpoint, by name."""
        found = {}
        for stem in ("model", "optimizer"):
            data = (self.state_path(step) / f"{stem}.safetensors").read_bytes()
            size = int.from_bytes(data[:8], "little")
            for name, entry in json.loads(data[8 : 8 + size]).items():
                begin, end = entry["data_offsets"]
                content = data[8 + size + begin : 8 + size + end]
                digest = hashlib.sha256(content).hexdigest()
                found[f"{stem}/{name}"] = (entry["dtype"], tuple(entry["shape"]), digest)
        return found

    def contents(self):
        """Name and sha256 of every file but the lock; nothing where there is no folder."""
        files = [path for path in self.out.rglob("*") if path.is_file() and path.name != "lock"]
        return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    def manifest(self):
        return json.loads((self.out / "manifest.json").read_text())


def assert_equal_runs(run, reference):
    """To the bit: every step's loss, norm, lr; sample numbers and windows; weights and moments."""
    assert run.history() == reference.history()
    assert run.redone_alike()
    assert run.batches() == reference.batches()
    assert run.tensor_hashes(STEPS) == reference.tensor_hashes(STEPS)
    assert run.state(STEPS)["sample"] == reference.state(STEPS)["sample"] == STEPS * BATCH
    assert run.manifest()["val_loss"] == reference.manifest()["val_loss"]
    assert run.manifest()["status"] == "finished"
