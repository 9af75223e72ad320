"""Box 2, the triple: the design, the CSV beside its runs, the fit made again, the prediction."""

from __future__ import annotations

import json
import math
from dataclasses import fields
from pathlib import Path

import numpy as np

from x1lib import X1Error
from x1lib.budget_guard import Ledger
from x1lib.done.box import Box, DoneError, State, lacking, open_box, read
from x1lib.session.money import LEDGER
from x1lib.sweep import TRIPLE, Design, Fitted, Joint, Point, Recipe, read_points
from x1lib.sweep.answers import FIT_JSON, FORMS, PREDICTION_MD, _goal, billions, words_of
from x1lib.sweep.fitting import DEFAULT_N
from x1lib.sweep.lab import DESIGN_JSON
from x1lib.sweep.points import POINTS, finished, noise_floor, point_of
from x1lib.sweep.running import RUNS, Sweep, manifest
from x1lib.sweep.sealing import reveal
from x1lib.tracking import manifest_faults

NAME, FOLDER = "the triple", "scaling-law"
REFITS = 2  # of a fit that is only held against the one on the disk
SAME_LOSS = 1e-4  # log loss: two minimisations of one sum may differ by less
SAME_TOKENS = 0.02  # relative, of D_opt(1B), which lies far outside the points
SAME_END, SANE_TOKENS = 0.1, 1e15  # of an interval's end; beyond, a refit has hardly an optimum
AGAIN, FIT_AGAIN = "make lab01", "python -m x1lib.sweep fit"
FOR_REAL = f"{AGAIN}   (on a rented card: its sizes there are 5m to 100m)"


def check(lab: Path, log=lambda line: None) -> Box:
    """Sizes, points, fit, prediction; done where the triple itself ran on a rented card."""
    out = lab / FOLDER
    if not (out / DESIGN_JSON).exists():
        return open_box(NAME, [f"{FOLDER}/ holds no sweep"], AGAIN)
    try:
        kept = read(out / DESIGN_JSON)
        design = _design(kept)
        rows = _points(out, design)
    except X1Error as error:
        return open_box(NAME, [str(error)], AGAIN)
    try:
        found = read(out / FIT_JSON)
        log(f"fitting {len(finished(rows))} points again")
        said = _fit(rows, found)
        _reveals(out, rows, found)
        said += _prediction(out, design, rows, found)
    except (X1Error, KeyError, TypeError) as error:
        text = str(error) if isinstance(error, X1Error) else lacking(FIT_JSON, error)
        return open_box(NAME, [text], FIT_AGAIN)
    done = finished(rows)
    sizes = [size for size in design.sizes if any(p.shape == size for p in done)]
    real = set(TRIPLE) <= set(sizes) and _billed(lab, kept)
    found_words = f"{len(done)} of {len(rows)} runs of {len(sizes)} sizes agree; {said}"
    return Box(NAME, State.DONE if real else State.REHEARSED, found_words, command=FOR_REAL)


def _design(kept: dict) -> Design:
    try:
        values = dict(kept["design"])
        recipe = Recipe(**values.pop("recipe"))
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return Design(**values, recipe=recipe)
    except (KeyError, TypeError, ValueError) as error:
        raise DoneError(f"{DESIGN_JSON} is damaged ({error})") from error


def _points(out: Path, design: Design) -> list[Point]:
    """The rows of points.csv, where each is what its run's manifest says."""
    try:
        points = read_points(out / POINTS)
        rows = {row.run_id: row for row in points}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DoneError(f"{POINTS} cannot be read ({error})") from error
    if len(rows) < len(points):
        raise DoneError(f"{POINTS} has {len(points) - len(rows)} run(s) in more than one row")
    wanted = {run.id for run in design.runs}
    if rows.keys() != wanted:
        odd = sorted(rows.keys() ^ wanted)
        raise DoneError(f"{POINTS} and the design differ in {', '.join(odd[:3])}")
    sweep = Sweep(design, out, None, None, None)  # refuses runs that were made otherwise
    for run in design.runs:
        expected, row = point_of(sweep, run), rows[run.id]
        names = [f.name for f in fields(Point) if f.name != "status" or expected.is_finished]
        odd = [name for name in names if getattr(row, name) != getattr(expected, name)]
        if odd or row.is_finished != expected.is_finished:
            what = odd[0] if odd else "status"
            raise DoneError(f"{POINTS}: {what} of {run.id} is not what its run says")
        if row.is_finished and (wrong := manifest_faults(manifest(out / RUNS / run.id))):
            raise DoneError(f"{run.id}, manifest.json: {wrong[0]}")
        if row.is_finished:
            _recorded(out / RUNS / run.id, row)
    done = finished(rows.values())
    if len({row.shape for row in done}) < 3:
        raise DoneError(f"{len({row.shape for row in done})} sizes are trained; a triple is three")
    return list(rows.values())


def _recorded(folder: Path, row: Point) -> None:
    """The loss is the last that the run recorded of the held-out documents."""
    last = None
    try:
        text = (folder / "metrics.jsonl").read_text(errors="replace")
        for raw in text.splitlines():
            if '"kind": "eval"' in raw and '"name": "documents"' in raw:
                last = json.loads(raw)["loss"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DoneError(f"{row.run_id}: metrics.jsonl cannot be read ({error})") from error
    if last is None or last != row.val_loss:
        raise DoneError(f"{row.run_id}: metrics.jsonl says another loss than its manifest")


def _fit(rows: list[Point], found: dict) -> str:
    """Fit both forms again; raises DoneError where the law on the disk is another one."""
    again = {}
    for form, key in (("additive", "fits"), ("joint", "joint_fits")):
        if DEFAULT_N not in found[key]:
            continue
        kept, fit = found[key][DEFAULT_N], FORMS[form](rows, DEFAULT_N, REFITS)
        again[form] = fit
        _same_law(form, kept, fit)
    if not again:
        raise DoneError("there is no law: " + "; ".join(found["no_fit"].values()))
    best = min(again.values(), key=lambda fit: fit.spread)
    if found["form"] != best.form:
        raise DoneError(f"{FIT_JSON} takes the {found['form']} form; {best.form} leaves less")
    bar = found["prediction_1e9"]
    said = found["fits" if best.form == "additive" else "joint_fits"][DEFAULT_N]
    if bar["optimal_tokens_1e9"] != said["optimal_tokens_1e9"]:
        raise DoneError("the prediction for 1B is not the one of the fitted law")
    if not bar["noise"] or list(bar["noise"]) != list(said["interval_optimal_tokens_1e9"]):
        raise DoneError("the prediction for 1B has no interval, or not that of the fit")
    ends = FORMS[best.form](rows, DEFAULT_N).interval_optimal_tokens()
    for mine, its in zip(ends, bar["noise"], strict=True):
        sane = its is not None and 0 < its < SANE_TOKENS and mine < SANE_TOKENS
        if sane and not math.isclose(mine, its, rel_tol=SAME_END):
            raise DoneError(
                f"the interval for 1B ends at {its:.3g} tokens, resampled at {mine:.3g}"
            )
    return f"the fit came out the same, residual {best.rms:.2%}"


def _same_law(form: str, kept: dict, fit: Fitted | Joint) -> None:
    law = type(fit.law)(**kept["law"])
    n = np.array([p.n_total for p in fit.points], float)
    d = np.array([p.tokens for p in fit.points], float)
    misses = np.log(law.loss(n, d)) - np.log(fit.law.loss(n, d))
    apart = float(np.abs(misses).max())
    if apart > SAME_LOSS:
        raise DoneError(f"{FIT_JSON}: the {form} law is not the one that {POINTS} gives"
                        f" ({apart:.2%} apart)")  # fmt: skip
    residuals = {p.run_id: float(r) for p, r in zip(fit.points, fit.residuals, strict=True)}
    if kept["residuals"].keys() != residuals.keys() or any(
        abs(kept["residuals"][name] - one) > SAME_LOSS for name, one in residuals.items()
    ):
        raise DoneError(f"{FIT_JSON}: the residuals of the {form} law are not those of {POINTS}")
    mine, its = fit.optimal_tokens(), kept["optimal_tokens_1e9"]
    if (mine is None) != (its is None) or (
        mine and not math.isclose(mine, its, rel_tol=SAME_TOKENS)
    ):
        raise DoneError(f"{FIT_JSON}: D_opt(1B) of the {form} law is {its}, fitted again {mine}")


def _reveals(out: Path, rows: list[Point], found: dict) -> None:
    """What was sealed, beside what came out, is what fit.json says."""
    names = ("run", "tokens", "loss", "low", "high", "measured", "sound")
    reveals = reveal(rows, out, out / RUNS)
    mine = [[getattr(one, name) for name in names] for one in reveals]
    its = [[one[name] for name in names] for one in found["heldout"]]
    if mine != its or found["heldout_goal"] != _goal(reveals):
        raise DoneError(
            f"{FIT_JSON}: what was predicted of the largest size is not what was sealed"
        )
    floor, freedom = noise_floor(rows)
    said = found["noise_floor"]
    counts = {"finished": len(finished(rows)), "of": len(rows)}
    same = math.isclose(said["sd_log_loss"] or 0.0, floor or 0.0, rel_tol=1e-9)
    if not same or said["freedom"] != freedom:
        raise DoneError(f"{FIT_JSON}: the noise between seeds is not that of {POINTS}")
    if found["n_points"] != counts:
        raise DoneError(f"{FIT_JSON}: it counts other points than {POINTS}")


def _prediction(out: Path, design: Design, rows: list[Point], found: dict) -> str:
    """prediction.md says what fit.json holds; returns the number and its interval."""
    path = out / PREDICTION_MD
    if not path.exists():
        raise DoneError(f"{PREDICTION_MD} is missing")
    text = path.read_text(encoding="utf-8", errors="replace")
    page, bar = text.splitlines(), found["prediction_1e9"]
    # JSON has no infinity: an open end is null there.
    opened = {k: [math.inf if end is None else end for end in v] if isinstance(v, list) else v
              for k, v in bar.items()}  # fmt: skip
    wanted = words_of(design, rows, found | {"prediction_1e9": opened}, 1.0).splitlines()
    head = next(i for i, line in enumerate(wanted) if line.startswith("**"))
    best = billions(bar["optimal_tokens_1e9"])
    said = page[head] if len(page) > head else ""  # bytes a token are the text's, gone by now
    opening = f"**D_opt(1B) = {best} tokens," if bar["optimal_tokens_1e9"] else wanted[head]
    if page[:head] + page[head + 1 :] != wanted[:head] + wanted[head + 1 :] or not said.startswith(
        opening
    ):
        raise DoneError(f"{PREDICTION_MD} does not say what {FIT_JSON} holds")
    low, high = (billions(end) for end in opened["noise"])
    return f"; D_opt(1B) {best} ({low} to {high})"


def _billed(lab: Path, kept: dict) -> bool:
    """Whether the sweep ran on a card and cost something by the ledger."""
    if kept["design"]["recipe"]["device"] == "cpu" or not (lab / LEDGER).exists():
        return False
    account = Ledger(lab / LEDGER, overspent_ok=True).runs.get(kept["run_id"])
    return account is not None and account.usd > 0
