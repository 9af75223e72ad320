"""What a run derives from its size before step 0: batch, steps, learning rate, schedule."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from x1lib.pacing import Schedule
from x1lib.settings import ConfigError

# The share of peak that a first guess of a run's tokens assumes; a probe replaces it at once.
ASSUMED_MFU = {"cuda": 0.40, "mps": 0.15, "cpu": 0.20}
BATCH_FACTOR, BATCH_EXPONENT = 0.58, 0.571
# Guards: of a small model trained for days the law is asked far outside its fit. At `tiny` 0.03
# is already worse than 0.01 (LOG.md); no batch above 2M tokens is of use at this course's sizes.
MAX_LR, MAX_BATCH_TOKENS = 0.01, 2**21
MIN_SEQUENCES = 8  # a smaller batch leaves the matrix products too thin to be worth a step


def step_law_lr(n_body: int, n_tokens: float) -> float:
    """Peak learning rate by Step Law (Li et al. 2025, arXiv 2503.04715), N without embeddings.

    Doubt: fitted on models of 60M to 1B parameters; below, it is an extrapolation.
    """
    return min(MAX_LR, 1.79 * n_body**-0.713 * n_tokens**0.307)


def step_law_batch_tokens(n_tokens: float) -> float:
    """Tokens a step by Step Law, the same source; fitted on batches above 250k tokens."""
    return min(MAX_BATCH_TOKENS, BATCH_FACTOR * n_tokens**BATCH_EXPONENT)


def tokens_of_steps(n_steps: int) -> float:
    """Tokens D of a run of n_steps whose batch is Step Law's own: D = steps x 0.58 D^0.571."""
    n_tokens = (BATCH_FACTOR * n_steps) ** (1 / (1 - BATCH_EXPONENT))
    return min(n_tokens, n_steps * MAX_BATCH_TOKENS)


def split_batch(n_sequences: float, limit: int, exact: bool) -> tuple[int, int]:
    """Return (sequences a step, sequences a forward pass); the second divides the first.

    limit: the most sequences that one pass may hold. exact: keep n_sequences, else round it so
    that passes are full.
    """
    batch = max(1, round(n_sequences)) if exact else max(MIN_SEQUENCES, round(n_sequences))
    if not exact and batch > limit:
        batch = round(batch / limit) * limit
    return batch, largest_divisor(batch, limit)


def largest_divisor(n: int, limit: int) -> int:
    """The largest divisor of n that is at most limit (and at least 1)."""
    return next(d for d in range(max(1, min(n, limit)), 0, -1) if n % d == 0)


@dataclass(frozen=True)
class Plan:
    """What is derived at the start of a run and kept to its end."""

    window: int  # tokens a sequence
    batch_size: int  # sequences a step
    micro_batch: int  # sequences a forward pass; divides batch_size
    lr: float  # peak
    reference_lr: float  # which weight decay is counted in: Step Law's, or the one of base_width
    weight_decay: float  # as torch takes it, which multiplies it by lr: see `derive`
    schedule: Schedule
    step_bound: int | None = None  # the most steps that tokens or steps allow, whatever the hours
    eval_every: int = 1  # steps
    eval_tokens: int = 0  # of each held-out text, in an evaluation on the way
    checkpoint_every: int = 1  # steps
    reserve_seconds: float = 0.0  # in hours: kept for what comes after the last step
    step_seconds: float = 0.0  # in hours: as timed when the run was planned
    final_eval_tokens: int | None = None  # of each held-out text; None: all of it

    @classmethod
    def from_json(cls, values: dict) -> Plan:
        """The plan that `dataclasses.asdict` and JSON made these values of."""
        return cls(**{**values, "schedule": Schedule.from_json(values["schedule"])})


def derive(
    config,
    *,
    n_body: int,
    guess_tokens: float,
    micro_limit: int,
    steps_in_time: Callable[[int, int], tuple[int, int]],
    parent: Plan | None = None,
    first_step: int = 0,
) -> Plan:
    """Derive the plan of a run from its settings; what a setting gives is taken as given.

    guess_tokens: what the hours hold at the assumed MFU, 0 without hours. micro_limit: sequences
    that one pass may hold. steps_in_time(batch_size, micro_batch) times real steps and returns how
    many fit, and the micro-batch that did. parent: the plan of the run that this one branches
    from at first_step, whose derived batch and learning rate it keeps; steps and tokens count
    from its start. Raises ConfigError when that leaves the branch nothing to train.
    """
    c = config
    # 1. How many tokens, roughly: the batch depends on it, and the exact number on the batch.
    sizes = [n for n in (c.tokens, guess_tokens, c.steps * c.batch_tokens) if n]
    if c.steps and not c.batch_tokens:
        sizes.append(tokens_of_steps(c.steps))
    # 2. The batch, in whole sequences and whole passes.
    given = c.batch_tokens or (parent.batch_size * parent.window if parent else 0)
    n_sequences = (given or step_law_batch_tokens(min(sizes))) / c.window
    batch, micro = split_batch(n_sequences, micro_limit, exact=bool(given))
    # 3. The steps: whichever end comes first.
    ends = [n for n in (c.steps, -(-c.tokens // (batch * c.window))) if n]
    bound = min(ends, default=None)
    if c.hours:
        fits, micro = steps_in_time(batch, micro)
        ends.append(fits)
    total = min(ends)
    if total <= first_step:
        raise ConfigError(
            f"steps and tokens end the run at step {total:,}, and it branches at {first_step:,};"
            " they count from the first run's start: give more"
        )
    # 4. The learning rate for that many tokens; and independent weight decay, so that a step takes
    #    weight_decay x reference x schedule off the weights, whatever lr is (Wortsman et al. 2023).
    #    With base_width the reference is the lr given there: Step Law's falls with the size.
    own = c.lr if c.base_width else step_law_lr(n_body, total * batch * c.window)
    reference = parent.reference_lr if parent else own
    lr = c.lr or (parent.lr if parent else reference)
    return Plan(
        window=c.window,
        batch_size=batch,
        micro_batch=micro,
        lr=lr,
        reference_lr=reference,
        weight_decay=c.weight_decay * reference / lr,
        schedule=Schedule.of(total, c.warmup, c.cooldown, first_step=first_step),
        step_bound=bound,
        eval_every=c.eval_every or max(1, total // 10),
        eval_tokens=c.eval_tokens,
        checkpoint_every=c.checkpoint_every or max(1, total // 20),
    )
