"""The MFU ladder: what each part of a fast training step is worth on this machine, measured.

`python -m x1lib.ladder --shape tiny --out DIR` climbs it, in a process of its own; `measure` does
so from a notebook, or shows what is stored; `load` and `load_profile` read what it wrote.
"""

from x1lib.ladder.rungs import NAMES, Rung, WrongRung, lay_out
from x1lib.ladder.settings import Settings
from x1lib.ladder.stored import LadderError, load, load_profile, measure

__all__ = [
    "NAMES",
    "LadderError",
    "Rung",
    "Settings",
    "WrongRung",
    "lay_out",
    "load",
    "load_profile",
    "measure",
]
