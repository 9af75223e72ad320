"""`manifest.json`: what was run, on what, with which result, and the hash of each artefact.

python -m x1lib.tracking.manifest RUN_FOLDER    check it against its schema and its artefacts
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from x1lib.tracking.metrics import RecordError, finite
from x1lib.tracking.secrets import scrub

MANIFEST_FORMAT = 2  # of the manifest, as in manifest.schema.json
MANIFEST = "manifest.json"
PACKAGES = ("torch", "numpy", "safetensors", "tokenizers", "transformers")


class Manifest:
    """`folder/manifest.json`: who, what, where and with what result; rewritten whole each time."""

    def __init__(self, folder: Path, log=print) -> None:
        self.path, self.values = Path(folder) / MANIFEST, {}
        try:
            self.values = json.loads(self.path.read_text())
        except FileNotFoundError:
            pass
        except ValueError as error:  # it is a report: what matters lies in state and metrics
            log(f"warning: {self.path} is damaged ({error}); it is written anew")

    def update(self, **values: object) -> None:
        """Set top-level entries, without secrets; the file is written aside, fsynced, renamed."""
        self.values |= scrub(values)
        write_json(self.path, self.values)


def write_json(path: Path, value: object) -> None:
    """Write JSON so that a reader sees the old file or the new one, never half of one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        _write_aside(temporary, value)
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise RecordError(
            f"{path} cannot be written ({error.strerror}); make room and start again"
        ) from error


def _write_aside(temporary: Path, value: object) -> None:
    with open(temporary, "w") as file:
        file.write(json.dumps(finite(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n")
        file.flush()
        os.fsync(file.fileno())


def utc_now() -> str:
    """This moment as ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def versions() -> dict[str, str | None]:
    """Python, x1lib's dependencies and the system; None for a package that is not installed."""
    found: dict[str, str | None] = {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    return found


def git_state(folder: Path | None = None) -> dict[str, object]:
    """The commit of the source tree and whether it had changes; None outside a repository."""
    folder = folder or Path(__file__).resolve().parent

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    status = git("status", "--porcelain")
    return {"commit": git("rev-parse", "HEAD"), "dirty": None if status is None else bool(status)}


def sha256_of(paths: Iterable[Path], relative_to: Path) -> dict[str, str]:
    """sha256 of each file, by its path relative to a folder."""
    hashes = {}
    for path in sorted(paths):
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        hashes[path.relative_to(relative_to).as_posix()] = digest
    return hashes
