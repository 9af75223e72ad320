"""Throughput, and at most one line a second that says how a run is doing."""

from __future__ import annotations

import time
from collections import deque


class Meter:
    """Counts tokens and the seconds of the steps that trained on them."""

    def __init__(self, seconds_between_lines: float = 1.0) -> None:
        self.tokens, self.seconds = 0, 0.0
        self._recent: deque[tuple[int, float]] = deque(maxlen=20)
        self._between, self._next_line = seconds_between_lines, 0.0

    def add(self, n_tokens: int, seconds: float) -> None:
        self.tokens += n_tokens
        self.seconds += seconds
        self._recent.append((n_tokens, seconds))

    @property
    def tokens_per_sec(self) -> float | None:
        """Over all steps counted; None before the first."""
        return self.tokens / self.seconds if self.seconds else None

    def line_is_due(self) -> bool:
        """Whether a second has gone by since the last line; asking counts as printing."""
        now = time.monotonic()
        if now < self._next_line:
            return False
        self._next_line = now + self._between
        return True

    def line(
        self, step: int, total: int, loss: float, mfu: float | None, elapsed_seconds: float
    ) -> str:
        """step, loss, tokens/s, MFU, elapsed, ETA; speeds over the last 20 steps."""
        seconds = sum(s for _, s in self._recent)
        speed, eta = "warming up", ""
        if seconds:
            rate = sum(n for n, _ in self._recent) / seconds
            speed = f"{rate:,.0f} tokens/s"
            eta = f" | ETA {clock((total - step) * seconds / len(self._recent))}"
        share = "" if mfu is None else f" | MFU {mfu:.1%}"
        return (
            f"step {step:,}/{total:,} | loss {loss:.4f} | {speed}{share}"
            f" | elapsed {clock(elapsed_seconds)}{eta}"
        )


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss."""
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"
