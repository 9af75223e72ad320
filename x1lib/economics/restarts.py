"""What interruptions cost: how often to save, and a simulation that knows no formula."""

from __future__ import annotations

import numpy as np

from x1lib.economics.checks import number


def young_interval(save_hours, mean_hours_between):
    """Hours of work between saves that cost least, sqrt(2 x save x mean): Young 1974.

    save_hours: what one save takes. mean_hours_between: interruptions. Numbers or arrays.
    """
    save, mean = _checked(save_hours=save_hours, mean_hours_between=mean_hours_between)
    return np.sqrt(2 * save * mean)


def slowdown(interval_hours, save_hours, restart_hours, mean_hours_between):
    """Billed hours over hours of work, where interruptions come at random (Daly 2006, eq. 13).

    Exponential times between them; a restart may be interrupted as well. 1.1 means 10% more.
    Raises EconomicsError for a quantity that is not above 0 (restart_hours may be 0).
    """
    interval, save, mean = _checked(
        interval_hours=interval_hours,
        save_hours=save_hours,
        mean_hours_between=mean_hours_between,
    )
    restart = number("restart_hours", restart_hours, low=0)
    return mean / interval * np.exp(restart / mean) * np.expm1((interval + save) / mean)


def simulate(
    work_hours: float,
    interval_hours: float,
    save_hours: float,
    restart_hours: float,
    mean_hours_between: float,
    n_runs: int = 200,
    seed: int = 0,
) -> np.ndarray:
    """Billed hours of n_runs simulated runs, each played out interruption by interruption.

    Work is done in intervals, each followed by a save; what was not saved is done again, after a
    restart, which an interruption begins anew. Raises EconomicsError as `slowdown` does.
    """
    work, interval, save, mean = _checked(
        work_hours=work_hours,
        interval_hours=interval_hours,
        save_hours=save_hours,
        mean_hours_between=mean_hours_between,
    )
    restart = number("restart_hours", restart_hours, low=0)
    random = np.random.default_rng(seed)
    billed = np.zeros(n_runs)
    for run in range(n_runs):
        saved, clock, next_loss, restarting = 0.0, 0.0, random.exponential(mean), False
        while saved < work:
            part = min(interval, work - saved)
            end = clock + (restart if restarting else 0.0) + part + save
            if end <= next_loss:
                saved, clock, restarting = saved + part, end, False
            else:
                clock, restarting = next_loss, True
                next_loss = clock + random.exponential(mean)
        billed[run] = clock
    return billed


def _checked(**quantities):
    return [number(name, value, above=0) for name, value in quantities.items()]
