"""A paper: sixteen questions by seed, two of each objective, the first of them always the same."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property

from x1lib.quiz.bank import QUESTIONS
from x1lib.quiz.question import Draw, Put, Question, QuizError

N_ASKED = 16
N_TO_PASS = 13  # 80%, rounded up
FIRST = "motivation.optimum"  # the brief's own slip
OWN, REHEARSAL = "quiz", "rehearsal"


@dataclass(frozen=True)
class Paper:
    """What one seed asks; a rehearsal draws other questions than a person's of the same seed."""

    seed: int
    mode: str = OWN

    def __post_init__(self) -> None:
        if self.mode not in (OWN, REHEARSAL):
            raise QuizError(f"mode is {self.mode!r}; expected {OWN} or {REHEARSAL}")
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0:
            raise QuizError(f"seed is {self.seed!r}; give a whole number from 0")

    @property
    def key(self) -> str:
        return f"{self.mode}/{self.seed}"

    @cached_property
    def questions(self) -> tuple[Put, ...]:
        """In the order in which they are asked: by objective, as the notebooks are read."""
        return tuple(question.put(self.key) for question in self._chosen())

    def _chosen(self) -> list[Question]:
        by_objective = objectives()
        each = N_ASKED // len(by_objective)
        found = []
        for name, mine in by_objective.items():
            first = [one for one in mine if one.id == FIRST]
            rest = Draw(f"{self.key}/{name}").shuffled([one for one in mine if one.id != FIRST])
            found += [*first, *rest][:each]
        return found

    @cached_property
    def sha256(self) -> str:
        """Of everything that is asked and of the answers: a changed question is another paper."""
        asked = [[one.id, one.text, one.options, one.right] for one in self.questions]
        return hashlib.sha256(json.dumps(asked).encode()).hexdigest()


def objectives() -> dict[str, list[Question]]:
    """All questions by objective, in order."""
    found: dict[str, list[Question]] = {}
    for one in QUESTIONS:
        found.setdefault(one.objective, []).append(one)
    if N_ASKED % len(found):
        raise QuizError(f"{N_ASKED} questions cannot be shared out over {len(found)} objectives")
    return found
