"""What a measurement left in its folder, and measuring from a notebook."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path

import torch

from x1lib import X1Error
from x1lib.ladder.settings import Settings
from x1lib.runtime.machine import device_name

FORMAT = 1
LADDER, PROFILE = "ladder.json", "profile.json"


class LadderError(X1Error, ValueError):
    """A measurement that is missing, cannot be read, or failed."""


def load(folder: Path) -> dict:
    """The ladder that was measured into a folder; raises LadderError where there is none."""
    return _read(Path(folder) / LADDER)


def load_profile(folder: Path) -> dict:
    """The profile of one step that was recorded into a folder; raises LadderError likewise."""
    return _read(Path(folder) / PROFILE)


def _read(path: Path) -> dict:
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise LadderError(
            f"{path} does not exist; measure it with `python -m x1lib.ladder --out {path.parent}`"
        ) from error
    except ValueError as error:
        raise LadderError(f"{path} is damaged ({error}); delete it and measure again") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise LadderError(f"{path} is not of format {FORMAT}; delete it and measure again")
    return found


def same(settings: Settings) -> dict | None:
    """The stored ladder if these settings, this machine and this torch made it, else None."""
    try:
        found = load(Path(settings.out))
        load_profile(Path(settings.out))
    except LadderError:
        return None
    machine, asked = found["machine"], asdict(settings)
    asked.pop("out")
    here = device_name(machine["device"]) if _is_here(machine["device"]) else None
    alike = found["settings"] == asked and machine["torch"] == torch.__version__
    return found if alike and machine["device_name"] == here else None


def _is_here(device: str) -> bool:
    return device != "cuda" or torch.cuda.is_available()


def measure(settings: Settings, log: Callable[[str], None] = print) -> dict:
    """Climb the ladder in a process of its own, or show what is stored; returns it as `load` does.

    A second call with the same settings on the same machine measures nothing. Raises LadderError
    with the last line of a measurement that failed.
    """
    if found := same(settings):
        log(f"measured at {found['created']} and stored in {settings.out}")
        return found
    command = [sys.executable, "-m", "x1lib.ladder"]
    for f in fields(settings):
        value, flag = getattr(settings, f.name), "--" + f.name.replace("_", "-")
        if isinstance(value, bool):
            command.append(flag if value else "--no-" + flag[2:])
        elif value != f.default:
            command.append(f"{flag}={value}")
    package = str(Path(__file__).resolve().parent.parent.parent)
    paths = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": paths, "PYTHONUNBUFFERED": "1"}
    last = ""
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as child:
        try:
            for line in map(str.rstrip, child.stdout):
                if not line.startswith("USDT:"):  # what torch's profiler says to tracers
                    last = line or last
                    log(line)
        except BaseException:  # Ctrl-C in the notebook: no measurement goes on behind its back
            child.terminate()
            raise
    if child.returncode:
        raise LadderError(f"the ladder was not measured (exit code {child.returncode}): {last}")
    return load(Path(settings.out))
