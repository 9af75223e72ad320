"""All boxes in order, and what they come to together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from x1lib.done import cost, postmortem, quizbox, reflections, run, triple
from x1lib.done.box import Box, DoneError, State

BOXES = {
    "run": run.check,
    "triple": triple.check,
    "postmortem": postmortem.check,
    "quiz": quizbox.check,
    "cost": cost.check,
    "reflections": reflections.check,
}
EXIT_OPEN, EXIT_REHEARSED = 1, 3


def look(
    lab: Path | str, only: Sequence[str] = tuple(BOXES), log: Callable = lambda line: None
) -> dict[str, Box]:
    """Check the boxes of a folder such as experiments/X1-pretraining, by name.

    Raises DoneError for a folder that is not there or a name that no box has.
    """
    lab = Path(lab)
    if not lab.is_dir():
        raise DoneError(f"{lab} is no folder; give the one that the labs write to")
    if unknown := [name for name in only if name not in BOXES]:
        raise DoneError(f"no box {unknown[0]!r}; there are {', '.join(BOXES)}")
    return {name: BOXES[name](lab, log) for name in BOXES if name in only}


def exit_code(boxes: dict[str, Box]) -> int:
    """0: every box is done. 3: none is open but reflections, some are rehearsed. 1: one is open."""
    states = {name: box.state for name, box in boxes.items()}
    if all(state is State.DONE for state in states.values()):
        return 0
    work = [state for name, state in states.items() if name != "reflections"]
    return EXIT_OPEN if State.OPEN in work else EXIT_REHEARSED
