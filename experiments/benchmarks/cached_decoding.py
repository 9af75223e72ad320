"""How much faster is decoding with a cache? The `50m` shape, 256 tokens, one thread.

    python experiments/benchmarks/cached_decoding.py [--shape 50m] [--tokens 256] [--turns 3]

Three ways take turns: over the cache; without it, scoring the last position alone; without it, as
the trainer's own sampler does, scoring every position. Weights are random; all three say the same
tokens in float32, which is asserted on a short text. The goal is 5 times at 256
tokens. Over a cache every step reads all weights, so that it waits for memory; without one it waits
for arithmetic. On a machine whose memory others use too the ratio is therefore too low.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import torch

from x1lib import inference, tracking
from x1lib.runtime.hardware import hardware
from x1lib.train import GPT, Config

ROOT = Path(__file__).resolve().parents[2]
RECORD = ROOT / "experiments" / "reference" / "inference-cost" / "cached-decoding.json"
GOAL = 5.0


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", default="50m")
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RECORD)
    options = parser.parse_args()
    torch.set_num_threads(1)
    config = Config(steps=1, shape=options.shape, seq_len=options.tokens)
    model = GPT(config, dtype=torch.bfloat16).eval()
    decoder = inference.Decoder(model, torch.bfloat16)
    used = inference.use_kernels(decoder)
    exact = inference.Decoder(model, torch.float32)
    said = inference.greedy(exact, [1], 24)
    assert said == inference.greedy_without_cache(exact, [1], 24), "the cache changed what is said"
    n = options.tokens - 1
    ways = {
        "cache": lambda: inference.greedy(decoder, [1], n),
        "no cache, last position scored": lambda: inference.greedy_without_cache(decoder, [1], n),
        "no cache, all positions scored": lambda: inference.greedy_without_cache(model, [1], n),
    }
    inference.greedy(decoder, [1], 8)  # warm-up
    seconds = {name: [] for name in ways}
    for turn in range(options.turns):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - start)
            print(f"turn {turn + 1}, {name}: {seconds[name][-1]:.2f} s", flush=True)
    medians = {name: statistics.median(taken) for name, taken in seconds.items()}
    ratios = {name: taken / medians["cache"] for name, taken in medians.items() if name != "cache"}
    record = {
        "created": tracking.utc_now(),
        "shape": options.shape,
        "tokens": options.tokens,
        "threads": 1,
        "products": used,
        "seconds": seconds,
        "times_as_fast": ratios,
        "goal": GOAL,
        "met": {name: ratio >= GOAL for name, ratio in ratios.items()},
        "machine": hardware(),
        "versions": tracking.versions(),
    }
    tracking.write_json(options.out, record)
    print({name: round(ratio, 2) for name, ratio in ratios.items()})


if __name__ == "__main__":
    main()
