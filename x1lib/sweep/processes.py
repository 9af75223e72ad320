"""Where runs are carried out: processes of this machine, or tasks of a Ray cluster."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Protocol

from x1lib import X1Error
from x1lib.session.elsewhere import BY

LOG = "train.log"
GRACE_SECONDS = 30.0  # for a stopped run to save
NEAR_SECONDS = 0.2  # between looks at processes


class RunnerError(X1Error, RuntimeError):
    """Runs that cannot be carried out where they were asked to be."""


class Runner(Protocol):
    """Carries out command lines, several at a time."""

    def start(self, name: str, command: list[str], folder: Path, environment: dict) -> None:
        """Begin one in the folder above `folder`, which takes its train.log."""

    def ended(self) -> dict[str, int]:
        """Exit codes of those that ended since the last look, by name."""

    def stop(self) -> dict[str, int]:
        """Ask all to save and leave, end those that do not; exit codes."""


def environment(metered_by: str = "") -> dict[str, str]:
    """What a child sees: this package, one thread, and who pays."""
    package = str(Path(__file__).resolve().parents[2])
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    found = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}
    found.pop("MPLBACKEND", None)  # a kernel's own
    found.setdefault("OMP_NUM_THREADS", "1")
    return {**found, BY: metered_by} if metered_by else found


class LocalRunner:
    """Processes of this machine, each in a session of its own so that Ctrl-C is ours to pass on."""

    def __init__(self) -> None:
        self._children: dict[str, subprocess.Popen] = {}

    def start(self, name: str, command: list[str], folder: Path, environment: dict) -> None:
        with open(folder / LOG, "ab") as output:
            self._children[name] = subprocess.Popen(
                command,
                cwd=folder.parent,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def ended(self) -> dict[str, int]:
        codes = {name: child.poll() for name, child in self._children.items()}
        codes = {name: code for name, code in codes.items() if code is not None}
        for name in codes:
            del self._children[name]
        return codes

    def stop(self) -> dict[str, int]:
        for child in self._children.values():
            child.send_signal(signal.SIGTERM)
            child.send_signal(signal.SIGCONT)  # a suspended process hears nothing else
        until, codes = time.monotonic() + GRACE_SECONDS, {}
        while self._children and time.monotonic() < until:
            codes |= self.ended()
            time.sleep(NEAR_SECONDS)
        for child in self._children.values():
            child.kill()
            child.wait()
        return codes | self.ended()


def _carry_out(command: list[str], folder: Path, variables: dict[str, str]) -> int:
    """The task of a Ray worker; a cancelled one passes the stop on."""
    with open(folder / LOG, "ab") as output:
        child = subprocess.Popen(
            command, cwd=folder.parent, env={**os.environ, **variables}, stdin=subprocess.DEVNULL,
            stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    try:
        while child.poll() is None:  # not wait(): a cancelled task is interrupted between looks
            time.sleep(NEAR_SECONDS)
        return child.returncode
    except BaseException:
        child.terminate()
        try:
            return child.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            raise


class RayRunner:
    """Tasks of a Ray cluster that is there already; all its machines must see one run folder.

    num_gpus: of a card that one run takes, 0 for a CPU. Raises RunnerError without Ray or cluster.
    """

    def __init__(self, num_gpus: float = 0.0) -> None:
        try:
            import ray
        except ImportError as error:
            raise RunnerError("runner ray needs Ray: pip install 'x1lib[ray]'") from error
        if not ray.is_initialized():
            try:
                ray.init(address="auto", log_to_driver=False)
            except ConnectionError as error:
                raise RunnerError(
                    "no Ray cluster is there: `ray start --head` starts one on this machine"
                ) from error
        self._ray = ray
        wanted = {"num_cpus": 1, "num_gpus": num_gpus, "max_retries": 0}
        self._task = ray.remote(**wanted)(_carry_out)
        self._running: dict[str, object] = {}

    @property
    def slots(self) -> int:
        """How many runs the cluster carries out at a time."""
        return max(1, int(self._ray.cluster_resources().get("CPU", 1)))

    def start(self, name: str, command: list[str], folder: Path, environment: dict) -> None:
        kept = {k: v for k, v in environment.items() if os.environ.get(k) != v or _is_ours(k)}
        self._running[name] = self._task.remote(command, folder, kept)

    def ended(self) -> dict[str, int]:
        return self._look(0)

    def _look(self, seconds: float) -> dict[str, int]:
        tasks, codes = list(self._running.values()), {}
        if not tasks:
            return codes
        done, _ = self._ray.wait(tasks, num_returns=len(tasks), timeout=seconds)
        for name in [name for name, task in self._running.items() if task in done]:
            try:
                codes[name] = self._ray.get(self._running.pop(name))
            except self._ray.exceptions.RayError:  # its machine is gone, or it was cancelled
                codes[name] = -signal.SIGKILL
        return codes

    def stop(self) -> dict[str, int]:
        for task in self._running.values():
            self._ray.cancel(task)
        codes = self._look(GRACE_SECONDS)
        for task in self._running.values():
            self._ray.cancel(task, force=True)
        self._running.clear()
        return codes


def _is_ours(name: str) -> bool:
    return name.startswith(("X1_", "HF_", "OMP_", "PYTHON"))
