"""A notebook's parameters, held against what is known before anything starts."""

from __future__ import annotations

import ast
import difflib
import math
from dataclasses import fields, replace
from pathlib import Path

import torch

from x1lib import data, settings
from x1lib.budget_guard import BudgetRefused, CapTooSmall
from x1lib.data.sources import open_source
from x1lib.data.streams import CATALOG, kind_of, open_stream
from x1lib.launch.companions import unwatched
from x1lib.launch.places import project_root, run_folder
from x1lib.session import money
from x1lib.session.opening import is_prepared, is_streamed, let_go, open_data
from x1lib.settings import ConfigError
from x1lib.shapes import resolve
from x1lib.train import Config

GPU_SHAPE, CPU_SHAPE = "50m", "tiny"  # a day of one A100; minutes of a laptop


def configure(namespace: dict, trainer: str, own: dict[str, float] | None = None) -> Config:
    """Make the trainer's Config of a notebook's parameters; nothing is started.

    namespace: the notebook's globals(). trainer: the names in its parameters cell that are
    settings of the trainer; the shape "auto" becomes 50m where there is a CUDA card, else tiny.
    own: its other numbers, each with its default. What papermill injected is looked at too: a
    setting of the trainer that the cell does not name is taken, a name that nobody knows is refused
    (papermill alone would run the defaults). Raises ConfigError, or the X1Error of the shape,
    tokeniser or source that does not exist.
    """
    own = own or {}
    names, injected = trainer.split(), _injected(namespace)
    known = [f.name for f in fields(Config)]
    for name in injected:
        if name not in known and name not in own:
            near = difflib.get_close_matches(name, [*own, *names, *known], n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join([*names, *own])}"
            raise ConfigError(f"unknown parameter {name!r}; {hint}")
    for name, default in own.items():
        value = namespace[name]
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not 0 <= value < math.inf:
            raise ConfigError(f"{name} is {value!r}; expected a number from 0, such as {default}")
    wanted = dict.fromkeys([*names, *(name for name in injected if name in known)])
    values = {name: _whole(name, namespace[name]) for name in wanted}
    if values.get("shape") == "auto":
        values["shape"] = GPU_SHAPE if torch.cuda.is_available() else CPU_SHAPE
    if isinstance(values.get("out", ""), str):
        folder = run_folder(values.get("out", ""), namespace.get("usd_per_hour", 0.0))
        inside = folder.is_relative_to(project_root())
        values["out"] = str(folder.relative_to(project_root()) if inside else folder)
    config = settings.from_dict(Config, values)
    resolve(config)
    if config.tokenizer != "auto":
        data.load_tokenizer(config.tokenizer)
    source = _located(config.source)
    if is_streamed(source):
        if not is_prepared(source):
            open_stream(source)
    else:
        open_source(source)
    return config


def _located(source: str) -> str:
    """A path counts from the project's root, wherever one stands; a name stays as it is."""
    path = project_root() / Path(source).expanduser()
    known = source == "embedded" or source in CATALOG
    return str(path) if not known and (path.exists() or kind_of(path)) else source


def _injected(namespace: dict) -> list[str]:
    """Names that papermill's own cell assigns, by the notebook's record of what it executed."""
    cells = [cell for cell in namespace.get("In", ()) if cell.startswith("# Parameters\n")]
    body = ast.parse(cells[-1]).body if cells else []
    targets = [target for line in body if isinstance(line, ast.Assign) for target in line.targets]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _whole(name: str, value: object) -> object:
    """5e9 as 5000000000 where a whole number is wanted, as on the trainer's command line."""
    wants_int = type(getattr(Config, name, None)) is int
    return int(value) if wants_int and isinstance(value, float) and value.is_integer() else value


def check_budget(config: Config) -> str:
    """Say what a run would take of the budget of all labs; nothing is written.

    Raises BudgetRefused where it does not fit, with the price and the hours that would,
    and CapTooSmall; both say who must end a machine that costs money.
    """
    folder = project_root() / config.out
    try:
        return money.check(config, folder)
    except (BudgetRefused, CapTooSmall) as error:
        error.args = (
            ". ".join(filter(None, [str(error), unwatched(folder, config.usd_per_hour)])),
        )
        raise


def open_text(config: Config) -> tuple[data.Shards, data.Tokenizer]:
    """The text of a run and its tokeniser, wherever one stands; of a stream, its first block."""
    there = replace(config, source=_located(config.source))
    shards, words = open_data(there, log=lambda line: None, feeding=True)
    let_go(shards)  # the trainer has a writer of its own
    return shards, words
