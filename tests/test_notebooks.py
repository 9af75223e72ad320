"""Every notebook holds its source's cells and real outputs; every lab runs and leaves its files."""

import csv
import hashlib
import importlib.util
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import nbformat
import pytest
from data_folders import write_jsonl

from x1lib.tracking import manifest_faults

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"

spec = importlib.util.spec_from_file_location("build_notebooks", NOTEBOOKS / "build.py")
build_notebooks = importlib.util.module_from_spec(spec)
spec.loader.exec_module(build_notebooks)

NAMES = sorted(build_notebooks.sources().keys() | build_notebooks.built().keys())
BUILT = build_notebooks.built()
NO_NOTEBOOK = "there is no notebook yet: nothing was compared and nothing was run"


# What is committed


@pytest.mark.skipif(not NAMES, reason=NO_NOTEBOOK)
def test_every_notebook_is_what_its_source_says():
    assert build_notebooks.differences() == []


@pytest.mark.skipif(not BUILT, reason=NO_NOTEBOOK)
@pytest.mark.parametrize("name", BUILT)
def test_a_built_notebook_may_be_published(name):
    assert build_notebooks.refusals(nbformat.read(BUILT[name], as_version=4)) == []


@pytest.mark.skipif(not BUILT, reason=NO_NOTEBOOK)
@pytest.mark.parametrize("name", BUILT)
def test_a_built_notebook_was_run_from_top_to_bottom(name):
    code = [c for c in nbformat.read(BUILT[name], as_version=4).cells if c.cell_type == "code"]
    code = [cell for cell in code if cell.source.strip()]
    assert code, "a notebook of this course computes something"
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert any(cell.outputs for cell in code), "the outputs were stripped"
    bare = [
        cell.source
        for cell in code
        if "nbval-check-output" in cell.metadata.get("tags", []) and not cell.outputs
    ]
    assert bare == [], "nbval compares nothing where an output was stripped"


# Cells whose text may differ from one machine to the next, by how they begin; each says why.
UNHELD = {
    "01_scaling_laws": {"try:\n    printed = published_points": "says whether it is connected"},
}
PICTURES = {"image/png", "application/vnd.jupyter.widget-view+json"}


def unheld(notebook: nbformat.NotebookNode) -> list[str]:
    """First lines of the cells whose output nothing holds: not compared, without an assert.

    A cell that only draws is not meant, nor an exercise: tests/test_exercises.py solves those.
    """
    return [
        cell.source
        for cell in notebook.cells
        if cell.cell_type == "code"
        and "nbval-check-output" not in cell.metadata.get("tags", [])
        and not re.search(r"^ *assert |^check\.answer\(", cell.source, re.MULTILINE)
        and not all(PICTURES & output.get("data", {}).keys() for output in cell.outputs)
    ]


@pytest.mark.parametrize("name", [name for name in BUILT if name[:2].isdigit()])
def test_what_a_theory_notebook_shows_is_tagged_for_nbval_or_asserted(name):
    found = unheld(nbformat.read(BUILT[name], as_version=4))
    known = UNHELD.get(name, {})
    assert [source for source in found if not source.startswith(tuple(known))] == []
    assert len(found) == len(known), "a cell that is held now needs no exception"


@pytest.mark.parametrize(
    ("source", "outputs", "tags", "held"),
    [
        ("print(1)", ["1"], [], False),
        ("print(1)", ["1"], ["nbval-check-output"], True),
        ("x = 1\nassert x\nprint(x)", ["1"], [], True),
        ("print('assert ')", ["assert "], [], False),
        ("x = 1", [], [], True),
        ("draw()", [{"image/png": "", "text/plain": "a figure"}], [], True),
        ("print(1)\ndraw()", ["1", {"image/png": ""}], [], False),
    ],
)
def test_an_output_that_nothing_holds_is_found(source, outputs, tags, held):
    cell = nbformat.v4.new_code_cell(source, metadata={"tags": tags})
    for one in outputs:
        kind = (
            ("stream", {"text": one}) if isinstance(one, str) else ("display_data", {"data": one})
        )
        cell.outputs.append(nbformat.v4.new_output(kind[0], **kind[1]))
    assert unheld(nbformat.v4.new_notebook(cells=[cell])) == ([] if held else [source])


# Labs, at a size of seconds


class Check(Protocol):
    def __call__(self, notebook: nbformat.NotebookNode, folder: Path) -> None: ...


@dataclass(frozen=True)
class Lab:
    """How the test runs a lab; `{folder}` in a parameter becomes a fresh folder of the test."""

    parameters: dict[str, object]
    check: Check


def check_lab00(notebook: nbformat.NotebookNode, folder: Path) -> None:
    """The run left what the course promises, and the numbers in it can be true."""
    run = folder / "run"
    manifest = json.loads((run / "manifest.json").read_text())
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    losses = [row["loss"] for row in rows if row.get("loss") is not None]
    assert len(losses) >= 2 and all(math.isfinite(loss) for loss in losses)
    assert losses[-1] < losses[0], "it learned nothing"
    assert manifest["status"] == "finished" and manifest["tokens"] > 0
    assert (run / "loss-curve.png").read_bytes().startswith(b"\x89PNG")
    assert (run / "checkpoint" / "model.safetensors").stat().st_size > 1_000_000
    assert json.loads((run / "checkpoint" / "config.json").read_text())["architectures"]
    # The live figure is one output, replaced in place, and its last state is the end of the run.
    (follow,) = [cell for cell in notebook.cells if "launch.follow(" in cell.source]
    (figure,) = [one for one in follow.outputs if one.output_type == "display_data"]
    assert f"step {manifest['steps']:,}: loss" in figure.data["text/plain"]
    lines = "".join(one.text for one in follow.outputs if one.output_type == "stream").splitlines()
    assert 5 <= len(lines) <= 60 and lines[-1].startswith("finished:")
    assert not notebook.metadata.get("widgets"), "an Output widget can hang a headless run"
    assert "status: finished" in notebook.cells[-1].outputs[0].text
    ladder = json.loads((run / "ladder" / "ladder.json").read_text())
    measured = [rung["mfu"]["median"] for rung in ladder["rungs"] if rung["mfu"]]
    # The peak is this machine's at one moment; another test may have had the cores just then.
    assert len(measured) >= 2 and all(0 < share < 10 for share in measured)
    shown = {
        kind
        for cell in notebook.cells
        for out in cell.get("outputs", [])
        for kind in out.get("data", {})
    }
    assert {"application/vnd.plotly.v1+json", "image/png", "text/markdown"} <= shown


def check_lab01(notebook: nbformat.NotebookNode, folder: Path) -> None:
    """Every run has a number, the law a file, and what was held out was sealed before it ran."""
    out = folder / "scaling-law"
    rows = list(csv.DictReader((out / "points.csv").open()))
    assert len(rows) == 8 and {row["status"] for row in rows} == {"finished"}
    losses = {(row["shape"], int(row["tokens"])): float(row["val_loss"]) for row in rows}
    assert len(losses) == 8 and all(0.5 < loss < 7 for loss in losses.values())
    fit = json.loads((out / "fit.json").read_text())
    assert fit["n_points"] == {"finished": 8, "of": 8} and fit["fits"]["total"]["law"]["E"] > 0
    assert (out / "scaling-law.png").read_bytes().startswith(b"\x89PNG")
    assert "What this cannot say" in (out / "prediction.md").read_text()
    for name, said in json.loads((out / "sealed.json").read_text()).items():
        digest = hashlib.sha256(said["text"].encode()).hexdigest()
        manifest = json.loads((out / "runs" / name / "manifest.json").read_text())
        assert digest == said["sha256"] == manifest["config"]["sealed"]
        assert json.loads(said["text"])["sealed"] <= manifest["created"]
    assert [one["sound"] for one in fit["heldout"]] == [True, True]
    (ran,) = [cell for cell in notebook.cells if "sweep.run(" in cell.source]
    lines = "".join(one.text for one in ran.outputs if one.output_type == "stream").splitlines()
    assert 4 <= len(lines) <= 70 and any("6 of 6 runs done" in line for line in lines)
    assert "8 of 8 runs" in notebook.cells[-1].outputs[0].text
    assert not notebook.metadata.get("widgets"), "an Output widget can hang a headless run"


def check_lab02(notebook: nbformat.NotebookNode, folder: Path) -> None:
    """A spike was made and found, its cause kept back until the reveal, and the page written."""
    out = folder / "lab"
    known = json.loads((out / "spike" / "case.json").read_text())
    manifest = json.loads((out / known["run"] / "manifest.json").read_text())
    spec = manifest["config"]["inject"]
    assert hashlib.sha256(spec.encode()).hexdigest() == known["sha256"]
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    texts = ["".join(str(one.get("text", one.get("data"))) for one in c.outputs) for c in cells]
    (reveal,) = [i for i, cell in enumerate(cells) if "lab.reveal(" in cell.source]
    assert spec in texts[reveal] and not any(spec in text for text in texts[:reveal])
    analysis = json.loads((out / "spike" / "analysis.json").read_text())
    assert analysis["is_exact"] and analysis["verdict"]["cause"] == spec.partition("@")[0]
    assert {"untouched", "skip-batch", "lr-cut", "placebo-3"} <= analysis["outcomes"].keys()
    peaks = {name: one["peak_loss"] for name, one in analysis["outcomes"].items()}
    assert peaks["skip-batch"] < 1 < peaks["untouched"]
    assert "## Recovery" in (out / "spike-postmortem.md").read_text()
    for name in ("grad-norm.png", "token-histogram.png"):
        assert (out / "spike" / name).read_bytes().startswith(b"\x89PNG")
    verdict = json.loads((out / "spike" / "verdict.json").read_text())
    assert verdict["truth"] == spec.partition("@")[0]
    assert "status: finished" in notebook.cells[-1].outputs[0].text


def check_lab03(notebook: nbformat.NotebookNode, folder: Path) -> None:
    """Every variant has a quality and a price, and the course's own reference was left alone."""
    out, reference = folder / "inference-cost", NOTEBOOKS.parent / "experiments/reference/tiny"
    found = json.loads((out / "results.json").read_text())
    quality = found["quality"]
    assert set(quality) == {"full", "bf16", "int8", "int4", "int4, head int8"}
    assert 4 < quality["full"]["loss"] < 6 and quality["int8"]["rise"] < 0.005
    assert quality["int4"]["rise"] < 0.03 and quality["int4"]["kl"] > quality["int8"]["kl"] > 0
    assert found["disk_bytes"]["int4"] < found["disk_bytes"]["int8"] < found["disk_bytes"]["full"]
    assert len({row["model"] for row in found["speed"]}) == 6
    for row in found["prices"]:
        speed = next(one for one in found["speed"]
                     if (one["model"], one["batch"]) == (row["model"], row["batch"]))  # fmt: skip
        assert math.isclose(
            row["usd_per_million_tokens"], 1e6 * 3.6 / 3600 / speed["tokens_per_sec"] / 0.5
        )
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["inference"]["usd_per_million_tokens"] == found["usd_per_million_tokens"] > 0
    assert manifest_faults(manifest) == []
    assert "inference" not in json.loads((reference / "manifest.json").read_text())
    assert "not measured" in (out / "inference-cost.md").read_text()  # a shape without weights
    assert "int4: loss" in "".join(
        one.text for cell in notebook.cells for one in cell.get("outputs", []) if "text" in one
    )
    assert "it cost: " in notebook.cells[-1].outputs[0].text


LABS = {
    # Ends by its tokens; the hours leave a slow machine time, and are few enough to stay eager.
    "lab00": Lab(
        {
            "hours": 0.04,
            "tokens": 60_000,
            "source": "{folder}/small.jsonl",
            "out": "{folder}/run",
            "ladder_minutes": 0.3,
        },
        check_lab00,
    ),
    # Four sizes at two token counts: eight runs, each its own process.
    "lab01": Lab(
        {
            "hours": 0.2,
            "sizes": "2x32:2/1:96,2x64:4/2:192,2x96:6/3:288,2x128:8/4:384",
            "branches": "4096,8192",
            "seeds": 1,
            "replicated": 0,
            "source": "{folder}/small.jsonl",
            "seq_len": 64,
            "batch_tokens": 128,
            "final_eval_tokens": 2048,
            "jobs": 1,
            "out": "{folder}/scaling-law",
        },
        check_lab01,
    ),
    # A case whose batch is broken, at a size where three recoveries take seconds.
    "lab02": Lab(
        {
            "case": 20,
            "shape": "1x48:2/1:128",
            "seq_len": 32,
            "batch_tokens": 256,
            "steps": 160,
            "cures": "skip-batch,lr-cut",
            "open_seal": True,
            "out": "{folder}/lab",
        },
        check_lab02,
    ),
    # The course's own checkpoint, and one published shape beside it.
    "lab03": Lab(
        {
            "checkpoint": "experiments/reference/tiny",
            "baselines": "pythia-70m",
            "batches": "1,2",
            "prompt_tokens": 8,
            "new_tokens": 4,
            "repeats": 1,
            "heldout_tokens": 3000,
            "usd_per_hour": 3.6,
            "out": "{folder}/inference-cost",
        },
        check_lab03,
    ),
}


@pytest.mark.skipif(not any(name.startswith("lab") for name in NAMES), reason=NO_NOTEBOOK)
def test_every_lab_has_a_row_here():
    labs = {name for name in NAMES if name.startswith("lab")}
    assert labs <= LABS.keys(), "say how the test runs the new lab and what it must leave"


def checked(notebook: nbformat.NotebookNode) -> list[str]:
    """What the cells say whose outputs must hold, whatever the run: its text, tables and code."""
    outputs = [
        output.get("text", output.get("data", {}).get("text/plain"))
        for cell in notebook.cells
        if "nbval-check-output" in cell.metadata.get("tags", [])
        for output in cell.outputs
    ]
    assert outputs, "no output of this notebook is checked"
    return outputs


@pytest.mark.parametrize("name", LABS)
def test_a_lab_runs_and_leaves_its_files(name, tmp_path, monkeypatch):
    if name not in build_notebooks.sources():
        pytest.skip(f"{name} has no source yet: it was not run")
    lab = LABS[name]
    write_jsonl(tmp_path / "small.jsonl", 300)
    # The paths of this test's folder are in the outputs, rightly: this one is not published.
    monkeypatch.setattr(build_notebooks, "machine_paths", list)
    parameters = {
        key: value.format(folder=tmp_path) if isinstance(value, str) else value
        for key, value in lab.parameters.items()
    }
    path = build_notebooks.build(name, parameters=parameters, out=tmp_path)
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]
    assert all(cell.execution_count for cell in code), "a cell was not reached"
    assert checked(notebook) == checked(nbformat.read(BUILT[name], as_version=4))
    lab.check(notebook, tmp_path)


# The build tool itself, on notebooks of its own

SCRIPT = """# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A demonstration

# %% tags=["parameters"]
width = 2

# %% tags=["nbval-check-output"]
for part in ("one", "two"):
    print(part, flush=True)
width * 21
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of notebooks with one source, and attempts kept out of the repository."""
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "demo.py").write_text(SCRIPT)
    monkeypatch.setattr(build_notebooks, "REPOSITORY", tmp_path)
    monkeypatch.setattr(build_notebooks, "ATTEMPTS", tmp_path / "attempts")
    return tmp_path


def rewrite(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_a_build_has_outputs_and_is_the_same_twice(folder):
    path = build_notebooks.build("demo", folder)
    first = path.read_text()
    notebook = nbformat.reads(first, as_version=4)
    assert notebook.cells[2].outputs[0].text == "one\ntwo\n"
    assert notebook.cells[2].outputs[1].data["text/plain"] == "42"
    assert notebook.metadata.keys() == {"kernelspec", "language_info"}
    assert build_notebooks.differences(folder) == []
    build_notebooks.build("demo", folder)
    assert path.read_text() == first


def test_an_edit_without_execution_keeps_the_outputs(folder):
    path = build_notebooks.build("demo", folder)
    rewrite(folder / "src" / "demo.py", "# # A demonstration", "# # Another title")
    build_notebooks.build("demo", folder, execute=False)
    notebook = nbformat.read(path, as_version=4)
    assert notebook.cells[0].source == "# Another title"
    assert notebook.cells[2].outputs[1].data["text/plain"] == "42"
    rewrite(folder / "src" / "demo.py", '"parameters"', '"constants"')
    build_notebooks.build("demo", folder, execute=False)
    assert build_notebooks.differences(folder) == []


@pytest.mark.parametrize(
    ("old", "new", "cell"),
    [
        ("A demonstration", "An example", "cell 1: its text"),
        ('"parameters"', '"constants"', "cell 2: its tags"),
        ("# %% [markdown]\n# # A", "# %%\n# # A", "cell 1: its type"),
        ("width * 21\n", "width * 21\n\n# %%\nwidth\n", "cell 4: the source has 4 cells"),
    ],
)
def test_drift_is_found_and_the_cell_named(folder, old, new, cell):
    build_notebooks.build("demo", folder, execute=False)
    assert build_notebooks.differences(folder) == []
    rewrite(folder / "src" / "demo.py", old, new)
    (found,) = build_notebooks.differences(folder)
    assert found.startswith(f"demo: {cell}")


def test_orphans_on_either_side_are_found(folder):
    assert build_notebooks.differences(folder) == ["demo: it has no built notebook"]
    build_notebooks.build("demo", folder, execute=False)
    (folder / "src" / "demo.py").unlink()
    assert build_notebooks.differences(folder) == ["demo: it has no source in src/"]


def test_pairing_metadata_is_found(folder):
    path = build_notebooks.build("demo", folder, execute=False)
    rewrite(
        path, '"metadata": {\n  "kernelspec"', '"metadata": {\n  "jupytext": {},\n  "kernelspec"'
    )
    (found,) = build_notebooks.differences(folder)
    assert "pairing metadata" in found


def test_a_failing_notebook_is_refused_and_the_old_one_stays(folder):
    path = build_notebooks.build("demo", folder, execute=False)
    before = path.read_text()
    rewrite(folder / "src" / "demo.py", "width * 21", "width / 0")
    with pytest.raises(build_notebooks.BuildError, match="ZeroDivisionError"):
        build_notebooks.build("demo", folder)
    assert path.read_text() == before


def test_parameters_need_another_folder_and_change_the_result(folder):
    with pytest.raises(build_notebooks.BuildError, match="another folder"):
        build_notebooks.build("demo", folder, parameters={"width": 3})
    path = build_notebooks.build("demo", folder, parameters={"width": 3}, out=folder / "out")
    cells = nbformat.read(path, as_version=4).cells
    assert cells[-1].outputs[-1].data["text/plain"] == "63"


def cell_with(output: dict) -> nbformat.NotebookNode:
    cell = nbformat.v4.new_code_cell("1", outputs=[nbformat.from_dict(output)])
    return build_notebooks.tidy(nbformat.v4.new_notebook(cells=[cell]))


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ({"output_type": "error", "ename": "E", "evalue": "", "traceback": []}, "an error"),
        ({"output_type": "stream", "name": "stdout", "text": f"{NOTEBOOKS}/x"}, "this machine"),
        ({"output_type": "stream", "name": "stdout", "text": f"{Path.home()}/x"}, "this machine"),
        ({"output_type": "stream", "name": "stdout", "text": "x" * 500_000}, "more than 500,000"),
    ],
)
def test_what_must_not_be_published_is_refused(output, reason):
    harmless = {"output_type": "stream", "name": "stdout", "text": "x"}
    assert build_notebooks.refusals(cell_with(harmless)) == []
    assert any(reason in each for each in build_notebooks.refusals(cell_with(output)))
