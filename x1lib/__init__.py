"""x1lib: the helper library of the course *X1: Pretraining at Scale*."""

from __future__ import annotations

import sys
from collections.abc import Callable

__version__ = "0.1.0"


class X1Error(Exception):
    """Base of every named error that x1lib raises on purpose.

    The command line prints such an error as one line, without a traceback, and exits with its
    `exit_code`.
    """

    exit_code = 2


def exit_code_of(command: Callable[[], object]) -> int:
    """Run a command; return 0, or the exit code of a named error after printing it as one line."""
    try:
        command()
    except X1Error as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return error.exit_code
    return 0
