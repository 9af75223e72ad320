"""What lab02 needs of a notebook's kernel: a run that spiked, a hidden case, what was written down.

A reader's own run is taken where it spiked and can be rewound. Else one is made, whose cause is
drawn by the number of its case: nothing here shows it before `reveal`.
"""

from __future__ import annotations

import difflib
import hashlib
import itertools
import math
import secrets
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from x1lib import launch, tracking
from x1lib.launch.parameters import _injected
from x1lib.launch.places import LAB, manifest
from x1lib.postmortem.analysis import Analysis, find_run, find_spike, start_before
from x1lib.postmortem.classifier import CAUSES, LOSS_RULE, calm_figures
from x1lib.postmortem.cures import CURES
from x1lib.postmortem.report import EVIDENCE, PAGE
from x1lib.postmortem.rewound import PostmortemError
from x1lib.settings import ConfigError, check, from_dict, opt
from x1lib.stability import Injection, detect
from x1lib.tracking.holders import read_json
from x1lib.train import Config

CASE, WRITTEN, OUTCOMES, REVEALED = "case.json", "diagnosis.json", "outcomes.json", "revealed.json"
MADE = "run-spike"
KINDS = tuple(cause for cause in CAUSES if cause not in ("clean", "unknown"))
DIAGNOSES = (*KINDS, "unknown")
CASES = 10**6


@dataclass(frozen=True)
class Settings:
    """Parameters of the lab."""

    run: str = opt("", "run that spiked: folder or mlflow id; empty: lab00's, else one is made")
    case: int = opt(0, "number of a made run's hidden cause; 0: drawn, and kept", low=0)
    shape: str = opt("2x96:3/3:256", "model of a made run")
    seq_len: int = opt(128, "tokens a sequence of a made run", low=8)
    batch_tokens: int = opt(1024, "tokens a step of a made run", low=8)
    steps: int = opt(240, "steps of a made run", low=100)
    cures: str = opt("", "recoveries to try, with commas; empty: all")
    hours: float = opt(0.25, "ceiling on a made run [hours]", low=0)
    replay_minutes: float = opt(10.0, "ceiling on the replays [minutes]", low=0)
    usd_per_hour: float = opt(0.0, "price of this machine [US dollars]", low=0)
    out: str = opt("", "folder of page, evidence and made run; empty: beside the labs' runs")

    def __post_init__(self) -> None:
        check(self)
        if unknown := [name for name in self.names if name not in CURES]:
            raise ConfigError(f"unknown recovery {unknown[0]!r}; give some of {', '.join(CURES)}")

    @property
    def names(self) -> tuple[str, ...]:
        """Recoveries to try."""
        return tuple(one.strip() for one in self.cures.split(",") if one.strip()) or tuple(CURES)


def configure(namespace: dict, names: str) -> Settings:
    """Settings of a notebook's parameters; nothing is started.

    namespace: the notebook's globals(). names: those in its parameters cell. What papermill
    injected counts too, and a name that nobody knows is refused. Raises ConfigError.
    """
    known, injected = [f.name for f in fields(Settings)], _injected(namespace)
    for name in injected:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
            raise ConfigError(f"unknown parameter {name!r}; {hint}")
    return from_dict(Settings, {name: namespace[name] for name in [*names.split(), *injected]})


@dataclass(frozen=True)
class Bench:
    """The run that is looked into, and where its page goes. case: None for a reader's own run."""

    settings: Settings
    out: Path
    folder: Path
    config: Config
    case: int | None

    @property
    def evidence(self) -> Path:
        return self.out / EVIDENCE

    @property
    def is_made(self) -> bool:
        return self.case is not None


def draw(case: int, steps: int) -> Injection:
    """The fault of a case, by its number alone: one of four causes, with its strength and step."""
    rng = np.random.RandomState(case)
    cause = KINDS[rng.randint(len(KINDS))]
    step = int(rng.randint(round(0.5 * steps), round(0.6 * steps) + 1))
    strength, options = {
        "rare-token": (rng.uniform(0.4, 0.9), f"steps={rng.randint(1, 4)}"),
        "corrupt-data": (1.0, f"kind={rng.randint(3)},steps={rng.randint(2, 5)}"),
        "lr-too-high": (rng.uniform(12, 25), f"hidden={rng.randint(2)},steps={rng.randint(4, 8)}"),
        "adam-beta2": [(0.9995, "jump=33"), (0.9999, "jump=33"), (0.9999, "jump=20")][
            rng.randint(3)
        ],
    }[cause]
    return Injection.parse(f"{cause}@{step}:{strength:.4g},{options}")


def open_bench(settings: Settings, log=print) -> Bench:
    """Choose the run: the one asked for, a case under way, the reader's own, or a new case.

    A page about another run is moved aside first, with its evidence. Raises PostmortemError where
    the run that was asked for has no spike or nothing to rewind to.
    """
    out = launch.project_root() / (Path(settings.out).expanduser() if settings.out else LAB)
    out.mkdir(parents=True, exist_ok=True)
    known = read_json(out / EVIDENCE / CASE)
    if settings.run:
        place = launch.project_root() / Path(settings.run).expanduser()
        folder = find_run(place if place.is_dir() else settings.run, launch.project_root())
        _check_own(folder)
        return _own(settings, out, folder, log)
    if not settings.case and "case" not in known:
        for name in ("run-cloud", "run-local"):
            folder = out / name
            if not (folder / tracking.metrics.METRICS).exists():
                continue
            try:
                _check_own(folder)
                return _own(settings, out, folder, log)
            except PostmortemError as error:
                log(launch.shown(f"{name} is not taken: {error}"))
    case = settings.case or known.get("case") or 1 + secrets.randbelow(CASES)
    return _made(settings, out, case, log)


def _check_own(folder: Path) -> None:
    start_before(folder, find_spike(folder))


def _own(settings: Settings, out: Path, folder: Path, log) -> Bench:
    stored = manifest(folder).get("config", {})
    values = {f.name: stored[f.name] for f in fields(Config) if f.name in stored}
    config = Config(**values | {"out": str(folder), "usd_per_hour": settings.usd_per_hour})
    about = {"run": folder.name, "run_id": manifest(folder).get("run_id")}
    _make_room(out, about, log)
    log(f"your own run {folder.name}, which spiked at step {find_spike(folder):,}")
    return Bench(settings, out, folder, config, None)


def _made(settings: Settings, out: Path, case: int, log) -> Bench:
    fault = draw(case, settings.steps)
    folder = out / MADE
    inside = folder.is_relative_to(launch.project_root())
    s = settings
    config = Config(
        out=str(folder.relative_to(launch.project_root()) if inside else folder),
        hours=s.hours, usd_per_hour=s.usd_per_hour, after_hours=s.replay_minutes / 60,
        steps=s.steps, seed=case, shape=s.shape, seq_len=s.seq_len, batch_tokens=s.batch_tokens,
        tokenizer="bpe4096", lr=3e-3, warmup=0.15, device="cpu", compile="off", sample_tokens=0,
        eval_every=s.steps // 4, eval_tokens=4_096, final_eval_tokens=16_384,
        checkpoint_every=20, keep_last=11, on_spike="record", inject=fault.spec,
    )  # fmt: skip
    digest = hashlib.sha256(fault.spec.encode()).hexdigest()
    _make_room(out, {"case": case, "run": MADE, "sha256": digest}, log)
    log(f"a run is made: case {case}, its cause sealed as sha256 {digest[:16]}...")
    return Bench(settings, out, folder, config, case)


def spike_of(bench: Bench) -> int:
    """The step of the run's worst spike, by its own watch, or else by whoever looks more closely.

    Raises PostmortemError where there is none.
    """
    try:
        return find_spike(bench.folder)
    except PostmortemError:
        lines = tracking.read_metrics(bench.folder, "step")
        loss = np.array([line["loss"] for line in lines])
        found = detect(loss, **LOSS_RULE)
        if not len(found):
            if not bench.is_made:
                raise
            why = "its fault left no spike that a rule sees; give another number as case"
            raise PostmortemError(f"case {bench.case}: {why}") from None
        return lines[max(found, key=lambda i: loss[i])]["step"]


def _make_room(out: Path, about: dict, log) -> None:
    """Say in the evidence which run it is of; the page and evidence of another are moved aside."""
    folder, page = out / EVIDENCE, out / PAGE
    was = read_json(folder / CASE)
    if was == about:
        return
    if page.exists() or folder.exists():
        numbered = (out / f"postmortem-{i}" for i in itertools.count(1))
        aside = next(place for place in numbered if not place.exists())
        aside.mkdir()
        for path in (page, folder):
            if path.exists():
                path.rename(aside / path.name)
        log(f"the post-mortem of another run is now in {launch.shown(aside)}")
    folder.mkdir(parents=True)
    tracking.write_json(folder / CASE, about)


def write_down(bench: Bench, **answers: str | float | None) -> dict:
    """Keep what a reader says, and return all that stands: the first for a name stays.

    `cause` must be one of DIAGNOSES and is taken until the reveal; `recovery`, one of CURES, and
    numbers until the replays are there. None is fine. Raises ConfigError for anything else.
    """
    path = bench.evidence / WRITTEN
    kept = read_json(path)
    for name, value in answers.items():
        among = {"cause": DIAGNOSES, "recovery": tuple(CURES)}.get(name)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        good = value in among if among else name == "why" or (number and math.isfinite(value))
        if value is not None and not good:
            wanted = f"one of {', '.join(among)}" if among else "a number"
            raise ConfigError(f"{name} is {value!r}; expected {wanted}, or None")
        late = REVEALED if name in ("cause", "why") else OUTCOMES
        if value is not None and name not in kept and not (bench.evidence / late).exists():
            kept[name] = value
            kept.setdefault("written", {})[name] = tracking.utc_now()
    if kept:
        tracking.write_json(path, kept)
    return {name: kept.get(name) for name in answers}


def reveal(bench: Bench) -> Injection | None:
    """What was done to a made run, held against its seal; None for a reader's own run.

    From now on no diagnosis is taken. Raises PostmortemError where the seal does not fit.
    """
    tracking.write_json(bench.evidence / REVEALED, {"revealed": tracking.utc_now()})
    if not bench.is_made:
        return None
    spec = manifest(bench.folder)["config"]["inject"]
    if hashlib.sha256(spec.encode()).hexdigest() != read_json(bench.evidence / CASE)["sha256"]:
        raise PostmortemError(
            f"{launch.shown(bench.folder)} was made with another fault than was sealed; delete it"
            " and run the lab again"
        )
    return Injection.parse(spec)


def control_equals_record(found: Analysis) -> tuple[int, int]:
    """Steps of the untouched replay whose loss is the record's to the bit, and steps compared."""
    then = dict(zip(found.record["step"], found.record["loss"], strict=True))
    now = enumerate(found.outcomes["untouched"].series["loss"], start=found.incident.start + 1)
    pairs = [(loss, then[step]) for step, loss in now if step in then]
    return sum(a == b for a, b in pairs), len(pairs)


CLUES_HEAD = ("measured", "at the spike", "most in the calm steps before")


def clues(found: Analysis) -> list[tuple[str, str, str]]:
    """Rows of a table: a figure of the spike, and the most that the same figure was before it."""
    f, calm = found.features, calm_figures(found.trace, found.incident.onset)
    lead = "one of them stayed" if f.lead is None else f"{f.lead:+d} steps"
    noise = "-" if f.probe_noise is None else f"deviation {f.probe_noise:.3f}"
    rows = [
        ("logged rate, to its median", f"{f.lr_ratio:.2f}", f"{calm['lr_ratio']:.2f}"),
        ("size of updates, to its median", f"{f.update_ratio:.2f}", f"{calm['update_ratio']:.2f}"),
        ("gradient / root of second moment, to its median", f"{f.gv:.2f}", f"{calm['gv']:.2f}"),
        ("gradient norm leads the loss by", lead, "-"),
        ("loss of the batch, rise [nats]", f"{f.loss_rise:+.2f}", "-"),
        ("probe after the update, rise [nats]", f"{f.probe_rise:+.3f}", noise),
        ("rarest 1% of the corpus in the batch", f"{f.rare:.1%}", f"{calm['rare']:.1%}"),
        ("order that the batch lost", f"{f.disorder:.0%}", f"{calm['disorder']:.0%}"),
        ("order that its worst sample lost", f"{f.row_disorder:.0%}",
         f"{calm['row_disorder']:.0%}"),
        ("repetition in its worst sample", f"{f.repetition:.0%}", f"{calm['repetition']:.0%}"),
    ]  # fmt: skip
    if f.excess is not None:
        rows.append(
            ("batch at the weights of the checkpoint, excess [nats]", f"{f.excess:+.2f}", "-")
        )
    if f.other_data_rise is not None:
        rows.append(
            ("probe, had other batches come, rise [nats]", f"{f.other_data_rise:+.2f}", "-")
        )
    return rows


def outcome_rows(found: Analysis, chosen: str | None = None) -> tuple[tuple, list[tuple]]:
    """Head and rows of a table: a row a replay, the reader's recovery in bold."""
    head = (
        "recovery",
        "probe at most",
        "at the end",
        "held-out",
        "back after",
        "tokens lost",
        "USD",
    )
    rows = []
    for name, one in found.outcomes.items():
        heldout = "-" if one.heldout is None else f"{one.heldout:.3f}"
        back = "not yet" if one.back_after_steps is None else f"step {one.back_after_steps}"
        lost = "not yet back" if one.tokens_lost is None else f"{one.tokens_lost:,}"
        usd = "-" if one.usd_lost is None else f"{one.usd_lost:.4f}"
        label = f"**{name}**" if name == chosen else name
        rows.append((label, f"{one.peak:+.3f}", f"{one.end:+.3f}", heldout, back, lost, usd))
    return head, rows


def gain(found: Analysis, name: str) -> float:
    """Nats by which a recovery ends below the untouched control, on the probe."""
    return found.outcomes["untouched"].end - found.outcomes[name].end


def compare(name: str, said: float | None, was: float, noise: float, log=print) -> None:
    """Predicted beside measured, and whether they differ by more than noise does."""
    if said is None:
        log(f"{name}: nothing predicted; it was {was:+.3f} nats, noise {noise:.3f}")
        return
    off = abs(said - was)
    verdict = "inside the noise" if off <= noise else f"off by {off:.3f}"
    log(f"{name}: you said {said:+.3f}, it was {was:+.3f} nats, noise {noise:.3f}: {verdict}")


def summary(bench: Bench, found: Analysis, truth: Injection | None) -> list[tuple[str, str, str]]:
    """Who said what of the cause, and whether it was so: rows of a table."""
    said = read_json(bench.evidence / WRITTEN).get("cause")
    real = truth.fault.name if truth else None
    rows = []
    for who, cause in (("you", said), ("the classifier", found.verdict.cause)):
        if cause is None:
            right = "nothing written"
        elif real is None:
            right = "nobody knows: this was no made run"
        else:
            right = "right" if cause == real else "wrong"
        rows.append((who, cause or "-", right))
    tracking.write_json(
        bench.evidence / "verdict.json",
        {"truth": real, "spec": truth.spec if truth else None, "diagnosis": said,
         "classifier": found.verdict.cause, "settings": asdict(bench.settings)},
    )  # fmt: skip
    return rows
