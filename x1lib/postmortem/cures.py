"""Recoveries from a spike: what each changes in the steps that follow a checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from x1lib import checkpoint
from x1lib.data import Shards, prepare
from x1lib.data.sources import EMBEDDED_FILES
from x1lib.postmortem.rewound import Changes, PostmortemError, Rewound

HOLD, AFTER = 20, 20  # steps from the spike that a recovery holds for, and that follow it
FAR = 64  # batches ahead that no replay comes near
MUP_BASE = 64  # width at which the rate is taken to be right, or half the width if that is less


@dataclass(frozen=True)
class Incident:
    """Where a spike is: steps as in the record, samples by number.

    start: step of the checkpoint that replays begin at. onset: the first step of the spike, and
    n_steps how many its batches are. first_sample: of the onset's batch; last_sample: past its end.
    """

    start: int
    onset: int
    n_steps: int
    first_sample: int
    last_sample: int

    @property
    def horizon(self) -> int:
        """The last step of a replay."""
        return self.onset + HOLD + AFTER

    @classmethod
    def of(cls, run: Rewound, onset: int, n_steps: int = 1) -> Incident:
        """The incident at a step of a run that stands at the checkpoint before it."""
        if onset <= run.step:
            raise PostmortemError(
                f"the spike at step {onset} is not after the checkpoint {run.step}"
            )
        size = run.plan.batch_size
        first = run.sample + (onset - 1 - run.step) * size
        return cls(run.step, onset, n_steps, first, first + n_steps * size)


@dataclass(frozen=True)
class Cure:
    """A recovery: what it does, who did it, and how much of the run it repeats or skips."""

    name: str
    does: str
    source: str
    apply: Callable[[Rewound, Incident], object]
    rewinds: bool = True


def _changes(**values) -> Callable[[Rewound, Incident], None]:
    def apply(run: Rewound, at: Incident) -> None:
        run.changes = Changes(until=at.onset + HOLD, **values)

    return apply


def _untouched(run: Rewound, at: Incident) -> None:
    run.changes = Changes()


def _skip_batch(run: Rewound, at: Incident) -> None:
    run.changes = Changes(skip=frozenset(range(at.first_sample, at.last_sample)))


def placebo(number: int) -> Callable[[Rewound, Incident], None]:
    def apply(run: Rewound, at: Incident) -> None:
        n = at.last_sample - at.first_sample
        size = run.plan.batch_size
        last = at.first_sample - number * n  # ends where the spike begins, or before it
        if last - n < run.sample:  # no room before it: after the spike, then
            last = at.last_sample + (HOLD + 1 + number) * size + n
        run.changes = Changes(skip=frozenset(range(last - n, last)))

    return apply


def _other_data(run: Rewound, at: Incident) -> None:
    run.sample += FAR * run.plan.batch_size + (at.last_sample - run.sample)


def _beta2_lower(run: Rewound, at: Incident) -> None:
    one = run.injector.injection
    now = (one and one.beta2(at.onset)) or run.config.beta2
    run.changes = Changes(beta2=0.95 if now > 0.95 else 0.8)


def _mup(run: Rewound, at: Incident) -> None:
    width = run.shape.d_model
    run.changes = Changes(hidden_lr_factor=min(MUP_BASE, width // 2) / width)


def _earlier(run: Rewound, at: Incident) -> None:
    """The older state, put where the batches of the control begin."""
    steps = [s for s in checkpoint.list_steps(run.out / "state") if s < at.start]
    if not steps:
        raise PostmortemError("there is no checkpoint before the one that replays begin at")
    saved = checkpoint.load_latest(run.out / "state", step=steps[-1])
    sample, first = run.sample, run.injector.first_sample
    run.load(saved.step, sample, saved.tensors, run.skip)
    run.injector.first_sample = first


CURES = {
    cure.name: cure
    for cure in (
        Cure("untouched", "nothing: the control", "", _untouched, rewinds=False),
        Cure(
            "skip-batch",
            "leaves out the batches of the spike",
            "PaLM (Chowdhery et al. 2022, section 5.1): 100 steps back, 200 to 500 batches skipped",
            _skip_batch,
        ),
        Cure(
            "restart-from-checkpoint",
            "goes on from the checkpoint with other data: batches that come much later",
            "OPT-175B's restarts (Zhang et al. 2022)",
            _other_data,
        ),
        Cure(
            "earlier-checkpoint",
            "trains on the same batches from an older state",
            "PaLM, section 5.1: the same batches from another checkpoint made no spike",
            _earlier,
        ),
        Cure(
            "clip-tighter",
            "clips the gradient at a tenth of the norm for a while",
            "GLM-130B's shrunk embedding gradient is a kin (Zeng et al. 2022); OPT-175B clipped at"
            " 0.3",
            lambda run, at: _changes(clip=0.1 * (run.config.clip or 1.0))(run, at),
        ),
        Cure(
            "lr-cut",
            "trains at 0.3 of the rate for a while",
            "OPT-175B's logbook; BLOOM",
            _changes(lr_factor=0.3),
        ),
        Cure(
            "mup-rescale",
            "scales the rate of hidden matrices by base width / width from here on. Only this part"
            " of muP can be put on a model that runs: initial weights belong to step 0, and a new"
            " multiplier would change what the model computes",
            "Yang et al. 2022 (arXiv 2203.03466), table 8",
            _mup,
        ),
        Cure(
            "beta2-lower",
            "forgets old second moments faster from here on",
            "Molybog et al. 2023; OLMo 2 and GPT-3 train at 0.95",
            _beta2_lower,
        ),
        Cure(
            "update-clip",
            "scales a tensor's gradient down where it outgrows its second moment",
            "StableAdamW (Wortsman et al. 2023, arXiv 2304.13013)",
            _changes(update_clip=True),
        ),
        Cure(
            "data-swap",
            "trains on another text for a while",
            "mid-training mixtures: OLMo 2 (2025), section 4",
            lambda run, at: _changes(shards=_other_text(run))(run, at),
        ),
        Cure(
            "curriculum-step",
            "halves the sequences for a while, with as many tokens a step",
            "Li, Zhang & He 2022 (arXiv 2108.06084)",
            _changes(seq_share=0.5),
        ),
    )
}


def _other_text(run: Rewound) -> Shards:
    """The modern half of the embedded text, which is what a run on all of it can be swapped to."""
    if run.shards.source != "embedded":
        raise PostmortemError("no other text is known for this source; give a prepared folder")
    return Shards(prepare(EMBEDDED_FILES[1], run.shards.tokenizer, log=lambda line: None))
