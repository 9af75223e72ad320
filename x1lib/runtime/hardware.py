"""The machine as a reader would have to rent it again: cores, memory, cards."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import torch

from x1lib.runtime.machine import device_name

CGROUP = Path("/sys/fs/cgroup")


def hardware() -> dict[str, object]:
    """Name and cores of the CPU, memory [bytes], and the CUDA cards; None for what nobody says."""
    return {
        "cpu": device_name("cpu"),
        "logical_cores": os.cpu_count(),
        "usable_cores": usable_cores(),
        "memory_bytes": _memory_bytes(),
        "memory_limit_bytes": _limit("memory.max"),
        "gpu": _gpu() if torch.cuda.is_available() else None,
    }


def usable_cores() -> float | None:
    """Cores that this process may use: what it is bound to, and a container's quota if lower."""
    try:
        bound = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        bound = os.cpu_count()
    quota = _words("cpu.max")
    if bound is None or len(quota) != 2 or not all(word.isdecimal() for word in quota):
        return bound
    return min(bound, int(quota[0]) / int(quota[1]))  # microseconds of CPU in each period


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def _limit(name: str) -> int | None:
    words = _words(name)
    return int(words[0]) if words and words[0].isdecimal() else None  # "max": none


def _words(name: str) -> list[str]:
    """What a file of the control group says (Linux, version 2), nothing elsewhere."""
    try:
        return (CGROUP / name).read_text().split()
    except OSError:
        return []


def _gpu() -> dict[str, object]:
    """The CUDA card that trains, as torch and the driver describe it."""
    card = torch.cuda.get_device_properties(torch.cuda.current_device())
    driver, mig = _driver()
    return {
        "name": card.name,
        "count": torch.cuda.device_count(),
        "memory_bytes": card.total_memory,
        "compute_capability": f"{card.major}.{card.minor}",
        "cuda": torch.version.cuda,
        "driver": driver,
        "mig": mig,
    }


def _driver() -> tuple[str | None, bool | None]:
    """Version of the driver, and whether the card is split (MIG), as nvidia-smi says."""
    command = ["nvidia-smi", "--query-gpu=driver_version,mig.mode.current", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None, None
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        return None, None
    driver, _, mode = (word.strip() for word in lines[0].partition(","))
    return driver or None, {"Enabled": True, "Disabled": False}.get(mode)  # "[N/A]": cannot be
