"""Processes that outlive the one that started them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

children: dict[int, subprocess.Popen] = {}  # started by this process


def detached(arguments: list[str], log: Path, cwd: Path) -> subprocess.Popen:
    """Start a process that outlives this one and writes to a log of its own."""
    package = str(Path(__file__).resolve().parents[2])
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}
    environment.pop("MPLBACKEND", None)  # a kernel's own, which draws into the notebook
    with open(log, "ab") as output:
        child = subprocess.Popen(
            arguments,
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # no signal to the kernel's, papermill's or terminal's group
        )
    children[child.pid] = child
    return child


def is_alive(pid: int) -> bool:
    """Whether a process runs, one's own child or another's."""
    if pid in children:
        return children[pid].poll() is None
    try:
        os.kill(pid, 0)
        status = Path(f"/proc/{pid}/stat").read_text()  # one that nobody waited for still has one
        return status.rpartition(")")[2].split()[0] not in "ZX"
    except ProcessLookupError:
        return False
    except OSError:
        return True  # another user's, or a system without /proc
