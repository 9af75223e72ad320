"""One training step under torch's profiler, with its regions marked."""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.profiler import ProfilerActivity, profile, record_function

from x1lib.ladder.accounting import MARK, account
from x1lib.train import gradients, update

STEPS = 3  # recorded, of which the shortest is shown


def profile_step(climber) -> dict:
    """Record steps of a climber's rung on the first batch; returns what `account` says of one.

    Eager steps are marked inside: attention, and the loss apart from the rest of the forward
    pass. A compiled forward pass is one region. On a card each region waits for its kernels, so
    that a kernel's time says which region it is of.
    """
    bench, eager = climber.bench, not climber.rung.compile
    rows = bench.rows(0)
    if eager:
        forward = _eager(climber.forward, bench.synchronise)
    else:
        forward = _marked("forward and loss", climber.forward, bench.synchronise)

    def step() -> float:
        bench.synchronise()
        start = time.perf_counter()
        with record_function(MARK + "step"):
            with record_function(MARK + "gradients"):
                micro = climber.plan.micro_batch
                found = gradients(forward, climber.params, rows, micro, bench.config.clip)
                bench.synchronise()
            with record_function(MARK + "optimizer"):
                update(climber, climber.optimizer)
                bench.synchronise()
        seconds = time.perf_counter() - start
        bench.agreement.check(climber.rung, 0, *found)  # marks may not change what is computed
        return seconds

    kinds = [ProfilerActivity.CPU]
    if bench.machine.device == "cuda":
        kinds.append(ProfilerActivity.CUDA)
    with _attention_marked(climber.forward if eager else None), _backward_marked(bench.synchronise):
        unprofiled = [step() for _ in range(1 + STEPS)][1:]
        with profile(activities=kinds) as recorded:
            profiled = [step() for _ in range(STEPS)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        recorded.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
    return {
        "unprofiled_seconds": min(unprofiled),  # the same steps just before, with their marks
        "wall_seconds": min(profiled),
        "batch_tokens": rows.shape[0] * (rows.shape[1] - 1),
        "passes": -(-len(rows) // climber.plan.micro_batch),
        **account(events),
    }


def _marked(name: str, function: Callable, after: Callable = lambda: None) -> Callable:
    def marked(*args, **kwargs):
        with record_function(MARK + name):
            result = function(*args, **kwargs)
            after()
        return result

    return marked


def _eager(model, after: Callable) -> Callable:
    """The model's own forward pass in two marked parts: to the logits, and their loss."""
    logits, loss = _marked("forward", model, after), _marked("loss", F.cross_entropy, after)
    return lambda inputs, targets: loss(logits(inputs).flatten(0, 1), targets.flatten())


@contextlib.contextmanager
def _attention_marked(model) -> Iterator[None]:
    """Within it, the attention kernel of each block of a model is marked."""
    layers = [block.attention for block in model.blocks] if model else []
    kernels = [layer.kernel for layer in layers]
    for layer in layers:
        layer.kernel = _marked("attention", layer.kernel)
    try:
        yield
    finally:
        for layer, kernel in zip(layers, kernels, strict=True):
            layer.kernel = kernel


@contextlib.contextmanager
def _backward_marked(synchronise: Callable) -> Iterator[None]:
    """Within it, the trainer's call of Tensor.backward is marked; a card is waited for."""
    plain = torch.Tensor.backward
    torch.Tensor.backward = _marked("backward", plain, synchronise)
    try:
        yield
    finally:
        torch.Tensor.backward = plain
