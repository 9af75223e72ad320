"""What a sweep takes and what it can tell, both computed before anything runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from x1lib.economics import estimate
from x1lib.scaling import Identifiability, identifiability
from x1lib.sweep.design import FIT, HELDOUT, Design, Run

SIGMA, SIGMA_TRUNK = 0.002, 0.003  # log loss: expected of a point, and of what a trunk shares
EVALUATION = 1 / 3  # of a training step's time: forward only
GPU_OVERHEAD_SECONDS = 150.0  # of a run: compiling, evaluating, writing; a guess, nobody timed it


@dataclass(frozen=True)
class Speed:
    """How fast runs go: tokens/s by size with `jobs` of them at work, seconds that each adds."""

    tokens_per_sec: Mapping[str, float]
    overhead_seconds: float
    jobs: int = 1
    source: str = "measured"

    def seconds(self, design: Design, run: Run) -> float:
        """Wall-clock of one run."""
        evaluated = EVALUATION * 2 * design.recipe.final_eval_tokens  # of each of two texts
        tokens = design.own_tokens(run) + evaluated
        return self.overhead_seconds + tokens / self.tokens_per_sec[run.shape]

    def sweep_seconds(self, design: Design) -> float:
        """Wall-clock of the whole sweep: the fitted sizes side by side, then the held-out one.

        Of the held-out chain one run cools down while the next goes on, where there are two jobs.
        """
        fitted = [self.seconds(design, run) for run in design.of_role(FIT)]
        chains: dict[str, float] = {}
        for run in design.of_role(FIT):
            chains[run.trunk] = chains.get(run.trunk, 0.0) + self.seconds(design, run)
        heldout = [self.seconds(design, run) for run in design.of_role(HELDOUT)]
        share = 1 / min(self.jobs, 2)
        return max(sum(fitted) / self.jobs, share * max(chains.values())) + max(
            share * sum(heldout), max(heldout)
        )


def gpu_speed(design: Design, gpu: str, mfu: float = 0.40) -> Speed:
    """The speed that a card has at this MFU: a plan's, not a measurement."""
    rates = {}
    for size in design.sizes:
        run = estimate(
            shape=design.shape(size), n_tokens=1e9, gpu=gpu, mfu=mfu, seq_len=design.recipe.seq_len
        )
        rates[size] = 1e9 / (3600 * run.hours)
    return Speed(rates, GPU_OVERHEAD_SECONDS, 1, f"planned, MFU {mfu:g} on {gpu}")


def fitting_factor(design: Design, tokens: Sequence[float], speed: Speed, hours: float, spread):
    """The largest factor on `tokens` with which the sweep fills nine tenths of the hours.

    spread(factor) gives the token counts. Raises nothing: below 0.1 it stays 0.1, and the hours
    then end the sweep.
    """
    low, high = math.log(0.1), math.log(1.0e3)
    for _ in range(40):
        middle = (low + high) / 2
        trial = replace(design, tokens=spread(math.exp(middle)))
        fits = speed.sweep_seconds(trial) <= 0.9 * 3600 * hours
        low, high = (middle, high) if fits else (low, middle)
    return math.exp(low)


@dataclass(frozen=True)
class Choice:
    """One possible design: its price, and the interval of D_opt(1B) [tokens] to expect of it."""

    name: str
    n_sizes: int
    n_token_counts: int
    n_runs: int
    flops: float
    hours: float
    usd: float
    known: Identifiability

    @property
    def verdict(self) -> str:
        k = self.known
        if k.rank < 5:
            return f"rank {k.rank} of 5: no law comes out of it"
        if k.saturated_in_n:
            return "rank 5, saturated in N: no residual can tell which N is right"
        return "rank 5, with residuals in N and D"


def choices(design: Design, speed: Speed, usd_per_hour: float) -> list[Choice]:
    """The triple at one token count, at all, and every size of the design at all, with its seeds.

    The interval counts N as all parameters, under Besiroglu et al.'s law, with noise as SIGMA.
    """
    sizes = design.sizes
    triple = (sizes[0], sizes[len(sizes) // 2], sizes[-1])
    plain = replace(design, seeds=1)
    found = [
        ("three sizes, one D", _runs(plain, triple, design.tokens[-1:])),
        ("three sizes, every D", _runs(plain, triple, design.tokens)),
    ]
    if len(sizes) > 3:
        found.append(("every size, every D", list(plain.runs)))
    if design.seeds > 1:
        found.append(("and seeds: this plan", list(design.runs)))
    return [_choice(name, design, runs, speed, usd_per_hour) for name, runs in found]


def _runs(design: Design, sizes, tokens) -> list[Run]:
    return [run for run in design.runs if run.shape in sizes and run.n_tokens in tokens]


def _choice(name: str, design: Design, runs: list[Run], speed: Speed, usd_per_hour: float):
    one_d = len({run.n_tokens for run in runs}) == 1
    whole = {run.id: run.n_tokens if one_d else design.own_tokens(run) for run in runs}
    seconds = [
        speed.seconds(design, run)
        + (whole[run.id] - design.own_tokens(run)) / speed.tokens_per_sec[run.shape]
        for run in runs
    ]
    hours = sum(seconds) / speed.jobs / 3600
    known = identifiability(
        [design.count(run.shape).total for run in runs],
        [run.n_tokens for run in runs],
        sigma=SIGMA,
        trunk=[run.trunk for run in runs],
        sigma_trunk=SIGMA_TRUNK,
    )
    return Choice(
        name=name,
        n_sizes=known.n_sizes,
        n_token_counts=known.n_token_counts,
        n_runs=len(runs),
        flops=sum(whole[run.id] * design.flops_per_token(run.shape) for run in runs),
        hours=hours,
        usd=hours * usd_per_hour,
        known=known,
    )
