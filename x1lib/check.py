"""Feedback on a learner's guesses, and their record from before anything ran."""

from __future__ import annotations

import json
import math
from pathlib import Path

from x1lib import X1Error, tracking

PREDICTIONS = "predictions.json"


class GuessError(X1Error, TypeError):
    """A guess that is no number."""


def guess(
    value: float | None, truth: float | None, within: float = 2.0, name: str = "guess", log=print
):
    """Say how a guess compares with the truth: right when it is within a factor of it.

    None is fine. Returns True, False, or None where there is nothing to compare. Raises GuessError
    for a guess that is no finite number.
    """
    _check(name, value)
    if value is None or truth is None:
        said = "nothing predicted" if value is None else f"you said {_short(value)}"
        was = "it was not measured" if truth is None else f"it was {_short(truth)}"
        hint = "" if value is not None else ". Put a number there before the next run"
        log(f"{name}: {said}, {was}{hint}")
        return None
    if value != truth and value * truth <= 0:
        log(f"{name}: you said {_short(value)}, it was {_short(truth)}: not even the sign")
        return False
    factor = 1.0 if value == truth else max(value / truth, truth / value)
    good = factor <= within
    side = "the same" if factor < 1.005 else f"{factor:.2f}x {'high' if value > truth else 'low'}"
    verdict = "good" if good else f"off by more than a factor of {within:g}: which term surprised?"
    log(f"{name}: you said {_short(value)}, it was {_short(truth)} ({side}): {verdict}")
    return good


def save_predictions(folder: Path, **guesses: float | None) -> dict:
    """Write guesses to `predictions.json` in a run's folder, and return what stands there.

    The first that was written for a name stays, and once the run has made a step nothing is added:
    a prediction made after the result is none.
    Raises GuessError for a guess that is no finite number.
    """
    for name, value in guesses.items():
        _check(name, value)
    path = Path(folder) / PREDICTIONS
    kept = json.loads(path.read_text()) if path.exists() else {}
    new = {name: value for name, value in guesses.items() if value is not None}
    new = {} if tracking.last_step(folder) else new
    if new.keys() - kept.keys():
        kept = new | kept
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(kept, indent=1) + "\n")
    return {name: kept.get(name) for name in guesses}


def _check(name: str, value: object) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if value is not None and not (number and math.isfinite(value)):
        raise GuessError(f"{name} is {value!r}; expected a number, or None for no guess")


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
