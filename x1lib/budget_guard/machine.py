"""The machine that is billed: a name that lasts as long as its bill, and a clock nobody sets."""

from __future__ import annotations

import functools
import os
import platform
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


def boot_seconds() -> float:
    """Seconds on the clock that starts at boot, runs through sleep, and that nobody can set."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()  # since boot as well, without the time asleep


@dataclass(frozen=True)
class Machine:
    """One bill of one machine. Processes on it agree on all of this; a restarted pod is another.

    name: stands in the ledger. host: its host name. began_seconds: when the billed thing began, on
    `seconds`; began_with: what that was. seconds: its clock, never set back, alike in all
    processes. wall: seconds since 1970, used once for a time stamp that a reader gives.
    """

    name: str
    host: str
    began_seconds: float
    began_with: str = "process 1"
    seconds: Callable[[], float] = boot_seconds
    wall: Callable[[], float] = time.time


@functools.cache
def this_machine() -> Machine:
    """The machine that this process runs on.

    It began with process 1: in a container that is the container's start, where boot time is the
    host's; elsewhere it is the boot. The name holds the boot's id and process 1's start in clock
    ticks, so that a pod that was stopped, or a box that was rebooted, is a bill of its own.
    """
    host = platform.node() or "localhost"
    try:
        ticks = int(Path("/proc/1/stat").read_text().rpartition(")")[2].split()[19])
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except (OSError, IndexError, ValueError):  # no /proc, or process 1 is hidden
        return Machine(f"{host}:{_boot_session()}", host, 0.0, "boot")
    began = ticks / os.sysconf("SC_CLK_TCK")
    return Machine(f"{host}:{boot[:8]}:{ticks}", host, began)


def _boot_session() -> str:
    """What macOS calls this boot; where nothing does, one name for all boots of a host."""
    command = ["sysctl", "-n", "kern.bootsessionuuid"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "boot"
    return found[:8] or "boot"
