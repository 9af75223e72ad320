"""A run taken back to a checkpoint and trained on in memory, by the trainer's own step.

Nothing is written. Left alone it repeats the run to the bit; what a cure changes is a few numbers.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from x1lib import X1Error, checkpoint, runtime, tracking, train
from x1lib.economics import flops_per_token
from x1lib.pacing import Schedule
from x1lib.planning import Plan
from x1lib.session import opening
from x1lib.session.injecting import Injector
from x1lib.session.spikes import Spikes, probe_loss, probe_rows
from x1lib.shapes import resolve


class PostmortemError(X1Error, ValueError):
    """A run, a step or a cure that a post-mortem cannot be made of."""


@dataclass
class Changes:
    """What a replay does otherwise than the run did; as made, nothing."""

    skip: set[int] = field(default_factory=set)  # samples replaced by others
    lr_factor: float = 1.0
    hidden_lr_factor: float = 1.0  # of the hidden matrices alone
    beta2: float | None = None
    clip: float | None = None
    update_clip: bool = False  # each tensor's step / max(1, RMS of g / sqrt(v))
    seq_share: float = 1.0  # of the window that a sequence keeps; a curriculum's first stage
    shards: object = None  # another text
    until: int | None = None  # the last step that any of this holds for


class _Shortening(Injector):
    """Cuts the batch into shorter sequences where the run's changes ask for it; keeps .rows."""

    def batch(self, run, tokens, ids):
        rows, scale = super().batch(run, tokens, ids)
        length = int(run.now.seq_share * (rows.shape[1] - 1))
        if length < rows.shape[1] - 1:
            starts = range(0, rows.shape[1] - length, length)
            rows = torch.cat([rows[:, i : i + length + 1] for i in starts])
        self.rows, self.ids = rows.numpy(), ids
        return rows, scale


class Rewound:
    """Training state in memory, which `.take_step()` advances by the trainer's own step.

    .changes holds what is done otherwise. With `observe` a step also measures its update.
    """

    def __init__(self, config, plan: Plan, machine, shards, *, compiled: bool | None = None):
        self.config, self.plan, self.machine, self.shards = config, plan, machine, shards
        self.out = Path(config.out)
        self.shape = resolve(config, shards.vocab_size)
        kernel, dtype = machine.attention, machine.torch_dtype
        self.model = train.GPT(config, shards.vocab_size, kernel, dtype).to(machine.device)
        compiled = machine.compile if compiled is None else compiled
        self.forward = torch.compile(self.model, dynamic=False) if compiled else self.model
        self.optimizer = train.make_optimizer(self.model, config, machine.fused_adamw)
        self.params = list(self.model.parameters())
        self.step = self.sample = 0
        self.skip: list[int] = []
        self.schedules: dict[int, Schedule] = {}  # decided on the way, by step
        self.changes = Changes()
        self.probe_rows = probe_rows(shards, config.window)
        self._hooks = []
        self._fit()

    @classmethod
    def of_run(cls, folder, step: int | None = None, *, log=print) -> Rewound:
        """Take a run folder back to its checkpoint of `step`, or to its newest one.

        Raises CheckpointError, NoSuchStepError or PostmortemError where there is nothing to go
        back to.
        """
        folder = Path(folder)
        saved = checkpoint.load_latest(folder / "state", step=step, log=log)
        if saved is None or saved.state["plan"] is None:
            raise PostmortemError(f"{folder} holds no checkpoint of a planned run; let it train")
        values = {k: v for k, v in saved.state["config"].items() if k in _fields()}
        config = train.Config(**{**values, "out": str(folder)})
        shards, _ = opening.open_data(config, log, saved.state["data"].get("folder"))
        opening.check_same_data(shards, saved.state["data"])
        per_token = flops_per_token(resolve(config, shards.vocab_size), config.window)
        machine, changes = opening.choose_machine(config, per_token, saved.state["machine"])
        for change in changes:
            log(f"note: replayed on other terms, equal within rounding only: {change}")
        one = cls(config, Plan.from_json(saved.state["plan"]), machine, shards)
        one.schedules = _schedules(folder, saved.step)
        one.load(saved.step, saved.state["sample"], saved.tensors, saved.state["skip"])
        one.spikes.restore(saved.state.get("spikes"))
        one.keep_as_start()
        return one

    def load(self, step: int, sample: int, tensors: dict, skip=()) -> None:
        """Put a state in place, copied, so that it can be put there again."""
        tensors = {g: {k: t.clone() for k, t in group.items()} for g, group in tensors.items()}
        checkpoint.restore_training(self.model, self.optimizer, tensors)
        # A step that was not finite leaves its gradient, to which the next one would be added.
        self.optimizer.zero_grad(set_to_none=True)
        self.step, self.sample, self.skip = step, sample, list(skip)
        self._fit()

    def _fit(self) -> None:
        """Injector and watch for the state that is in place."""
        self.injector = _Shortening(self.config, self.shards)
        if self.injector.injection is not None:
            self.injector.first_sample = self.injector.sample_of(self)
        for hook in self._hooks:
            hook.remove()
        self._hooks = [
            *filter(None, [self.injector.attach(self, self.optimizer)]),
            self.optimizer.register_step_pre_hook(lambda *_: self._before_step()),
        ]
        self.spikes = Spikes(self)

    def inject(self, spec: str) -> Rewound:
        """Put a fault into the steps to come, in the place of any other; "" for none."""
        self.config, spikes = replace(self.config, inject=spec), self.spikes.state()
        self._fit()
        self.spikes.restore(spikes)
        return self

    def snapshot(self) -> dict:
        """All that training changes, copied."""
        tensors = checkpoint.training_tensors(self.model, self.optimizer)
        tensors = {g: {k: t.clone() for k, t in group.items()} for g, group in tensors.items()}
        return {
            "step": self.step, "sample": self.sample, "tensors": tensors, "skip": list(self.skip),
            "spikes": self.spikes.state(), "inject": self.config.inject,
            "first_sample": self.injector.first_sample,
            "schedule": self.plan.schedule,
        }  # fmt: skip

    def restore(self, state: dict) -> Rewound:
        """Go back to a snapshot, with nothing changed."""
        self.config = replace(self.config, inject=state["inject"])
        self.load(state["step"], state["sample"], state["tensors"], state["skip"])
        self.plan = replace(self.plan, schedule=state["schedule"])
        self.injector.first_sample = state["first_sample"]
        self.spikes.restore(state["spikes"])
        self.changes = Changes()
        return self

    def keep_as_start(self) -> None:
        self._start = self.snapshot()

    def again(self) -> Rewound:
        """Go back to where it began."""
        return self.restore(self._start)

    # ---- what the trainer's step asks a run for

    def check_finite(self, loss: float, norm: float, ids) -> None:
        if not (abs(loss) < float("inf") and abs(norm) < float("inf")):
            raise runtime.NotFiniteError(f"step {self.step}: loss {loss}, gradient norm {norm}")

    def event(self, name: str, **values: object) -> None:
        pass

    def log(self, line: str) -> None:
        pass

    # ---- a step

    @property
    def now(self) -> Changes:
        """What is done otherwise in the step in hand."""
        over = self.changes.until is not None and self.step >= self.changes.until
        return Changes() if over else self.changes

    def take_step(self, observe: bool = False, probe: bool = False) -> dict:
        """One step; returns what its record would hold: step, loss, grad_norm, lr.

        observe adds update_rms, the root mean square of what the weights moved by, and gv: the
        norm of the clipped gradient over the root of the summed second moment, bias corrected.
        probe adds the probe's loss after the update.
        """
        now = self.now
        with self._altered(now):
            loss, norm = train.differentiate(self, self.forward, self.params)
            clip = self.config.clip if now.clip is None else now.clip
            clipped = min(norm, clip or float("inf"))
            before = [p.detach().clone() for p in self.params] if observe else None
            taken = self.spikes.judged(self.optimizer, loss, norm)
            lr = train.update(self, taken)
        self.spikes.count()
        lr = self.injector.shown_lr(lr * now.lr_factor, self.step)
        found = {"step": self.step, "loss": loss, "grad_norm": norm, "lr": lr}
        if observe:
            found |= self._observed(before, clipped)
        if probe:
            found["probe"] = probe_loss(self.model, self.probe_rows)
        if self.step in self.schedules:
            self.plan = replace(self.plan, schedule=self.schedules[self.step])
        return found

    def run(self, n_steps: int, **options) -> list[dict]:
        """So many steps; stops before a step that is not finite, whose record says "failed"."""
        found = []
        for _ in range(n_steps):
            try:
                found.append(self.take_step(**options))
            except runtime.NotFiniteError as error:
                found.append({"step": self.step + 1, "failed": str(error)})
                break
        return found

    @contextlib.contextmanager
    def _altered(self, now: Changes):
        """The settings that the trainer's step reads, as the cure would have them."""
        was = self.config, self.shards, self.skip
        if now.clip is not None:
            self.config = replace(self.config, clip=now.clip)
        if now.shards is not None:
            self.shards = now.shards
        if now.skip:
            self.skip = sorted({*self.skip, *now.skip})
        try:
            yield
        finally:
            self.config, self.shards, self.skip = was

    def _before_step(self) -> None:
        now, fault = self.now, self.injector.injection
        # Set at every step: an earlier replay may have left another one.
        beta2 = now.beta2 or (fault and fault.beta2(self.step + 1)) or self.config.beta2
        for group in self.optimizer.param_groups:
            hidden = group["decay_scale"] > 0
            group["lr"] *= now.lr_factor * (now.hidden_lr_factor if hidden else 1.0)
            group["betas"] = (self.config.beta1, beta2)
        if now.update_clip:
            self._clip_updates()

    @torch.no_grad()
    def _clip_updates(self) -> None:
        """Scale gradients down tensor by tensor where g / sqrt(v) is above 1 in root mean square.

        StableAdamW (Wortsman et al. 2023, arXiv 2304.13013, section 3) scales the rate instead.
        """
        for p in self.params:
            state = self.optimizer.state.get(p)
            if not state:
                continue
            ratio = (p.grad.square() / state["exp_avg_sq"].clamp(min=1e-16)).mean().sqrt()
            p.grad /= ratio.clamp(min=1.0)

    @torch.no_grad()
    def _observed(self, before: list, clipped: float) -> dict:
        moved = sum(
            (p - b).double().square().sum().item() for p, b in zip(self.params, before, strict=True)
        )
        n = sum(p.numel() for p in self.params)
        total = 0.0
        for group in self.optimizer.param_groups:
            for p in group["params"]:
                if state := self.optimizer.state.get(p):
                    bias = 1 - group["betas"][1] ** state["step"].item()
                    total += state["exp_avg_sq"].double().sum().item() / bias
        return {"update_rms": (moved / n) ** 0.5, "gv": clipped / max(total**0.5, 1e-30)}


def _fields() -> set[str]:
    return set(train.Config.__dataclass_fields__)


def _schedules(folder: Path, step: int) -> dict[int, Schedule]:
    """Schedules that the run decided after a step, by step."""
    lines = tracking.read_lines(folder / "metrics.jsonl")
    return {
        line["step"]: Schedule.from_json(line["schedule"])
        for line in lines
        if line.get("event") == "schedule" and line["step"] > step
    }
