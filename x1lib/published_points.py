"""Points of a published figure that are not ours to ship, as arrays."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from x1lib.published_files import PublishedUnavailable, Source, fetched

HIGHEST_LEFT_OUT = 5  # of the losses, as Besiroglu et al. 2024 do (section 3.2)

PointsUnavailable = PublishedUnavailable

# Commit and checksum seen on 2026-11-22. The repository has no licence file.
CHINCHILLA = Source(
    repository="epoch-research/analyzing-chinchilla",
    commit="92258837425e1b5f2851d624287f0120583a3d0e",
    path="data/svg_extracted_data.csv",
    sha256="193478df4e90f040016431996c45682659306840ecdadf83cfb9cd5ca0aa1b30",
    what="245 runs that Epoch AI read off figure 4 of Hoffmann et al. 2022 (arXiv:2404.10102)",
    retrieved="2026-11-22",
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
