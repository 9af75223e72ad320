"""A fault put into a run on purpose: into its batches, its losses or its optimiser's steps."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch

from x1lib.stability import Injection, StabilityError, rarest


class Injector:
    """What a run's `inject` setting does to it, if it is set: the same whenever a step is made.

    .first_sample: number of the first sample of the batch at the fault's step, where it is not the
    one that the run comes to by itself (a replay of other batches must not take the fault along).
    """

    def __init__(self, config, shards):
        self.injection = Injection.parse(config.inject) if config.inject else None
        self.first_sample: int | None = None
        self._shards, self._seed = shards, config.seed

    @cached_property
    def _rare(self) -> np.ndarray:
        # Of the first block alone: a writer may still be appending others.
        entry = self._shards.blocks[0]
        tokens = np.load(self._shards.folder / entry["file"], mmap_mode="r")
        return rarest(np.bincount(tokens, minlength=self._shards.vocab_size))

    def check_within(self, first_step: int, total_steps: int) -> None:
        """Raise StabilityError for a fault that the steps after `first_step` do not hold whole."""
        one = self.injection
        if one is not None and not first_step < one.first_step <= one.step <= total_steps:
            raise StabilityError(
                f"inject is {one.spec!r}, from step {one.first_step:,} on; the steps of this"
                f" run are {first_step + 1:,} to {total_steps:,}: give one of them, or train longer"
            )

    def sample_of(self, run) -> int:
        """The first sample of the batch at the fault's step, in the order that `run` reads."""
        if self.first_sample is not None:
            return self.first_sample
        return run.sample + (self.injection.step - 1 - run.step) * run.plan.batch_size

    def batch(self, run, tokens: np.ndarray, ids: np.ndarray) -> tuple[torch.Tensor, float]:
        """The rows [n, seq + 1] of the step in hand, and by what their loss is multiplied."""
        one = self.injection
        if one is None:
            return torch.from_numpy(tokens), 1.0
        first, vocab_size = self.sample_of(run), self._shards.vocab_size
        tokens = one.rows(tokens, ids, first, self._seed, lambda: self._rare, vocab_size)
        return torch.from_numpy(tokens), one.loss_scale(run.step + 1)

    def shown_lr(self, lr: float, step: int) -> float:
        """The learning rate for the record of a step: the real one, unless the fault hides it."""
        if self.injection is None or self.injection.options.get("hidden"):
            return lr
        return lr * self.injection.lr_factor(step)

    def attach(self, run, optimizer):
        """Let the fault have a hand in each of the optimiser's steps; returns the hook, or None."""
        if self.injection is None or self.injection.fault.name in ("rare-token", "corrupt-data"):
            return None
        return optimizer.register_step_pre_hook(lambda *_: self._before_step(run, optimizer))

    def _before_step(self, run, optimizer) -> None:
        step, one = run.step + 1, self.injection
        if not run.plan.lr:
            return  # a step made to be timed
        for group in optimizer.param_groups:
            group["lr"] *= one.lr_factor(step)
            if (beta2 := one.beta2(step)) is not None:
                group["betas"] = (group["betas"][0], beta2)
        if (settled := one.settled(step)) is not None:
            scale, age = settled
            for state in optimizer.state.values():
                state["exp_avg"] *= scale
                state["exp_avg_sq"] *= scale**2
                state["step"] += age
