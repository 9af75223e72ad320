"""Our trainer beside karpathy/nanoGPT's train.py, in turn, on the same text, machine and torch.

    git clone https://github.com/karpathy/nanoGPT /somewhere/nanoGPT
    python experiments/benchmarks/nanogpt.py --nanogpt /somewhere/nanoGPT --out speed.json

Two shapes: the CPU example of nanoGPT's README (4 layers, 4 heads, 128 wide, block 64, batch 12),
and 6 x 384 (6 heads, block 256, batch 16). Both compile, both read the same tokens (the course's
small tokeniser), one thread each. First the speed: medians of the steps of each turn, turns
interleaved. Then the held-out loss after equal seconds of training, compiling excluded for both:
nanoGPT with the learning rates of its config/train_shakespeare_char.py, ours with its defaults.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from x1lib import data, tracking
from x1lib.data.sources import open_source
from x1lib.train import Config, evaluate

ROOT = Path(__file__).resolve().parents[2]
SHAPES = {  # name: layers, heads, width, block, batch, steps of a speed turn
    "4x128": (4, 4, 128, 64, 12, 80),
    "6x384": (6, 6, 384, 256, 16, 12),
}
UNTIMED = 4  # steps: compiling and first touches of memory
D_FF = {"4x128": 341, "6x384": 1024}  # SwiGLU at 8/3 of the width: the weights of GPT-2's MLP


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--nanogpt", type=Path, required=True, help="a clone of karpathy/nanoGPT")
    parser.add_argument("--turns", type=int, default=5, help="of each side, interleaved")
    parser.add_argument("--seconds", type=float, default=60.0, help="of training for the loss")
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES), choices=SHAPES)
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = make_data(Path(scratch), arguments.nanogpt)
        results = {"torch": torch.__version__, "cpu": cpu_name(), "threads": 1}
        for name in arguments.shapes:
            results[name] = compare(name, arguments, folder, Path(scratch))
            if arguments.out:
                tracking.write_json(arguments.out, results)
    print(json.dumps(results, indent=1))


def compare(name: str, arguments, folder: Path, scratch: Path) -> dict:
    """Speed in interleaved turns, then the loss after equal seconds."""
    *_, block, batch, steps = SHAPES[name]
    ours, theirs = [], []
    for turn in range(arguments.turns):
        theirs.append(nanogpt(name, steps, arguments.nanogpt, scratch)[0])
        ours.append(x1(name, steps, folder, scratch / f"{name}-{turn}")[0])
        print(
            f"{name} turn {turn}: nanoGPT {theirs[-1]:.4f} s/step, ours {ours[-1]:.4f}", flush=True
        )
    seconds = {"nanogpt": statistics.median(theirs), "x1": statistics.median(ours)}
    n_steps = {side: round(arguments.seconds / s) for side, s in seconds.items()}
    _, loss_theirs = nanogpt(name, n_steps["nanogpt"], arguments.nanogpt, scratch, folder)
    _, loss_ours = x1(name, n_steps["x1"], folder, scratch / f"{name}-loss")
    return {
        "step_seconds": {"nanogpt": theirs, "x1": ours},
        "tokens_per_sec": {side: block * batch / s for side, s in seconds.items()},
        "speed_ratio": seconds["nanogpt"] / seconds["x1"],
        "speed_ratio_of_each_turn": [a / b for a, b in zip(theirs, ours, strict=True)],
        "loss_seconds": arguments.seconds,
        "loss_steps": n_steps,
        "heldout_loss": {"nanogpt": loss_theirs, "x1": loss_ours},
    }


def make_data(scratch: Path, nanogpt_folder: Path) -> Path:
    """The embedded text but for Moby-Dick, as our shards and as nanoGPT's .bin files."""
    text = scratch / "text.jsonl"
    with open(text, "w") as file:
        for document in open_source("embedded").documents():
            if document.source != "moby-dick":
                file.write(json.dumps({"id": document.id, "text": document.text}) + "\n")
    folder = data.prepare(str(text), "bpe4096", root=scratch)
    shards = data.Shards(folder)
    target = nanogpt_folder / "data" / "x1"
    target.mkdir(exist_ok=True)
    blocks = [np.load(folder / block["file"]) for block in shards.blocks]
    np.concatenate(blocks).astype(np.uint16).tofile(target / "train.bin")
    shards.heldout("documents").astype(np.uint16).tofile(target / "val.bin")
    with open(target / "meta.pkl", "wb") as file:
        pickle.dump({"vocab_size": shards.vocab_size}, file)
    return folder


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def x1(name: str, steps: int, folder: Path, out: Path) -> tuple[float, float]:
    """Train ours; returns (median seconds a step, held-out loss)."""
    layers, heads, width, block, batch, _ = SHAPES[name]
    settings = {
        "shape": f"{layers}x{width}:{heads}/{heads}:{D_FF[name]}",
        "source": folder,
        "seq-len": block,
        "batch-tokens": block * batch,
        "steps": steps,
        "out": out,
        "compile": "on",
        "threads": 1,
        "sample-tokens": 0,
        "eval-every": steps,
        "eval-tokens": block,
        "checkpoint-every": steps,
    }
    flags = [str(part) for k, v in settings.items() for part in (f"--{k}", v)]
    run([sys.executable, "-m", "x1lib.train", *flags], cwd=ROOT)
    seconds = [line["step_seconds"] for line in tracking.read_metrics(out, "step")]
    manifest = json.loads((out / "manifest.json").read_text())
    return statistics.median(seconds[UNTIMED:]), manifest["val_loss"]


def nanogpt(name: str, steps: int, repository: Path, scratch: Path, folder: Path | None = None):
    """Train nanoGPT; returns (median seconds a step, held-out loss if `folder` is given)."""
    layers, heads, width, block, batch, _ = SHAPES[name]
    out = scratch / f"nanogpt-{name}"
    settings = {
        "dataset": "x1", "device": "cpu", "compile": True, "dtype": "float32",
        "n_layer": layers, "n_head": heads, "n_embd": width, "block_size": block,
        "batch_size": batch, "gradient_accumulation_steps": 1, "dropout": 0.0, "bias": False,
        "learning_rate": 1e-3, "min_lr": 1e-4, "beta2": 0.99, "warmup_iters": min(100, steps // 10),
        "max_iters": steps, "lr_decay_iters": steps, "eval_interval": steps, "eval_iters": 1,
        "log_interval": 1, "always_save_checkpoint": True, "out_dir": out,
    }  # fmt: skip
    flags = [f"--{k}={v}" for k, v in settings.items()]
    log = run([sys.executable, "train.py", *flags], cwd=repository)
    seconds = [float(ms) / 1e3 for ms in re.findall(r"time ([\d.]+)ms", log)]
    # The last line of the log times the evaluation as well.
    return statistics.median(seconds[UNTIMED:-1]), folder and nanogpt_loss(out, repository, folder)


def nanogpt_loss(out: Path, repository: Path, folder: Path) -> float:
    """nanoGPT's saved weights on our held-out text, by our own `evaluate`."""
    sys.path.insert(0, str(repository))
    from model import GPT as NanoGPT
    from model import GPTConfig

    saved = torch.load(out / "ckpt.pt", weights_only=False)  # written by the process just above
    model = NanoGPT(GPTConfig(**saved["model_args"]))
    model.load_state_dict({k.removeprefix("_orig_mod."): v for k, v in saved["model"].items()})
    shards = data.Shards(folder)
    window = model.config.block_size

    class Adapter(torch.nn.Module):
        config = Config(shape="1x64", seq_len=window, steps=1)
        cos = torch.zeros(())

        def forward(self, inputs, targets, reduction):
            _, mean = model(inputs.contiguous(), targets.contiguous())  # it calls .view
            return mean * targets.numel()

    token_bytes = data.load_tokenizer(shards.tokenizer).token_bytes
    model.eval()
    return evaluate(Adapter(), shards.heldout("documents"), token_bytes)["loss"]


def run(command: list[str], cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, env=environment(), capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return done.stdout


def cpu_name() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else "unknown"


if __name__ == "__main__":
    main()
