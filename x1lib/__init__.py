"""x1lib: the helper library of the course *X1: Pretraining at Scale*."""

__version__ = "0.1.0"


class X1Error(Exception):
    """Base of every named error that x1lib raises on purpose.

    The command line prints such an error as one line, without a traceback, and exits with its
    `exit_code`.
    """

    exit_code = 2
