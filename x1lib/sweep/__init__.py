"""Sweeps: many runs under one plan and one reservation, from points to a law and a prediction."""

from x1lib.sweep.answers import billions
from x1lib.sweep.costs import Choice, Speed, choices, gpu_speed
from x1lib.sweep.design import (
    CPU_SIZES,
    GPU_RECIPE,
    GPU_SIZES,
    GPU_TOKENS,
    TRIPLE,
    Design,
    Recipe,
    Run,
    SweepError,
    cpu_size,
)
from x1lib.sweep.fitting import DEFAULT_N, Fitted, fit_points, ruler
from x1lib.sweep.joint import Joint, JointLaw, fit_joint
from x1lib.sweep.lab import Planned, Results, Settings, answer, plan, run
from x1lib.sweep.points import (
    Point,
    budgets_inside,
    finished,
    fixed_compute,
    fixed_tokens,
    noise_floor,
)
from x1lib.sweep.points import read as read_points
from x1lib.sweep.processes import RunnerError
from x1lib.sweep.sealing import Reveal, Target

__all__ = [
    "CPU_SIZES",
    "DEFAULT_N",
    "GPU_RECIPE",
    "GPU_SIZES",
    "GPU_TOKENS",
    "TRIPLE",
    "Choice",
    "Design",
    "Fitted",
    "Joint",
    "JointLaw",
    "Planned",
    "Point",
    "Recipe",
    "Results",
    "Reveal",
    "Run",
    "RunnerError",
    "Settings",
    "Speed",
    "SweepError",
    "Target",
    "answer",
    "billions",
    "budgets_inside",
    "choices",
    "cpu_size",
    "finished",
    "fit_joint",
    "fit_points",
    "fixed_compute",
    "fixed_tokens",
    "gpu_speed",
    "noise_floor",
    "plan",
    "read_points",
    "ruler",
    "run",
]
