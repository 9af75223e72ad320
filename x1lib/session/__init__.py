"""One process's hold on a run folder, and what it decides by measuring."""

from x1lib.session.clockwork import fit_memory, make_plan, recall_pace, rehearse_end, review_pace
from x1lib.session.session import Session

__all__ = ["Session", "fit_memory", "make_plan", "recall_pace", "rehearse_end", "review_pace"]
