"""The watchdog: real trainers that hang, die or finish; terminate commands that fail, then work."""

import http.server
import json
import os
import platform
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from data_folders import write_jsonl

from x1lib.budget_guard import Ledger, Machine, Purse
from x1lib.watchdog import (
    TEMPLATES,
    Command,
    Request,
    Trainer,
    Watch,
    Watchdog,
    WatchdogError,
    holder,
    retire,
    take,
    terminator,
    trainer_of,
)
from x1lib.watchdog.trainer import heartbeat, last_word

ROOT = Path(__file__).resolve().parent.parent
FAST = (
    "--shape=1x64 --tokenizer=bpe4096 --seq-len=32 --batch-tokens=256 --dtype=float32"
    " --compile=off --eval-tokens=256 --sample-tokens=0 --checkpoint-every=10"
).split()


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> Path:
    return write_jsonl(tmp_path_factory.mktemp("text") / "small.jsonl", 300)


@pytest.fixture
def started(text, tmp_path):
    """A function that starts a real trainer in tmp_path/run; ended afterwards, whatever it is."""
    children = []

    def start(steps: int, until_step: int = 3) -> subprocess.Popen:
        folder = tmp_path / "run"
        folder.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "x1lib.train", *FAST]
        command += [f"--source={text}", f"--out={folder}", f"--steps={steps}"]
        with open(folder / "train.log", "ab") as log:
            child = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
        children.append(child)
        until = time.monotonic() + 90
        metrics = folder / "metrics.jsonl"
        while not metrics.exists() or metrics.read_text().count('"step", ') < until_step:
            assert time.monotonic() < until, (folder / "train.log").read_text()
            time.sleep(0.05)
        return child

    yield start
    for child in children:
        child.kill()
        child.wait()


def watchdog(folder: Path, *flags: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "x1lib.watchdog", str(folder), "--poll-seconds=0.1", *flags]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def script(folder: Path, failures: int) -> Path:
    """A terminate command that fails so many times, then works; it notes each call."""
    path = folder / "terminate"
    path.write_text(
        f'#!/bin/sh\necho "$1" >> "{folder}/calls"\n'
        f'if [ "$(wc -l < "{folder}/calls")" -le {failures} ]; then\n'
        '  echo "no answer from the provider" >&2; exit 1\nfi\n'
    )
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def record(folder: Path) -> dict:
    return json.loads((folder / "watchdog.json").read_text())


# Real trainers


def test_a_hung_trainer_is_ended_and_then_its_machine(started, tmp_path, monkeypatch):
    monkeypatch.setenv("TEST_POD_ID", "pod-123")
    child, run = started(steps=100_000, until_step=12), tmp_path / "run"
    os.kill(child.pid, signal.SIGSTOP)  # it hangs: alive, silent, deaf to SIGTERM
    begun = time.monotonic()
    watcher = watchdog(
        run,
        "--silent-minutes=0.05",
        "--grace-seconds=1",
        f"--terminate={script(tmp_path, failures=2)} $TEST_POD_ID",
        f"--ledger={tmp_path / 'watched.jsonl'}",
        "--usd-per-hour=0.01",
        f"--billed-since={time.time() - 60:.0f}",
    )
    output, _ = watcher.communicate(timeout=120)
    assert watcher.returncode == 70, output
    assert child.wait(timeout=5) == -signal.SIGKILL
    assert time.monotonic() - begun > 3 + 1 + 2 + 4  # silence, grace, two waits between tries
    assert (tmp_path / "calls").read_text().split() == ["pod-123"] * 3
    found = record(run)
    assert found["status"] == "terminated" and found["pid"] == child.pid
    assert "hangs: no heartbeat" in found["reason"]
    assert found["signals"] == ["SIGTERM", "SIGKILL"]
    assert [one["worked"] for one in found["attempts"]] == [False, False, True]
    assert "no answer from the provider" in found["attempts"][0]["said"]
    assert found["terminate"].endswith("$TEST_POD_ID")  # as it was given, nothing filled in
    notes = [n.get("text") or n["reason"] for n in Ledger(tmp_path / "watched.jsonl").notes]
    assert notes[0].startswith("watchdog: the trainer hangs")
    assert notes[-1].startswith("watchdog: terminated after 3 tries")
    assert 0.0001 < Ledger(tmp_path / "watched.jsonl").spent_usd < 0.001  # a minute and more
    before = (run / "metrics.jsonl").read_text().count('"step", ')
    started(steps=100_000, until_step=before + 5)  # its state is sound
    assert '"event": "resume", "step": 1' in (run / "metrics.jsonl").read_text()


def test_a_trainer_that_hears_sigterm_saves_first(started, tmp_path):
    child, run = started(steps=100_000), tmp_path / "run"
    cap = ["--usd-per-hour=1000", "--cap-usd=0.01", f"--billed-since={time.time() - 30:.0f}"]
    ledger = tmp_path / "watched.jsonl"
    Ledger(ledger, 1000.0).note("other", "a ledger that has a line")
    machine_is_known = Purse(Ledger(ledger, 1000.0), 0.0, "other", billed_since=time.time() - 30)
    machine_is_known.leave("known")
    watcher = watchdog(run, *cap, f"--ledger={ledger}", f"--terminate={script(tmp_path, 0)} now")
    output, _ = watcher.communicate(timeout=60)
    assert watcher.returncode == 70 and child.wait(timeout=5) == 75, output
    found = record(run)
    assert found["signals"] == ["SIGTERM"] and found["reason"].startswith("budget: ")
    assert last_word(run) == "interrupted" and (tmp_path / "calls").read_text() == "now\n"


def test_a_trainer_that_ends_by_itself_is_left_alone(started, tmp_path):
    child, run = started(steps=100), tmp_path / "run"
    watcher = watchdog(run, "--silent-minutes=1", f"--terminate={script(tmp_path, 0)} now")
    output, _ = watcher.communicate(timeout=120)
    assert watcher.returncode == 0 and child.wait(timeout=5) == 0, output
    found = record(run)
    assert found["status"] == "left" and found["reason"] == "the trainer ended by itself: finished"
    assert found["signals"] == [] and not (tmp_path / "calls").exists()
    assert "only silence is watched" in output


def test_a_trainer_that_was_killed_is_watched_until_it_is_started_again(started, tmp_path):
    child, run = started(steps=100_000), tmp_path / "run"
    watcher = watchdog(run, "--silent-minutes=0.2", "--grace-seconds=5")
    while not (run / "watchdog.json").exists():
        time.sleep(0.05)
    child.kill()
    child.wait()
    again = started(steps=100_000, until_step=20)  # well within the twelve seconds
    until = time.monotonic() + 30
    while record(run)["pid"] != again.pid:
        assert time.monotonic() < until and watcher.poll() is None
        time.sleep(0.05)
    assert again.poll() is None
    again.kill()
    again.wait()
    output, _ = watcher.communicate(timeout=60)
    assert watcher.returncode == 70, output
    found = record(run)
    assert "is gone without a word" in found["reason"] and found["signals"] == []
    assert found["status"] == "ended" and "is billed on" in found["reason"]


# Which process it is


def lock(folder: Path, pid: int, host: str = "") -> Path:
    path = folder / "lock"
    path.write_text(json.dumps({"pid": pid, "host": host or platform.node()}))
    return path


def test_a_number_in_a_lock_file_is_no_trainer(tmp_path):
    assert trainer_of(tmp_path) is None
    path = lock(tmp_path, os.getpid())
    assert trainer_of(tmp_path) is None  # this process runs, and does not hold the file
    with open(path, "a"):
        found = trainer_of(tmp_path)
        assert found.pid == os.getpid() and found.is_alive()
        lock(tmp_path, os.getpid(), host="elsewhere")
        assert trainer_of(tmp_path) is None
        path.write_text('{"pid": ')
        assert trainer_of(tmp_path) is None


def test_another_process_with_the_same_number_is_never_hit():
    child = subprocess.Popen(["sleep", "60"])
    try:
        real = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[19]
        stranger = Trainer(child.pid, int(real) - 1)  # the trainer began earlier, and is gone
        assert not stranger.is_alive() and not stranger.signal(signal.SIGKILL)
        assert child.poll() is None
        assert Trainer(child.pid, int(real)).signal(signal.SIGTERM)
        assert child.wait(timeout=10) == -signal.SIGTERM
        assert not Trainer(child.pid, int(real)).signal(signal.SIGKILL)
    finally:
        child.kill()
        child.wait()


def test_without_a_process_descriptor_the_identity_is_checked_as_well(monkeypatch):
    monkeypatch.delattr(os, "pidfd_open")
    test_another_process_with_the_same_number_is_never_hit()


# What it decides


class Time:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_silence_is_what_was_observed():
    clock = Time()
    watch = Watch(60.0, poll_seconds=10.0, clock=clock)
    for beat in range(20):
        clock.now += 10
        assert watch.look(beat, True, None) is None
    clock.now += 36_000  # the machine slept; the trainer with it
    assert watch.look(beat, True, None) is None and watch.silence == 20.0
    for _ in range(3):
        clock.now += 10
        assert watch.look(beat, True, None) is None
    clock.now += 10
    verdict = watch.look(beat, True, None)
    assert verdict.action == "end" and verdict.reason.startswith("the trainer hangs")
    assert watch.look("new", True, None) is None


def test_the_cap_comes_before_a_good_end(tmp_path):
    clock = Time()
    machine = Machine("box", "box", 0.0, seconds=clock)
    ledger = Ledger(tmp_path / "watched.jsonl", 1.0)
    options = {"keep_seconds": 60.0, "end_seconds": 60.0, "step_seconds": 20.0}
    purse = Purse(ledger, 1.0, "run", role="watchdog", machine=machine, **options)
    watch = Watch(1e9, purse, clock=clock)
    clock.now = 3600 - 141.0
    assert watch.look(1, True, None) is None
    assert watch.look(1, False, "finished").action == "go"
    clock.now = 3600 - 139.0
    assert watch.look(2, True, None).reason.startswith("budget: 0.96")
    assert watch.look(2, False, "finished").action == "end"  # or the idle machine passes the cap


def test_a_machine_that_costs_money_is_watched_on_after_its_run(tmp_path):
    """With a command that ends it; without one, or without a price, there is nothing to do."""
    clock = Time()
    machine = Machine("m", "h", clock.now, seconds=clock)
    for price, ends_machine in ((0.0, True), (360.0, False)):
        ledger = Ledger(tmp_path / f"{price}.jsonl", cap_usd=60.0)
        purse = Purse(ledger, price, "R", role="watchdog", machine=machine)
        verdict = Watch(60.0, purse, clock=clock).look(
            1, False, "finished", ends_machine=ends_machine
        )
        assert verdict.action == "go"
    ledger = Ledger(tmp_path / "ledger.jsonl", cap_usd=60.0)
    purse = Purse(ledger, 360.0, "R", role="watchdog", machine=machine)
    watch = Watch(60.0, purse, clock=clock)
    looks = []
    while (verdict := watch.look(1, False, "failed", ends_machine=True)) is None:
        clock.now += 5
        looks.append(ledger.spent_usd)
        assert len(looks) < 1000
    assert verdict.action == "end" and verdict.reason.startswith("budget: ")
    assert looks and purse.spent_usd < 60.0  # in time, with what ending the machine takes


def test_heartbeats_and_last_words_are_read_from_the_folder(tmp_path):
    empty = heartbeat(tmp_path)
    assert last_word(tmp_path) is None
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_text('{"event": "start"}\n{"kind": "step"}\n')
    assert heartbeat(tmp_path) != empty and last_word(tmp_path) is None
    for word in ("failed", "interrupted", "finished"):
        metrics.write_text(f'{{"event": "start"}}\n{{"event": "{word}"}}\n{{"torn')
        assert last_word(tmp_path) == word
    metrics.write_text('{"event": "interrupted"}\n{"event": "resume"}\n{"kind": "step"}\n')
    assert last_word(tmp_path) is None  # of an earlier process
    thread = tmp_path / "heartbeat.json"
    thread.write_text('{"time": 1.0, "step": 7}')
    before = heartbeat(tmp_path)
    thread.write_text('{"time": 3.0, "step": 7}')
    assert heartbeat(tmp_path) == before  # its thread lives on while the training hangs
    thread.write_text('{"time": 5.0, "step": 8}')
    assert heartbeat(tmp_path) != before


# Terminate commands


def test_a_command_is_checked_at_the_start(monkeypatch, tmp_path):
    with pytest.raises(WatchdogError, match="'no-such-command' is not on this machine"):
        Command("no-such-command now").check()
    with pytest.raises(WatchdogError, match="X1_TEST_ID is not set"):
        Command("true $X1_TEST_ID").check()
    monkeypatch.setenv("X1_TEST_ID", "7; rm -rf /")
    assert Command("true ${X1_TEST_ID}").check() == "true ${X1_TEST_ID}"
    assert Command("true $X1_TEST_ID")._arguments() == ["true", "7; rm -rf /"]  # one word, no shell
    with pytest.raises(WatchdogError, match="cannot be read"):
        Command("true 'open").check()
    with pytest.raises(WatchdogError, match="is empty"):
        Command(" ").check()


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_says_what_it_lacks(monkeypatch, tmp_path, name):
    for variable in ("RUNPOD_POD_ID", "RUNPOD_API_KEY", "LAMBDA_API_KEY", "LAMBDA_INSTANCE_ID"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(WatchdogError, match=r"is not set, and the terminate command needs it"):
        terminator(name).check()
    for tool in ("runpodctl", "sky"):
        (tmp_path / tool).write_text('#!/bin/sh\necho "$0 $*"\n')
        (tmp_path / tool).chmod(0o755)
    monkeypatch.setenv("RUNPOD_POD_ID", "pod1")
    monkeypatch.setenv("RUNPOD_API_KEY", "secret-of-runpod")
    monkeypatch.setenv("LAMBDA_API_KEY", "secret-of-lambda")
    monkeypatch.setenv("LAMBDA_INSTANCE_ID", "inst1")
    monkeypatch.setenv("SKYPILOT_CLUSTER_INFO", '{"cluster_name": "x1", "cloud": "GCP"}')
    if isinstance(TEMPLATES[name], Command):
        with pytest.raises(WatchdogError, match="is not on this machine"):
            terminator(name).check()
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    described = terminator(name).check()
    assert "secret" not in described
    if isinstance(TEMPLATES[name], Command):
        worked, said = terminator(name).attempt()
        wanted = {"runpod": "runpodctl remove pod pod1", "skypilot": "sky down --yes x1"}
        assert worked and said.endswith(wanted[name])


class Provider(http.server.BaseHTTPRequestHandler):
    """Answers 500 twice, then 200; keeps what it was asked."""

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        body = self.rfile.read(length).decode()
        self.server.asked.append((self.path, self.headers["Authorization"], body))
        code = 500 if len(self.server.asked) <= 2 else 200
        answer = f"key {self.headers['Authorization']} seen".encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *arguments) -> None:
        pass


def test_a_request_is_tried_until_it_works_and_no_key_is_written(tmp_path, monkeypatch):
    monkeypatch.setenv("LAMBDA_API_KEY", "very-secret-key")
    monkeypatch.setenv("LAMBDA_INSTANCE_ID", "inst1")
    server = http.server.HTTPServer(("127.0.0.1", 0), Provider)
    server.asked = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    real = TEMPLATES["lambda"]
    request = Request("POST", (f"{address}/a", f"{address}/b"), real.key_variable, real.body)
    said = []
    dog = Watchdog(
        tmp_path, silent_seconds=1, terminate=request, retry_seconds=0.01, log=said.append
    )
    assert dog._end(None, "for the test") == 70
    server.shutdown()
    assert [path for path, _, _ in server.asked] == ["/a", "/b", "/a"]
    assert {key for _, key, _ in server.asked} == {"Bearer very-secret-key"}
    assert json.loads(server.asked[0][2]) == {"instance_ids": ["inst1"]}
    found = record(tmp_path)
    assert [one["worked"] for one in found["attempts"]] == [False, False, True]
    assert found["attempts"][0]["said"].startswith("HTTP 500")
    assert "very-secret-key" not in json.dumps(found) + "".join(said)


def test_a_command_that_does_not_answer_is_given_up(monkeypatch):
    monkeypatch.setattr("x1lib.watchdog.terminate.ATTEMPT_SECONDS", 0.2)
    assert Command("sleep 30").attempt() == (False, "no answer in 0 s")


# One at work in a folder


def test_the_folder_is_taken_before_the_first_word_of_the_run(tmp_path):
    """A trainer may tokenise for minutes before it has a name; a second one is told at once."""
    (run := tmp_path / "run").mkdir()
    path = lock(run, os.getpid())
    flags = ("--usd-per-hour=0.01", f"--billed-since={int(time.time())}")
    with open(path, "a"):  # this process is the trainer, and has no manifest
        first = watchdog(run, *flags)
        try:
            until = time.monotonic() + 30
            while holder(run) != first.pid:
                assert time.monotonic() < until and first.poll() is None
                time.sleep(0.05)
            assert not (tmp_path / "ledger.jsonl").exists()
            second = watchdog(run, *flags)
            output, _ = second.communicate(timeout=30)
            assert second.returncode == 2 and "is watched already" in output
            assert retire(run) and first.wait(10) == -signal.SIGTERM
        finally:
            first.kill()
            first.communicate()


def test_a_watchdog_whose_folder_was_taken_over_leaves_all_to_the_new_one(tmp_path):
    run, said = tmp_path / "run", []
    run.mkdir()
    (run / "metrics.jsonl").write_text('{"event": "finished"}\n')
    ledger = Ledger(tmp_path / "ledger.jsonl")
    held = Purse(ledger, 0.01, "R", role="watchdog", billed_since=time.time())
    settings = {"silent_seconds": 60, "poll_seconds": 0.05, "terminate": Command("true")}
    old = Watchdog(run, purse=held, log=said.append, **settings)
    at_work = threading.Thread(target=lambda: said.append(old.run()), daemon=True)
    at_work.start()
    run.rename(tmp_path / "run-1")
    time.sleep(0.3)
    assert at_work.is_alive()  # nobody else watches the machine
    run.mkdir()
    with take(run):
        (run / "watchdog.json").write_text("the new one's")
        at_work.join(10)
        assert said[-1] == 0 and "another watches" in said[-2]
    assert (run / "watchdog.json").read_text() == "the new one's"
    assert Ledger(tmp_path / "ledger.jsonl").notes[-1]["reason"].endswith("watches the folder")


# What it refuses


def test_it_refuses_what_it_cannot_watch(tmp_path, monkeypatch):
    with pytest.raises(WatchdogError, match="is no folder"):
        Watchdog(tmp_path / "none", silent_seconds=60)
    dog = Watchdog(tmp_path, silent_seconds=0.2, poll_seconds=0.05, log=lambda line: None)
    with pytest.raises(WatchdogError, match="is watched already"):
        Watchdog(tmp_path, silent_seconds=60)
    with pytest.raises(WatchdogError, match=r"no trainer took .* nothing was ended"):
        dog.run()
    assert record(tmp_path)["status"] == "left"
    Watchdog(tmp_path, silent_seconds=60)  # and lets the folder go


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--terminate=no-such-command"], "WatchdogError: the terminate command 'no-such-command'"),
        (["--cap-usd=5"], "WatchdogError: a cap needs a price"),
        (["--usd-per-hour=-1"], "LedgerError: usd_per_hour is -1.0"),
        (["--silent-minutes=0"], "is no number above 0"),
    ],
)
def test_wrong_flags_are_refused_at_once(tmp_path, flags, words):
    watcher = watchdog(tmp_path, *flags)
    output, _ = watcher.communicate(timeout=30)
    assert watcher.returncode == 2 and words in output


def test_the_command_line_has_help_that_names_the_traps():
    command = [sys.executable, "-m", "x1lib.watchdog", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "runpod" in done.stdout
    assert "`shutdown` typed on the machine may leave it on the bill" in done.stdout
