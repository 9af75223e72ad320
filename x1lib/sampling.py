"""Text from a model, one sampled token at a time."""

from __future__ import annotations

import torch


@torch.no_grad()
def generate(model, ids: list[int], n_tokens: int, temperature: float = 0.8, seed: int = 0):
    """Continue `ids` by n_tokens tokens drawn at a temperature; the same seed, the same text.

    model: tokens [1, seq] -> logits [1, seq, vocab]. Each token re-reads at most one window.
    """
    generator = torch.Generator().manual_seed(seed)
    device = next(model.parameters()).device
    for _ in range(n_tokens):
        window = torch.tensor([ids[-model.config.window :]], device=device)
        probabilities = (model(window)[0, -1].float().cpu() / temperature).softmax(-1)
        ids = [*ids, int(torch.multinomial(probabilities, 1, generator=generator))]
    return ids
