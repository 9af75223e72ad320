"""What lab02 needs of a notebook's kernel: a run that spiked, a hidden case, what was written down.

A reader's own run is taken where it spiked and can be rewound. Else one is made, whose cause is
drawn by the number of its case: nothing here shows it before `reveal`.
"""

from __future__ import annotations

import difflib
import hashlib
import math
import secrets
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import numpy as np

from x1lib import launch, tracking
from x1lib.launch.parameters import _injected
from x1lib.launch.places import LAB, manifest
from x1lib.postmortem.analysis import Analysis
from x1lib.postmortem.classifier import CAUSES
from x1lib.postmortem.cures import CURES
from x1lib.postmortem.finding import find_run, find_spike, start_before
from x1lib.postmortem.rewound import PostmortemError
from x1lib.postmortem.room import CASE, EVIDENCE, move_aside
from x1lib.settings import ConfigError, check, from_dict, opt
from x1lib.stability import Injection
from x1lib.tracking.holders import read_json
from x1lib.train import Config

WRITTEN, OUTCOMES, REVEALED = "diagnosis.json", "outcomes.json", "revealed.json"
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
    open_seal: bool = opt(False, "reveal the cause though no diagnosis was written")
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
    config: Config = field(repr=False)  # it says what was done to a made run
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
    """The step of the run's worst spike; raises PostmortemError where there is none."""
    try:
        return find_spike(bench.folder)
    except PostmortemError:
        if not bench.is_made:
            raise
        why = "its fault left no spike that a rule sees; give another number as case"
        raise PostmortemError(f"case {bench.case}: {why}") from None


def _make_room(out: Path, about: dict, log) -> None:
    """Say in the evidence which run it is of; the page and evidence of another are moved aside."""
    folder = out / EVIDENCE
    if read_json(folder / CASE) == about:
        return
    move_aside(out, lambda line: log(launch.shown(line)))
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


def is_open(bench: Bench) -> bool:
    """Whether the reveal was made: from then on no diagnosis is taken."""
    return (bench.evidence / REVEALED).exists()


def reveal(bench: Bench, log=print) -> Injection | None:
    """Say what was done to a made run, held against its seal; None where nobody knows.

    Without a diagnosis the seal stays closed, and `log` says so, unless the settings ask for it.
    Raises PostmortemError where the seal does not fit.
    """
    diagnosed = read_json(bench.evidence / WRITTEN).get("cause") is not None
    if not (diagnosed or bench.settings.open_seal or is_open(bench)):
        log(
            "the seal stays closed until you write a cause above: one of"
            f" {', '.join(DIAGNOSES)}; then run this cell again"
        )
        return None
    if not bench.is_made:
        _opened(bench)
        log("your own run: nobody knows what was done")
        return None
    spec = manifest(bench.folder)["config"]["inject"]
    if hashlib.sha256(spec.encode()).hexdigest() != read_json(bench.evidence / CASE)["sha256"]:
        raise PostmortemError(
            f"{launch.shown(bench.folder)} was made with another fault than was sealed; delete it"
            " and run the lab again"
        )
    _opened(bench)
    truth = Injection.parse(spec)
    log(f"what was done: {truth.spec}\n{truth.fault.mechanism}")
    return truth


def _opened(bench: Bench) -> None:
    if not is_open(bench):
        tracking.write_json(bench.evidence / REVEALED, {"revealed": tracking.utc_now()})


def summary(bench: Bench, found: Analysis, truth: Injection | None) -> list[tuple[str, str, str]]:
    """Who said what of the cause, and whether it was so: rows of a table."""
    if not is_open(bench):
        return [("you", "-", "the diagnosis is open"), ("the classifier", "kept back", "-")]
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


def reasons(bench: Bench, found: Analysis) -> list[str]:
    """The classifier's evidence, a line each; kept back with the seal."""
    if not is_open(bench):
        return ["the classifier's cause and its reasons are kept back with the seal"]
    v = found.verdict
    lines = [f"  for: {words}" for words in v.evidence_for]
    lines += [f"  against: {words}" for words in v.evidence_against]
    return [f"the classifier, confidence {v.confidence}", *lines]


def head(bench: Bench, page: Path, n_lines: int = 23) -> str:
    """The first lines of the page; it names the cause, so not before the reveal."""
    if not is_open(bench):
        return f"{page.name} names the classifier's cause: read it when you have written yours"
    return "\n".join(page.read_text().splitlines()[:n_lines])
