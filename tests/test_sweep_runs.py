"""Sweeps really carried out: the same bits whatever goes on beside a run, after a kill, in Ray."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from x1lib import tracking
from x1lib.sweep import Design, Recipe, Speed, points, running
from x1lib.sweep.processes import LocalRunner, RayRunner, RunnerError
from x1lib.tracking.holders import is_training

REPOSITORY = Path(__file__).resolve().parent.parent
RECIPE = Recipe(seq_len=64, batch_tokens=128, lr=0.003, base_width=32, final_eval_tokens=2048)
SIZES = tuple(f"2x{width}:2/1:{3 * width}" for width in (16, 24, 32))
DESIGN = Design(SIZES, (128 * 200, 128 * 400), seeds=1, replicated=0, recipe=RECIPE)
SPEED = Speed(dict.fromkeys(SIZES, 1e4), 4.0, jobs=2)
FEW = [run for run in DESIGN.runs if run.shape in SIZES[:2]]  # two chains of two


def sweep_in(folder, jobs=2, runner=None, must_stop=lambda: None) -> running.Sweep:
    clock = running.Clock(1.0, time.monotonic())
    speed = dataclasses.replace(SPEED, jobs=jobs)
    return running.Sweep(
        DESIGN, folder, runner or LocalRunner(), speed, clock, must_stop=must_stop,
        metered_by="sweep-1", log=lambda _: None,
    )  # fmt: skip


def losses(one: running.Sweep, runs=FEW) -> dict[str, float]:
    return {run.id: running.manifest(one.folder(run))["val_loss"] for run in runs}


@pytest.fixture(scope="module")
def alone(embedded_shards, tmp_path_factory) -> dict[str, float]:
    """The losses of the runs, one after another."""
    one = sweep_in(tmp_path_factory.mktemp("alone"), jobs=1)
    one.carry_out(FEW)
    return losses(one)


def test_a_killed_run_goes_on_and_the_bits_are_the_same_side_by_side(alone, tmp_path):
    runner, killed = LocalRunner(), []

    def kill_one() -> None:
        """kill -9 of the second chain's first run in mid-training, once."""
        child = runner._children.get(FEW[1].id)
        if child and not killed and tracking.last_step(one.folder(FEW[1])) > 60:
            os.kill(child.pid, signal.SIGKILL)
            killed.append(child.pid)

    one = sweep_in(tmp_path, runner=runner, must_stop=kill_one)
    one.carry_out(FEW)
    assert killed
    dead = points.point_of(one, FEW[1])
    assert dead.status == "failed: ended by signal 9" and dead.val_loss is None
    again = sweep_in(tmp_path)
    again.carry_out(FEW)
    assert losses(again) == alone
    events = tracking.read_metrics(again.folder(FEW[1]), "event")
    assert "resume" in [event["event"] for event in events]  # it did not begin anew
    # one plan pays: no run wrote into a ledger, and each says who meters it
    assert not list(tmp_path.rglob("ledger.jsonl"))
    assert "metered by sweep-1" in running.manifest(again.folder(FEW[0]))["usd_status"]
    assert not (again.folder(FEW[-1]) / "state").exists()  # nothing begins there any more


def test_a_branch_is_what_the_trainer_alone_would_have_made(alone, tmp_path):
    """A chain's second run ends as a run of its own does that trains all of its tokens."""
    run = FEW[2]
    config = dataclasses.replace(DESIGN.config(run), branch_from="", out=str(tmp_path / "whole"))
    from x1lib.train import train

    whole = train(config, log=lambda _: None)
    assert whole["tokens"] == run.n_tokens and run.parent
    # equal but for the warm-up, which a share of more steps makes longer
    assert abs(whole["val_loss"] / alone[run.id] - 1) < 0.02


def test_ctrl_c_stops_children_with_their_state_saved(embedded_shards, tmp_path):
    out = tmp_path / "scaling-law"
    out.mkdir()
    long = dataclasses.replace(DESIGN, tokens=(128 * 4000, 128 * 8000))
    kept = {"run_id": "sweep-1", "hours": 1.0, "design": dataclasses.asdict(long)}
    tracking.write_json(out / "design.json", kept | {"speed": dataclasses.asdict(SPEED)})
    arguments = ["run", f"--out={out}", "--seeds=1", "--replicated=0", "--jobs=2", "--hours=1"]
    sweep = subprocess.Popen(
        [sys.executable, "-m", "x1lib.sweep", *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        first = [run for run in long.runs if run.role == "fit"][:2]
        folders = [out / "runs" / run.id for run in first]
        until = time.monotonic() + 120
        while not all(tracking.last_step(folder) > 5 for folder in folders):
            assert sweep.poll() is None and time.monotonic() < until, sweep.stderr.read()
            time.sleep(0.2)
        sweep.send_signal(signal.SIGINT)
        _, said = sweep.communicate(timeout=60)
    finally:
        sweep.kill()
    assert sweep.returncode == 75 and "the same command goes on" in said
    for folder in folders:
        assert not is_training(folder)
        assert running.manifest(folder)["status"] == "interrupted"
        assert any((folder / "state").iterdir())
    rows = points.read(out / "points.csv")
    assert len(rows) == len(long.runs) and all(row.val_loss is None for row in rows)


def test_ray_carries_out_the_same_runs(alone, tmp_path, monkeypatch):
    ray = pytest.importorskip("ray", reason="Ray is not installed: runner ray was not tested")
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "0")  # it kills tasks for others' memory
    environment = {"env_vars": {"PYTHONPATH": os.pathsep.join(sys.path)}}
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, runtime_env=environment)
    try:
        runner = RayRunner()
        assert runner.slots == 2
        one = sweep_in(tmp_path, runner=runner)
        one.carry_out(FEW)
        assert one.failed == {}
        assert losses(one) == alone
        # a stop reaches the tasks
        two = sweep_in(tmp_path / "stopped", runner=runner, must_stop=lambda: stop_late(two))
        two.carry_out(FEW)
        assert two.ended == "enough"
        until = time.monotonic() + 30  # the tasks end first, then what they had started
        while any(is_training(two.folder(run)) for run in FEW):
            assert time.monotonic() < until, "a stopped task left its run at work"
            time.sleep(0.2)
    finally:
        ray.shutdown()


def stop_late(one: running.Sweep) -> str | None:
    return "enough" if tracking.last_step(one.folder(FEW[0])) > 3 else None


def test_without_ray_the_runner_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(RunnerError, match="pip install"):
        RayRunner()
