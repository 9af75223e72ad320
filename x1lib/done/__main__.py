"""Check what the course asks for, box by box, by doing again what each box says was done.

python -m x1lib.done [DIR]              DIR: experiments/X1-pretraining unless given
python -m x1lib.done --only run,quiz    some of the boxes

[x] done, [~] rehearsed: all is there, but from a machine without a rented card, or answered by
machine; [ ] open, with what is missing and the command that makes it. The checkpoint's loss is
measured again on the held-out tokens beside it, which takes minutes for `50m` on a CPU.
Exit codes: 0 all done, 3 none of the first five open and something rehearsed or not reflected on,
1 something is open, 2 refused.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from x1lib import X1Error
from x1lib.done.checking import BOXES, exit_code, look
from x1lib.exercises import progress
from x1lib.launch.places import LAB, project_root, shown


def main(argv: list[str] | None = None) -> int:
    """The command line; the exit codes are those of the module's text."""
    parser = argparse.ArgumentParser(
        prog="python -m x1lib.done",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", nargs="?", type=Path, metavar="DIR", help="what the labs wrote")
    parser.add_argument("--only", default=",".join(BOXES), metavar="BOX,...", help="%(default)s")
    options = parser.parse_args(argv)
    lab = options.folder or project_root() / LAB
    try:
        only = [name.strip() for name in options.only.split(",")]
        boxes = look(lab, only, log=lambda line: print(line, file=sys.stderr))
    except X1Error as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return error.exit_code
    print(f"What is done in {shown(lab)}:\n")
    for number, name in enumerate(BOXES, start=1):
        if name in boxes:
            print(shown("\n".join(boxes[name].lines(number))))
    print("\nexercises: " + progress.sentence(lab))
    return exit_code(boxes)


if __name__ == "__main__":
    sys.exit(main())
