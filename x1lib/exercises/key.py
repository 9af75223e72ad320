"""The key of an exercise: its answer, what to say of a wrong one, and where it is found."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field

from x1lib import X1Error


class ExerciseError(X1Error, LookupError):
    """An exercise that no notebook has."""


@dataclass(frozen=True)
class Key:
    """What an exercise asks for.

    value: a number, or a text out of `choices`. slips: what to say, by the wrong answer to which a
    known slip leads. rel_tol: how far a right number may be off; 0 for a count.
    """

    value: float | str
    hint: str
    slips: dict[float | str, str] = field(default_factory=dict)
    rel_tol: float = 0.02
    choices: tuple[str, ...] = ()


def module_of(notebook: str) -> str:
    """The module with a notebook's keys: 02 -> x1lib.exercises.nb02, lab00 -> ...lab00."""
    return f"x1lib.exercises.{'nb' * notebook[:1].isdigit()}{notebook}"


def keys(notebook: str) -> tuple[Callable[..., Key], ...]:
    """A notebook's keys in the order of its exercises; raises ExerciseError where it has none."""
    wanted = module_of(notebook)
    try:
        return importlib.import_module(wanted).EXERCISES
    except ModuleNotFoundError as error:
        if not wanted.startswith(str(error.name)):
            raise
        raise ExerciseError(f"no exercises for {notebook!r}; expected {wanted}") from None


def key_of(exercise: str, **given: object) -> Key:
    """The key of an exercise such as "02.3", the third of notebook 02.

    given: what only the reader's run knows. Raises ExerciseError for an exercise that is not there.
    """
    notebook, _, number = str(exercise).partition(".")
    found = keys(notebook)
    if not number.isdigit() or not 1 <= int(number) <= len(found):
        raise ExerciseError(
            f"no exercise {exercise!r}; expected {notebook}.1 to {notebook}.{len(found)}"
        )
    return found[int(number) - 1](**given)
