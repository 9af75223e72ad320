"""Feedback on guesses and exercises; guesses' record from before anything ran; sealed predictions.

An exercise shows the reader a `None` and a check, and nothing of its solution:

    h200s = None  # cards

    check.answer("02.3", h200s)

"02.3" is the third exercise of notebook 02. What it asks for is computed in `x1lib.exercises.nb02`
(`x1lib.exercises.lab00` for a lab) by the function of the same name, `h200s`, third in that
module's EXERCISES; it returns a `Key` with the value, a hint, and what to say of known slips. What
only the reader's run knows is handed on: `check.answer("lab00.2", window, shape=size)`. The cell
below holds the folded solution, which opens with an expression in backticks that is right.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from datetime import datetime
from numbers import Real
from pathlib import Path

import numpy as np

from x1lib import X1Error, tracking
from x1lib.exercises import Key, key_of
from x1lib.exercises import progress as kept_progress

PREDICTIONS = "predictions.json"
SEALED = Path("scaling-law") / "prediction.json"  # beside the run folders


class GuessError(X1Error, TypeError):
    """A guess that is no number."""


class WrongAnswer(X1Error, AssertionError):
    """An exercise's answer that is not right."""

    def _render_traceback_(self) -> list[str]:
        """What Jupyter shows in the place of a traceback: the words alone."""
        return [f"not yet: {self}"]


class SealedError(X1Error, ValueError):
    """A sealed prediction that cannot be held against this run."""


def guess(
    value: float | None, truth: float | None, within: float = 2.0, name: str = "guess", log=print
):
    """Say how a guess compares with the truth: right when it is within a factor of it.

    None is fine. Returns True, False, or None where there is nothing to compare. Raises GuessError
    for a guess that is no finite number.
    """
    value = _check(name, value)
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


def answer(exercise: str, value: float | str | None, *, log=print, **given: object) -> bool | None:
    """Check the answer to an exercise, such as "02.3": None is open, a right one is told so.

    Returns None or True. Raises WrongAnswer for another answer, with what is known about that slip
    or a hint; GuessError for one that is no finite number, or none of the choices.
    """
    if value is None:
        log("open: put your answer in the place of None")
        return None
    right = _judged(value, key_of(exercise, **given), log)
    kept_progress.record(exercise)
    return right


def progress(log=print) -> dict[str, tuple[int, int]]:
    """Say how many exercises of each notebook are solved; returns (solved, all) by notebook."""
    log(kept_progress.sentence())
    return kept_progress.counts()


def _judged(value: float | str, key: Key, log) -> bool:
    if key.choices:
        return _choice(value, key, log)
    said, truth = _number("answer", value), float(key.value)
    if math.isclose(said, truth, rel_tol=key.rel_tol):
        log(f"right: {_short(truth)}")
        return True
    for wrong, words in key.slips.items():
        # A slip is recognised as closely as an answer, and by what it is printed as.
        if math.isclose(said, wrong, rel_tol=max(key.rel_tol, 0.005)):
            raise WrongAnswer(f"{_short(said)} is not right. {words}")
    raise WrongAnswer(f"{_short(said)} is too {'high' if said > truth else 'low'}. {key.hint}")


def _choice(value: object, key: Key, log) -> bool:
    said = value.strip().casefold() if isinstance(value, str) else None
    if said not in {one.casefold() for one in key.choices}:
        raise GuessError(f"the answer is {value!r}; expected one of {', '.join(key.choices)}")
    if said == str(key.value).casefold():
        log(f"right: {key.value}")
        return True
    slips = {str(wrong).casefold(): words for wrong, words in key.slips.items()}
    raise WrongAnswer(f"{value!r} is not right. {slips.get(said, key.hint)}")


def save_predictions(folder: Path, **guesses: float | None) -> dict:
    """Write guesses to `predictions.json` in a run's folder, and return what stands there.

    The first that was written for a name stays, and once the run has made a step nothing is added:
    a prediction made after the result is none.
    Raises GuessError for a guess that is no finite number.
    """
    guesses = {name: _check(name, value) for name, value in guesses.items()}
    path = Path(folder) / PREDICTIONS
    kept = json.loads(path.read_text()) if path.exists() else {}
    new = {name: value for name, value in guesses.items() if value is not None}
    new = {} if tracking.last_step(folder) else new
    if new.keys() - kept.keys():
        kept = new | kept
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(kept, indent=1) + "\n")
    return {name: kept.get(name) for name in guesses}


@dataclass(frozen=True)
class Sealed:
    """What the scaling law said of this run before it began: held-out loss [nats a token]."""

    loss: float
    low: float
    high: float
    sealed: str  # ISO 8601, UTC

    def holds(self, loss: float) -> bool:
        return self.low <= loss <= self.high


def sealed_prediction(folder: Path, manifest: dict) -> Sealed | None:
    """The sealed prediction for a finished run, read at the tokens it came to; None without one.

    `scaling-law/prediction.json` beside the run's folder holds `sealed` (ISO 8601 with a time
    zone), `shape`, `source`, `tokenizer`, `seq_len`, and `curve`: rows of `n_tokens`, `loss`, `low`
    and `high`, between which logarithms are interpolated linearly. Raises SealedError when it is
    damaged, was made for another run, was sealed after this one began, or does not reach so far.
    """
    path = Path(folder).parent / SEALED
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text())
        made_for = {key: found[key] for key in ("shape", "source", "tokenizer", "seq_len")}
        begun, sealed = (datetime.fromisoformat(t) for t in (manifest["created"], found["sealed"]))
        is_late = sealed > begun
        rows = sorted(
            (row["n_tokens"], row["loss"], row["low"], row["high"]) for row in found["curve"]
        )
        logs = [[math.log(value) for value in row] for row in rows]
    except (KeyError, TypeError, ValueError) as error:
        raise SealedError(f"{path} is damaged ({error!r}); seal the prediction again") from error
    run = {"shape": manifest["config"]["shape"], "seq_len": manifest["plan"]["window"]}
    run |= {key: manifest["data"][key] for key in ("source", "tokenizer")}
    other = [
        f"{key} {made_for[key]!r}, not {now!r}" for key, now in run.items() if made_for[key] != now
    ]
    if other:
        raise SealedError(f"the sealed prediction is for {', '.join(other)}: predict this run anew")
    if is_late:
        raise SealedError(f"the prediction was sealed at {found['sealed']}, after this run began")
    n_tokens, reach = manifest["tokens"], [row[0] for row in rows]
    if len(rows) < 2 or not reach[0] <= n_tokens <= reach[-1]:
        ends = f", {reach[0]:,} to {reach[-1]:,} tokens" if reach else ""
        raise SealedError(
            f"the sealed curve has {len(rows)} points{ends}, and this run had {n_tokens:,} tokens;"
            " seal a wider one"
        )
    loss, low, high = _between(logs, math.log(n_tokens))
    return Sealed(loss, low, high, sealed=found["sealed"])


def tell_sealed(folder: Path, manifest: dict, log=print) -> None:
    """Say how the sealed prediction compares with the run, or why nothing can be compared."""
    try:
        sealed = sealed_prediction(folder, manifest)
    except SealedError as error:
        log(error)
        return
    if sealed is None:
        log("no law has sealed a prediction of this run: lab01 does")
        return
    verdict = "holds" if sealed.holds(manifest["val_loss"]) else "fails"
    log(
        f"the law, sealed {sealed.sealed}: {sealed.low:.3f} to {sealed.high:.3f} nats a token, best"
        f" {sealed.loss:.3f}; it was {manifest['val_loss']:.3f}: the law {verdict}"
    )


def _between(logs: list[list[float]], x: float) -> list[float]:
    """exp of the other columns at x, linear between the two rows around it; x is inside."""
    i = next(i for i in range(1, len(logs)) if x <= logs[i][0])
    (x0, *before), (x1, *after) = logs[i - 1], logs[i]
    share = (x - x0) / (x1 - x0)
    return [math.exp(a + share * (b - a)) for a, b in zip(before, after, strict=True)]


def _number(name: str, value: object) -> float:
    """A finite number as float, numpy's and torch's scalars included; GuessError for all else."""
    if not isinstance(value, Real) and np.ndim(value) == 0 and hasattr(value, "item"):
        value = value.item()
    good = isinstance(value, Real) and not isinstance(value, bool)  # numpy's scalars are Real, too
    if not (good and math.isfinite(value)):
        raise GuessError(f"{name} is {value!r}; expected a number, or None for no guess")
    return float(value)


def _check(name: str, value: object) -> float | None:
    return None if value is None else _number(name, value)


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
