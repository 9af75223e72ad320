"""The definition of done: six boxes, each checked by doing again what it says was done."""

from x1lib.done.box import Box, DoneError, State
from x1lib.done.checking import BOXES, EXIT_OPEN, EXIT_REHEARSED, exit_code, look

__all__ = [
    "BOXES",
    "EXIT_OPEN",
    "EXIT_REHEARSED",
    "Box",
    "DoneError",
    "State",
    "exit_code",
    "look",
]
