"""Rules that call a value of a training curve a spike: over a whole record, or value by value."""

from __future__ import annotations

import math
from collections import deque
from typing import ClassVar

import numpy as np

from x1lib import X1Error
from x1lib.stability.windows import DOUBT, median, medians, rolling

POLICIES = ("off", "record", "skip", "rollback")  # what a trainer may do at a spike
TO_SD = 1.4826  # of a median absolute deviation, under normal noise
NO_SPREAD = 1e-9  # of the level: a deviation below this is rounding


class StabilityError(X1Error, ValueError):
    """A rule, an option or an injection that does not exist or cannot be."""


class Rule:
    """One way to call a value a spike; .update(value) -> bool, .score of the last value.

    state() is what JSON can hold, and `restore` takes it up again to the bit.
    """

    OPTIONS: ClassVar[dict[str, float]] = {}

    def __init__(self, **options: float):
        for name in options.keys() - self.OPTIONS.keys():
            raise StabilityError(
                f"rule {self.name!r} has no option {name!r}; it has {', '.join(self.OPTIONS)}"
            )
        self.options = self.OPTIONS | options
        self.score = math.nan
        if not (self.options["k"] > 0 and int(self.options.get("window", 2)) >= 2):
            raise StabilityError(f"rule {self.name!r}: give k above 0 and a window of 2 or more")

    @property
    def name(self) -> str:
        return next(name for name, rule in RULES.items() if rule is type(self))

    def update(self, value: float) -> bool:
        """Judge the next value, then take it into account. NaN is no value; infinity a spike."""
        self.score = math.nan
        if not math.isfinite(value):
            return value == math.inf
        return self._judge(float(value))

    def flags(self, values: np.ndarray) -> np.ndarray:
        """Judge a whole record of finite values: bool[n], as `update` one by one would."""
        return np.fromiter((self._judge(value) for value in values.tolist()), bool, len(values))

    def state(self) -> dict:
        return {"rule": self.name, "options": self.options, **self._state()}

    def restore(self, state: dict) -> Rule:
        if (state["rule"], state["options"]) != (self.name, self.options):
            raise StabilityError(
                f"the detector's state is of rule {state['rule']!r} {state['options']}, this one is"
                f" {self.name!r} {self.options}; start it anew"
            )
        self._restore(state)
        return self


class _Windowed(Rule):
    """A rule that compares a value with those before it."""

    AT_LEAST = False  # a score equal to k is a spike

    def __init__(self, **options: float):
        super().__init__(**options)
        self.window = int(self.options["window"])
        self.first = int(self.options.get("first", self.window))  # values before the first verdict
        self._past: deque[float] = deque(maxlen=self.window)

    def _judge(self, value: float) -> bool:
        ready = len(self._past) >= self.first
        self.score = self._score(np.array(self._past), value) if ready else math.nan
        self._past.append(value)
        return self._over(self.score)

    def _over(self, score):
        return score >= self.options["k"] if self.AT_LEAST else score > self.options["k"]

    def _state(self) -> dict:
        return {"past": list(self._past)}

    def _restore(self, state: dict) -> None:
        self._past = deque(state["past"], maxlen=self.window)

    def flags(self, values: np.ndarray) -> np.ndarray:
        found = np.zeros(len(values), bool)
        for i in range(self.first, min(self.window, len(values))):
            found[i] = self._over(self._score(values[:i], values[i]))
        if len(values) <= self.window:
            return found
        scores, sure = self._scores(values)
        doubtful = ~sure | (np.abs(scores - self.options["k"]) <= DOUBT * self.options["k"])
        for i in np.flatnonzero(doubtful):
            scores[i] = self._score(values[i : i + self.window], values[i + self.window])
        found[self.window :] = self._over(scores)
        return found


def _deviations(value, mean, deviation):
    return (value - mean) / np.maximum(deviation, NO_SPREAD * np.abs(mean) + 1e-300)


class Olmo2(_Windowed):
    """At least 7 standard deviations above the mean of the previous 1,000 values.

    Source: OLMo 2 (2025, arXiv 2501.00656, section 3), whose spike score is the percentage of such
    values; "away from" there, above here. Population deviation, as theirs is not said.
    """

    OPTIONS: ClassVar[dict[str, float]] = {"window": 1000, "k": 7.0}
    AT_LEAST = True

    def _score(self, past: np.ndarray, value: float) -> float:
        return float(_deviations(value, past.mean(), past.std()))

    def _scores(self, values: np.ndarray):
        mean, deviation, sure = rolling(values[:-1], self.window)
        return _deviations(values[self.window :], mean, deviation), sure


class Llmc(_Windowed):
    """More than 7 population deviations above the mean of a window that holds the value itself.

    So no score passes sqrt(window - 1), 11.3 for 128. Source: llm.c, llmc/outlier_detector.h
    (window 128), scripts/run_gpt3_125M.sh (-sl 7 -sg 7; off by default).
    """

    OPTIONS: ClassVar[dict[str, float]] = {"window": 128, "k": 7.0}

    def _score(self, past: np.ndarray, value: float) -> float:
        inside = np.append(past[1:], value)
        return float(_deviations(value, inside.mean(), inside.std()))

    def _scores(self, values: np.ndarray):
        mean, deviation, sure = rolling(values[1:], self.window)
        return _deviations(values[self.window :], mean, deviation), sure


class Robust(_Windowed):
    """More than k deviations above the median of the previous 15 values; ours, and the default.

    The deviation is 1.4826 / sqrt(2) times the median absolute step between neighbours among the
    previous 64 values, and at least a share `floor` of the level. A falling loss, as in warm-up,
    raises neither by much, medians hardly feel a spike among them, and 20 values are enough to
    begin. Source of scale and cut: Hampel 1974; of differences against a trend: von Neumann 1941.
    """

    OPTIONS: ClassVar[dict[str, float]] = {
        "window": 64,
        "level": 15,
        "k": 7.0,
        "first": 20,
        "floor": 0.002,
    }

    def __init__(self, **options: float):
        super().__init__(**options)
        self.level = int(self.options["level"])
        if self.window % 2 or self.level % 2 == 0 or not 3 <= self.level <= self.first:
            raise StabilityError(
                f"rule 'robust': window {self.window} and level {self.level}; give an even window,"
                " and an odd level from 3 to what stands before the first verdict"
            )

    def _score(self, past: np.ndarray, value: float) -> float:
        level = median(past[-self.level :])
        steps = median(np.abs(past[1:] - past[:-1]))
        return float(self._ratio(value, level, steps))

    def _ratio(self, value, level, steps):
        floor = self.options["floor"] * np.abs(level) + 1e-300
        return (value - level) / np.maximum(TO_SD / math.sqrt(2) * steps, floor)

    def _scores(self, values: np.ndarray):
        last = self.window - self.level
        level = medians(values[last:-1], self.level)
        steps = medians(np.abs(np.diff(values[:-1])), self.window - 1)
        scores = self._ratio(values[self.window :], level, steps)
        return scores, np.ones(len(scores), bool)


class LlmFoundry(_Windowed):
    """At least twice the mean of the previous 100 values, more than 4 values in a row.

    Source: llm-foundry, callbacks/kill_loss_spike_callback.py; its other alarm (half of a window
    above a loss of 10) is left out.
    """

    OPTIONS: ClassVar[dict[str, float]] = {"window": 100, "k": 2.0, "patience": 4}
    AT_LEAST = True

    def __init__(self, **options: float):
        super().__init__(**options)
        self._row = 0

    def _score(self, past: np.ndarray, value: float) -> float:
        return float(value / past.mean())

    def _scores(self, values: np.ndarray):
        mean, _, _ = rolling(values[:-1], self.window)
        return values[self.window :] / mean, np.ones(len(mean), bool)

    def _judge(self, value: float) -> bool:
        self._row = self._row + 1 if super()._judge(value) else 0
        return self._row > self.options["patience"]

    def flags(self, values: np.ndarray) -> np.ndarray:
        high = super().flags(values)
        places = np.arange(len(high))
        row = places - np.maximum.accumulate(np.where(high, -1, places))
        return row > self.options["patience"]

    def _state(self) -> dict:
        return super()._state() | {"row": self._row}

    def _restore(self, state: dict) -> None:
        super()._restore(state)
        self._row = state["row"]


class ZClip(Rule):
    """More than 2.5 deviations above a moving mean that takes in what clipping leaves of a value.

    Mean and variance forget 3% a value, from those of the first 25. A value whose score is z counts
    as mean + k^2 / z deviations. Source: Kumar et al. 2025 (arXiv 2504.02507) and its code,
    zclip/zclip.py. Made for gradient norms, to clip rather than to alarm, so it flags much.
    """

    OPTIONS: ClassVar[dict[str, float]] = {"alpha": 0.97, "k": 2.5, "first": 25}

    def __init__(self, **options: float):
        super().__init__(**options)
        self._begun: list[float] = []
        self._mean = self._variance = None

    def _judge(self, value: float) -> bool:
        k, alpha = self.options["k"], self.options["alpha"]
        if self._mean is None:
            self._begun.append(value)
            if len(self._begun) >= self.options["first"]:
                self._mean = sum(self._begun) / len(self._begun)
                squares = sum((one - self._mean) ** 2 for one in self._begun)
                self._variance = squares / len(self._begun)
            return False
        deviation = math.sqrt(self._variance)
        self.score = (value - self._mean) / (deviation + 1e-6)
        spike = self.score > k
        if spike:
            value = self._mean + k * deviation / (self.score / k)
        self._mean = alpha * self._mean + (1 - alpha) * value
        self._variance = alpha * self._variance + (1 - alpha) * (value - self._mean) ** 2
        return spike

    def _state(self) -> dict:
        return {"begun": self._begun, "moments": [self._mean, self._variance]}

    def _restore(self, state: dict) -> None:
        self._begun, (self._mean, self._variance) = list(state["begun"]), state["moments"]


RULES: dict[str, type[Rule]] = {
    "robust": Robust,
    "olmo2": Olmo2,
    "llmc": Llmc,
    "llm_foundry": LlmFoundry,
    "zclip": ZClip,
}


def detector(rule: str = "robust", **options: float) -> Rule:
    """A fresh rule, fed value by value; raises StabilityError for one that does not exist."""
    if rule not in RULES:
        raise StabilityError(f"unknown rule {rule!r}; give one of {', '.join(RULES)}")
    return RULES[rule](**options)


def detect(values, rule: str = "robust", **options: float) -> np.ndarray:
    """Places of the values that a rule calls spikes: int64, ascending.

    values: 1-D, in the order of the steps. NaN is no measurement and is passed over; infinity is a
    spike and takes part in no mean. Raises StabilityError for an unknown rule or option.
    """
    found = detector(rule, **options)
    values = np.asarray(values, float)
    if values.ndim != 1:
        raise StabilityError(f"values have {values.ndim} dimensions; give one curve, 1-D")
    finite = np.flatnonzero(np.isfinite(values))
    spikes = finite[found.flags(values[finite])]
    return np.union1d(spikes, np.flatnonzero(values == np.inf))


def spike_score(values, window: int = 1000, k: float = 7.0) -> float:
    """Share of values that the OLMo 2 rule flags; OLMo 2 gives it in percent.

    Of all values, the first `window` included, which have no verdict.
    """
    values = np.asarray(values, float)
    return len(detect(values, "olmo2", window=window, k=k)) / len(values) if len(values) else 0.0


def lead(loss, grad_norm, factor: float = 2.0) -> int | None:
    """Values by which the gradient norm leaves its level before the loss does, in a short record.

    A curve leaves when a value is at least `factor` times the median of all before it. Negative
    where the loss leaves first; None where either stays.
    """
    left = []
    for curve in (loss, grad_norm):
        curve = np.asarray(curve, float)
        over = (i for i in range(1, len(curve)) if curve[i] >= factor * np.median(curve[:i]))
        left.append(next(over, None))
    return None if None in left else left[0] - left[1]
