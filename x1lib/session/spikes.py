"""A run's own watch for spikes: finds them, keeps the checkpoint before, and may act, a few times.

A value is judged when the gradient is known and before the optimiser steps, so a batch can still be
left out. All that decides is kept in the checkpoint: a resumed run flags and acts as it would have.
"""

from __future__ import annotations

import math

import torch

from x1lib import checkpoint
from x1lib.data import windows
from x1lib.stability import detector

# From runs without a fault (LOG.md). There the gradient norm jumps now and then, up to tenfold for
# a step and with no harm: it is noted, and must rise by 60%, but only the loss makes a spike.
RULES = {"loss": {"k": 7.0}, "grad_norm": {"k": 12.0, "floor": 0.05}}
ONE_SPIKE = 32  # steps from the last value flagged within which the next belongs to the same spike
BEFORE = 32  # steps from the checkpoint that is kept to the spike: enough to know what was normal
AFTER = 20  # steps after a flagged value in which the probe is read at each
MOST_PINS = 8  # checkpoints kept for spikes, two for each
MOST_ACTIONS = {"skip": 16, "rollback": 3}  # steps left out, and times taken back
SKIPPED = 8  # steps whose samples a rollback leaves out, the flagged one the last
PROBE_ROWS = 8
PROBE_SHARE = 0.01  # of training time, were a row read as dear as one trained on: it is a third


class Spikes:
    """Watches `run`: .judged before an update, .after once the step is recorded."""

    def __init__(self, run):
        self.run, self.policy = run, run.config.on_spike
        self.is_on = self.policy != "off" or bool(run.config.inject)
        self.detectors = {name: detector("robust", **options) for name, options in RULES.items()}
        self.last = -(10**9)  # the last step flagged
        self.n_spikes = self.n_actions = 0
        self._found: dict[str, float] = {}  # signal -> score, of the step in hand
        self._left_out = False
        self._probe: torch.Tensor | None = None

    def state(self) -> dict:
        """What JSON can hold of it; `restore` goes on to the bit."""
        detectors = {name: one.state() for name, one in self.detectors.items()}
        counts = {"last": self.last, "n_spikes": self.n_spikes, "n_actions": self.n_actions}
        return {**counts, "detectors": detectors}

    def restore(self, state: dict | None) -> None:
        if state is None:
            return  # of a run that was not watched
        self.last, self.n_spikes = state["last"], state["n_spikes"]
        self.n_actions = state["n_actions"]
        for name, one in self.detectors.items():
            one.restore(state["detectors"][name])

    # ---- one step

    def judged(self, optimizer, loss: float, norm: float):
        """Judge the step in hand; returns the optimiser, or a stand-in where it is left out."""
        self._found, self._left_out = {}, False
        if not self.is_on:
            return optimizer
        for name, value in (("loss", loss), ("grad_norm", norm)):
            if self.detectors[name].update(value):
                self._found[name] = round(self.detectors[name].score, 3)
        self._left_out = "loss" in self._found and self.policy == "skip" and self._may_act()
        return _NoStep(optimizer) if self._left_out else optimizer

    def after(self) -> None:
        """Record what was found, keep the checkpoint before it, act; and read the probe."""
        if not self.is_on:
            return
        run, found = self.run, self._found
        if self.count():
            self._announce(found)
        elif found:
            run.event("jump", scores=found)
        if self._left_out:
            run.event("skipped", scores=found, n_actions=self.n_actions)
        if self._is_near or run.step % self.probe_every == 0:
            loss = probe_loss(run.model, self.probe_rows)
            run.metrics.log("probe", step=run.step, loss=loss)
        if "loss" in found and self.policy == "rollback" and self._may_act():
            self._take_back()

    def count(self) -> bool:
        """Take the judged step into account; returns whether a new spike began with it."""
        is_new = "loss" in self._found and self.run.step - self.last > ONE_SPIKE
        self.n_spikes += is_new
        self.n_actions += self._left_out
        if "loss" in self._found:
            self.last = self.run.step
        return is_new

    def _may_act(self) -> bool:
        if self.n_actions < MOST_ACTIONS[self.policy]:
            return True
        if self.run.step - self.last > ONE_SPIKE:
            self.run.log(f"on_spike: {self.policy} has been done {self.n_actions} times; no more")
        return False

    def _announce(self, found: dict[str, float]) -> None:
        run = self.run
        size = run.plan.batch_size
        pinned = self._pin()
        run.event(
            "spike", number=self.n_spikes, scores=found, samples=[run.sample - size, run.sample],
            policy=self.policy, pinned=pinned,
        )  # fmt: skip
        signals = " and ".join(
            f"{k.replace('_', ' ')} {v:.1f} deviations up" for k, v in found.items()
        )
        kept = "no checkpoint before it" if pinned is None else f"checkpoint {pinned:,} kept"
        run.log(f"step {run.step:,} | spike: {signals}; {kept}")

    def _pin(self) -> int | None:
        """Keep the newest checkpoint that is well before this step, and the one before that.

        Replays begin at the first; the second is an older state to meet the same batches.
        """
        folder = self.run.out / "state"
        before = [step for step in checkpoint.list_steps(folder) if step < self.run.step]
        if not before:
            return None
        step = max([s for s in before if s <= self.run.step - BEFORE] or [before[-1]])
        try:
            kept = [why for why in checkpoint.pins(folder).values() if "before a spike" in why]
            if len(kept) < MOST_PINS:
                for one in before[max(0, before.index(step) - 1) : before.index(step) + 1]:
                    checkpoint.pin(folder, one, "before a spike", log=self.run.log)
                return step
        except checkpoint.CheckpointError as error:
            self.run.log(f"warning: {error}")
        return None

    def _take_back(self) -> None:
        """Go back to the last checkpoint and leave out the samples of the steps up to this one."""
        run, step = self.run, self.run.step
        saved = checkpoint.load_latest(run.out / "state", log=run.log)
        if saved is None or saved.step >= step:
            return
        last, size = run.sample, run.plan.batch_size
        n_steps = min(SKIPPED, step - saved.step)
        run.skip = sorted({*run.skip, *range(last - n_steps * size, last)})
        checkpoint.restore_training(run.model, run.optimizer, saved.tensors)
        run.taken_back_to(saved)
        n_actions, n_spikes = self.n_actions + 1, self.n_spikes
        self.restore(saved.state["spikes"])
        self.n_actions, self.n_spikes = n_actions, n_spikes
        run.event(
            "rollback", spike_step=step, skipped_samples=[last - n_steps * size, last],
            n_actions=n_actions,
        )  # fmt: skip
        run.event("resume", changes=[], lineage=run.lineage, why=f"rollback from step {step}")
        run.log(f"rollback: from step {step:,} to {saved.step:,}, {n_steps} batches left out")

    # ---- the probe

    @property
    def _is_near(self) -> bool:
        """Whether the step was just flagged, or a fault is at work in it."""
        one = self.run.injector.injection
        fault = one and one.first_step <= self.run.step <= one.last_step + AFTER
        return bool(fault) or self.run.step - self.last < AFTER

    @property
    def probe_every(self) -> int:
        """Steps between readings far from any spike."""
        asked = self.run.config.probe_every
        return asked or math.ceil(len(self.probe_rows) / (PROBE_SHARE * self.run.plan.batch_size))

    @property
    def probe_rows(self) -> torch.Tensor:
        if self._probe is None:
            self._probe = probe_rows(self.run.shards, self.run.config.window)
        return self._probe


class _NoStep:
    """Stands in for an optimiser whose step is left out: the gradient goes, the weights stay."""

    param_groups = ()

    def __init__(self, optimizer):
        self.zero_grad = optimizer.zero_grad

    def step(self) -> None:
        pass


def probe_rows(shards, window: int) -> torch.Tensor:
    """The fixed batch that a model is judged on after an update: held-out windows [n, seq + 1]."""
    heldout = shards.heldout(shards.heldout_names[0])
    return torch.from_numpy(next(windows(heldout, window, PROBE_ROWS)))


@torch.no_grad()
def probe_loss(model, rows: torch.Tensor, micro_batch: int = PROBE_ROWS) -> float:
    """Mean loss [nats / token] of rows [n, seq + 1], without z-loss, dropout or a gradient."""
    was_training = model.training
    model.eval()
    total = 0.0
    for part in rows.long().split(micro_batch):
        part = part.to(model.cos.device)
        total += model(part[:, :-1], part[:, 1:], reduction="sum").double().item()
    model.train(was_training)
    return total / (rows.shape[0] * (rows.shape[1] - 1))
