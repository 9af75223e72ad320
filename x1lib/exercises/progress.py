"""Which exercises a reader has solved: kept when an answer is right, counted by notebook."""

from __future__ import annotations

import contextlib
import json
import os
import pkgutil
from pathlib import Path

from x1lib import exercises
from x1lib.exercises.key import keys
from x1lib.tracking import utc_now, write_json

FILE = "exercises.json"
VARIABLE = "X1_PROGRESS"  # another file, or "off"
LAB = Path("experiments") / "X1-pretraining"


def default_path() -> Path | None:
    """Beside the runs of all labs, above the current folder or this package; None for none."""
    if chosen := os.environ.get(VARIABLE):
        return None if chosen == "off" else Path(chosen)
    here = Path.cwd()
    places = [here, *here.parents, Path(__file__).resolve().parents[2]]
    return next((place / LAB / FILE for place in places if (place / LAB).is_dir()), None)


def solved(path: Path | None = None) -> dict[str, str]:
    """Time of the first right answer by exercise, such as "02.3"; empty where none is kept."""
    path = path or default_path()
    with contextlib.suppress(OSError, ValueError, AttributeError, KeyError, TypeError):
        found = json.loads(path.read_text(encoding="utf-8"))["solved"]
        return {name: found[name] for name in found if isinstance(name, str)}
    return {}


def record(exercise: str, path: Path | None = None) -> None:
    """Note that an exercise is solved; the first time stays, and a full disk spoils no lesson."""
    path = path or default_path()
    if path is None:
        return
    kept = solved(path)
    if exercise not in kept:
        with contextlib.suppress(OSError, ValueError):
            write_json(path, {"solved": kept | {exercise: utc_now()}})


def counts(path: Path | None = None) -> dict[str, tuple[int, int]]:
    """(solved, all) by notebook, such as "02" or "lab00", in the order of reading."""
    done, found = solved(path), {}
    names = sorted(m.name for m in pkgutil.iter_modules(exercises.__path__))
    for name in names:
        notebook = name.removeprefix("nb")
        if name.startswith(("nb", "lab")):
            n = len(keys(notebook))
            mine = sum(f"{notebook}.{i}" in done for i in range(1, n + 1))
            found[notebook] = (mine, n)
    return dict(sorted(found.items(), key=lambda kv: (kv[0].startswith("lab"), kv[0])))


def sentence(lab: Path | None = None) -> str:
    """One line: how many of each notebook are solved, and of all."""
    found = counts(Path(lab) / FILE if lab else None)
    parts = [f"{name} {mine} of {n}" for name, (mine, n) in found.items()]
    total = [sum(column) for column in zip(*found.values(), strict=True)] or [0, 0]
    return f"{total[0]} of {total[1]} solved (" + ", ".join(parts) + ")"
