"""`python -m x1lib.economics --shape 50m --n-tokens 5e9 --usd-per-gpu-hour 1.10`."""

from __future__ import annotations

import argparse
import inspect
import sys
import warnings
from typing import NoReturn

from x1lib import exit_code_of
from x1lib.economics import CONVENTIONS, GPUS, EconomicsError, StalePrice, estimate
from x1lib.economics.prices import PROVIDERS
from x1lib.shapes import SHAPES

TEXT = ("shape", "gpu", "convention", "provider")
HELP = {
    "shape": f"{', '.join(SHAPES)}, or LAYERSxWIDTH; or give n-params",
    "n_params": "parameters without a shape: 6ND",
    "n_tokens": "tokens, or chinchilla: 20 a parameter; or give hours",
    "gpu": ", ".join(GPUS),
    "n_gpus": "cards",
    "mfu": "model FLOPs utilisation, above 0 and at most 1",
    "seq_len": "tokens a sequence",
    "convention": ", ".join(CONVENTIONS),
    "usd_per_gpu_hour": "your own price: it wins",
    "provider": ", ".join(PROVIDERS),
    "spot": "the provider's spot price",
    "hours": "fill these hours instead of giving n-tokens",
    "failed_share": "share of billed card hours lost to failures and restarts, below 1",
    "setup_hours": "hours billed while nothing trains",
    "storage_gb": "GB held as long as the machine is billed",
    "usd_per_gb_month": "price of storage",
    "egress_gb": "GB carried out",
    "usd_per_egress_gb": "price of carrying out",
    "human_hours": "hours of people",
    "usd_per_human_hour": "price of an hour of a person",
    "pue": "energy of the data centre over that of the machines, 1 or more",
    "usd_per_kwh": "price of power, for a machine of your own",
    "kg_co2e_per_kwh": "carbon intensity of the grid",
    "micro_batch": "sequences a pass on a card",
    "zero": "stage of ZeRO: 0 to 3",
}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise EconomicsError(message.replace("argument ", ""))


def parser() -> argparse.ArgumentParser:
    """A parser whose flags are estimate's own parameters and defaults, and the budget."""
    made = _Parser(
        prog="python -m x1lib.economics",
        description="Say what a training run takes: hours, dollars, energy, carbon, memory.",
        allow_abbrev=False,
    )
    for name, parameter in inspect.signature(estimate).parameters.items():
        flags = dict.fromkeys(("--" + name.replace("_", "-"), "--" + name))
        default = parameter.default
        text = HELP[name].replace("%", "%%")
        if isinstance(default, bool):
            made.add_argument(*flags, action=argparse.BooleanOptionalAction, help=text)
            continue
        text += "" if default is None else f" (default: {default})"
        kind = str if name in TEXT else _tokens if name == "n_tokens" else float
        made.add_argument(*flags, type=kind, metavar="TEXT" if kind is str else "X", help=text)
    made.add_argument("--budget-usd", type=float, default=50.0, metavar="X", help="(default: 50)")
    return made


def _tokens(text: str) -> float | str:
    return text if text.isalpha() and text.lower() not in ("nan", "inf") else float(text)


_tokens.__name__ = "number"  # argparse prints it: "invalid number value"


def main(arguments: list[str] | None = None) -> None:
    """Print the sentence and the bill; raises EconomicsError for what cannot be."""
    given = vars(parser().parse_args(arguments))
    budget = given.pop("budget_usd")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StalePrice)  # the bill's notes say it
        made = estimate(**{name: value for name, value in given.items() if value is not None})
    print(made.sentence(budget))
    print()
    print(made.bill())


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
