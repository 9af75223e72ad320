"""Box 4, the quiz: the recorded answers, graded again."""

from __future__ import annotations

from pathlib import Path

from x1lib import X1Error
from x1lib.done.box import Box, State, open_box
from x1lib.quiz import N_ASKED, N_TO_PASS, SCORES, counted, regrade

NAME, AGAIN = "the quiz", "make quiz"


def check(lab: Path, log=lambda line: None) -> Box:
    """The best of a person's first attempts at a seed; a machine's answers are a rehearsal."""
    if not (lab / SCORES).exists():
        return open_box(NAME, [f"{SCORES} is missing"], AGAIN)
    try:
        attempts = regrade(lab / SCORES)
    except X1Error as error:
        return open_box(NAME, [str(error)], AGAIN)
    own = [one.n_right for one in counted(attempts)]
    if own and max(own) >= N_TO_PASS:
        return Box(NAME, State.DONE, f"{max(own)} of {N_ASKED} right, graded again")
    words = f"{max(own)} of {N_ASKED} right at best; {N_TO_PASS} pass" if own else "no attempt"
    if any(one.is_rehearsal for one in attempts):
        mine = (f"your own: {words}",) if own else ()
        return Box(NAME, State.REHEARSED, "answered by machine", mine, AGAIN)
    return open_box(NAME, [words], AGAIN)
