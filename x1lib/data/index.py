"""Reads what a prepared folder says of itself: its index, and the head of each file of tokens."""

import hashlib
import json
import tokenize
from pathlib import Path

import numpy as np

from x1lib.data import writer
from x1lib.data.errors import ShardError

# Fields that every index has; others belong to the pipeline that wrote it.
FIELDS = {
    "source": str,
    "tokenizer": str,
    "vocab_size": int,
    "eot_id": int,
    "dtype": str,
    "block_tokens": int,
    "n_documents": int,
    "complete": bool,
    "heldout": dict,
    "blocks": list,
}
ENTRY_FIELDS = {"file": str, "n_tokens": int, "sha256": str, "n_bytes": int}
DTYPES = ("uint16", "uint32")


def read_index(folder: Path) -> dict:
    """The index of a folder; raises ShardError where there is none or it is not as it was written.

    One from before indexes had a checksum is read too, by its form alone.
    """
    path = Path(folder) / writer.INDEX
    try:
        content = path.read_bytes()
        index = json.loads(content)
    except OSError as error:
        raise ShardError(
            f"{path} cannot be read ({error.strerror}); make the folder with "
            "`python -m x1lib.data prepare`"
        ) from error
    except (ValueError, RecursionError) as error:
        raise ShardError(f"{path} is not JSON ({error}); prepare the data again") from error
    form = (index.get("format"), index.get("version")) if isinstance(index, dict) else None
    if form != (writer.FORMAT, writer.VERSION):
        raise ShardError(
            f"{path} is not an index of format {writer.FORMAT} {writer.VERSION}; "
            "prepare the data again"
        )
    if not _is_as_written(content, index):
        raise ShardError(
            f"{path} has changed since it was written (its checksum differs); prepare the data "
            "again"
        )
    if wrong := _wrong_field(index):
        raise ShardError(f"{path}: {wrong} is missing or damaged; prepare the data again")
    return index


def _is_as_written(content: bytes, index: dict) -> bool:
    """Whether the last line holds the checksum of the rest; true of an index without that line."""
    checksum = index.get(writer.CHECKSUM)
    if checksum is None:
        return next(reversed(index)) == "blocks"  # the last field of all; a damaged name follows it
    line = writer.checksum_line(str(checksum))
    rest = content.removesuffix(line) + writer.INDEX_END
    return content.endswith(line) and hashlib.sha256(rest).hexdigest() == checksum


def _wrong_field(index: dict) -> str | None:
    """The first field that is not of its type, or None."""
    for name, kind in FIELDS.items():
        if type(index.get(name)) is not kind:
            return name
    if index["dtype"] not in DTYPES:
        return "dtype"
    entries = index["heldout"] | {f"block {i}": one for i, one in enumerate(index["blocks"])}
    for place, entry in entries.items():
        fields = ENTRY_FIELDS | ({"chain": str} if place not in index["heldout"] else {})
        for name, kind in fields.items():
            if not isinstance(entry, dict) or type(entry.get(name)) is not kind:
                return f"{name} of {place}"
        if entry["n_tokens"] < 0 or not entry["file"] or Path(entry["file"]).name != entry["file"]:
            return f"file or n_tokens of {place}"
    return None


def check_file(folder: Path, index: dict, entry: dict) -> Path:
    """Check that a file of tokens exists with the size and dtype that the index says.

    Reads only its header. Raises ShardError naming the file.
    """
    path = Path(folder) / entry["file"]
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            if np.lib.format.read_magic(file) != (1, 0):
                raise ValueError("its header is not of version 1.0")
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
            tokens_at = file.tell()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None)
        if why:
            raise ShardError(f"{path} cannot be read ({why}); prepare the data again") from error
        raise ShardError(f"{path} is not a token file ({error}); prepare the data again") from error
    # numpy reads the header as Python source, so a damaged one fails in Python's own ways
    except (tokenize.TokenError, SyntaxError, TypeError, LookupError, RecursionError) as error:
        raise ShardError(
            f"{path} is not a token file (its header is damaged); prepare the data again"
        ) from error
    if dtype != np.dtype(index["dtype"]):
        raise ShardError(
            f"{path} holds {dtype.name}, the index says {index['dtype']}; prepare the data again"
        )
    expected = tokens_at + entry["n_tokens"] * dtype.itemsize
    if shape != (entry["n_tokens"],) or size != expected:
        raise ShardError(
            f"{path} has {size} bytes, expected {expected} for {entry['n_tokens']} tokens; "
            "prepare the data again"
        )
    return path
