"""Where runs lie, and what the files in a run's folder say."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from x1lib.tracking import scrub
from x1lib.tracking.holders import read_json

LOG, MANIFEST = "train.log", "manifest.json"
PROGRESS = re.compile(r"^(?:step|tokenised) ([\d,]+)(?:/| of )([\d,]+)\b")
LAB = Path("experiments") / "X1-pretraining"


def project_root() -> Path:
    """The project's folder: above the current one, else above this package, else the current."""
    here = Path.cwd()
    places = [here, *here.parents, Path(__file__).resolve().parents[2]]
    return next((place for place in places if (place / LAB).is_dir()), here)


def run_folder(out: str = "", usd_per_hour: float = 0.0) -> Path:
    """The folder of a run; a relative `out` counts from the project's root, wherever one stands.

    Without `out`: `run-cloud` where there is an accelerator that costs money, else `run-local`.
    """
    if not out:
        accelerated = torch.cuda.is_available() or torch.backends.mps.is_available()
        out = str(LAB / ("run-cloud" if accelerated and usd_per_hour > 0 else "run-local"))
    return project_root() / Path(out).expanduser()


def shown(text: object) -> str:
    """A path, or a line with paths in it, without this machine's own folders or secrets."""
    shorter = str(scrub(str(text))).replace(f"{project_root()}/", "")
    return shorter.replace(f"{Path.home()}/", "~/")


def say(text: object) -> None:
    """Print a line as it is shown."""
    print(shown(text))


def manifest(folder: Path) -> dict:
    """What a run says of itself, or nothing yet."""
    return read_json(folder / MANIFEST)  # a damaged one, too: the trainer writes it anew


def size(path: Path) -> int:
    """Bytes of a file, 0 where there is none."""
    return path.stat().st_size if path.exists() else 0


def log_end(folder: Path, start: int = 0) -> list[str]:
    """The last lines of a run's log, of its bytes from `start` on."""
    path = folder / LOG
    if not path.exists():
        return []
    with open(path, "rb") as file:
        file.seek(max(start, size(path) - 20_000))
        return [shown(line) for line in file.read().decode(errors="replace").splitlines() if line]


def last_progress(folder: Path) -> str:
    """The newest line that says how far a run is."""
    found = (line for line in reversed(log_end(folder)) if PROGRESS.match(line))
    return next(found, "before its first step")
