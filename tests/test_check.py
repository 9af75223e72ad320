"""Feedback on guesses: none is fine, a good one is told from a bad one, the first one stays."""

import json

import pytest

from x1lib import check, tracking


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
