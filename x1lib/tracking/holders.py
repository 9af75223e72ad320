"""Whether somebody works in a run folder: asked of locks, which a dead process cannot hold."""

from __future__ import annotations

import fcntl
import json
import os
import platform
from pathlib import Path


def is_training(folder: Path) -> bool:
    """Whether a trainer is at work in a run folder."""
    lock = Path(folder) / "lock"
    return not is_dead(read_json(lock)) and is_locked(lock)


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock of a file; False where there is none."""
    try:
        with open(path) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def is_dead(holder: dict) -> bool:
    """Whether the process that wrote a lock file was on this host and is gone; asks no lock."""
    if not holder.get("pid") or holder.get("host") != platform.node():
        return False
    try:
        os.kill(holder["pid"], 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass  # another user's
    return False


def read_json(path: Path) -> dict:
    """What a JSON file holds; nothing where it is missing or damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
