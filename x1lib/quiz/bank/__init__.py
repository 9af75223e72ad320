"""The questions, one module an objective, in the order in which the notebooks are read."""

from x1lib.quiz.bank import data, economics, inference, labs, logs, motivation, scaling, stability

BANKS = (motivation, scaling, economics, data, stability, logs, labs, inference)
QUESTIONS = tuple(question for module in BANKS for question in module.bank.questions)

__all__ = ["BANKS", "QUESTIONS"]
