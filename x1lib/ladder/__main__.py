"""Measure the MFU ladder: eager, bf16, torch.compile, attention, padded vocabulary.

    python -m x1lib.ladder --shape tiny --out DIR

Times the trainer's own step at each rung, the rungs in turn, for about --minutes; then DIR has
ladder.json and profile.json. With the same settings again it shows what is stored.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import fields
from typing import NoReturn

from x1lib import exit_code_of
from x1lib.ladder.measuring import climb
from x1lib.ladder.settings import Settings
from x1lib.ladder.stored import same
from x1lib.settings import ConfigError


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(message.replace("argument ", ""))


def from_command_line(argv: Sequence[str]) -> Settings:
    """The settings of a command line; raises ConfigError for a wrong one."""
    parser = _Parser(
        prog="python -m x1lib.ladder",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    for f in fields(Settings):
        flag, text = "--" + f.name.replace("_", "-"), f.metadata["help"]
        text += f": {', '.join(f.metadata['among'])}" if f.metadata["among"] else ""
        shown = ("off", "on")[f.default] if isinstance(f.default, bool) else f.default
        text += f" (default: {shown if shown != '' else 'none'})"
        if isinstance(f.default, bool):
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, help=text)
        else:
            metavar = {int: "N", float: "X", str: "TEXT"}[type(f.default)]
            parser.add_argument(flag, type=type(f.default), metavar=metavar, help=text)
    found = vars(parser.parse_args(argv))
    return Settings(**{name: value for name, value in found.items() if value is not None})


def main(argv: list[str] | None = None) -> int:
    sys.stdout.reconfigure(line_buffering=True)
    return exit_code_of(lambda: _run(from_command_line(sys.argv[1:] if argv is None else argv)))


def _run(settings: Settings) -> None:
    if found := same(settings):
        print(f"measured at {found['created']} and stored in {settings.out}")
    else:
        climb(settings)


if __name__ == "__main__":
    sys.exit(main())
