"""What a published log can tell of its spikes, and what it cannot: there is nothing to rewind."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from x1lib.postmortem.classifier import LR_RATIO
from x1lib.postmortem.rewound import PostmortemError
from x1lib.stability import detect

APART = 32  # values within which alarms belong to one spike
BEFORE = 15  # values that make the level before it
NEAR = 10  # values before the loss's alarm in which the gradient norm may have left already
LEFT = 2.0  # times its level: where the gradient norm has left it
SHORT = 2  # values that a bad batch or two take


@dataclass(frozen=True)
class LoggedSpike:
    """One spike of a log: where, how high, and what little it says of its cause.

    place: index of the first alarm. rise: above the median of the values before [nats]. duration:
    values until the loss is back under half of its rise. lead: values by which the gradient norm
    left its level first, None where it is not logged or stayed. cause: "lr-too-high" where the
    logged rate says so, else "unknown". hints: what speaks for the state or for the data, no more.
    """

    place: int
    rise: float
    duration: int
    lead: int | None
    lr_ratio: float | None
    cause: str
    hints: tuple[str, ...]


def read_log(
    loss, grad_norm=None, lr=None, *, rule: str = "robust", **options
) -> list[LoggedSpike]:
    """Judge the spikes of a loss curve by the log alone; alarms by `rule` of x1lib.stability.

    loss, grad_norm, lr: 1-D, of equal length. Which of four causes it was needs the batch and the
    state: a log shows neither, so only a rate that is logged wrong can be named. Raises
    PostmortemError where the curves are not of one length, or no numbers.
    """
    try:
        loss = np.asarray(loss, float)
    except (TypeError, ValueError) as error:
        raise PostmortemError(f"the loss is no curve of numbers: {error}") from error
    for name, curve in (("grad_norm", grad_norm), ("lr", lr)):
        if curve is not None and np.shape(curve) != loss.shape:
            raise PostmortemError(
                f"{name} has shape {np.shape(curve)}, the loss {loss.shape}; give curves of one"
                " length"
            )
    found, last = [], -(10**9)
    for place in detect(loss, rule, **options).tolist():
        if place - last > APART:
            found.append(_spike(place, loss, grad_norm, lr))
        last = place
    return found


def _spike(place: int, loss: np.ndarray, grad_norm, lr) -> LoggedSpike:
    level = float(np.median(loss[max(0, place - BEFORE) : place]))
    rise = float(loss[place]) - level
    back = np.flatnonzero(loss[place:] < level + rise / 2)
    duration = int(back[0]) if len(back) else len(loss) - place
    lead = _lead(place, np.asarray(grad_norm, float)) if grad_norm is not None else None
    ratio = None
    if lr is not None:
        rates = np.asarray(lr, float)
        before = float(np.median(rates[max(0, place - 4 * BEFORE) : max(1, place - NEAR)]))
        ratio = float(rates[max(0, place - NEAR) : place + 1].max()) / before if before else None
    cause = "lr-too-high" if ratio is not None and ratio >= LR_RATIO else "unknown"
    hints = []
    if lead is not None and lead > 0:
        hints.append(f"the gradient norm left its level {lead} values earlier: rather the state")
    if duration <= SHORT:
        back_in = "a value" if duration == 1 else f"{duration} values"
        hints.append(f"the loss was back after {back_in}: rather the batch")
    elif duration > 4 * SHORT:
        hints.append(f"the loss was not back for {duration} values: the model was hurt")
    return LoggedSpike(place, rise, duration, lead, ratio, cause, tuple(hints))


def _lead(place: int, norm: np.ndarray) -> int | None:
    """Values from where the gradient norm leaves its level, and stays off it, to `place`."""
    level = np.median(norm[max(0, place - NEAR - BEFORE) : max(1, place - NEAR)])
    if norm[place] < LEFT * level:
        return None
    first = place
    while first > max(0, place - NEAR) and norm[first - 1] >= LEFT * level:
        first -= 1
    return place - first
