"""One box of the definition of done: what was found, what is missing, and what makes it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from x1lib import X1Error


class DoneError(X1Error, ValueError):
    """A folder that cannot be checked."""


class State(StrEnum):
    """How far a box is; `OPEN` where anything is missing, damaged or does not agree."""

    DONE = "done"
    REHEARSED = "rehearsed"
    OPEN = "open"


MARKS = {State.DONE: "[x]", State.REHEARSED: "[~]", State.OPEN: "[ ]"}


@dataclass(frozen=True)
class Box:
    """found: a sentence on what was checked. faults: one sentence each; command: what mends it."""

    name: str
    state: State
    found: str = ""
    faults: tuple[str, ...] = ()
    command: str = ""

    def lines(self, number: int) -> list[str]:
        """The box as it is printed."""
        head = f"{MARKS[self.state]} {number}. {self.name}: {self.state}"
        lines = [f"{head}; {self.found}" if self.found else head]
        lines += [f"       {line.strip()}" for fault in self.faults for line in fault.splitlines()]
        if self.command and self.state is not State.DONE:
            lines.append(f"       -> {self.command}")
        return lines


def open_box(name: str, faults: list[str], command: str) -> Box:
    """A box with something wrong."""
    return Box(name, State.OPEN, faults=tuple(faults), command=command)


def lacking(name: str, error: Exception) -> str:
    """A sentence on a file whose values were not what a check expected."""
    if isinstance(error, KeyError):
        return f"{name} lacks {error}"
    return f"{name} holds what cannot be checked ({error})"


def read(path: Path) -> dict:
    """The object in a JSON file; raises DoneError where it is missing or damaged."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DoneError(f"{path.name} is missing") from None
    except (OSError, ValueError) as error:
        raise DoneError(f"{path.name} is damaged ({error})") from error
    if not isinstance(values, dict):
        raise DoneError(f"{path.name} holds no object")
    return values


def is_rented(values: dict) -> bool:
    """Whether a run's manifest is of an accelerator that cost money: the rest is a rehearsal."""
    price = (values.get("config") or {}).get("usd_per_hour") or 0.0
    return (values.get("machine") or {}).get("device", "cpu") != "cpu" and price > 0
