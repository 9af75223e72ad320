"""A model and its AdamW state as flat, named tensors, and back."""

from __future__ import annotations

import torch

from x1lib.checkpoint.files import CheckpointError


def training_tensors(model, optimizer) -> dict[str, dict[str, torch.Tensor]]:
    """Everything of a model and its optimiser that training changes, for `save`.

    Optimiser tensors are named "<parameter>.<key>": exp_avg, exp_avg_sq and the step count that
    Adam's bias correction uses.
    """
    state = optimizer.state
    moments = {
        f"{name}.{key}": value
        for name, p in model.named_parameters()
        for key, value in state.get(p, {}).items()
    }
    return {"model": dict(model.state_dict()), "optimizer": moments}


def not_finite(tensors: dict[str, dict[str, torch.Tensor]]) -> str | None:
    """The name of the first tensor that holds NaN or infinity; None when all are finite."""
    for group in tensors.values():
        for name, tensor in group.items():
            if not tensor.isfinite().all():
                return name
    return None


def restore_training(model, optimizer, tensors: dict[str, dict[str, torch.Tensor]]) -> None:
    """Put saved tensors back in place; raises CheckpointError where they are another model's."""
    wanted = {name: p.shape for name, p in model.state_dict().items()}
    found = {name: t.shape for name, t in tensors["model"].items()}
    if wanted != found:
        odd = sorted(n for n in wanted.keys() | found.keys() if wanted.get(n) != found.get(n))
        raise CheckpointError(
            f"the checkpoint holds another model: {odd[0]} is {tuple(found.get(odd[0], ()))} there"
            f" and {tuple(wanted.get(odd[0], ()))} here; give the shape it was trained with"
        )
    model.load_state_dict(tensors["model"])
    optimizer.state.clear()
    for name, p in model.named_parameters():
        prefix = name + "."
        optimizer.state[p] = {
            key.removeprefix(prefix): value.to(p.device)
            for key, value in tensors["optimizer"].items()
            if key.startswith(prefix)
        }
        if not optimizer.state[p]:
            del optimizer.state[p]
