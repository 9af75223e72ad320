"""What a sweep trains: sizes x token counts x seeds, cut from chains that share their beginning.

The runs of one size and seed are a chain, its trunk. The shortest one warms up, trains at the peak
and cools down; the next starts from the state in which that one began to cool down, goes on at the
peak, and cools down in its turn. So every run is a whole WSD run of its own, and no token at the
peak is trained twice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property

from x1lib import X1Error
from x1lib.economics import flops_per_token
from x1lib.pacing import Schedule
from x1lib.shapes import SHAPES, ParamCount, Shape, count_params, resolve
from x1lib.train import Config

VOCABULARY = {"bpe4096": 4096, "gpt2": 50257}
NEVER = 10**9  # steps: not on the way
FIT, HELDOUT = "fit", "heldout"


class SweepError(X1Error, ValueError):
    """A sweep that cannot be designed, or goes on from other settings than it began with."""


@dataclass(frozen=True)
class Recipe:
    """What all runs of a sweep share; lr and weight decay are given at base_width."""

    source: str = "embedded"
    tokenizer: str = "bpe4096"
    seq_len: int = 256
    batch_tokens: int = 512
    lr: float = 0.001
    base_width: int = 256
    base_layers: int = 2
    warmup: float = 0.02
    cooldown: float = 0.2
    final_eval_tokens: int = 32_768
    device: str = "cpu"


@dataclass(frozen=True)
class Run:
    """One run of a design: n_tokens from the first on, of which `parent` trained branch_step."""

    id: str
    trunk: str
    role: str  # "fit", or "heldout": predicted before it is trained
    shape: str
    seed: int
    n_tokens: int
    n_steps: int
    cooldown_step: int  # where the next of its trunk begins
    parent: str | None
    branch_step: int
    is_last: bool

    @property
    def own_steps(self) -> int:
        """Steps that it trains itself."""
        return self.n_steps - self.branch_step


@dataclass(frozen=True)
class Design:
    """Sizes from the smallest, the last of which is held out; the `replicated` first have `seeds`.

    tokens: of each size, multiples of the batch. Raises SweepError for one that cannot be.
    """

    sizes: tuple[str, ...]
    tokens: tuple[int, ...]
    seeds: int = 3
    replicated: int = 2
    recipe: Recipe = Recipe()

    def __post_init__(self) -> None:
        batch = self.recipe.batch_tokens
        if len(self.sizes) < 3 or len(set(self.sizes)) < len(self.sizes):
            raise SweepError(
                f"sizes are {', '.join(self.sizes) or 'none'}; give three or more that differ, the"
                " largest of which is held out"
            )
        if len(self.tokens) < 2 or list(self.tokens) != sorted(set(self.tokens)):
            raise SweepError(f"token counts are {self.tokens}; give two or more, rising")
        odd = [n for n in self.tokens if n % batch or n < 10 * batch]
        if odd:
            raise SweepError(f"{odd[0]:,} tokens are no multiple, from ten on, of {batch:,} a step")
        if self.seeds < 1 or not 0 <= self.replicated < len(self.sizes):
            raise SweepError("give one seed or more, and replicate none, or some, of the fitted")
        bodies = [self.count(size).body for size in self.sizes]
        if bodies != sorted(bodies):
            raise SweepError("sizes are not in order; give the smallest first")
        for i in range(1, len(self.tokens)):
            if self._starts[i] <= self._starts[i - 1]:
                raise SweepError(f"{self.tokens[i]:,} tokens are too near to the count before")

    # ---- its runs

    @cached_property
    def _starts(self) -> list[int]:
        """Step at which a run of each token count begins to cool down."""
        r = self.recipe
        steps = [n // r.batch_tokens for n in self.tokens]
        return [Schedule.of(n, r.warmup, r.cooldown).cooldown_start for n in steps]

    @cached_property
    def runs(self) -> tuple[Run, ...]:
        """Every run, by token count, then size, then seed: what is short comes first."""
        found = []
        for i, n_tokens in enumerate(self.tokens):
            for number, size in enumerate(self.sizes):
                role = HELDOUT if number == len(self.sizes) - 1 else FIT
                for seed in range(self.seeds if number < self.replicated else 1):
                    trunk = f"{label(size)}-s{seed}"
                    found.append(
                        Run(
                            id=f"{trunk}-{thousands(n_tokens)}",
                            trunk=trunk,
                            role=role,
                            shape=size,
                            seed=seed,
                            n_tokens=n_tokens,
                            n_steps=n_tokens // self.recipe.batch_tokens,
                            cooldown_step=self._starts[i],
                            parent=f"{trunk}-{thousands(self.tokens[i - 1])}" if i else None,
                            branch_step=self._starts[i - 1] if i else 0,
                            is_last=i == len(self.tokens) - 1,
                        )
                    )
        return tuple(found)

    def of_role(self, role: str) -> list[Run]:
        return [run for run in self.runs if run.role == role]

    def config(self, run: Run, sealed: str = "") -> Config:
        """The trainer's settings of a run, as seen from the folder that holds all runs."""
        r, on_cpu = self.recipe, self.recipe.device == "cpu"
        shape = self.shape(run.shape)
        return Config(
            out=run.id,
            shape=run.shape,
            seed=run.seed,
            tokens=run.n_tokens,
            branch_from=f"{run.parent}@{run.branch_step}" if run.parent else "",
            sealed=sealed,
            source=r.source,
            tokenizer=r.tokenizer,
            seq_len=r.seq_len,
            batch_tokens=r.batch_tokens,
            lr=r.lr,
            base_width=r.base_width,
            branch_multiplier=r.base_layers / shape.n_layers,  # Dey et al. 2025: ~ 1 / depth
            warmup=r.warmup,
            cooldown=r.cooldown,
            device=r.device,
            compile="off" if on_cpu else "auto",  # compiling takes longer than it saves there
            threads=1 if on_cpu else 0,  # the same bits however many runs go on beside it
            eval_every=NEVER,
            eval_tokens=2048,
            final_eval_tokens=r.final_eval_tokens,
            checkpoint_every=max(50, run.n_steps // 20),
            milestones="" if run.is_last else str(run.cooldown_step),
            keep_last=1,
            log_every=max(1, run.n_steps // 400),
            sample_tokens=0,
        )

    # ---- what it costs

    def shape(self, size: str) -> Shape:
        return resolve(size, VOCABULARY.get(self.recipe.tokenizer))

    def count(self, size: str) -> ParamCount:
        return count_params(self.shape(size))

    def flops_per_token(self, size: str) -> float:
        """Head and attention included (PaLM's convention)."""
        return flops_per_token(self.shape(size), self.recipe.seq_len)

    def own_tokens(self, run: Run) -> int:
        """Tokens that a run trains itself."""
        return run.own_steps * self.recipe.batch_tokens

    @property
    def flops(self) -> float:
        """Training FLOPs of the whole sweep."""
        return math.fsum(
            self.own_tokens(run) * self.flops_per_token(run.shape) for run in self.runs
        )

    def same_as(self, other: Design) -> list[str]:
        """What a sweep that goes on must share with the one that began, and does not."""
        return [
            f"{f.name} {getattr(other.recipe, f.name)!r}, not {getattr(self.recipe, f.name)!r}"
            for f in fields(Recipe)
            if getattr(self.recipe, f.name) != getattr(other.recipe, f.name)
        ]


def label(size: str) -> str:
    """A size as a name of files: "2x64:2/1:192" is 2x64."""
    return size.partition(":")[0]


def thousands(n_tokens: int) -> str:
    """A token count as a name of files: 249856 is 250k."""
    return f"{round(n_tokens / 1000)}k"


def in_batches(n_tokens: float, batch_tokens: int) -> int:
    """The nearest multiple of the batch, of ten steps at least."""
    return max(10, round(n_tokens / batch_tokens)) * batch_tokens


# ------------------------------------------------------------------------------- the two plans


def cpu_size(width: int) -> str:
    """Two layers of heads 8 wide, two to a key/value head, SwiGLU 3 x the width."""
    return f"2x{width}:{width // 8}/{width // 16}:{3 * width}"


# Small models and as many tokens as minutes hold. With widths 32 to 192 and 0.25M to 2M tokens the
# law misses: the gap between sizes still grows with D there, and A / N^alpha does not (LOG.md).
CPU_SIZES = tuple(cpu_size(width) for width in (16, 32, 64, 96))
CPU_TOKENS = (0.75e6, 1.2e6, 2e6, 3.2e6)  # times a factor that the probe chooses
GPU_SIZES = ("5m", "12m", "25m", "50m", "100m")
GPU_TOKENS = (75e6, 150e6, 300e6, 600e6, 1.2e9)
TRIPLE = ("5m", "25m", "100m")
assert set(GPU_SIZES) < SHAPES.keys()

# Learning rate and batch of the CPU plan: experiments/reference/lr-batch-sweep. Doubt, of the GPU
# plan: nobody has swept them at these sizes. Step Law, outside its fit, says 0.0083 for 5m and 100M
# tokens, and twice what was best at `tiny` on a CPU; so half of it. Batch: Step Law at 700M tokens.
CPU_RECIPE = Recipe()
GPU_RECIPE = Recipe(
    source="", tokenizer="gpt2", seq_len=1024, batch_tokens=65_536, lr=0.004,
    base_width=256, base_layers=7, final_eval_tokens=1_000_000, device="cuda",
)  # fmt: skip


def spread(tokens: Sequence[float], factor: float, recipe: Recipe) -> tuple[int, ...]:
    """Token counts times a factor, in whole batches."""
    return tuple(in_batches(n * factor, recipe.batch_tokens) for n in tokens)
