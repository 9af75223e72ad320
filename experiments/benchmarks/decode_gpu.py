"""One lease of a GPU: `50m` and `240m` trained for minutes, then decoded, priced, and written down.

    python experiments/benchmarks/decode_gpu.py --usd-per-hour 1.10 [--source TEXT] [--minutes 5]
    python experiments/benchmarks/decode_gpu.py --device cpu --shapes 1x64 --steps 3 --out x.json

bf16, int8 and int4, a sweep of batches, and batch 1 with and without a CUDA graph: there a step is
some hundred launches of kernels that each take less time than the launch; a graph launches them all
at once. Predicted before anything runs, and written first: see PREDICTED. What this machine cannot
do (a kernel, a graph) is null with the reason. **Not run on a GPU yet.**
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import torch

from x1lib import inference, launch, tracking
from x1lib.inference.roofline import synchronize
from x1lib.runtime.hardware import hardware
from x1lib.train import Config, train

ROOT = Path(__file__).resolve().parents[2]
RECORD = ROOT / "experiments" / "reference" / "inference-cost" / "decode-gpu.json"
PREDICTED = {
    "graph_speedup_batch_1": {"50m": 4.0, "240m": 4.0},
    "why_graph": "about 25 launches a layer of 5 to 10 microseconds; reading takes 0.1 to 0.3 ms",
    "int4_over_bf16_batch_1_without_graph": 1.0,
    "int4_over_bf16_batch_1_with_graph": 2.0,
    "int4_over_bf16_batch_256": 0.8,
    "why_int4": "launches hide the bytes; a graph shows them; at 256 texts decoding codes costs",
}


class Graph:
    """One step at a fixed batch as a CUDA graph, over a static cache."""

    def __init__(self, decoder, batch: int, prompt: torch.Tensor, total: int) -> None:
        logits, self.cache = decoder.prefill(prompt, total, static=True)
        self.token, self.decoder = logits.argmax(-1), decoder
        length, position = self.cache.length, self.cache.position.clone()
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # warm-up outside the capture, as torch asks for
            for _ in range(2):
                decoder.step(self.token, self.cache)
        torch.cuda.current_stream().wait_stream(side)
        self._rewind(length, position)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.logits = decoder.step(self.token, self.cache)
            self.token.copy_(self.logits.argmax(-1))
        self._rewind(length, position)

    def _rewind(self, length: int, position: torch.Tensor) -> None:
        self.cache.length = length
        self.cache.position.copy_(position)

    def step(self) -> None:
        self.graph.replay()


@torch.no_grad()
def graphs(decoder, device: str, n_prompt: int, n_new: int, turns: int) -> dict:
    """Seconds a step at batch 1, with a CUDA graph and without, in turn; None without one."""
    prompt = torch.arange(n_prompt, device=device)[None] % decoder.shape.vocab_size
    total = n_prompt + n_new + 4
    seconds, why = {"eager": [], "graph": []}, None
    try:
        graph = Graph(decoder, 1, prompt, total) if device == "cuda" else None
        why = None if graph else f"a CUDA graph wants a CUDA device, and this is {device}"
    except RuntimeError as error:
        graph, why = None, str(error).splitlines()[0]
    for _ in range(turns + 1):
        logits, cache = decoder.prefill(prompt, total, static=True)
        token = logits.argmax(-1)
        synchronize(device)
        start = time.perf_counter()
        for _ in range(n_new):
            token = decoder.step(token, cache).argmax(-1)
        synchronize(device)
        seconds["eager"].append((time.perf_counter() - start) / n_new)
        if graph:
            graph.cache.position.fill_(n_prompt)
            synchronize(device)
            start = time.perf_counter()
            for _ in range(n_new):
                graph.step()
            synchronize(device)
            seconds["graph"].append((time.perf_counter() - start) / n_new)
    eager = statistics.median(seconds["eager"][1:])
    fast = statistics.median(seconds["graph"][1:]) if graph else None
    return {
        "eager_seconds": eager,
        "graph_seconds": fast,
        "graph_speedup": eager / fast if fast else None,
        "status": why,
    }


def measure(shape: str, options, work: Path) -> dict:
    """Train one shape, quantise it, and time it."""
    end = {"steps": options.steps} if options.steps else {"hours": options.minutes / 60}
    config = Config(
        out=str(work / shape.replace("/", "-")), shape=shape, source=options.source, seed=0,
        device=options.device, sample_tokens=0, **end,
    )  # fmt: skip
    manifest = train(config)
    folder = Path(config.out)
    model = inference.load_checkpoint(folder / "checkpoint")
    base = inference.Decoder(model, torch.bfloat16, options.max_tokens).to(options.device)
    exact = inference.Decoder(model, torch.float32).to(options.device)
    shards, words = launch.open_text(config)
    lost = inference.quality(
        {"full": exact} | {kind: inference.quantize(exact, kind) for kind in inference.KINDS},
        shards.heldout("documents"), words.token_bytes, model.config.window, max_tokens=50_000,
    )  # fmt: skip
    models, kernels = {f"{shape} bf16": base}, {}
    for kind in inference.KINDS:
        models[f"{shape} {kind}"] = inference.quantize(base, kind)
        kernels[kind] = inference.use_kernels(models[f"{shape} {kind}"])
    batches = tuple(int(n) for n in options.batches.split(","))
    rows = inference.decode_benchmark(
        models, batches, options.prompt_tokens, options.new_tokens, options.repeats, log=print
    )
    sized = (options.prompt_tokens, options.new_tokens, options.repeats)
    launches = {name: graphs(m, options.device, *sized) for name, m in models.items()}
    prices = {}
    if options.usd_per_hour:
        for name in models:
            best = inference.best_batch(rows, name)
            usd = inference.usd_per_million_tokens(best.tokens_per_sec, options.usd_per_hour)
            prices[name] = {"batch": best.batch, "usd_per_million_tokens": usd, "utilisation": 1.0}
    return {
        "tokens": manifest["tokens"],
        "tokens_per_param": manifest["tokens"] / manifest["n_params"]["total"],
        "mfu": manifest["mfu"],
        "quality": {name: asdict(q) | {"rise": q.rise(lost["full"])} for name, q in lost.items()},
        "kernels": kernels,
        "speed": [asdict(row) for row in rows],
        "batch_1": launches,
        "prices": prices,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--shapes", default="50m,240m")
    parser.add_argument("--source", default="embedded")
    parser.add_argument("--minutes", type=float, default=5.0, help="of training, each shape")
    parser.add_argument("--steps", type=int, default=0, help="of training, in place of minutes")
    parser.add_argument("--batches", default="1,2,4,8,16,32,64,128,256,512")
    parser.add_argument("--prompt-tokens", type=int, default=512)
    parser.add_argument("--new-tokens", type=int, default=128)
    parser.add_argument("--max-tokens", type=int, default=1024, help="positions of the cache")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--usd-per-hour", type=float, default=0.0)
    parser.add_argument("--out", type=Path, default=RECORD)
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("no CUDA device is here; --device cpu tries the path at a small size")
    record = {
        "predicted": PREDICTED,
        "predicted_at": tracking.utc_now(),
        "machine": hardware(),
        "versions": tracking.versions(),
        "usd_per_hour": options.usd_per_hour or None,
        "shapes": {},
        "speed": [],
    }
    tracking.write_json(options.out, record)
    with tempfile.TemporaryDirectory() as work:
        for shape in options.shapes.split(","):
            found = measure(shape, options, Path(work))
            record["shapes"][shape] = found
            record["speed"] += found["speed"]
            tracking.write_json(options.out, record)  # a lease may end at any moment


if __name__ == "__main__":
    main()
