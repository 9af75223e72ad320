"""The mlflow mirror: catches up, sends once, and the trainer never notices."""

import json
import subprocess
import sys

import pytest

from x1lib.tracking import Manifest, Run, mirror
from x1lib.tracking.mirror import Mirror, MirrorError, tracking_uri, without_secret

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
    """A run folder whose manifest no other test shares: the mirror finds its run by it."""
    folder = tmp_path / request.node.name
    folder.mkdir()
    Manifest(folder).update(created=request.node.name, seed=1, config={"lr": 0.1}, status="running")
    return folder


def train(folder, steps, evals=()):
    with Run(folder) as run:
        for step in steps:
            run.log("step", step=step, tokens=10 * step, loss=1 / step, lr=0.1, grad_norm=1.0)
        for step in evals:
            run.log("eval", step=step, name="documents", loss=2.0, bits_per_byte=1.0)


def losses(client, folder) -> list[tuple[int, float]]:
    run_id = json.loads((folder / mirror.STATE).read_text())["run_id"]
    return sorted((m.step, m.value) for m in client.get_metric_history(run_id, "loss"))


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
    name = f"{folder.name} {folder.name} seed 1"
    experiment = client.get_experiment_by_name(mirror.EXPERIMENT).experiment_id
    assert len(client.search_runs([experiment], f"tags.`{mirror.TAG}` = '{name}'")) == 1


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
    assert without_secret(tracking_uri(folder)) == "https://mlflow.example.org:5000/x"


def test_the_default_store_lies_beside_the_runs(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert tracking_uri(tmp_path / "runs" / "a") == f"sqlite:///{tmp_path}/runs/mlflow.db"


def test_one_mirror_follows_a_run(folder):
    import fcntl

    with open(folder / mirror.LOCK, "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(MirrorError, match="another process"):
            mirror.follow(folder)


def test_following_survives_an_outage_and_ends_with_the_run(client, folder, monkeypatch):
    train(folder, range(1, 6))
    Manifest(folder).update(status="finished")
    flaky, said = Flaky(client, {1, 3}), []
    monkeypatch.setattr(mirror, "_new_client", lambda folder: flaky)
    mirror.follow(folder, said.append, every_seconds=0.01)
    assert losses(client, folder) == expected(range(1, 6)) and len(said) == 2
    assert "mlflow is down" in said[0]


def test_the_command_says_in_one_line_what_is_wrong(tmp_path):
    command = [sys.executable, "-m", "x1lib.tracking.mirror", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout == "0 metrics sent\n"
