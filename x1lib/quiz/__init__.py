"""The quiz: sixteen of the bank's questions by seed, graded, recorded, and graded again."""

from x1lib.quiz.grading import (
    SCORES,
    Attempt,
    counted,
    grade,
    machine_answers,
    regrade,
    save,
    status,
)
from x1lib.quiz.paper import N_ASKED, N_TO_PASS, OWN, REHEARSAL, Paper, objectives
from x1lib.quiz.question import Put, Question, QuizError

__all__ = [
    "N_ASKED",
    "N_TO_PASS",
    "OWN",
    "REHEARSAL",
    "SCORES",
    "Attempt",
    "Paper",
    "Put",
    "Question",
    "QuizError",
    "counted",
    "grade",
    "machine_answers",
    "objectives",
    "regrade",
    "save",
    "status",
]
