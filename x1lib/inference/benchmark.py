"""Prefill and decoding, timed apart, batch by batch until more texts bring no more tokens.

Models take turns at every batch, so that a busy moment hits them all; the first turn of each is
warm-up and not counted; what is told is the median.
"""

from __future__ import annotations

import math
import statistics
import time
from dataclasses import asdict, dataclass

import torch

from x1lib.inference.decoder import Decoder
from x1lib.inference.errors import InferenceError
from x1lib.inference.roofline import Peak, Work, machine_peaks, synchronize, work_of

GAIN = 1.10  # a batch that brings less than this over the best one before brings nothing
PATIENCE = 2  # batches in a row that bring nothing: saturation, and not one busy moment


@dataclass(frozen=True)
class Measured:
    """One model at one batch; seconds are medians over `repeats` turns, warm-up left out."""

    model: str
    batch: int
    prompt_tokens: int  # of each text
    new_tokens: int  # of each text, timed
    repeats: int
    ttft_seconds: float  # the prompts read and each text's first token there
    ttft_spread: tuple[float, float]
    prefill_tokens_per_sec: float
    tpot_seconds: float  # a step: one more token of every text
    tpot_spread: tuple[float, float]
    tokens_per_sec: float  # of all texts, decoding alone
    bytes_per_step: float  # weights and cache that a step must read
    bytes_per_sec: float
    bandwidth_use: float  # of the peak
    roofline_seconds: float  # of a step
    roofline_share: float  # roofline_seconds / tpot_seconds
    bound: str  # memory or arithmetic, by the roofline

    def as_dict(self) -> dict:
        return asdict(self)


@torch.no_grad()
def decode_benchmark(
    models: dict[str, object],
    batches: tuple[int, ...] = (1, 2, 4, 8, 16, 32),
    prompt_tokens: int = 64,
    new_tokens: int = 16,
    repeats: int = 5,
    max_seconds: float = math.inf,
    peaks: dict[str, Peak] | None = None,
    log=lambda line: None,
) -> list[Measured]:
    """Time each model at each batch, ascending, until its tokens per second stop to rise.

    models: name -> Decoder or model of transformers, full or quantised. A text is a prompt of
    prompt_tokens random tokens and new_tokens more, always the likeliest. Saturated is a model that
    twice in a row gave under 1.1 times the most tokens a second so far. max_seconds: no further
    batch is begun after so long. peaks: name -> Peak; measured where None. Raises InferenceError.
    """
    if not models or new_tokens < 1 or prompt_tokens < 1 or repeats < 1:
        raise InferenceError("nothing to time; give models, and numbers of 1 or more")
    if not batches or any(not isinstance(n, int) or n < 1 for n in batches):
        raise InferenceError(f"batches is {batches!r}; give whole numbers of 1 or more")
    begun, found = time.monotonic(), []
    best, idle = dict.fromkeys(models, 0.0), dict.fromkeys(models, 0)
    peaks = peaks or machine_peaks(models)
    works = {name: work_of(model) for name, model in models.items()}
    alive = list(models)
    for batch in sorted(set(batches)):
        if not alive or (found and time.monotonic() - begun > max_seconds):
            break
        turns = {name: [] for name in alive}
        for turn in range(repeats + 1):
            for name in list(turns):
                try:
                    timed = _turn(models[name], batch, prompt_tokens, new_tokens)
                except torch.OutOfMemoryError:
                    log(f"{name}: batch {batch} does not fit in memory")
                    turns.pop(name)
                    continue
                if turn:
                    turns[name].append(timed)
        rows = [
            _measured(name, batch, prompt_tokens, new_tokens, timed, works[name], peaks[name])
            for name, timed in turns.items()
        ]
        for row in rows:
            log(
                f"{row.model}, batch {batch}: {row.tokens_per_sec:,.0f} tokens/s,"
                f" {1e3 * row.tpot_seconds:.2f} ms a step, first token after"
                f" {1e3 * row.ttft_seconds:.0f} ms, {row.bandwidth_use:.0%} of the bandwidth"
            )
        found += rows
        for row in rows:
            gained = row.tokens_per_sec > GAIN * best[row.model]
            idle[row.model] = 0 if gained else idle[row.model] + 1
            best[row.model] = max(best[row.model], row.tokens_per_sec)
        alive = [row.model for row in rows if idle[row.model] < PATIENCE]
    return found


def _turn(model, batch: int, prompt_tokens: int, new_tokens: int) -> tuple[float, float]:
    """Seconds to the first tokens, and seconds a step after them."""
    device = next(iter(model.state_dict().values())).device
    vocab = model.shape.vocab_size if isinstance(model, Decoder) else model.config.vocab_size
    generator = torch.Generator().manual_seed(batch)
    prompt = torch.randint(0, vocab, (batch, prompt_tokens), generator=generator).to(device)
    total = prompt_tokens + new_tokens
    synchronize(device.type)
    start = time.perf_counter()
    token, cache = _prefill(model, prompt, total)
    synchronize(device.type)
    first = time.perf_counter()
    for _ in range(new_tokens):
        token, cache = _step(model, token, cache)
    synchronize(device.type)
    return first - start, (time.perf_counter() - first) / new_tokens


def _prefill(model, prompt: torch.Tensor, total: int):
    if isinstance(model, Decoder):
        logits, cache = model.prefill(prompt, total)
        return logits.argmax(-1), cache
    # Not logits_to_keep=1: torch copies the whole head to multiply a slice that is not contiguous.
    out = model.base_model(prompt, use_cache=True)
    logits = model.get_output_embeddings()(out.last_hidden_state[:, -1].contiguous())
    return logits.argmax(-1), out.past_key_values


def _step(model, token: torch.Tensor, cache):
    if isinstance(model, Decoder):
        return model.step(token, cache).argmax(-1), cache
    out = model(token[:, None], past_key_values=cache, use_cache=True)
    return out.logits[:, -1].argmax(-1), out.past_key_values


def _measured(
    name: str, batch: int, prompt: int, new: int, timed: list, work: Work, peak: Peak
) -> Measured:
    firsts, steps = ([float(s) for s in column] for column in zip(*timed, strict=True))
    first, step = statistics.median(firsts), statistics.median(steps)
    context = prompt + (new + 1) // 2  # the mean over the timed steps
    n_bytes = work.step_bytes(batch, context)
    bound_seconds = work.step_seconds(batch, context, peak)
    return Measured(
        model=name,
        batch=batch,
        prompt_tokens=prompt,
        new_tokens=new,
        repeats=len(timed),
        ttft_seconds=first,
        ttft_spread=(min(firsts), max(firsts)),
        prefill_tokens_per_sec=batch * prompt / first,
        tpot_seconds=step,
        tpot_spread=(min(steps), max(steps)),
        tokens_per_sec=batch / step,
        bytes_per_step=n_bytes,
        bytes_per_sec=n_bytes / step,
        bandwidth_use=n_bytes / step / peak.bytes_per_sec,
        roofline_seconds=bound_seconds,
        roofline_share=bound_seconds / step,
        bound=work.bound(batch, context, peak),
    )


def best_batch(rows: list[Measured], model: str) -> Measured:
    """The batch at which a model gave the most tokens a second."""
    mine = [row for row in rows if row.model == model]
    if not mine:
        raise InferenceError(f"{model!r} was not measured; there are "
                             f"{', '.join(sorted({row.model for row in rows}))}")  # fmt: skip
    return max(mine, key=lambda row: row.tokens_per_sec)
