"""The pipeline's faults, each of them real: kills, damaged files, bad text, one huge document."""

import gzip
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from data_folders import PEAK

from x1lib.data import ShardError, Shards, load_tokenizer, writer

REPOSITORY = Path(__file__).parent.parent.parent
COMMAND = [sys.executable, "-m", "x1lib.data"]
N = 2_500  # three batches
WORDS = "the sea was calm and no wind moved over old grey stones while gulls slept".split()


def write_text(path, n=N, seed=0):
    rng = random.Random(seed)
    lines = []
    for i in range(n):
        text = " ".join(rng.choices(WORDS, k=rng.randint(50, 300)))
        lines.append(json.dumps({"id": f"d{i}", "text": f"{i}: {text}."}) + "\n")
    content = "".join(lines).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def command(source, root, **changes):
    options = {"recipe": "plain", "dedup": "exact", "tokenizer": "bytes", "workers": 2}
    options |= {"block_tokens": 200_000, "heldout_tokens": 100_000, **changes}
    words = [*COMMAND, "build", "--source", str(source), "--root", str(root)]
    return words + [str(w) for k, v in options.items() for w in (f"--{k.replace('_', '-')}", v)]


def run(source, root, expect=0, **changes):
    preexec = changes.pop("preexec_fn", None)
    done = subprocess.run(
        command(source, root, **changes),
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        preexec_fn=preexec,
    )
    assert done.returncode == expect, done.stderr
    if expect:
        assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    return Path(done.stdout.splitlines()[-1]) if not expect else done.stderr


def contents(folder):
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir()) if p.name != ".lock"}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_text(tmp_path_factory.mktemp("source") / "text.jsonl")


@pytest.fixture(scope="module")
def whole(source, tmp_path_factory):
    return run(source, tmp_path_factory.mktemp("whole"))


def documents_in(folder):
    shards = Shards(folder)
    words = load_tokenizer("bytes")
    parts = [np.load(folder / entry["file"]) for entry in shards.blocks]
    tokens = np.concatenate([np.asarray(shards.heldout("documents")), *parts])
    return words.decode(tokens[tokens != words.eot_id].tolist()), int((tokens == 256).sum())


DYING = """
import os, signal, sys, threading
folder, left, delay = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def watch(event, words):  # every opening for writing and every renaming inside the folder
    global left
    path = str(words[0]) if words else ""
    wrote = event == "os.rename" or (event == "open" and words[2] & (os.O_WRONLY | os.O_RDWR))
    if wrote and path.startswith(folder):
        left -= 1
        if left == 0:
            threading.Timer(delay, die).start() if delay else die()

from x1lib.data.__main__ import main
sys.addaudithook(watch)
sys.exit(main(sys.argv[4:]))
"""


def test_killed_writer(source, whole, tmp_path):
    """Fault 30: killed between and inside blocks, with its workers: the same bytes after all."""
    rng, kills, folder = random.Random(0), 0, tmp_path / whole.name
    words = command(source, tmp_path)[3:]
    for turn in range(10):
        touched, delay = rng.randint(2, 8), rng.uniform(0, 0.005) * (turn % 2)
        child = [sys.executable, "-c", DYING, folder, str(touched), str(delay), *words]
        done = subprocess.run(child, cwd=REPOSITORY, stdout=subprocess.DEVNULL)
        kills += done.returncode == -signal.SIGKILL
        if not done.returncode:
            break
    assert kills >= 3, "the writer was hardly ever killed"
    assert contents(run(source, tmp_path)) == contents(whole)
    assert documents_in(whole)[1] == N  # no document twice, none lost


@pytest.mark.parametrize("damage", ["cut", "flipped", "gone"])
def test_damaged_shard(source, whole, tmp_path, damage):
    """A shard that is short or has one bit flipped is named by verify, and made again by build."""
    folder = run(source, tmp_path)
    path = folder / "block-00003.npy"
    raw = bytearray(path.read_bytes())
    if damage == "gone":
        path.unlink()
    else:
        raw[len(raw) // 2] ^= 4
        path.write_bytes(raw if damage == "flipped" else raw[:-10])
    done = subprocess.run(
        [*COMMAND, "verify", folder], capture_output=True, text=True, cwd=REPOSITORY
    )
    assert done.returncode == 1 and str(path) in done.stderr and done.stderr.count("\n") == 1
    if damage == "flipped":  # its size is right: only verify reads it all
        with pytest.raises(ShardError, match="has changed since it was written"):
            Shards(folder).verify()
        index = json.loads((folder / "index.json").read_bytes())
        writer.write_index(folder, index | {"complete": False})
    assert contents(run(source, tmp_path)) == contents(whole)


def test_bad_gzip(tmp_path):
    """A packed source that breaks off is named; what was written before stays a valid prefix."""
    path = write_text(tmp_path / "text.jsonl.gz")
    sound = path.read_bytes()
    path.write_bytes(sound[: len(sound) * 2 // 3])
    line = run(path, tmp_path / "root", expect=1)
    assert f"{path} breaks off after line" in line
    (folder,) = (p for p in (tmp_path / "root").iterdir() if p.is_dir())
    shards = Shards(folder)
    shards.verify()
    assert shards.n_blocks > 0 and not shards.complete
    path.write_bytes(sound)  # fetched again: another content, another folder, all of it
    again = run(path, tmp_path / "root")
    assert again != folder and Shards(again).complete
    assert Shards(again).fingerprint(shards.n_blocks) == shards.fingerprint()


def test_invalid_utf8_and_empty_documents(source, whole, tmp_path):
    """Lines that are no text and documents without any are counted, and change nothing else."""
    path = tmp_path / "text.jsonl"
    lines = source.read_bytes().splitlines(keepends=True)
    bad = [b'{"text": "a\xffb"}\n', b'{"text": ""}\n', b'{"text": " \\n "}\n', b"{not json\n"]
    for i, line in enumerate(bad * 3):
        lines.insert(7 + 11 * i, line)
    path.write_bytes(b"".join(lines))
    folder = run(path, tmp_path / "root")
    counts = Shards(folder).index["counts"]
    assert counts["read"][4] == {"invalid_utf8": 3, "not_json": 3}
    assert counts["not empty"][4] == {"empty": 6}
    assert Shards(folder).n_tokens == Shards(whole).n_tokens
    assert documents_in(folder) == documents_in(whole)


@pytest.mark.parametrize("kind", ["prose", "unbroken"])
def test_one_huge_document(tmp_path, kind):
    """One document of 50 MB among small ones: it comes through, in bounded memory and time."""
    path = write_text(tmp_path / "text.jsonl", 30)
    n = 50_000_000 if kind == "prose" else 5_000_000
    huge = (" ".join(WORDS) + ". ") * (n // 70) if kind == "prose" else "a" * n
    with path.open("ab") as file:
        file.write(json.dumps({"id": "huge", "text": huge}).encode() + b"\n")
    code = (
        "from x1lib.data.__main__ import main; code = main(sys.argv[1:]);"
        "print(int(peak_mb())); sys.exit(code)"
    )
    words = command(path, tmp_path / "root", tokenizer="gpt2", workers=1, block_tokens=2**20)[3:]
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", PEAK + code, *words], capture_output=True, text=True, cwd=REPOSITORY
    )
    assert done.returncode == 0, done.stderr
    *_, folder, peak_mb = done.stdout.splitlines()
    shards = Shards(folder)
    shards.verify()
    n_bytes = shards.index["n_bytes"] + shards.index["heldout"]["documents"]["n_bytes"]
    assert n_bytes > len(huge)
    assert int(peak_mb) < 1_500 and time.monotonic() - began < 300
    if kind == "prose":  # the rules that would want gigabytes never see it
        folder = run(path, tmp_path / "web", recipe="web", tokenizer="gpt2", filters="fineweb")
        assert Shards(folder).index["counts"]["size"][4] == {"too_large": 1}


@pytest.mark.parametrize("blocks", [0, 2.5])
def test_full_disk(source, whole, tmp_path, blocks):
    """A disk that fills: one line that names the file, a valid folder, and the rerun goes on."""
    mount = tmp_path / "small"
    mount.mkdir()
    kilobytes = 100 + int(blocks and blocks * 400 + 150)
    script = (
        'mount -t tmpfs -o size="$1"k none "$2"; shift; shift; cd "$1"; shift;'
        '"$@"; code=$?; cp -r "$0" "$COPY" 2>/dev/null; exit $code'
    )
    root = mount / "root"
    words = command(source, root, workers=1)
    environment = os.environ | {"COPY": str(tmp_path / "copy"), "PYTHONPATH": str(REPOSITORY)}
    trial = subprocess.run(["unshare", "-rm", "true"], capture_output=True)
    if trial.returncode:
        pytest.skip(f"no mounts of our own on this machine: {trial.stderr.decode().strip()}")
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, str(root), str(kilobytes), str(mount), REPOSITORY]
        + words,
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 1, (done.stdout, done.stderr)
    assert done.stderr.startswith("error: cannot write ") and done.stderr.count("\n") == 1
    assert "No space left on device; free space there" in done.stderr
    folder = tmp_path / "copy" / whole.name
    if (folder / "index.json").exists():
        Shards(folder).verify()
        assert 0 < Shards(folder).n_blocks < Shards(whole).n_blocks
    else:
        assert not blocks
    assert contents(run(source, tmp_path / "copy")) == contents(whole)


def test_file_size_limit(source, whole, tmp_path):
    """The journal of duplicates cannot grow: named as well, by the kernel's limit on one file."""

    def narrow():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, 2_000))

    line = run(source, tmp_path, expect=1, workers=1, preexec_fn=narrow)
    assert "cannot write" in line and "File too large" in line
    assert contents(run(source, tmp_path)) == contents(whole)
