"""Recoveries, each tried from the same state, beside a control and placebos.

Since a resumed run is exact, a spike can be rewound: what differs from the control is what the
recovery did. A placebo changes as much of the data elsewhere; how far placebos end from the control
is the noise that a recovery must beat.
"""

from __future__ import annotations

import functools
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch

from x1lib import checkpoint, train
from x1lib.postmortem.cures import CURES, FAR, Cure, Incident, placebo
from x1lib.postmortem.rewound import PostmortemError, Rewound
from x1lib.session.spikes import probe_loss

HELDOUT_TOKENS = 16_384  # of the evaluation at the end
PLACEBOS = 3
CELL_STEPS = 12
BACK = 5  # values of the probe that make its level before the spike, and its level at the end


@dataclass
class Outcome:
    """How one replay went.

    peak: the most that the probe rose above its level before the spike, and end: where it is above
    that level at the last step [nats]. heldout: loss of held-out text there [nats / token].
    peak_loss: of a batch, above its level before. tokens_lost: trained again or read for nothing,
    and those until the probe is back; None where it does not come back. usd_lost: their price.
    series: step, loss and probe.
    """

    name: str
    peak: float
    end: float
    heldout: float | None
    peak_loss: float
    back_after_steps: int | None
    tokens_lost: int | None
    usd_lost: float | None
    series: dict[str, list[float]] = field(repr=False)
    failed: str | None = None

    def to_json(self) -> dict:
        return asdict(self)


class Theatre:
    """Replays of one incident from one state, which every one of them begins at.

    run: stands at the checkpoint before the spike (Rewound.of_run), which is what it goes back to.
    """

    def __init__(self, run: Rewound, at: Incident, *, usd_per_token: float | None = None):
        self.run, self.at, self.usd_per_token = run, at, usd_per_token
        self.tokens_a_step = run.plan.batch_size * run.config.window

    @functools.cached_property
    def levels(self) -> tuple[float, float]:
        """Probe and batch loss before the spike, which all replays are held against."""
        run, at = self.run.again(), self.at
        probe = probe_loss(run.model, run.probe_rows)
        found = run.run(at.onset - 1 - at.start, probe=True)
        if not found:
            return probe, run.take_step()["loss"]
        probe = float(np.median([one["probe"] for one in found[-BACK:]]))
        return probe, float(np.median([one["loss"] for one in found]))

    def play(self, name: str, apply=None) -> Outcome:
        """One replay to the horizon, a step of the run whatever state it begins at.

        The spike counts from where its batches come: an older state meets them some steps sooner,
        and a fault that is tied to a step at that step. Raises PostmortemError where it cannot be
        made.
        """
        (level, usual), at, cure = self.levels, self.at, CURES.get(name)
        run = self.run.again()
        if cure is None and apply is None:
            raise PostmortemError(f"unknown recovery {name!r}; give one of {', '.join(CURES)}")
        (apply or cure.apply)(run, at)
        begun = run.step  # before at.start where the cure takes an older state
        found = run.run(at.horizon - begun, probe=True)
        failed = next((one["failed"] for one in found if "failed" in one), None)
        steps = [one for one in found if "failed" not in one]
        losses = np.array([one["loss"] for one in steps])
        probes = np.array([one["probe"] for one in steps])
        lead_in = at.onset - 1 - at.start
        after = probes[lead_in:] - level
        peak = float(after.max()) if len(after) else float("inf")
        end = float(np.median(after[-BACK:])) if len(after) and not failed else float("inf")
        back = self._back(after, failed)
        lost = None if back is None else self._tokens_lost(cure, back, begun)
        return Outcome(
            name, peak, end, None if failed else self._heldout(),
            float(losses[lead_in:].max(initial=-np.inf)) - usual, back, lost,
            None if lost is None or self.usd_per_token is None else lost * self.usd_per_token,
            {"step": [one["step"] for one in steps], "loss": losses.tolist(),
             "probe": probes.tolist()}, failed,
        )  # fmt: skip

    @staticmethod
    def _back(after: np.ndarray, failed) -> int | None:
        """Steps from the onset after which the probe stays at or under its old level."""
        if failed or not len(after):
            return None
        over = np.flatnonzero(after > 0.01)
        last = int(over[-1]) + 1 if len(over) else 0
        return last if last < len(after) else None

    def _tokens_lost(self, cure: Cure | None, back: int, begun: int) -> int:
        """What is trained again from the checkpoint on, what is skipped, and the way back."""
        steps = back
        if cure is None or cure.rewinds:
            steps += self.at.onset + self.at.n_steps - 1 - begun
        return steps * self.tokens_a_step

    def _heldout(self) -> float:
        run, name = self.run, self.run.shards.heldout_names[0]
        tokens = run.shards.heldout(name)
        ones = np.ones(run.shards.vocab_size, np.int64)  # bytes are not asked for here
        found = train.evaluate(run.model, tokens, ones, HELDOUT_TOKENS)
        return found["loss"]

    def other_data_rise(self, n_steps: int) -> float:
        """How high the probe rises [nats] where the weights before the spike meet other batches.

        From the checkpoint to the onset as it was, then n_steps on batches that come much later.
        """
        run, at = self.run.again(), self.at
        while run.step < at.onset - 1:
            run.take_step()
        level = probe_loss(run.model, run.probe_rows)
        run.sample = at.last_sample + FAR * run.plan.batch_size
        found = run.run(n_steps, probe=True)
        return max(one.get("probe", float("inf")) for one in found) - level

    def placebos(self, number: int = PLACEBOS) -> list[Outcome]:
        """Replays that leave out as many batches, where there is no spike."""
        return [self.placebo(i) for i in range(number)]

    def placebo(self, number: int) -> Outcome:
        """One of them, counted from 0."""
        return self.play(f"placebo-{number + 1}", placebo(number))

    def two_by_two(self) -> dict[str, dict[str, float]]:
        """{old state, state at the spike} x {the spike's batches, others}: data or state?

        Each cell trains CELL_STEPS steps: excess is how much harder its first batch is than those
        before the spike [nats], rise how much the probe rose. Keys are "old, spike" and so on.
        """
        run, at = self.run.again(), self.at
        rows = []
        while run.step < at.onset - 1:
            run.take_step()
            rows.append(run.injector.rows)
        late = run.snapshot()
        other = at.last_sample + FAR * run.plan.batch_size
        cells = {}
        for state_name, state in (("old", self.run._start), ("spike", late)):
            for data_name, sample in (("spike", at.first_sample), ("other", other)):
                run.restore(state)
                usual = [probe_loss(run.model, torch.from_numpy(r)) for r in rows[-8:]]
                level = probe_loss(run.model, run.probe_rows)
                run.sample = sample
                found = run.run(CELL_STEPS, probe=True)
                probes = [one.get("probe", float("inf")) for one in found]
                first = found[0].get("loss", float("inf"))
                cells[f"{state_name}, {data_name}"] = {
                    "excess": first - float(np.median(usual)) if usual else float("nan"),
                    "rise": max(probes) - level,
                }
        return cells


def noise_floor(control: Outcome, placebos: list[Outcome]) -> dict[str, float]:
    """How far placebos end from the control: the largest difference in probe, end and heldout."""
    found = {"end": [], "heldout": []}
    for one in placebos:
        for name, differences in found.items():
            a, b = getattr(one, name), getattr(control, name)
            if a is not None and b is not None and np.isfinite(a - b):
                differences.append(abs(a - b))
    return {name: max(values, default=float("nan")) for name, values in found.items()}


def better(outcomes: dict[str, Outcome], noise: dict[str, float]) -> list[str]:
    """Recoveries that end below the untouched control by more than noise, the lowest first.

    On the probe and on held-out text both: one that trains on the probe's kind of text can flatter
    the first. A noise that is not known counts as none.
    """
    control = outcomes["untouched"]

    def gains(name: str) -> bool:
        one = outcomes[name]
        if one.failed or control.failed:
            return control.failed is not None and one.failed is None
        return all(
            getattr(control, what) - getattr(one, what) > np.nan_to_num(noise[what])
            for what in ("end", "heldout")
        )

    found = [name for name in CURES if name in outcomes and name != "untouched" and gains(name)]
    return sorted(found, key=lambda name: outcomes[name].end)


def replay(folder, onset: int, *, step: int | None = None, n_steps: int = 1,
           cures=tuple(CURES), usd_per_token=None, log=print) -> dict:  # fmt: skip
    """Try each recovery of a run folder's spike at step `onset`; Outcome by name, and the noise.

    step: of the checkpoint to begin at, the newest before the spike where it is None. A recovery
    that cannot be tried is left out, and `log` says why. Raises PostmortemError or CheckpointError.
    """
    folder = Path(folder)
    before = [s for s in checkpoint.list_steps(folder / "state") if s < onset]
    if step is None and not before:
        raise PostmortemError(f"{folder} holds no checkpoint before step {onset}")
    run = Rewound.of_run(folder, before[-1] if step is None else step, log=log)
    theatre = Theatre(run, Incident.of(run, onset, n_steps), usd_per_token=usd_per_token)
    outcomes = {}
    for name in cures:
        try:
            outcomes[name] = theatre.play(name)
        except PostmortemError as error:
            log(f"{name}: {error}")
    placebos = theatre.placebos()
    outcomes |= {one.name: one for one in placebos}
    control = outcomes.get("untouched") or theatre.play("untouched")
    return {"outcomes": outcomes, "noise": noise_floor(control, placebos),
            "two_by_two": theatre.two_by_two(), "incident": theatre.at}  # fmt: skip
