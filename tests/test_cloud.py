"""The launch recipes: every command that they show or run is one that exists, and each is tried.

Fake `ssh`, `curl` and `runpodctl` stand for the network, a folder for the rented machine, another
for the bucket. What needs a tool that is not here is skipped and says so.
"""

import ast
import contextlib
import fcntl
import functools
import importlib.util
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from data_folders import write_jsonl

from x1lib import checkpoint
from x1lib.budget_guard import RESTART_SHARE, Ledger, Machine, Plan, Purse, this_machine
from x1lib.train import Config
from x1lib.watchdog import TEMPLATES

ROOT = Path(__file__).resolve().parent.parent
CLOUD = ROOT / "experiments" / "X1-pretraining" / "cloud"
PAGE = (CLOUD / "README.md").read_text()
SCRIPTS = sorted(CLOUD.glob("*.sh"))
BUCKET = CLOUD / "bucket.py"
SKY = CLOUD / "sky.yaml"
SKY_PYTHON = "X1_SKYPILOT_PYTHON"  # a Python that has SkyPilot, in an environment of its own
KEY = "sk-marker-of-a-secret-0123456789"
FIRST = "A prepaid balance of $50 with automatic top-up off is the only cap that no bug passes."
ACTIONS = {
    "home": ["push TEXT.jsonl", "setup", "start --hours 1 --usd-per-hour 0.5", "status", "attach"]
    + ["jupyter", "stop", "fetch", "fetch --small", "end abc123", "off", "options"],
    "box": ["setup", "start --hours 1 --usd-per-hour 0.5", "run --hours 1 --usd-per-hour 0.5"]
    + ["status", "jupyter", "stop", "meter", "last"],
}
OF_START = {
    "--lab": "lab00",
    "--hours": "2",
    "--usd-per-hour": "0.5",
    "--source": "text/T.jsonl",
    "--param": "shape=12m",
    "--cap-usd": "20",
    "--billed-since": "1790000000",
    "--terminate": "runpod",
    "--when-done": "runpod",
    "--bucket": "b",
}


def call(*command, **more):
    more = {
        "capture_output": True,
        "text": True,
        "timeout": 300,
        "stdin": subprocess.DEVNULL,
    } | more
    return subprocess.run([str(one) for one in command], **more)


def dry(script, *arguments, env=None):
    done = call("bash", CLOUD / script, "--dry-run", *arguments, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def commands(output):
    """What a script says it does, each as a list of words."""
    text = re.sub(r"   # with .*", "", output)
    found = re.findall(r"^\+ ((?:'[^']*'|\\.|[^'\\\n])*)", text, re.MULTILINE | re.DOTALL)
    return [shlex.split(one.removesuffix(" &")) for one in found]


# The page


def test_the_first_line_is_the_cap():
    assert PAGE.splitlines()[0] == FIRST


def test_the_page_above_points_here():
    assert "(cloud/README.md)" in (CLOUD.parent / "README.md").read_text()


def test_links_exist_and_each_source_is_listed_and_used():
    local = [one for one in re.findall(r"\]\(([^)#]+)\)", PAGE) if "://" not in one]
    assert local and [one for one in local if not (CLOUD / one).exists()] == []
    body, _, sources = PAGE.partition("## Sources")
    used = {int(one) for group in re.findall(r"\[([\d, ]+)\]", body) for one in group.split(",")}
    listed = {int(one) for one in re.findall(r"(?:^|[.:] )(\d{1,2})\. ", sources, re.MULTILINE)}
    assert used == listed == set(range(1, max(used) + 1))


def test_no_price_stands_on_the_page():
    """Dollars there are budgets; what a card costs is in one dated file."""
    sums = {one.rstrip(".") for one in re.findall(r"\$([\d.]+)", PAGE)}
    assert sums <= {"50", "0", "100"} and "x1lib.economics" in PAGE
    assert not re.search(r"\d\s*(?:/h\b|\$/|dollars an hour|per hour)", PAGE)


def shown():
    """Each command line of the page's bash blocks, with words in the place of what one fills in."""
    blocks = re.findall(r"^```bash\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    values = {"PRICE": "1.5", "POD_ID": "abc123", "INSTANCE_ID": "abc-123", "FILESYSTEM": "files"}
    lines = [line for block in blocks for line in block.splitlines()]
    return [re.sub(r"\b[A-Z_]+\b", lambda m: values.get(m[0], m[0]), line) for line in lines]


def flags(help_text):
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", help_text))


def parameters_of_lab00():
    notebook = json.loads((ROOT / "notebooks" / "lab00.ipynb").read_text())
    (cell,) = [c for c in notebook["cells"] if "parameters" in c["metadata"].get("tags", [])]
    names = {line.targets[0].id for line in ast.parse("".join(cell["source"])).body}
    return names | {f.name for f in fields(Config)}


@functools.cache
def help_of(*command):
    done = call(sys.executable, "-m", *command, "--help", cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return flags(done.stdout)


def check_papermill(words):
    assert (ROOT / "notebooks" / words[1]).exists()
    given = [words[i + 1] for i, word in enumerate(words) if word == "-p"]
    assert {"hours", "source", "usd_per_hour"} <= set(given) <= parameters_of_lab00()
    assert {word for word in words if word.startswith("--")} <= help_of("papermill")


def check_module(words):
    assert words[1] == "-m" and words[2].startswith("x1lib.")
    asked = {word for word in words if word.startswith("--")}
    assert asked - help_of(words[2]) == set(), words


def check_sky(words):
    """Words that SkyPilot knows are checked by its own help where it is installed; paths always."""
    assert words[1:3] in (["jobs", "launch"], ["jobs", "queue"], ["jobs", "logs"])
    assert all((ROOT / word).exists() for word in words if word.endswith(".yaml"))
    assert all(word.partition("=")[0] in sky_task()["envs"] for word in words if "=" in word)


@pytest.mark.parametrize("line", shown())
def test_a_command_on_the_page_exists(line):
    words = shlex.split(line)
    if words[0] in ("./runpod.sh", "./lambda.sh", "./sky.sh"):
        dry(words[0], *words[1:])
    elif words[0] == "python":
        check_module(words)
    else:
        checks = {"papermill": check_papermill, "sky": check_sky}
        assert words[0] in checks, f"nobody checks {words[0]}: {line}"
        checks[words[0]](words)


def test_the_smoke_run_is_priced_as_the_page_says():
    (line,) = [one for one in shown() if "x1lib.economics" in one]
    done = call(sys.executable, *shlex.split(line)[1:], cwd=ROOT)
    assert done.returncode == 0 and "of these fits in $1." in done.stdout.splitlines()[0]


def test_options_that_the_page_names_exist():
    known = set()
    for script in ("runpod.sh", "lambda.sh", "box.sh", "sky.sh"):
        known |= flags(call("bash", CLOUD / script, "--help").stdout)
    known |= help_of("x1lib.economics") | help_of("x1lib.budget_guard")
    named = {one for part in re.findall(r"`([^`\n]+)`", PAGE) for one in flags(part)}
    known |= {"--terminate-after", "--stop-after", "--ip"}  # of others, and warned against
    assert named - known == set()


# The scripts


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_script_is_well_formed(path):
    done = call("bash", "-n", path)
    assert done.returncode == 0, done.stderr
    sourced = path.name in ("common.sh", "home.sh")
    assert sourced or (os.access(path, os.X_OK) and "set -euo pipefail" in path.read_text())


def test_shellcheck_finds_nothing():
    if not shutil.which("shellcheck"):
        pytest.skip("shellcheck is not installed, so only `bash -n` looked at the scripts")
    done = call("shellcheck", "-x", *SCRIPTS)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("script", ["runpod.sh", "lambda.sh", "box.sh"])
def test_help_lists_what_works_and_the_rest_is_refused(script):
    usage = call("bash", CLOUD / script, "--help")
    assert usage.returncode == 0 and "--dry-run" in usage.stdout
    side = "box" if script == "box.sh" else "home"
    for action in ACTIONS[side]:
        assert re.search(rf"^  {action.split()[0]}\b|options: .* options", usage.stdout, re.M), (
            action
        )
        dry(script, *action.split())
    listed = set(re.findall(r"^  ([a-z]+) ", usage.stdout, re.MULTILINE))
    assert listed <= {one.split()[0] for one in ACTIONS[side]} | {"key", "ledger"}
    for wrong in ("reboot", "start --hours"):
        done = call("bash", CLOUD / script, "--dry-run", *wrong.split())
        assert done.returncode == 2, wrong


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ("--usd-per-hour 1", "--hours is missing"),
        ("--hours 1", "--usd-per-hour is missing"),
        ("--hours 1 --usd-per-hour 0", "no cap can hold"),
        ("--hours one --usd-per-hour 1", "expected a number"),
        ("--hours 0 --usd-per-hour 1", "--hours is 0, which trains nothing"),
        ("--hours 0.0 --usd-per-hour 1", "--hours is 0.0, which trains nothing"),
        ("--hours 1 --usd-per-hour 1 --parm shape=5m", "unknown option"),
        ("--hours 1 --usd-per-hour 1 --param shape", "NAME=VALUE"),
        ("--hours 1 --usd-per-hour 1 --lab lab02", "expected lab00 or lab01"),
        ("--hours 1 --usd-per-hour 1 --lab lab01 --terminate runpod", "--when-done ends the mach"),
        ("--hours 1 --usd-per-hour 1 --lab lab01 --bucket b", "--bucket is for lab00"),
    ],
)
def test_a_start_that_could_spend_blindly_is_refused(arguments, word):
    for script in ("box.sh", "runpod.sh"):  # at home, before anything is billed
        done = call("bash", CLOUD / script, "--dry-run", "start", *arguments.split())
        assert done.returncode == 2 and word in done.stderr


def test_what_runs_on_the_machine_is_what_the_parsers_know():
    given = [word for pair in OF_START.items() for word in pair]
    usage = call("bash", CLOUD / "box.sh", "--help").stdout
    assert flags(usage) == {*OF_START, "--cpu", "--dry-run"}
    said = commands(dry("box.sh", "run", *given))
    by_word = {word: words for words in said for word in words}
    check_papermill(by_word["lab00.ipynb"])
    trained = by_word["lab00.ipynb"]
    given = {name: trained[i + 2] for i, (p, name) in enumerate(pairwise(trained)) if p == "-p"}
    assert (given["cap_usd"], given["billed_since"], given["shape"]) == ("20", "1790000000", "12m")
    # The lab starts the watchdog beside a run that costs money, and this is how it is told.
    assert ["export", "X1_TERMINATE=runpod"] in said
    assert '"X1_TERMINATE"' in (ROOT / "x1lib" / "launch" / "companions.py").read_text()
    assert [words[2] for words in said if words[1].endswith("bucket.py")] == ["restore", "follow"]
    for name in ("runpod", "lambda"):
        assert name in TEMPLATES and f"--terminate {name}" in PAGE
    (setup,) = commands(dry("box.sh", "setup"))
    assert setup[:2] == ["make", "setup"] and re.search(
        r"^setup:", (ROOT / "Makefile").read_text(), re.M
    )


def test_the_sweep_on_the_machine_is_what_its_parser_knows():
    given = "--lab lab01 --hours 2 --usd-per-hour 0.5 --source T --cap-usd 20 --billed-since 17"
    given += " --param seeds=2 --param batch_tokens=512 --when-done runpod"
    (words,) = [one for one in commands(dry("box.sh", "run", *given.split())) if "-m" in one[5:]]
    assert words[:4] == ["timeout", "--signal=TERM", "--kill-after=300", "9000"]  # half an hour on
    check_module(words[4:])
    for pair in ("--hours 2", "--usd-per-hour 0.5", "--cap-usd 20", "--seeds 2"):
        assert pair in " ".join(words)
    assert "--batch-tokens 512" in " ".join(words) and words[7] == "run"


@pytest.mark.long
def test_a_sweep_on_the_machine_is_stopped_goes_on_and_comes_home(tmp_path, text):
    """The real sweep by box.sh, and rsync between two folders for the way home."""
    if not shutil.which("rsync"):
        pytest.skip("rsync is not installed, so no sweep came home")
    there, home, tools = (tmp_path / name for name in ("there/x1", "home", "bin"))
    for project in (there, home):
        shutil.copytree(CLOUD, project / CLOUD.relative_to(ROOT))
    shutil.copytree(ROOT / "x1lib", there / "x1lib")
    python = tmp_path / "x1-venv" / "bin" / "python"
    for path, body in (
        (python, f'exec {sys.executable} "$@"'),
        (tools / "ssh", f'shift; cd {tmp_path}; export HOME={tmp_path}; exec bash -c "$*"'),
        (tools / "runpodctl", "true"),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/bash\n{body}\n")
        path.chmod(0o755)
    env = os.environ | {"HOME": str(tmp_path), "PATH": f"{tools}:{os.environ['PATH']}"}
    env |= {"PYTHONPATH": str(there), "X1_DATA": str(tmp_path / "data"), "RUNPOD_POD_ID": "pod1"}
    box = there / CLOUD.relative_to(ROOT) / "box.sh"
    lab, design = (one / CLOUD.parent.relative_to(ROOT) for one in (there, home))
    start = f"run --lab lab01 --cpu --hours 0.1 --usd-per-hour 0.5 --source {text}"
    for one in (
        "sizes=2x32:2/1:96,2x64:4/2:192,2x96:6/3:288,2x128:8/4:384",
        "seeds=1",
        "branches=8192,16384",
        "seq_len=64",
    ):
        start += f" --param {one}"
    start += f" --billed-since {int(time.time())}"
    start += " --param batch_tokens=512 --param jobs=1 --param final_eval_tokens=2048"
    runs = lab / "scaling-law" / "runs"
    work = subprocess.Popen(["bash", box, *start.split()], env=env, cwd=there)
    until = time.monotonic() + 300
    while not list(runs.glob("*/metrics.jsonl")):
        assert work.poll() is None and time.monotonic() < until
        time.sleep(0.1)
    again = call("bash", box, *start.split(), env=env, cwd=there)
    assert again.returncode == 2 and "being run already" in again.stderr
    call("bash", box, "stop", env=env, cwd=there)
    assert work.wait(60) != 0 and not (there / "papermill_runs" / ".sweep.pid").exists()
    assert not (lab / "scaling-law" / "fit.json").exists()
    done = call("bash", box, *start.split(), env=env, cwd=there)
    assert done.returncode == 0, done.stdout + done.stderr
    points = (lab / "scaling-law" / "points.csv").read_text()
    assert points.count("finished") == 8
    other = design / "scaling-law"
    other.mkdir()
    (other / "design.json").write_text('{\n "run_id": "a rehearsal"\n}\n')
    script = [home / CLOUD.relative_to(ROOT) / "runpod.sh", "--base", tmp_path / "there"]
    (there.parent / "rsync").write_text("")  # the machine's side of rsync is a folder here
    local = tools / "rsync"
    local.write_text(f'#!/bin/bash\nexec {shutil.which("rsync")} "${{@//x1:/}}"\n')
    local.chmod(0o755)
    done = call("bash", *script, "end", "--yes", "pod1", env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (other / "points.csv").read_text() == points
    assert "a rehearsal" in (design / "scaling-law-before-1" / "design.json").read_text()
    assert (design / "ledger.jsonl").read_bytes() == (lab / "ledger.jsonl").read_bytes()
    assert 0 < Ledger(design / "ledger.jsonl").spent_usd < 0.5


@pytest.mark.parametrize("option", ["--terminate", "--when-done"])
def test_a_machine_that_could_not_be_ended_is_not_started_on(tmp_path, option):
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    env = os.environ | {"X1_VENV": str(tmp_path), "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}
    arguments = ["run", "--cpu", "--hours", "1", "--usd-per-hour", "1", option, "no-such-command 1"]
    done = call("bash", CLOUD / "box.sh", *arguments, env=env)
    assert done.returncode == 2 and "no-such-command" in done.stderr
    assert "nothing was started" in done.stderr and "papermill" not in done.stdout


@pytest.fixture
def network(tmp_path):
    """Programs that note how they were called and what they read, and do nothing else."""
    folder, log = tmp_path / "bin", tmp_path / "calls.jsonl"
    folder.mkdir()
    note = f"""#!{sys.executable}
import json, sys
words = [sys.argv[0].split("/")[-1], *sys.argv[1:], sys.stdin.read()]
print(json.dumps(words), file=open({str(log)!r}, "a"))
"""
    for name in ("ssh", "rsync", "curl", "runpodctl", "tmux"):
        (folder / name).write_text(note)
        (folder / name).chmod(0o755)
    env = os.environ | {"PATH": f"{folder}:{os.environ['PATH']}", "LAMBDA_API_KEY": KEY}

    def calls():
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    return env, calls


@pytest.mark.parametrize("script", ["runpod.sh", "lambda.sh"])
def test_a_dry_run_does_nothing_and_says_all(script, network, tmp_path):
    env, calls = network
    clone = tmp_path / "clone"
    shutil.copytree(CLOUD, clone / CLOUD.relative_to(ROOT))
    call("git", "init", "-q", "-b", "main", clone)
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    call("git", "-C", clone, "add", ".")
    call("git", "-C", clone, *identity, "commit", "-q", "-m", "one")
    (clone / CLOUD.relative_to(ROOT).parent / "ledger.jsonl").write_text("{}\n")
    path = clone / CLOUD.relative_to(ROOT) / script
    for action in ACTIONS["home"]:
        if action.split()[0] in ("end", "options"):
            continue  # ends with a comparison: tried for real below
        before = call("bash", path, "--dry-run", *action.split(), env=env).stdout
        assert calls() == [], f"--dry-run {action} did something"
        done = call("bash", path, *action.split(), env=env)
        assert done.returncode == 0, done.stdout + done.stderr
        real = [one[:-1] for one in calls()]
        Path(tmp_path / "calls.jsonl").unlink()
        said = [words for words in commands(before) if words[0] not in ("git", "mkdir", "rm")]
        assert real == said, action
        assert KEY not in json.dumps(real) + before + done.stdout + done.stderr


def test_a_key_goes_through_a_pipe_only(network):
    env, calls = network
    for action in ("off", "key i-1"):
        done = call("bash", CLOUD / "lambda.sh", *action.split(), env=env)
        assert done.returncode == 0 and KEY not in done.stdout + done.stderr
    *asked, (sent) = calls()
    assert all(KEY not in json.dumps(one[:-1]) for one in [*asked, sent])
    assert asked and all(f"Bearer {KEY}" in one[-1] for one in asked)
    assert sent[0] == "ssh" and "umask 077" in sent[2] and f"LAMBDA_API_KEY={KEY}" in sent[-1]


def test_what_did_not_come_home_whole_is_not_terminated(network):
    """The comparison reads both sides again; one name that it prints is one file that differs."""
    env, calls = network
    differs = Path(env["PATH"].split(":")[0]) / "rsync"
    plain = differs.read_text()
    project = Path(env["PATH"].split(":")[0]).parent / "home"
    shutil.copytree(CLOUD, project / CLOUD.relative_to(ROOT))
    results = project / CLOUD.parent.relative_to(ROOT) / "run-cloud"
    results.mkdir()
    (results / "manifest.json").write_text("{}")
    script = project / CLOUD.relative_to(ROOT) / "runpod.sh"
    for line, ends in (("print('metrics.jsonl')", False), ("", True)):
        differs.write_text(plain + f"if '-anc' in words: {line or 'pass'}\n")
        done = call("bash", script, "end", "--yes", "abc123", env=env)
        called = [words[:-1] for words in calls() if words[0] == "runpodctl"]
        assert (done.returncode == 0) == ends and ("metrics.jsonl" in done.stderr) != ends
        assert (["runpodctl", "pod", "delete", "abc123"] in called) == ends
    (results / "manifest.json").unlink()
    done = call("bash", script, "end", "--yes", "abc124", env=env)
    assert done.returncode == 2 and "manifest.json" in done.stderr


def test_only_one_machine_has_the_account(network, tmp_path):
    """What a copy of the ledger on each of two machines would allow, the marker at home refuses."""
    env, calls = network
    project = tmp_path / "home"
    lab = project / CLOUD.parent.relative_to(ROOT)
    shutil.copytree(CLOUD, project / CLOUD.relative_to(ROOT))
    (lab / "run-cloud").mkdir()
    (lab / "run-cloud" / "manifest.json").write_text("{}")
    (lab / "ledger.jsonl").write_text("one\n")
    call("git", "init", "-q", "-b", "main", project)
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    call("git", "-C", project, "add", ".")
    call("git", "-C", project, *identity, "commit", "-q", "-m", "one")

    def do(*words, script="runpod.sh"):
        return call("bash", project / CLOUD.relative_to(ROOT) / script, *words, env=env)

    start = ["start", "--hours", "1", "--usd-per-hour", "0.5"]
    assert do("--dry-run", "push").returncode == 0 and not (lab / "ledger.away").exists()
    assert do("push").returncode == 0
    assert (lab / "ledger.away").read_text().startswith("x1 since 20")
    assert do("push").returncode == 0 and do(*start).returncode == 0  # again, the same machine
    before = len(calls())
    for words in (["push"], start, ["--dry-run", "push"]):
        done = do("--host", "x2", *words)
        assert done.returncode == 2 and len(calls()) == before, words
        assert "machine x1 has the account (since 20" in done.stderr
        assert "--host x1 end" in done.stderr and "rm experiments" in done.stderr
    assert do("end", "--yes", "abc123").returncode == 0
    asked = [words[-2] for words in calls() if words[0] == "ssh" and "box.sh" in words[-2]]
    assert asked[-1].endswith("box.sh last")  # its last hours, before it is gone
    assert not (lab / "ledger.away").exists()
    assert do("--host", "x2", "push").returncode == 0
    (lab / "ledger.away").unlink()  # the way out that the message names
    assert do("push").returncode == 0


def test_idle_hours_come_home_in_the_ledger(tmp_path):
    """An hour after the last process: `meter` adds it, `last` three minutes more, each once."""
    project = tmp_path / "x1"
    lab = project / CLOUD.parent.relative_to(ROOT)
    shutil.copytree(CLOUD, project / CLOUD.relative_to(ROOT))
    python = tmp_path / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    box = project / CLOUD.relative_to(ROOT) / "box.sh"
    env = os.environ | {"X1_VENV": str(tmp_path / "venv"), "PYTHONPATH": str(ROOT)}

    def do(action):
        done = call("bash", box, action, env=env | {"HOME": str(tmp_path)})
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert do("meter") == ""  # no ledger, nothing to count
    path, here = lab / "ledger.jsonl", this_machine()
    ago = Machine(here.name, here.host, here.seconds() - 3600, seconds=lambda: ago.began_seconds)
    Purse(Ledger(path), 2.0, "run", machine=ago).settle("finished")
    assert Ledger(path).spent_usd < 1e-5
    for action, usd in (("meter", 2.0), ("meter", 2.0), ("last", 2.1), ("last", 2.1)):
        said = do(action)
        assert "US dollars more for this machine" in said
        assert Ledger(path).spent_usd == pytest.approx(usd, abs=0.02)


def test_no_key_stands_in_a_tracked_file():
    text = "".join(path.read_text() for path in CLOUD.iterdir() if path.is_file())
    assert not re.search(r"(?:sk-|rpa_|secret_)[A-Za-z0-9]{12,}", text)


@pytest.mark.parametrize(
    ("came", "here", "left"),
    [("a\nb\n", None, "a\nb\n"), ("a\nb\n", "a\n", "a\nb\n"), ("a\n", "a\nb\n", "a\nb\n")]
    + [("a\nc\n", "a\nb\n", None)],
)
def test_two_ledgers_become_the_longer_one_or_stay_two(tmp_path, came, here, left):
    paths = tmp_path / "came", tmp_path / "here"
    paths[0].write_text(came)
    if here is not None:
        paths[1].write_text(here)
    done = call("bash", "-c", f". {CLOUD}/common.sh; take_ledger {paths[0]} {paths[1]}")
    assert (done.returncode == 0) == (left is not None)
    if left is None:
        assert "two stories" in done.stderr and paths[0].read_text() == came
    assert paths[1].read_text() == (left or here)


# The bucket

TINY = ["--shape", "1x64", "--tokenizer", "bpe4096", "--seq-len", "32", "--batch-tokens", "256"]
TINY += ["--compile", "off", "--sample-tokens", "0", "--threads", "1", "--eval-tokens", "256"]
TINY += ["--checkpoint-every", "5", "--steps", "60", "--dtype", "float32"]
# What a bucket is not asked for, refused from inside; argv[1:] is bucket.py's own command line.
STRICT = f"""
import os, runpy, sys
bucket = os.path.realpath(sys.argv[3])
def watch(event, arguments):
    paths = [str(one) for one in arguments if isinstance(one, (str, os.PathLike))]
    inside = any(os.path.realpath(path).startswith(bucket) for path in paths)
    if inside and event in ("os.rename", "os.link", "os.symlink", "os.truncate", "os.chmod"):
        os.write(2, f"asked of a bucket: {{event}}".encode()); os._exit(99)
    if inside and event == "open" and arguments[1] and set(arguments[1]) & set("aw+"):
        os.write(2, f"asked of a bucket: open {{arguments[1]}}".encode()); os._exit(99)
sys.addaudithook(watch)
sys.argv = sys.argv[1:]
sys.argv.insert(0, {str(BUCKET)!r})
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def strictly(action, run, folder, *more):
    return call(sys.executable, "-c", STRICT, action, run, folder, *more, cwd=ROOT)


@pytest.fixture
def bucket(capsys):
    """bucket.py's command line, in this process: torch is imported already."""
    spec = importlib.util.spec_from_file_location("bucket", BUCKET)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def do(*words):
        code = module.main([str(one) for one in words])
        said = capsys.readouterr()
        return SimpleNamespace(returncode=code, stdout=said.out, stderr=said.err)

    return do


def steps_in(folder):
    """Steps of the copies in a bucket; one that is being written counts when it is whole."""
    steps = set()
    for path in folder.glob("copies/*.json"):
        with contextlib.suppress(ValueError, FileNotFoundError):
            steps.add(json.loads(path.read_text())["content"]["step"])
    return steps


def train(run, text):
    run.parent.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "x1lib.train", *TINY, "--source", text, "--out", run]
    return subprocess.Popen(
        [str(one) for one in command], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT
    )


def follow(run, folder):
    command = [sys.executable, "-c", STRICT, "follow", run, folder, "--seconds", "1"]
    return subprocess.Popen([str(one) for one in command], cwd=ROOT)


@contextlib.contextmanager
def ended(process):
    """Kill a process at the end: it is not asked, and it saves nothing."""
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def losses(run):
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return {line["step"]: line["loss"] for line in lines if "loss" in line and "step" in line}


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    return write_jsonl(tmp_path_factory.mktemp("text") / "small.jsonl", 300)


@pytest.fixture(scope="module")
def whole(text, tmp_path_factory):
    """The run that nothing disturbs."""
    run = tmp_path_factory.mktemp("whole") / "run"
    assert train(run, text).wait(timeout=300) == 0
    return run


@pytest.fixture
def copied(bucket, whole, tmp_path):
    """A finished run's bucket of two copies: at an earlier checkpoint, and at the last."""
    run, folder = tmp_path / "m1" / "run", tmp_path / "bucket"
    shutil.copytree(whole, run)
    (newest, before) = sorted((run / "state").glob("step-*"), reverse=True)
    newest.rename(tmp_path / "later")
    assert bucket("save", run, folder).returncode == 0
    (tmp_path / "later").rename(newest)
    assert bucket("save", run, folder).returncode == 0
    return run, folder, int(before.name[5:]), int(newest.name[5:])


def test_a_run_whose_machine_is_taken_goes_on_from_the_bucket_to_the_same_bits(
    whole, text, tmp_path
):
    folder, runs = tmp_path / "bucket", [tmp_path / f"m{i}" / "run" for i in range(3)]
    for taken_at, run in zip((15, 35), runs[:2], strict=True):
        done = strictly("restore", run, folder)
        assert done.returncode == 0, done.stderr
        with ended(train(run, text)) as trainer, ended(follow(run, folder)) as follower:
            until = time.monotonic() + 120
            while not any(step >= taken_at for step in checkpoint.list_steps(run / "state")):
                assert trainer.poll() is None and follower.poll() is None
                assert time.monotonic() < until
                time.sleep(0.02)
            os.kill(trainer.pid, signal.SIGSTOP)  # what a bucket holds depends on no race
            held = max(checkpoint.list_steps(run / "state"))
            while held not in steps_in(folder):
                assert follower.poll() is None and time.monotonic() < until
                time.sleep(0.05)
        shutil.rmtree(run)  # and the disk goes with the machine
    done = strictly("restore", runs[2], folder)
    assert done.returncode == 0 and "is back: the run at step" in done.stdout
    assert json.loads((runs[2] / "heartbeat.json").read_text())["elapsed_seconds"] > 0
    assert train(runs[2], text).wait(timeout=300) == 0
    assert losses(runs[2]) == losses(whole)
    names = ("model.safetensors", "config.json")
    for name in names:
        assert (runs[2] / "checkpoint" / name).read_bytes() == (
            whole / "checkpoint" / name
        ).read_bytes()


def test_a_copy_that_was_cut_short_is_none(bucket, copied, tmp_path):
    _, folder, before, _ = copied
    newest = max(folder.glob("copies/*.json"))
    newest.write_bytes(newest.read_bytes()[:-40])
    done = bucket("restore", tmp_path / "m2" / "run", folder)
    assert done.returncode == 0 and f"is back: the run at step {before}" in done.stdout
    assert "passed over" in done.stdout


def test_a_flipped_byte_is_found_and_the_copy_before_it_used(bucket, copied, tmp_path):
    _, folder, before, last = copied
    entries = json.loads(max(folder.glob("copies/*.json")).read_text())["content"]["files"]
    name = next(one for one in entries if f"{last:08d}/model" in one)
    path = folder / "files" / entries[name]["sha256"]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    done = bucket("restore", tmp_path / "m2" / "run", folder)
    assert done.returncode == 0 and f"is back: the run at step {before}" in done.stdout


def test_a_bucket_without_a_whole_copy_is_refused_and_no_run_begins_anew(bucket, copied, tmp_path):
    _, folder, *_ = copied
    for path in folder.glob("files/*"):
        path.write_bytes(b"")
    done = bucket("restore", tmp_path / "m2" / "run", folder)
    assert done.returncode == 2 and "BucketError: no copy" in done.stderr
    assert not (tmp_path / "m2" / "run").exists() and list((tmp_path / "m2").iterdir()) == []


def test_only_two_checkpoints_stay_in_the_bucket_and_nothing_that_no_list_names(bucket, copied):
    run, folder, before, last = copied
    for i in range(3):
        (run / "heartbeat.json").write_text(json.dumps({"elapsed_seconds": i}))
        assert bucket("save", run, folder).returncode == 0
    contents = [json.loads(one.read_text())["content"] for one in folder.glob("copies/*.json")]
    assert {one["step"] for one in contents} == {before, last} and len(contents) == 2
    named = {record["sha256"] for one in contents for record in one["files"].values()}
    assert {one.name for one in folder.glob("files/*")} == named


def test_a_disk_that_is_ahead_is_left_alone_and_one_behind_is_kept_aside(bucket, copied, tmp_path):
    run, folder, _, last = copied
    assert "already" in bucket("restore", run, folder).stdout
    shutil.rmtree(run / "state" / f"step-{last:08d}")
    assert "is back" in bucket("restore", run, folder).stdout
    assert (run / "state" / f"step-{last:08d}").exists()
    assert (run.parent / "run-before-1" / "manifest.json").exists()


def test_two_machines_on_one_bucket_are_noticed(bucket, copied, tmp_path):
    run, folder, *_ = copied
    follower = subprocess.Popen(
        [sys.executable, BUCKET, "follow", run, folder, "--seconds", "0.2"],
        cwd=ROOT, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    copies = len(list(folder.glob("copies/*.json")))
    until = time.monotonic() + 60
    newest = max(folder.glob("copies/*.json"))
    while max(folder.glob("copies/*.json")) == newest:
        assert time.monotonic() < until and follower.poll() is None, copies
        time.sleep(0.05)
    other = int(max(folder.glob("copies/*.json")).stem) + 5
    (folder / "copies" / f"{other:08d}.json").write_text("{}")
    (run / "manifest.json").write_text("{}")
    follower.wait(timeout=60)
    assert follower.returncode == 2 and "another machine" in follower.stderr.read()


def test_the_ledger_travels_and_one_that_parted_is_added(bucket, copied, tmp_path):
    run, folder, *_ = copied
    (run.parent / "ledger.jsonl").unlink(missing_ok=True)
    spend(run.parent / "ledger.jsonl", "cloud", 4.0)
    assert bucket("save", run, folder).returncode == 0
    home = tmp_path / "m2" / "ledger.jsonl"
    home.parent.mkdir()
    home.write_text("neither a ledger\nnor the beginning of one\n")
    done = bucket("restore", home.parent / "run", folder)
    assert done.returncode == 2 and "LedgerDamaged" in done.stderr
    assert not (home.parent / "run").exists()
    home.unlink()
    spend(home, "home", 30.0)
    done = bucket("restore", home.parent / "run", folder)
    assert done.returncode == 0 and "4.00 US dollars of it were added" in done.stdout
    assert Ledger(home).spent_usd == pytest.approx(34.0)
    spend(run.parent / "ledger.jsonl", "cloud again", 2.0)  # and no step further
    assert bucket("save", run, folder).returncode == 0
    done = bucket("restore", home.parent / "run", folder)
    assert "already" in done.stdout and Ledger(home).spent_usd == pytest.approx(36.0)
    home.write_bytes((run.parent / "ledger.jsonl").read_bytes().splitlines(keepends=True)[0])
    bucket("restore", home.parent / "run", folder)  # its beginning: the longer one stays
    assert home.read_bytes() == (run.parent / "ledger.jsonl").read_bytes()


def test_nothing_is_put_under_a_trainer_at_work(bucket, copied, tmp_path):
    run, folder, *_ = copied
    shutil.rmtree(run / "state")
    with open(run / "lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = bucket("restore", run, folder)
    assert done.returncode == 2 and "a trainer is at work" in done.stderr


def test_the_watch_over_the_bucket_would_notice(tmp_path):
    """The audit hook that the tests above run under is not blind."""
    probe = STRICT.replace("runpy.run_path", "os.rename(sys.argv[3] + '/a', 'b'); runpy.run_path")
    (tmp_path / "a").touch()
    done = call(sys.executable, "-c", probe, "save", tmp_path, tmp_path, cwd=ROOT)
    assert done.returncode == 99 and "os.rename" in done.stderr


# SkyPilot


def sky_task():
    return yaml.safe_load(SKY.read_text())


def test_the_task_trains_on_a_disk_and_ends_itself():
    task = sky_task()
    mounts = task["file_mounts"]
    ((mount, store),) = [one for one in mounts.items() if isinstance(one[1], dict)]
    sent = {Path(to).name: there for to, there in mounts.items() if isinstance(there, str)}
    lab = CLOUD.parent.relative_to(ROOT)
    assert sent == {name: str(lab / name) for name in ("ledger.jsonl", "ledger.away")}
    assert store["mode"] == "MOUNT" and store["name"] == "${X1_BUCKET}"
    assert task["resources"]["use_spot"] and task["resources"]["autostop"]["down"]
    assert task["resources"]["job_recovery"]["max_restarts_on_errors"] == 0
    price, hours = task["envs"]["X1_USD_PER_HOUR"], task["envs"]["X1_HOURS"]
    assert task["resources"]["max_hourly_cost"] == price
    # It is admitted under the cap, a relaunch and lab00's ladder included, and nothing dearer is.
    plan = Plan("x1", hours, restart_hours=RESTART_SHARE * hours, after_hours=1.5 / 60)
    assert plan.usd(price) <= 50 < plan.usd(price + 0.01)
    line = task["run"].replace("\\\n", " ").splitlines()[-1]
    words = shlex.split(re.sub(r"\$\w+", "1", line))
    assert words[1] == str((CLOUD / "box.sh").relative_to(ROOT)) and words[2] == "run"
    said = commands(dry("box.sh", *words[2:]))
    (follow,) = [one for one in said if "follow" in one]
    assert follow[-1].startswith(f"{mount}/") and not follow[-2].startswith(mount)
    assert "box.sh setup" in task["setup"]
    for name in re.findall(r"\$\{?(X1_\w+)", SKY.read_text()):
        assert name in task["envs"]


def spend(path, run_id, usd):
    ledger = Ledger(path)
    ledger.settle(ledger.reserve(usd, run_id, run_id), usd)


def test_a_job_takes_the_account_along_and_brings_it_home(tmp_path):
    """The task's own last lines, on a machine of its own, between `launch` and `home`."""
    home, box = (tmp_path / name / CLOUD.parent.relative_to(ROOT) for name in ("home", "box"))
    for lab in (home, box):
        shutil.copytree(CLOUD, lab / "cloud")
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "sky").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n')
    (tools / "sky").chmod(0o755)
    env = os.environ | {"PATH": f"{tools}:{os.environ['PATH']}", "PYTHON": sys.executable}
    env |= {"PYTHONPATH": str(ROOT), "HOME": str(tmp_path), "X1_BUCKET": "mine-1"}

    def do(*words, script="sky.sh"):
        return call("bash", home / "cloud" / script, *words, env=env)

    assert do("--dry-run", "launch", "mine-1").returncode == 0
    assert not (home / "ledger.away").exists() and not (tmp_path / "calls").exists()
    spend(home / "ledger.jsonl", "home", 30.0)
    assert do("launch", "mine-1", "--env", "X1_HOURS=2").returncode == 0
    asked = (tmp_path / "calls").read_text()
    assert asked.startswith("jobs launch -n x1 ") and "--env X1_BUCKET=mine-1" in asked
    assert (home / "ledger.away").read_text().startswith("sky-mine-1 since 20")
    for words, script in ((["launch", "mine-2"], "sky.sh"), (["push"], "runpod.sh")):
        done = do(*words, script=script)
        assert done.returncode == 2 and "'sky.sh home mine-1 FOLDER'" in done.stderr
    # On the job's machine: what the task does before it trains.
    sent = tmp_path / "x1-home"  # in the home folder there
    sent.mkdir()
    first = sky_task()["run"].partition("source=$X1_SOURCE")[0]
    began = ["bash", "-c", first]
    assert call(*began, cwd=tmp_path / "box", env=env).returncode == 2  # nothing was sent
    for name in ("ledger.jsonl", "ledger.away"):
        shutil.copy(home / name, sent)
    other = call(*began, cwd=tmp_path / "box", env=env | {"X1_BUCKET": "mine-2"})
    assert other.returncode == 2 and "was not given to this job" in other.stderr
    done = call(*began, cwd=tmp_path / "box", env=env)
    assert done.returncode == 0, done.stderr
    assert Ledger(box / "ledger.jsonl").spent_usd == 30.0
    spend(box / "ledger.jsonl", "cloud", 5.0)
    (box / "run-cloud").mkdir()
    (box / "run-cloud" / "manifest.json").write_text("{}")
    copy = tmp_path / "copy"
    call(sys.executable, BUCKET, "save", box / "run-cloud", copy, env=env)
    assert do("home", "mine-2", copy).returncode == 2
    done = do("home", "mine-1", copy)
    assert done.returncode == 0, done.stderr
    assert Ledger(home / "ledger.jsonl").spent_usd == 35.0
    assert not (home / "ledger.away").exists() and (home / "run-cloud/manifest.json").exists()


def test_a_ledger_that_was_billed_to_at_home_meanwhile_is_added_up(tmp_path):
    lab = tmp_path / CLOUD.parent.relative_to(ROOT)
    shutil.copytree(CLOUD, lab / "cloud")
    (tmp_path / "build" / "fetched").mkdir(parents=True)
    spend(lab / "ledger.jsonl", "home", 3.0)
    spend(tmp_path / "build" / "fetched" / "ledger.jsonl", "cloud", 5.0)
    lines = f"""set -eu; provider=p provider_actions=a default_base=b; . {lab}/cloud/home.sh
    project={tmp_path} host=true base=b; run() {{ case $1 in ssh | rsync) ;; *) "$@" ;; esac; }}
    fetch_ledger meter; fetch_ledger meter"""
    env = os.environ | {"PYTHON": sys.executable, "PYTHONPATH": str(ROOT)}
    done = call("bash", "-c", lines, env=env)
    assert done.returncode == 0 and "5.00 US dollars of" in done.stdout, done.stderr
    assert Ledger(lab / "ledger.jsonl").spent_usd == pytest.approx(8.0)


def test_sky_itself_accepts_the_task_and_refuses_a_typo(tmp_path):
    python = os.environ.get(SKY_PYTHON)
    if not python:
        pytest.skip(
            f"{SKY_PYTHON} names no Python with SkyPilot, so sky.yaml was checked for its structure"
            " and NOT against SkyPilot's schema"
        )
    check = (
        "import sys, yaml, sky\n"
        "task = sky.Task.from_yaml_config(yaml.safe_load(open(sys.argv[1])),"
        " env_overrides=[('X1_BUCKET', 'a-bucket-of-mine')])\n"
        "print(sorted(map(str, task.resources)), sorted(task.storage_mounts), sky.__version__)\n"
    )
    env = os.environ | {"HOME": str(tmp_path), "SKYPILOT_DISABLE_USAGE_COLLECTION": "1"}
    env.pop("PYTHONPATH", None)
    lab = tmp_path / CLOUD.parent.relative_to(ROOT)
    lab.mkdir(parents=True)
    (lab / "ledger.jsonl").touch()
    (lab / "ledger.away").touch()
    done = call(python, "-c", check, SKY, env=env, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("[Spot]") == 2 and "/x1-bucket" in done.stdout
    for right, wrong in (("use_spot", "use_spott"), ("mode: MOUNT", "mode: MUONT")):
        planted = tmp_path / "wrong.yaml"
        planted.write_text(SKY.read_text().replace(right, wrong))
        done = call(python, "-c", check, planted, env=env, cwd=tmp_path)
        assert done.returncode != 0 and wrong.split()[-1] in done.stderr, done.stderr[-2000:]


# All of it, on one computer that stands for both


@pytest.mark.long
def test_from_home_to_the_machine_and_back(tmp_path, text):
    """Send, start in tmux, fetch, compare, terminate, with the real rsync, tmux and papermill."""
    for tool in ("rsync", "tmux", "git"):
        if not shutil.which(tool):
            pytest.skip(f"{tool} is not installed, so nobody went to the machine and back")
    box, tools, home = tmp_path / "box", tmp_path / "bin", tmp_path / "home"
    for folder in (box, tools):
        folder.mkdir()
    venv = box / "x1-venv" / "bin"
    venv.mkdir(parents=True)
    for name in ("python", "papermill"):
        (venv / name).write_text(f'#!/bin/sh\nexec {Path(sys.executable).parent / name} "$@"\n')
        (venv / name).chmod(0o755)
    ended = tmp_path / "ended"
    fakes = {
        "ssh": f'while [ "${{1#-}}" != "$1" ]; do shift; done; shift; cd {box}; export HOME={box};'
        ' export RUNPOD_POD_ID=pod1; exec bash -c "$*"',
        "runpodctl": f'echo "$@" >> {ended}',
    }
    for name, body in fakes.items():
        (tools / name).write_text(f"#!/bin/bash\n{body}\n")
        (tools / name).chmod(0o755)
    call("git", "clone", "-q", ROOT, home)
    shutil.copytree(CLOUD, home / CLOUD.relative_to(ROOT), dirs_exist_ok=True)
    shutil.copytree(ROOT / "x1lib", home / "x1lib", dirs_exist_ok=True)
    call("git", "-C", home, "add", "-A")
    call("git", "-C", home, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "now")
    env = os.environ | {"PATH": f"{tools}:{os.environ['PATH']}", "TMUX_TMPDIR": str(tmp_path)}
    env |= {"X1_DATA": str(box / "data"), "X1_MLFLOW": "off"}
    env["PYTHONPATH"] = str(box / "volume" / "x1")  # what `setup` installs from
    script = [home / CLOUD.relative_to(ROOT) / "runpod.sh", "--base", box / "volume"]
    start = (
        "start --cpu --hours 0.02 --usd-per-hour 0.5 --param ladder_minutes=0 --param shape=1x64"
    )
    start += " --param tokenizer=bpe4096 --param compile=off --source ../text/small.jsonl"

    def do(*words, **more):
        done = call("bash", *script, *words, env=env, cwd=tmp_path, **more)
        print(done.stdout, done.stderr)
        return done

    try:
        for _ in range(2):  # again after a lost connection
            assert do("push", text).returncode == 0
        assert do(*start.split()).returncode == 0
        results = CLOUD.parent.relative_to(ROOT) / "run-cloud"
        until = time.monotonic() + 400
        manifest = box / "volume" / "x1" / results / "manifest.json"
        again = False
        while not (manifest.exists() and json.loads(manifest.read_text())["status"] == "finished"):
            log = box / "volume" / "x1" / "papermill_runs" / "lab00-cloud.log"
            assert time.monotonic() < until, log.read_text()
            if manifest.exists() and not again:
                again = do(*start.split())
                assert again.returncode == 2 and "at work" in again.stderr
            time.sleep(1)
        assert again and do("status").returncode == 0
        done = do("end", "--yes", "pod1")
        assert done.returncode == 0, done.stdout + done.stderr
        log = (there := manifest.parent) / "watchdog.log"
        assert "watching process" in log.read_text(), "the lab started no watchdog"
        assert ended.read_text().split() == ["pod", "delete", "pod1"]
        here = home / results
        for name in ("metrics.jsonl", "manifest.json", "checkpoint/model.safetensors"):
            assert (here / name).read_bytes() == (there / name).read_bytes()
        assert not (here / "state").exists()
        lab = home / CLOUD.parent.relative_to(ROOT)
        assert "3 minutes for its end included" in done.stdout
        ours, theirs = (one / "ledger.jsonl" for one in (lab, there.parent))
        assert ours.read_bytes() == theirs.read_bytes()  # to the machine's last line
        assert Ledger(ours).spent_usd > json.loads(manifest.read_text())["usd"] + 0.5 * 180 / 3600
        assert not (lab / "ledger.away").exists()
        ended.unlink()
        assert do("end", "--yes", "other").returncode == 2 and not ended.exists()
    finally:
        call("tmux", "kill-server", env=env)
