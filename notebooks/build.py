"""Build the notebooks, one way: notebooks/src/NAME.py (percent script) -> notebooks/NAME.ipynb.

    python notebooks/build.py [NAME ...]               build and execute (all, or the named ones)
    python notebooks/build.py --no-execute [NAME ...]  take edits over, keep the outputs there are
    python notebooks/build.py --check                  say where a notebook differs from its source

A built notebook carries no pairing metadata, no dates, no widget state, and the same cell ids at
every build, so that a diff shows what changed and nothing else.
"""

import argparse
import hashlib
import json
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import jupytext
import nbformat
from jupytext.combine import combine_inputs_with_outputs
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbformat import NotebookNode

NOTEBOOKS = Path(__file__).resolve().parent
REPOSITORY = NOTEBOOKS.parent
ATTEMPTS = REPOSITORY / "build" / "notebooks"  # git ignores it; a failed notebook can be read there
CELL_TIMEOUT_S = 1800  # a kernel's reply that got lost ends as an error instead of a hang
MAX_BYTES = 500_000  # code hosts stop showing larger ones, and a clone pays for every version
KEPT_CELL_METADATA = ("tags", "jupyter")
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


class BuildError(Exception):
    """A notebook cannot be built as it stands; the message names it and says why."""


def sources(folder: Path = NOTEBOOKS) -> dict[str, Path]:
    """Source scripts by notebook name."""
    return {path.stem: path for path in sorted((folder / "src").glob("*.py"))}


def built(folder: Path = NOTEBOOKS) -> dict[str, Path]:
    """Built notebooks by name."""
    return {path.stem: path for path in sorted(folder.glob("*.ipynb"))}


def differences(folder: Path = NOTEBOOKS) -> list[str]:
    """One sentence for each notebook that is not what its source says, naming the first cell."""
    scripts, notebooks = sources(folder), built(folder)
    found = dict.fromkeys(scripts.keys() - notebooks.keys(), "it has no built notebook")
    found |= dict.fromkeys(notebooks.keys() - scripts.keys(), "it has no source in src/")
    found |= {
        name: difference(scripts[name], notebooks[name])
        for name in scripts.keys() & notebooks.keys()
    }
    return [f"{name}: {why}" for name, why in sorted(found.items()) if why]


def difference(script: Path, notebook: Path) -> str | None:
    """Where a built notebook first departs from its source, or None."""
    source, product = jupytext.read(script, fmt="py:percent"), nbformat.read(notebook, as_version=4)
    if "jupytext" in product.metadata:
        return "the built notebook carries pairing metadata"
    ours, theirs = _contents(source), _contents(product)
    for number, (mine, other) in enumerate(zip(ours, theirs, strict=False), start=1):
        for part in mine:
            if mine[part] != other[part]:
                said, has = _short(mine[part]), _short(other[part])
                return f"cell {number}: its {part} is {said} in the source and {has} as built"
    if len(ours) != len(theirs):
        cell = min(len(ours), len(theirs)) + 1
        return f"cell {cell}: the source has {len(ours)} cells, the built notebook {len(theirs)}"
    return None


def build(
    name: str,
    folder: Path = NOTEBOOKS,
    *,
    execute: bool = True,
    parameters: dict | None = None,
    out: Path | None = None,
) -> Path:
    """Build one notebook and return its path; a refused one leaves the old file as it was.

    `parameters` replace those of the cell tagged `parameters`, the way papermill does it. The
    result then has a cell more than its source, so it must go to another folder, `out`.
    Raises BuildError.
    """
    script = sources(folder).get(name)
    if script is None:
        raise BuildError(f"{name}: there is no source {name}.py in {folder / 'src'}")
    if parameters and out is None:
        raise BuildError(f"{name}: with parameters of your own, name another folder for the result")
    target = (out or folder) / f"{name}.ipynb"
    notebook = jupytext.read(script, fmt="py:percent")
    if execute:
        notebook = _execute(name, notebook, folder, parameters or {})
    elif target.exists():
        old = nbformat.read(target, as_version=4)
        tags = [cell.metadata.get("tags", []) for cell in notebook.cells]
        notebook = combine_inputs_with_outputs(notebook, old)  # takes over the old tags as well
        for cell, said in zip(notebook.cells, tags, strict=True):
            cell.metadata["tags"] = said
    notebook = tidy(notebook)
    if reasons := refusals(notebook):
        raise BuildError(f"{name}: " + "; ".join(reasons))
    target.parent.mkdir(parents=True, exist_ok=True)
    _write(target, _text(notebook))
    return target


def tidy(notebook: NotebookNode) -> NotebookNode:
    """The same notebook with nothing in it that differs from one build to the next."""
    language = dict(notebook.metadata.get("language_info", {}))
    language.pop("version", None)  # the manifest of a run says which Python it was
    clean = nbformat.v4.new_notebook(
        metadata={"kernelspec": KERNEL} | ({"language_info": language} if language else {})
    )
    seen: Counter[str] = Counter()
    for cell in notebook.cells:
        digest = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:12]
        seen[digest] += 1
        cell.id = digest if seen[digest] == 1 else f"{digest}-{seen[digest]}"
        cell.metadata = NotebookNode(
            {key: cell.metadata[key] for key in KEPT_CELL_METADATA if key in cell.metadata}
        )
        if cell.cell_type == "code":
            cell.outputs = _joined(cell.outputs)
        clean.cells.append(cell)
    return clean


def refusals(notebook: NotebookNode) -> list[str]:
    """Why this notebook may not be published, one phrase each; empty when it may."""
    reasons = []
    for number, cell in enumerate(notebook.cells, start=1):
        outputs = cell.get("outputs", [])
        if any(output.output_type == "error" for output in outputs):
            reasons.append(f"cell {number} ends in an error")
        text = cell.source + json.dumps(outputs, ensure_ascii=False)
        reasons += [
            f"cell {number} holds a path of this machine ({path})"
            for path in machine_paths()
            if path in text
        ]
    size = len(_text(notebook).encode())
    if size > MAX_BYTES:
        reasons.append(f"it has {size:,} bytes, more than {MAX_BYTES:,}")
    return reasons


def machine_paths() -> list[str]:
    """What must not be read in a published notebook: this checkout, the home and temp folders."""
    folders = {REPOSITORY, Path.home(), Path(tempfile.gettempdir())}
    return sorted(f"{folder}/" for folder in folders if folder != Path("/"))


def _execute(name: str, notebook: NotebookNode, folder: Path, parameters: dict) -> NotebookNode:
    """Run in a fresh kernel that starts in `folder`; what it came to stays under build/."""
    import papermill

    attempt = ATTEMPTS / f"{name}.ipynb"
    attempt.parent.mkdir(parents=True, exist_ok=True)
    _write(attempt, _text(tidy(notebook)))
    os.environ |= {"X1_OFFLINE": "1", "X1_BUILDING": "1"}  # no downloads, none of one's own runs
    try:
        return papermill.execute_notebook(
            str(attempt),
            str(attempt),
            parameters=parameters,
            kernel_name=KERNEL["name"],
            cwd=str(folder),
            execution_timeout=CELL_TIMEOUT_S,
            store_widget_state=False,
            progress_bar=False,
        )
    except papermill.PapermillExecutionError as error:
        why = f"{error.ename}: {error.evalue}"
    except (CellTimeoutError, DeadKernelError) as error:
        why = f"{type(error).__name__}: {str(error).splitlines()[0]}"
    where = attempt.relative_to(REPOSITORY)
    raise BuildError(f"{name}: a cell failed, read {where} ({why})")


def _contents(notebook: NotebookNode) -> list[dict]:
    """What a source decides about each cell."""
    return [
        {"type": cell.cell_type, "text": cell.source, "tags": cell.metadata.get("tags", [])}
        for cell in notebook.cells
    ]


def _joined(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Join neighbouring pieces of one stream: where they are cut is a matter of timing."""
    joined: list[NotebookNode] = []
    for output in outputs:
        last = joined[-1] if joined else None
        if last and output.output_type == last.output_type == "stream" and output.name == last.name:
            last.text += output.text
        else:
            joined.append(output)
    return joined


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _text(notebook: NotebookNode) -> str:
    return nbformat.writes(notebook) + "\n"


def _write(path: Path, text: str) -> None:
    """Write beside and rename, so that a reader never finds half a notebook."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_text(text, encoding="utf-8")
    os.replace(aside, path)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="notebooks to build (default: all)"
    )
    parser.add_argument("--no-execute", action="store_true", help="keep the outputs there are")
    parser.add_argument("--check", action="store_true", help="compare only, exit 1 on a difference")
    parser.add_argument(
        "-p",
        dest="parameters",
        nargs=2,
        action="append",
        default=[],
        metavar=("KEY", "JSON"),
        help="a parameter and its value, e.g. -p hours 0.01 (needs --out)",
    )
    parser.add_argument("--out", type=Path, help="folder for the result (default: notebooks/)")
    options = parser.parse_args(arguments)
    if options.check:
        found = differences()
        print("\n".join(found) or f"{len(built())} notebooks hold the cells of their sources")
        return 1 if found else 0
    parameters = {key: _value(text) for key, text in options.parameters}
    for name in options.names or sources():
        begun = time.monotonic()
        try:
            path = build(
                name, execute=not options.no_execute, parameters=parameters, out=options.out
            )
        except BuildError as error:
            print(f"build.py: {error}", file=sys.stderr)
            return 1
        size, seconds = path.stat().st_size, time.monotonic() - begun
        print(f"{path.name}: {size / 1000:.0f} KB in {seconds:.1f} s", flush=True)
    return 0


def _value(text: str) -> object:
    """A parameter's value: JSON where it is JSON, else the text itself."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


if __name__ == "__main__":
    sys.exit(main())
