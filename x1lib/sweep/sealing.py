"""Predictions written down before what they predict: of the largest size, and of lab00's run."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from x1lib.sweep.design import FIT, HELDOUT, Design, SweepError
from x1lib.sweep.fitting import Fitted, ruler
from x1lib.sweep.joint import Joint
from x1lib.sweep.points import COUNTS, Point, finished
from x1lib.sweep.running import manifest
from x1lib.tracking import write_json

SEALED, PREDICTION = "sealed.json", "prediction.json"
GOAL = 0.005  # error of the held-out loss


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def seal_heldout(
    design: Design, points: list[Point], fitted: Fitted | Joint, out: Path, other=None
) -> dict[str, str]:
    """Predict each run of the held-out size and write it down; run id -> sha256 of what was said.

    other: a fit of the other form, whose word is kept beside. What was sealed before stays: a
    prediction made anew after a result is none.
    """
    path = out / SEALED
    kept = json.loads(path.read_text()) if path.exists() else {}
    n_params = getattr(design.count(design.sizes[-1]), fitted.n)
    for run in design.of_role(HELDOUT):
        if run.id in kept:
            continue
        loss, low, high = fitted.predict(n_params, run.n_tokens)
        said = {
            "run": run.id,
            "n": fitted.n,
            "form": fitted.form,
            "other_form": other and other.form,
            "other_loss": other and float(other.law.loss(n_params, run.n_tokens)),
            "n_params": n_params,
            "tokens": run.n_tokens,
            "loss": loss,
            "low": low,
            "high": high,
            "ruler": ruler(finished(points, FIT), n_params, run.n_tokens, fitted.n),
            "law": asdict(fitted.law),
            "from": sorted(p.run_id for p in fitted.points),
            "sealed": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        text = json.dumps(said, sort_keys=True)
        kept[run.id] = {"text": text, "sha256": sha256(text)}
    write_json(path, kept)
    return {name: one["sha256"] for name, one in kept.items()}


@dataclass(frozen=True)
class Reveal:
    """A sealed prediction beside the run. sound: the seal is in the run's first manifest."""

    run: str
    tokens: int
    loss: float
    low: float
    high: float
    ruler: float
    measured: float
    sound: bool
    form: str = "additive"
    other_form: str | None = None
    other_loss: float | None = None

    @property
    def error(self) -> float:
        """Relative, of the law."""
        return self.loss / self.measured - 1

    @property
    def other_error(self) -> float | None:
        """Relative, of the other form."""
        return None if self.other_loss is None else self.other_loss / self.measured - 1

    @property
    def ruler_error(self) -> float:
        return self.ruler / self.measured - 1

    @property
    def inside(self) -> bool:
        return self.low <= self.measured <= self.high


def reveal(points: list[Point], out: Path, runs: Path) -> list[Reveal]:
    """Each sealed prediction whose run is finished, by token count."""
    path = out / SEALED
    kept = json.loads(path.read_text()) if path.exists() else {}
    measured = {p.run_id: p for p in finished(points, HELDOUT)}
    found = []
    for name, one in kept.items():
        if name not in measured:
            continue
        said, values = json.loads(one["text"]), manifest(runs / name)
        sound = sha256(one["text"]) == one["sha256"] == values.get("config", {}).get("sealed")
        sound = sound and said["sealed"] <= values.get("created", "")
        picked = {key: said[key] for key in ("loss", "low", "high", "ruler", "tokens")}
        picked |= {k: said[k] for k in ("form", "other_form", "other_loss") if k in said}
        found.append(Reveal(name, measured=measured[name].val_loss, sound=bool(sound), **picked))
    return sorted(found, key=lambda one: one.tokens)


# ------------------------------------------------------------------------------ lab00's run


@dataclass(frozen=True)
class Target:
    """The run that a prediction is sealed for: lab00's, with its own depth, batch and rate."""

    shape: str = "tiny"
    source: str = "embedded"
    tokenizer: str = "bpe4096"
    seq_len: int = 256


# What lab00's recipe may do to the loss at equal N and D, in log loss: `tiny` is 4 layers deep and
# not 2, its batch is four times as large, its rate is Step Law's, and the law knows nothing of it.
# A judgement: the one run there was, an earlier record of lab00 (4.170 nats at 3.23M tokens), ended
# 4.7% below the law of a sweep of widths 32 to 192.
OTHER_RECIPE = 0.06
REACH = (3e5, 3e7)  # tokens between which the curve stands


def seal_lab00(
    design: Design, fits: list[Fitted | Joint], best: Fitted | Joint, out: Path, target: Target
) -> dict:
    """Write prediction.json, which lab00 reads: loss over tokens, and an interval.

    The curve is the best fit's; the interval spans those of every fit, whatever its form and its
    count of N, each wider by what the other recipe may do. Written once: it stays when a sweep is
    fitted again. Raises SweepError for another text.
    """
    path = out / PREDICTION
    if path.exists():
        return json.loads(path.read_text())
    r = design.recipe
    if (r.source, r.tokenizer, r.seq_len) != (target.source, target.tokenizer, target.seq_len):
        raise SweepError(
            f"this sweep read {r.source} in {r.seq_len} tokens of {r.tokenizer}; the prediction is"
            f" for {target.source} in {target.seq_len} of {target.tokenizer}: losses of other text"
            " say nothing about it"
        )
    count, curve = design.count(target.shape), []
    for i in range(25):
        n_tokens = round(REACH[0] * (REACH[1] / REACH[0]) ** (i / 24))
        said = [fit.predict(getattr(count, fit.n), n_tokens) for fit in fits]
        low = min(low for _, low, _ in said) * math.exp(-OTHER_RECIPE)
        high = max(high for _, _, high in said) * math.exp(OTHER_RECIPE)
        loss = float(best.law.loss(getattr(count, best.n), n_tokens))
        curve.append({"n_tokens": n_tokens, "loss": loss, "low": low, "high": high})
    found = {
        "sealed": datetime.now(UTC).isoformat(timespec="seconds"),
        **asdict(target),
        "n_params": {n: getattr(count, n) for n in COUNTS},
        "law": {f"{fit.form}, {fit.n}": asdict(fit.law) for fit in fits},
        "interval": "95% of every form and count of N, wider by a factor of"
        f" {math.exp(OTHER_RECIPE):.3f} to either side for another depth, batch and rate",
        "curve": curve,
    }
    write_json(path, found)
    return found
