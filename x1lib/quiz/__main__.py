"""Take the quiz in a terminal, from a file of answers, or as a rehearsal by machine.

python -m x1lib.quiz                         asks, grades, explains, records
python -m x1lib.quiz --seed 7 --show         prints the paper of a seed, and asks nothing
python -m x1lib.quiz --seed 7 --answers F    F: "abcd..." by the paper's order, or JSON by id
python -m x1lib.quiz --rehearse              answers by machine; passes nothing
python -m x1lib.quiz --regrade FILE          grades a record again

Exit codes: 0 passed (or shown, rehearsed, graded again), 1 not passed, 2 refused. A record that
cannot be graded again is refused before anything is asked. Of one seed the first attempt counts.
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
from collections.abc import Callable
from pathlib import Path

from x1lib import X1Error
from x1lib.launch.places import LAB, project_root, shown
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
from x1lib.quiz.paper import N_ASKED, OWN, REHEARSAL, Paper
from x1lib.quiz.question import LETTERS, Put, QuizError

SEEDS = 1_000_000


def asked(number: int, put: Put) -> str:
    """A question as it is printed."""
    head = f"{number} of {N_ASKED} ({put.question.objective}). {put.text}"
    return "\n".join([head, *(f"  {a}) {text}" for a, text in zip(LETTERS, put.options))])


def explained(put: Put, letter: str | None) -> str:
    """What is said once it is answered."""
    verdict = "right" if letter == put.right else f"not right: it is {put.right})"
    question = put.question
    at = f"{question.notebook}, {question.section}: notebooks/{question.link}"
    return f"{verdict}. {put.why} [{at}]"


def ask(paper: Paper, read: Callable[[str], str] | None = None, log=print) -> dict[str, str]:
    """Ask every question; an empty line leaves one open, and the end of the input the rest.

    Raises QuizError where the input ends before any answer, or the asking is broken off.
    """
    answers: dict[str, str] = {}
    read = read or input
    for number, put in enumerate(paper.questions, start=1):
        log("\n" + asked(number, put))
        try:
            while (letter := read("a, b, c or d: ").strip().lower()) not in (*LETTERS, ""):
                log("give one letter, or nothing to leave it open")
        except EOFError:
            if not answers:
                raise QuizError("the input ended before any answer; nothing is recorded") from None
            break
        except KeyboardInterrupt:
            raise QuizError("broken off; nothing is recorded") from None
        if letter:
            answers[put.id] = letter
    return answers


def answers_from(path: Path, paper: Paper) -> dict[str, str]:
    """Answers of a file: a JSON object by id, or a letter for each question in order, - for none.

    Raises QuizError.
    """
    try:
        text = path.read_text(encoding="utf-8").strip()
        if text.startswith("{"):
            return {name: _small(letter) for name, letter in json.loads(text).items()}
    except (OSError, ValueError) as error:
        raise QuizError(f"{path} cannot be read as answers ({error})") from error
    letters = "".join(text.split())
    if len(letters) != N_ASKED:
        raise QuizError(f"{path} holds {len(letters)} letters; expected {N_ASKED}, - for none")
    return {put.id: _small(a) for put, a in zip(paper.questions, letters) if a != "-"}


def _small(letter: object) -> object:
    return letter.lower() if isinstance(letter, str) else letter


def report(attempt: Attempt, log=print) -> None:
    """Every explanation, then the score."""
    for number, put in enumerate(attempt.paper.questions, start=1):
        log(f"{number:>2}. {explained(put, attempt.answers.get(put.id))}")
    log(f"\nseed {attempt.paper.seed}: {attempt.n_right} of {N_ASKED} right")


def main(argv: list[str] | None = None) -> int:
    """The command line; the exit codes are those of the module's text."""
    parser = argparse.ArgumentParser(
        prog="python -m x1lib.quiz",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seed", type=int, help="which questions; else drawn")
    parser.add_argument("--out", type=Path, help=f"the record; else {LAB / SCORES}")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--show", action="store_true", help="print the paper and leave")
    how.add_argument("--answers", type=Path, metavar="FILE", help="of the paper of --seed")
    how.add_argument("--rehearse", action="store_true", help="answer by machine")
    how.add_argument("--regrade", type=Path, metavar="FILE", help="a record, such as " + SCORES)
    options = parser.parse_args(argv)
    if options.answers and options.seed is None:
        parser.error("--answers takes --seed: the letters mean nothing without it")
    try:
        return _run(options)
    except X1Error as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return error.exit_code


def _run(options: argparse.Namespace) -> int:
    if options.regrade:
        attempts = regrade(options.regrade)
        first = counted(attempts)
        for one in attempts:
            kind = "rehearsal" if one.is_rehearsal else "passed" if one.passes else "not passed"
            if not one.is_rehearsal and not any(one is other for other in first):
                kind = "not the first of its seed, which does not count"
            print(f"seed {one.paper.seed}: {one.n_right} of {N_ASKED} right, {kind}, as recorded")
        return 0
    seed = secrets.randbelow(SEEDS) if options.seed is None else options.seed
    paper = Paper(seed, REHEARSAL if options.rehearse else OWN)
    if options.show:
        print("\n\n".join(asked(i, put) for i, put in enumerate(paper.questions, start=1)))
        return 0
    path = options.out or project_root() / LAB / SCORES
    earlier = regrade(path) if path.exists() else []  # refused before anyone has answered
    again = not options.rehearse and any(one.paper.seed == seed for one in counted(earlier))
    if again:
        print(f"seed {seed} was taken before, and only the first attempt at a seed counts")
    if options.rehearse:
        answers = machine_answers(paper)
    else:
        answers = answers_from(options.answers, paper) if options.answers else ask(paper)
    attempt = grade(paper, answers)
    report(attempt)  # whatever becomes of the record
    save(attempt, path)
    print(f"{shown(path)}: {status(path)}")
    return 0 if attempt.is_rehearsal or (attempt.passes and not again) else 1


if __name__ == "__main__":
    sys.exit(main())
