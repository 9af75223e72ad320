"""A stretch of training watched closely: a few numbers a step."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch

from x1lib import runtime
from x1lib.postmortem.corpus import Corpus
from x1lib.postmortem.rewound import Rewound
from x1lib.session.spikes import probe_loss

SERIES = (
    "step", "loss", "grad_norm", "lr", "update_rms", "gv", "probe",
    "rare", "gain", "row_gain", "repetition",
)  # fmt: skip


@dataclass
class Trace:
    """Series of equal length, a place a step, as `watch` made them; .failed where it broke off.

    update_rms: root mean square of what the weights moved by. gv: clipped gradient norm over the
    root of the summed second moment. probe: loss after the update on held-out rows [nats / token].
    rare, gain, row_gain, repetition: of the batch, see `Corpus.describe`. orderless_gain: what gain
    falls to when tokens are shuffled.
    """

    series: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in SERIES})
    orderless_gain: float = 0.0
    failed: str | None = None
    rows: list[np.ndarray] = field(default_factory=list, repr=False)  # the batches, if kept

    def __getitem__(self, name: str) -> np.ndarray:
        return np.array(self.series[name], float)

    def __len__(self) -> int:
        return len(self.series["step"])

    def place(self, step: int) -> int:
        return self.series["step"].index(step)

    def part(self, first: int, last: int | None = None) -> Trace:
        """Places first to last."""
        series = {name: values[first:last] for name, values in self.series.items()}
        return Trace(series, self.orderless_gain, None, self.rows[first:last])

    def __add__(self, later: Trace) -> Trace:
        series = {name: self.series[name] + later.series[name] for name in SERIES}
        return Trace(series, self.orderless_gain, later.failed, self.rows + later.rows)

    def save(self, path: Path) -> None:
        values = {k: v for k, v in asdict(self).items() if k != "rows"}
        Path(path).write_text(json.dumps(values) + "\n")


def watch(run: Rewound, n_steps: int, corpus: Corpus, *, keep_rows: bool = True) -> Trace:
    """Train n_steps and note at each what SERIES lists; ends early where a loss is not finite."""
    found = Trace()
    for _ in range(n_steps):
        try:
            values = run.take_step(observe=True, probe=True)
        except runtime.NotFiniteError as error:
            found.failed = str(error)
            break
        rows = run.injector.rows
        values |= corpus.describe(rows)
        for name in SERIES:
            found.series[name].append(values[name])
        if keep_rows:
            if not found.rows:  # one block for all: many small ones would break up the heap
                block = np.empty((n_steps, *rows.shape), rows.dtype)
            block[len(found.rows)] = rows
            found.rows.append(block[len(found.rows)])
    if found.rows:
        found.orderless_gain = corpus.orderless_gain(np.concatenate(found.rows[:8]))
    return found


def batch_excess(run: Rewound, state: dict, suspects: list, usual: list) -> float:
    """How much harder the worst of some batches is than the usual ones, for one state [nats].

    A forward pass each, at the same weights: what the training loss cannot say, whose batches each
    meet other weights. suspects, usual: rows [n, seq + 1]. The run is left at `state`.
    """
    run.restore(state)
    ours, others = ([probe_loss(run.model, torch.from_numpy(r)) for r in rows]
                    for rows in (suspects, usual))  # fmt: skip
    return max(ours) - float(np.median(others))
