"""The money: a plan is admitted, reserved, metered, stopped at the cap, and settled in one ledger.

A guard at launch cannot stop a hang or a restart, so three hold the cap together: `BudgetGuard`
before a run, `Purse` inside it, and `x1lib.watchdog` outside it. All write one `Ledger`.
"""

from x1lib.budget_guard.account import LedgerFormatError
from x1lib.budget_guard.guard import (
    MARGIN,
    RESTART_SHARE,
    Admission,
    BudgetGuard,
    Plan,
    PlanError,
)
from x1lib.budget_guard.journal import LedgerBusy, LedgerDamaged, LedgerError, LedgerNotWritable
from x1lib.budget_guard.ledger import BudgetRefused, CapTooSmall, Ledger
from x1lib.budget_guard.machine import Machine, this_machine
from x1lib.budget_guard.merging import take_in
from x1lib.budget_guard.purse import END_SECONDS, Forecast, Purse

__all__ = [
    "END_SECONDS",
    "MARGIN",
    "RESTART_SHARE",
    "Admission",
    "BudgetGuard",
    "BudgetRefused",
    "CapTooSmall",
    "Forecast",
    "Ledger",
    "LedgerBusy",
    "LedgerDamaged",
    "LedgerError",
    "LedgerFormatError",
    "LedgerNotWritable",
    "Machine",
    "Plan",
    "PlanError",
    "Purse",
    "take_in",
    "this_machine",
]
