"""The guard at the door: a plan is admitted when it fits under the cap, or refused with the sum."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass

from x1lib import X1Error
from x1lib.budget_guard.journal import amount
from x1lib.budget_guard.ledger import CENT_FRACTION, BudgetRefused, Ledger
from x1lib.budget_guard.machine import Machine

MARGIN = 0.10  # on top of every plan, for what nobody planned
RESTART_SHARE = 0.05  # of a run's hours: a loss costs a twentieth, with 20 checkpoints in a run


class PlanError(X1Error, ValueError):
    """A plan that cannot be priced."""


@dataclass(frozen=True)
class Plan:
    """What a run is meant to take: (all its hours x price + usd_fixed) x 1.10 US dollars.

    hours: billed hours from the first minute to the end. after_hours: on the same machine after
    it, to measure. restart_hours: kept for starting again after a loss. usd_fixed: what does not
    depend on the hours (storage, egress). The last factor is a margin of 10%. The course's plan,
    36 hours and 3 dollars, costs (36 p + 3) x 1.1 at a price of p an hour: 50 dollars at
    p = 1.1793, its break-even price; with a twentieth of the hours to restart, at p = 1.1231.
    """

    label: str
    hours: float
    usd_fixed: float = 0.0
    restart_hours: float = 0.0
    after_hours: float = 0.0

    def __post_init__(self) -> None:
        for name in ("hours", "usd_fixed", "restart_hours", "after_hours"):
            value = getattr(self, name)
            good = isinstance(value, int | float) and not isinstance(value, bool)
            if not good or not math.isfinite(value) or value < 0:
                raise PlanError(f"{name} is {value!r}; expected a finite number from 0")

    @property
    def billed_hours(self) -> float:
        return self.hours + self.after_hours + self.restart_hours

    def usd(self, usd_per_hour: float) -> float:
        """What the plan costs at this price."""
        return (self.billed_hours * usd_per_hour + self.usd_fixed) * (1 + MARGIN)

    def break_even_usd_per_hour(self, usd: float) -> float:
        """The price at which the plan costs this sum: 0 where it costs more at any price."""
        left = usd / (1 + MARGIN) - self.usd_fixed
        if not self.billed_hours:
            return math.inf if left >= 0 else 0.0
        return max(0.0, left / self.billed_hours)

    def fits_hours(self, usd: float, usd_per_hour: float) -> float:
        """The hours, in place of the plan's own, at which it costs this sum at this price."""
        left = usd / (1 + MARGIN) - self.usd_fixed
        if not usd_per_hour:
            return math.inf if left >= 0 else 0.0
        return max(0.0, left / usd_per_hour - self.after_hours - self.restart_hours)


@dataclass(frozen=True)
class Admission:
    """A plan that fits. usd: its sum; what this run was already billed is part of it.

    left_usd: what is left for others when it costs all of that. reservation: its id in the
    ledger; None where nothing was reserved.
    """

    usd: float
    left_usd: float
    break_even_usd_per_hour: float
    text: str
    reservation: str | None = None


def _down(value: float, digits: int) -> float:
    """Rounded down, so that whoever takes the advice is not refused again."""
    scale = 10**digits
    return math.floor(value * scale) / scale if math.isfinite(value) else value


class BudgetGuard:
    """Admits plans at one price.

    machine: where the run is to be. What that machine has cost since it began, or since
    billed_since (the reader's stamp, seconds since 1970), and is in no ledger yet, counts too.
    """

    def __init__(
        self,
        ledger: Ledger,
        usd_per_hour: float,
        *,
        machine: Machine | None = None,
        billed_since: float | None = None,
    ) -> None:
        self.ledger, self.usd_per_hour = ledger, amount(usd_per_hour, "usd_per_hour")
        self.machine, self.billed_since = machine, billed_since

    def admit(self, plan: Plan, run_id: str | None = None) -> Admission:
        """Return what the plan costs, with the money set aside where a run_id is given.

        The plan is always the whole run's. On a relaunch its own reservation does not stand in
        its way, and what the run was already billed is taken off. Raises BudgetRefused, with the
        sum, what is spent and set aside, the break-even price and what would fit; at a price of 0
        only fixed costs can be refused.
        """
        ledger = self.ledger
        with ledger.journal.locked() if run_id else contextlib.nullcontext():
            unbilled = 0.0
            if self.machine:
                unbilled = ledger.unbilled_usd(self.machine, self.usd_per_hour, self.billed_since)
            billed = ledger.billed_to(run_id)
            usd, available = plan.usd(self.usd_per_hour), ledger.available_to(run_id) - unbilled
            to_come = max(0.0, usd - billed)
            break_even = plan.break_even_usd_per_hour(available + billed)
            text = self._sum(plan, usd, billed, unbilled, run_id)
            if self.usd_per_hour and available < -CENT_FRACTION:  # even for a run paid in full
                raise self._refused(plan, text, to_come, available, 0.0, 0.0)
            if to_come > max(0.0, available) + CENT_FRACTION:
                fits = plan.fits_hours(available + billed, self.usd_per_hour)
                raise self._refused(plan, text, to_come, available, break_even, fits)
            reservation = ledger.reservation_of(run_id) if run_id else None
            aside = ledger.remaining(reservation) if reservation else -1.0
            if run_id and to_come > aside + CENT_FRACTION:
                ledger.set_aside(to_come, plan.label, run_id)
                reservation = ledger.reservation_of(run_id)
        even = f"break-even at {_down(break_even, 3):.3f} an hour"
        text += f"; {max(0.0, available - to_come):.2f} are left; {even}"
        id = reservation.id if reservation else None
        return Admission(usd, available - to_come, break_even, text, id)

    def _sum(
        self, plan: Plan, usd: float, billed: float, unbilled: float, run_id: str | None
    ) -> str:
        ledger = self.ledger
        after = f" + {plan.after_hours:.3g} h after it" if plan.after_hours else ""
        restart = f" + {plan.restart_hours:.3g} h to restart" if plan.restart_hours else ""
        beyond = f"{billed:.2f} are billed to it already, with the idle hours of its machine"
        parts = [
            f"{plan.label}: ({plan.hours:g} h{after}{restart}) x {self.usd_per_hour:g} +"
            f" {plan.usd_fixed:g} fixed, and {MARGIN:.0%} on top, is {usd:.2f} US dollars",
            (f"{billed:.2f} of it are spent" if billed <= usd else beyond) if billed else "",
            f"{ledger.spent_usd:.2f} are spent in all",
            f"{unbilled:.2f} more for the time this machine has been up" if unbilled else "",
            f"{ledger.committed_to_others(run_id):.2f} are set aside for other runs",
            f"the cap is {ledger.cap_usd:.2f}",
        ]
        return ", ".join(filter(None, parts))

    def _refused(
        self,
        plan: Plan,
        text: str,
        to_come: float,
        available: float,
        break_even: float,
        fits: float,
    ) -> BudgetRefused:
        digits = 1 if fits >= 1 else 4
        advice = f"at {self.usd_per_hour:g} an hour {_down(fits, digits):.{digits}f} h would fit"
        price = f"at {_down(break_even, 3):.3f} an hour" if break_even else "at no price"
        if available < 0:
            advice = "raise cap_usd, for nothing is left"
        if self.machine and not fits:
            advice += "; if this machine is billed from a later time, give billed_since"
        error = BudgetRefused(
            f"{text}: {to_come - available:.2f} too much; it would fit {price}, and {advice}",
            to_come,
            available,
        )
        error.break_even_usd_per_hour, error.fits_hours = break_even, fits
        return error
