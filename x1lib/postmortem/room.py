"""One page a folder: a post-mortem of another run that lies there is moved aside, never lost."""

from __future__ import annotations

import itertools
from pathlib import Path

from x1lib.tracking.holders import read_json

PAGE, EVIDENCE = "spike-postmortem.md", "spike"
CASE, ANALYSIS = "case.json", "analysis.json"  # in the evidence: whom it is of


def make_room(out: Path, run: str, run_id: str | None, log=print) -> None:
    """Move page and evidence in `out` to postmortem-1, -2, ... where they are of another run."""
    # The lab's word first: its run may have been made anew, and has what was written down.
    known = read_json(out / EVIDENCE / CASE) or read_json(out / EVIDENCE / ANALYSIS)
    was = known.get("run"), known.get("run_id")
    same_id = None in (run_id, was[1]) or run_id == was[1]
    if was[0] is not None and not (was[0] == run and same_id):
        move_aside(out, log)


def move_aside(out: Path, log=print) -> None:
    """Move page and evidence to the first of postmortem-1, -2, ... that is free, and say so."""
    there = [path for path in (out / PAGE, out / EVIDENCE) if path.exists()]
    if not there:
        return
    numbered = (out / f"postmortem-{i}" for i in itertools.count(1))
    aside = next(place for place in numbered if not place.exists())
    aside.mkdir()
    for path in there:
        path.rename(aside / path.name)
    log(f"the post-mortem of another run is now in {aside}")
