"""The rungs: which change each one makes, and which of them this machine can show."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn as nn

from x1lib import X1Error, runtime
from x1lib.train import GPT, Config

NAMES = ("eager", "bf16", "compile", "attention", "vocabulary", "not-deterministic")
MEASURED, NOT_MEASURED = "measured", "not measured"
NOT_ASKED = "not asked for"

# Largest relative differences between rungs of the loss and of the gradient norm, which share
# weights and batch. A loss near its start hardly sees attention; the gradient norm does. Seen at
# 1x64, tiny, 50m and 240m: rounding to bf16 moves them by up to 1.4e-5 and 2.2e-3; attention
# without a mask, or with one shifted by a token, moves the norm by 1e-2 and more, or the loss by
# 3e-4 and more.
TOLERANCE = {"float32": (1e-5, 1e-4), "bfloat16": (2e-4, 5e-3)}


class WrongRung(X1Error, RuntimeError):
    """A rung whose loss or gradient is not that of the others: it computes something else."""


@dataclass(frozen=True)
class Rung:
    """One way to compute the same training step; the rungs are cumulative."""

    name: str
    change: str  # against the rung before, in words
    dtype: str = "float32"
    attention: str = "plain"
    compile: bool = False
    padded: bool = False
    deterministic: bool = True
    status: str = MEASURED
    why: str | None = None  # it is not measured


def lay_out(machine: runtime.Machine, vocab_size: int, padded_size: int, wanted=NAMES) -> list:
    """The rungs from slow to fast up to what the trainer would take on this machine.

    machine: the fastest that choose_machine finds. A rung that would change nothing here stays
    in the list as not measured, with the reason; the ones after it go on from the one before.
    """
    note = {line.partition(":")[0]: line for line in machine.notes}
    pads, dtype = padded_size != vocab_size, machine.dtype
    first = Rung("eager", "eager, float32, plain attention, vocabulary as it is",
                 padded=not pads, deterministic=machine.deterministic)  # fmt: skip
    steps = [
        ("bf16", "products and activations in bfloat16", {"dtype": dtype}, dtype != "float32",
         note.get("float32", "float32 was asked for")),
        ("compile", "torch.compile", {"compile": True}, machine.compile,
         note.get("eager", "compile is off")),
        ("attention", f"{machine.attention} attention", {"attention": machine.attention},
         machine.attention != "plain", "plain attention was asked for"),
        ("vocabulary", f"vocabulary padded from {vocab_size:,} to {padded_size:,}",
         {"padded": True}, pads, f"{vocab_size:,} is a multiple of 128 already"),
        ("not-deterministic", "kernels that need not repeat their bits", {"deterministic": False},
         machine.deterministic, "no rung is deterministic, as was asked"),
    ]  # fmt: skip
    rungs = [first]
    for name, change, values, possible, why in steps:
        before = replace(rungs[-1], name=name, change=change, status=MEASURED, why=None)
        skipped = {"status": NOT_MEASURED, "why": why}
        rungs.append(replace(before, **(values if possible else skipped)))
    return [
        one if one.name in wanted else replace(one, status=NOT_MEASURED, why=NOT_ASKED)
        for one in rungs
    ]


def naming(rung: Rung) -> dict:
    """What distinguishes a rung from another that does the same work."""
    return {field: getattr(rung, field) for field in ("name", "change", "status", "why")}


class _Bare(GPT):
    """A GPT that draws no weights, since it is given another's."""

    def initialise(self, generator: torch.Generator) -> None:
        pass


class Models:
    """Models of rungs on one set of weights: only one model's memory, and the same loss."""

    def __init__(self, config: Config, vocab_size: int, device: str):
        self.config, self.vocab_size, self.device = config, vocab_size, device
        self.base = GPT(config, vocab_size).to(device)
        unpadded = self.base.embedding.weight.detach()[:vocab_size].clone()
        self.unpadded = nn.Parameter(unpadded) if len(unpadded) < len(self._rows) else self._rows

    @property
    def _rows(self) -> nn.Parameter:
        return self.base.embedding.weight

    def build(self, rung: Rung) -> GPT:
        """The model of a rung; its parameters are shared with those of all others."""
        with torch.device(self.device):
            dtype = getattr(torch, rung.dtype)
            model = _Bare(self.config, self.vocab_size, rung.attention, dtype)
        model.load_state_dict(self.base.state_dict(keep_vars=True), assign=True)
        if not rung.padded:
            model.embedding.weight = self.unpadded
        return model


class Agreement:
    """Holds every rung to the loss and gradient norm that the first one found on the same batch."""

    def __init__(self) -> None:
        self.first: dict[int, tuple[Rung, float, float]] = {}  # by the batch's first sample

    def check(self, rung: Rung, sample: int, loss: float, norm: float) -> None:
        """Raise WrongRung where a rung differs by more than rounding."""
        other, *expected = self.first.setdefault(sample, (rung, loss, norm))
        rounded = "bfloat16" if "bfloat16" in (rung.dtype, other.dtype) else "float32"
        found, names = (loss, norm), ("loss", "gradient norm")
        for name, a, b, tolerance in zip(names, found, expected, TOLERANCE[rounded], strict=True):
            if not abs(a - b) <= tolerance * abs(b):  # NaN is not within it either
                raise WrongRung(
                    f"rung {rung.name!r} computes something else: {name} {a:.6g}, and"
                    f" {other.name!r} has {b:.6g} on the same weights and batch; a relative"
                    f" {tolerance:g} is allowed, so nothing was stored: its speed would say nothing"
                )
