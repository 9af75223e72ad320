"""The process outside the trainer: it ends a hung or overspent run, and then the machine.

It sees a hang by silence, observed on its own clock, and the money in the ledger. To a trainer
that ends by itself it does nothing. A guest's own `shutdown` may leave the machine on the bill;
the provider's terminate command does not, and that is what it runs.
"""

from x1lib.watchdog.holding import asked, at_work, digest, holder, retire, take
from x1lib.watchdog.terminate import TEMPLATES, Command, Request, terminator
from x1lib.watchdog.trainer import Trainer, WatchdogError, trainer_of
from x1lib.watchdog.watching import Verdict, Watch, Watchdog

__all__ = [
    "TEMPLATES",
    "Command",
    "Request",
    "Trainer",
    "Verdict",
    "Watch",
    "Watchdog",
    "WatchdogError",
    "asked",
    "at_work",
    "digest",
    "holder",
    "retire",
    "take",
    "terminator",
    "trainer_of",
]
