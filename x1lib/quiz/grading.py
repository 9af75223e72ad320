"""Grading, and the record of it: seed, answers and the hash of what was asked, graded again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from x1lib.quiz.paper import N_ASKED, N_TO_PASS, REHEARSAL, Paper
from x1lib.quiz.question import LETTERS, QuizError
from x1lib.tracking import utc_now, write_json

SCORES = "quiz-score.json"
AWAY = "move the file away, and take the quiz again"
FORMAT = 1


@dataclass(frozen=True)
class Attempt:
    """A graded paper. answers: letter by question id; one that is missing is wrong."""

    paper: Paper
    answers: dict[str, str]
    when: str

    @property
    def is_rehearsal(self) -> bool:
        return self.paper.mode == REHEARSAL

    @property
    def rights(self) -> list[bool]:
        return [self.answers.get(one.id) == one.right for one in self.paper.questions]

    @property
    def n_right(self) -> int:
        return sum(self.rights)

    @property
    def passes(self) -> bool:
        """Whether a person has passed: never true of a rehearsal."""
        return not self.is_rehearsal and self.n_right >= N_TO_PASS

    def to_json(self) -> dict:
        return {
            "mode": self.paper.mode,
            "seed": self.paper.seed,
            "when": self.when,
            "questions_sha256": self.paper.sha256,
            "answers": self.answers,
            "n_right": self.n_right,
            "n_asked": N_ASKED,
            "passed": self.passes,
        }


def grade(paper: Paper, answers: Mapping[str, str], when: str = "") -> Attempt:
    """Grade answers; raises QuizError for one to another question, or that is no letter."""
    ids = [one.id for one in paper.questions]
    for name, letter in answers.items():
        if name not in ids:
            raise QuizError(f"{name!r} is not asked on this paper; it asks {', '.join(ids)}")
        if letter not in tuple(LETTERS):
            raise QuizError(f"the answer to {name} is {letter!r}; expected one of a, b, c, d")
    return Attempt(
        paper, {name: answers[name] for name in ids if name in answers}, when or utc_now()
    )


def counted(attempts: Sequence[Attempt]) -> list[Attempt]:
    """A person's attempts, of each seed the first: once graded, its answers are known."""
    own = [one for one in attempts if not one.is_rehearsal]
    return list({one.paper.seed: one for one in reversed(own)}.values())[::-1]


def save(attempt: Attempt, path: Path) -> None:
    """Add an attempt to the record; a damaged record is refused, not overwritten.

    Raises QuizError, also where the record cannot be written.
    """
    earlier = [one.to_json() for one in regrade(path)] if path.exists() else []
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {"format": FORMAT, "attempts": [*earlier, attempt.to_json()]})
    except OSError as error:
        raise QuizError(
            f"{path} cannot be written ({error.strerror}), so nothing is recorded; name"
            " another file"
        ) from error


def regrade(path: Path) -> list[Attempt]:
    """Grade every recorded attempt again from its seed and answers.

    Raises QuizError where a record is damaged, was taken with other questions, or says another
    score than its answers earn.
    """
    path = Path(path)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["format"] != FORMAT:
            raise QuizError(
                f"{path.name} has format {values['format']!r}, expected {FORMAT}; {AWAY}"
            )
        entries = [dict(one) for one in values["attempts"]]
    except FileNotFoundError:
        raise QuizError(f"{path} does not exist; take the quiz first") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, QuizError):
            raise
        raise QuizError(f"{path.name} is damaged ({error}); {AWAY}") from error
    return [_again(path.name, number, one) for number, one in enumerate(entries, start=1)]


def _again(name: str, number: int, entry: dict) -> Attempt:
    where = f"{name}, attempt {number}"
    if not isinstance(entry.get("answers"), dict):
        raise QuizError(
            f"{where} holds no letters by question ({entry.get('answers')!r:.40}); {AWAY}"
        )
    try:
        paper = Paper(entry["seed"], entry["mode"])
        if entry["questions_sha256"] != paper.sha256:
            raise QuizError(f"{where} was taken with other questions than its seed draws here;"
                            f" {AWAY}")  # fmt: skip
        attempt = grade(paper, entry["answers"], entry["when"])
    except (KeyError, TypeError, AttributeError) as error:
        raise QuizError(f"{where} lacks {error}; {AWAY}") from error
    said, earned = entry, attempt.to_json()
    odd = sorted(key for key in said.keys() | earned.keys() if said.get(key) != earned.get(key))
    if odd:
        key = odd[0]
        raise QuizError(f"{where} says {key} {said.get(key)!r}, and its answers earn"
                        f" {earned.get(key)!r}; {AWAY}")  # fmt: skip
    return attempt


def machine_answers(paper: Paper) -> dict[str, str]:
    """All right, from the key: what a rehearsal is answered with."""
    return {one.id: one.right for one in paper.questions}


def status(path: Path) -> str:
    """One sentence on what is recorded."""
    if not path.exists():
        return f"not taken yet: {N_TO_PASS} of {N_ASKED} right pass"
    try:
        attempts = regrade(path)
    except QuizError as error:
        return str(error)
    own = counted(attempts)
    if not own:
        return f"rehearsed by machine, which passes nothing: {N_TO_PASS} of {N_ASKED} right pass"
    best = max(own, key=lambda one: one.n_right)
    said = "passed" if best.passes else f"{N_TO_PASS} pass"
    return f"{best.n_right} of {N_ASKED} right at best of {len(own)} attempts: {said}"
