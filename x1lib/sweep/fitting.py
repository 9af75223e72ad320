"""From points to a law, and from the law to one number with three bars."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from x1lib.scaling import Bootstrap, Fit, ScalingError, bootstrap, cost_of_body, fit_law
from x1lib.sweep.points import COUNTS, Point, body_to_embedding, columns, finished

DEFAULT_N = "total"  # Hoffmann's
ONE_BILLION = 1e9
RESAMPLES, SEED = 2000, 0


@dataclass(frozen=True)
class Fitted:
    """A law through points, N being one count, with refits that show how far it can be trusted."""

    n: str
    fit: Fit
    refits: Bootstrap
    points: tuple[Point, ...]

    form = "additive"

    @property
    def law(self):
        return self.fit.law

    @property
    def residuals(self) -> np.ndarray:
        """Fitted less measured log loss, in the points' order."""
        return self.fit.residuals

    @property
    def spread(self) -> float:
        """RMS of the residuals for the unknowns that were fitted: what forms are compared by."""
        return self.rms * math.sqrt(len(self.points) / max(1, len(self.points) - 5))

    def band(self, n_params: float, n_tokens: np.ndarray, level: float = 0.95):
        """Loss by the refits over token counts: the low and the high end of that share of them."""
        a, b, e, alpha, beta = self.refits.theta.T[:, :, None]
        with np.errstate(over="ignore"):
            losses = np.exp(e) + np.exp(a - alpha * math.log(n_params))
            losses = losses + np.exp(b - beta * np.log(n_tokens))
        return np.quantile(losses, [(1 - level) / 2, (1 + level) / 2], axis=0)

    def formula(self) -> str:
        law = self.law
        size, text = f"{law.A:.4g} / N^{law.alpha:.3f}", f"{law.B:.4g} / D^{law.beta:.3f}"
        return f"L = {law.E:.3f} + {size} + {text}"

    @property
    def rms(self) -> float:
        """Root mean square of the residuals, in log loss."""
        return float(np.sqrt((self.fit.residuals**2).mean()))

    def cost(self):
        """FLOPs of a token as a function of N where that is not 6 N: the head of a body."""
        return cost_of_body(body_to_embedding(self.points)) if self.n == "body" else None

    def optimal_tokens(self, n_params: float = ONE_BILLION) -> float | None:
        """Tokens for which that size is the optimal one; None where the law has no optimum."""
        try:
            return float(self.law.optimal_tokens(n_params, self.cost()))
        except ScalingError:
            return None

    def interval_optimal_tokens(self, n_params: float = ONE_BILLION) -> tuple[float, float]:
        """95% from the refits: the noise of points and trunks, and nothing else."""
        low, high = self.refits.interval(f"optimal_tokens:{n_params:g}")
        shift = 1.0
        if (plain := self._plain_optimum(n_params)) and (mine := self.optimal_tokens(n_params)):
            shift = mine / plain
        return low * shift, high * shift

    def _plain_optimum(self, n_params: float) -> float | None:
        try:
            return float(self.law.optimal_tokens(n_params))
        except ScalingError:
            return None

    def predict(self, n_params: float, n_tokens: float, level: float = 0.95, seed: int = SEED):
        """Loss at a new run, and the interval in which one run of its own noise would come."""
        rng = np.random.default_rng(seed)
        a, b, e, alpha, beta = self.refits.theta.T
        log_n, log_d = math.log(n_params), math.log(n_tokens)
        with np.errstate(over="ignore"):
            losses = np.exp(e) + np.exp(a - alpha * log_n) + np.exp(b - beta * log_d)
        noise = self.own_noise * rng.standard_normal(len(losses))
        values = losses[np.isfinite(losses)] * np.exp(noise[np.isfinite(losses)])
        tail = (1 - level) / 2
        low, high = np.quantile(values, [tail, 1 - tail])
        return float(self.law.loss(n_params, n_tokens)), float(low), float(high)

    @property
    def own_noise(self) -> float:
        """Standard deviation of one run's log loss about the law: its trunk's and its own."""
        parts = (self.refits.sigma_point, self.refits.sigma_trunk)
        if parts[0] is not None:
            return math.hypot(*parts)
        return self.rms * math.sqrt(len(self.points) / max(1, len(self.points) - 5))


def fit_points(points: Sequence[Point], n: str = DEFAULT_N, n_resamples: int = RESAMPLES) -> Fitted:
    """Fit the law to finished points; the trunks share noise where there are four or more.

    Raises what `fit_law` raises where the points cannot carry a law.
    """
    points = finished(points)
    data = columns(points, n)
    trunk = data.pop("trunk")
    fit = fit_law(**data)
    enough = 4 <= len(set(trunk)) < len(trunk)
    refits = bootstrap(**data, n_resamples=n_resamples, seed=SEED, trunk=trunk if enough else None)
    return Fitted(n, fit, refits, tuple(points))


def ruler(points: Sequence[Point], n_params: float, n_tokens: int, n: str = DEFAULT_N) -> float:
    """Loss by a straight line in log N and log loss through the runs of that token count alone."""
    mine = [p for p in finished(points) if p.tokens == n_tokens]
    x = np.log([getattr(p, COUNTS[n]) for p in mine])
    y = np.log([p.val_loss for p in mine])
    return float(np.exp(np.polyval(np.polyfit(x, y, 1), math.log(n_params))))


# -------------------------------------------------------------------------- the bar of the LR


def curves_by_width(path: Path, base_width: int) -> dict[int, np.ndarray]:
    """Log rates and log losses by width, at the smallest batch, under the rule from base_width.

    path: runs.csv of experiments/benchmarks/lr_batch_sweep.py. At the base width itself the rule
    changes nothing, so the rows without it are its rows. base_width 0: without the rule.
    """
    rows: dict[int, list[tuple[int, float, float]]] = {}
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            width, base = int(row["width"]), int(row["base_width"])
            wanted = 0 if width == base_width else base_width
            if base == wanted and row["val_loss"]:
                one = int(row["batch_tokens"]), float(row["lr"]), float(row["val_loss"])
                rows.setdefault(width, []).append(one)
    found = {}
    for width, mine in rows.items():
        smallest = min(batch for batch, _, _ in mine)
        pairs = sorted((lr, loss) for batch, lr, loss in mine if batch == smallest)
        found[width] = np.log(np.array(pairs)).T
    return found


def losses_by_lr(path: Path, lr: float, base_width: int) -> dict[int, float]:
    """By width: log loss at this rate less that at the width's best, along a line through runs."""
    found = {}
    for width, (log_lr, log_loss) in curves_by_width(path, base_width).items():
        here = float(np.interp(math.log(lr), log_lr, log_loss))
        found[width] = max(0.0, here - float(log_loss.min()))
    return found


def tuned(points: Sequence[Point], lost: Mapping[int, float]) -> list[Point]:
    """The points as they would be, were each width trained at its own best rate.

    Widths between and beyond those that were swept get what the nearest ones lost, in log width.
    """
    widths = sorted(lost)
    x, y = np.log(widths), [lost[w] for w in widths]

    def better(p: Point) -> float:
        return p.val_loss * math.exp(-float(np.interp(math.log(p.d_model), x, y)))

    return [replace(p, val_loss=better(p)) for p in finished(points)]
