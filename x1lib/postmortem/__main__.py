"""Find out why a run's loss spiked, try recoveries from the checkpoint before, write it down.

    python -m x1lib.postmortem RUN [--step N] [--out DIR]

RUN is a run folder, or the id of its run in mlflow, looked for under --root.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from x1lib import exit_code_of
from x1lib.postmortem import CURES, analyse, find_run, write


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; exits 2 with one line where there is no spike or nothing to rewind to."""
    parser = argparse.ArgumentParser(
        prog="python -m x1lib.postmortem",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", help="run folder, or an mlflow run id")
    parser.add_argument("--step", type=int, help="of the spike; else the worst one is found")
    parser.add_argument("--out", type=Path, help="where the page goes; else beside the run")
    parser.add_argument("--root", type=Path, default=Path("."), help="where an id is looked for")
    parser.add_argument(
        "--cures", default=",".join(CURES), help="recoveries to try, or none: %(default)s"
    )
    options = parser.parse_args(argv)
    names = [] if options.cures == "none" else options.cures.split(",")
    if unknown := [name for name in names if name not in CURES]:
        parser.error(f"unknown recovery {unknown[0]}; give some of {', '.join(CURES)}")

    def command() -> None:
        folder = find_run(options.run, options.root)
        write(analyse(folder, options.step, cures=names), options.out)

    return exit_code_of(command)


if __name__ == "__main__":
    sys.exit(main())
