"""A copy of a run's metrics in mlflow, made from `metrics.jsonl` by a process of its own.

    python -m x1lib.tracking.mirror RUN_FOLDER [--follow]

The trainer never waits for mlflow and never imports it. Whatever mlflow does, down at the start,
gone in the middle, hanging for a minute, the file stays whole and the mirror catches up from it.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from x1lib import X1Error, exit_code_of
from x1lib.tracking.holders import is_dead, is_locked, is_training, read_json
from x1lib.tracking.manifest import MANIFEST, write_json
from x1lib.tracking.metrics import METRICS
from x1lib.tracking.secrets import scrub, scrub_output

STATE, LOCK, LOG = "mlflow.json", "mlflow.lock", "mirror.log"
SWITCH, OFF = "X1_MLFLOW", ("off", "0", "no", "false")
EXPERIMENT, TAG = "X1-pretraining", "x1.run"
BATCH = 1000  # metrics in one request: the most that mlflow takes
STEP_KEYS = ("loss", "lr", "grad_norm", "tokens_per_sec", "tokens")
EVAL_KEYS = ("loss", "bits_per_byte")
EVERY_SECONDS = 10.0  # between two requests
IDLE_SECONDS = 2.0  # between two looks at a file that has not grown
LONGEST_WAIT_SECONDS = 60.0  # between two tries while mlflow is down
LAST_TRIES_SECONDS = 60.0  # for which mlflow is waited for when the run has ended
NICEST = 19
NOT_TAKEN = "mlflow did not take the metrics"


class MirrorError(X1Error, RuntimeError):
    """mlflow is not installed, or another mirror of this run is at work."""


def absent() -> str | None:
    """Why runs are not mirrored here, or None when they are."""
    if os.environ.get(SWITCH, "").lower() in OFF:
        return f"{SWITCH} is {os.environ[SWITCH]}"
    if importlib.util.find_spec("mlflow") is None:
        return "mlflow is not installed (pip install 'x1lib[lab]')"
    return None


def tracking_uri(folder: Path) -> str:
    """MLFLOW_TRACKING_URI where it is set, else an sqlite file beside the run folders."""
    database = Path(folder).absolute().parent / "mlflow.db"
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{database}"


def public_uri(folder: Path) -> str:
    """The same address for records: without secrets, and in the run's folder relative to it."""
    if os.environ.get("MLFLOW_TRACKING_URI"):
        return scrub(tracking_uri(folder))
    return "sqlite:///../mlflow.db"


def at_work(folder: Path) -> bool:
    """Whether a mirror of this run is at work."""
    return is_locked(Path(folder) / LOCK)


def is_complete(folder: Path) -> bool:
    """Whether a finished run is mirrored to its end, at the address that is asked for now."""
    state = read_json(Path(folder) / STATE)
    return bool(state.get("closed")) and state.get("tracking_uri") == public_uri(folder)


class Mirror:
    """Sends what metrics.jsonl gained since the last call; where it stands is kept on disk.

    A step that a resumed run did again is sent once: it is the same to the bit. What was sent
    before a crash could be noted is sent again, equal in key, step, time and value, which mlflow
    stores once.
    """

    def __init__(self, folder: Path, client=None) -> None:
        self.folder, self.path = Path(folder), Path(folder) / STATE
        self._client, self._name = client, None  # the name of the run, once it is known
        self._forget()
        found = read_json(self.path)
        if found.get("tracking_uri") == public_uri(folder):  # else another store: all of it anew
            self.state |= found

    def sync(self, training: bool = True) -> int:
        """Send everything new; returns how many metrics that were. mlflow's errors pass through.

        training: whether a trainer was at work before this call; without one, the run is closed in
        mlflow as finished, failed or killed, and opened again when one goes on.
        """
        manifest = read_json(self.folder / MANIFEST)
        if "created" not in manifest:
            return 0
        self._know(_name(manifest))
        client = self._client = self._client or _new_client(self.folder)
        try:
            return self._sync(client, manifest, training)
        except Exception as error:
            if getattr(error, "error_code", None) == "RESOURCE_DOES_NOT_EXIST":
                self._forget()  # somebody removed the run or the whole store
                self._know(_name(manifest))
            raise

    def _sync(self, client, manifest: dict, training: bool) -> int:
        run_id = self.state["run_id"] or self._find_or_create(client, manifest)
        status = manifest.get("status")
        if training and self.state["ended"] and status != "finished":
            client.update_run(run_id, status="RUNNING")
            self._note(run_id=run_id, ended=None, closed=False)
        n_sent = 0
        for metrics, state in self._batches():
            if metrics:
                client.log_batch(run_id, metrics=metrics, synchronous=True)
            n_sent += len(metrics)
            self._note(run_id=run_id, **state)
        ended = {"finished": "FINISHED", "failed": "FAILED"}.get(status, "KILLED")
        if ended != self.state["ended"] and (ended == "FINISHED" or not training):
            self._remove_doubles(client, manifest, run_id)
            client.set_terminated(run_id, ended)
            self._note(run_id=run_id, ended=ended, closed=ended == "FINISHED")
        return n_sent

    def _know(self, name: str) -> None:
        """Hold on to one run: a finished one may be moved aside, and another take its folder."""
        if self._name not in (None, name):
            raise MirrorError(f"{self.folder} holds another run now; this mirror's was moved")
        if self.state["name"] not in (None, name):
            self._forget()
        self._name = self.state["name"] = name

    def _forget(self) -> None:
        self.state = {"name": None, "run_id": None, "bytes": 0, "step": -1}
        self.state |= {"ended": None, "closed": False}

    def _note(self, **values: object) -> None:
        self.state |= {"tracking_uri": public_uri(self.folder), **values}
        write_json(self.path, self.state)

    def _find_or_create(self, client, manifest: dict) -> str:
        """The run of this folder, also when an earlier mirror died before it could note its id."""
        from mlflow.entities import Param

        experiment = client.get_experiment_by_name(EXPERIMENT)
        experiment_id = experiment.experiment_id if experiment else None
        if experiment_id is None:
            experiment_id = client.create_experiment(EXPERIMENT)
        known = _runs(client, experiment_id, manifest)
        if not known:
            tags = {TAG: _name(manifest)}
            known = [client.create_run(experiment_id, tags=tags, run_name=self.folder.name)]
        run_id = known[0].info.run_id
        if not known[0].data.params:  # all of them in one request: either there or not
            config = scrub(manifest["config"])
            params = [Param(key, str(value)) for key, value in config.items() if value != ""]
            client.log_batch(run_id, params=params, synchronous=True)
        return run_id

    def _remove_doubles(self, client, manifest: dict, run_id: str) -> None:
        """Delete runs that a server made of a request whose reply came too late to be heard."""
        experiment_id = client.get_run(run_id).info.experiment_id
        for run in _runs(client, experiment_id, manifest):
            if run.info.run_id != run_id:
                client.delete_run(run.info.run_id)

    def _batches(self) -> Iterator[tuple[list, dict]]:
        """Batches of metrics with the place in the file that is reached when each is sent."""
        from mlflow.entities import Metric

        metrics, step = [], self.state["step"]
        place = self.state["bytes"]
        with open(self.folder / METRICS, "rb") as file:
            file.seek(place)
            for raw in file:
                if not raw.endswith(b"\n"):
                    break  # being written, or torn: the next sync sees
                place += len(raw)
                values, step = _values(raw, step)
                stamp = int(1000 * values.pop("time", 0))
                at = values.pop("step", 0)
                metrics += [Metric(key, value, stamp, at) for key, value in values.items()]
                if len(metrics) > BATCH - 10:
                    yield metrics, {"bytes": place, "step": step}
                    metrics = []
        if place > self.state["bytes"]:
            yield metrics, {"bytes": place, "step": step}


def _name(manifest: dict) -> str:
    return manifest.get("run_id") or f"{manifest['created']} seed {manifest['seed']}"


def _runs(client, experiment_id: str, manifest: dict) -> list:
    """mlflow's runs of this folder, the oldest first."""
    query = f"tags.`{TAG}` = '{_name(manifest)}'"
    order = ["attributes.start_time ASC"]
    return client.search_runs([experiment_id], query, max_results=100, order_by=order)


def _values(raw: bytes, last_step: int) -> tuple[dict, int]:
    """Numbers of one line to mirror, with its step and time; the newest training step seen."""
    try:
        line = json.loads(raw)
    except ValueError:
        return {}, last_step
    if line["kind"] == "step" and line["step"] > last_step:
        found = {key: line[key] for key in STEP_KEYS if line.get(key) is not None}
        return {**found, "time": line["time"], "step": line["step"]}, line["step"]
    if line["kind"] == "eval":
        found = {f"heldout/{line['name']}/{key}": line[key] for key in EVAL_KEYS}
        return {**found, "time": line["time"], "step": line["step"]}, last_step
    return {}, last_step


def _new_client(folder: Path):
    # Each request once: this module tries again itself, after looking what has arrived.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    try:
        from mlflow import MlflowClient
    except ImportError as error:
        raise MirrorError(
            "mlflow is not installed; pip install 'x1lib[lab]', or leave the mirror out"
        ) from error
    return MlflowClient(tracking_uri(folder))


def follow(
    folder: Path, log: Callable[[str], object] = print, every_seconds: float = EVERY_SECONDS
) -> None:
    """Mirror a run until its trainer has ended and all is sent; tries again while mlflow is down.

    When the run has ended, mlflow is waited for a minute longer; what is missing then, the next
    mirror sends. Raises MirrorError when another mirror follows this run already.
    """
    while True:
        with _held(folder):
            _follow(folder, log, every_seconds)
        # A trainer that has just been started saw the lock held, and left the mirror to us.
        if not is_training(folder) or is_complete(folder):
            return


def trouble(folder: Path) -> str | None:
    """What keeps a run's metrics from mlflow, by the last line of its mirror; None for nothing."""
    path = Path(folder) / LOG
    lines = path.read_text(errors="replace").splitlines() if path.exists() else []
    return lines[-1] if lines and lines[-1].startswith(NOT_TAKEN) else None


def _follow(folder: Path, log: Callable[[str], object], every_seconds: float) -> None:
    mirror, wait, until = Mirror(folder), every_seconds, None
    while True:
        training = is_training(folder)  # before reading, so that its last lines are not missed
        try:
            n_sent = mirror.sync(training)
            if not training or mirror.state["closed"]:
                return
            wait = every_seconds if n_sent else min(every_seconds, IDLE_SECONDS)
        except MirrorError:
            raise
        except Exception as error:  # whatever mlflow, its store or the network raise
            now = time.monotonic()
            until = None if training else until or now + LAST_TRIES_SECONDS
            first = (str(error).splitlines() or [""])[0][:300]  # else a whole SQL statement
            why = scrub(f"{NOT_TAKEN} ({type(error).__name__}: {first})")
            if until and now >= until:
                log(f"{why}; the run has ended, so what is missing is left for the next mirror")
                return
            wait = min(LONGEST_WAIT_SECONDS if training else every_seconds, 2 * wait)
            log(f"{why}; again in {wait:.0f} s")
        _sleep(folder, wait, training)


def _sleep(folder: Path, seconds: float, training: bool) -> None:
    """Sleep so long, or until the trainer is gone."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(1.0, left))
        if training and is_dead(read_json(Path(folder) / "lock")):
            return


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Hold a run's mirror, so that there is one; its end frees it, however it ends."""
    with open(Path(folder) / LOCK, "a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise MirrorError(f"{folder} is mirrored by another process; let it work") from error
        yield


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m x1lib.tracking.mirror", description=__doc__)
    parser.add_argument("folder", type=Path, help="a run's folder")
    parser.add_argument("--follow", action="store_true", help="go on until the run has ended")
    arguments = parser.parse_args(argv)
    scrub_output()  # mlflow's own lines too
    if arguments.follow:
        os.nice(NICEST)  # the trainer needs the cores
        return exit_code_of(lambda: follow(arguments.folder))

    def once() -> None:
        with _held(arguments.folder):
            n_sent = Mirror(arguments.folder).sync(is_training(arguments.folder))
        print(f"{n_sent:,} metrics sent")

    return exit_code_of(once)


if __name__ == "__main__":
    sys.exit(main())
