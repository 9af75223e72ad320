"""Box 6, reflections.md: four questions with one's own figures beside them, answered in words."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from x1lib.done.box import Box, DoneError, State, read
from x1lib.launch.places import LAB, project_root
from x1lib.quiz import SCORES

NAME, PAGE = "the reflections", "reflections.md"
AGAIN = f"answer the four questions in {PAGE}"
WORK = ("run-cloud", "run-local", "scaling-law", "spike-postmortem.md", "inference-cost", SCORES)
LEAST_WORDS = 25
PLACE = "(your answer)"
QUESTIONS = (
    "What MFU did you reach, and what keeps a model of this size from more?",
    "Where did Chinchilla-optimal and your intuition part?",
    "Which line of the cost dominated: compute, bandwidth, storage or human hours?",
    "What surprised you?",
)
LINES = ("compute", "bandwidth", "storage", "human")


def check(lab: Path, log=lambda line: None) -> Box:
    """Whether each question is answered; a page that is missing is written as a template.

    That is done in the course's own folder, or in one that the labs have written to.
    """
    path = lab / PAGE
    if not path.exists():
        ours = lab.resolve() == (project_root() / LAB).resolve()
        if not ours and not any((lab / name).exists() for name in WORK):
            words = f"{PAGE} is missing; it is begun once a lab has left something here"
            return Box(NAME, State.OPEN, faults=(words,), command="make lab00")
        path.write_text(template(lab), encoding="utf-8")
        new = f"{PAGE} is new, and nothing stands in it yet"
        return Box(NAME, State.OPEN, faults=(new,), command=AGAIN)
    answers = answers_of(path.read_text(encoding="utf-8", errors="replace"))
    faults = [fault for i in range(len(QUESTIONS)) if (fault := _fault(i, answers))]
    if faults:
        return Box(NAME, State.OPEN, faults=tuple(faults), command=AGAIN)
    n_words = sum(len(text.split()) for text in answers)
    return Box(NAME, State.DONE, f"four answers, {n_words} words; counted, not read")


def answers_of(page: str) -> list[str]:
    """What stands under each question, without quoted lines, comments and the place-holder."""
    found = []
    for question in QUESTIONS:
        _, _, rest = page.partition(question)
        text = re.split(r"^## ", rest, maxsplit=1, flags=re.MULTILINE)[0]
        text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL).replace(PLACE, "")
        lines = [line for line in text.splitlines() if not line.startswith(">")]
        found.append("\n".join(lines).strip())
    return found


def _fault(number: int, answers: list[str]) -> str | None:
    text = answers[number]
    n_words, which = len(set(text.casefold().split())), f"question {number + 1}"
    if not text:
        return f"{which} has no answer"
    if n_words < LEAST_WORDS:
        return f"{which} is answered in {n_words} different words; give {LEAST_WORDS} or more"
    if text in answers[:number]:
        return f"{which} has the answer of another one"
    if number == 0 and not re.search(r"\d", text):
        return f"{which} asks for a number: your MFU"
    if number == 2 and not any(line in text.casefold() for line in LINES):
        return f"{which} asks for one of compute, bandwidth, storage and human hours"
    return None


def template(lab: Path) -> str:
    """The page with the questions, and of each what the runs here have measured."""
    lines = ["# Reflections", "", "Four questions, in your own words, about your own runs.", ""]
    for question, facts in zip(QUESTIONS, _facts(lab), strict=True):
        lines += [f"## {question}", "", *(f"> {fact}" for fact in facts), "", PLACE, ""]
    return "\n".join(lines)


def _facts(lab: Path) -> list[list[str]]:
    """Figures that bear on each question, as far as they are there and can be read."""
    run = next(
        (v for name in ("run-cloud", "run-local") if (v := _read(lab / name, "manifest"))), {}
    )
    fit = _read(lab / "scaling-law", "fit")
    return [
        _said(_mfu, run),
        _said(_tokens, run) + _said(_law, fit),
        _said(_money, run),
        [],
    ]


def _read(folder: Path, name: str) -> dict:
    """The other boxes say what is wrong with a file; here it has no figures."""
    try:
        return read(folder / f"{name}.json")
    except DoneError:
        return {}


def _said(fact: Callable[[dict], str], values: dict) -> list[str]:
    try:
        return [fact(values)] if values else []
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return []


def _mfu(run: dict) -> str:
    return f"Measured: MFU {run['mfu']:.1%} of {run['peak_source']}."


def _tokens(run: dict) -> str:
    each = run["tokens"] / run["n_params"]["total"]
    return f"Your run: {run['tokens']:,} tokens, {each:.1f} a parameter."


def _law(fit: dict) -> str:
    return f"Your law: D_opt(1B) = {fit['prediction_1e9']['optimal_tokens_1e9']:.3g} tokens."


def _money(run: dict) -> str:
    usd = run["usd"]
    cost = run["usd_status"] if usd is None else f"{usd:.2f} US dollars of compute"
    return f"Your run: {cost}. How many hours of yours did it take?"
