"""A folder as the labs leave it, small: a trained run, a recorded sweep, a post-mortem, prices."""

import json
import math
import shutil
from pathlib import Path

from data_folders import write_jsonl

from x1lib.done import triple
from x1lib.inference.pricing import usd_per_million_tokens
from x1lib.postmortem import Analysis, Detail, Features, Incident, Outcome, Trace, Verdict, write
from x1lib.postmortem.trace import SERIES
from x1lib.quiz import REHEARSAL, Paper, grade, machine_answers, save
from x1lib.sweep import read_points
from x1lib.sweep.answers import FORMS, summary, words_of, write_answers
from x1lib.sweep.fitting import DEFAULT_N
from x1lib.sweep.points import write as write_points
from x1lib.train import Config, train

ROOT = Path(__file__).resolve().parent.parent
RECORD = ROOT / "experiments" / "reference" / "scaling-law" / "lab01-cpu"
SIZES = ("2x16:2/1:48", "2x64:8/4:192", "2x112:14/7:336")  # of the record


def trained(lab: Path) -> Path:
    """A run of 12 steps, on a text of its own."""
    text = lab / "small.jsonl"
    write_jsonl(text, 300)
    out = lab / "run-local"
    config = Config(
        out=str(out), steps=12, shape="1x64", seq_len=32, batch_tokens=256, dtype="float32",
        compile="off", tokenizer="bpe4096", eval_tokens=512, sample_tokens=0, source=str(text),
    )  # fmt: skip
    train(config, log=lambda line: None)
    text.unlink()  # what is checked must not need it
    return out


def recorded(lab: Path, sizes: tuple[str, ...] = SIZES) -> Path:
    """Some runs of the sweep that the project keeps, one seed each, fitted anew."""
    out = lab / "scaling-law"
    out.mkdir()
    kept = json.loads((RECORD / "design.json").read_text())
    kept["design"] |= {"sizes": list(sizes), "seeds": 1, "replicated": 0}
    (out / "design.json").write_text(json.dumps(kept))
    design = triple._design(kept)
    names = {run.id for run in design.runs}
    rows = [row for row in read_points(RECORD / "points.csv") if row.run_id in names]
    manifests = json.loads((RECORD / "manifests.json").read_text())
    for row in rows:
        folder, values = out / "runs" / row.run_id, manifests[row.run_id]
        folder.mkdir(parents=True)
        # The record leaves out what a reader does not look at.
        values |= {"environment": {}, "artefacts": {"loss-curve.png": "0" * 64}}
        if values["lineage"]:
            values["lineage"] = {"changed": {}, "plan": {}} | values["lineage"]
        (folder / "manifest.json").write_text(json.dumps(values))
        line = {"kind": "eval", "name": "documents", "loss": row.val_loss}
        (folder / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    write_points(out / "points.csv", rows)
    fits = {form: {DEFAULT_N: fit(rows, DEFAULT_N)} for form, fit in FORMS.items()}
    found = summary(design, rows, fits, {}, [], None)
    write_answers(out, found, words_of(design, rows, found, 3.85))
    return out


def postmortem(lab: Path, run_id: str) -> Path:
    """A page and its evidence, of figures that are made up, by the code that writes them."""
    steps = list(range(31, 61))
    series = {name: [1.0 + 0.01 * i for i in range(len(steps))] for name in SERIES}
    series["step"] = steps
    features = Features(onset=10, loss_rise=1.2, probe_rise=0.4, excess=1.1, other_data_rise=0.0)
    verdict = Verdict("corrupt-data", "high", ("the batch is out of order",), (), features)
    detail = Detail(
        41, [160, 161], {"embedding.weight": {"gradient": 1.0, "weight": 9.0, "update": 0.01,
                                              "g2_over_v": 1.0}},
        [], 0.1, [4.0, 6.0], [{"sample": 161, "loss": 6.0, "text": "no order"}],
        {"batch": [0.1] * 10, "corpus": [0.1] * 10},
    )  # fmt: skip
    curves = {"loss": [4.0] * 50, "probe": [4.0] * 50}
    outcomes = {
        name: Outcome(name, 0.4 * k, 0.1 * k, 4.2, 1.0, 12, 500, None, curves)
        for k, name in enumerate(("untouched", "skip-batch", "placebo 1"), start=1)
    }
    cells = {"excess": 1.0, "rise": 0.3}
    pairs = [f"{state}, {data}" for state in ("old", "spike") for data in ("spike", "other")]
    found = Analysis(
        lab / "run-local", {"run_id": run_id}, 42, 1.8e9, Incident(30, 41, 2, 160, 176),
        Trace(series), verdict, detail, True, 9,
        {"step": steps, "loss": series["loss"], "grad_norm": series["grad_norm"]},
        outcomes=outcomes, noise={"end": 0.05}, two_by_two=dict.fromkeys(pairs, cells),
        tokens_a_step=256,
    )  # fmt: skip
    return write(found, lab, log=lambda line: None)


def priced(lab: Path, run: Path) -> Path:
    """results.json, its page, and the price in the run's manifest."""
    out, speeds = lab / "inference-cost", {}
    out.mkdir()
    for model, base in (("1x64 fp32", 900.0), ("1x64 int8", 1500.0), ("gpt2-124m fp32", 20.0)):
        speeds |= {(model, batch): base * math.sqrt(batch) for batch in (1, 4)}
    price = {at: usd_per_million_tokens(rate, 0.08, 0.5) for at, rate in speeds.items()}
    rows = [
        {"model": m, "batch": b, "context_tokens": 48, "utilisation": 0.5,
         "usd_per_million_tokens": usd} for (m, b), usd in price.items()
    ]  # fmt: skip
    best = next(r for r in rows if (r["model"], r["batch"]) == ("1x64 int8", 4))
    values = json.loads((run / "manifest.json").read_text())
    found = {
        "format": 1,
        "settings": {"utilisation": 0.5, "usd_per_hour": 0.0},
        "model": {"run": run.name, "is_own": True, "run_id": values["run_id"]},
        "quality": {"full": {"loss": 4.5}},
        "speed": [{"model": m, "batch": b, "tokens_per_sec": v} for (m, b), v in speeds.items()],
        "usd_per_hour": 0.08,
        "prices": rows,
        "usd_per_million_tokens": best["usd_per_million_tokens"],
        "cheapest": best,
        "baselines": {"gpt2-124m": {}},
    }
    (out / "results.json").write_text(json.dumps(found))
    usd = best["usd_per_million_tokens"]
    page = f"## Quality\n\n| full | 4.5000 |\n\n## Price\n\n| 1x64 int8 | 4 | {usd:.4f} | - |\n"
    (out / "inference-cost.md").write_text(page)
    values["inference"] = {
        "usd_per_million_tokens": usd, "model": best["model"], "batch": 4, "context_tokens": 48,
        "utilisation": 0.5, "usd_per_hour": 0.08, "price_source": "an example's",
    }  # fmt: skip
    (run / "manifest.json").write_text(json.dumps(values))
    return out


def rehearsed(lab: Path) -> Path:
    """The whole folder."""
    run = trained(lab)
    recorded(lab)
    postmortem(lab, json.loads((run / "manifest.json").read_text())["run_id"])
    paper = Paper(1, REHEARSAL)
    save(grade(paper, machine_answers(paper)), lab / "quiz-score.json")
    priced(lab, run)
    return lab


def copied(lab: Path, to: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(lab, to, ignore=shutil.ignore_patterns("state")))
