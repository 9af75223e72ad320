"""What a setting makes of a log's columns: a batch that grows, a rate that falls as a cosine."""

from __future__ import annotations

import math

import numpy as np


def ramped(
    steps: int, start: int, increment: int, ramp_samples: int, full: int
) -> tuple[np.ndarray, np.ndarray]:
    """Batch of each of `steps` steps, and samples consumed after it, as Megatron ramps a batch up.

    The batch grows from `start` to `full` sequences by `increment`, at equal distances over the
    first `ramp_samples` samples. Source: Megatron-LM, megatron/microbatches.py
    (--rampup-batch-size START INCREMENT SAMPLES).
    """
    per_increment = ramp_samples / ((full - start) / increment)
    batches, samples, seen = np.empty(steps, np.int64), np.empty(steps, np.int64), 0
    for i in range(steps):
        grown = start + int(seen / per_increment) * increment
        batches[i] = full if seen > ramp_samples else min(grown, full)
        seen += batches[i]
        samples[i] = seen
    return batches, samples


def cosine(at: float, peak: float, floor: float, warmup: float, end: float) -> float:
    """The learning rate at a place: linear up to `warmup`, half a cosine down to `end`, flat.

    at, warmup, end: in one unit, be it steps, samples or tokens (Loshchilov & Hutter 2016).
    """
    if at < warmup:
        return peak * at / warmup
    share = min((at - warmup) / (end - warmup), 1.0)
    return floor + 0.5 * (1 + math.cos(math.pi * share)) * (peak - floor)
