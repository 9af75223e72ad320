"""`python -m x1lib.data prepare | build | plan | inspect DIR | verify DIR`."""

import argparse
import os
import sys
from pathlib import Path

from x1lib import X1Error
from x1lib.data.building.tally import Tally
from x1lib.data.commands import add_build, add_plan
from x1lib.data.pipeline import DEFAULT_BLOCK_TOKENS, prepare
from x1lib.data.shards import Shards
from x1lib.data.tokenizer import NAMES, load_tokenizer


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 0 when it did what was asked, 1 with one line on stderr when not."""
    options = _parser().parse_args(arguments)
    try:
        options.command(options)
        sys.stdout.flush()
    except BrokenPipeError:  # as of `inspect DIR | head`: who read has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains too
        return 141  # 128 + SIGPIPE, as of a command that the signal ended
    except (X1Error, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m x1lib.data", description="Make, look at and check folders of tokens."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    make = commands.add_parser("prepare", help="tokenise a text into a folder of blocks")
    make.add_argument(
        "--source", default="embedded", help="'embedded', or a .jsonl, .jsonl.xz or .txt path"
    )
    make.add_argument("--tokenizer", default="bpe4096", help=", ".join(NAMES))
    make.add_argument("--root", help="parent folder (default $X1_DATA, else ~/.cache/x1lib/data)")
    make.add_argument(
        "--block-tokens",
        "--block_tokens",
        type=int,
        metavar="N",
        help=f"tokens in one block (default {DEFAULT_BLOCK_TOKENS:,})",
    )
    make.set_defaults(command=_prepare)
    add_build(commands)
    add_plan(commands)
    look = commands.add_parser("inspect", help="say what a folder holds and show a sample")
    look.set_defaults(command=_inspect)
    test = commands.add_parser("verify", help="read every file and check it")
    test.set_defaults(command=_verify)
    for command in (look, test):
        command.add_argument("dir", type=Path, metavar="DIR", help="a prepared folder")
    return parser


def _prepare(options) -> None:
    folder = prepare(
        options.source,
        options.tokenizer,
        root=options.root,
        block_tokens=options.block_tokens,
        log=lambda line: print(line, flush=True),
    )
    print(folder)


def _inspect(options) -> None:
    shards = Shards(options.dir)
    index = shards.index
    state = "complete" if shards.complete else "still being written, or cut off"
    n_bytes = sum(entry["n_bytes"] for entry in shards.blocks)
    print(f"source       {shards.source}, {index['n_documents']:,} training documents ({state})")
    print(f"tokeniser    {shards.tokenizer}, {shards.vocab_size:,} ids, {shards.dtype.name}")
    print(f"blocks       {shards.n_blocks} of up to {index['block_tokens']:,} tokens")
    print(f"tokens       {shards.n_tokens:,}")
    print(
        f"text         {n_bytes / 1e6:.1f} MB, {n_bytes / max(1, shards.n_tokens):.2f} bytes/token"
    )
    for name in shards.heldout_names:
        part = index["heldout"][name]
        print(
            f"held out     {name}: {part['n_documents']} documents, {part['n_tokens']:,} tokens, "
            f"{part['n_bytes'] / 1e6:.2f} MB"
        )
    print(f"fingerprint  {shards.fingerprint()}")
    if index.get("counts"):
        print("counts of the batches that lie wholly in blocks:")
        print(Tally.restored(shards.blocks[-1]["next"] | {"counts": index["counts"]}).table())
    seq_len = min(64, max((entry["n_tokens"] for entry in shards.blocks), default=1) - 1)
    if seq_len > 0:
        tokens, _ = shards.batch(0, 1, seq_len, seed=0)
        print(f"sample 0     {load_tokenizer(shards.tokenizer).decode(tokens[0])!r}")


def _verify(options) -> None:
    shards = Shards(options.dir)
    shards.verify()
    print(f"{options.dir}: {shards.n_blocks} blocks, {shards.n_tokens:,} tokens, all as written")
    if not shards.has_checksum:
        print("its index carries no checksum (an older version wrote it) and may have changed")


if __name__ == "__main__":
    sys.exit(main())
