"""Named errors of the data layer; the command line prints each as one line."""

from x1lib import X1Error


class DataError(X1Error):
    """Preparing data failed for a reason outside the text: a folder, a disk, a setting."""


class SourceError(DataError):
    """A text source is unknown, unreadable or holds a line that is not what it should be."""


class TokenizerError(DataError):
    """A tokeniser is unknown, or is not the one its name says."""


class ShardError(DataError):
    """A prepared folder is incomplete, damaged or asked for what it does not hold."""


class DataNotReady(DataError):
    """The sample lies beyond the last block written so far; the writer is still at work."""


def missing_library(name: str, purpose: str) -> DataError:
    """The error to raise where an optional library is absent."""
    return DataError(
        f"{name} is needed {purpose} and is not installed; install it with "
        "`pip install -c constraints.txt 'x1lib[data]'`"
    )
