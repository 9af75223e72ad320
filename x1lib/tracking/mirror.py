"""A copy of a run's metrics in mlflow, made from `metrics.jsonl` by a process of its own.

    python -m x1lib.tracking.mirror RUN_FOLDER [--follow]

The trainer never waits for mlflow and never imports it. Whatever mlflow does, down at the start,
gone in the middle, hanging for a minute, the file stays whole and the mirror catches up from it.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import sys
import time
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path

from x1lib import X1Error, exit_code_of
from x1lib.tracking.manifest import MANIFEST, write_json
from x1lib.tracking.metrics import METRICS

STATE, LOCK = "mlflow.json", "mlflow.lock"
EXPERIMENT, TAG = "X1-pretraining", "x1.run"
BATCH = 1000  # metrics in one request: the most that mlflow takes
STEP_KEYS = ("loss", "lr", "grad_norm", "tokens_per_sec", "tokens")
EVAL_KEYS = ("loss", "bits_per_byte")
SILENCE_SECONDS = 600.0  # without a new line, after which a follower takes the run for dead


class MirrorError(X1Error, RuntimeError):
    """mlflow is not installed, or another mirror of this run is at work."""


def tracking_uri(folder: Path) -> str:
    """MLFLOW_TRACKING_URI where it is set, else an sqlite file beside the run folders."""
    database = Path(folder).absolute().parent / "mlflow.db"
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{database}"


def without_secret(uri: str) -> str:
    """The address without user name and password, for records."""
    parts = urllib.parse.urlsplit(uri)
    if parts.username is None and parts.password is None:
        return uri
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


class Mirror:
    """Sends what metrics.jsonl gained since the last call; where it stands is kept on disk.

    A step that a resumed run did again is sent once: it is the same to the bit. What was sent
    before a crash could be noted is sent again, equal in key, step, time and value, which mlflow
    stores once.
    """

    def __init__(self, folder: Path, client=None) -> None:
        self.folder, self.path = Path(folder), Path(folder) / STATE
        self._client = client
        found = json.loads(self.path.read_text()) if self.path.exists() else {}
        self.state = {"run_id": None, "bytes": 0, "step": -1, "closed": False, **found}

    def sync(self) -> int:
        """Send everything new; returns how many metrics that were. mlflow's errors pass through."""
        n_sent = 0
        manifest = self._manifest()
        if manifest is None:
            return 0
        client = self._client or _new_client(self.folder)
        run_id = self.state["run_id"] or self._find_or_create(client, manifest)
        for metrics, state in self._batches():
            if metrics:
                client.log_batch(run_id, metrics=metrics, synchronous=True)
            n_sent += len(metrics)
            self._note(run_id=run_id, **state)
        if manifest.get("status") == "finished" and not self.state["closed"]:
            client.set_terminated(run_id, "FINISHED")
            self._note(run_id=run_id, closed=True)
        return n_sent

    def _manifest(self) -> dict | None:
        path = self.folder / MANIFEST
        return json.loads(path.read_text()) if path.exists() else None

    def _note(self, **values: object) -> None:
        uri = without_secret(tracking_uri(self.folder))
        self.state |= {"tracking_uri": uri, **values}
        write_json(self.path, self.state)

    def _find_or_create(self, client, manifest: dict) -> str:
        """The run of this folder, also when an earlier mirror died before it could note its id."""
        experiment = client.get_experiment_by_name(EXPERIMENT)
        experiment_id = experiment.experiment_id if experiment else None
        name = f"{self.folder.name} {manifest['created']} seed {manifest['seed']}"
        if experiment_id is None:
            experiment_id = client.create_experiment(EXPERIMENT)
        query = f"tags.`{TAG}` = '{name}'"
        known = client.search_runs([experiment_id], filter_string=query, max_results=1)
        if known:
            return known[0].info.run_id
        run = client.create_run(experiment_id, tags={TAG: name}, run_name=self.folder.name)
        for key, value in manifest["config"].items():
            client.log_param(run.info.run_id, key, value)
        return run.info.run_id

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
    try:
        from mlflow import MlflowClient
    except ImportError as error:
        raise MirrorError(
            "mlflow is not installed; pip install 'x1lib[lab]', or leave the mirror out"
        ) from error
    return MlflowClient(tracking_uri(folder))


def follow(folder: Path, log: Callable[[str], object] = print, every_seconds: float = 5.0) -> None:
    """Mirror a run until it is finished and closed, or silent for ten minutes; retries for ever.

    Raises MirrorError when another mirror follows this run already.
    """
    with open(Path(folder) / LOCK, "a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise MirrorError(f"{folder} is mirrored by another process; let it work") from error
        mirror, heard, wait = Mirror(folder), time.monotonic(), every_seconds
        while not mirror.state["closed"] and time.monotonic() - heard < SILENCE_SECONDS:
            try:
                if mirror.sync():
                    heard = time.monotonic()
                wait = every_seconds
            except MirrorError:
                raise
            except Exception as error:  # whatever mlflow, its store or the network raise
                wait, heard = min(60.0, 2 * wait), time.monotonic()
                log(f"mlflow did not take the metrics ({error}); again in {wait:.0f} s")
            if not mirror.state["closed"]:
                time.sleep(wait)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m x1lib.tracking.mirror", description=__doc__)
    parser.add_argument("folder", type=Path, help="a run's folder")
    parser.add_argument("--follow", action="store_true", help="go on until the run is finished")
    arguments = parser.parse_args(argv)
    if arguments.follow:
        return exit_code_of(lambda: follow(arguments.folder))
    return exit_code_of(lambda: print(f"{Mirror(arguments.folder).sync():,} metrics sent"))


if __name__ == "__main__":
    sys.exit(main())
