"""A question: drawn numbers, an answer that is computed, three wrong ones, and where to read."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from x1lib import X1Error

LETTERS = "abcd"


class QuizError(X1Error, ValueError):
    """A quiz that cannot be drawn, or a record of one that does not hold."""


class Draw:
    """Numbers that follow from a key alone, on every machine and in every version of Python."""

    def __init__(self, key: str) -> None:
        self._key, self._n_drawn = key, 0

    def below(self, n: int) -> int:
        """A whole number from 0 to n - 1."""
        self._n_drawn += 1
        digest = hashlib.sha256(f"{self._key}/{self._n_drawn}".encode()).digest()
        return int.from_bytes(digest[:8], "big") % n

    def pick(self, values: Sequence):
        return values[self.below(len(values))]

    def shuffled(self, values: Sequence) -> list:
        rest = list(values)
        return [rest.pop(self.below(len(rest))) for _ in range(len(rest))]


@dataclass(frozen=True)
class Item:
    """What a question asks with the numbers drawn; each wrong answer is a slip that people make."""

    text: str
    right: str
    wrong: tuple[str, str, str]
    why: str


@dataclass(frozen=True)
class Question:
    """id: objective.name. notebook, section: where the answer is explained."""

    id: str
    notebook: str
    section: str
    make: Callable[[Draw], Item]

    @property
    def objective(self) -> str:
        return self.id.partition(".")[0]

    @property
    def link(self) -> str:
        """The section as an address, the way JupyterLab and code hosts make it of a heading."""
        return f"{self.notebook}.ipynb#{self.section.replace(' ', '-')}"

    def put(self, key: str) -> Put:
        """The question as it stands on the paper of that key."""
        draw = Draw(f"{key}/{self.id}")
        item = self.make(draw)
        options = draw.shuffled((item.right, *item.wrong))
        if len({_read_as(option) for option in options}) != len(LETTERS):
            raise QuizError(f"{self.id}: two of its answers read the same ({', '.join(options)})")
        return Put(self, item.text, tuple(options), LETTERS[options.index(item.right)], item.why)


@dataclass(frozen=True)
class Put:
    """A question on a paper: four options, of which the one with the letter `right` is right."""

    question: Question
    text: str
    options: tuple[str, ...]
    right: str
    why: str

    @property
    def id(self) -> str:
        return self.question.id


class Bank:
    """Questions of one objective; `@bank(section)` adds the function below it."""

    def __init__(self, objective: str, notebook: str) -> None:
        self.objective, self.notebook = objective, notebook
        self.questions: list[Question] = []

    def __call__(self, section: str, notebook: str = "") -> Callable:
        def add(make: Callable[[Draw], Item]) -> Callable[[Draw], Item]:
            name = f"{self.objective}.{make.__name__}"
            self.questions.append(Question(name, notebook or self.notebook, section, make))
            return make

        return add


def _read_as(option: str) -> str:
    """An option with its numbers as values: 0.45 and 0.450 are one answer."""
    return re.sub(
        r"\d[\d,]*(\.\d+)?(e[-+]?\d+)?",
        lambda found: repr(float(found[0].replace(",", ""))),
        option,
    )


def figures(value: float, digits: int = 2) -> str:
    """A number to so many figures, with a word for its size: 5.1 thousand, 20 billion."""
    for size, word in (
        (1e12, " trillion"),
        (1e9, " billion"),
        (1e6, " million"),
        (1e3, " thousand"),
    ):
        if abs(value) >= 0.9995 * size:
            return f"{_rounded(value / size, digits)}{word}"
    return _rounded(value, digits)


def _rounded(value: float, digits: int) -> str:
    text = f"{value:.{digits}g}"
    if "e" in text:
        text = f"{float(text):,.0f}" if abs(value) >= 1 else text
    return text
