"""Sources by name, and what a name means: the embedded text, data sets of the Hub, local files."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from x1lib.data.errors import SourceError
from x1lib.data.sources import EMBEDDED_FILES
from x1lib.data.streams.batches import Stream
from x1lib.data.streams.files import FileStream, kind_of, list_files
from x1lib.data.streams.hub import HubStream

# What the Hub allows in the name of an owner or a data set.
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*", re.ASCII)


@dataclass(frozen=True)
class Entry:
    """A data set of the Hub under a short name."""

    repository: str
    config: str | None = None
    column: tuple[str, ...] = ()  # where the name of a row's sub-set stands
    value: str | None = None  # the sub-set that is kept
    note: str = ""


CATALOG = {
    "fineweb-edu": Entry("HuggingFaceFW/fineweb-edu", "sample-10BT", note="10B tokens"),
    "fineweb-edu-100BT": Entry("HuggingFaceFW/fineweb-edu", "sample-100BT", note="100B tokens"),
    "fineweb-edu-350BT": Entry("HuggingFaceFW/fineweb-edu", "sample-350BT", note="350B tokens"),
    "pile-cc": Entry(
        "monology/pile-uncopyrighted",
        column=("meta", "pile_set_name"),
        value="Pile-CC",
        note="a mirror of the Pile, whose first host withdrew it; unverified: not seen from here",
    ),
}


def open_stream(source: str | Path, *, log: Callable[[str], None] | None = print) -> Stream:
    """The stream called `source`: "embedded", a name of CATALOG, any Hub id, or a local path.

    A Hub id is OWNER/NAME or OWNER/NAME:CONFIG. A path is a file or a folder of .jsonl, .txt,
    .parquet or .warc files, also packed. Raises SourceError saying what exists.
    """
    name = str(source)
    if not name.strip():
        raise SourceError(
            "the source is an empty name, perhaps a variable that is not set; give 'embedded', a"
            " data set's name or a path, a single dot for the folder here"
        )
    if name == "embedded":
        return FileStream("embedded", EMBEDDED_FILES)
    if name in CATALOG:
        entry = CATALOG[name]
        return HubStream(
            name, entry.repository, entry.config, column=entry.column, value=entry.value, log=log
        )
    path = Path(name).expanduser()
    if path.exists() or kind_of(path):
        files = list_files(path)
        return FileStream(_stem(path), files)
    owner, slash, rest = name.partition("/")
    if slash and owner and rest and "/" not in rest and not name.startswith((".", "~")):
        if not all(HUB_NAME.fullmatch(part) for part in (owner, rest.partition(":")[0])):
            raise SourceError(
                f"{name!r} is no file or folder here, and no data set of the Hub has such a name;"
                " check the path"
            )
        repository, _, config = name.partition(":")
        return HubStream(name, repository, config or None, log=log, maybe_path=True)
    raise SourceError(
        f"unknown source {name!r}; give 'embedded', one of {', '.join(CATALOG)}, OWNER/NAME of a"
        " data set on the Hugging Face Hub, or the path of a file or folder"
    )


def _stem(path: Path) -> str:
    kind = kind_of(path)
    return path.name.removesuffix(kind[1]).removesuffix(kind[0]) if kind else path.name
