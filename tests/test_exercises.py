"""Exercises show a None and a check; solutions are folded and right, wrong answers are taught."""

import ast
import re
from dataclasses import dataclass
from pathlib import Path

import jupytext
import pytest

from x1lib import check
from x1lib.exercises.key import key_of, keys

SOURCES = Path(__file__).resolve().parent.parent / "notebooks" / "src"
NOTEBOOKS = {path.stem: path for path in sorted(SOURCES.glob("*.py"))}
# What a lab's earlier cells have made when an exercise is reached; any run would do.
SCOPES = {
    "lab00": "size = resolve('tiny'); n = count_params(size);"
    " heads_width = size.n_heads * size.head_dim",
}
HEADING = re.compile(r"^## Exercises\b", re.MULTILINE)
SOLUTION = re.compile(r"\A<details><summary>Solution</summary>\s+`([^`]+)`.*?</details>", re.DOTALL)


@dataclass(frozen=True)
class Exercise:
    notebook: str  # 02, lab00: what its exercises' names begin with
    scope: str  # source: the notebook's imports, and what SCOPES adds
    before: str  # the markdown cell above
    cell: str
    after: str  # the markdown cell below


def exercises(name: str, script: str) -> list[Exercise]:
    """Each cell of a notebook that checks an answer, with what stands around it."""
    cells = jupytext.reads(script, fmt="py:percent").cells
    number = name.partition("_")[0]
    imports = next((c.source for c in cells if c.cell_type == "code"), "")
    scope = f"{imports}\n{SCOPES.get(name, '')}"
    return [
        Exercise(number, scope, cells[i - 1].source, cells[i].source, cells[i + 1].source)
        for i, cell in enumerate(cells)
        if cell.cell_type == "code" and "check.answer(" in cell.source
    ]


def faults(exercise: Exercise, number: int) -> list[str]:
    """What is wrong with the form of the exercise with that number in its notebook."""
    wanted, found = f"{exercise.notebook}.{number}", []
    body = ast.parse(exercise.cell).body
    match body:
        case [
            ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant(value=None)),
            ast.Expr(value=ast.Call(args=[ast.Constant(value=asked), ast.Name(id=given)])),
        ]:
            key = keys(exercise.notebook)[number - 1 :][:1]
            found += ["its name and its key's differ"] * (not key or key[0].__name__ != name)
            found += ["it checks another variable"] * (given != name)
            found += [f"it is called {asked!r}, not {wanted!r}"] * (asked != wanted)
        case _:
            found.append("its cell holds more than a None and a check: the solution, it may be")
    found += ["its cell has no unit"] * (not re.search(r"= None  # \S", exercise.cell))
    question = re.escape(f"**{wanted} ") + r"(●○○|●●○|●●●), \d+ minutes\.\*\*"
    found += ["its question has no number, difficulty, minutes"] * (
        not re.search(question, exercise.before)
    )
    found += ["no folded solution opens the cell below"] * (not SOLUTION.match(exercise.after))
    return found


def all_faults(name: str, script: str) -> list[str]:
    cells, there = jupytext.reads(script, fmt="py:percent").cells, exercises(name, script)
    number = name.partition("_")[0]
    found = [f"{number}.{i}: {f}" for i, e in enumerate(there, start=1) for f in faults(e, i)]
    begins = [
        i for i, c in enumerate(cells) if c.cell_type == "markdown" and HEADING.search(c.source)
    ]
    if begins and not there:
        found.append(f"{number}: no exercise is checked")
    if there and len(keys(number)) != len(there):
        found.append(f"{number}: {len(keys(number))} keys for {len(there)} exercises")
    behind = [c.source for c in cells[begins[0] :] if c.cell_type == "code"] if begins else []
    names = {n.id for one in behind for n in ast.walk(ast.parse(one)) if isinstance(n, ast.Name)}
    return found + [f"{number}: an exercise computes `truth`"] * ("truth" in names)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_an_exercise_shows_a_none_and_a_check(name):
    assert all_faults(name, NOTEBOOKS[name].read_text()) == []


CASES = [
    pytest.param(exercise, number, id=f"{exercise.notebook}.{number}")
    for name, path in NOTEBOOKS.items()
    for number, exercise in enumerate(exercises(name, path.read_text()), start=1)
]


@pytest.mark.parametrize(("exercise", "number"), CASES)
def test_an_exercise_takes_its_solution_and_nothing_else(exercise, number, capsys, monkeypatch):
    scope: dict = {}
    exec(exercise.scope, scope)
    exec(exercise.cell, scope)
    assert capsys.readouterr().out == "open: put your answer in the place of None\n"

    def tried(value: object) -> None:
        name = ast.parse(exercise.cell).body[0].targets[0].id
        scope["_tried"] = value
        exec(exercise.cell.replace(f"{name} = None", f"{name} = _tried", 1), scope)

    solution = eval(SOLUTION.match(exercise.after)[1], scope)
    tried(solution)
    assert capsys.readouterr().out.startswith("right: ")

    asked = []

    def remembered(name: str, **given: object):
        asked.append(key_of(name, **given))
        return asked[-1]

    monkeypatch.setattr(check, "key_of", remembered)
    tried(solution)
    key = asked[-1]
    wrong = [one for one in key.choices if one != key.value] or [1.1 * solution, solution / 1.1, 0]
    for value in wrong:
        with pytest.raises(check.WrongAnswer):
            tried(value)
    assert key.slips, "an exercise knows at least one slip"
    for value, words in key.slips.items():
        with pytest.raises(check.WrongAnswer, match=re.escape(words)):
            tried(value)
    for words in (key.hint, *key.slips.values()):
        assert len(words) >= 20 and words.endswith((".", "?"))
    assert key.choices or (isinstance(solution, int) if key.rel_tol == 0 else key.rel_tol <= 0.05)


NOTEBOOK_02 = next((path for name, path in NOTEBOOKS.items() if name.startswith("02")), None)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("h200s = None  # cards\n", "h200s = None  # cards\ntruth = 9\n", "computes `truth`"),
        ("h200s = None  # cards\n", "h200s = None  # cards\nx = 9\n", "more than a None"),
        ("h200s = None  # cards\n", "h200s = 9  # cards\n", "more than a None"),
        ("h200s = None  # cards\n", "h200s = None\n", "has no unit"),
        ('check.answer("02.3"', 'check.answer("02.4"', "is called '02.4', not '02.3'"),
        ("**02.3 ●●○, 10 minutes.**", "**●●○, 10 minutes.**", "no number"),
        ("# `math.ceil(16", "# math.ceil(16", "no folded solution"),
        ("<details><summary>Solution", "Solution", "no folded solution"),
        ('check.answer("02.4", idle_share)', "idle_share", "4 keys for 3 exercises"),
        ("check.answer(", "print(", "no exercise is checked"),
    ],
)
def test_a_planted_fault_is_found(old, new, words):
    script = NOTEBOOK_02.read_text()
    assert old in script and all_faults(NOTEBOOK_02.stem, script) == []
    found = all_faults(NOTEBOOK_02.stem, script.replace(old, new))
    assert any(words in one for one in found), found
