"""A real run's manifest keeps to its schema, and no secret stands in anything that a run leaves."""

import copy
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tomllib
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from data_folders import write_jsonl

from x1lib import settings, tracking
from x1lib.runtime import hardware
from x1lib.tracking import mirror, secrets
from x1lib.tracking.manifest import checking
from x1lib.tracking.manifest.checking import ManifestError, manifest_faults
from x1lib.train import Config

pytest.importorskip("jsonschema", reason="the extra `lab` is not installed")
ROOT = Path(__file__).resolve().parent.parent

SECRETS = {
    "environment": "planted-in-the-environment-1",
    "address": "planted+in/an address2",  # as one would have to quote it
    "parameter": "planted-in-a-parameter-3",
    "remote": "planted-in-a-git-remote-4",
    "source": "hf_plantedInThePathOfTheSource5",
}
QUOTED = "planted%2Bin%2Fan%20address2"
# Starts a run whose mlflow is down, then, with the run finished, its mirror into sqlite.
LIFE = """
import json, os, pathlib, sys, time
from x1lib import launch
from x1lib.launch import starting
from x1lib.train import Config

config = Config(**json.loads(sys.argv[1]))
run = launch.start(config)
launch.follow(run)
log = run.folder / "mirror.log"
while "did not take the metrics" not in log.read_text():
    time.sleep(0.1)
child = next(child for pid, child in starting._children.items() if pid != run.pid)
child.kill()
child.wait()
del os.environ["MLFLOW_TRACKING_URI"]
again = launch.start(config)
assert again.how == "finished", again
*_, mirror = starting._children.values()
sys.exit(mirror.wait(400))
"""


def git(folder, *arguments):
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True)


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> Path:
    """The folder of a small real run, started by launch, with secrets wherever they can be."""
    pytest.importorskip("mlflow", reason="the extra `lab` is not installed")
    base = tmp_path_factory.mktemp("planted")
    shutil.copytree(ROOT / "x1lib", base / "x1lib", ignore=shutil.ignore_patterns("__pycache__"))
    git(base, "init", "-q")
    git(base, "remote", "add", "origin", f"https://ada:{SECRETS['remote']}@example.org/x1.git")
    git(base, "add", "x1lib")
    git(base, "commit", "-qm", "one")
    text = base / SECRETS["source"] / "small.jsonl"
    text.parent.mkdir()
    write_jsonl(text, 300)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]  # of no server, once this one is closed
    uri = f"http://ada:{QUOTED}@127.0.0.1:{port}/?token={SECRETS['parameter']}"
    config = {
        "out": str(base / "runs" / "run"), "shape": "1x64", "tokenizer": "bpe4096", "seq_len": 32,
        "batch_tokens": 256, "dtype": "float32", "compile": "off", "eval_tokens": 256,
        "sample_tokens": 2, "steps": 40, "source": str(text),
    }  # fmt: skip
    environment = {name: value for name, value in os.environ.items() if name != "X1_MLFLOW"} | {
        "PYTHONPATH": str(base),
        "X1_SERVICE_TOKEN": SECRETS["environment"],
        "X1_PROXY": f"https://{SECRETS['environment']}@example.org",
        "HF_TOKEN": SECRETS["source"],
        "MLFLOW_TRACKING_URI": uri,
    }
    (base / "runs").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", LIFE, json.dumps(config)],
        cwd=base, env=environment, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    (base / "runs" / "printed").write_text(done.stdout + done.stderr)
    assert done.returncode == 0, done.stdout + done.stderr
    return base / "runs" / "run"


@pytest.fixture(scope="module")
def values(planted) -> dict:
    return json.loads((planted / "manifest.json").read_text())


# Secrets


def test_no_byte_of_a_run_or_of_mlflow_holds_a_secret(planted):
    files = [path for path in planted.parent.rglob("*") if path.is_file()]
    names = {path.name for path in files}
    assert {
        "manifest.json", "metrics.jsonl", "train.log", "mirror.log", "mlflow.json", "mlflow.db",
        "state.json", "model.safetensors", "printed",
    } <= names  # fmt: skip
    found = [
        (str(path), what)
        for path in files
        for what, secret in [*SECRETS.items(), ("quoted", QUOTED)]
        if secret.encode() in path.read_bytes()
    ]
    assert found == []


def test_what_is_no_secret_is_kept(planted, values):
    assert values["environment"]["X1_SERVICE_TOKEN"] == secrets.HIDDEN
    assert values["environment"]["X1_OFFLINE"] == "1"
    assert values["environment"]["X1_PROXY"] == "https://example.org"
    assert values["environment"]["OMP_NUM_THREADS"] == "1"
    assert "PATH" not in values["environment"]
    assert values["config"]["source"].endswith(f"/{secrets.HIDDEN}/small.jsonl")
    assert values["mlflow_uri"].startswith("http://127.0.0.1:")
    assert len(values["git"]["commit"]) == 40
    assert "http://127.0.0.1" in (planted / mirror.LOG).read_text()
    state = json.loads((planted / mirror.STATE).read_text())
    assert state["closed"] and state["tracking_uri"] == "sqlite:///../mlflow.db"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://ada:pw@example.org:5000/x", "https://example.org:5000/x"),
        ("postgresql+psycopg://ada:p%40w@db/x, again", "postgresql+psycopg://db/x, again"),
        (
            "s3://bucket/key?X-Amz-Signature=0a1b&n=3",
            "s3://bucket/key?X-Amz-Signature=[hidden]&n=3",
        ),
        ("https://h/?api_key=abc#top", "https://h/?api_key=[hidden]#top"),
        ("(hf_abcdefghijklmnopqrstu)", "([hidden])"),
        ("the value is long-enough-1 and l0ng", "the value is [hidden] and l0ng"),
        ("step 10/20 | loss 3.1 | 1,000 tokens/s", "step 10/20 | loss 3.1 | 1,000 tokens/s"),
        ("mail ada@example.org about a=b?c=d", "mail ada@example.org about a=b?c=d"),
        ("a tokenizer's key?tokenizer=gpt2", "a tokenizer's key?tokenizer=gpt2"),
    ],
)
def test_scrub(monkeypatch, text, expected):
    monkeypatch.setenv("MY_PASSWORD", "long-enough-1")
    monkeypatch.setenv("MY_OTHER_KEY", "word")  # too short to be looked for
    assert secrets.scrub(text) == expected
    deep = {"a": [1, (text, None)], text: 2.0}
    assert secrets.scrub(deep) == {"a": [1, (expected, None)], text: 2.0}


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("HF_TOKEN", True),
        ("AWS_SECRET_ACCESS_KEY", True),
        ("DB_PWD", True),
        ("MLFLOW_TRACKING_PASSWORD", True),
        ("GOOGLE_APPLICATION_CREDENTIALS", True),
        ("X-Goog-Signature", True),
        ("apikey", True),
        ("PWD", False),
        ("TOKENIZERS_PARALLELISM", False),
        ("KEYBOARD", False),
        ("PASSAGE", False),
        ("OMP_NUM_THREADS", False),
    ],
)
def test_names_of_secrets(name, secret):
    assert secrets.is_secret_name(name) == secret


def test_a_setting_with_a_secret_is_the_same_setting_when_resumed(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_something-secret")
    config = Config(steps=1, source="a/hf_something-secret/text.jsonl")
    stored = secrets.scrub({f.name: getattr(config, f.name) for f in fields(config)})
    assert "hf_something" not in json.dumps(stored)
    assert settings.differences(stored, config) == {}
    other = Config(steps=1, source="a/hf_something-secret/other.jsonl")
    assert settings.differences(stored, other) == {
        "source": ("a/[hidden]/text.jsonl", "a/[hidden]/other.jsonl")
    }


def test_what_a_process_prints_is_scrubbed():
    code = (
        "import sys; from x1lib.tracking import scrub_output; scrub_output();"
        " print('a', 'long-enough-1', flush=True); raise ValueError('long-enough-1')"
    )
    environment = os.environ | {"MY_PASSWORD": "long-enough-1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert done.stdout == "a [hidden]\n"
    assert done.stderr.splitlines()[-1] == "ValueError: [hidden]"
    assert "long-enough-1" not in done.stderr.replace(code, "")


# The schema


def test_the_manifest_of_a_real_run_is_as_its_schema_says(planted, values):
    assert manifest_faults(values) == []
    assert checking.check(planted) == values
    assert values["config"].keys() == {f.name for f in fields(Config)}
    for name in ("kwh", "usd"):
        assert values[name] is None and values[f"{name}_status"]
    assert values["hardware"]["memory_bytes"] > 2**29 and values["hardware"]["logical_cores"] >= 1


def undescribed(value, schema, path="") -> list[str]:
    """Entries of a manifest that the schema does not describe, however deep."""
    found = [] if schema.get("description") else [path]
    if isinstance(value, dict) and "properties" in schema:
        for key, item in value.items():
            known = schema["properties"].get(key, {})
            found += undescribed(item, known, f"{path}.{key}".lstrip("."))
    return found


def test_every_entry_is_described(values):
    assert undescribed(values, checking.schema()) == []
    assert undescribed(values | {"new": 1}, checking.schema()) == ["new"]


def changed(values: dict, path: str, value: object) -> dict:
    """A copy with one entry, by its path, set or (GONE) removed."""
    copied = copy.deepcopy(values)
    *parents, last = path.split("/")
    inner = copied
    for name in parents:
        inner = inner[name]
    if value is GONE:
        del inner[last]
    else:
        inner[last] = value
    return copied


GONE = object()


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("seed", GONE, "'seed' is a required property"),
        ("usd_status", GONE, "'usd_status' is a required property"),
        ("hardware/cpu", GONE, "hardware: 'cpu' is a required property"),
        ("data/fingerprint", GONE, "data: 'fingerprint' is a required"),
        ("steps", "40", "steps: '40' is not of type"),
        ("steps", 40.5, "steps: 40.5 is not of type"),
        ("mfu", -0.1, "mfu: -0.1"),
        ("tokens", None, "tokens: None is not of type"),
        ("val_loss", "low", "val_loss: 'low' is not of type"),
        ("machine/dtype", "float8", "machine.dtype: 'float8' is not one of"),
        ("artefacts/loss-curve.png", "abc", "artefacts.loss-curve.png: 'abc' does not match"),
        ("artefacts", {}, "artefacts: {}"),
        ("git/commit", "main", "git.commit: 'main' does not match"),
        ("usd", 0, "usd: 0 is"),
        ("usd", 1.5, "usd_status: 'not counted: no price was given' is not of type 'null'"),
        ("kwh_status", None, "kwh_status: None is not of type 'string'"),
        ("mlflow_uri", None, "mlflow_status: None is not of type 'string'"),
        ("status", "done", "status: 'done' is not one of"),
        ("status", "failed", "reason: None is not of type 'string'"),
        ("val_los", 1.0, "'val_los' was unexpected"),
        ("hardware/ram", 1, "hardware: Additional properties are not allowed ('ram'"),
        ("created", "yesterday", "created: 'yesterday' does not match"),
        ("config/extra", [1], "config.extra: [1] is not of type"),
        ("format", 1, "format: 2 was expected"),
    ],
)
def test_a_planted_fault_is_named(values, path, value, words):
    found = manifest_faults(changed(values, path, value))
    assert any(words in line for line in found), found


def command(folder, *flags):
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "x1lib.tracking.manifest", str(folder), *flags],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip


def test_the_command_checks_entries_and_artefacts(planted, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(planted, folder)
    done = command(folder)
    assert (done.returncode, done.stderr) == (
        0,
        "",
    ) and "finished, as its schema says" in done.stdout

    picture = folder / "loss-curve.png"
    good = picture.read_bytes()
    picture.write_bytes(good[:-1] + b"x")
    done = command(folder)
    assert (
        done.returncode == 2 and "artefacts.loss-curve.png: the file is not the one" in done.stderr
    )
    assert command(folder, "--record").returncode == 2
    picture.unlink()
    done = command(folder)
    assert done.returncode == 2 and "artefacts.loss-curve.png: the file is missing" in done.stderr
    assert command(folder, "--record").returncode == 0
    picture.write_bytes(good)

    manifest = tracking.Manifest(folder)
    manifest.update(usd=0)
    done = command(folder)
    assert done.returncode == 2 and "  usd: 0 is less than or equal to" in done.stderr
    manifest.update(usd=None, format=1)
    assert "has format 1 and this version of x1lib reads 2" in command(folder).stderr
    (folder / "manifest.json").write_text("{")
    done = command(folder)
    assert done.returncode == 2 and "is damaged" in done.stderr
    assert "does not exist; give the folder of a run" in command(tmp_path).stderr


def test_without_jsonschema_the_command_says_so(values, monkeypatch):
    monkeypatch.setitem(sys.modules, "jsonschema", None)
    with pytest.raises(ManifestError, match="jsonschema is not installed"):
        manifest_faults(values)


def test_checking_is_quick_and_leaves_no_trace(planted):
    """It comes at the end of a timed run: 0.9 s of jsonschema's import are for what is not used."""
    code = (
        "import json, sys, time; from x1lib.tracking import manifest_faults;"
        " values = json.load(open(sys.argv[1])); begun = time.process_time();"
        " assert not manifest_faults(values); assert time.process_time() - begun < 0.8;"
        " assert 'rfc3987_syntax' not in sys.modules"
    )
    subprocess.run(
        [sys.executable, "-c", code, str(planted / "manifest.json")], cwd=ROOT, check=True
    )


def test_the_schema_is_a_schema_and_is_packaged():
    from jsonschema import Draft202012Validator

    Draft202012Validator.check_schema(checking.schema())
    packaged = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    patterns = packaged["package-data"]["*"]
    assert any(checking.SCHEMA.match(pattern) for pattern in patterns)
    assert (checking.SCHEMA.parent / "__init__.py").exists()


def test_a_run_under_way_and_a_failed_one_are_as_the_schema_says(values):
    nulls = (
        "finished", "steps", "tokens", "val_loss", "val_loss_source", "bits_per_byte",
        "bits_per_byte_source", "heldout", "tokens_per_sec", "mfu", "wall_clock_seconds",
        "peak_memory_bytes", "artefacts", "plan",
    )  # fmt: skip
    running = values | dict.fromkeys(nulls) | {"status": "running"}
    assert manifest_faults(running) == []
    assert manifest_faults(running | {"status": "failed", "reason": "NoMemoryError: none"}) == []
    assert manifest_faults(running | {"status": "finished"})


# Hardware


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="Linux says it in /proc")
def test_hardware_is_this_machine():
    found = hardware.hardware()
    assert found["logical_cores"] == os.cpu_count() and found["cpu"]
    assert 0 < found["usable_cores"] <= found["logical_cores"]
    total = int(re.search(r"MemTotal: +(\d+) kB", Path("/proc/meminfo").read_text())[1])
    assert abs(found["memory_bytes"] - 1024 * total) < 2**20


@pytest.mark.parametrize(
    ("quota", "limit", "cores", "memory"),
    [
        ("max 100000", "max", 4, None),
        ("150000 100000", "8589934592", 1.5, 2**33),
        ("800000 100000", "max", 4, None),  # more than there are
        (None, None, 4, None),  # no control groups
    ],
)
def test_a_container_says_what_it_allows(monkeypatch, tmp_path, quota, limit, cores, memory):
    monkeypatch.setattr(hardware, "CGROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(4)))
    if quota:
        (tmp_path / "cpu.max").write_text(quota + "\n")
        (tmp_path / "memory.max").write_text(limit + "\n")
    found = hardware.hardware()
    assert (found["usable_cores"], found["memory_limit_bytes"]) == (cores, memory)


@pytest.mark.parametrize(
    ("answer", "driver", "mig"),
    [
        ("echo '570.86.15, Disabled'", "570.86.15", False),
        ("echo '570.86.15, Enabled'; echo '570.86.15, Enabled'", "570.86.15", True),
        ("echo '535.104.05, [N/A]'", "535.104.05", None),
        ("exit 9", None, None),
        (None, None, None),
    ],
)
def test_a_card_is_described_as_the_schema_says(values, monkeypatch, tmp_path, answer, driver, mig):
    """The driver's tool and torch's answers are stand-ins: no card is needed."""
    if answer:
        tool = tmp_path / "nvidia-smi"
        tool.write_text(f"#!/bin/sh\n{answer}\n")
        tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    card = SimpleNamespace(name="NVIDIA H100", total_memory=85_017_493_504, major=9, minor=0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: card)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    found = hardware.hardware()
    assert found["gpu"] == {
        "name": "NVIDIA H100", "count": 2, "memory_bytes": 85_017_493_504,
        "compute_capability": "9.0", "cuda": "13.0", "driver": driver, "mig": mig,
    }  # fmt: skip
    assert manifest_faults(values | {"hardware": found}) == []
