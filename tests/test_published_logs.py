"""Published logs: downloads that fail as they should, parsers, facts with sources, our own log."""

import csv
import hashlib
import importlib.util
import json
import math
from pathlib import Path

import numpy as np
import pytest
from data_server import serving

from x1lib import X1Error, published_logs
from x1lib.exercises import nb05
from x1lib.figures import logs as figures
from x1lib.postmortem import read_log
from x1lib.published_files import PublishedUnavailable, Source, fetched
from x1lib.published_logs import CATALOG, FIELDS, READING_LOG, LogError, catalog, load, runs
from x1lib.published_logs.reading import PARSERS, UNITS
from x1lib.stability import lead

ROOT = Path(__file__).resolve().parent.parent
LLMC = "s:0 tel:11.01\ns:0 trl:11.00 lr:0.000001 norm:15.37\ns:1 trl:10.9 lr:0.000002 norm:9\n"
LLMC += "s:2 tel:9.5\n"
MODDED = "import torch\nstep = 0\nstep:0/9 val_loss:22.5 train_time:465ms step_avg:nanms\n"
MODDED += "step:1/9 train_loss:22.1 train_time:1500ms step_avg:nanms\n"
MEGATRON = (
    "some words\n ``` [default7]: iteration    12695/  115311 | consumed samples:      9841584 |"
    " consumed tokens:  20155564032 | elapsed time per iteration (s): 105.22 | learning rate:"
    " 5.969E-05 | global batch size:  2048 | lm loss: 2.463556E+00 | grad norm: 0.174 | num zeros:"
    " 0.0 |\n iteration 5/ 9 | learning rate: 1E-05 |\n"
)


# Downloads


@pytest.fixture
def online(monkeypatch):
    monkeypatch.setenv("X1_OFFLINE", "0")


def at(server, content: bytes, path: str = "a/main.log") -> Source:
    class Local(Source):
        url = f"{server.address}/{path}"

    return Local("x/y", "c", path, hashlib.sha256(content).hexdigest(), "lines of a test", "MIT")


CONTENT = (LLMC * 100).encode()


def test_a_log_is_downloaded_once_verified_and_kept(tmp_path, online, monkeypatch):
    with serving({"/a/main.log": CONTENT}) as server:
        entry = catalog.Entry(at(server, CONTENT), "llm.c", ("step", "loss"))
        monkeypatch.setitem(CATALOG, "test", entry)
        first = load("test", folder=tmp_path)
    again = load("test", folder=tmp_path)  # the server is gone
    assert first.verified and again.verified and first.origin.startswith("http://127.0.0.1")
    np.testing.assert_array_equal(first["loss"], again["loss"])
    (kept,) = tmp_path.iterdir()
    kept.write_bytes(b"damaged")
    with pytest.raises(PublishedUnavailable, match="put the file at"):
        load("test", folder=tmp_path)


@pytest.mark.parametrize(
    ("served", "drops", "words"),
    [
        ({}, 0, "404.*put the file at"),
        ({"/a/main.log": CONTENT + b"s:3 trl:1.0\n"}, 0, "not used"),
        ({"/a/main.log": CONTENT}, 1, "cannot be read.*IncompleteRead"),
    ],
    ids=["not there", "another file", "broken off"],
)
def test_a_download_that_fails_says_why_and_keeps_nothing(tmp_path, online, served, drops, words):
    with serving(served) as server:
        server.drops = drops
        with pytest.raises(PublishedUnavailable, match=words) as caught:
            fetched(at(server, CONTENT), tmp_path / "kept")
        assert server.dropped == drops
    assert isinstance(caught.value, X1Error) and not (tmp_path / "kept").exists()


def test_what_broke_off_is_whole_the_next_time(tmp_path, online):
    with serving({"/a/main.log": CONTENT}) as server:
        server.drops, source = 1, at(server, CONTENT)
        with pytest.raises(PublishedUnavailable):
            fetched(source, tmp_path)
        assert fetched(source, tmp_path) == CONTENT


def test_offline_no_published_log_is_read_and_ours_is(tmp_path, monkeypatch):
    monkeypatch.setenv("X1_OFFLINE", "1")
    with pytest.raises(PublishedUnavailable, match="X1_OFFLINE=1"):
        load("llmc-124M", folder=tmp_path)
    assert len(load(READING_LOG)) > 1_000


def test_the_catalogue_pins_what_it_names():
    for name, entry in CATALOG.items():
        source = entry.source
        assert len(source.commit) == 40 and len(source.sha256) == 64, name
        assert int(source.commit, 16) and int(source.sha256, 16)
        assert source.licence in ("MIT", "Apache-2.0") and source.retrieved == "2026-11-22"
        assert source.commit in source.url and source.url.endswith(source.path)
        assert set(entry.columns) <= UNITS.keys() and entry.form in PARSERS
        assert entry.run is None or entry.run in runs()
    assert len({entry.source.sha256 for entry in CATALOG.values()}) == len(CATALOG)


# Parsers


def test_each_form_becomes_columns():
    found = PARSERS["llm.c"](LLMC)
    assert found["step"].tolist() == [0, 1, 2] and found["val_loss"][[0, 2]].tolist() == [
        11.01,
        9.5,
    ]
    assert found["lr"][:2].tolist() == [1e-6, 2e-6] and math.isnan(found["loss"][2])
    found = PARSERS["modded-nanogpt"](MODDED)
    assert found["step"].tolist() == [0, 1] and found["seconds"].tolist() == [0.465, 1.5]
    assert found["loss"][1] == 22.1 and found["val_loss"][0] == 22.5
    found = PARSERS["megatron"](MEGATRON)
    assert {name: values.tolist() for name, values in found.items()} == {
        "step": [12695.0],
        "tokens": [20155564032.0],
        "samples": [9841584.0],
        "loss": [2.463556],
        "lr": [5.969e-05],
        "grad_norm": [0.174],
        "batch": [2048.0],
        "step_seconds": [105.22],
    }


def test_rows_keep_their_order_and_a_step_may_come_twice():
    found = PARSERS["csv"]("iteration,train_loss,unknown\n1,5\n2,4,x\n1,4.5\n")
    assert found["step"].tolist() == [1, 2, 1] and found["loss"].tolist() == [5, 4, 4.5]
    found = PARSERS["megatron"](MEGATRON + MEGATRON.replace("12695/", "12694/"))
    assert found["step"].tolist() == [12695, 12694]
    found = PARSERS["llm.c"]("s:1 trl:3.0\ns:1 trl:2.0\n")
    assert found["loss"].tolist() == [3.0, 2.0]


@pytest.mark.parametrize("form", PARSERS)
def test_what_is_no_log_is_refused(form):
    for text in ("", "hello\n", "step,lr\n1,2\n"):
        with pytest.raises(LogError, match="known formats"):
            PARSERS[form](text)
    with pytest.raises(LogError, match="no number"):
        PARSERS["csv"]("step,loss\n1,much\n")


def test_a_path_of_ones_own_is_read(tmp_path):
    run = ROOT / "experiments/reference/lab00-cpu"
    log = load(run)
    steps = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in steps if line["kind"] == "step"]
    assert np.isfinite(log["loss"]).sum() == len(steps) and not log.verified
    assert log["loss"][np.isfinite(log["loss"])][0] == steps[0]["loss"]
    assert log.units["loss"] == "nats a token, of one batch"
    (tmp_path / "main.log").write_text(LLMC)
    by_hand = load("llmc-124M", path=tmp_path / "main.log")
    assert not by_hand.verified and by_hand["loss"][0] == 11.0
    with pytest.raises(LogError, match="logs no tokens"):
        by_hand["tokens"]
    for wrong, words in ((tmp_path, "metrics.jsonl"), ("no-such", "no log of the catalogue")):
        with pytest.raises(LogError, match=words):
            load(wrong)
    for wrong, words in ((tmp_path / "no-such", "cannot be read"), (tmp_path, "metrics.jsonl")):
        with pytest.raises(LogError, match=words):
            load("llmc-124M", path=wrong)
    (tmp_path / "picture.csv").write_bytes(b"\x89PNG\xff")
    with pytest.raises(LogError, match="cannot be read"):
        load(tmp_path / "picture.csv")


@pytest.mark.parametrize(
    ("name", "text", "loss"),
    [
        ("my.log", LLMC, 11.0),
        ("my.csv", LLMC, 11.0),
        ("my.txt", MODDED, 22.1),
        ("my.md", MEGATRON, 2.463556),
        ("my.dat", "step,loss\n1,5.5\n", 5.5),
        ("metrics.jsonl", '{"step": 1}\n7\n{"kind": "step", "step": 1, "loss": 4.5}\n', 4.5),
    ],
)
def test_a_file_is_read_in_whatever_form_it_has(tmp_path, name, text, loss):
    (tmp_path / name).write_text(text)
    for log in (load(tmp_path / name), load("adamw-124M", path=tmp_path / name)):
        assert log["loss"][np.isfinite(log["loss"])][0] == loss and not log.verified


def test_a_file_that_holds_no_log_is_refused_by_the_form_it_should_have_had(tmp_path):
    (tmp_path / "my.log").write_text("step,loss\n1,much\n")
    with pytest.raises(LogError, match="no number"):
        load(tmp_path / "my.log")
    (tmp_path / "wide.log").write_text("a" * 200_000 + "\n1\n")  # a field longer than csv takes
    with pytest.raises(LogError, match="no CSV"):
        load(tmp_path / "wide.log")
    (tmp_path / "metrics.jsonl").write_text('{"kind": "eval", "name": "documents"}\n')
    with pytest.raises(LogError, match="known formats"):
        load(tmp_path)


def written(log: published_logs.Log) -> str:
    """The lines that llm.c would print for a log."""
    lines = []
    for i, step in enumerate(log["step"].astype(int)):
        if math.isfinite(log["val_loss"][i]):
            lines.append(f"s:{step} tel:{float(log['val_loss'][i])!r}")
        lines.append(
            f"s:{step} trl:{float(log['loss'][i])!r} lr:{float(log['lr'][i])!r}"
            f" norm:{float(log['grad_norm'][i])!r}"
        )
    return "\n".join(lines)


def test_the_log_of_llmc_as_csv_and_as_lines_is_one(optional_data):
    path = optional_data("logs/llmc_gpt2_124M.csv")
    log = load("llmc-124M", path=path)
    assert len(log) == 19_560 and set(log.columns) == set(CATALOG["llmc-124M"].columns)
    again = PARSERS["llm.c"](written(log))
    for name, values in log.columns.items():
        np.testing.assert_array_equal(again[name], values)
    said = published_logs.quoted("llmc-124M")
    for i, step in enumerate(said["step"].astype(int)):
        for name in ("loss", "lr", "grad_norm"):
            assert said[name][i] == log[name][step]


def test_the_quoted_lines_of_bloom_are_those_of_the_chronicles(optional_data):
    with open(optional_data("logs/bigscience_chronicle_lines.csv")) as file:
        lines = [r for r in csv.DictReader(file) if "tr11-176B-ml/chronicles.md" in r["file"]]
    lines.sort(key=lambda row: int(row["iteration"]))
    said = published_logs.quoted("bloom-176B")
    for name, column in (("step", "iteration"), ("tokens", "consumed_tokens"), ("lr", "lr"),
                         ("loss", "lm_loss"), ("grad_norm", "grad_norm")):  # fmt: skip
        assert said[name].tolist() == [float(row[column]) for row in lines]


# Facts


def test_every_fact_has_a_source_and_every_source_a_date():
    for name, run in runs().items():
        assert run.facts.keys() == FIELDS.keys() and len(run.log) > 40, name
        for key, source in run.sources.items():
            assert source.keys() == {"title", "url", "date", "read"}, (name, key)
            assert source["url"].startswith("https://") and source["read"] == "2026-11-22"
            assert "0" <= source["date"][:1] <= "9"
        for field, fact in run.facts.items():
            assert fact is None or (fact.source in run.sources and fact.value != ""), (name, field)
    unknown = sum(fact is None for run in runs().values() for fact in run.facts.values())
    assert 0 < unknown < 60  # not everything is public, and nothing is made up to hide it
    with pytest.raises(LogError, match="no lines are quoted"):
        published_logs.quoted("gpt-5")


def test_blooms_script_gives_blooms_lines_to_the_token():
    said = published_logs.quoted("bloom-176B")
    batch, samples = published_logs.ramped(45_000, 192, 16, 9_765_625, 2_048)
    at = said["step"].astype(int) - 1
    assert (samples[at] * 2_048).tolist() == said["tokens"].tolist()
    assert batch[at].tolist() == said["batch"].tolist()
    for place, printed in zip(at, said["lr"], strict=True):
        lr = published_logs.cosine(samples[place], 6e-5, 6e-6, 183_105, 200_000_000)
        assert f"{lr:.3E}" == f"{printed:.3E}"
    for wrong in ((192, 16, 9_765_625, 2_032), (192, 32, 9_765_625, 2_048)):
        assert (published_logs.ramped(45_000, *wrong)[1][at] * 2_048 != said["tokens"]).all()
    assert lead(said["loss"][1:10], said["grad_norm"][1:10]) == 4


def test_llmcs_script_gives_the_printed_rates():
    said = published_logs.quoted("llmc-124M")
    for step, printed in zip(said["step"], said["lr"], strict=True):
        lr = published_logs.cosine(step + (step < 700), 6e-4, 0.0, 700, 19_560)
        assert f"{lr:.6f}" == f"{printed:.6f}"


def test_a_schedule_is_flat_after_its_end():
    assert published_logs.cosine(300, 1.0, 0.1, 10, 200) == pytest.approx(0.1)
    assert published_logs.cosine(5, 1.0, 0.1, 10, 200) == 0.5


# Our own log, with six things in it


@pytest.fixture(scope="module")
def reading():
    return load(READING_LOG), nb05.made()


def test_the_record_is_what_was_done(reading):
    log, made = reading
    step, tokens = log["step"].astype(int), log["tokens"]
    back = int(np.flatnonzero(np.diff(step) < 0)[0])
    assert (step[back], step[back + 1] - 1) == (
        made["killed_after_step"],
        made["resumed_from_step"],
    )
    assert step[0] == 1 and step[-1] == made["steps"] and (np.diff(step) == 1).sum() == len(log) - 2
    size = np.diff(tokens, prepend=0)[: back + 1]
    for first, batch_tokens in made["batch_tokens_from_step"].items():
        assert size[int(first) - 1] == batch_tokens
    assert log["lr"][: made["warmup_steps"]].argmax() == made["warmup_steps"] - 1
    first, last = made["bad_rate_steps"]
    assert (log["lr"][first - 1 : last] > 10 * log["lr"][first - 2]).all()
    again = slice(back + 1, back + 1 + made["killed_after_step"] - made["resumed_from_step"])
    lost = slice(made["resumed_from_step"], made["killed_after_step"])
    assert step[again].tolist() == step[lost].tolist()
    assert (log["loss"][again] != log["loss"][lost]).all()  # other batches: the place was not kept


def test_the_script_is_the_one_that_made_the_record(reading):
    path = ROOT / "experiments/benchmarks/make_reading_log.py"
    spec = importlib.util.spec_from_file_location("make_reading_log", path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    log, made = reading
    sizes = {str(step): n * script.SEQ_LEN for step, n in script.RAMP.items()}
    assert made["batch_tokens_from_step"] == sizes and made["seed"] == script.SEED
    usual = [i for i in range(script.KILLED) if log["lr"][i] < 2 * script.PEAK_LR]
    assert len(usual) == script.KILLED - 4
    for i in usual:
        assert log["lr"][i] == pytest.approx(script.rate(i + 1), abs=5e-7)


def test_the_spikes_are_told_apart_by_the_rate_alone(reading):
    log, made = reading
    found = {s.place + 1: s for s in read_log(log["loss"], log["grad_norm"], log["lr"])}
    assert found[made["bad_batch_step"]].cause == "unknown"
    assert found[made["bad_batch_step"]].duration <= 2
    near = [s for place, s in found.items() if 0 <= place - made["bad_rate_steps"][0] <= 5]
    assert [s.cause for s in near] == ["lr-too-high"]


# Figures


def test_figures_are_drawn(reading):
    log, _ = reading
    for drawn in (
        figures.panels(log, "a title"),
        figures.panels(log, "a title", {"a thing": 5, "another": 700}),
        figures.whole(published_logs.quoted("llmc-124M"), "few", batch_tokens=524_288),
        figures.whole(log, "many", spikes=[380]),
    ):
        assert drawn.png.startswith(b"\x89PNG") and len(drawn.words) > 20
    table = figures.settings(runs(), ("eps", "lr_peak", "tokens"))
    assert (
        len(table.rows) == len(runs()) and ["Falcon-40B", "?", "0.000185", "1,000B"] in table.rows
    )
