"""One process's hold on a run folder."""

from x1lib.session.session import Session

__all__ = ["Session"]
