"""Start the trainer so that it outlives whoever started it; attach to it, follow it, stop it."""

from x1lib.launch.companions import metered
from x1lib.launch.following import follow, stop
from x1lib.launch.parameters import check_budget, configure, open_text
from x1lib.launch.places import project_root, run_folder, say, shown
from x1lib.launch.starting import Launched, LaunchError, RunFailed, command, make_room, start

__all__ = [
    "LaunchError",
    "Launched",
    "RunFailed",
    "check_budget",
    "command",
    "configure",
    "follow",
    "make_room",
    "metered",
    "open_text",
    "project_root",
    "run_folder",
    "say",
    "shown",
    "start",
    "stop",
]
