"""Train a small model for real while six things happen to it, and leave the log without a word.

    python experiments/benchmarks/make_reading_log.py --out experiments/reference/reading-log

Notebook 05 is read against this log. Its columns are those that any trainer prints; what was done,
and at which step, stands in truth.json beside it. The model and the optimiser's step are those of
x1lib.train. Single-threaded and seeded: the same machine and versions give the same losses.
"""

from __future__ import annotations

import argparse
import copy
import csv
import json
import lzma
import time
from pathlib import Path

import numpy as np
import torch

from x1lib.data import load_tokenizer
from x1lib.stability import Injection
from x1lib.tracking import git_state, utc_now, versions, write_json
from x1lib.train import GPT, Config, gradients, make_optimizer

TEXT = Path(__file__).resolve().parents[2] / "x1lib/data/assets/public_domain.jsonl.xz"
FIRST, SECOND = "austen", "sotu"  # novels, then presidents' speeches
SEQ_LEN, PEAK_LR, WEIGHT_DECAY = 128, 6e-3, 0.1
STEPS, WARMUP, COOLDOWN = 1_000, 80, 200
RAMP = {1: 2, 121: 4, 201: 8}  # sequences in a batch, from that step on
BOUNDARY = 461  # the first step that reads SECOND
BAD_BATCH = "corrupt-data@381:1,steps=1,kind=1"
BAD_RATE = "lr-too-high@641:12,steps=4"
KILLED, RESUMED_FROM = 747, 720  # the state that was saved last; the loader's place was not
MOST_CHARACTERS = 4_000_000  # of each source: more than is read
SEED = 5


class Reader:
    """Windows of one source's tokens in random order; another seed is another order."""

    def __init__(self, tokens: np.ndarray, seed: int):
        self.tokens, self.place = tokens, 0
        self.order = np.random.default_rng(seed).permutation((len(tokens) - 1) // SEQ_LEN)

    def batch(self, n: int) -> torch.Tensor:
        chosen = self.order[self.place : self.place + n]
        self.place += n
        rows = [self.tokens[i * SEQ_LEN : (i + 1) * SEQ_LEN + 1] for i in chosen]
        return torch.from_numpy(np.stack(rows).astype(np.int64))


def rate(step: int) -> float:
    """The learning rate of a step, from 1: linear up, flat, linear down."""
    return PEAK_LR * min(1.0, step / WARMUP, (STEPS - step + 1) / COOLDOWN)


def read(source: str, tokenizer) -> np.ndarray:
    with lzma.open(TEXT, "rt") as file:
        texts = [one["text"] for line in file if (one := json.loads(line))["source"] == source]
    while sum(map(len, texts)) > MOST_CHARACTERS:
        texts.pop()
    return np.concatenate([np.asarray(ids) for ids in tokenizer.encode_batch(texts)])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    tokenizer = load_tokenizer("bpe4096")
    texts = {source: read(source, tokenizer) for source in (FIRST, SECOND)}
    config = Config(shape="3x64:2/1:192", seq_len=SEQ_LEN, steps=STEPS, seed=SEED)
    model = GPT(config, tokenizer.vocab_size)
    optimizer = make_optimizer(model, config, fused=False)
    params = list(model.parameters())
    bad_batch, bad_rate = Injection.parse(BAD_BATCH), Injection.parse(BAD_RATE)
    readers = {source: Reader(tokens, SEED) for source, tokens in texts.items()}
    rows, tokens, step, clock, saved, killed = [], 0, 0, 0.0, None, False
    while step < STEPS:
        step += 1
        begun = time.perf_counter()
        n = RAMP[max(first for first in RAMP if first <= step)]
        batch = readers[SECOND if step >= BOUNDARY else FIRST].batch(n)
        if step == bad_batch.step:
            shape = tuple(batch.shape)
            noise = np.random.default_rng(SEED).integers(0, tokenizer.vocab_size, shape)
            batch = torch.from_numpy(noise)
        loss, norm = gradients(model, params, batch, n, config.clip)
        lr = rate(step) * bad_rate.lr_factor(step)
        for group in optimizer.param_groups:
            group["lr"], group["weight_decay"] = lr, WEIGHT_DECAY * group["decay_scale"]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        tokens += n * SEQ_LEN
        clock += time.perf_counter() - begun
        rows.append((f"{clock:.2f}", step, tokens, f"{loss:.4f}", f"{norm:.3f}", f"{lr:.6f}"))
        if step == RESUMED_FROM and saved is None:
            saved = copy.deepcopy((model.state_dict(), optimizer.state_dict(), tokens))
        if step == KILLED and not killed:
            killed, step = True, RESUMED_FROM
            model.load_state_dict(saved[0])
            optimizer.load_state_dict(saved[1])
            tokens = saved[2]
            readers[SECOND] = Reader(texts[SECOND], SEED + 1)
    out.mkdir(parents=True, exist_ok=True)
    with (out / "log.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("seconds", "step", "tokens", "loss", "grad_norm", "lr"))
        writer.writerows(rows)
    truth = {
        "steps": STEPS,
        "warmup_steps": WARMUP,
        "batch_tokens_from_step": {str(s): n * SEQ_LEN for s, n in RAMP.items()},
        "first_step_of_second_source": BOUNDARY,
        "sources": [FIRST, SECOND],
        "bad_batch_step": bad_batch.step,
        "bad_rate_steps": [bad_rate.step, bad_rate.step + bad_rate.steps - 1],
        "bad_rate_factor": bad_rate.strength,
        "killed_after_step": KILLED,
        "resumed_from_step": RESUMED_FROM,
        "loader_restored": False,
        "cooldown_from_step": STEPS - COOLDOWN + 1,
    }
    made = {"made": utc_now(), "command": "python experiments/benchmarks/make_reading_log.py"}
    write_json(
        out / "truth.json",
        {**truth, **made, "seed": SEED, "versions": versions(), "git": git_state()},
    )
    print(f"{len(rows)} lines; the last loss is {rows[-1][3]}")


if __name__ == "__main__":
    main()
