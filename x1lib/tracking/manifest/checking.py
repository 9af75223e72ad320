"""What is wrong with a manifest: against its schema, and against the files that it names."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from x1lib.tracking.manifest import MANIFEST, MANIFEST_FORMAT, sha256_of
from x1lib.tracking.metrics import TrackingError, finite

SCHEMA = Path(__file__).parents[1] / "manifest.schema.json"


class ManifestError(TrackingError):
    """A manifest that is missing, breaks its schema, or names files that are not as it says."""


def schema() -> dict:
    """The JSON Schema (draft 2020-12) of a manifest."""
    return json.loads(SCHEMA.read_text(encoding="utf-8"))


def manifest_faults(values: dict) -> list[str]:
    """One line for each entry that breaks the schema; none for a manifest as it should be.

    Raises ManifestError where the library jsonschema (extra `lab`) is not installed.
    """
    checker = _validator()(schema())
    written = json.loads(json.dumps(finite(values)))  # tuples are lists there
    found = sorted(checker.iter_errors(written), key=lambda error: [str(p) for p in error.path])
    return [_line(error) for error in found]


def _validator():
    """jsonschema's validator, imported in a tenth of its time: this is the end of a timed run.

    The rest is a grammar of international addresses that no entry needs; where it is not
    installed, jsonschema does without.
    """
    unused = "rfc3987_syntax" not in sys.modules
    if unused:
        sys.modules["rfc3987_syntax"] = None  # an import of it fails, as if it were not there
    try:
        from jsonschema import Draft202012Validator
    except ImportError as error:
        raise ManifestError(
            "jsonschema is not installed, so the manifest is not checked; pip install 'x1lib[lab]'"
        ) from error
    finally:
        if unused:
            del sys.modules["rfc3987_syntax"]
    return Draft202012Validator


def _line(error) -> str:
    where = ".".join(str(part) for part in error.absolute_path) or "the manifest"
    meaning = error.schema.get("description") if error.path and not error.parent else None
    text = error.message if len(error.message) < 200 else f"{error.message[:200]} ..."
    return f"{where}: {text}" + (f" ({meaning})" if meaning else "")


def artefact_faults(folder: Path, hashes: dict[str, str], missing_ok: bool = False) -> list[str]:
    """One line for each file that is not the one that was hashed, or (else) not there."""
    found = []
    for name, expected in hashes.items():
        path = Path(folder) / name
        if not path.is_file():
            found += [] if missing_ok else [f"artefacts.{name}: the file is missing"]
        elif sha256_of([path], Path(folder))[Path(name).as_posix()] != expected:
            found.append(f"artefacts.{name}: the file is not the one that the run wrote (sha256)")
    return found


def check(folder: Path, missing_ok: bool = False) -> dict:
    """The manifest of a run folder, if nothing is wrong with it; else raises ManifestError.

    missing_ok: artefacts may be missing, as in a record that is kept without its model.
    """
    path = Path(folder) / MANIFEST
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ManifestError(f"{path} does not exist; give the folder of a run") from error
    except ValueError as error:
        raise ManifestError(f"{path} is damaged ({error}); start the run again") from error
    if not isinstance(values, dict):
        raise ManifestError(f"{path} is damaged (it holds no object); start the run again")
    if values.get("format") != MANIFEST_FORMAT:
        raise ManifestError(
            f"{path} has format {values.get('format')!r} and this version of x1lib reads"
            f" {MANIFEST_FORMAT}; check it with the version that wrote it"
        )
    wrong = manifest_faults(values)
    if not wrong:
        wrong = artefact_faults(folder, values["artefacts"] or {}, missing_ok)
    if wrong:
        raise ManifestError("\n  ".join([f"{path} is not as it should be:", *wrong]))
    return values
