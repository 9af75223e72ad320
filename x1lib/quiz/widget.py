"""The quiz in a notebook: buttons over the paper, graded and explained in place; no Output widget.

An Output widget can hang a notebook that is run without a browser.
"""

from __future__ import annotations

import html
import re
import secrets
from pathlib import Path

import ipywidgets

from x1lib import X1Error
from x1lib.launch.places import LAB, project_root
from x1lib.quiz.grading import SCORES, Attempt, grade, regrade, save, status
from x1lib.quiz.paper import N_ASKED, Paper
from x1lib.quiz.question import LETTERS, Put

SEEDS = 1_000_000
_WIDTH = ipywidgets.Layout(width="auto", max_width="54em")


def marked_up(text: str) -> str:
    """Text as HTML: escaped, and code between backticks."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))


class Quiz(ipywidgets.VBox):
    """Sixteen questions of a seed, a button that grades them, one that draws others.

    seed: None draws one. path: of the record; None: beside the labs' runs.
    """

    def __init__(self, seed: int | None = None, path: Path | None = None) -> None:
        self.path = Path(path) if path else project_root() / LAB / SCORES
        self.words = ipywidgets.HTML()
        self.grade_button = ipywidgets.Button(description="Grade", button_style="primary")
        self.again_button = ipywidgets.Button(description="Other questions")
        self.grade_button.on_click(lambda _: self.grade())
        self.again_button.on_click(lambda _: self.begin())
        super().__init__()
        self.add_class("x1-quiz")
        self.begin(seed)

    def __repr__(self) -> str:
        return "The quiz is live where a kernel runs; in a terminal: python -m x1lib.quiz"

    def begin(self, seed: int | None = None) -> None:
        """Put the questions of a seed, another one where none is given.

        Where the record cannot be graded again nothing is asked: it could not be added to.
        """
        self.paper = Paper(secrets.randbelow(SEEDS) if seed is None else seed)
        self.attempt: Attempt | None = None
        self.choices = [_choice(put) for put in self.paper.questions]
        self.feedback = [ipywidgets.HTML(layout=_WIDTH) for _ in self.choices]
        for choice in self.choices:
            choice.observe(self._count, names="value")
        asked = []
        for number, put in enumerate(self.paper.questions):
            head = f"<b>{number + 1}.</b> {marked_up(put.text)}"
            asked.append(ipywidgets.HTML(head, layout=_WIDTH))
            asked += [self.choices[number], self.feedback[number]]
        self.grade_button.disabled = False
        buttons = ipywidgets.HBox([self.grade_button, self.again_button])
        if fault := self._fault():
            self.words.value = f"<b>Nothing is asked:</b> {html.escape(fault)}"
            self.children = [self.words, self.again_button]
            return
        self.children = [*asked, buttons, self.words]
        self._count()

    def _fault(self) -> str:
        try:
            if self.path.exists():
                regrade(self.path)
        except X1Error as error:
            return str(error)
        return ""

    @property
    def answers(self) -> dict[str, str]:
        """Letter by question, of those that are answered."""
        pairs = zip(self.paper.questions, self.choices, strict=True)
        return {put.id: choice.value for put, choice in pairs if choice.value}

    def _count(self, change: object = None) -> None:
        left = N_ASKED - len(self.answers)
        said = f"{left} open" if left else "all answered"
        self.words.value = html.escape(f"seed {self.paper.seed}, {said}; quiz: {status(self.path)}")

    def grade(self) -> None:
        """Grade what is answered, explain every question, add the attempt to the record."""
        if self.attempt is not None:
            return
        self.attempt = grade(self.paper, self.answers)
        self.grade_button.disabled = True
        rows = zip(self.paper.questions, self.choices, self.feedback, strict=True)
        for put, choice, feedback in rows:
            feedback.value = _explained(put, choice.value)
            choice.disabled = True
        try:
            save(self.attempt, self.path)
            said = status(self.path)
        except X1Error as error:  # the record is another matter than the grade
            said = f"not recorded: {error}"
        self.words.value = f"<b>{self.attempt.n_right} of {N_ASKED} right.</b> {html.escape(said)}"


def _choice(put: Put) -> ipywidgets.RadioButtons:
    options = [(f"{a}) {text}", a) for a, text in zip(LETTERS, put.options, strict=True)]
    return ipywidgets.RadioButtons(options=options, value=None, layout=_WIDTH)


def _explained(put: Put, letter: str | None) -> str:
    right = letter == put.right
    verdict, colour = ("right", "#00695c") if right else (f"it is {put.right})", "#b00020")
    at = html.escape(f"{put.question.notebook}, {put.question.section}")
    link = f"<a style='text-decoration:underline' target='_blank' href='{_address(put)}'>{at}</a>"
    words = f"<b style='color:{colour}'>{verdict}.</b> {marked_up(put.why)} ({link})"
    return f"<p style='margin:0 0 1em 0'>{words}</p>"


def _address(put: Put) -> str:
    return html.escape(put.question.link, quote=True)
