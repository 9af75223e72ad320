"""One step taken apart: norms by layer, rows of the embedding, samples, and the batch's tokens."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

import numpy as np
import torch

from x1lib import train
from x1lib.postmortem.corpus import Corpus
from x1lib.postmortem.rewound import Rewound

WORST = 3  # samples and rows that are named
SHOWN_CHARS = 240
MAY_BE_SHOWN = ("embedded", "public_domain", "wikipedia_intros")  # texts whose licence allows it


@dataclass
class Detail:
    """What one step was made of.

    tensors: name -> gradient norm (unclipped), weight norm, update norm, and g2_over_v: the sum of
    squared clipped gradients over the sum of second moments after the step. embedding_rows: the
    tokens whose rows the lookup's own gradient falls on most, with their share of its square (the
    tied head, which touches every row, is left out). lookup_share_rare: the share on rare rows.
    sample_losses: mean loss of each sample [nats / token]. worst: the worst samples, decoded where
    their text may be shown. histogram: batch and corpus by tenths of the corpus, frequent first.
    """

    step: int
    samples: list[int]
    tensors: dict[str, dict[str, float]] = field(default_factory=dict)
    embedding_rows: list[dict] = field(default_factory=list)
    lookup_share_rare: float = 0.0
    sample_losses: list[float] = field(default_factory=list)
    worst: list[dict] = field(default_factory=list)
    histogram: dict[str, list[float]] = field(default_factory=dict)

    def to_json(self) -> dict:
        return asdict(self)


def examine(run: Rewound, state: dict, corpus: Corpus, tokenizer=None) -> Detail:
    """Take the step that follows `state` and say what it was made of; leaves the run after it.

    Runs uncompiled, so that gradients inside can be looked at: equal within rounding.
    """
    run.restore(state)
    lookups: list[torch.Tensor] = []
    seen: list[torch.Tensor] = []

    def keep(module, inputs, output):
        if output.requires_grad:
            seen.append(inputs[0])
            output.register_hook(lookups.append)

    hook = run.model.embedding.register_forward_hook(keep)
    try:
        _, norm = train.differentiate(run, run.model, run.params)
    finally:
        hook.remove()
    found = Detail(run.step + 1, [int(run.injector.ids.min()), int(run.injector.ids.max())])
    clip = run.config.clip or float("inf")
    unclip = max(1.0, norm / clip)
    names = [name for name, _ in run.model.named_parameters()]
    gradients = {n: p.grad.detach().clone() for n, p in zip(names, run.params, strict=True)}
    before = {n: p.detach().clone() for n, p in zip(names, run.params, strict=True)}
    rows = torch.from_numpy(run.injector.rows)
    _samples(run, rows, found, tokenizer)
    train.update(run, run.optimizer)
    for group in run.optimizer.param_groups:
        for p in group["params"]:
            name = names[next(i for i, q in enumerate(run.params) if q is p)]
            state_of = run.optimizer.state[p]
            bias = 1 - group["betas"][1] ** state_of["step"].item()
            g = gradients[name].double()
            found.tensors[name] = {
                "gradient": unclip * g.norm().item(),
                "weight": p.detach().double().norm().item(),
                "update": (p.detach() - before[name]).double().norm().item(),
                "g2_over_v": (
                    g.square().sum() * bias / state_of["exp_avg_sq"].double().sum()
                ).item(),
            }
    found.tensors = {name: found.tensors[name] for name in names}
    _lookup(seen, lookups, corpus, found, tokenizer, run.shards.source)
    batch, whole = corpus.histogram(run.injector.rows.astype(np.int64))
    found.histogram = {"batch": batch.tolist(), "corpus": whole.tolist()}
    return found


def _lookup(seen, lookups, corpus: Corpus, found: Detail, tokenizer, source: str) -> None:
    """Rows of the embedding by the lookup's own gradient."""
    square = torch.zeros(corpus.vocab_size, dtype=torch.float64)
    ids = torch.cat([i.reshape(-1) for i in seen]).cpu()
    grads = torch.cat([g.reshape(-1, g.shape[-1]) for g in lookups]).double().cpu()
    unique, place = ids.unique(return_inverse=True)
    rows = torch.zeros(len(unique), grads.shape[1], dtype=torch.float64).index_add_(0, place, grads)
    square[unique] = rows.square().sum(1)
    total = max(square.sum().item(), 1e-300)
    found.lookup_share_rare = square[torch.from_numpy(corpus.rare)].sum().item() / total
    for token in square.topk(min(WORST * 3, len(square))).indices.tolist():
        row = {"token": token, "share": square[token].item() / total,
               "in_corpus": int(corpus.counts[token])}  # fmt: skip
        if tokenizer is not None and may_be_shown(source):
            row["text"] = tokenizer.decode([token])
        found.embedding_rows.append(row)


@torch.no_grad()
def _samples(run: Rewound, rows: torch.Tensor, found: Detail, tokenizer) -> None:
    losses = []
    for part in rows.split(run.plan.micro_batch):
        inputs, targets = train.pair(part, run.model.cos.device)
        each = run.model(inputs, targets, reduction="none").reshape(targets.shape)
        losses += each.double().mean(1).tolist()
    found.sample_losses = losses
    for place in np.argsort(losses)[::-1][:WORST].tolist():
        one = {"sample": int(run.injector.ids[min(place, len(run.injector.ids) - 1)]),
               "loss": losses[place]}  # fmt: skip
        if tokenizer is not None and may_be_shown(run.shards.source):
            one["text"] = tokenizer.decode(rows[place].tolist())[:SHOWN_CHARS]
        found.worst.append(one)


def may_be_shown(source: str) -> bool:
    """Whether a page may quote a source: the embedded texts, which are free."""
    return source in MAY_BE_SHOWN
