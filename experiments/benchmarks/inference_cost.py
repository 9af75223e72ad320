"""Decoding speed of every baseline and of the course's own shapes on this CPU, all in turn.

    python experiments/benchmarks/inference_cost.py [--models a,b] [--batches 1,4,16] [--repeats 5]

Weights are random but for `tiny`, the reference checkpoint: speed depends on the shape. Each model
is timed in bf16, int8 and int4, prefill and decoding apart, medians of interleaved turns. A model
that is too large for the memory or the time is left out by --models; what was timed replaces what
the record had of the same models. Meant for a machine on which nothing else runs.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import torch

from x1lib import inference, tracking
from x1lib.inference.lab import REFERENCE
from x1lib.runtime.hardware import hardware
from x1lib.train import GPT, Config

ROOT = Path(__file__).resolve().parents[2]
RECORD = ROOT / "experiments" / "reference" / "inference-cost" / "baselines-cpu.json"
OWN = ("tiny", "50m")


def full(name: str):
    """A model in bf16: the reference, one of our shapes, or a baseline."""
    if name in inference.BASELINES:
        return inference.build(name)
    if name == "tiny":
        model = inference.load_checkpoint(ROOT / REFERENCE / "checkpoint")
    else:
        model = GPT(Config(steps=1, shape=name))
    return inference.Decoder(model, torch.bfloat16)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default=",".join([*OWN, *inference.BASELINES]))
    parser.add_argument("--batches", default="1,4,16")
    parser.add_argument("--prompt-tokens", type=int, default=64)
    parser.add_argument("--new-tokens", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RECORD)
    options = parser.parse_args()
    models, used = {}, {}
    for name in options.models.split(","):
        base = full(name)
        models[f"{name} bf16"] = base
        for kind in inference.KINDS:
            models[f"{name} {kind}"] = inference.quantize(base, kind)
            used[f"{name} {kind}"] = inference.use_kernels(models[f"{name} {kind}"], log=str)
        used[f"{name} bf16"] = inference.use_kernels(base, log=str)
    batches = tuple(int(n) for n in options.batches.split(","))
    peaks = inference.machine_peaks(models)
    rows = inference.decode_benchmark(
        models, batches, options.prompt_tokens, options.new_tokens, options.repeats,
        peaks=peaks, log=print,
    )  # fmt: skip
    kept = json.loads(options.out.read_text()) if options.out.exists() else {}
    timed = {row.model for row in rows}
    others = [row for row in kept.get("speed", []) if row["model"] not in timed]
    ratios = {}
    for name in options.models.split(","):
        first = {row.model: row for row in rows if row.batch == batches[0]}
        plain = first[f"{name} bf16"].tpot_seconds
        ratios[name] = {
            kind: plain / first[f"{name} {kind}"].tpot_seconds for kind in inference.KINDS
        }
    record = {
        "created": tracking.utc_now(),
        "threads": torch.get_num_threads(),
        "speed": others + [asdict(row) for row in rows],
        "kernels": kept.get("kernels", {}) | used,
        "memory_bytes": kept.get("memory_bytes", {})
        | {name: inference.memory_bytes(model) for name, model in models.items()},
        "peaks": kept.get("peaks", {}) | {name: asdict(peak) for name, peak in peaks.items()},
        "times_as_fast_as_bf16_at_the_first_batch": kept.get(
            "times_as_fast_as_bf16_at_the_first_batch", {}
        )
        | ratios,
        "machine": hardware(),
        "versions": tracking.versions(),
    }
    tracking.write_json(options.out, record)
    print(json.dumps(ratios, indent=1))


if __name__ == "__main__":
    main()
