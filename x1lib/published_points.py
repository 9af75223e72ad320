"""Points of a published figure that are not ours to ship: downloaded, verified, kept on this disk.

With X1_OFFLINE=1 they are not read at all, kept or not, so that what is built in order to be
published holds none of them.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from x1lib import X1Error

TIMEOUT_S = 20
HIGHEST_LEFT_OUT = 5  # of the losses, as Besiroglu et al. 2024 do (section 3.2)


class PointsUnavailable(X1Error, OSError):
    """Published points that cannot be had here and now, or are not what was published."""


@dataclass(frozen=True)
class Source:
    """One file of a public repository at one commit."""

    repository: str
    commit: str
    path: str
    sha256: str
    what: str

    @property
    def url(self) -> str:
        return f"https://raw.githubusercontent.com/{self.repository}/{self.commit}/{self.path}"


# Commit and checksum seen on 2026-11-22. The repository has no licence file.
CHINCHILLA = Source(
    repository="epoch-research/analyzing-chinchilla",
    commit="92258837425e1b5f2851d624287f0120583a3d0e",
    path="data/svg_extracted_data.csv",
    sha256="193478df4e90f040016431996c45682659306840ecdadf83cfb9cd5ca0aa1b30",
    what="245 runs that Epoch AI read off figure 4 of Hoffmann et al. 2022 (arXiv:2404.10102)",
)


@dataclass(frozen=True)
class Points:
    """Runs, an entry each: all parameters, training tokens, loss in nats per token."""

    n_params: np.ndarray
    n_tokens: np.ndarray
    loss: np.ndarray


def chinchilla(folder: Path | None = None, source: Source = CHINCHILLA) -> Points:
    """The runs of Chinchilla's figure 4 without the 5 highest losses; D is C / 6N.

    Raises PointsUnavailable, with what to do, offline and for a file that is not the one published.
    """
    rows = list(csv.DictReader(io.StringIO(fetched(source, folder).decode())))
    columns = ("Model Size", "Training FLOP", "loss")
    n_params, flops, loss = np.array([[float(row[name]) for name in columns] for row in rows]).T
    kept = np.argsort(loss)[:-HIGHEST_LEFT_OUT]
    return Points(n_params[kept], (flops / (6 * n_params))[kept], loss[kept])


def fetched(source: Source, folder: Path | None = None) -> bytes:
    """A source's bytes: those kept in `folder` where they are right, else downloaded and kept.

    folder: by default $X1_DATA/published, else ~/.cache/x1lib/published.
    """
    if os.environ.get("X1_OFFLINE") == "1":
        raise PointsUnavailable(
            f"X1_OFFLINE=1: {source.what} stay where they are; unset it to download them"
        )
    if folder is None:
        root = os.environ.get("X1_DATA") or "~/.cache/x1lib"
        folder = Path(root).expanduser() / "published"
    kept = Path(folder) / f"{source.sha256[:12]}-{Path(source.path).name}"
    if kept.exists() and _is(found := kept.read_bytes(), source):
        return found
    try:
        with urllib.request.urlopen(source.url, timeout=TIMEOUT_S) as reply:
            found = reply.read()
    except (OSError, ValueError) as error:
        raise PointsUnavailable(
            f"{source.url} cannot be read ({error}); connect, or put the file at {kept}"
        ) from error
    if not _is(found, source):
        raise PointsUnavailable(
            f"{source.url} has sha256 {hashlib.sha256(found).hexdigest()}, not {source.sha256}:"
            " it is not the file that was published, and is not used"
        )
    kept.parent.mkdir(parents=True, exist_ok=True)
    aside = kept.with_name(f".{kept.name}.{os.getpid()}")
    aside.write_bytes(found)
    os.replace(aside, kept)
    return found


def _is(found: bytes, source: Source) -> bool:
    return hashlib.sha256(found).hexdigest() == source.sha256
