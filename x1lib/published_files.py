"""Files that others published and that are not ours to ship: downloaded, verified, kept here.

With X1_OFFLINE=1 they are not read at all, kept or not, so that what is built in order to be
published holds none of them.
"""

from __future__ import annotations

import hashlib
import os
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from x1lib import X1Error

TIMEOUT_S = 20


class PublishedUnavailable(X1Error, OSError):
    """A published file that cannot be had here and now, or is not what was published."""


@dataclass(frozen=True)
class Source:
    """One file of a public repository at one commit.

    what: its content, in the plural, as errors name it. licence: of the repository; empty: it has
    none. retrieved: the day on which commit and checksum were seen, ISO 8601.
    """

    repository: str
    commit: str
    path: str
    sha256: str
    what: str
    licence: str = ""
    retrieved: str = ""

    @property
    def url(self) -> str:
        return f"https://raw.githubusercontent.com/{self.repository}/{self.commit}/{self.path}"


def is_published(content: bytes, source: Source) -> bool:
    """Whether bytes are those of a source, by its checksum."""
    return hashlib.sha256(content).hexdigest() == source.sha256


def fetched(source: Source, folder: Path | None = None) -> bytes:
    """A source's bytes: those kept in `folder` where they are right, else downloaded and kept.

    folder: by default $X1_DATA/published, else ~/.cache/x1lib/published. Raises
    PublishedUnavailable offline, when the download fails or breaks off, and for another file than
    the one published.
    """
    if os.environ.get("X1_OFFLINE") == "1":
        raise PublishedUnavailable(
            f"X1_OFFLINE=1: {source.what} stay where they are; unset it to download them"
        )
    if folder is None:
        root = os.environ.get("X1_DATA") or "~/.cache/x1lib"
        folder = Path(root).expanduser() / "published"
    kept = Path(folder) / f"{source.sha256[:12]}-{Path(source.path).name}"
    if kept.exists() and is_published(found := kept.read_bytes(), source):
        return found
    try:
        with urllib.request.urlopen(source.url, timeout=TIMEOUT_S) as reply:
            found = reply.read()
    except (OSError, ValueError, HTTPException) as error:  # one that breaks off is no OSError
        raise PublishedUnavailable(
            f"{source.url} cannot be read ({error}); connect, or put the file at {kept}"
        ) from error
    if not is_published(found, source):
        raise PublishedUnavailable(
            f"{source.url} has sha256 {hashlib.sha256(found).hexdigest()}, not {source.sha256}:"
            " it is not the file that was published, and is not used"
        )
    kept.parent.mkdir(parents=True, exist_ok=True)
    aside = kept.with_name(f".{kept.name}.{os.getpid()}")
    aside.write_bytes(found)
    os.replace(aside, kept)
    return found
