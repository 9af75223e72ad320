"""How fast each size trains here: seconds of real steps, in as many processes as will be at work.

python -m x1lib.sweep.probe SECONDS SEQ_LEN SEQUENCES SHAPE [SHAPE ...]
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence

import torch

from x1lib.runtime import keep_freed_memory
from x1lib.sweep.costs import Speed
from x1lib.sweep.design import Design, SweepError
from x1lib.sweep.processes import environment
from x1lib.train import GPT, Config, gradients, make_optimizer

AFTER_START_SECONDS = 2.0  # of a run: text, plan, samples, curve, export; seen on two cores


def probe(design: Design, jobs: int, seconds: float = 10.0) -> Speed:
    """Time steps of every size for about so many seconds, in `jobs` processes at once.

    Raises SweepError when a probe fails.
    """
    r, begun = design.recipe, time.monotonic()
    numbers = [seconds / len(design.sizes), r.seq_len, r.batch_tokens // r.seq_len]
    command = [sys.executable, "-m", "x1lib.sweep.probe", *map(str, numbers), *design.sizes]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    children = [subprocess.Popen(command, env=environment(), **pipes) for _ in range(jobs)]
    try:
        answers = [child.communicate() for child in children]
    finally:
        for child in children:
            child.kill()
    if any(child.returncode for child in children):
        words = next(err for _, err in answers if err)
        raise SweepError(f"the probe failed; it said: {words.strip().splitlines()[-1]}")
    found = [json.loads(out) for out, _ in answers]
    rates = {
        size: sum(one["tokens_per_sec"][i] for one in found) / jobs
        for i, size in enumerate(design.sizes)
    }
    started = (time.monotonic() - begun) - max(one["seconds"] for one in found)
    return Speed(rates, started + AFTER_START_SECONDS, jobs)


def tokens_per_sec(shape: str, seq_len: int, sequences: int, seconds: float) -> float:
    """Training speed of one size on one thread, on random tokens, after one untimed step."""
    config = Config(shape=shape, steps=1, seq_len=seq_len, lr=1e-3)
    model = GPT(config, 4096)
    optimizer, params = make_optimizer(model, config, fused=True), list(model.parameters())
    rows = torch.randint(0, 4096, (sequences, seq_len + 1))

    def step() -> None:
        gradients(model, params, rows, sequences, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    step()
    begun, n_steps = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - begun) < seconds or n_steps < 2:
        step()
        n_steps += 1
    return n_steps * sequences * seq_len / elapsed


def main(argv: Sequence[str]) -> None:
    seconds, seq_len, sequences = float(argv[0]), int(argv[1]), int(argv[2])
    torch.set_num_threads(1)
    keep_freed_memory()
    begun = time.monotonic()
    rates = [tokens_per_sec(shape, seq_len, sequences, seconds) for shape in argv[3:]]
    print(json.dumps({"tokens_per_sec": rates, "seconds": time.monotonic() - begun}))


if __name__ == "__main__":
    main(sys.argv[1:])
