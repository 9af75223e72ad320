"""Keep a finished run's model as the course's reference checkpoint, in bf16.

    python experiments/benchmarks/keep_reference.py RUN_FOLDER [--out FOLDER]

Half the bytes of float32; the manifest is the run's own, with the artefacts hashed again, since the
weights are other bits. `reference.json` beside it holds the held-out loss of both, so that
nobody takes one for the other.
"""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import asdict
from pathlib import Path

import safetensors.torch
import torch

from x1lib import inference, launch, tracking
from x1lib.checkpoint.files import write_tensors
from x1lib.train import Config

ROOT = Path(__file__).resolve().parents[2]
MAX_BYTES = 6_000_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, default=ROOT / "experiments" / "reference" / "tiny")
    options = parser.parse_args()
    manifest = tracking.Manifest(options.run)
    values = manifest.values
    assert values["status"] == "finished", "only a finished run is kept"
    made, kept = options.run / "checkpoint", options.out / "checkpoint"
    shutil.rmtree(options.out, ignore_errors=True)
    kept.mkdir(parents=True)
    weights = safetensors.torch.load_file(made / "model.safetensors")
    short = {name: tensor.to(torch.bfloat16) for name, tensor in weights.items()}
    write_tensors(kept / "model.safetensors", short, {"format": "pt"})
    config = json.loads((made / "config.json").read_text())
    config |= {"dtype": "bfloat16", "torch_dtype": "bfloat16"}
    (kept / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    for path in made.glob("*token*.json"):
        shutil.copy(path, kept / path.name)
    hashes = tracking.sha256_of(kept.iterdir(), options.out)
    mlflow = {"mlflow_uri": None, "mlflow_status": "not mirrored: a kept copy"}
    kept_variables = {k: v for k, v in values["environment"].items() if not v.startswith("/")}
    changes = mlflow | {"artefacts": hashes, "environment": kept_variables}  # no machine's folders
    tracking.write_json(options.out / "manifest.json", values | changes)
    shards, words = launch.open_text(Config(steps=1, tokenizer=values["data"]["tokenizer"]))
    models = {
        "float32": inference.Decoder(inference.load_checkpoint(made)),
        "bfloat16": inference.Decoder(inference.load_checkpoint(kept)),
    }
    window = models["float32"].config.window
    found = {}
    for text in shards.heldout_names:
        limit = values["heldout"][text]["n_tokens"]
        tokens = shards.heldout(text)
        rows = inference.quality(models, tokens, words.token_bytes, window, max_tokens=limit)
        found[text] = {name: asdict(row) for name, row in rows.items()}
    record = {
        "heldout": found,
        "tokens_per_param": {
            name: values["tokens"] / values["n_params"][name] for name in ("body", "total")
        },
        "float32_sha256": values["artefacts"]["checkpoint/model.safetensors"],
    }
    tracking.write_json(options.out / "reference.json", record)
    size = sum(path.stat().st_size for path in options.out.rglob("*") if path.is_file())
    assert size <= MAX_BYTES, f"{size:,} bytes are too many"
    own = values["val_loss"]
    for name, row in found["documents"].items():
        print(f"{name}: {row['loss']:.4f} nats a token; the run said {own:.4f}")
    print(f"{size:,} bytes in {options.out.name}")


if __name__ == "__main__":
    main()
