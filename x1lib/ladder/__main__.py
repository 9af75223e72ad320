"""Measure the MFU ladder: eager, bf16, torch.compile, attention, padded vocabulary.

    python -m x1lib.ladder --shape tiny --out DIR

Times the trainer's own step at each rung, the rungs in turn, for about --minutes; then DIR has
ladder.json and profile.json. With the same settings again it shows what is stored.
"""

from __future__ import annotations

import sys

from x1lib import exit_code_of
from x1lib.ladder.measuring import climb
from x1lib.ladder.settings import Settings
from x1lib.ladder.stored import same
from x1lib.settings import from_command_line


def main(argv: list[str] | None = None) -> int:
    sys.stdout.reconfigure(line_buffering=True)
    return exit_code_of(lambda: _run(sys.argv[1:] if argv is None else argv))


def _run(argv: list[str]) -> None:
    settings = from_command_line(Settings, argv, __doc__, module="x1lib.ladder")
    if found := same(settings):
        print(f"measured at {found['created']} and stored in {settings.out}")
    else:
        climb(settings)


if __name__ == "__main__":
    sys.exit(main())
