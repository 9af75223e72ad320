"""Faults that make a real spike at a given step: what each does to a batch, a loss or an update.

A fault is given as NAME@STEP[:STRENGTH][,option=value...], STEP being the number that the step has
in the run's record, from 1. What it does is a function of that, of the seed and of sample numbers
alone, so a run with a fault in it resumes and is replayed to the bit.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field

import numpy as np

from x1lib.stability.rules import StabilityError

KINDS = ("shuffle", "garbage", "repeat")  # of corrupt-data: kind=0, 1, 2
RARE_SHARE = 0.01  # of the corpus: what its rarest tokens make up together
SETTLED = 40.0  # time constants of the second moment after which it has forgotten all else


@dataclass(frozen=True)
class Fault:
    """A way to make a spike.

    strength: the default, whose meaning `unit` says; steps: how long it lasts by default; options:
    further numbers with their defaults.
    """

    name: str
    mechanism: str
    counterfactual: str
    source: str
    unit: str
    strength: float
    low: float
    high: float
    steps: int
    options: dict[str, float] = field(default_factory=dict)


FAULTS = {
    fault.name: fault
    for fault in (
        Fault(
            name="rare-token",
            mechanism="A share of the tokens of a few batches is drawn from the rarest of the"
            " vocabulary, as from a list of names or of numbers. Their rows of the embedding have"
            " hardly been trained, so the batch's loss jumps at once and the gradient falls on"
            " those rows; the model that is left is hardly harmed.",
            counterfactual="Another batch at the same state has no spike; these samples at an"
            " earlier state have one.",
            source="Rare tokens, whose rows learn last: Kunstner et al. 2024 (arXiv 2402.19449)",
            unit="share of the batch's tokens that is replaced",
            strength=0.6,
            low=0.0,
            high=1.0,
            steps=3,
        ),
        Fault(
            name="adam-beta2",
            mechanism="In a long quiet stretch the gradient is `jump` times smaller and the second"
            " moment settles on it; then the gradient steps up, and an average over 1 / (1 - beta2)"
            " steps lags behind: the first moment follows in ten steps, so updates are many times"
            " the learning rate before the second has caught up.",
            counterfactual="The same quiet stretch and the same jump at beta2 0.95, where no update"
            " exceeds 1.1 learning rates.",
            source="Molybog et al. 2023 (arXiv 2304.09871); Wortsman et al. 2023 (arXiv"
            " 2304.13013), who cure it by a lower beta2 or by clipping updates; PaLM's spikes that"
            " no batch explains (Chowdhery et al. 2022, arXiv 2204.02311, section 5.1)",
            unit="beta2 from the quiet stretch on",
            strength=0.999,
            low=0.0,
            high=1.0,
            steps=30,  # of the quiet stretch that are really trained, before STEP
            options={"jump": 33.0},
        ),
        Fault(
            name="lr-too-high",
            mechanism="The learning rate is `strength` times what it should be for some steps, as"
            " after a slip in a schedule; updates overshoot, and the model is damaged before the"
            " next batch shows it. With hidden=1 the log keeps the intended rate.",
            counterfactual="The same batches at the intended rate.",
            source="The edge of stability (Cohen et al. 2021, arXiv 2103.00065); sensitivity to"
            " the rate: Wortsman et al. 2023 (arXiv 2309.14322)",
            unit="times the learning rate",
            strength=10.0,
            low=0.0,
            high=math.inf,
            steps=5,
            options={"hidden": 0.0},
        ),
        Fault(
            name="corrupt-data",
            mechanism="A share of the samples of a few batches is broken: tokens in random order"
            " (kind=0), drawn at random from the vocabulary (kind=1), or one of them repeated"
            " (kind=2), as after a wrong offset, a wrong dtype or a failed filter.",
            counterfactual="Another batch at the same state has no spike; these samples at an"
            " earlier state have one.",
            source="Repeated n-grams before spikes: OLMo 2 (2025, arXiv 2501.00656, section 3)",
            unit="share of samples that is broken",
            strength=1.0,
            low=0.0,
            high=1.0,
            steps=3,
            options={"kind": 0.0},
        ),
    )
}

_SPEC = re.compile(r"([a-z0-9-]+)@(\d+)(?::([^,]+))?((?:,[a-z]+=[^,]+)*)")


@dataclass(frozen=True)
class Injection:
    """One fault at one step, with its numbers filled in; `spec` is the text that gives it again."""

    fault: Fault
    step: int
    strength: float
    steps: int
    options: dict[str, float]

    @classmethod
    def parse(cls, spec: str) -> Injection:
        """Read NAME@STEP[:STRENGTH][,option=value...]; raises StabilityError saying what is off."""
        match = _SPEC.fullmatch(spec)
        if not match or match[1] not in FAULTS:
            raise StabilityError(
                f"inject is {spec!r}; expected NAME@STEP[:STRENGTH][,option=value] with a name of"
                f" {', '.join(FAULTS)}"
            )
        fault = FAULTS[match[1]]
        given = dict(part.split("=") for part in match[4].split(",")[1:])
        known = {"steps": fault.steps, **fault.options}
        for name in given.keys() - known.keys():
            raise StabilityError(f"inject: {fault.name} has no {name!r}; it has {', '.join(known)}")
        try:
            strength = float(match[3]) if match[3] else fault.strength
            options = {name: float(given.get(name, known[name])) for name in known}
        except ValueError as error:
            raise StabilityError(f"inject is {spec!r}: {error}; give numbers") from error
        if not all(math.isfinite(v) for v in (strength, *options.values())):
            raise StabilityError(f"inject is {spec!r}; give finite numbers")
        steps, step = options.pop("steps"), int(match[2])
        if not fault.low < strength <= fault.high:
            raise StabilityError(
                f"inject: a strength of {strength:g} for {fault.name}; give above {fault.low:g} and"
                f" at most {fault.high:g}: {fault.unit}"
            )
        one = cls(fault, step, strength, int(steps), options)
        if steps != one.steps or steps < 1 or one.first_step < 1:
            raise StabilityError(
                f"inject is {spec!r}: {steps:g} steps at step {step}; give whole ones that begin at"
                " step 1 or later"
            )
        if options.get("kind", 0) not in range(len(KINDS)):
            raise StabilityError(f"inject: kind is {options['kind']:g}; give 0, 1 or 2: {KINDS}")
        if options.get("jump", 1) <= 0 or (fault.name == "adam-beta2" and strength == 1):
            raise StabilityError("inject: adam-beta2 needs a jump above 0 and a beta2 below 1")
        return one

    @property
    def spec(self) -> str:
        options = "".join(f",{name}={value:g}" for name, value in self.options.items())
        return f"{self.fault.name}@{self.step}:{self.strength:g},steps={self.steps}{options}"

    @property
    def first_step(self) -> int:
        """The first step that is not as it would have been: of the quiet stretch, if there is one.

        Faults of data and rate begin at `step` and last `steps`.
        """
        return self.step - self.steps if self.fault.name == "adam-beta2" else self.step

    @property
    def last_step(self) -> int:
        return self.step if self.fault.name == "adam-beta2" else self.step + self.steps - 1

    # what it does

    def loss_scale(self, step: int) -> float:
        """By what the loss is multiplied before the backward pass of a step; its record is not."""
        quiet = self.fault.name == "adam-beta2" and self.first_step <= step < self.step
        return 1 / self.options["jump"] if quiet else 1.0

    def lr_factor(self, step: int) -> float:
        wrong = self.fault.name == "lr-too-high" and self.first_step <= step <= self.last_step
        return self.strength if wrong else 1.0

    def beta2(self, step: int) -> float | None:
        """The beta2 of a step, None where it is the run's own."""
        stale = self.fault.name == "adam-beta2" and step >= self.first_step
        return self.strength if stale else None

    def settled(self, step: int) -> tuple[float, float] | None:
        """Before the first quiet step: (scale of the gradient, steps that the moments are aged by).

        A real quiet stretch lasts many times 1 / (1 - beta2) steps. Adam does not change with the
        gradient's scale, so what such a stretch leaves is known without training it: the first
        moment times the scale, the second times its square, and no bias left to correct.
        """
        if self.fault.name != "adam-beta2" or step != self.first_step:
            return None
        return 1 / self.options["jump"], math.ceil(SETTLED / (1 - self.strength))

    def rows(
        self, tokens: np.ndarray, ids: np.ndarray, first_sample: int, seed: int, rare, vocab_size
    ) -> np.ndarray:
        """A batch [n, seq + 1] with the samples that the fault spoils spoiled; else as it is.

        ids: the samples' numbers. first_sample: the first number of the batch at `step`. rare: ids
        of the rarest tokens, or a function that finds them, asked only where they are needed.
        """
        last = first_sample + self.steps * len(ids)
        if self.fault.name not in ("rare-token", "corrupt-data"):
            return tokens
        spoiled = np.flatnonzero((ids >= first_sample) & (ids < last))
        if not len(spoiled):
            return tokens
        tokens = tokens.copy()
        rare = rare() if callable(rare) and self.fault.name == "rare-token" else rare
        for row in spoiled:
            draw = _draws(seed, int(ids[row]))
            if self.fault.name == "rare-token":
                where = draw.random_sample(tokens.shape[1]) < self.strength
                drawn = rare[draw.randint(0, len(rare), tokens.shape[1])]
                tokens[row, where] = drawn[where]
            elif draw.random_sample() < self.strength:
                tokens[row] = _broken(
                    tokens[row], KINDS[int(self.options["kind"])], draw, vocab_size
                )
        return tokens


def _draws(seed: int, sample: int) -> np.random.RandomState:
    """Numbers that belong to one sample; numpy promises that RandomState's never change."""
    words = [seed & 0xFFFFFFFF, seed >> 32, sample & 0xFFFFFFFF, sample >> 32, 0x7370696B]
    return np.random.RandomState(words)


def _broken(row: np.ndarray, kind: str, draw: np.random.RandomState, vocab_size: int) -> np.ndarray:
    if kind == "shuffle":
        return row[draw.permutation(len(row))]
    if kind == "garbage":
        return draw.randint(0, vocab_size, len(row)).astype(row.dtype)
    return np.full_like(row, row[draw.randint(0, len(row))])


def rarest(counts: np.ndarray, share: float = RARE_SHARE) -> np.ndarray:
    """The rarest tokens that occur, which make up at most `share` of all together: ids, int64.

    counts[vocab]: how often each token occurs. Never none: at least the rarest one.
    """
    counts = np.asarray(counts)
    order = np.argsort(counts, kind="stable")
    order = order[counts[order] > 0]
    n = int(np.searchsorted(np.cumsum(counts[order]), share * counts.sum(), side="right"))
    return np.sort(order[: max(n, 1)])


def largest_update(beta1: float, beta2: float, jump: float = math.inf, steps: int = 10_000):
    """Adam's largest update in learning rates after a constant gradient has grown `jump` times.

    Its moments had settled on the small gradient: after n steps the first has come 1 - beta1^n of
    the way and the second 1 - beta2^n. Epsilon left out. Source: Kingma & Ba 2014, algorithm 1.
    """
    n = np.arange(1, steps + 1)
    before = 0.0 if math.isinf(jump) else 1 / jump
    first = before + (1 - beta1**n) * (1 - before)
    second = before**2 + (1 - beta2**n) * (1 - before**2)
    return float((first / np.sqrt(second)).max())
