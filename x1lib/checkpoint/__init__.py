"""Checkpoints that survive kills, bit rot and full disks, and the export to Hugging Face."""

from x1lib.checkpoint.export import export_hf
from x1lib.checkpoint.files import CheckpointError, NoSpaceError, NoSuchStepError
from x1lib.checkpoint.store import Checkpoint, list_steps, load_latest, pin, pins, save
from x1lib.checkpoint.training import not_finite, restore_training, training_tensors

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "NoSpaceError",
    "NoSuchStepError",
    "export_hf",
    "list_steps",
    "load_latest",
    "not_finite",
    "pin",
    "pins",
    "restore_training",
    "save",
    "training_tensors",
]
