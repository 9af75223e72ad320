"""What surrounds the training loop: folder, state, clock, records.

A session is one process's hold on a run folder. It refuses everything that must be refused before
the first step, and keeps what the loop changes besides weights: step, sample, plan, records.
"""

from __future__ import annotations

import contextlib
import math
import os
from dataclasses import asdict, replace
from pathlib import Path

from x1lib import X1Error, checkpoint, data, runtime, tracking
from x1lib.economics import flops_per_token
from x1lib.pacing import Pace
from x1lib.planning import Plan
from x1lib.sampling import generate
from x1lib.session import elsewhere, opening, report
from x1lib.session.injecting import Injector
from x1lib.session.money import BudgetStop, Money
from x1lib.session.spikes import Spikes
from x1lib.shapes import resolve
from x1lib.tracking.heartbeat import Heartbeat, last_beat

UNTIMED_STEPS = 3  # of each process: compiling and first touches of memory are no throughput
OPENINGS = ("The", "It was a")  # no space at the end: a word brings its own


class Session(contextlib.AbstractContextManager):
    """Holds a run folder: `with Session(config) as run: ...`.

    .saved is the checkpoint to go on from (the run's own, or the one branched from), or None.
    Raises ConfigError, DataError, CheckpointError, FolderInUse or RuntimeRefused before step 0.
    """

    def __init__(self, config, log=print):
        self.config, self.log = config, tracking.scrubbed(log)
        self.out = Path(config.out).absolute()
        self.interrupts = runtime.Interrupts()
        self._held = contextlib.ExitStack()

    def __enter__(self) -> Session:
        with self._held:
            self._held.enter_context(runtime.FolderLock(self.out))
            self._held.enter_context(self.interrupts)
            self._open()
            self._held = self._held.pop_all()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Save what a signal found; record an error; then let the folder go."""
        with self._held:
            self.interrupts.leave()
            try:
                self._leave(error)
            finally:
                self._settle(error)

    def _leave(self, error: BaseException | None) -> None:
        if isinstance(error, runtime.Interrupted) and self.model is not None:
            self.save(last=True)
            self.event("interrupted", signal=str(error))
            self.manifest.update(status="interrupted", reason=str(error))
            go_on = "the same command goes on from there"
            if str(error) == runtime.HOURS_OVER:
                go_on = "this machine was too slow or too busy; branch from it, or give more hours"
            self.log(f"{error}: saved at step {self.step:,}; {go_on}")
        elif isinstance(error, BudgetStop | data.DataError) and self.model is not None:
            self.save(last=True)
            self._failed(error)
        elif isinstance(error, X1Error):
            self._failed(error)
        elif error is not None and runtime.is_out_of_memory(error):
            self._failed(error)
            raise runtime.NoMemoryError(
                "the model and its optimiser do not fit in memory; give a smaller --shape"
            ) from error

    def _settle(self, error: BaseException | None) -> None:
        """Write the ledger's last line of this process, whatever ended it."""
        if self.money and not self.money.is_settled:
            spent = self.money.leave(f"{type(error).__name__}: {error}" if error else "left")
            with contextlib.suppress(tracking.RecordError):
                self.manifest.update(**spent)

    def _open(self) -> None:
        c = self.config
        self.pace = Pace(
            c.hours or math.inf,
            cooldown=c.cooldown,
            used_seconds=max(
                tracking.used_seconds(self.out), last_beat(self.out).get("elapsed_seconds", 0.0)
            ),
            started_at=runtime.process_started_at(),
        )
        self._least_seconds = 60.0 if tracking.last_step(self.out) else 0.0
        if c.hours:
            self._end_with_the_hours(0.04)
        self.saved, self.lineage = opening.own_state(c, self.log), None
        self.resuming = self.saved is not None
        if self.resuming:
            self.lineage = self.saved.state["lineage"]
        elif c.branch_from:
            self.saved, self.lineage = opening.parent_state(c, self.log)
        known = self.saved.state["data"].get("folder") if self.saved else None
        self.shards, self.tokenizer = opening.open_data(c, self.log, known, feeding=True)
        self._held.callback(opening.let_go, self.shards)
        self.token_bytes = self.tokenizer.token_bytes
        if self.resuming:
            opening.check_same_data(self.shards, self.saved.state["data"])
        self.shape = resolve(c, self.shards.vocab_size)
        self.flops_per_token = flops_per_token(self.shape, c.window)
        stored = self.saved.state["machine"] if self.resuming else None
        self.machine, self.changes = opening.choose_machine(c, self.flops_per_token, stored)
        self.peak_flops, self.peak_source = runtime.peak_flops(self.machine)
        self.log(self.machine.line())
        for change in self.changes:
            self.log(f"note: resumed on other terms, equal within rounding only: {change}")
        self.model = self.optimizer = self.money = None  # until begin
        self.step = self.sample = self.first_step = self._steps_here = 0
        self.skip: list[int] = []
        self.injector, self.spikes = Injector(c, self.shards), Spikes(self)
        self.plan: Plan | None = None
        self.parent_plan: dict | None = None  # of a branch
        self.redo_until, self.redo_schedules = 0, {}  # in hours: see clockwork.review_pace
        self.meter = tracking.Meter()
        self.metrics = self._held.enter_context(tracking.Run(self.out))
        self.manifest = tracking.Manifest(self.out, log=self.log)

    def _end_with_the_hours(self, share: float) -> None:
        """Whatever takes longer than was planned, save and leave this share before the ceiling.

        A resumed run has a minute at least: it may have nothing left to do but its export.
        """
        left = self.pace.ceiling_seconds - self.pace.elapsed_seconds
        to_save = min(20.0, max(2.0, share * self.pace.ceiling_seconds))
        self.interrupts.end_in(max(left - to_save, self._least_seconds))

    # ---- the run as training changes it

    def begin(self, model, optimizer) -> None:
        """Take up the saved state, if there is one, and record how this process starts."""
        self.model, self.optimizer = model, optimizer
        if self.saved:
            self.step, self.sample = self.saved.step, self.saved.state["sample"]
            self.skip = self.saved.state["skip"]
            if self.resuming:
                self.meter.tokens, self.meter.seconds = self.saved.state["meter"]
            self.spikes.restore(self.saved.state.get("spikes"))
            checkpoint.restore_training(model, optimizer, self.saved.tensors)
        self.injector.attach(self, optimizer)
        if self.resuming and self.saved.state["plan"]:
            c, plan = self.config, Plan.from_json(self.saved.state["plan"])
            self.plan = replace(
                plan,
                eval_every=c.eval_every or plan.eval_every,
                eval_tokens=min(plan.eval_tokens, c.eval_tokens) if c.hours else c.eval_tokens,
                checkpoint_every=c.checkpoint_every or plan.checkpoint_every,
            )
            self.pace.reserve_seconds = self.plan.reserve_seconds
            self.pace.planned_step_seconds = self.plan.step_seconds
        if self.lineage:
            self.first_step, self.parent_plan = self.lineage["step"], self.lineage["plan"]
            if not self.resuming:  # the same place in the text, whatever the window
                self.sample = self.sample * self.parent_plan["window"] // self.config.window
        self._epoch = self.shards.epoch_of(max(0, self.sample - 1), self.config.window)
        self.finished = (
            self.manifest.values.get("status") == "finished"
            and self.plan is not None
            and self.step >= self.plan.schedule.total_steps
        )
        if self.finished:
            self.log(f"{self.out} is finished: {self.step:,} steps; its manifest says the rest")
            return
        name = "resume" if self.resuming else "start"
        self.event(name, changes=self.changes, lineage=self.lineage)
        opening.hear(self.shards, self.event)
        self.manifest.update(**report.describe(self))
        by, run_id = os.environ.get(elsewhere.BY), self.manifest.values["run_id"]
        if by and not self.config.usd_per_hour:
            self.money = elsewhere.MeteredElsewhere(by)
        else:
            self.money = Money(self.config, self.out, run_id, self.log)
        self.pace.limit = lambda: self.money.seconds_left
        self.money.keep(self.pace.reserve_seconds)
        self._held.enter_context(Heartbeat(self.out, self._alive))
        self.log(f"{name} at step {self.step:,} in {self.out}")

    def _alive(self) -> dict:
        return {"step": self.step, "elapsed_seconds": round(self.pace.elapsed_seconds, 3)}

    def stepped(self, seconds: float, **values: float) -> None:
        """Record a step that took so long; the first ones of a process do not count as speed."""
        self._steps_here += 1
        n_tokens = self.plan.batch_size * self.config.window
        schedule = self.plan.schedule
        last = self.step >= schedule.total_steps
        if self._steps_here > UNTIMED_STEPS:
            self.meter.add(n_tokens, seconds)
        if self._steps_here == UNTIMED_STEPS:
            self.pace.mark(self.step)
        epoch = self.shards.epoch_of(self.sample - 1, self.config.window)
        if epoch != self._epoch:
            self._epoch = epoch
            self.event("epoch", epoch=epoch)
        values["lr"] = self.injector.shown_lr(values["lr"], self.step)
        if last or self.step % self.config.log_every == 0:
            self.metrics.log(
                "step",
                step=self.step,
                tokens=self.sample * self.config.window,
                **values,
                phase=schedule.phase(self.step - 1),
                step_seconds=round(seconds, 6),
                tokens_per_sec=round(n_tokens / seconds, 1),
                elapsed_seconds=round(self.pace.elapsed_seconds, 3),
            )
        if last or self.meter.line_is_due():
            self.log(
                self.meter.line(
                    self.step,
                    schedule.total_steps,
                    values["loss"],
                    self.mfu,
                    self.pace.elapsed_seconds,
                )
            )
        self.spikes.after()

    def taken_back_to(self, saved) -> None:
        """Count from an earlier state of this run, whose weights are restored, once more."""
        self.step, self.sample = saved.step, saved.state["sample"]
        self._epoch = self.shards.epoch_of(max(0, self.sample - 1), self.config.window)
        self.pace.forget()

    def due(self, every: int) -> bool:
        """Whether something that happens every so many steps, and not at the end, is due now."""
        return every > 0 and self.step % every == 0 and self.step < self.plan.schedule.total_steps

    @property
    def is_milestone(self) -> bool:
        """Whether the state of this step is kept for good."""
        named = str(self.step) in self.config.milestones.split(",")
        return named or self.due(self.config.milestone_every)

    def evaluated(self, name: str, result: dict) -> None:
        """Record one evaluation of a held-out text; a probe's is no result."""
        if self.plan is None or not self.plan.lr:
            return
        elapsed = round(self.pace.elapsed_seconds, 3)
        tokens = self.sample * self.config.window
        self.metrics.log(
            "eval", step=self.step, tokens=tokens, name=name, **result,
            elapsed_seconds=elapsed,
        )  # fmt: skip
        self.log(
            f"step {self.step:,} | held-out {name}: {result['loss']:.4f} nats/token,"
            f" {result['bits_per_byte']:.4f} bits/byte over {result['n_tokens']:,} tokens"
        )

    def sample_text(self, model) -> None:
        """Record what the model writes after a few openings, while the hours leave time for it."""
        n_tokens = self.config.sample_tokens
        for number, words in enumerate(OPENINGS if n_tokens else ()):
            if not self.pace.seconds_for_last_look:
                self.event("no_sample", opening=words, why="the hours are over")
                continue
            ids = [self.tokenizer.eot_id, *self.tokenizer.encode(words)]
            text = self.tokenizer.decode(generate(model, ids, n_tokens, seed=number)[1:])
            self.metrics.log("sample", step=self.step, opening=words, text=text)
            self.log(f"step {self.step:,} | sample: {text!r}")

    # ---- what is kept

    def check_finite(self, loss: float, norm: float, ids) -> None:
        """Raise NotFiniteError, naming step and samples, before the optimiser can step."""
        if not math.isfinite(loss + norm):
            raise runtime.NotFiniteError(
                f"step {self.step}: loss {loss}, gradient norm {norm}, samples {ids.min()} to"
                f" {ids.max()}; the optimiser did not step and the last checkpoint is sound:"
                " branch from it with a lower lr, or from an earlier one"
            )

    @property
    def mfu(self) -> float | None:
        rate = self.meter.tokens_per_sec
        return rate and rate * self.flops_per_token / self.peak_flops

    def event(self, name: str, **values: object) -> None:
        """Record something that happened, at which step and after how much wall-clock."""
        elapsed = round(self.pace.elapsed_seconds, 3)
        self.metrics.event(name, step=self.step, elapsed_seconds=elapsed, **values)

    def save(self, last: bool = False) -> None:
        """Write a checkpoint of this step; a full disk is fatal for the last one only."""
        n_blocks = self.shards.blocks_consumed(self.sample, self.config.window)
        state = {
            "format": opening.STATE_FORMAT,
            "config": asdict(self.config),
            "machine": asdict(self.machine),
            "plan": asdict(self.plan) if self.plan else None,
            "sample": self.sample,
            "skip": self.skip,
            "spikes": self.spikes.state() if self.spikes.is_on else None,
            "meter": [self.meter.tokens, self.meter.seconds],
            "data": {
                "blocks": n_blocks,
                "fingerprint": self.shards.fingerprint(n_blocks),
                "folder": str(self.shards.folder.absolute()),
            },
            "lineage": self.lineage,
        }
        if last and self.config.hours:
            self._end_with_the_hours(0.01)  # training is over, and what follows was timed
        tensors = checkpoint.training_tensors(self.model, self.optimizer)
        if odd := checkpoint.not_finite(tensors):
            raise runtime.NotFiniteError(
                f"step {self.step}: {odd} is NaN or infinite after the update, though loss and"
                " gradient were finite; nothing was saved, and the last checkpoint is sound:"
                " branch from it with a lower lr"
            )
        folder, kept = self.out / "state", {"keep_last": self.config.keep_last, "log": self.log}
        kept["milestone"] = self.is_milestone if self.plan else False
        with self.interrupts.held():
            try:
                checkpoint.save(folder, self.step, tensors, tracking.scrub(state), **kept)
            except checkpoint.NoSpaceError as error:
                if last:
                    raise
                self.event("checkpoint_failed", why=str(error), policy="train on, try at the next")
                self.log(
                    f"warning: {error} Training goes on from memory; the next save tries again"
                )

    def _failed(self, error: Exception) -> None:
        """Record why the run stopped, as far as the disk allows."""
        with contextlib.suppress(tracking.RecordError):
            self.event("failed", why=str(error))
            self.manifest.update(status="failed", reason=f"{type(error).__name__}: {error}")

    def finish(self, model, results: dict) -> dict:
        """Export the model, draw the curve, and complete the manifest; returns it."""
        return report.finish(self, model, results)
