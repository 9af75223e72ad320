"""Box 6, reflections.md: four questions with one's own figures beside them, answered in words."""

from __future__ import annotations

import re
from pathlib import Path

from x1lib.done.box import Box, State, read

NAME, PAGE = "the reflections", "reflections.md"
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
    """Whether each question is answered; a page that is missing is written as a template."""
    path = lab / PAGE
    command = f"answer the four questions in {PAGE}"
    if not path.exists():
        path.write_text(template(lab), encoding="utf-8")
        new = f"{PAGE} is new, and nothing stands in it yet"
        return Box(NAME, State.OPEN, faults=(new,), command=command)
    answers = answers_of(path.read_text(encoding="utf-8", errors="replace"))
    faults = [fault for i in range(len(QUESTIONS)) if (fault := _fault(i, answers))]
    if faults:
        return Box(NAME, State.OPEN, faults=tuple(faults), command=command)
    n_words = sum(len(text.split()) for text in answers)
    return Box(NAME, State.DONE, f"four answers, {n_words} words")


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
    """Figures that bear on each question, as far as they are there."""
    runs = [lab / name / "manifest.json" for name in ("run-cloud", "run-local")]
    values = next((read(path) for path in runs if path.exists()), {})
    mfu, optimum, money = [], [], []
    if values.get("mfu"):
        mfu.append(f"Measured: MFU {values['mfu']:.1%} of {values['peak_source']}.")
    if values.get("tokens"):
        each = values["tokens"] / values["n_params"]["total"]
        optimum.append(f"Your run: {values['tokens']:,} tokens, {each:.1f} a parameter.")
    fit = lab / "scaling-law" / "fit.json"
    if fit.exists() and (bar := read(fit).get("prediction_1e9")) and bar["optimal_tokens_1e9"]:
        optimum.append(f"Your law: D_opt(1B) = {bar['optimal_tokens_1e9']:.3g} tokens.")
    if values:
        usd = values.get("usd")
        cost = values.get("usd_status") if usd is None else f"{usd:.2f} US dollars of compute"
        money.append(f"Your run: {cost}. How many hours of yours did it take?")
    return [mfu, optimum, money, []]
