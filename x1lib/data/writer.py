"""Writes blocks of tokens and their index so that a kill at any moment leaves a valid folder."""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from x1lib.data.errors import DataError

FORMAT = "x1-shards"
# Raised whenever the same text would give other bytes: order, hold-out, cutting, tokens, layout.
VERSION = 1
INDEX = "index.json"
# The last field of an index: sha256 over the file as it would be without that line.
CHECKSUM = "index_sha256"
INDEX_END = b"\n}\n"
# What identifies the token stream; the hash chain over blocks starts from these.
IDENTITY = ("format", "version", "tokenizer", "vocab_size", "eot_id", "dtype", "block_tokens")


def token_dtype(vocab_size: int) -> np.dtype:
    """The smallest of uint16 and uint32 that holds every id."""
    return np.dtype("<u2" if vocab_size <= 65_536 else "<u4")


def first_link(header: dict) -> str:
    """The chain before the first block: a hash of how the tokens were made."""
    identity = json.dumps([header[name] for name in IDENTITY])
    return hashlib.sha256(identity.encode()).hexdigest()


def next_link(chain: str, sha256: str) -> str:
    """The chain after one more block: sha256 over the chain so far and the block's own."""
    return hashlib.sha256((chain + sha256).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """sha256 of a whole file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def named_os_errors(path: Path) -> Iterator[None]:
    """Turn an OSError on `path` into a DataError of one sentence."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"cannot write {path}: {error.strerror}; free space there, or name another folder "
            "with --root or X1_DATA"
        ) from error


@contextlib.contextmanager
def folder_lock(folder: Path, log: Callable[[str], None]) -> Iterator[None]:
    """Hold the folder against other writers; a second one waits, saying so.

    The kernel drops the lock with the process, so none is ever stale.
    """
    import fcntl  # absent on Windows

    with named_os_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        handle = open(folder / ".lock", "a")
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log(f"another process prepares {folder.name}: waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def write_atomically(path: Path, write: Callable) -> None:
    """Call `write(file)` on a temporary neighbour, fsync it, and rename it to `path`."""
    temporary = path.with_name(path.name + ".tmp")
    with named_os_errors(path):
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def write_index(folder: Path, index: dict) -> None:
    """Replace the folder's index, whole or not at all; its last line is a checksum of the rest."""
    rest = {name: value for name, value in index.items() if name != CHECKSUM}
    content = json.dumps(rest, indent=1).encode() + b"\n"
    line = checksum_line(hashlib.sha256(content).hexdigest())
    content = content.removesuffix(INDEX_END) + line
    write_atomically(folder / INDEX, lambda file: file.write(content))


def checksum_line(checksum: str) -> bytes:
    """The end of an index that holds this checksum."""
    return f',\n "{CHECKSUM}": {json.dumps(checksum)}'.encode() + INDEX_END


def write_tokens(folder: Path, file_name: str, tokens: np.ndarray) -> dict:
    """Write one file of tokens (.npy, which names its dtype) and return its index entry."""
    path = folder / file_name

    def write(file) -> None:
        # numpy's own writer hides why a write failed
        form = np.lib.format
        form.write_array_header_1_0(file, form.header_data_from_array_1_0(tokens))
        file.write(np.ascontiguousarray(tokens).data)

    write_atomically(path, write)
    return {"file": file_name, "n_tokens": len(tokens), "sha256": file_sha256(path)}
