"""Box 4, the quiz: the recorded answers, graded again."""

from __future__ import annotations

from pathlib import Path

from x1lib import X1Error
from x1lib.done.box import Box, State, open_box
from x1lib.quiz import N_ASKED, N_TO_PASS, SCORES, regrade

NAME, AGAIN = "the quiz", "make quiz"


def check(lab: Path, log=lambda line: None) -> Box:
    """The best attempt that is a person's; one that a machine answered is a rehearsal."""
    if not (lab / SCORES).exists():
        return open_box(NAME, [f"{SCORES} is missing"], AGAIN)
    try:
        attempts = regrade(lab / SCORES)
    except X1Error as error:
        return open_box(NAME, [str(error)], AGAIN)
    own = [one.n_right for one in attempts if not one.is_rehearsal]
    if own and max(own) >= N_TO_PASS:
        return Box(NAME, State.DONE, f"{max(own)} of {N_ASKED} right, graded again")
    if any(one.is_rehearsal for one in attempts):
        return Box(NAME, State.REHEARSED, "answered by machine", command=AGAIN)
    words = f"{max(own)} of {N_ASKED} right at best; {N_TO_PASS} pass" if own else "no attempt"
    return open_box(NAME, [words], AGAIN)
