"""Past one machine: the same shards by processes, Ray and Slurm; plans from what is measured."""

import importlib.util
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from data_folders import contents, write_jsonl

from x1lib.data import DataError, ShardError, Shards
from x1lib.data.__main__ import main
from x1lib.data.building import build, recipe
from x1lib.data.scale import plan
from x1lib.data.scale.parts import DoneWork, PartsStream, PartStep, part_folder, read_worked
from x1lib.data.scale.running import build_with, working_folder
from x1lib.data.sources import open_source
from x1lib.data.streams import open_stream

REPOSITORY = Path(__file__).parent.parent
EXACT = recipe("plain", dedup="exact", tokenizer="bytes", block_tokens=9_000, heldout_tokens=5_000)
OPTIONS = ["--recipe", "plain", "--dedup", "exact", "--tokenizer", "bytes"]
OPTIONS += ["--block-tokens", "9000", "--heldout-tokens", "5000"]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    path = write_jsonl(tmp_path_factory.mktemp("source") / "text.jsonl", 200)
    path.write_text(path.read_text() + path.read_text()[:40_000].rpartition("\n")[0] + "\n")
    return path


def command(source, root, *more, python=sys.executable):
    words = [python, "-m", "x1lib.data", "build", "--source", source, "--root", root, *OPTIONS]
    return list(map(str, [*words, *more]))


def run(words, **environment):
    done = subprocess.run(
        words, capture_output=True, text=True, cwd=REPOSITORY, env=os.environ | environment
    )
    assert done.returncode == 0, done.stderr[-3_000:]
    return done.stdout.splitlines()[-1]


needs_datatrove = pytest.mark.skipif(
    importlib.util.find_spec("datatrove") is None, reason="datatrove is not installed"
)


@pytest.fixture(scope="module")
def by_processes(source, tmp_path_factory):
    if importlib.util.find_spec("datatrove") is None:
        pytest.skip("datatrove is not installed")
    root = tmp_path_factory.mktemp("local")
    words = command(source, root, "--executor", "local", "--tasks", 3, "--workers", 2)
    return Path(run(words))


@needs_datatrove
def test_one_part_gives_the_blocks_of_one_pass(source, tmp_path):
    one_pass = Shards(build(source, EXACT, root=tmp_path, log=None))
    folder = build_with(source, EXACT, tasks=1, root=tmp_path / "parts", log=None)
    parts = Shards(folder)
    assert parts.fingerprint() == one_pass.fingerprint() and parts.n_blocks > 5
    assert parts.index["counts"] == one_pass.index["counts"]
    np.testing.assert_array_equal(parts.heldout("documents"), one_pass.heldout("documents"))
    assert not working_folder(folder).exists()


def test_parts_hold_every_document_once(source, by_processes, tmp_path):
    shards = Shards(by_processes)
    shards.verify()
    one_pass = Shards(build(source, EXACT, root=tmp_path, log=None))
    assert shards.complete and shards.index["counts"]["read"] == one_pass.index["counts"]["read"]
    assert shards.index["counts"]["duplicates"][:2] == one_pass.index["counts"]["duplicates"][:2]


def test_the_bytes_depend_on_the_parts_and_not_on_the_workers(source, by_processes, tmp_path):
    folder = build_with(source, EXACT, tasks=3, workers=1, root=tmp_path, log=None)
    assert contents(folder) == contents(by_processes)


def test_ray_gives_the_same_shards_on_a_cluster_of_two(source, by_processes, tmp_path):
    if importlib.util.find_spec("ray") is None:
        pytest.skip("ray is not installed: no cluster to run on")
    words = command(source, tmp_path, "--executor", "ray", "--tasks", 3, "--workers", 2)
    folder = Path(run(words, RAY_DISABLE_IMPORT_WARNING="1"))
    assert contents(folder) == contents(by_processes)


SBATCH = """#!/bin/sh
# Stands for Slurm's sbatch: runs the script's tasks here, one after the other.
for word in "$@"; do script="$word"; done
echo "$@" >> "$RECORD"; grep '^#SBATCH' "$script" >> "$RECORD"
array=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' "$script")
for i in $(seq 0 "${array:-0}"); do
  SLURM_ARRAY_TASK_ID=$i SLURM_ARRAY_JOB_ID=7 SLURM_JOB_ID=7 SLURM_CPUS_PER_TASK=1 \\
    SLURM_MEM_PER_CPU=1000 SLURM_NODELIST=here SLURM_GPUS_ON_NODE=0 \\
    sh "$script" >> "$RECORD.out" 2>&1 || exit 1
done
echo "Submitted batch job 7"
"""
SRUN = """#!/bin/sh
while true; do case "$1" in -n) shift 2 ;; -*) shift ;; *) break ;; esac; done
exec "$@"
"""


@needs_datatrove
def test_slurm_is_given_the_tasks_and_the_step_after_them(source, by_processes, tmp_path):
    """Slurm itself is not here: its two commands are, as scripts that run what they are given."""
    tools = tmp_path / "bin"
    tools.mkdir()
    scripts = {"sbatch": SBATCH, "srun": SRUN, "scontrol": "#!/bin/sh\necho here\n"}
    for name, text in scripts.items():
        (tools / name).write_text(text)
        (tools / name).chmod(stat.S_IRWXU)
    record, root = tmp_path / "record", tmp_path / "root"
    words = command(source, root, "--executor", "slurm", "--tasks", 3, "--workers", 2)
    path = f"{tools}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {"PATH": path, "RECORD": str(record), "PYTHONPATH": str(REPOSITORY)}
    last = run([*words, "--slurm-partition", "cpu"], **environment)
    assert last.startswith("submitted 3 tasks")
    folder = root / by_processes.name
    assert folder.exists(), (record.read_text() + Path(f"{record}.out").read_text())[-3_000:]
    assert contents(folder) == contents(by_processes)
    asked = record.read_text()
    assert "--partition=cpu" in asked and "--array=0-2" in asked and "dependency=afterok:7" in asked


def test_slurm_without_a_partition_and_nonsense_are_refused(source, tmp_path):
    for options, message in (
        ({"executor": "slurm"}, "Slurm needs a partition"),
        ({"executor": "dask"}, "unknown executor 'dask'"),
        ({"tasks": 0}, "give 1 or more"),
    ):
        with pytest.raises(DataError, match=message):
            build_with(source, EXACT, root=tmp_path, log=None, **options)


# parts


def test_a_part_is_whole_or_not_there(source, tmp_path, monkeypatch):
    step = PartStep(str(source), EXACT, str(tmp_path))
    stream = PartsStream(open_stream(source), str(tmp_path), 2)
    step(None, 0, 2)
    with pytest.raises(ShardError, match="part-00001 is not finished; run the same command again"):
        list(DoneWork().results(stream.batches()))
    monkeypatch.setattr("x1lib.data.scale.parts.write_worked", None)  # nothing is written again
    step(None, 0, 2)
    with pytest.raises(TypeError):
        step(None, 1, 2)
    assert not part_folder(tmp_path, 1).exists()
    monkeypatch.undo()
    step(None, 1, 2)
    batches = list(stream.batches())
    assert sum(len(batch.worked.ids) for batch in batches) == sum(b.n_records for b in batches)
    for i, batch in enumerate(batches):
        assert len(list(stream.batches(batch.cursor))) == len(batches) - i - 1


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_a_damaged_part_is_named(source, tmp_path, damage):
    PartStep(str(source), EXACT, str(tmp_path))(None, 0, 1)
    path = part_folder(tmp_path, 0) / "000000.npz"
    raw = bytearray(path.read_bytes())
    if damage == "flipped":
        raw[len(raw) // 3] ^= 1
    path.write_bytes({"cut": raw[:-300], "flipped": raw, "empty": b""}[damage])
    with pytest.raises(ShardError, match=r"000000\.npz is damaged"):
        read_worked(path)


# plans


def speed_of(**changes):
    fields = {"recipe": EXACT, "cpu_seconds": 2.0, "bytes_in": 8_000_000, "bytes_out": 6_000_000}
    fields |= {"tokens": 2_000_000, "documents": 1_000, "token_bytes": 2, "seconds_by_stage": {}}
    return plan.Speed(**fields | changes)


def test_a_plan_is_arithmetic_on_the_measured_speed():
    row = plan.plan_row(speed_of(), 3_600_000_000, cores=10, usd_per_core_hour=0.05)
    assert row.core_hours == pytest.approx(1.0) and row.hours == pytest.approx(0.1)
    assert row.usd == pytest.approx(0.05) and row.shard_bytes == 7_200_000_000
    assert row.source_bytes == pytest.approx(4 * 3.6e9)
    # one key a document, in the journal and in the sorted copy
    assert row.index_bytes == pytest.approx(3.6e9 / 2_000 * 8 * 2)
    half = plan.plan_row(speed_of(cpu_seconds=4.0), 3_600_000_000, 10, 0.05)
    assert half.usd == pytest.approx(0.10)


def test_a_plan_without_a_price_has_no_dollars():
    text = plan.plan_table(speed_of(), [5_000_000_000], 16, None)
    assert "no price" in text and "--usd-per-core-hour" in text and "10.0 GB" in text
    assert "69.44" not in text


def test_one_process_sets_a_floor_that_cores_do_not_lower():
    row = plan.plan_row(speed_of(), 3_600_000_000, 10, None, documents_per_second=1_000)
    assert row.serial_hours == pytest.approx(0.5) and row.hours == pytest.approx(0.5)
    row = plan.plan_row(speed_of(), 3_600_000_000, 1, None, documents_per_second=1_000)
    assert row.hours == pytest.approx(1.0)
    text = plan.plan_table(speed_of(), [3_600_000_000], 10, None, 1_000, 4e6)
    assert "alone takes 0.5 h" in text and "2.0 times the core-hours" in text
    assert plan.measure_serial(recipe("plain")) is None
    assert plan.measure_serial(recipe("dedup")) > 1_000


def test_the_index_written_with_each_block_asks_for_larger_blocks():
    assert plan.index_hours(10_000, 1_000, 3600.0) == 1 + 2 + 3 + 4 + 5 + 6 + 7 + 8 + 9 + 10
    size = EXACT.block_tokens
    assert plan.larger_blocks(size * plan.MOST_BLOCKS, size) == size
    larger = plan.larger_blocks(15 * 10**12, size)
    assert larger / 2 < 15e12 / plan.MOST_BLOCKS <= larger
    many = plan.plan_table(speed_of(), [15 * 10**12], 16, None, index_seconds_per_block=1e-5)
    assert f"--block-tokens {larger}" in many
    few = plan.plan_table(speed_of(), [10**6], 16, None, index_seconds_per_block=1e-5)
    assert "anew with each block" in few and "--block-tokens" not in few
    assert 1e-6 < plan.measure_index(recipe("web")) < 1e-2


def test_the_cost_of_a_block_in_the_index_is_that_of_a_real_one(tmp_path):
    """The stand-in that is timed is about as long as what a build writes."""
    for library in ("rensa", "py3langid"):
        pytest.importorskip(library)
    chosen = recipe("web", tokenizer="bytes", block_tokens=2**18, heldout_tokens=500)
    articles = [
        one.text for one in open_source("embedded").documents() if one.source == "wikipedia"
    ]
    path = tmp_path / "articles.jsonl"  # two batches: a block's state is that before its batch
    path.write_text("".join(json.dumps({"text": one}) + "\n" for one in articles[:3_500]))
    folder = build(path, chosen, root=tmp_path, log=None)
    real = Shards(folder).blocks[-1]
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan.writer, "write_index", lambda folder, index: seen.append(index))
        plan.measure_index(chosen)
    timed = seen[0]["blocks"][0]
    assert 0.5 < len(json.dumps(timed, indent=1)) / len(json.dumps(real, indent=1)) < 2


def test_extraction_is_measured_on_the_courses_crawl():
    pytest.importorskip("trafilatura")
    assert 1e4 < plan.measure_extraction() < 1e8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--megabytes", "nan"], "'nan' is no finite number above 0"),
        (["--megabytes", "0.001"], "cannot be measured on 0.001 MB"),
        (["--tokens", "-5"], "'-5' is below 1"),
        (["--usd-per-core-hour", "-1"], "'-1' is no finite number above 0"),
        (["--usd-per-core-hour", "inf"], "'inf' is no finite number above 0"),
        (["--cores", "0"], "'0' is below 1"),
    ],
)
def test_a_plan_of_nonsense_is_refused(capsys, options, message):
    try:
        code = main(["plan", *options])
    except SystemExit as left:
        code = left.code
    assert code and message in capsys.readouterr().err
    with pytest.raises(DataError, match="give a finite number above 0"):
        plan.plan_row(speed_of(), 5_000, 16, float("nan"))


def test_the_speed_is_measured_here():
    speed = plan.measure(recipe("plain", tokenizer="bytes"), megabytes=0.3)
    assert 300_000 < speed.bytes_in < 600_000 and speed.bytes_out == speed.bytes_in
    assert speed.tokens == speed.bytes_in + speed.documents  # a byte a token, one mark a document
    assert speed.cpu_seconds > 0


def test_the_plan_command_prints_the_three_sizes():
    words = [sys.executable, "-m", "x1lib.data", "plan", "--recipe", "plain"]
    words += ["--megabytes", "0.3", "--usd-per-core-hour", "0.05"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr
    for part in ("5B", "100B", "15,000B", "10.0 GB", "200.0 GB", "30.0 TB", "per core and second"):
        assert part in done.stdout
