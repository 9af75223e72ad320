"""Stop a detached run from a shell: `python -m x1lib.launch stop [RUN_FOLDER]`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from x1lib import exit_code_of
from x1lib.launch.following import stop
from x1lib.launch.places import run_folder
from x1lib.launch.starting import attached


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m x1lib.launch", description=__doc__)
    parser.add_argument("action", choices=["stop"], help="ask the trainer to save and end")
    parser.add_argument("folder", nargs="?", default="", help="of the run; none: lab00's own")
    arguments = parser.parse_args(argv)
    folder = Path(arguments.folder) if arguments.folder else run_folder("", 0.0)
    return exit_code_of(lambda: stop(attached(folder)))


if __name__ == "__main__":
    sys.exit(main())
