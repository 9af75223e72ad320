"""The commands `build` and `plan` of `python -m x1lib.data`."""

from __future__ import annotations

import argparse
import math

from x1lib.data.building.onepass import build
from x1lib.data.building.recipe import DEDUP, FILTERS, PRESETS, recipe
from x1lib.data.errors import DataError
from x1lib.data.scale.plan import (
    LEAST_MEGABYTES,
    measure,
    measure_extraction,
    measure_index,
    measure_serial,
    plan_table,
)
from x1lib.data.scale.plan import TOKENS as PLANNED_TOKENS
from x1lib.data.streams import CATALOG
from x1lib.data.tokenizer import NAMES

# Fields of a recipe that the command line may change.
CHANGES = ("filters", "dedup", "tokenizer", "block_tokens", "heldout_tokens")


def whole_number(text: str) -> int:
    """5e9, 5_000_000_000 or 5000000000 as an integer."""
    try:
        value = float(text)
        if value != int(value):
            raise ValueError
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number") from None
    return int(text) if text.isdecimal() else int(value)


def positive_number(text: str) -> int:
    """A whole number of 1 or more."""
    value = whole_number(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is below 1")
    return value


def positive_amount(text: str) -> float:
    """A finite number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is no finite number above 0")
    return value


def add_build(commands) -> None:
    """Add `build` to the sub-commands of a parser."""
    make = commands.add_parser(
        "build",
        help="filter, deduplicate, tokenise and shard a source of any size as it comes",
        epilog="X1_ENCODER=gigatoken tokenises with that beta, several times as fast, once its ids"
        " have been compared; it is installed apart. The recipe plain takes"
        " text as it comes, copies and all; dedup drops copies, of what is held out too, and web"
        " filters as well. Of the names, pile-cc is a mirror that was never tried.",
    )
    make.add_argument(
        "--source",
        default="embedded",
        help=f"'embedded', {', '.join(CATALOG)}, OWNER/NAME[:CONFIG] on the Hub, a file, a folder",
    )
    make.add_argument("--recipe", default="plain", choices=PRESETS, help="what is done to the text")
    make.add_argument(
        "--filters",
        type=lambda text: tuple(name.strip() for name in text.split(",") if name.strip()),
        metavar="A,B,...",
        help=f"filters in order instead of the recipe's: {', '.join(FILTERS)}",
    )
    make.add_argument("--dedup", choices=DEDUP, help="instead of the recipe's")
    make.add_argument("--tokenizer", help=", ".join(NAMES))
    make.add_argument("--block-tokens", "--block_tokens", type=positive_number, metavar="N")
    make.add_argument("--heldout-tokens", "--heldout_tokens", type=positive_number, metavar="N")
    make.add_argument(
        "--max-tokens", "--max_tokens", type=positive_number, metavar="N", help="such as 5e9"
    )
    make.add_argument("--workers", type=positive_number, default=1, help="processes (default 1)")
    make.add_argument("--root", help="parent folder (default $X1_DATA, else ~/.cache/x1lib/data)")
    add_executor(make)
    make.set_defaults(command=_build)


def add_executor(parser: argparse.ArgumentParser) -> None:
    """Add the options of a build that is cut into tasks for an engine."""
    parser.add_argument(
        "--executor",
        choices=("local", "ray", "slurm"),
        help="run as --tasks tasks of datatrove's executor (default: none, one pass)",
    )
    parser.add_argument(
        "--tasks", type=positive_number, help="parts of the source, with --executor (default 1)"
    )
    parser.add_argument("--slurm-partition", "--slurm_partition", help="where Slurm runs the tasks")
    parser.add_argument(
        "--slurm-time", "--slurm_time", default="24:00:00", help="limit of one task (default 24 h)"
    )


def chosen_recipe(options):
    """The recipe that the options of a command describe."""
    given = {name: getattr(options, name, None) for name in CHANGES}
    return recipe(options.recipe, **{k: v for k, v in given.items() if v is not None})


def _build(options) -> None:
    def log(line: str) -> None:
        print(line, flush=True)

    common = {"root": options.root, "log": log}
    if options.executor:
        if options.max_tokens is not None:
            raise DataError("--max-tokens has no meaning with --executor; leave one of them out")
        from x1lib.data.scale.running import build_with

        folder = build_with(
            options.source,
            chosen_recipe(options),
            executor=options.executor,
            tasks=options.tasks or 1,
            workers=options.workers,
            slurm_partition=options.slurm_partition,
            slurm_time=options.slurm_time,
            **common,
        )
    else:
        if options.tasks is not None:
            raise DataError("--tasks has no meaning without --executor; give one, or --workers")
        folder = build(
            options.source,
            chosen_recipe(options),
            max_tokens=options.max_tokens,
            workers=options.workers,
            **common,
        )
    if folder:
        print(folder)


def add_plan(commands) -> None:
    """Add `plan` to the sub-commands of a parser."""
    look = commands.add_parser(
        "plan", help="hours, disk and dollars for 5B, 100B and 15T tokens at a measured speed"
    )
    look.add_argument("--recipe", default="web", choices=PRESETS)
    look.add_argument("--tokens", type=positive_number, nargs="+", metavar="N")
    look.add_argument(
        "--cores", type=positive_number, default=16, help="cores at work (default 16)"
    )
    look.add_argument(
        "--usd-per-core-hour",
        "--usd_per_core_hour",
        type=positive_amount,
        help="what your provider asks",
    )
    look.add_argument(
        "--megabytes",
        type=positive_amount,
        default=4.0,
        help=f"text to measure on (default 4 MB, at least {LEAST_MEGABYTES:g})",
    )
    look.set_defaults(command=_plan)


def _plan(options) -> None:
    print(f"measuring {options.recipe} on {options.megabytes:g} MB of the embedded text ...")
    speed = measure(recipe(options.recipe), options.megabytes)
    print(
        plan_table(
            speed,
            options.tokens or PLANNED_TOKENS,
            options.cores,
            options.usd_per_core_hour,
            documents_per_second=measure_serial(speed.recipe),
            extracted_per_second=measure_extraction(),
            index_seconds_per_block=measure_index(speed.recipe),
        )
    )
