"""What the rungs are measured with: the trainer's own step on each, and what they share."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace

import torch

from x1lib import runtime
from x1lib.ladder.rungs import Agreement, Models, Rung
from x1lib.ladder.settings import Settings
from x1lib.pacing import Schedule
from x1lib.planning import Plan, largest_divisor
from x1lib.session import opening
from x1lib.shapes import resolve
from x1lib.train import gradients, make_optimizer, update

WARM_UP_STEPS = 2  # the first compiles and touches memory, the second may still allocate


class Climber:
    """A rung being measured: its model, and the trainer's own step on it at learning rate 0.

    At rate 0 the optimiser does all its work and leaves the weights alone, so that every step of
    every rung must give the same loss on the same batch.
    """

    def __init__(self, rung: Rung, bench: Bench):
        self.rung, self.bench, self.step, self.sample = rung, bench, 0, 0
        model = bench.models.build(rung)
        self.params = list(model.parameters())
        self.forward = torch.compile(model, dynamic=False) if rung.compile else model
        key = id(model.embedding.weight)  # rungs on the same weights share their moments too
        if key not in bench.optimizers:
            fused = bench.machine.fused_adamw
            bench.optimizers[key] = make_optimizer(model, bench.config, fused)
        self.optimizer = bench.optimizers[key]
        window, batch = bench.config.window, bench.batch_size
        micro = largest_divisor(batch, bench.micro_limit)
        self.plan = Plan(window, batch, micro, 0.0, 0.0, 0.0, Schedule.of(1, 0, 0))
        self.first_seconds, self.latest, self.peak_memory_bytes = math.nan, math.nan, None
        self.seconds: dict[int, float] = {}  # of timed steps, by round
        self.first_loss = self.first_norm = None

    def take_step(self) -> float:
        """One training step; returns its seconds. Raises WrongRung where its loss is not ours."""
        bench, sample = self.bench, self.sample
        bench.synchronise()
        start = time.perf_counter()
        rows, clip = bench.rows(sample), bench.config.clip
        loss, norm = gradients(self.forward, self.params, rows, self.plan.micro_batch, clip)
        update(self, self.optimizer)
        bench.synchronise()
        seconds = time.perf_counter() - start
        bench.agreement.check(self.rung, sample, loss, norm)
        if self.first_loss is None:
            self.first_loss, self.first_norm = loss, norm
        return seconds

    def warm_up(self) -> None:
        """The untimed steps, with a smaller micro-batch where memory is short."""
        self.start_turn()
        for _ in range(WARM_UP_STEPS):
            self.latest = self.take_fitting_step()
            if math.isnan(self.first_seconds):
                self.first_seconds = self.latest
            if self.bench.seconds_left <= 0:
                break
        self.end_turn()

    def take_fitting_step(self) -> float:
        """take_step, with smaller micro-batches, at an equal batch, while memory is short.

        Raises NoMemoryError when one sequence does not fit.
        """
        while True:
            micro = self.plan.micro_batch
            try:
                return self.take_step()
            except (RuntimeError, MemoryError) as error:
                if not runtime.is_out_of_memory(error):
                    raise
                if micro == 1:
                    raise runtime.NoMemoryError(
                        f"rung {self.rung.name!r}: one sequence of {self.plan.window} tokens does"
                        " not fit in memory; give a smaller --seq-len or --shape, or leave it out"
                    ) from error
            for p in self.params:
                p.grad = None
            smaller = largest_divisor(self.plan.batch_size, micro // 2)
            self.plan = replace(self.plan, micro_batch=smaller)
            self.seconds.clear()  # those of larger passes
            self.bench.log(f"out of memory: {smaller} sequences a pass, not {micro}")

    def start_turn(self) -> None:
        runtime.make_deterministic(self.rung.deterministic)
        if self.bench.machine.device == "cuda":
            torch.cuda.reset_peak_memory_stats()

    def end_turn(self) -> None:
        if self.bench.machine.device == "cuda":
            peak = runtime.peak_memory_bytes(self.bench.machine)
            self.peak_memory_bytes = max(peak, self.peak_memory_bytes or 0)


class Bench:
    """What all rungs share: text, machine, weights, and the clock of the measurement."""

    def __init__(self, settings: Settings, log: Callable[[str], None]):
        self.log, self.began = log, time.monotonic()
        self.total_seconds = 60 * settings.minutes
        config = settings.trainer_config(0)
        self.shards, _ = opening.open_data(config, log)
        self.shape = resolve(config, self.shards.vocab_size)
        self.machine = runtime.choose_machine(
            config.device, config.dtype, config.attention, config.compile, config.deterministic,
            config.threads, hours=math.inf, total_flops=math.inf,  # compiling is what we measure
        )  # fmt: skip
        self.batch_size = settings.batch_size(self.machine.device, config.window)
        self.config = settings.trainer_config(self.batch_size * config.window)
        runtime.make_deterministic(settings.deterministic)
        if self.machine.device == "cpu":
            runtime.keep_freed_memory()
        given = settings.peak_flops_per_sec, "given"
        self.peak_flops, self.peak_source = given if given[0] else runtime.peak_flops(self.machine)
        self.micro_limit = runtime.micro_batch_limit(self.machine, self.shape, config.window)
        self.models = Models(self.config, self.shards.vocab_size, self.machine.device)
        self.optimizers, self.agreement, self.n_rounds = {}, Agreement(), 0

    @property
    def used_seconds(self) -> float:
        return time.monotonic() - self.began

    @property
    def seconds_left(self) -> float:
        return self.total_seconds - self.used_seconds

    def rows(self, sample: int) -> torch.Tensor:
        """The batch [batch, seq + 1] that starts at a sample."""
        config = self.config
        rows = self.shards.batch(sample, self.batch_size, config.window, config.seed)[0]
        return torch.from_numpy(rows)

    def synchronise(self) -> None:
        """Wait until the device has done what it was given."""
        if self.machine.device != "cpu":
            getattr(torch, self.machine.device).synchronize()
