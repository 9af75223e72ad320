"""Exercises' progress: kept when an answer is right, once, and never the cause of an error."""

import json

import pytest

from x1lib import check
from x1lib.exercises import progress
from x1lib.exercises.key import key_of


@pytest.fixture
def path(tmp_path, monkeypatch):
    path = tmp_path / "exercises.json"
    monkeypatch.setenv(progress.VARIABLE, str(path))
    return path


def say(line: str) -> None:
    pass


def test_a_right_answer_is_kept_and_others_are_not(path):
    check.answer("02.3", None, log=say)
    with pytest.raises(check.WrongAnswer):
        check.answer("02.3", 1.0, log=say)
    with pytest.raises(check.GuessError):
        check.answer("02.3", "many", log=say)
    assert not path.exists() and progress.solved() == {}
    assert check.answer("02.3", key_of("02.3").value, log=say)
    first = progress.solved()
    assert list(first) == ["02.3"]
    check.answer("02.3", key_of("02.3").value, log=say)
    check.answer("01.5", key_of("01.5").value, log=say)
    assert progress.solved()["02.3"] == first["02.3"] and len(progress.solved()) == 2


def test_it_is_counted_by_notebook_and_said(path):
    check.answer("lab01.2", key_of("lab01.2").value, log=say)
    said = []
    found = check.progress(said.append)
    assert found["lab01"] == (1, 3) and found["02"] == (0, 4)
    names = list(found)
    assert names.index("02") < names.index("lab00") and "01" in names
    total = sum(n for _, n in found.values())
    assert said[0].startswith(f"1 of {total} solved (") and "lab01 1 of 3" in said[0]


def test_an_exercise_that_is_gone_does_not_count(path):
    path.write_text(json.dumps({"solved": {"02.99": "then", "tea.1": "then"}}))
    assert sum(mine for mine, _ in progress.counts().values()) == 0


@pytest.mark.parametrize("text", ["", "[]", "{", '{"solved": 3}'])
def test_a_damaged_record_is_begun_again(path, text):
    path.write_text(text)
    assert progress.solved() == {}
    check.answer("02.3", key_of("02.3").value, log=say)
    assert list(progress.solved()) == ["02.3"]


def test_a_folder_that_takes_nothing_spoils_no_lesson(tmp_path, monkeypatch):
    monkeypatch.setenv(progress.VARIABLE, str(tmp_path / "none" / "exercises.json"))
    assert check.answer("02.3", key_of("02.3").value, log=say)
    monkeypatch.setenv(progress.VARIABLE, "off")
    assert check.answer("02.3", key_of("02.3").value, log=say)
    assert progress.default_path() is None and progress.counts()["02"] == (0, 4)


def test_beside_the_labs_runs_wherever_one_stands(tmp_path, monkeypatch):
    monkeypatch.delenv(progress.VARIABLE)
    (tmp_path / progress.LAB).mkdir(parents=True)
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    check.answer("02.3", key_of("02.3").value, log=say)
    assert (tmp_path / progress.LAB / progress.FILE).exists()
    assert progress.sentence(tmp_path / progress.LAB).startswith("1 of ")
