"""Settings as one frozen dataclass: checked when made, and its own command line."""

from __future__ import annotations

import argparse
import difflib
import math
from collections.abc import Sequence
from dataclasses import field, fields
from typing import NoReturn, TypeVar

from x1lib import X1Error
from x1lib.tracking.secrets import scrub

C = TypeVar("C")


class ConfigError(X1Error, ValueError):
    """A setting that is unknown, impossible, or not the one that the run was started with."""


def opt(default: object, help: str, *, free: bool = False, low=None, below=math.inf, among=()):
    """Declare one setting.

    help: what it is, with its unit. free: may change when a run is resumed, because the result
    does not depend on it. low <= value < below for numbers; among: the words that are allowed.
    """
    checks = {"help": help, "free": free, "low": low, "below": below, "among": among}
    return field(default=default, metadata=checks)


def check(config: object) -> None:
    """Raise ConfigError, naming the field, for a value of the wrong type or out of range."""
    for f in fields(config):
        value, m = getattr(config, f.name), f.metadata
        kind = type(f.default)
        good = isinstance(value, int | float if kind is float else kind)
        good = good and (isinstance(value, bool) == (kind is bool))
        if good and m["low"] is not None:
            good = m["low"] <= value < m["below"]
        if good and m["among"]:
            good = value in m["among"]
        if not good:
            raise ConfigError(f"{f.name} is {value!r}; expected {_wanted(f)}: {m['help']}")


def _wanted(f) -> str:
    m = f.metadata
    if m["among"]:
        return "one of " + ", ".join(m["among"])
    kind = {int: "a whole number", float: "a number", bool: "True or False", str: "text"}
    text = kind[type(f.default)]
    if m["low"] is not None:
        text += f" from {m['low']:g}"
    if m["below"] != math.inf:
        text += f" to below {m['below']:g}"
    return text


def from_dict(cls: type[C], values: dict) -> C:
    """Make a config from names and values; raises ConfigError for a name that does not exist."""
    known = [f.name for f in fields(cls)]
    for name in values:
        if name not in known:
            raise ConfigError(f"unknown setting {name!r}{_nearest(name, known)}")
    return cls(**values)


def differences(stored: dict, config: object) -> dict[str, tuple[object, object]]:
    """Settings, other than free ones, that differ from stored ones: name -> (stored, now).

    What is stored was scrubbed of secrets, so what is compared with it is scrubbed too.
    """
    binding = {f.name for f in fields(config) if not f.metadata["free"]} & stored.keys()
    now = {f.name: scrub(getattr(config, f.name)) for f in fields(config) if f.name in binding}
    return {name: (stored[name], value) for name, value in now.items() if stored[name] != value}


def _nearest(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]}?" if near else "; --help lists every setting"


# -------------------------------------------------------------------------------- command line


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(message.replace("argument ", ""))


def _whole(text: str) -> int:
    """A whole number, also as 5e9 or 5_000_000_000."""
    try:
        number = int(text)
    except ValueError:
        number = float(text)
    if not math.isfinite(number) or number != int(number):
        raise ValueError(text)
    return int(number)


_whole.__name__ = "whole number"  # argparse prints it: "invalid whole number value"


def from_command_line(
    cls: type[C], argv: Sequence[str], description: str, module: str = "x1lib.train"
) -> C:
    """Parse --flags made of the fields of `cls`, for `python -m module`.

    Raises ConfigError with one line for an unknown flag or an impossible value.
    """
    parser = _Parser(
        prog=f"python -m {module}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    for f in fields(cls):
        flag, text = "--" + f.name.replace("_", "-"), f.metadata["help"].replace("%", "%%")
        if f.metadata["among"]:
            text += ": " + ", ".join(f.metadata["among"])
        shown = ("off", "on")[f.default] if isinstance(f.default, bool) else f.default
        text += f" (default: {shown if shown != '' else 'none'})"
        if isinstance(f.default, bool):
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, help=text)
            continue
        kind = _whole if isinstance(f.default, int) else type(f.default)
        metavar = {int: "N", float: "X", str: "TEXT"}[type(f.default)]
        parser.add_argument(flag, type=kind, metavar=metavar, help=text)
    dashed = [a.replace("_", "-", a.partition("=")[0].count("_")) if a[:2] == "--" else a
              for a in argv]  # fmt: skip
    found, unknown = parser.parse_known_args(dashed)
    if unknown:
        flags = ["--" + f.name.replace("_", "-") for f in fields(cls)]
        raise ConfigError(f"unknown flag {unknown[0]}{_nearest(unknown[0], flags)}")
    return cls(**{name: value for name, value in vars(found).items() if value is not None})
