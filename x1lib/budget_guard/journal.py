"""An append-only file of JSON lines that processes share, and that no kill can corrupt."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import math
import os
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from x1lib import X1Error

TORN = b" #torn"  # closes a line that a kill left unfinished; a whole line ends in }
CHECKSUM = ', "crc": "'
FIRST_CHECKSUM = "00000000"


class LedgerError(X1Error, ValueError):
    """A ledger that cannot be used as asked."""


class LedgerDamaged(LedgerError):
    """A line that was whole once is not what was written, or lines are missing."""


class LedgerNotWritable(LedgerError):
    """The folder, the disk or the mount takes no line."""

    exit_code = 74  # EX_IOERR, as in x1lib.runtime


class LedgerBusy(LedgerError):
    """Another process has held the ledger's lock for too long."""

    exit_code = 75  # EX_TEMPFAIL


class Journal:
    """One JSON object a line; each line's checksum covers the line and the checksum before it.

    A line counts once its line end is on the disk. What a kill left of one is closed by the next
    writer with the mark " #torn" and passed over by every reader. `apply` gets each entry once, in
    order, those of other processes too. Raises LedgerDamaged, LedgerNotWritable or LedgerBusy.
    """

    def __init__(
        self, path: Path, apply: Callable[[dict], None], lock_seconds: float = 10.0
    ) -> None:
        self.path, self._apply, self._lock_seconds = Path(path), apply, lock_seconds
        self._at = self._lines = 0  # bytes and lines read so far
        self._checksum = FIRST_CHECKSUM
        self._file: int | None = None  # while locked
        self.refresh()

    def refresh(self) -> None:
        """Read what was added since the last time; cheap where nothing was."""
        try:
            size = os.stat(self.path).st_size
            if size > self._at:
                with open(self.path, "rb") as file:
                    file.seek(self._at)
                    lines = file.read().split(b"\n")[:-1]  # the last part has no line end yet
        except FileNotFoundError:
            size = 0
        except OSError as error:
            raise LedgerError(
                f"{self.path} cannot be read ({error.strerror}); give a file that can be"
            ) from error
        if size < self._at:
            now = f"{size} now" if self.path.exists() else "gone"
            raise LedgerDamaged(
                f"{self.path} was {self._at} bytes long and is {now}; a ledger is never"
                " rewritten: restore it from a copy"
            )
        if size == self._at:
            return
        for line in lines:
            if not line.endswith(TORN):
                self._apply(self._checked(line))
            self._lines += 1
            self._at += len(line) + 1

    def _checked(self, line: bytes) -> dict:
        """The entry of a line, whose checksum must follow from the line before it."""
        try:
            body, sign, checksum = line.decode().rpartition(CHECKSUM)
            if not sign or checksum != f'{_chained(self._checksum, body)}"}}':
                raise ValueError("its checksum does not match")
            entry = json.loads(body + "}")
        except ValueError as error:
            raise LedgerDamaged(
                f"line {self._lines + 1} of {self.path} is damaged, or one before it is missing"
                f" ({error}), so its money cannot be counted; restore the file from a copy"
            ) from error
        self._checksum = checksum[:8]
        return entry

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the file against other processes, with every line of theirs read; may be nested."""
        if self._file is not None:
            yield
            return
        make = 0 if self._at else os.O_CREAT  # one that was there and is gone is not made anew
        try:
            self._file = os.open(self.path, os.O_RDWR | os.O_APPEND | make, 0o644)
        except OSError as error:
            self.refresh()  # says so where it is gone
            raise self._not_writable(error) from error
        try:
            self._wait_for_lock(self._file)
            self.refresh()
            yield
        finally:
            os.close(self._file)  # drops the lock
            self._file = None

    def _wait_for_lock(self, file: int) -> None:
        until = time.monotonic() + self._lock_seconds
        while True:
            try:
                return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.EACCES):
                    raise self._not_writable(error) from error
            if time.monotonic() > until:
                raise LedgerBusy(
                    f"{self.path} has been locked by another process for {self._lock_seconds:g} s;"
                    " find a stopped process that holds it (`fuser` names it) and end it"
                )
            time.sleep(0.01)

    def append(self, entry: dict) -> None:
        """Write one entry, wait until the disk has it, and apply it; only while locked."""
        assert self._file is not None, "append inside `with journal.locked()`"
        body = json.dumps(entry, allow_nan=False)[:-1]
        line = f'{body}{CHECKSUM}{_chained(self._checksum, body)}"}}\n'.encode()
        try:
            size = os.fstat(self._file).st_size
            # One write: either a torn line is closed and this one whole, or another writer closes
            # both. The lock keeps everybody else from adding bytes in between.
            data = (TORN + b"\n" if size > self._at else b"") + line
            if os.write(self._file, data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self._file)
            if size == 0:
                _sync_folder(self.path.parent)  # a new file's name too
        except OSError as error:
            raise self._not_writable(error) from error
        self.refresh()

    def _not_writable(self, error: OSError) -> LedgerNotWritable:
        return LedgerNotWritable(
            f"{self.path} cannot be written ({error.strerror}); its folder must exist, be"
            " writable and have space: nothing is spent without a line in the ledger"
        )


def _chained(before: str, body: str) -> str:
    return f"{zlib.crc32((before + body).encode()):08x}"


def _sync_folder(folder: Path) -> None:
    """Flush a folder's names to the disk; some network mounts refuse that."""
    file = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(file)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(file)


def amount(value: object, what: str) -> float:
    """The value as a finite number from 0, or LedgerError naming it."""
    good = isinstance(value, int | float) and not isinstance(value, bool)
    if not good or not math.isfinite(value) or value < 0:
        raise LedgerError(f"{what} is {value!r}; expected a finite number from 0")
    return float(value)
