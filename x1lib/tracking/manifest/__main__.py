"""Check a run's manifest: `python -m x1lib.tracking.manifest RUN_FOLDER`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from x1lib import exit_code_of
from x1lib.tracking.manifest.checking import check


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m x1lib.tracking.manifest", description=__doc__)
    parser.add_argument("folder", type=Path, help="of a run")
    parser.add_argument(
        "--record", action="store_true", help="artefacts may be missing: a record without its model"
    )
    arguments = parser.parse_args(argv)

    def checked() -> None:
        values = check(arguments.folder, missing_ok=arguments.record)
        n_files = len(values["artefacts"] or {})
        print(f"{arguments.folder}: {values['status']}, as its schema says; {n_files} artefacts")

    return exit_code_of(checked)


if __name__ == "__main__":
    sys.exit(main())
