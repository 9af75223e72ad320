"""The definition of done: what is there passes, and every planted damage is found and named."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from lab_folder import copied, rehearsed

from x1lib.budget_guard import Ledger
from x1lib.done import BOXES, EXIT_OPEN, EXIT_REHEARSED, DoneError, State, exit_code, look
from x1lib.done.__main__ import main
from x1lib.done.box import Box
from x1lib.done.postmortem import png_fault
from x1lib.done.reflections import PAGE as REFLECTIONS
from x1lib.done.reflections import PLACE, QUESTIONS, template
from x1lib.quiz import N_ASKED, Paper, grade, machine_answers, save
from x1lib.session.sample import SAMPLE, SAMPLE_TOKENS
from x1lib.session.sample import keep as keep_sample

pytest.importorskip("jsonschema", reason="the extra `lab` is not installed")
pytest.importorskip("matplotlib", reason="the extra `lab` is not installed")
WORK = ("run", "triple", "postmortem", "quiz", "cost")


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    return rehearsed(tmp_path_factory.mktemp("labs"))


@pytest.fixture
def lab(whole, tmp_path) -> Path:
    """A copy that a test may damage."""
    return copied(whole, tmp_path / "lab")


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text, f"{old!r} is not in {path.name}"
    path.write_text(text.replace(old, new, 1))


def set_json(path: Path, *keys: object, value: object) -> None:
    values = one = json.loads(path.read_text())
    for key in keys[:-1]:
        one = one[key]
    one[keys[-1]] = value
    path.write_text(json.dumps(values))


def manifest(run: Path, *keys: object, value: object) -> None:
    set_json(run / "manifest.json", *keys, value=value)


def results(out: Path, *keys: object, value: object) -> None:
    set_json(out / "results.json", *keys, value=value)


def evidence(lab: Path, name: str, *keys: object, value: object) -> None:
    set_json(lab / "spike" / f"{name}.json", *keys, value=value)


def flip(path: Path, at: float = 0.7) -> None:
    """Turn one bit of a file."""
    data = bytearray(path.read_bytes())
    data[int(at * len(data))] ^= 1
    path.write_bytes(data)


def checked(lab: Path, name: str) -> Box:
    return look(lab, [name])[name]


# A folder as it should be


def test_a_laptops_folder_is_rehearsed_and_never_done(whole):
    boxes = look(whole, WORK)
    assert [(n, box.state, box.faults) for n, box in boxes.items()] == [
        (name, State.REHEARSED, ()) for name in WORK
    ]
    assert exit_code(boxes) == EXIT_REHEARSED
    assert re.search(r"loss [\d.]+ again over [\d,]+ tokens", boxes["run"].found)
    assert "12 of 12 runs of 3 sizes agree" in boxes["triple"].found
    assert "D_opt(1B)" in boxes["triple"].found and " to " in boxes["triple"].found
    assert "corrupt-data at step 41" in boxes["postmortem"].found
    assert "a million tokens" in boxes["cost"].found
    lines = [line for i, box in enumerate(boxes.values(), start=1) for line in box.lines(i)]
    assert all(line.startswith(("[~]", "       ->")) for line in lines)


def test_an_empty_folder_says_what_makes_each_box(tmp_path, capsys):
    assert main([str(tmp_path)]) == EXIT_OPEN
    said = capsys.readouterr().out
    for command in ("lab00", "lab01", "lab02", "quiz", "lab03"):
        assert f"-> make {command}" in said
    assert said.count("[ ]") == 6 and "exercises: 0 of" in said
    assert list(tmp_path.iterdir()) == []  # it is not the course's folder


def test_a_page_for_reflections_is_begun_where_a_lab_has_written(tmp_path):
    (tmp_path / "scaling-law").mkdir()
    (tmp_path / "scaling-law" / "fit.json").write_text("{")
    (tmp_path / "run-local").mkdir()
    (tmp_path / "run-local" / "manifest.json").write_text('{"tokens": 9, "mfu": 0.4}')
    boxes = look(tmp_path)  # every box, whatever stands there
    assert {box.state for box in boxes.values()} == {State.OPEN}
    assert "is new" in boxes["reflections"].faults[0]
    page = (tmp_path / REFLECTIONS).read_text()
    assert page.count(PLACE) == 4 and "> " not in page


def test_no_damage_to_one_box_keeps_the_others_from_a_look(lab, monkeypatch, capsys):
    def broken(lab: Path, log) -> Box:
        raise RuntimeError("a tensor of 3 into one of 4")

    monkeypatch.setitem(BOXES, "triple", broken)
    boxes = look(lab, ["triple", "quiz"])
    assert boxes["triple"].state is State.OPEN and boxes["triple"].command == "make lab01"
    assert "RuntimeError: a tensor of 3 into one of 4" in boxes["triple"].faults[0]
    assert boxes["quiz"].state is State.REHEARSED
    assert main([str(lab), "--only", "triple,quiz"]) == EXIT_OPEN
    said = capsys.readouterr().out
    assert "[ ] 2. the triple: open" in said and "[~] 4. the quiz" in said


def test_a_folder_or_box_that_is_not_there_is_refused(tmp_path, capsys):
    assert main([str(tmp_path / "none")]) == 2
    assert "is no folder" in capsys.readouterr().err
    with pytest.raises(DoneError, match="no box 'tea'"):
        look(tmp_path, ["tea"])


# The run


def test_the_run_does_not_need_its_text(whole):
    values = json.loads((whole / "run-local" / "manifest.json").read_text())
    assert not Path(values["config"]["source"]).exists()
    kept = values["heldout_sample"]
    tokens = np.load(whole / "run-local" / SAMPLE)
    assert len(tokens) == kept["n_tokens"] + 1 and SAMPLE in values["artefacts"]
    assert kept["loss"] == values["val_loss"]  # all held-out tokens are fewer than the sample


def resigned(run: Path, name: str) -> None:
    """Give a changed file its new hash, as a careful forger would."""
    import hashlib

    digest = hashlib.sha256((run / name).read_bytes()).hexdigest()
    manifest(run, "artefacts", name, value=digest)


def worse_weights(run: Path) -> None:
    from safetensors.numpy import load_file, save_file

    path = run / "checkpoint" / "model.safetensors"
    tensors = load_file(path)
    name = "model.norm.weight"
    save_file(tensors | {name: -tensors[name]}, path, {"format": "pt"})
    resigned(run, "checkpoint/model.safetensors")


def other_loss(run: Path) -> None:
    values = json.loads((run / "manifest.json").read_text())
    loss = 0.98 * values["val_loss"]
    values |= {"val_loss": loss}
    values["heldout"]["documents"]["loss"] = values["heldout_sample"]["loss"] = loss
    (run / "manifest.json").write_text(json.dumps(values))


def other_record(run: Path) -> None:
    other_loss(run)
    loss = json.loads((run / "manifest.json").read_text())["val_loss"]
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    last = [line for line in lines if line.get("name") == "documents"][-1]
    last["loss"] = loss
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda run: flip(run / "checkpoint" / "model.safetensors"), "model.safetensors: the file"),
        (lambda run: flip(run / SAMPLE), "heldout-sample.npy: the file is not the one"),
        (lambda run: (run / "loss-curve.png").unlink(), "the file is missing"),
        (lambda run: (run / "manifest.json").write_text("{"), "is damaged"),
        (lambda run: (run / "manifest.json").write_text("[]"), "holds no object"),
        (lambda run: (run / "manifest.json").unlink(), "neither run-cloud nor run-local"),
        (lambda run: manifest(run, "tokens", value=-1), "tokens: -1"),
        (lambda run: manifest(run, "tokens", value=6144), "6,144 tokens, metrics.jsonl 3,072"),
        (lambda run: manifest(run, "status", value="running"), "finished"),
        (lambda run: manifest(run, "artefacts", value={"x": "0" * 64}), "missing"),
        (worse_weights, "on its sample the checkpoint loses"),
        (other_loss, "is not the one that metrics.jsonl says"),
        (other_record, "on its sample the checkpoint loses"),
        (lambda run: manifest(run, "val_loss", value=1.0), "val_loss is 1.0"),
        (lambda run: manifest(run, "heldout_sample", value=None), "kept no held"),
        (lambda run: manifest(run, "config", "hours", value=1e-6), "and had 1e-06"),
        (lambda run: manifest(run, "wall_clock_seconds", value=1e9), "by its manifest and 0.0"),
        (lambda run: (run.parent / "ledger.jsonl").write_text("{}\n"), "ledger.jsonl is damaged"),
    ],
)  # fmt: skip
def test_a_damaged_run_is_found(lab, damage, said):
    damage(lab / "run-local")
    box = checked(lab, "run")
    assert box.state is State.OPEN and said in " ".join(box.faults)
    assert box.command.startswith("make lab00")


def test_a_manifest_without_the_models_hash_is_found(lab):
    path = lab / "run-local" / "manifest.json"
    hashes = json.loads(path.read_text())["artefacts"]
    del hashes["checkpoint/model.safetensors"]
    set_json(path, "artefacts", value=hashes)
    assert "no hash of checkpoint/model.safetensors" in checked(lab, "run").faults[0]


def rent(lab: Path, usd: float = 12.0, cap_usd: float = 50.0) -> str:
    """Make of the run one that a rented card has trained, by manifest and ledger."""
    (lab / "run-local").rename(lab / "run-cloud")
    path = lab / "run-cloud" / "manifest.json"
    for keys, value in (
        (("machine", "device"), "cuda"),
        (("config", "usd_per_hour"), 1.10),
        (("config", "hours"), 24.0),
        (("usd",), usd),
        (("usd_status",), None),
    ):
        set_json(path, *keys, value=value)
    run_id = json.loads(path.read_text())["run_id"]
    ledger = Ledger(lab / "ledger.jsonl", cap_usd)
    ledger.settle(ledger.reserve(usd, "run-cloud", run_id), usd)
    return run_id


def test_a_rented_run_under_the_cap_is_done(lab):
    rent(lab)
    box = checked(lab, "run")
    assert box.state is State.DONE and "12.00 of 50.00 US dollars" in box.found
    assert box.lines(1)[0].startswith("[x] 1. the run: done; run-cloud")


def test_money_that_does_not_agree_is_found(lab):
    rent(lab)
    set_json(lab / "run-cloud" / "manifest.json", "usd", value=13.0)
    assert "the manifest says 13.0 US dollars, the ledger 12.00" in checked(lab, "run").faults[0]
    (lab / "ledger.jsonl").unlink()
    assert "nobody knows what was spent" in checked(lab, "run").faults[0]
    ledger = Ledger(lab / "ledger.jsonl")
    ledger.settle(ledger.reserve(13.0, "another", "0" * 32), 13.0)
    assert "has no dollar of the run" in checked(lab, "run").faults[0]


def test_a_run_over_the_cap_is_not_done(lab):
    rent(lab)
    ledger = Ledger(lab / "ledger.jsonl")
    ledger.settle(ledger.reserve(1.0, "another", "0" * 32), 40.0)
    assert "52.00 US dollars are spent, over the cap of 50.00" in checked(lab, "run").faults[0]


def test_a_broken_rented_run_leaves_the_local_one_rehearsed_and_is_named(lab):
    shutil.copytree(lab / "run-local", lab / "kept")
    rent(lab)
    (lab / "kept").rename(lab / "run-local")
    flip(lab / "run-cloud" / SAMPLE)
    box = checked(lab, "run")
    assert box.state is State.REHEARSED and box.faults[0].startswith("run-cloud: ")


class Text:
    """What `keep` asks of a session: held-out tokens, a plan, a clock."""

    def __init__(self, out: Path, n_tokens: int):
        self.out, self.tokens = out, np.arange(n_tokens + 1, dtype=np.uint16) % 50
        self.shards, self.pace, self.plan = self, self, self
        self.config, self.window = self, 64
        self.micro_batch, self.seconds_for_last_look = 64, np.inf

    def heldout(self, name: str) -> np.ndarray:
        return self.tokens


def test_of_a_long_text_the_first_64k_tokens_are_kept_and_read_again(tmp_path):
    from x1lib.train import GPT, Config, evaluate

    model = GPT(Config(steps=1, shape="1x64", seq_len=64), 64)
    run = Text(tmp_path, 70_000)
    kept = keep_sample(run, model, {"documents": {"n_tokens": 70_000, "loss": 9.0}})
    tokens = np.load(tmp_path / SAMPLE)
    assert len(tokens) == SAMPLE_TOKENS + 1 and kept["n_tokens"] == SAMPLE_TOKENS
    ones = np.ones(64, np.int64)
    expected = evaluate(model, run.tokens[: SAMPLE_TOKENS + 1], ones)["loss"]
    assert kept["loss"] == pytest.approx(expected, rel=1e-6)
    run.seconds_for_last_look = -1.0  # the hours are over: one batch, and no more than that kept
    kept = keep_sample(run, model, {"documents": {"n_tokens": 70_000, "loss": 9.0}})
    assert kept["n_tokens"] == 16 * 64 and len(np.load(tmp_path / SAMPLE)) == 16 * 64 + 1
    short = keep_sample(run, model, {"documents": {"n_tokens": 500, "loss": 9.0}})
    assert short == {"file": SAMPLE, "text": "documents", "loss": 9.0, "n_tokens": 500}


# The triple


def first_run(out: Path) -> Path:
    return sorted((out / "runs").iterdir())[0]


def csv_field(out: Path, column: str, value: str) -> None:
    lines = (out / "points.csv").read_text().splitlines()
    row, at = lines[1].split(","), lines[0].split(",").index(column)
    row[at] = value
    (out / "points.csv").write_text("\n".join([lines[0], ",".join(row), *lines[2:]]) + "\n")


def drop_row(out: Path) -> None:
    lines = (out / "points.csv").read_text().splitlines()
    (out / "points.csv").write_text("\n".join(lines[:-1]) + "\n")


def double_row(out: Path) -> None:
    lines = (out / "points.csv").read_text().splitlines()
    (out / "points.csv").write_text("\n".join([*lines, lines[-1]]) + "\n")


def scaled(out: Path, *keys: str, by: float = 1.02) -> None:
    values = json.loads((out / "fit.json").read_text())
    for key in keys:
        values = values[key]
    set_json(out / "fit.json", *keys, value=by * values)


def cut(path: Path) -> None:
    """End a file in the middle of its last line, as a full disk does."""
    path.write_text(path.read_text().rstrip()[:-3])


LAW = ("joint_fits", "total")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda out: shutil.rmtree(out), "holds no sweep"),
        (lambda out: (out / "design.json").write_text("{}"), "design.json is damaged"),
        (lambda out: (out / "points.csv").unlink(), "points.csv cannot be read"),
        (lambda out: csv_field(out, "val_loss", "4.2"), "val_loss of"),
        (lambda out: csv_field(out, "tokens", "750081"), "tokens of"),
        (lambda out: csv_field(out, "status", "not run"), "status of"),
        (drop_row, "and the design differ in"),
        (double_row, "1 run(s) in more than one row"),
        (lambda out: manifest(first_run(out), "val_loss", value=4.0), "val_loss of"),
        (lambda out: manifest(first_run(out), "config", "lr", value=0.1), "lr"),
        (lambda out: (first_run(out) / "metrics.jsonl").write_text(""), "says another loss"),
        (lambda out: (first_run(out) / "metrics.jsonl").unlink(), "metrics.jsonl cannot be read"),
        (lambda out: cut(first_run(out) / "metrics.jsonl"), "metrics.jsonl cannot be read"),
        (lambda out: (out / "fit.json").unlink(), "fit.json is missing"),
        (lambda out: scaled(out, *LAW, "law", "alpha_n"), "the joint law is not the one"),
        (lambda out: scaled(out, "fits", "total", "law", "E"), "the additive law is not the one"),
        (lambda out: scaled(out, *LAW, "optimal_tokens_1e9", by=1.5), "D_opt(1B) of the joint law"),
        (lambda out: scaled(out, "prediction_1e9", "optimal_tokens_1e9"), "is not the one of the"),
        (lambda out: set_json(out / "fit.json", "prediction_1e9", "noise", value=None), "interval"),
        (lambda out: set_json(out / "fit.json", "form", value="additive"), "leaves less"),
        (lambda out: set_json(out / "fit.json", "noise_floor", "freedom", value=9), "the noise"),
        (lambda out: set_json(out / "fit.json", "n_points", "of", value=99), "counts other points"),
        (lambda out: set_json(out / "fit.json", "heldout_goal", value={}), "what was sealed"),
        (lambda out: edit(out / "prediction.md", "D_opt(1B) = ", "D_opt(1B) = 9"), "does not say"),
        (lambda out: edit(out / "prediction.md", "| noise of seed", "| luck of seed"), "does not"),
        (lambda out: (out / "prediction.md").unlink(), "prediction.md is missing"),
        (lambda out: (out / "prediction.md").write_bytes(b"\xff\xfe"), "does not say"),
    ],
)  # fmt: skip
def test_a_damaged_triple_is_found(lab, damage, said):
    damage(lab / "scaling-law")
    box = checked(lab, "triple")
    assert box.state is State.OPEN and said in box.faults[0]
    assert box.command in ("make lab01", "python -m x1lib.sweep fit")


def test_an_interval_that_was_narrowed_in_both_places_is_found(lab):
    path = lab / "scaling-law" / "fit.json"
    best = json.loads(path.read_text())["prediction_1e9"]["optimal_tokens_1e9"]
    for keys in ((*LAW, "interval_optimal_tokens_1e9"), ("prediction_1e9", "noise")):
        set_json(path, *keys, value=[0.99 * best, 1.01 * best])
    assert "the interval for 1B ends at" in checked(lab, "triple").faults[0]


def test_what_was_sealed_is_held_against_what_is_said(lab):
    out = lab / "scaling-law"
    record = Path(__file__).resolve().parent.parent / "experiments/reference/scaling-law/lab01-cpu"
    sealed = json.loads((record / "sealed.json").read_text())
    (out / "sealed.json").write_text(json.dumps(sealed))
    assert "what was predicted of the largest size" in checked(lab, "triple").faults[0]


# The post-mortem


def without_section(lab: Path, name: str) -> None:
    path = lab / "spike-postmortem.md"
    found = re.sub(
        rf"^## {re.escape(name)}\n.*?(?=^## |\Z)", "", path.read_text(), flags=re.M | re.S
    )
    assert found != path.read_text()
    path.write_text(found)


PAGE = "spike-postmortem.md"


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda lab: (lab / PAGE).unlink(), "is missing"),
        *((lambda lab, name=name: without_section(lab, name), f"lacks the section {name!r}")
          for name in ("Why", "Evidence", "Data or state?", "Recovery", "Cost", "Limits")),
        *((lambda lab, row=row: edit(lab / PAGE, f"| {row} |", "| |"), f"lacks the row {row!r}")
          for row in ("run", "time", "samples", "held-out probe", "cause", "rewound to")),
        (lambda lab: edit(lab / PAGE, "| 160 to 175 |", "| 160 to 176 |"), "samples is not what"),
        (lambda lab: edit(lab / PAGE, "| **corrupt-data**", "| **rare-token**"), "cause is not"),
        (lambda lab: edit(lab / PAGE, "| skip-batch | +0.800 |", "| skip-batch | +0.100 |"),
         "what came of skip-batch"),
        (lambda lab: flip(lab / "spike" / "grad-norm.png"), "grad-norm.png is damaged"),
        (lambda lab: (lab / "spike" / "token-histogram.png").write_bytes(b"\x89PNG"), "is no PNG"),
        (lambda lab: (lab / "spike" / "token-histogram.png").unlink(), "cannot be read"),
        (lambda lab: edit(lab / PAGE, "(spike/grad-norm.png)", "()"), "does not show"),
        (lambda lab: (lab / "spike" / "trace.json").write_text("{"), "trace.json is damaged"),
        (lambda lab: (lab / "spike" / "step.json").unlink(), "step.json is missing"),
        (lambda lab: evidence(lab, "step", "step", value=40), "step.json is of step 40"),
        (lambda lab: evidence(lab, "analysis", "outcomes", value={}), "no recovery"),
        (lambda lab: evidence(lab, "analysis", "outcomes", value=["one"]), "cannot be checked"),
        (lambda lab: evidence(lab, "analysis", "verdict", value={}), "lacks"),
        (lambda lab: evidence(lab, "trace", "series", "step", value=[1]), "reach"),
    ],
)  # fmt: skip
def test_a_damaged_postmortem_is_found(lab, damage, said):
    damage(lab)
    box = checked(lab, "postmortem")
    assert box.state is State.OPEN and said in " ".join(box.faults)


def test_a_postmortem_of_a_rented_run_is_done(lab):
    rent(lab)
    assert checked(lab, "postmortem").state is State.DONE


def test_a_picture_that_was_cut_is_found(lab):
    path = lab / "spike" / "grad-norm.png"
    assert png_fault(path) is None
    path.write_bytes(path.read_bytes()[:-12])
    assert png_fault(path) == "is cut short"


# The quiz


def test_a_persons_pass_is_done_and_a_fail_is_open(lab):
    paper = Paper(2)
    answers = machine_answers(paper)
    save(grade(paper, dict(list(answers.items())[:12])), lab / "quiz-score.json")
    box = checked(lab, "quiz")
    assert box.state is State.REHEARSED
    assert box.faults == (f"your own: 12 of {N_ASKED} right at best; 13 pass",)
    save(grade(paper, answers), lab / "quiz-score.json")  # its key has been read by now
    assert checked(lab, "quiz") == box
    save(grade(Paper(3), machine_answers(Paper(3))), lab / "quiz-score.json")
    box = checked(lab, "quiz")
    assert box.state is State.DONE and f"16 of {N_ASKED}" in box.found
    record = json.loads((lab / "quiz-score.json").read_text())
    record["attempts"] = record["attempts"][1:2]
    (lab / "quiz-score.json").write_text(json.dumps(record))
    box = checked(lab, "quiz")
    assert box.state is State.OPEN and "12 of 16 right at best; 13 pass" in box.faults[0]


def test_a_forged_score_is_found(lab):
    set_json(lab / "quiz-score.json", "attempts", 0, "mode", value="quiz")
    assert "other questions" in checked(lab, "quiz").faults[0]
    (lab / "quiz-score.json").unlink()
    assert "is missing" in checked(lab, "quiz").faults[0]


# The cost of a token


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda out: (out / "results.json").unlink(), "results.json is missing"),
        (lambda out: (out / "inference-cost.md").unlink(), "inference-cost.md is missing"),
        (lambda out: edit(out / "inference-cost.md", "## Price", "## Cost"), "lacks '## Price'"),
        (lambda out: edit(out / "inference-cost.md", "| 1x64 int8 | 4 |", "| 1x64 int8 | 5 |"),
         "does not say the price"),
        (lambda out: results(out, "usd_per_hour", value=0.04), "US dollars a"),
        (lambda out: results(out, "speed", 0, "tokens_per_sec", value=9e9), "a million"),
        (lambda out: results(out, "usd_per_million_tokens", value=1e-3), "the least is"),
        (lambda out: results(out, "prices", value=[]), "no price of some speed"),
        (lambda out: results(out, "quality", value={}), "what the quantised"),
        (lambda out: results(out, "speed", value=None), "holds what cannot be checked"),
        (lambda out: results(out, "speed", 0, "tokens_per_sec", value=0), "give a number above 0"),
        (lambda out: set_json(out.parent / "run-local" / "manifest.json", "inference",
                              "usd_per_million_tokens", value=1.0), "does not hold the price"),
    ],
)  # fmt: skip
def test_a_damaged_price_is_found(lab, damage, said):
    damage(lab / "inference-cost")
    box = checked(lab, "cost")
    assert box.state is State.OPEN and said in box.faults[0]


def test_a_price_of_ones_own_on_a_rented_run_is_done(lab):
    rent(lab)
    assert checked(lab, "cost").state is State.REHEARSED  # the price was an example's
    set_json(lab / "inference-cost" / "results.json", "settings", "usd_per_hour", value=0.08)
    assert checked(lab, "cost").state is State.DONE


# The reflections

ANSWER = (
    "We reached an MFU of 0.43, and compute was the line that dominated all others by far; small"
    " matrices keep a small model from more, since each launch and each norm takes its time too."
)


def answered(lab: Path, *answers: str) -> None:
    text = template(lab)
    for answer in answers:
        text = text.replace(PLACE, answer, 1)
    (lab / REFLECTIONS).write_text(text)


def test_the_template_holds_the_runs_figures_and_is_no_answer(lab):
    box = checked(lab, "reflections")
    assert box.state is State.OPEN
    page = (lab / REFLECTIONS).read_text()
    assert all(question in page for question in QUESTIONS) and page.count(PLACE) == 4
    assert "> Measured: MFU" in page and "> Your law: D_opt(1B)" in page
    again = checked(lab, "reflections")
    (lab / REFLECTIONS).unlink()
    for path in ("run-local/manifest.json", "scaling-law/fit.json"):
        values = json.loads((lab / path).read_text())
        values.pop("n_params", values.pop("prediction_1e9", None))
        (lab / path).write_text(json.dumps(values))
    checked(lab, "reflections")  # figures that are not there are left out
    page = (lab / REFLECTIONS).read_text()
    assert page.count(PLACE) == 4 and "> Measured: MFU" in page and "> Your law" not in page
    assert again.faults == tuple(f"question {i} has no answer" for i in range(1, 5))


def test_four_answers_of_ones_own_are_done(lab):
    answers = [f"{ANSWER} That is answer {i}." for i in range(4)]
    answered(lab, *answers)
    box = checked(lab, "reflections")
    assert box.state is State.DONE and box.found.endswith("counted, not read")
    for i, (words, said) in enumerate(
        [
            ("Too short by far.", "question 1 is answered in"),
            ("word " * 60, "question 2 is answered in"),
            (answers[0].replace("compute", "the sum"), "question 3 asks for one of compute"),
            (answers[0], "question 4 has the answer of another one"),
        ]
    ):
        answered(lab, *answers[:i], words, *answers[i + 1 :])
        assert said in checked(lab, "reflections").faults[0]
    answered(lab, re.sub(r"\d", "some", ANSWER), *answers[1:])
    assert "asks for a number" in checked(lab, "reflections").faults[0]


# All together


def test_all_six_done_is_exit_0_and_the_command_says_it(lab, capsys):
    rent(lab)
    paper = Paper(2)
    save(grade(paper, machine_answers(paper)), lab / "quiz-score.json")
    set_json(lab / "inference-cost" / "results.json", "settings", "usd_per_hour", value=0.08)
    answered(lab, *(f"{ANSWER} That is answer {i}." for i in range(4)))
    boxes = ("run", "postmortem", "quiz", "cost", "reflections")
    assert main([str(lab), "--only", ",".join(boxes)]) == 0
    assert capsys.readouterr().out.count("[x]") == 5
    assert exit_code(look(lab)) == EXIT_REHEARSED  # the sweep is a laptop's
