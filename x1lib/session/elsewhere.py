"""The money of a run that whoever started it meters: nothing of it is written to the ledger here.

A sweep is one plan under one reservation, and it meters the machine that its runs share. A run that
wrote lines of its own there would take spans of that bill, at a price of 0.
"""

from __future__ import annotations

import math

BY = "X1_METERED_BY"  # in the environment: the run_id that the machine is billed to


class MeteredElsewhere:
    """Stands in for `Money` in a run without a price of its own."""

    seconds_left = math.inf  # whoever meters ends it

    def __init__(self, by: str) -> None:
        self.by, self.is_settled = by, False

    def keep(self, seconds: float) -> None:
        """The end of this run is foreseen by whoever meters."""

    def check(self) -> None:
        """The word to stop comes as a signal."""

    def note(self, text: str) -> None:
        """What would stand in the ledger stands in the record of the run already."""

    def forecast(self, seconds_to_go: float) -> str:
        return ""

    def leave(self, reason: str, done: bool = False) -> dict:
        """What the manifest says."""
        self.is_settled = True
        return {"usd": None, "usd_status": f"metered by {self.by}, which started this run"}
