"""Train the small tokeniser: `python -m x1lib.data.train_tokenizer`.

The shipped assets/bpe4096.json is this command's output, which does not depend on the machine.
"""

import argparse
import json
import tempfile
from pathlib import Path

import tokenizers
from tokenizers import models, pre_tokenizers, trainers

from x1lib.data.sources import ASSETS, open_source
from x1lib.data.spool import Spool
from x1lib.data.tokenizer import byte_symbols

N_MERGES = 4_096 - 256 - 1  # ids less the bytes and <|endoftext|>


def train() -> dict:
    """The record of a byte-level BPE over the embedded text less everything held out.

    GPT-2's pre-tokenisation (Radford et al. 2019); `merges` in order of rank.
    """
    with tempfile.TemporaryDirectory() as folder:
        source = open_source("embedded")
        spool = Spool(source, Path(folder), print)
        bpe = tokenizers.Tokenizer(models.BPE())
        bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        trainer = trainers.BpeTrainer(
            vocab_size=256 + N_MERGES,
            initial_alphabet=sorted(byte_symbols()),
            show_progress=False,
        )
        bpe.train_from_iterator(spool.texts(spool.training), trainer)
        merges = json.loads(bpe.to_str())["model"]["merges"]
        record = {
            "what": "byte-level BPE, 4,096 ids: 256 bytes, these merges, <|endoftext|>",
            "trained_on": "the embedded text less the held-out book and the held-out 1%",
            "n_documents": len(spool.training),
            "n_bytes": spool.bytes_of(spool.training),
            "source_sha256": source.fingerprint(),
            # tokenizers before 0.20 wrote a pair as one string
            "merges": [pair if isinstance(pair, str) else " ".join(pair) for pair in merges],
        }
        spool.close()
    return record


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m x1lib.data.train_tokenizer",
        description="Train the 4,096-id tokeniser on the embedded training text.",
    )
    parser.add_argument(
        "--out", type=Path, default=ASSETS / "bpe4096.json", help="file to write (.json)"
    )
    out = parser.parse_args().out
    record = train()
    out.write_text(json.dumps(record, indent=0, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{out}: {len(record['merges'])} merges from {record['n_bytes'] / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
