"""The mlflow mirror: catches up, sends once, ends with the run; started beside every run."""

import fcntl
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from data_folders import write_jsonl

from x1lib import launch
from x1lib.launch import starting
from x1lib.tracking import Manifest, Run, mirror, read_metrics, ui
from x1lib.tracking.mirror import Mirror, MirrorError, public_uri, tracking_uri
from x1lib.train import Config

mlflow = pytest.importorskip("mlflow", reason="the extra `lab` is not installed")


class Flaky:
    """The real client, which fails at each call that `fails` names, before or after its work."""

    def __init__(self, real, fails=(), after=False):
        self.real, self.fails, self.after, self.calls = real, set(fails), after, 0

    def __getattr__(self, name):
        def call(*args, **kwargs):
            self.calls += 1
            if self.calls in self.fails and not self.after:
                raise ConnectionError("mlflow is down")
            result = getattr(self.real, name)(*args, **kwargs)
            if self.calls in self.fails:
                raise ConnectionError("the reply was lost")
            return result

        return call


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    return mlflow.MlflowClient(f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}")


@pytest.fixture
def folder(tmp_path, request):
    """A run folder whose manifest no other test shares: the mirror finds its run by its id."""
    folder = tmp_path / request.node.name
    folder.mkdir()
    Manifest(folder).update(
        run_id=request.node.name, created="then", seed=1, config={"lr": 0.1, "out": ""},
        status="running",
    )  # fmt: skip
    return folder


def train(folder, steps, evals=()):
    with Run(folder) as run:
        for step in steps:
            run.log("step", step=step, tokens=10 * step, loss=1 / step, lr=0.1, grad_norm=1.0)
        for step in evals:
            run.log("eval", step=step, name="documents", loss=2.0, bits_per_byte=1.0)


def run_id(folder) -> str:
    return json.loads((folder / mirror.STATE).read_text())["run_id"]


def losses(client, folder) -> list[tuple[int, float]]:
    """What mlflow holds of each step, doubles included."""
    return sorted((m.step, m.value) for m in client.get_metric_history(run_id(folder), "loss"))


def runs_of(client, name) -> list:
    experiment = client.get_experiment_by_name(mirror.EXPERIMENT).experiment_id
    return client.search_runs([experiment], f"tags.`{mirror.TAG}` = '{name}'")


def expected(steps) -> list[tuple[int, float]]:
    return [(step, 1 / step) for step in steps]


def test_new_lines_are_sent_once(client, folder):
    train(folder, range(1, 401), evals=[400])
    first = Mirror(folder, client)
    assert first.sync() == 400 * 4 + 2 and first.sync() == 0  # several batches of 1,000
    train(folder, range(401, 411))
    assert Mirror(folder, client).sync() == 40  # another process goes on
    assert losses(client, folder) == expected(range(1, 411))
    run = client.get_run(first.state["run_id"])
    assert run.data.params == {"lr": "0.1"} and run.info.status == "RUNNING"
    assert run.data.metrics["heldout/documents/bits_per_byte"] == 1.0
    Manifest(folder).update(status="finished")
    Mirror(folder, client).sync()
    assert client.get_run(first.state["run_id"]).info.status == "FINISHED"


@pytest.mark.parametrize("after", [False, True], ids=["never arrived", "reply lost"])
def test_an_outage_at_any_call_leaves_no_gap_and_no_double(client, folder, after):
    train(folder, range(1, 301))
    calls = 0
    for failing in range(1, 9):
        flaky = Flaky(client, {failing}, after)
        try:
            Mirror(folder, flaky).sync()
        except ConnectionError:
            calls += 1
    assert calls  # some did fail
    Mirror(folder, client).sync()
    assert losses(client, folder) == expected(range(1, 301))
    (run,) = runs_of(client, folder.name)
    assert run.data.params == {"lr": "0.1"}


def test_steps_done_again_after_a_crash_are_sent_once(client, folder):
    train(folder, range(1, 21))
    Mirror(folder, client).sync()
    with Run(folder) as run:
        run.event("resume", step=15)
    train(folder, range(16, 26))
    Mirror(folder, client).sync()
    assert losses(client, folder) == expected(range(1, 26))


def test_a_torn_line_waits_until_it_is_whole(client, folder):
    train(folder, [1])
    with open(folder / "metrics.jsonl", "ab") as file:
        file.write(b'{"kind": "step", "step": 2')
    Mirror(folder, client).sync()
    train(folder, [3])  # closes the torn line first
    Mirror(folder, client).sync()
    assert losses(client, folder) == expected([1, 3])


def test_nothing_is_sent_before_there_is_a_run(tmp_path, client):
    assert Mirror(tmp_path, client).sync() == 0


def test_secrets_in_the_address_are_not_recorded(client, folder, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://ada:s3cret@mlflow.example.org:5000/x")
    assert "s3cret" in tracking_uri(folder)  # mlflow itself needs it
    train(folder, [1])
    Mirror(folder, client).sync()
    assert "s3cret" not in (folder / mirror.STATE).read_text()
    assert public_uri(folder) == "https://mlflow.example.org:5000/x"


def test_the_default_store_lies_beside_the_runs(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert tracking_uri(tmp_path / "runs" / "a") == f"sqlite:///{tmp_path}/runs/mlflow.db"


def test_one_mirror_follows_a_run(folder):
    with open(folder / mirror.LOCK, "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(MirrorError, match="another process"):
            mirror.follow(folder)


@pytest.fixture
def at_work(folder):
    """A process that holds the folder's lock as a trainer does; `.kill()` ends it."""
    code = (
        "import sys, time; from pathlib import Path; from x1lib.runtime import FolderLock;"
        " lock = FolderLock(Path(sys.argv[1])); lock.__enter__(); print(1, flush=True);"
        " time.sleep(600)"
    )
    trainer = subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE)
    trainer.stdout.readline()
    yield trainer
    trainer.kill()
    trainer.wait()


def test_following_survives_an_outage_and_ends_with_the_run(client, folder, monkeypatch):
    train(folder, range(1, 6))
    Manifest(folder).update(status="finished")
    flaky, said = Flaky(client, {1, 3}), []
    monkeypatch.setattr(mirror, "_new_client", lambda folder: flaky)
    mirror.follow(folder, said.append, every_seconds=0.01)
    assert losses(client, folder) == expected(range(1, 6)) and len(said) == 2
    assert "mlflow is down" in said[0]


def test_a_mirror_waits_for_a_run_that_has_ended_a_minute_and_no_longer(folder, monkeypatch):
    train(folder, [1])
    clock, said = [0.0], []
    monkeypatch.setattr(mirror, "_new_client", lambda folder: Flaky(None, range(1000)))
    monkeypatch.setattr(mirror.time, "monotonic", lambda: clock[0])

    def sleep(seconds):
        clock[0] += seconds

    monkeypatch.setattr(mirror.time, "sleep", sleep)
    mirror.follow(folder, said.append)
    assert mirror.LAST_TRIES_SECONDS <= clock[0] <= mirror.LAST_TRIES_SECONDS + 20
    assert said[-1].endswith("what is missing is left for the next mirror")


def test_it_ends_when_the_trainer_is_killed_and_the_next_one_goes_on(
    client, folder, at_work, monkeypatch
):
    train(folder, range(1, 4))
    monkeypatch.setattr(mirror, "_new_client", lambda folder: client)
    assert mirror.is_training(folder)
    assert Mirror(folder).sync(training=True) == 3 * 4
    assert client.get_run(run_id(folder)).info.status == "RUNNING"
    at_work.kill()
    at_work.wait()
    assert not mirror.is_training(folder)
    train(folder, [4])
    begun = time.monotonic()
    mirror.follow(folder, every_seconds=60.0)
    assert time.monotonic() - begun < 5
    assert client.get_run(run_id(folder)).info.status == "KILLED"
    assert not mirror.is_complete(folder)
    Manifest(folder).update(status="failed")
    mirror.follow(folder, every_seconds=60.0)
    assert client.get_run(run_id(folder)).info.status == "FAILED"

    train(folder, [5])
    Manifest(folder).update(status="running")
    Mirror(folder).sync(training=True)  # resumed
    assert client.get_run(run_id(folder)).info.status == "RUNNING"
    Manifest(folder).update(status="finished")
    mirror.follow(folder)
    assert client.get_run(run_id(folder)).info.status == "FINISHED"
    assert mirror.is_complete(folder) and losses(client, folder) == expected(range(1, 6))


def test_it_notices_the_end_while_it_sleeps(client, folder, at_work, monkeypatch):
    train(folder, [1])
    monkeypatch.setattr(mirror, "_new_client", lambda folder: client)
    sleep = time.sleep

    def sleep_and_kill(seconds):
        at_work.kill()
        at_work.wait()
        sleep(0.01)

    monkeypatch.setattr(mirror.time, "sleep", sleep_and_kill)
    begun = time.monotonic()
    mirror.follow(folder, every_seconds=600.0)
    assert time.monotonic() - begun < 5


def test_a_trainer_that_starts_as_the_mirror_ends_is_not_left_alone(folder, at_work, monkeypatch):
    """Who started it saw the mirror's lock held, and so started none."""
    rounds = []

    def end_once_too_early(*arguments):
        rounds.append(mirror.at_work(folder))
        if len(rounds) == 2:
            at_work.kill()
            at_work.wait()

    monkeypatch.setattr(mirror, "_follow", end_once_too_early)
    mirror.follow(folder)
    assert rounds == [True, True] and not mirror.at_work(folder)


def test_the_holder_of_another_host_is_judged_by_the_lock(folder):
    (folder / "lock").write_text(json.dumps({"pid": 2**30, "host": "another"}))
    assert not mirror.is_training(folder)
    with open(folder / "lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert mirror.is_training(folder)
        (folder / "lock").write_text(json.dumps({"pid": 2**30, "host": platform.node()}))
        assert not mirror.is_training(folder)  # its number says enough


def test_runs_that_a_hanging_server_made_too_late_are_removed(client, folder):
    train(folder, [1, 2])
    Mirror(folder, client).sync()
    kept = run_id(folder)
    experiment = client.get_experiment_by_name(mirror.EXPERIMENT).experiment_id
    client.create_run(experiment, tags={mirror.TAG: folder.name})
    assert len(runs_of(client, folder.name)) == 2
    Mirror(folder, client).sync(training=False)
    assert [run.info.run_id for run in runs_of(client, folder.name)] == [kept]


def test_another_store_gets_the_whole_run(client, folder, monkeypatch, tmp_path):
    train(folder, [1, 2])
    Mirror(folder, client).sync()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/other.db")
    assert Mirror(folder).sync() == 8
    assert losses(mlflow.MlflowClient(), folder) == expected([1, 2])


def test_a_folder_that_another_run_took_is_not_taken_for_the_old_one(client, folder):
    """`launch.make_room` moves a finished run aside, perhaps while mlflow is still down."""
    train(folder, [1, 2, 3])
    old = Mirror(folder, client)
    old.sync()
    (folder / "metrics.jsonl").unlink()
    train(folder, [1])
    Manifest(folder).update(run_id=f"{folder.name}-2")
    with pytest.raises(MirrorError, match="holds another run now"):
        old.sync()
    assert Mirror(folder, client).sync() == 4  # state of the old one or not
    assert losses(client, folder) == expected([1])
    assert len(runs_of(client, folder.name)) == len(runs_of(client, f"{folder.name}-2")) == 1


def test_a_store_that_was_removed_is_filled_anew(client, folder):
    train(folder, [1, 2])
    Mirror(folder, client).sync()
    state = json.loads((folder / mirror.STATE).read_text())
    (folder / mirror.STATE).write_text(json.dumps(state | {"run_id": "0" * 32}))
    train(folder, [3])
    again = Mirror(folder, client)
    with pytest.raises(mlflow.exceptions.MlflowException):
        again.sync()
    again.sync()  # the same mirror starts anew
    assert losses(client, folder) == expected([1, 2, 3])


def test_the_command_says_in_one_line_what_is_wrong(tmp_path):
    command = [sys.executable, "-m", "x1lib.tracking.mirror", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout == "0 metrics sent\n"


# mlflow's pages


def test_the_pages_say_what_is_missing(client, folder, tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(MirrorError, match=r"no run is mirrored in .* yet; make lab00 makes one"):
        ui.command(tmp_path, 5000)
    (tmp_path / "mlflow.db").write_bytes(b"")  # as it is while mlflow makes its tables
    with pytest.raises(MirrorError, match="no run is mirrored"):
        ui.command(tmp_path, 5000)
    train(folder, [1])
    Mirror(folder).sync()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        uri = f"sqlite:///{tmp_path}/mlflow.db"
        assert uri in ui.command(tmp_path, port)
        taken.listen()
        with pytest.raises(MirrorError, match=rf"port {port} is taken; .*PORT={port + 1}"):
            ui.command(tmp_path, port)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://ada:s3cret@mlflow.example.org/x")
    with pytest.raises(MirrorError, match=r"server: open https://mlflow\.example\.org/x in a"):
        ui.command(tmp_path, 5000)
    monkeypatch.setattr(ui.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MirrorError, match="mlflow is not installed"):
        ui.command(tmp_path, 5000)


@pytest.mark.long
def test_the_pages_are_served_by_two_or_three_processes(folder, tmp_path, monkeypatch, capsys):
    psutil = pytest.importorskip("psutil", reason="the extra `lab` is not installed")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    train(folder, range(1, 6))
    Mirror(folder).sync()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "x1lib.tracking.ui", "--runs", str(tmp_path)]
    with open(tmp_path / "ui.log", "wb") as log:
        served = subprocess.Popen(
            [*words, "--port", str(port)], stdout=log, stderr=log, start_new_session=True
        )

    def answer(path: str) -> bytes | None:
        try:
            return urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=10).read()
        except OSError:
            return None

    try:
        wait_until(lambda: answer("health") == b"OK" or served.poll() is not None, 120)
        time.sleep(5)  # whatever else it starts has started by then
        parent = psutil.Process(served.pid)
        processes = [parent, *parent.children(recursive=True)]
        megabytes = sum(process.memory_info().rss for process in processes) / 1e6
        with capsys.disabled():
            print(f"\nmlflow: {len(processes)} processes, {megabytes:.0f} MB resident")
        assert len(processes) <= 3 and megabytes < 1500
        page, run = answer(""), answer(f"api/2.0/mlflow/runs/get?run_id={run_id(folder)}")
        assert b"<title>MLflow</title>" in page or b"<html" in page
        assert json.loads(run)["run"]["info"]["run_name"] == folder.name
        metrics = {m["key"]: m["value"] for m in json.loads(run)["run"]["data"]["metrics"]}
        assert metrics["loss"] == 1 / 5
    finally:
        os.killpg(served.pid, signal.SIGTERM)
        served.wait(30)


# Beside real runs


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> Path:
    return write_jsonl(tmp_path_factory.mktemp("text") / "small.jsonl", 300)


@pytest.fixture
def config(text, tmp_path, monkeypatch):
    """A function from settings to a Config of seconds, mirrored; what it started is ended."""
    monkeypatch.delenv("X1_MLFLOW", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = tmp_path / "run"

    def make(**changes) -> Config:
        fast = {
            "shape": "1x64", "tokenizer": "bpe4096", "seq_len": 32, "batch_tokens": 256,
            "dtype": "float32", "compile": "off", "eval_tokens": 256, "sample_tokens": 0,
            "checkpoint_every": 10, "steps": 60,
        }  # fmt: skip
        return Config(**{**fast, "source": str(text), "out": str(folder), **changes})

    before = set(starting._children)
    yield make
    for pid in set(starting._children) - before:
        if starting._children[pid].poll() is None:
            starting._children[pid].kill()
            starting._children[pid].wait()


def mirror_started(said: list[str]) -> int | None:
    """The process of a mirror, by the line that says where it goes."""
    found = [line for line in said if line.startswith("mirrored into mlflow, sqlite:///")]
    return int(found[-1].split()[-1]) if found else None


def wait_until(condition, seconds=400.0):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


def mirrored(folder: Path) -> list[tuple[int, float]]:
    return losses(mlflow.MlflowClient(tracking_uri(folder)), folder)


def history(folder: Path) -> list[tuple[int, float]]:
    return [(line["step"], line["loss"]) for line in read_metrics(folder, "step")]


def test_a_run_is_mirrored_and_a_killed_mirror_is_taken_up_without_doubles(config):
    settings, said = config(steps=400), []
    run = launch.start(settings, log=said.append)
    first = mirror_started(said)
    assert first in starting._children and os.getsid(first) == first
    state = run.folder / mirror.STATE
    wait_until(lambda: os.getpriority(os.PRIO_PROCESS, first) == mirror.NICEST)
    wait_until(lambda: state.exists() and json.loads(state.read_text())["step"] > 0)
    os.kill(first, signal.SIGKILL)
    starting._children[first].wait()

    again = launch.start(settings, log=said.append)  # attached, or finished before its mirror was
    second = mirror_started(said)
    assert again.how in ("attached", "finished") and second != first
    assert launch.follow(again, log=said.append)["status"] == "finished"
    starting._children[second].wait(30)
    assert mirrored(run.folder) == history(run.folder) and len(history(run.folder)) == 400
    assert mirror.is_complete(run.folder) and not mirror.at_work(run.folder)
    n_said = len(said)
    assert launch.start(settings, log=said.append).how == "finished"
    assert len(said) == n_said + 1  # nothing about a mirror: there is nothing left to send
    assert (run.folder / mirror.LOG).exists()


def test_a_mirror_ends_with_a_trainer_that_dies_and_comes_back_with_it(config):
    settings, said = config(steps=2000), []
    run = launch.start(settings, log=said.append)
    first = mirror_started(said)
    state = run.folder / mirror.STATE
    wait_until(lambda: state.exists() and json.loads(state.read_text())["step"] > 0)
    os.kill(run.pid, signal.SIGKILL)
    starting._children[run.pid].wait()
    begun = time.monotonic()
    starting._children[first].wait(30)
    assert time.monotonic() - begun < 15  # seconds; more on a machine that is busy
    assert mirrored(run.folder) == history(run.folder)

    resumed = launch.start(settings, log=said.append)
    assert resumed.how == "resumed" and mirror_started(said) != first
    launch.stop(resumed, log=said.append)
    starting._children[mirror_started(said)].wait(60)
    assert mirrored(run.folder) == history(run.folder)


@pytest.mark.parametrize(
    ("switch", "words"), [("off", "X1_MLFLOW is off"), ("on", "mlflow is not installed")]
)
def test_without_a_mirror_one_line_says_why(config, monkeypatch, switch, words):
    monkeypatch.setenv("X1_MLFLOW", switch)
    monkeypatch.setattr(mirror.importlib.util, "find_spec", lambda name: None)
    said = []
    run = launch.start(config(steps=2000), log=said.append)
    launch.start(config(steps=2000), log=said.append)
    assert [line for line in said if words in line] == [said[1]]
    assert said[2].startswith("attached")
    launch.stop(run, log=said.append)
    names = {path.name for path in run.folder.iterdir()}
    assert names.isdisjoint({mirror.STATE, mirror.LOCK, mirror.LOG})


def test_what_keeps_the_metrics_from_mlflow_is_told(folder):
    assert mirror.trouble(folder) is None
    log = folder / mirror.LOG
    log.write_text(f"starting\n{mirror.NOT_TAKEN} (ConnectionError: down); again in 20 s\n")
    assert "ConnectionError: down" in mirror.trouble(folder)
    log.write_text(log.read_text() + "40 metrics sent\n")
    assert mirror.trouble(folder) is None
