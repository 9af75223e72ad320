"""Feedback on guesses: none is fine, a good one is told from a bad one, the first one stays."""

import json

import numpy as np
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


def test_an_exercise_is_open_right_or_wrong():
    said = []
    assert check.answer(None, 1280, log=said.append) is None and said.pop().startswith("open")
    assert check.answer(1290, 1280, log=said.append) is True and said.pop() == "right: 1,280"
    assert check.answer(np.int64(1280), 1280, log=said.append) is True and said.pop()
    with pytest.raises(check.WrongAnswer, match=r"1,400 is too high\. Count the head"):
        check.answer(1400, 1280, hint="Count the head.")
    with pytest.raises(check.GuessError):
        check.answer("many", 1280)
