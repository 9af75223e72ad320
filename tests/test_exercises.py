"""Theory notebooks' exercises: the printed solution is right, and a wrong answer is refused."""

import itertools
import re
from pathlib import Path

import jupytext
import pytest

from x1lib.check import WrongAnswer

SOURCES = Path(__file__).resolve().parent.parent / "notebooks" / "src"
THEORY = [path for path in sorted(SOURCES.glob("*.py")) if not path.stem.startswith("lab")]
OPEN = re.compile(r"^(\w+) = None\b.*$", re.MULTILINE)


def exercises(path: Path) -> list[tuple[str, str, str, str]]:
    """Imports, name of the answer, the exercise's cell, and its solution, for each that has one."""
    cells = jupytext.read(path, fmt="py:percent").cells
    imports = next(c.source for c in cells if c.cell_type == "code")
    found = []
    for cell, after in itertools.pairwise(cells):
        if cell.cell_type == "code" and "check.answer(" in cell.source:
            solution = re.search(r"<summary>Solution</summary>\s+`([^`]+)`", after.source)
            assert solution, f"{path.stem}: an exercise without a folded solution"
            found.append((imports, OPEN.search(cell.source)[1], cell.source, solution[1]))
    return found


CASES = [
    pytest.param(*exercise, id=f"{path.stem}-{exercise[1]}")
    for path in THEORY
    for exercise in exercises(path)
]


@pytest.mark.parametrize(("imports", "name", "cell", "solution"), CASES)
def test_an_exercise_takes_its_solution_and_nothing_else(imports, name, cell, solution, capsys):
    scope: dict = {}
    exec(imports, scope)
    exec(cell, scope)
    assert capsys.readouterr().out.startswith("open")
    exec(OPEN.sub(rf"\1 = {solution}", cell, count=1), scope)
    assert capsys.readouterr().out.startswith("right")
    for wrong in (f"({solution}) * 1.1", f"({solution}) / 1.1", "0.0"):
        with pytest.raises(WrongAnswer):
            exec(OPEN.sub(rf"\1 = {wrong}", cell, count=1), scope)


def test_the_theory_notebooks_have_exercises():
    assert {path.stem for path in THEORY} == {str(case.id).rpartition("-")[0] for case in CASES}
