"""All boxes in order, and what they come to together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from x1lib import X1Error
from x1lib.done import cost, postmortem, quizbox, reflections, run, triple
from x1lib.done.box import Box, DoneError, State, open_box

_MODULES = {
    "run": run,
    "triple": triple,
    "postmortem": postmortem,
    "quiz": quizbox,
    "cost": cost,
    "reflections": reflections,
}
BOXES = {name: module.check for name, module in _MODULES.items()}
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
    return {name: _checked(name, lab, log) for name in BOXES if name in only}


def _checked(name: str, lab: Path, log: Callable) -> Box:
    """A box; an open one where its check itself fails: no damage keeps the others from a look."""
    try:
        return BOXES[name](lab, log)
    except Exception as error:  # whatever stands in the files of a folder
        module = _MODULES[name]
        said = str(error) if isinstance(error, X1Error) else f"{type(error).__name__}: {error}"
        return open_box(module.NAME, [f"it could not be checked ({said})"], module.AGAIN)


def exit_code(boxes: dict[str, Box]) -> int:
    """0: every box is done. 3: none is open but reflections, some are rehearsed. 1: one is open."""
    states = {name: box.state for name, box in boxes.items()}
    if all(state is State.DONE for state in states.values()):
        return 0
    work = [state for name, state in states.items() if name != "reflections"]
    return EXIT_OPEN if State.OPEN in work else EXIT_REHEARSED
