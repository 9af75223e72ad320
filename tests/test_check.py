"""Feedback on guesses: none is fine, a good one is told from a bad one, the first one stays."""

import contextlib
import io
import json
import math
import sys
import types

import numpy as np
import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell

from x1lib import check, tracking
from x1lib.exercises import ExerciseError, Key


@pytest.mark.parametrize(
    ("value", "truth", "within", "result", "words"),
    [
        (None, 2.97, 2.0, None, "h: nothing predicted, it was 2.97"),
        (3.0, None, 2.0, None, "h: you said 3, it was not measured"),
        (None, None, 2.0, None, "it was not measured"),
        (2.0, 4.0, 2.0, True, "2.00x low): good"),
        (8.1, 4.0, 2.0, False, "(2.02x high): off by more than a factor of 2"),
        (1.9, 4.0, 2.0, False, "low): off"),
        (3.99, 4.0, 1.1, True, "(the same): good"),
        (-3.0, 4.0, 2.0, False, "not even the sign"),
        (0, 4.0, 2.0, False, "not even the sign"),
        (0.0, 0.0, 2.0, True, "(the same): good"),
        (12_345, 20_000.4, 2.0, True, "you said 12,345, it was 20,000"),
    ],
)
def test_a_guess_is_compared_with_the_truth(value, truth, within, result, words):
    said = []
    assert check.guess(value, truth, within, name="h", log=said.append) is result
    assert len(said) == 1 and words in said[0]


@pytest.mark.parametrize("value", ["3", True, float("nan"), float("inf"), [3]])
def test_a_guess_is_a_number(value, tmp_path):
    with pytest.raises(check.GuessError, match="expected a number, or None"):
        check.guess(value, 3.0)
    with pytest.raises(check.GuessError, match="expected a number, or None"):
        check.save_predictions(tmp_path, loss=value)
    assert list(tmp_path.iterdir()) == []


def test_the_first_prediction_stays(tmp_path):
    folder = tmp_path / "run"
    assert check.save_predictions(folder, loss=None, mfu=None) == {"loss": None, "mfu": None}
    assert not folder.exists()
    assert check.save_predictions(folder, loss=4.0, mfu=None) == {"loss": 4.0, "mfu": None}
    assert check.save_predictions(folder, loss=3.5, mfu=0.3) == {"loss": 4.0, "mfu": 0.3}
    assert check.save_predictions(folder, loss=None, mfu=None) == {"loss": 4.0, "mfu": 0.3}
    assert json.loads((folder / "predictions.json").read_text()) == {"loss": 4.0, "mfu": 0.3}


def test_nothing_is_predicted_after_the_first_step(tmp_path):
    with tracking.Run(tmp_path) as run:
        run.event("start", step=0)
        assert check.save_predictions(tmp_path, loss=3.0) == {"loss": 3.0}
        run.log("step", step=1, loss=8.3)
    assert check.save_predictions(tmp_path, loss=4.0, mfu=0.5) == {"loss": 3.0, "mfu": None}


# A law's sealed prediction

MANIFEST = {
    "created": "2026-11-22T10:00:00+00:00",
    "config": {"shape": "tiny"},
    "plan": {"window": 256},
    "data": {"source": "embedded", "tokenizer": "bpe4096"},
    "tokens": 2_000_000,
}


def seal(tmp_path, **changes):
    """A run folder with a sealed prediction beside it: a power law of the tokens."""
    curve = [
        {"n_tokens": n, "loss": 50 * n**-0.2, "low": 49 * n**-0.2, "high": 51 * n**-0.2}
        for n in (8_000_000, 500_000, 1_000_000)
    ]
    sealed = {"sealed": "2026-11-21T22:00:00-02:00", "shape": "tiny", "source": "embedded"}
    sealed |= {"tokenizer": "bpe4096", "seq_len": 256, "curve": curve} | changes
    path = tmp_path / check.SEALED
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(sealed))
    return tmp_path / "run"


def test_a_sealed_power_law_is_read_at_the_tokens_of_the_run(tmp_path):
    assert check.sealed_prediction(tmp_path / "run", MANIFEST) is None
    found = check.sealed_prediction(seal(tmp_path), MANIFEST)
    assert found.loss == pytest.approx(50 * 2e6**-0.2, rel=1e-9)
    assert found.low == pytest.approx(49 * 2e6**-0.2) and found.high > found.loss
    assert found.holds(found.loss) and not found.holds(1.1 * found.high)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sealed": "2026-11-22T10:00:01+00:00"}, "after this run began"),
        ({"shape": "5m"}, "shape '5m', not 'tiny'"),
        ({"tokenizer": "gpt2"}, "tokenizer 'gpt2', not 'bpe4096'"),
        ({"curve": []}, "0 points"),
        ({"curve": [{"n_tokens": 1, "loss": 3, "low": 2, "high": 4}] * 2}, "had 2,000,000"),
        ({"curve": [{"n_tokens": 1, "loss": 3}]}, "damaged"),
        ({"sealed": "yesterday"}, "damaged"),
        ({"sealed": "2026-11-21T22:00:00"}, "damaged"),  # without a zone: when was that?
    ],
)
def test_what_was_not_sealed_for_this_run_is_refused(tmp_path, changes, words):
    with pytest.raises(check.SealedError, match=words):
        check.sealed_prediction(seal(tmp_path, **changes), MANIFEST)


def test_the_law_is_told_to_hold_or_to_fail(tmp_path):
    said = []
    check.tell_sealed(tmp_path / "run", MANIFEST, log=said.append)
    assert said.pop().startswith("no law")
    run = seal(tmp_path)
    check.tell_sealed(run, {**MANIFEST, "val_loss": 50 * 2e6**-0.2}, log=said.append)
    assert said.pop().endswith("the law holds")
    check.tell_sealed(run, {**MANIFEST, "val_loss": 60 * 2e6**-0.2}, log=said.append)
    assert said.pop().endswith("the law fails")
    check.tell_sealed(run, {**MANIFEST, "tokens": 1}, log=said.append)
    assert "this run had 1 tokens" in str(said.pop())


def test_numbers_of_numpy_and_torch_are_guesses(tmp_path):
    given = {"a": np.int64(3), "b": np.float32(0.5), "c": np.array(7), "d": torch.tensor(2.5)}
    kept = {"a": 3.0, "b": 0.5, "c": 7.0, "d": 2.5}
    assert check.save_predictions(tmp_path, **given) == kept
    assert check.save_predictions(tmp_path, **dict.fromkeys(given)) == kept
    assert check.guess(np.float32(3), np.float64(3), log=len) is True
    for value in (np.bool_(True), np.array([1, 2]), np.float32("nan")):
        with pytest.raises(check.GuessError):
            check.guess(value, 3.0)


# Exercises


def third() -> Key:
    return Key(1280, "Count the head.", {640: "That is half of it."}, rel_tol=0.02)


def of_the_run(width: int) -> Key:
    return Key(2 * width, "Twice the width.", rel_tol=0)


def by_name() -> Key:
    return Key("beta2", "Which average forgets slowest?", {"lr": "Not that."}, choices=LEVERS)


LEVERS = ("beta2", "lr", "clip")


@pytest.fixture
def notebook(monkeypatch):
    """A notebook 99 with three exercises."""
    module = types.ModuleType("x1lib.exercises.nb99")
    module.EXERCISES = (third, of_the_run, by_name)
    monkeypatch.setitem(sys.modules, module.__name__, module)


@pytest.mark.parametrize(
    "value",
    [1280, 1290.0, np.int64(1280), np.float32(1280), np.array(1280.0), torch.tensor(1280)],
)
def test_a_right_answer_is_told_so(notebook, value):
    said = []
    assert check.answer("99.1", value, log=said.append) is True and said == ["right: 1,280"]


def test_an_answer_may_need_what_the_run_knows(notebook):
    assert check.answer("99.2", 8, width=4, log=len) is True
    with pytest.raises(check.WrongAnswer, match=r"8\.01 is too high\. Twice"):
        check.answer("99.2", 8.01, width=4)


def test_no_answer_is_open_whatever_is_asked():
    said = []
    for exercise in ("02.1", "02.99", "nowhere.1", "", None):
        assert check.answer(exercise, None, log=said.append, width=object()) is None
    assert set(said) == {"open: put your answer in the place of None"} and len(said) == 5


@pytest.mark.parametrize(
    ("exercise", "value", "words"),
    [
        ("99.1", 1400, "1,400 is too high. Count the head."),
        ("99.1", -1280, "-1,280 is too low. Count the head."),
        ("99.1", 642, "642 is not right. That is half of it."),
        ("99.3", "clip", "'clip' is not right. Which average forgets slowest?"),
        ("99.3", " LR", "' LR' is not right. Not that."),
    ],
)
def test_a_wrong_answer_teaches(notebook, exercise, value, words):
    with pytest.raises(check.WrongAnswer) as caught:
        check.answer(exercise, value)
    assert str(caught.value) == words
    # What Jupyter shows is one line, and no solution.
    InteractiveShell.clear_instance()
    shell = InteractiveShell()
    shell.user_ns.update(check=check, value=value)
    with contextlib.redirect_stdout(io.StringIO()) as shown:
        assert not shell.run_cell(f"check.answer({exercise!r}, value)").success
    assert shown.getvalue() == f"not yet: {words}\n"


def test_a_choice_is_taken_in_any_case(notebook):
    said = []
    assert check.answer("99.3", "Beta2 ", log=said.append) is True and said == ["right: beta2"]
    for value in ("beta1", 3, ""):
        with pytest.raises(check.GuessError, match="expected one of beta2, lr, clip"):
            check.answer("99.3", value)


@pytest.mark.parametrize("value", ["many", True, np.bool_(False), math.nan, np.inf, [3], {}])
def test_an_answer_is_a_number(notebook, value):
    with pytest.raises(check.GuessError, match=r"answer is .*; expected a number"):
        check.answer("99.1", value)


@pytest.mark.parametrize(
    ("exercise", "words"),
    [
        ("99.4", "no exercise '99.4'; expected 99.1 to 99.3"),
        ("99.0", "expected 99.1 to 99.3"),
        ("99", "expected 99.1 to 99.3"),
        ("98.1", "no exercises for '98'; expected x1lib.exercises.nb98"),
        ("lab99.1", "no exercises for 'lab99'; expected x1lib.exercises.lab99"),
    ],
)
def test_an_exercise_that_is_not_there_is_an_error(notebook, exercise, words):
    with pytest.raises(ExerciseError, match=words):
        check.answer(exercise, 1)
