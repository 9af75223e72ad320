"""Does quantisation hurt a longer-trained model more? Two branches of one trunk, predicted first.

    python experiments/benchmarks/quantisation_harm.py [--seeds 0 1] [--work FOLDER]

One trunk trains at the peak rate; a branch cools down early, another after eight times the tokens.
Kumar et al. 2024 (arXiv:2411.04330, section 3) find that the loss added by quantising after the
training grows as a power of tokens over a power of parameters; both exponents are near a half (as
reported of it, not read off the paper here). So eight times the tokens should add 8 ** 0.5 = 2.8
times the loss. What was predicted is written before the first run and is never rewritten; a seed
that is in the record already is not run again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from dataclasses import asdict
from pathlib import Path

import torch

from x1lib import inference, launch, tracking
from x1lib.runtime.hardware import hardware
from x1lib.train import Config, train

ROOT = Path(__file__).resolve().parents[2]
RECORD = ROOT / "experiments" / "reference" / "inference-cost" / "quantisation-harm.json"
FACTOR, SHORT_STEPS, BATCH_TOKENS, COOLDOWN = 8, 180, 2048, 0.2
SHAPE = "2x64:4/2:192"
VARIANTS = {"int8": ("int8", None), "int4": ("int4", None), "int4, group 64": ("int4", 64)}
PREDICTED = {
    "quantity": "loss added by int4 (groups of 32, head included) after 8 times the tokens,"
    " over that before",
    "ratio": FACTOR**0.5,
    "holds_between": [1.5, 5.0],
    "why": "a power of about one half of tokens per parameter, Kumar et al. 2024",
}


def settings(folder: Path, seed: int, **changes) -> Config:
    common = {
        "shape": SHAPE,
        "seq_len": 256,
        "batch_tokens": BATCH_TOKENS,
        "lr": 0.005,
        "warmup": 0.02,
        "cooldown": COOLDOWN,
        "compile": "off",
        "tokenizer": "bpe4096",
        "sample_tokens": 0,
    }
    return Config(out=str(folder), seed=seed, **common | changes)


def trained(work: Path, seed: int) -> list[Path]:
    """Both branches of a seed's trunk: the second goes on where the first began to cool down."""
    begins = round(SHORT_STEPS * (1 - COOLDOWN))
    short, long = work / f"short-{seed}", work / f"long-{seed}"
    train(settings(short, seed, steps=SHORT_STEPS, milestones=str(begins)))
    branch = {"steps": FACTOR * SHORT_STEPS, "branch_from": f"{short}@{begins}"}
    train(settings(long, seed, **branch))
    return [short, long]


@torch.no_grad()
def harm(folder: Path) -> dict:
    """What each way to quantise adds to a run's held-out loss, in nats a token."""
    manifest = tracking.Manifest(folder).values
    full = inference.Decoder(inference.load_checkpoint(folder / "checkpoint"))
    config = Config(steps=1, shape=SHAPE, tokenizer="bpe4096")
    shards, words = launch.open_text(config)
    models = {"full": full}
    for name, (kind, group) in VARIANTS.items():
        models[name] = inference.quantize(full, kind, group=group)
    found = {}
    for text in shards.heldout_names:
        window = full.config.window
        limit = 60_000
        tokens = shards.heldout(text)
        rows = inference.quality(models, tokens, words.token_bytes, window, max_tokens=limit)
        found[text] = {
            name: asdict(row) | {"added": row.loss - rows["full"].loss}
            for name, row in rows.items()
        }
    return {
        "tokens": manifest["tokens"],
        "tokens_per_param": manifest["tokens"] / manifest["n_params"]["total"],
        "heldout": found,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--work", type=Path, default=None, help="folder for the runs")
    options = parser.parse_args()
    kept = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    if not kept:
        kept = {"predicted": PREDICTED, "predicted_at": tracking.utc_now(), "seeds": {}}
        RECORD.parent.mkdir(parents=True, exist_ok=True)
        tracking.write_json(RECORD, kept)
    for seed in options.seeds:
        if str(seed) in kept["seeds"]:
            continue
        with tempfile.TemporaryDirectory() as scratch:
            short, long = (harm(run) for run in trained(options.work or Path(scratch), seed))
        kept["seeds"][str(seed)] = {"short": short, "long": long}
        ratios = {
            name: {
                text: [
                    one["long"]["heldout"][text][name]["added"]
                    / one["short"]["heldout"][text][name]["added"]
                    for one in kept["seeds"].values()
                ]
                for text in short["heldout"]
            }
            for name in VARIANTS
        }
        median = statistics.median(ratios["int4"]["documents"])
        low, high = PREDICTED["holds_between"]
        kept |= {
            "shape": SHAPE,
            "ratios": ratios,
            "median_ratio": median,
            "holds": low <= median <= high,
            "machine": hardware(),
            "versions": tracking.versions(),
        }
        tracking.write_json(RECORD, kept)
        print(
            f"seed {seed}: int4 adds {short['heldout']['documents']['int4']['added']:.4f} nats at"
        )
        print(f"{short['tokens_per_param']:.1f} tokens a parameter, ", end="")
        print(f"{long['heldout']['documents']['int4']['added']:.4f} at", end=" ")
        print(f"{long['tokens_per_param']:.1f}: ratio {median:.2f}, said {PREDICTED['ratio']:.2f}")


if __name__ == "__main__":
    main()
