"""Which tokeniser learns most in equal minutes: the same model body, held-out bits per byte.

    python experiments/benchmarks/tokenizer_choice.py --minutes 5 --seeds 0 1 2 --out choice.json

Trains one shape with each tokeniser, in turn, for the same wall-clock on the same threads, and
compares bits per byte on the same held-out text (the same documents, whatever the tokens). Loss
per token would say nothing here: tokens differ in length. Two things differ and are meant to: the
embedding, which is a tokeniser's price, and the bytes that one window of `--seq_len` tokens sees.
Text is prepared before the clock starts. Arguments after `--` go to the trainer as they are.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from x1lib.data import Shards, load_tokenizer, prepare
from x1lib.data.tokenizer import NAMES


def train(name: str, seed: int, options, folder: Path) -> dict:
    """One run of the trainer in a process of its own; its manifest's figures."""
    command = [sys.executable, "-m", "x1lib.train", "--tokenizer", name, "--seed", str(seed)]
    command += ["--source", "embedded", "--shape", options.shape, "--out", str(folder)]
    command += ["--hours", str(options.minutes / 60), "--threads", str(options.threads)]
    command += ["--seq_len", str(options.seq_len), *options.trainer]
    began = time.monotonic()
    subprocess.run(command, check=True)
    wall_seconds = time.monotonic() - began
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    missing = [key for key in ("bits_per_byte", "tokens") if manifest.get(key) is None]
    if missing:
        raise SystemExit(f"{folder}/manifest.json has no {' or '.join(missing)}: the run failed")
    return {
        "tokenizer": name,
        "seed": seed,
        "bits_per_byte": manifest["bits_per_byte"],
        "bits_per_byte_source": manifest.get("bits_per_byte_source"),
        "tokens": manifest["tokens"],
        "wall_seconds": wall_seconds,
        "settings": manifest["config"],
    }


def bytes_per_token(name: str) -> float:
    """UTF-8 bytes in a token of the training text, on average."""
    shards = Shards(prepare("embedded", name))
    return sum(entry["n_bytes"] for entry in shards.blocks) / shards.n_tokens


def report(runs: list[dict], names: list[str]) -> None:
    """Print one line a tokeniser, the best first: medians over seeds, with the spread."""
    print(f"\n{'tokeniser':10} {'ids':>7} {'bits/byte':>9}  spread          whole book  MB seen")
    lines = []
    for name in names:
        own = [run for run in runs if run["tokenizer"] == name]
        bits = [run["bits_per_byte"] for run in own]
        book = [run["bits_per_byte_source"] for run in own if run["bits_per_byte_source"]]
        seen = statistics.median(run["tokens"] for run in own) * bytes_per_token(name) / 1e6
        lines.append(
            (
                statistics.median(bits),
                f"{name:10} {load_tokenizer(name).vocab_size:7,} {statistics.median(bits):9.4f}  "
                f"{min(bits):.4f}..{max(bits):.4f}  "
                f"{statistics.median(book) if book else float('nan'):10.4f} {seen:8.1f}",
            )
        )
    for _, line in sorted(lines):
        print(line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=5.0, help="wall-clock of one run")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--tokenizers", nargs="+", default=list(NAMES), choices=NAMES)
    parser.add_argument("--shape", default="tiny", help="name in the trainer's table")
    parser.add_argument("--seq_len", type=int, default=256, help="tokens in one window")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--out", type=Path, help="write the figures to this .json")
    own, trainer = sys.argv[1:], []
    if "--" in own:
        at = own.index("--")
        own, trainer = own[:at], own[at + 1 :]
    options = parser.parse_args(own)
    options.trainer = trainer

    for name in options.tokenizers:
        prepare("embedded", name)
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in options.seeds:
            for name in options.tokenizers:
                print(f"\n== {name}, seed {seed}, {options.minutes:g} minutes", flush=True)
                runs.append(train(name, seed, options, Path(folder) / f"{name}-{seed}"))
                if options.out:
                    record = {"machine": platform.platform(), "runs": runs}
                    options.out.write_text(json.dumps(record, indent=1) + "\n")
    report(runs, options.tokenizers)


if __name__ == "__main__":
    main()
