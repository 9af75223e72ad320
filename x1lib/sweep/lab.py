"""A sweep from its settings to its answers: what lab01 and the command line do."""

from __future__ import annotations

import functools
import json
import os
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import torch

from x1lib import tracking
from x1lib.launch.places import LAB, project_root
from x1lib.scaling import ScalingError
from x1lib.session.opening import open_data
from x1lib.settings import check as check_settings
from x1lib.settings import opt
from x1lib.sweep import costs, money
from x1lib.sweep import design as designs
from x1lib.sweep import points as pts
from x1lib.sweep.answers import Fits, best_of, fits_of, summary, words_of, write_answers
from x1lib.sweep.costs import Speed
from x1lib.sweep.design import FIT, HELDOUT, Design, Recipe, SweepError
from x1lib.sweep.drawing import draw
from x1lib.sweep.fitting import DEFAULT_N, Fitted
from x1lib.sweep.joint import Joint
from x1lib.sweep.money import Price
from x1lib.sweep.probe import probe
from x1lib.sweep.processes import LocalRunner, RayRunner
from x1lib.sweep.running import RUNS, Clock, Sweep
from x1lib.sweep.sealing import Reveal, Target, reveal, seal_heldout, seal_lab00

DESIGN_JSON, FIGURE = "design.json", "scaling-law.png"
HOURS = {"cpu": 1 / 6, "cuda": 12.0}


@dataclass(frozen=True)
class Settings:
    """What a person chooses; empty and 0 mean: as the machine suggests."""

    out: str = opt("", "folder; none: scaling-law beside the runs of all labs")
    hours: float = opt(0.0, "ceiling on wall-clock [hours]; 0: ten minutes on a CPU, 12 h", low=0)
    sizes: str = opt("", "shapes with commas, smallest first; the last is held out")
    branches: str = opt("", "token counts with commas; none: the plan's, fitted to the hours")
    seeds: int = opt(3, "of each of the replicated sizes", low=1)
    replicated: int = opt(2, "how many of the smallest sizes have all seeds", low=0)
    device: str = opt("auto", "which plan", among=("auto", "cpu", "cuda"))
    source: str = opt("", "of text; none: embedded on a CPU", low=None)
    seq_len: int = opt(0, "tokens a sequence; 0: the plan's", low=0)
    batch_tokens: int = opt(0, "tokens a step; 0: the plan's", low=0)
    lr: float = opt(0.0, "peak, at the base width; 0: the plan's", low=0)
    base_width: int = opt(0, "where lr holds; 0: the plan's", low=0)
    final_eval_tokens: int = opt(0, "of each held-out text; 0: the plan's", low=0)
    jobs: int = opt(0, "runs at a time; 0: a core each, 1 on a GPU", low=0)
    runner: str = opt("local", "where runs go", among=("local", "ray"))
    gpu: str = opt("A100-80GB-SXM", "card that a GPU plan is priced for")
    usd_per_hour: float = opt(0.0, "price of this machine [US dollars]", low=0)
    cap_usd: float = opt(0.0, "of all labs; 0: what the ledger says, or 50", low=0)
    billed_since: float = opt(0.0, "seconds since 1970; 0: process 1's start", low=0)

    def __post_init__(self) -> None:
        check_settings(self)

    @property
    def price(self) -> Price:
        return Price(self.usd_per_hour, self.cap_usd, self.billed_since)

    @property
    def folder(self) -> Path:
        return project_root() / (Path(self.out).expanduser() if self.out else LAB / "scaling-law")


@dataclass(frozen=True)
class Planned:
    """A sweep that has been decided and not begun."""

    settings: Settings
    design: Design
    speed: Speed
    hours: float
    run_id: str

    @property
    def folder(self) -> Path:
        return self.settings.folder

    def choices(self) -> list[costs.Choice]:
        return costs.choices(self.design, self.speed, self.settings.usd_per_hour)

    def admit(self) -> str:
        """Whether the money is there; raises BudgetRefused where it is not."""
        return money.admit(self.settings.price, self.hours, self.folder)


def plan(settings: Settings, log: Callable[[str], object] = print) -> Planned:
    """Decide sizes, token counts and speed; of a sweep that was begun, they are what they were.

    Nothing is trained but for ten seconds of probe on a CPU. Raises SweepError, ShapeError or
    ConfigError for what cannot be, or is not what the sweep in that folder began with.
    """
    device = settings.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    hours = settings.hours or HOURS[device]
    path = settings.folder / DESIGN_JSON
    if path.exists():
        kept = json.loads(path.read_text())
        return _planned_before(settings, kept, settings.hours or kept["hours"])
    recipe = designs.CPU_RECIPE if device == "cpu" else designs.GPU_RECIPE
    chosen = {f.name: getattr(settings, f.name, None) for f in fields(Recipe)}
    chosen |= {"device": None, "source": _absolute(settings.source)}
    recipe = replace(recipe, **{name: value for name, value in chosen.items() if value})
    if not recipe.source:
        raise SweepError("no text: give source: a text, or a folder that x1lib.data has prepared")
    sizes = _split(settings.sizes) or (designs.CPU_SIZES if device == "cpu" else designs.GPU_SIZES)
    given = tuple(designs.in_batches(float(n), recipe.batch_tokens) for n in
                  _split(settings.branches))  # fmt: skip
    default = designs.CPU_TOKENS if device == "cpu" else designs.GPU_TOKENS
    tokens = given or designs.spread(default, 1.0, recipe)
    design = Design(sizes, tokens, settings.seeds, settings.replicated, recipe)
    jobs = settings.jobs or (cores() if device == "cpu" else 1)
    if device == "cpu":
        log(f"timing {len(sizes)} sizes for ten seconds, {jobs} at a time")
        speed = probe(design, jobs)
        if not given:
            spread = functools.partial(designs.spread, default, recipe=recipe)
            factor = costs.fitting_factor(design, default, speed, hours, spread)
            design = replace(design, tokens=spread(factor))
    else:
        speed = costs.gpu_speed(design, settings.gpu)
    return Planned(settings, design, speed, hours, f"sweep-{uuid.uuid4().hex[:12]}")


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _absolute(source: str) -> str:
    """A source that is a path, whole, because runs have a folder of their own to stand in."""
    path = project_root() / Path(source).expanduser() if source else None
    return str(path) if path is not None and path.exists() else source


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _planned_before(settings: Settings, kept: dict, hours: float) -> Planned:
    values = kept["design"]
    design = Design(
        tuple(values["sizes"]), tuple(values["tokens"]), values["seeds"], values["replicated"],
        Recipe(**values["recipe"]),
    )  # fmt: skip
    asked = {
        "sizes": _split(settings.sizes) or design.sizes,
        "tokens": tuple(
            designs.in_batches(float(n), design.recipe.batch_tokens)
            for n in _split(settings.branches)
        ) or design.tokens,
        "seeds": settings.seeds,
        "replicated": settings.replicated,
    }  # fmt: skip
    for name, value in asked.items():
        if value != getattr(design, name):
            raise SweepError(
                f"the sweep in {settings.folder} began with {name} {getattr(design, name)}, not"
                f" {value}; give those again, or another out"
            )
    for name in ("seq_len", "batch_tokens", "lr", "base_width", "final_eval_tokens"):
        value = getattr(settings, name)
        if value and value != getattr(design.recipe, name):
            raise SweepError(
                f"the sweep in {settings.folder} began with {name}"
                f" {getattr(design.recipe, name)}, not {value}; give another out"
            )
    speed = Speed(**kept["speed"])
    if settings.jobs:
        speed = replace(speed, jobs=settings.jobs)
    return Planned(settings, design, speed, hours, kept["run_id"])


# -------------------------------------------------------------------------------------- running


def _runner(planned: Planned):
    if planned.settings.runner == "ray":
        return RayRunner(1.0 if planned.design.recipe.device == "cuda" else 0.0)
    return LocalRunner()


def run(planned: Planned, log: Callable[[str], object] = print) -> Results:
    """Carry the sweep out inside its hours and its money, and write everything that it leaves.

    The fitted sizes first; then what they predict of the largest is sealed, and it is trained.
    Run again, it goes on where it was. Raises BudgetRefused, SweepError, or KeyboardInterrupt
    after the runs at work have saved.
    """
    out, design = planned.folder, planned.design
    runner, clock = _runner(planned), Clock(planned.hours, time.monotonic())
    speed = planned.speed
    if isinstance(runner, RayRunner):
        speed = replace(speed, jobs=planned.settings.jobs or runner.slots)
    with money.metered(planned.settings.price, planned.hours, out, planned.run_id) as purse:
        out.mkdir(parents=True, exist_ok=True)
        _keep(planned, out)
        open_data(design.config(design.runs[0]), log)  # once, before many runs want it
        sweep = Sweep(
            design, out, runner, speed, clock,
            metered_by=planned.run_id, must_stop=purse.must_stop, log=log,
        )  # fmt: skip
        try:
            heldout = design.of_role(HELDOUT)
            keep = sum(speed.seconds(design, one) for one in heldout) / min(2, speed.jobs)
            sweep.carry_out(design.of_role(FIT), keep_seconds=keep)
            rows = _write_points(sweep)
            sealed = _seal(design, rows, out, log)
            if sealed and not sweep.ended:
                sweep.carry_out(heldout, sealed)
        finally:
            _write_points(sweep)
        if purse.usd is not None:
            log(f"this sweep has cost {purse.usd:.2f} US dollars")
    if sweep.ended:
        log(f"the sweep ended early ({sweep.ended}); the same command goes on from there")
    return answer(out, log)


def _keep(planned: Planned, out: Path) -> None:
    path = out / DESIGN_JSON
    if path.exists():
        return
    kept = {"run_id": planned.run_id, "created": tracking.utc_now(), "hours": planned.hours}
    kept |= {"design": asdict(planned.design), "speed": asdict(planned.speed)}
    tracking.write_json(path, kept)


def _write_points(sweep: Sweep) -> list[pts.Point]:
    rows = [pts.point_of(sweep, run) for run in sweep.design.runs]
    pts.write(sweep.out / pts.POINTS, rows)
    return rows


def _seal(design: Design, rows: list[pts.Point], out: Path, log) -> dict[str, str]:
    """Seal the held-out size's losses; nothing where the fitted runs carry no law."""
    try:
        fits, missing = fits_of(pts.finished(rows, FIT), (DEFAULT_N,))
        best, *other = best_of(fits) or [None]
        if best is None:
            raise ScalingError(next(iter(missing.values())))
        sealed = seal_heldout(design, rows, best, out, other[0] if other else None)
    except ScalingError as error:
        log(f"the largest size is not predicted, so it is not trained: {error}")
        return {}
    log(f"of the two forms the {best.form} one leaves less: {best.rms:.2%}")
    log(f"sealed: {len(sealed)} predictions of {design.sizes[-1]}, whose runs come now")
    return sealed


# -------------------------------------------------------------------------------------- answers


@dataclass(frozen=True)
class Results:
    """What a sweep came to, as its files say."""

    folder: Path
    design: Design
    points: list[pts.Point]
    fits: Fits
    reveals: list[Reveal]
    found: dict
    words: str

    @property
    def fitted(self) -> Fitted | Joint | None:
        """The form that leaves less, N counted as everywhere on the page; None without a fit."""
        return next(iter(best_of(self.fits)), None)

    @property
    def done(self) -> list[pts.Point]:
        return pts.finished(self.points)


def answer(out: Path, log: Callable[[str], object] = print, lr_runs: Path | None = None) -> Results:
    """Fit what points.csv holds, and write fit.json, prediction.md, the figure, prediction.json.

    lr_runs: rows of the LR x batch sweep; None: the one that the project ships.
    """
    out = Path(out)
    kept = json.loads((out / DESIGN_JSON).read_text())["design"]
    recipe = Recipe(**kept.pop("recipe"))
    design = Design(**{k: tuple(v) if isinstance(v, list) else v for k, v in kept.items()},
                    recipe=recipe)  # fmt: skip
    rows = pts.read(out / pts.POINTS)
    fits, missing = fits_of(rows)
    reveals = reveal(rows, out, out / RUNS)
    shipped = project_root() / "experiments" / "reference" / "lr-batch-sweep" / "runs.csv"
    mine = lr_runs or (shipped if replace(recipe, lr=designs.CPU_RECIPE.lr) == designs.CPU_RECIPE
                       else None)  # fmt: skip
    found = summary(design, rows, fits, missing, reveals, mine)
    words = words_of(design, rows, found, bytes_per_token(design))
    write_answers(out, found, words)
    if best := best_of(fits):
        draw(out / FIGURE, rows, best[0], found["prediction_1e9"], reveals)
        every = [fit for by_n in fits.values() for fit in by_n.values()]
        try:
            seal_lab00(design, every, best[0], out, Target())
        except SweepError as error:
            log(f"no prediction for lab00: {error}")
    return Results(out, design, rows, fits, reveals, found, words)


def bytes_per_token(design: Design) -> float:
    """Bytes of text that a token stands for, over the training text's first blocks."""
    shards, tokenizer = open_data(design.config(design.runs[0]), lambda _: None)
    tokens, _ = shards.batch(0, 64, design.recipe.seq_len, 0)
    return float(tokenizer.token_bytes[tokens].mean())
