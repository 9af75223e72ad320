"""A training log as columns, out of the formats that logs are published in."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from x1lib import X1Error
from x1lib.tracking import read_lines

# Names of columns and their units; all logs use these names, whatever they print.
UNITS = {
    "step": "steps",
    "tokens": "tokens, from the start",
    "samples": "sequences, from the start",
    "loss": "nats a token, of one batch",
    "val_loss": "nats a token, held out",
    "lr": "learning rate",
    "grad_norm": "norm before clipping",
    "batch": "sequences",
    "loss_scale": "factor on the loss in fp16",
    "seconds": "s since the start",
    "step_seconds": "s of one step",
}
# What other programs call them, where a CSV is read.
ALIASES = {
    "train_loss": "loss",
    "train_loss_rank0": "loss",
    "lm_loss": "loss",
    "iteration": "step",
    "consumed_tokens": "tokens",
    "consumed_samples": "samples",
    "global_batch": "batch",
    "learning_rate": "lr",
    "elapsed_seconds": "seconds",
}


class LogError(X1Error, ValueError):
    """A file that holds no training log, or none that can be read."""


@dataclass(frozen=True)
class Log:
    """A training log: a float64 array a column, all of one length; NaN where nothing was logged.

    Rows stand in the order in which they were written, so a step may come twice. verified: whether
    the bytes were those of the catalogue's checksum. origin: the address, or the path.
    """

    name: str
    columns: Mapping[str, np.ndarray]
    origin: str
    verified: bool = False

    def __getitem__(self, column: str) -> np.ndarray:
        if column not in self.columns:
            raise LogError(f"{self.name} logs no {column}; it logs {', '.join(self.columns)}")
        return self.columns[column]

    def __contains__(self, column: str) -> bool:
        return column in self.columns

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    @property
    def units(self) -> dict[str, str]:
        return {name: UNITS[name] for name in self.columns}


_LLMC = re.compile(
    r"s:(?P<step>\d+) (?:tel:(?P<val_loss>\S+)"
    r"|trl:(?P<loss>\S+)(?: lr:(?P<lr>\S+))?(?: norm:(?P<grad_norm>\S+))?)\s*"
)
_MODDED = re.compile(
    r"step:(?P<step>\d+)/\d+ (?:val_loss:(?P<val_loss>\S+)|train_loss:(?P<loss>\S+))"
    r" train_time:(?P<milliseconds>\d+)ms.*"
)
_MEGATRON = {
    "tokens": "consumed tokens",
    "samples": "consumed samples",
    "step_seconds": "elapsed time per iteration (s)",
    "lr": "learning rate",
    "batch": "global batch size",
    "loss": "lm loss",
    "loss_scale": "loss scale",
    "grad_norm": "grad norm",
}


def parse_llmc(text: str) -> dict[str, np.ndarray]:
    """llm.c's main.log: `s:12 trl:9.87 lr:0.000011 norm:3.21`, and `s:12 tel:9.9` held out."""
    return _columns(_matches(text, _LLMC), joined=True)


def parse_modded(text: str) -> dict[str, np.ndarray]:
    """modded-nanogpt's log, which begins with its own source: `step:7/900 train_loss:4.2 ...`."""
    found = _columns(_matches(text, _MODDED), joined=True)
    found["seconds"] = found.pop("milliseconds") / 1000
    return found


def parse_megatron(text: str) -> dict[str, np.ndarray]:
    """Megatron's lines, ` iteration 12695/ 115311 | lm loss: 2.46E+00 | ...`, wherever quoted."""
    rows = []
    for line in text.splitlines():
        begun = re.search(r"iteration +(\d+) */ *\d+ *\|", line)
        if begun is None:
            continue
        said = dict(re.findall(r"([a-z][a-z ()]*?): +([-+.\dEe]+) *\|", line[begun.end() - 1 :]))
        row = {name: said[words] for name, words in _MEGATRON.items() if words in said}
        if "loss" in row:
            rows.append({"step": begun[1], **row})
    return _columns(rows)


def parse_csv(text: str) -> dict[str, np.ndarray]:
    """A CSV whose first line names its columns, by our names or by those of ALIASES."""
    try:
        rows = [
            {ALIASES.get(name, name): value for name, value in row.items()}
            for row in csv.DictReader(io.StringIO(text))
        ]
    except csv.Error as error:
        raise LogError(f"these lines are no CSV ({error}); give one with named columns") from error
    return _columns({k: v for k, v in row.items() if k in UNITS} for row in rows)


PARSERS: dict[str, Callable[[str], dict[str, np.ndarray]]] = {
    "llm.c": parse_llmc,
    "modded-nanogpt": parse_modded,
    "megatron": parse_megatron,
    "csv": parse_csv,
}


def read_run(path: Path) -> dict[str, np.ndarray]:
    """The steps in a run's metrics file as written: what a crash made it do twice stands twice.

    Lines that are no record of a step or of an evaluation are passed over.
    """
    rows = []
    for line in read_lines(Path(path)):
        if not isinstance(line, dict):
            continue
        row = {ALIASES.get(name, name): value for name, value in line.items()}
        if row.get("kind") == "step":
            rows.append({k: v for k, v in row.items() if k in UNITS})
        elif row.get("kind") == "eval" and row.get("name") == "documents":
            held = {"step": row.get("step"), "tokens": row.get("tokens")}
            rows.append(held | {"val_loss": row.get("loss")})
    return _columns(rows)


def _matches(text: str, pattern: re.Pattern) -> Iterable[dict[str, str | None]]:
    return (m.groupdict() for line in text.splitlines() if (m := pattern.fullmatch(line)))


def _columns(rows: Iterable[Mapping[str, object]], joined: bool = False) -> dict[str, np.ndarray]:
    """Rows of text as float columns, NaN where a row has none; empty columns are left out.

    joined: a row without a loss and the one of the same step beside it are one.
    """
    kept: list[dict] = []
    for row in rows:
        row = {name: value for name, value in row.items() if value not in (None, "")}
        if (
            joined
            and kept
            and kept[-1]["step"] == row["step"]
            and not kept[-1].keys() & (row.keys() - {"step", "milliseconds"})
        ):
            kept[-1] |= row
        else:
            kept.append(row)
    if not kept or not any("loss" in row for row in kept):
        raise LogError("no line holds a step and its loss; give a log in one of the known formats")
    names = [name for name in ("milliseconds", *UNITS) if any(name in row for row in kept)]
    try:
        return {
            name: np.array([float(row.get(name, "nan")) for row in kept], float) for name in names
        }
    except (TypeError, ValueError) as error:
        raise LogError(f"a line holds what is no number ({error}); give a whole log") from error
