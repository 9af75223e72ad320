"""Trainers outlive what started them, are found again, and say why they ended: real processes."""

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import jupytext
import nbformat
import pytest
from data_folders import write_jsonl

from x1lib import checkpoint, launch, settings, tracking, watchdog
from x1lib.budget_guard import BudgetRefused, Ledger
from x1lib.data import SourceError, TokenizerError
from x1lib.launch import companions, following, starting
from x1lib.settings import ConfigError
from x1lib.shapes import ShapeError
from x1lib.train import Config

ROOT = Path(__file__).resolve().parent.parent
FAST = {
    "shape": "1x64",
    "tokenizer": "bpe4096",
    "seq_len": 32,
    "batch_tokens": 256,
    "dtype": "float32",
    "compile": "off",
    "eval_tokens": 256,
    "sample_tokens": 0,
    "checkpoint_every": 10,
}
FOLLOWER = """
import json, sys
from x1lib import launch
from x1lib.train import Config

run = launch.start(Config(**json.loads(sys.argv[1])))
launch.follow(run)
"""


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> Path:
    """A small text, so that the last evaluation takes no time."""
    return write_jsonl(tmp_path_factory.mktemp("text") / "small.jsonl", 300)


@pytest.fixture
def config(text, tmp_path):
    """A function from settings to a Config of seconds; runs it started are ended afterwards."""
    folder = tmp_path / "run"

    def make(**changes) -> Config:
        return Config(**{**FAST, "source": str(text), "out": str(folder), "steps": 60, **changes})

    yield make
    if pid := starting._holder(folder):
        os.kill(pid, signal.SIGKILL)
    for place in tmp_path.glob("run*"):
        if pid := watchdog.holder(place):  # or it would watch on, to a cap of days
            os.kill(pid, signal.SIGKILL)


def follower(config: Config) -> subprocess.Popen:
    """Another process that starts and follows, in a group of its own, as a kernel does."""
    return subprocess.Popen(
        [sys.executable, "-u", "-c", FOLLOWER, json.dumps(vars(config))],  # lines in order
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def step_reached(folder: Path) -> int:
    path = folder / "metrics.jsonl"
    steps = tracking.read_metrics(folder, "step") if path.exists() else []
    return steps[-1]["step"] if steps else 0


def wait_for_step(config: Config, step: int, seconds: float = 90.0) -> None:
    folder, until = Path(config.out), time.monotonic() + seconds
    while step_reached(folder) < step:
        assert time.monotonic() < until, (folder / "train.log").read_text()
        time.sleep(0.05)


def events(config: Config) -> list[str]:
    return [line["event"] for line in tracking.read_metrics(Path(config.out), "event")]


def complete(config: Config) -> bool:
    """Whether each step stands in the history once, in order, to the end."""
    steps = [line["step"] for line in tracking.read_metrics(Path(config.out), "step")]
    return steps == list(range(1, config.steps + 1))


# The life of a run


def test_a_run_outlives_its_follower_is_joined_and_is_shown_when_finished(config):
    settings_ = config(steps=200)
    first = follower(settings_)
    wait_for_step(settings_, 5)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    reached = step_reached(Path(settings_.out))
    wait_for_step(settings_, reached + 5)

    said = []
    run = launch.start(settings_, log=said.append)
    assert run.how == "attached" and run.alive
    assert re.fullmatch(rf"attached to process {run.pid} in \S+: .*step .*/200 .*", said[0])
    manifest = launch.follow(run, log=said.append)
    assert manifest["status"] == "finished" and manifest["steps"] == 200
    assert said[-1].startswith("finished: 200 steps")
    assert events(settings_).count("start") == 1 and complete(settings_)

    before = (Path(settings_.out) / "metrics.jsonl").read_bytes()
    done = launch.start(settings_, log=said.append)
    assert (done.how, done.pid) == ("finished", None)
    assert said[-1].startswith("finished before: 200 steps") and len(said[-1].splitlines()) == 1
    assert launch.follow(done, log=said.append) == manifest
    assert (Path(settings_.out) / "metrics.jsonl").read_bytes() == before


def test_a_killed_trainer_is_noticed_within_seconds_and_resumed(config):
    settings_ = config(steps=100)
    run = launch.start(settings_, log=lambda line: None)
    assert run.how == "started"
    wait_for_step(settings_, 15)
    os.kill(run.pid, signal.SIGKILL)
    begun = time.monotonic()
    with pytest.raises(launch.RunFailed) as caught:
        launch.follow(run, log=lambda line: None)
    assert time.monotonic() - begun < 5
    last = str(caught.value).splitlines()[-1]
    assert "was ended by SIGKILL" in last and "goes on from its last checkpoint" in last

    saved = checkpoint.list_steps(Path(settings_.out) / "state")[-1]
    said = []
    again = launch.start(settings_, log=said.append)
    assert again.how == "resumed" and f"resumed from step {saved} " in said[0]
    assert launch.follow(again, log=said.append)["status"] == "finished"
    assert events(settings_).count("resume") == 1 and complete(settings_)


def test_a_run_that_costs_money_is_watched_and_one_watchdog_is_enough(config, tmp_path):
    paid = {"steps": 0, "hours": 0.02, "tokens": 60 * 256, "usd_per_hour": 0.01}
    settings_, said = config(**paid, billed_since=int(time.time())), []
    run = launch.start(settings_, log=said.append)
    (line,) = [line for line in said if line.startswith("watchdog: ")]
    assert "set X1_TERMINATE" in line
    watcher = int(re.search(r"process (\d+)", line)[1])
    wait_for_step(settings_, 2)
    again = []
    launch.start(settings_, log=again.append)
    assert not any(line.startswith("watchdog") for line in again)
    manifest = launch.follow(run, log=lambda line: None)
    assert manifest["usd"] > 0 and manifest["status"] == "finished"
    assert starting._children[watcher].wait(60) == 0  # it leaves when the run has ended
    assert "ended by itself" in (run.folder / "watchdog.log").read_text()
    assert (run.folder.parent / "ledger.jsonl").exists()


def test_a_watchdog_with_an_old_price_or_command_makes_room(config, monkeypatch):
    """The trainer that it watches stays; the new one has what the reader says now.

    From its first second: whoever is said to watch holds the folder.
    """
    monkeypatch.delenv("X1_TERMINATE", raising=False)
    paid = {"steps": 0, "hours": 0.1, "usd_per_hour": 0.01, "billed_since": int(time.time())}
    settings_, said = config(**paid, cap_usd=40.0), []
    run = launch.start(settings_, log=said.append)
    old = int(re.search(r"watchdog: process (\d+)", "\n".join(said))[1])
    assert watchdog.holder(run.folder) == old
    record = run.folder / "watchdog.json"
    until = time.monotonic() + 60
    again = []
    launch.start(settings_, log=again.append)
    assert not any(line.startswith(("watchdog", "budget")) for line in again)
    while not record.exists():  # it watches
        assert time.monotonic() < until
        time.sleep(0.05)
    launch.start(config(**paid, cap_usd=60.0), log=again.append)  # a cap is read, not told
    assert not any(line.startswith("watchdog") for line in again)
    assert again[-1] == (
        "budget: the cap of all labs was 40.00 and is 60.00 now; the trainer at work follows it"
    )
    assert Ledger(run.folder.parent / "ledger.jsonl").recorded_cap_usd == 60.0
    monkeypatch.setenv("X1_TERMINATE", "true")
    launch.start(config(**paid | {"usd_per_hour": 0.02}), log=again.append)
    assert "keeps its price of 0.01 an hour, not 0.02: launch.stop(run)" in again[-1]
    (line,) = [line for line in again if line.startswith("watchdog: ")]
    assert "in place of the one with the old settings" in line and line.endswith("and the machine")
    new = int(re.search(r"process (\d+)", line)[1])
    assert starting._children[old].wait(10) == -signal.SIGTERM and run.alive
    while json.loads(record.read_text())["terminate"] != "true":
        assert time.monotonic() < until and starting._children[new].poll() is None
        time.sleep(0.05)
    begun = [json.loads(text) for text in (run.folder.parent / "ledger.jsonl").open()]
    prices = [one["usd_per_hour"] for one in begun if one.get("role") == "watchdog"]
    assert prices == [0.01, 0.02] and watchdog.holder(run.folder) == new
    json_before = json.loads(record.read_text())
    record.write_text(json.dumps(json_before | {"status": "ending"}))  # it ends the machine
    launch.start(settings_, log=again.append)
    assert (
        any("is ending the run and stays" in line for line in again)
        and starting._children[new].poll() is None
    )
    launch.stop(run, log=lambda line: None)


def test_a_correction_in_the_first_second_is_not_lost(config):
    settings_, said = config(steps=0, hours=0.1, usd_per_hour=0.01), []
    settings_ = replace(settings_, billed_since=int(time.time()))
    for price in (0.01, 0.02, 0.03):  # before the first watchdog knows the run's name
        launch.start(replace(settings_, usd_per_hour=price), log=said.append)
    lines = [line for line in said if line.startswith("watchdog: ")]
    first, second, third = (int(re.search(r"process (\d+)", line)[1]) for line in lines)
    assert watchdog.holder(Path(settings_.out)) == third
    assert [starting._children[one].wait(10) for one in (first, second)] == [-signal.SIGTERM] * 2


def test_a_watchdog_that_does_not_take_the_run_is_never_called_one(config, monkeypatch):
    (wrong := Path(config().out).parent / "wrong").mkdir()
    run = launch.Launched(wrong, "started", os.getpid())
    monkeypatch.setattr(companions, "_watchdog_arguments", lambda *_: [str(wrong), "--no-such"])
    said = companions.watched(run, config(hours=1.0, usd_per_hour=0.01))
    assert "warning: NO watchdog is at work" in said and "unrecognized arguments" in said


def test_the_watchdog_of_a_finished_run_makes_room_with_it(config):
    """It stays with the machine, and would judge the next run by the old price and command."""
    settings_ = config()
    folder = Path(settings_.out)
    folder.mkdir()
    tracking.write_json(
        folder / "manifest.json",
        {"run_id": "R", "status": "finished", "config": vars(settings_) | {"seed": 7}},
    )
    now = f"--billed-since={int(time.time())}"
    command = [sys.executable, "-m", "x1lib.watchdog", str(folder), "--usd-per-hour=0.01", now]
    old = subprocess.Popen([*command, "--terminate=true"], cwd=ROOT)
    try:
        until = time.monotonic() + 60
        while not (folder / "watchdog.lock").exists() or watchdog.holder(folder) != old.pid:
            assert time.monotonic() < until and old.poll() is None
            time.sleep(0.05)
        (folder / "watchdog.json").write_text('{"status": "ending"}')
        with pytest.raises(launch.LaunchError, match="is ending this machine"):
            launch.make_room(settings_, log=lambda line: None)
        assert old.poll() is None and folder.exists()
        (folder / "watchdog.json").unlink()
        launch.make_room(settings_, log=lambda line: None)
        assert old.wait(10) == -signal.SIGTERM
        assert not folder.exists() and (folder.parent / "run-1" / "watchdog.lock").exists()
    finally:
        old.kill()


def test_a_priced_run_that_is_refused_says_who_ends_the_machine(config, monkeypatch):
    monkeypatch.delenv("X1_TERMINATE", raising=False)
    since = {
        "hours": 0.1,
        "usd_per_hour": 1.0,
        "billed_since": int(time.time()) - 7200,
        "cap_usd": 1.0,
    }
    words = "billed on at 1 an hour and nothing ends it: end it yourself at your provider's console"
    with pytest.raises(launch.RunFailed, match=f"(?s)BudgetRefused.*{words}, or start"):
        launch.follow(launch.start(config(**since), log=lambda line: None))
    with pytest.raises(BudgetRefused, match=words):
        launch.check_budget(config(**since))
    monkeypatch.setenv("X1_TERMINATE", "true")
    now = since | {"hours": 100.0, "billed_since": int(time.time())}
    with pytest.raises(BudgetRefused, match=f"would fit.*{words}, or with 'true', or start"):
        launch.check_budget(config(**now))
    monkeypatch.setattr(watchdog, "at_work", lambda folder: True)
    with pytest.raises(BudgetRefused) as refused:
        launch.check_budget(config(**since))
    assert "billed on" not in str(refused.value)


def test_a_relaunch_is_set_aside_where_a_run_costs_money(config):
    """A twentieth of the hours by default, the reader's own number where there is one."""
    day = {"steps": 0, "hours": 24.0, "billed_since": int(time.time())}

    def asked(**changes) -> str:
        return launch.check_budget(config(**day, **changes))

    assert "(24 h + 1.2 h to restart) x 1.1 " in asked(usd_per_hour=1.10)
    assert "is 30.49 US dollars" in asked(usd_per_hour=1.10)
    assert "(24 h + 3 h to restart)" in asked(usd_per_hour=1.10, restart_hours=3.0)
    assert "is 49.62 US dollars" in asked(usd_per_hour=1.79)
    with pytest.raises(BudgetRefused, match=r"24 h \+ 1\.2 h to restart\) x 1\.85"):
        asked(usd_per_hour=1.85)
    free = asked()
    assert "(24 h) x 0 " in free and "restart" not in free


def test_what_is_measured_after_a_run_is_reserved_metered_and_settled(config, capsys):
    """Set aside from the run's first line to the end of the measuring, and billed to the run."""
    since = int(time.time())
    paid = {"steps": 0, "hours": 0.02, "tokens": 30 * 256, "usd_per_hour": 36.0, "cap_usd": 20.0}
    settings_ = config(**paid, billed_since=since, after_hours=0.01)
    said = []
    assert "0.01 h after it" in launch.check_budget(settings_)
    run = launch.start(settings_, log=lambda line: None)
    manifest = launch.follow(run, log=lambda line: None)
    path = run.folder.parent / "ledger.jsonl"
    ledger = Ledger(path, 20.0)
    (aside,) = [one for one in ledger.reservations.values() if one.state == "open"]
    assert aside.usd == pytest.approx(0.01 * 36 * 1.1) and aside.label == "run, after it"
    with launch.metered(settings_, 0.6, "the ladder", log=said.append):
        time.sleep(2.0)
    ledger = Ledger(path, 20.0)
    assert ledger.committed_usd == 0 and ledger.spent_usd >= manifest["usd"] + 2.0 * 36 / 3600
    assert said == [
        f"the ladder is metered too: with it the run has cost {ledger.spent_usd:.2f} US dollars"
    ]
    with pytest.raises(BudgetRefused, match=r"the ladder takes 60 minutes, 36\.00 US dollars"):
        with launch.metered(settings_, 60, "the ladder"):
            raise AssertionError("it began")
    free = config(steps=0, hours=0.02, tokens=30 * 256)
    before = Ledger(path, 20.0).spent_usd
    with launch.metered(free, 60, "the ladder", log=said.append):
        pass
    assert len(said) == 1 and Ledger(path, 20.0).spent_usd >= before
    page = (ROOT / "experiments" / "X1-pretraining" / "README.md").read_text()
    left = {one.name for one in (*run.folder.iterdir(), *run.folder.parent.iterdir())}
    names = (left | starting.A_RUNS_OWN) - {"run", "small.jsonl"}
    assert len(names) > 15 and [name for name in names if f"`{name}" not in page] == []


def test_a_trainer_that_hangs_is_told(config, monkeypatch):
    monkeypatch.setattr(following, "SILENT_SECONDS", 4.0)  # two beats
    settings_, said = config(steps=150), []
    run = launch.start(settings_, log=lambda line: None)
    wait_for_step(settings_, 5)

    def hear(line: str) -> None:
        said.append(line)
        if line.startswith("no sign of life"):
            os.kill(run.pid, signal.SIGCONT)

    os.kill(run.pid, signal.SIGSTOP)
    assert launch.follow(run, log=hear)["status"] == "finished"
    signs = [line for line in said if "sign" in line]
    assert f"process {run.pid} " in signs[0] and "again" in signs[1] and len(signs) == 2
    assert complete(settings_)


def test_a_run_that_somebody_else_started_and_that_dies_is_noticed(config):
    settings_ = config(steps=2000)
    first = follower(settings_)
    wait_for_step(settings_, 2)
    run = launch.start(settings_, log=lambda line: None)
    assert run.how == "attached" and run.pid not in starting._children
    os.kill(run.pid, signal.SIGKILL)
    with pytest.raises(launch.RunFailed, match="is gone; start it again"):
        launch.follow(run, log=lambda line: None)
    output, _ = first.communicate(timeout=30)
    assert first.returncode == 1 and "was ended by SIGKILL" in output.splitlines()[-1]


def test_a_run_is_stopped_from_a_shell(config):
    settings_ = config(steps=2000)
    run = launch.start(settings_, log=lambda line: None)
    wait_for_step(settings_, 3)
    command = [sys.executable, "-m", "x1lib.launch", "stop", str(run.folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "stopped at step" in done.stdout, done
    assert not run.alive and run.exit_code == 75
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert again.returncode == 0 and "no trainer is at work" in again.stdout


def test_ctrl_c_stops_the_following_and_stop_the_run(config):
    settings_ = config(steps=2000)
    # A shell's background jobs may ignore Ctrl-C; this one must not.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        first = follower(settings_)
    finally:
        signal.signal(signal.SIGINT, handler)
    wait_for_step(settings_, 3)
    os.killpg(first.pid, signal.SIGINT)
    output, _ = first.communicate(timeout=30)
    assert first.returncode not in (0, None)
    assert "stopped following; the run goes on as process" in output

    run = launch.start(settings_, log=lambda line: None)
    assert run.how == "attached" and run.alive
    said = []
    launch.stop(run, log=said.append)
    assert not run.alive
    saved = checkpoint.list_steps(Path(settings_.out) / "state")[-1]
    assert said == [f"stopped at step {saved:,}; start it again to go on from there"]
    assert saved >= 3 and events(settings_)[-1] == "interrupted"
    launch.stop(run, log=said.append)
    assert said[-1].startswith("no trainer is at work")


def test_two_started_at_once_share_one_trainer(config):
    settings_ = config(steps=100)
    both = [follower(settings_), follower(settings_)]
    outputs = [one.communicate(timeout=120)[0] for one in both]
    assert [one.returncode for one in both] == [0, 0], outputs
    how = sorted(output.split(maxsplit=1)[0] for output in outputs)
    assert how == ["attached", "started"]
    assert events(settings_).count("start") == 1 and complete(settings_)


def test_a_failing_run_says_why(config):
    settings_ = config(lr=1e30, clip=0.0)
    said = []
    run = launch.start(settings_, log=said.append)
    with pytest.raises(launch.RunFailed) as caught:
        launch.follow(run, log=said.append)
    *_, reason, last = str(caught.value).splitlines()
    assert reason.strip().startswith("NotFiniteError: step ")
    assert "ended with exit code 65; mend what" in last


def test_a_run_that_is_refused_at_once_is_never_called_started(config, tmp_path):
    tokens = tmp_path / "shards"
    tokens.mkdir()
    (tokens / "index.json").write_text("{}")
    said = []
    with pytest.raises(launch.RunFailed, match=r"ShardError: .*index\.json"):
        run = launch.start(config(source=str(tokens)), log=said.append)
        launch.follow(run, log=said.append)


def test_other_settings_do_not_touch_a_run(config):
    run = launch.start(config(steps=30), log=lambda line: None)
    launch.follow(run, log=lambda line: None)
    before = (run.folder / "manifest.json").read_bytes()
    with pytest.raises(ConfigError, match=r"steps was 30 when the run in .* and is 40 now"):
        launch.start(config(steps=40))
    assert (run.folder / "manifest.json").read_bytes() == before
    said = []
    assert launch.make_room(config(steps=30), log=said.append) == run.folder and not said
    assert launch.start(config(steps=30, eval_every=7), log=lambda line: None).how == "finished"

    # A finished run steps aside for another, whole; a dead one, that could be resumed, does not.
    (run.folder.parent / "run-1").mkdir()
    assert launch.make_room(config(steps=40), log=said.append) == run.folder
    assert said == [f"the finished run with steps 30 is now in {run.folder}-2"]
    aside = run.folder.with_name("run-2")
    assert (aside / "manifest.json").read_bytes() == before and not run.folder.exists()
    manifest = json.loads(before) | {"status": "running"}
    (aside / "manifest.json").write_text(json.dumps(manifest))
    assert launch.make_room(config(steps=40, out=str(aside)), log=said.append).exists()
    assert len(said) == 1


def test_other_settings_are_refused_from_the_first_second(config):
    run = launch.start(config(steps=2000), log=lambda line: None)  # nothing is saved yet
    with pytest.raises(ConfigError, match=r"seed was 0 when the run in .* and is 5 now"):
        launch.start(config(steps=2000, seed=5))
    launch.stop(run, log=lambda line: None)


def test_a_folder_with_other_things_in_it_stays_as_it_is(config, tmp_path):
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "diary.txt").write_text("mine")
    for place, words in ((notes, "diary.txt and no run"), (ROOT, "holds the project")):
        for act in (launch.make_room, launch.start):
            with pytest.raises(launch.LaunchError, match=words):
                act(config(out=str(place)))
    assert [path.name for path in notes.iterdir()] == ["diary.txt"]
    with pytest.raises(launch.LaunchError, match="is a file"):
        launch.make_room(config(out=str(notes / "diary.txt")))


def test_a_folder_that_cannot_be_made_is_refused(config, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(launch.LaunchError, match=r"cannot write to .*give out a writable folder"):
        launch.start(config(out=str(tmp_path / "file" / "run")))


# Lines and paths


@pytest.mark.parametrize("seconds", [60, 3_600, 86_400])
def test_forty_lines_at_most_and_none_missed_for_long(monkeypatch, seconds):
    clock = [0.0]
    monkeypatch.setattr(following.time, "monotonic", lambda: clock[0])
    thinner, at = following._Thinner(), []
    for second in range(1, seconds + 1):
        clock[0] = float(second)
        if thinner.lets_through("step", second / seconds):
            at.append(second)
    assert 10 <= len(at) <= 40 and at[-1] == seconds and at[0] <= 5
    assert max(b - a for a, b in pairwise(at)) <= max(5, seconds / 27)


def test_the_command_line_says_every_setting():
    config = Config(
        out="a folder/with = in it", steps=7, lr=3e-4, qk_norm=False, source="-odd", tokens=10**10
    )
    command = launch.command(config)
    assert command[:3] == [sys.executable, "-m", "x1lib.train"] and len(command) == 9
    assert settings.from_command_line(Config, command[3:], "") == config


def test_folders_count_from_the_project(monkeypatch, tmp_path):
    lab = "experiments/X1-pretraining"
    for where in (ROOT, ROOT / "notebooks"):
        monkeypatch.chdir(where)
        assert launch.project_root() == ROOT
        assert launch.run_folder() == ROOT / lab / "run-local"
        assert launch.run_folder("here/run") == ROOT / "here" / "run"
    assert launch.shown(launch.run_folder()) == f"{lab}/run-local"
    assert launch.shown(f"in {Path.home()}/x and {ROOT}/y") == "in ~/x and y"
    monkeypatch.chdir(tmp_path)
    assert launch.project_root() == ROOT  # by way of the package
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert launch.run_folder("", usd_per_hour=1.1) == ROOT / lab / "run-cloud"
    assert launch.run_folder("", usd_per_hour=0.0) == ROOT / lab / "run-local"


# Parameters

NAMES = "hours tokens shape source tokenizer out"


def namespace(injected: str = "", **changes) -> dict:
    """What a notebook's globals() hold after its parameters cell and papermill's."""
    values = {
        "hours": 0.05,
        "tokens": 0,
        "shape": "tiny",
        "source": "embedded",
        "tokenizer": "auto",
        "out": "",
        "usd_per_hour": 0.0,
    }
    values |= changes
    exec(injected, {}, values)
    cells = ["", "hours = 0.05", *([f"# Parameters\n{injected}\n"] if injected else []), "1"]
    return {**values, "In": cells}


def configure(**arguments) -> Config:
    return launch.configure(namespace(**arguments), trainer=NAMES, own={"usd_per_hour": 0.0})


def test_parameters_become_settings():
    assert configure() == Config(hours=0.05)
    assert configure(injected="hours = 24\ntokens = 5e9").tokens == 5_000_000_000
    # one that the cell does not name, but the trainer knows
    assert configure(injected="lr = 0.01").lr == 0.01
    # a name that only later cells use is no parameter
    assert configure(steps=[1, 2, 3]) == Config(hours=0.05)


@pytest.mark.parametrize(
    ("injected", "error", "words"),
    [
        ("huors = 24", ConfigError, "unknown parameter 'huors'; did you mean hours"),
        ("zzz = 24", ConfigError, "unknown parameter 'zzz'; there are hours, tokens"),
        ("usd_per_huor = 24", ConfigError, "did you mean usd_per_hour"),
        ("hours = 'abc'", ConfigError, "hours is 'abc'; expected a number"),
        ("hours = -1", ConfigError, "hours is -1; expected a number from 0"),
        ("hours = True", ConfigError, "hours is True"),
        ("hours = float('nan')", ConfigError, "hours is nan"),
        ("hours = 0", ConfigError, "no end"),
        ("tokens = 1.5", ConfigError, "tokens is 1.5; expected a whole number"),
        ("out = 3", ConfigError, "out is 3; expected text"),
        ("usd_per_hour = 'two'", ConfigError, "usd_per_hour is 'two'"),
        ("usd_per_hour = -2.0", ConfigError, "usd_per_hour is -2.0"),
        ("shape = 'tinny'", ShapeError, "unknown shape 'tinny'"),
        ("tokenizer = 'gpt3'", TokenizerError, "unknown tokeniser 'gpt3'"),
        ("source = 'nowhere.jsonl'", SourceError, "does not exist"),
        ("source = 'embeded'", SourceError, "unknown source"),
    ],
)
def test_wrong_parameters_are_refused(injected, error, words):
    with pytest.raises(error, match=words):
        configure(injected=injected)


@pytest.fixture(scope="module")
def lab00(tmp_path_factory) -> Path:
    """lab00 as a notebook without outputs, fresh from its source."""
    path = tmp_path_factory.mktemp("lab") / "lab00.ipynb"
    nbformat.write(jupytext.read(ROOT / "notebooks" / "src" / "lab00.py"), path)
    return path


def papermill(lab00: Path, folder: Path, *parameters: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "papermill", str(lab00), str(folder / "out.ipynb")]
    flags = [part for one in parameters for part in ("-p", *one.split("=", 1))]
    return subprocess.Popen(
        [*command, *flags, "--no-progress-bar", "--log-output", "--execution-timeout", "600"],
        cwd=ROOT / "notebooks",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


@pytest.mark.parametrize(
    ("parameter", "reason"),
    [
        ("huors=0.01", "ConfigError: unknown parameter 'huors'; did you mean hours?"),
        ("hours=abc", "ConfigError: hours is 'abc'; expected a number from 0"),
    ],
)
def test_papermill_refuses_wrong_parameters_before_anything_starts(
    lab00, tmp_path, parameter, reason
):
    process = papermill(lab00, tmp_path, parameter, f"out={tmp_path / 'run'}")
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert output.strip().splitlines()[-1].startswith(reason), output[-2000:]
    assert not (tmp_path / "run").exists()


def test_papermill_ends_with_the_reason_when_the_run_fails(lab00, text, tmp_path):
    run = f"out={tmp_path / 'run'}"
    flags = (run, f"source={text}", "hours=0", "steps=9", "lr=1e30", "ladder_minutes=0")
    process = papermill(lab00, tmp_path, *flags)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    *_, reason, last = output.strip().splitlines()
    assert reason.strip().startswith("NotFiniteError: step ") and "exit code 65" in last


def test_papermill_killed_at_random_twice_and_run_again_gives_one_complete_run(
    lab00, text, tmp_path
):
    """The second time the trainer is killed with it, wherever it is by then."""
    run, rng = tmp_path / "run", random.Random()
    flags = (f"out={run}", f"source={text}", "hours=0", "steps=80", "batch_tokens=2048")
    flags += ("ladder_minutes=0",)
    for trainer_too in (False, True):
        process, seconds = papermill(lab00, tmp_path, *flags), rng.uniform(1, 14)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        holder = starting._holder(run)
        print(f"papermill killed after {seconds:.1f} s, at step {step_reached(run)} of 80")
        if trainer_too and holder:
            os.kill(holder, signal.SIGKILL)
    process = papermill(lab00, tmp_path, *flags)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output[-3000:]
    lines = tracking.read_metrics(run)
    assert [line["step"] for line in lines if line["kind"] == "step"] == list(range(1, 81))
    starts = [
        line["event"] for line in tracking.read_lines(run / "metrics.jsonl") if "event" in line
    ]
    assert 1 <= starts.count("start") + starts.count("resume") <= 2, starts
    assert json.loads((run / "manifest.json").read_text())["status"] == "finished"
    last = nbformat.read(tmp_path / "out.ipynb", as_version=4).cells[-1]
    assert "status: finished" in last.outputs[0].text
