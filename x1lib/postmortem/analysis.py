"""From a run folder to everything a post-mortem says: find, rewind, watch, take apart, replay."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from x1lib import tracking
from x1lib.data import load_tokenizer
from x1lib.postmortem.classifier import Features, Verdict, classify, features, find_onset
from x1lib.postmortem.corpus import Corpus
from x1lib.postmortem.cures import CURES, HOLD, Incident
from x1lib.postmortem.evidence import Detail, examine
from x1lib.postmortem.finding import find_spike, read_record, start_before
from x1lib.postmortem.replay import PLACEBOS, Outcome, Theatre, noise_floor
from x1lib.postmortem.rewound import PostmortemError, Rewound
from x1lib.postmortem.trace import Trace, batch_excess, watch
from x1lib.tracking.holders import read_json

SECONDS_PER_HOUR = 3600.0
USUAL = 8  # batches before the spike that say what a batch costs the weights before it
MOST_STEPS = 8  # of one spike whose batches are counted as its own
EARLIER = 10  # steps by which the probe may have left its level before the loss was flagged
OTHER_STEPS = 12  # of training on other data, after which the probe is read


@dataclass
class Analysis:
    """All that is known of one spike; `report.write` makes the page of it.

    spike_step: as found in the record. is_exact: whether the replay repeated the record to the bit,
    and n_compared over how many steps. usd_per_token: None where no price was given.
    """

    folder: Path
    manifest: dict = field(repr=False)  # it holds the settings, and so the fault of a made run
    spike_step: int
    spike_time: float | None
    incident: Incident
    trace: Trace
    verdict: Verdict = field(repr=False)  # the classifier's cause, which lab02 keeps back
    detail: Detail
    is_exact: bool
    n_compared: int
    record: dict[str, list[float]] = field(repr=False)
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    noise: dict[str, float] = field(default_factory=dict)
    two_by_two: dict[str, dict[str, float]] = field(default_factory=dict)
    not_tried: dict[str, str] = field(default_factory=dict)
    usd_per_token: float | None = None
    tokens_a_step: int = 0

    @property
    def features(self) -> Features:
        return self.verdict.features

    def to_json(self) -> dict:
        return {
            "run": self.folder.name, "run_id": self.manifest.get("run_id"),
            "spike_step": self.spike_step, "time": self.spike_time,
            "incident": asdict(self.incident), "verdict": self.verdict.to_json(),
            "is_exact": self.is_exact, "n_compared": self.n_compared,
            "outcomes": {k: v.to_json() for k, v in self.outcomes.items()}, "noise": self.noise,
            "two_by_two": self.two_by_two, "not_tried": self.not_tried,
            "usd_per_token": self.usd_per_token, "tokens_a_step": self.tokens_a_step,
        }  # fmt: skip


def analyse(folder, step: int | None = None, *, cures=tuple(CURES), log=print) -> Analysis:
    """Rewind a run to before its spike, find the cause, try recoveries; writes nothing.

    step: of the spike, found in the record where it is None. cures: names of CURES to try, none for
    the cause alone; none are tried where nothing left its level, which is the cause "clean". Raises
    PostmortemError, CheckpointError or DataError.
    """
    folder = Path(folder)
    record = _recorded(folder)
    spike = find_spike(folder) if step is None else step
    if not min(record) <= spike <= max(record) + 1:  # it may have ended in the spike
        raise PostmortemError(
            f"step {spike:,} is not in the record of {folder}, which goes from {min(record):,} to"
            f" {max(record):,}"
        )
    start = start_before(folder, spike)
    log(f"spike at step {spike:,}; rewound to the checkpoint of step {start:,}")
    run = Rewound.of_run(folder, start, log=log)
    corpus = Corpus(run.shards)
    trace = watch(run, spike + HOLD - start, corpus)
    noted = len(trace) - 1 if spike not in trace.series["step"] else trace.place(spike)
    onset = find_onset(trace, max(0, noted - EARLIER))
    onset = noted if onset is None else min(onset, noted)
    manifest = tracking.Manifest(folder).values
    price = _usd_per_token(manifest, record)
    theatre, verdict = _verdict(run, trace, onset, price)
    if verdict.cause == "unknown" and onset < noted:  # a stir before the spike is not its beginning
        theatre, verdict = _verdict(run, trace, noted, price)
    if verdict.cause == "unknown" and not _left_its_level(trace, noted):
        verdict = classify(replace(verdict.features, onset=None))
    at = theatre.at
    tokens_a_step = theatre.tokens_a_step
    said = f"{verdict.cause} ({verdict.confidence}): {'; '.join(verdict.evidence_for)}"
    log(f"no spike here: {verdict.evidence_for[0]}" if verdict.cause == "clean" else said)
    tokenizer = load_tokenizer(run.shards.tokenizer)
    run.again().run(at.onset - 1 - start)
    detail = examine(run, run.snapshot(), corpus, tokenizer)
    compared = [(s, i) for i, s in enumerate(trace.series["step"]) if s in record]
    is_exact = all(
        record[s].get(name) == trace.series[name][i]
        for s, i in compared
        for name in ("loss", "grad_norm")
    )
    if not is_exact:
        log("warning: the replay is not equal to the record to the bit; see the report's limits")
    done = Analysis(
        folder, manifest, spike, record.get(spike, {}).get("time"), at, trace, verdict, detail,
        is_exact, len(compared),
        {name: [record[s].get(name) for s in sorted(record)]
         for name in ("step", "loss", "grad_norm")},
        usd_per_token=price, tokens_a_step=tokens_a_step,
    )  # fmt: skip
    if cures and verdict.cause != "clean":
        _replays(done, theatre, cures, log)
    return done


def recover(found: Analysis, cures=tuple(CURES), *, store: Path | None = None, log=print) -> None:
    """Try recoveries of a spike whose cause was looked for alone; fills in what `analyse` left.

    store: a JSON file that keeps each replay, so that one broken off goes on and one done is read.
    Raises PostmortemError, CheckpointError or DataError.
    """
    run = Rewound.of_run(found.folder, found.incident.start, log=log)
    theatre = Theatre(run, found.incident, usd_per_token=found.usd_per_token)
    _replays(found, theatre, cures, log, store)


def _recorded(folder: Path) -> dict[int, dict]:
    """Steps of a record by number, each as it was before the run took it back."""
    found: dict[int, dict] = {}
    for line in read_record(folder):
        if line.get("kind") == "step":
            found.setdefault(line["step"], line)
    return found


def _left_its_level(trace: Trace, noted: int) -> bool:
    """Whether the loss or the probe is called a spike near a place, or came to no number."""
    near = find_onset(trace, max(0, noted - EARLIER))
    return trace.failed is not None or (near is not None and near <= noted + EARLIER)


def _verdict(run: Rewound, trace: Trace, onset: int, price) -> tuple[Theatre, Verdict]:
    """What the list of decisions says of a spike that begins at a place of the trace."""
    step = int(trace.series["step"][onset])
    theatre = Theatre(
        run, Incident.of(run.again(), step, _length(trace, onset)), usd_per_token=price
    )
    excess, other = _excess(run, trace, onset), theatre.other_data_rise(OTHER_STEPS)
    return theatre, classify(features(trace, onset=onset, excess=excess, other_data_rise=other))


def _length(trace: Trace, onset: int) -> int:
    """Batches of the spike: those that are harder than all before, from the onset on."""
    before = trace["loss"][:onset]
    level = float(np.median(before[-USUAL:])) if len(before) else 0.0
    limit = level + max(0.1, 0.5 * (trace["loss"][onset] - level))
    n = 1
    while onset + n < len(trace) and trace["loss"][onset + n] > limit and n < MOST_STEPS:
        n += 1
    return n


def _excess(run: Rewound, trace: Trace, onset: int) -> float:
    first = max(0, onset - 2)
    usual = trace.rows[max(0, first - USUAL) : first] or trace.rows[:1]
    return batch_excess(run, run._start, trace.rows[first : onset + 1], usual)


def _usd_per_token(manifest: dict, record: dict) -> float | None:
    price = (manifest.get("config") or {}).get("usd_per_hour")
    rates = [line["tokens_per_sec"] for line in record.values() if line.get("tokens_per_sec")]
    if not price or not rates:
        return None
    return price / SECONDS_PER_HOUR / float(np.median(rates))


def _replays(done: Analysis, theatre: Theatre, cures, log, store: Path | None = None) -> None:
    kept = _Kept(store, done)
    for name in dict.fromkeys(["untouched", *cures]):
        if why := kept.not_tried.get(name):
            done.not_tried[name] = why
            continue
        try:
            one = done.outcomes[name] = kept.outcome(name, lambda name=name: theatre.play(name))
        except PostmortemError as error:
            kept.not_tried[name] = done.not_tried[name] = str(error)
            continue
        log(f"{name}: probe at most {one.peak:+.3f}, at the end {one.end:+.3f} nats")
    for i in range(PLACEBOS):
        name = f"placebo-{i + 1}"
        done.outcomes[name] = kept.outcome(name, lambda i=i: theatre.placebo(i))
    placebos = [one for name, one in done.outcomes.items() if name.startswith("placebo-")]
    done.noise = noise_floor(done.outcomes["untouched"], placebos)
    done.two_by_two = kept.cells(theatre.two_by_two)


class _Kept:
    """Replays of one incident in a file; a file of another incident, or none, counts for nothing.

    A replay is exact, so one that is read is what would be played.
    """

    def __init__(self, path: Path | None, done: Analysis):
        self.path, kept = path, read_json(path) if path else {}
        about = {"run_id": done.manifest.get("run_id"), "incident": asdict(done.incident),
                 "series": ["step", "loss", "probe"]}  # fmt: skip
        self.found = kept if kept.get("about") == about else {"about": about}
        self.outcomes = self.found.setdefault("outcomes", {})
        self.not_tried = self.found.setdefault("not_tried", {})

    def outcome(self, name: str, play) -> Outcome:
        if name in self.outcomes:
            return Outcome(**self.outcomes[name])
        one = play()
        if one.failed is None:  # JSON has no infinity
            self.outcomes[name] = one.to_json()
            self._save()
        return one

    def cells(self, make) -> dict:
        if "two_by_two" in self.found:
            return self.found["two_by_two"]
        cells = make()
        if all(np.isfinite([*cell.values()]).all() for cell in cells.values()):
            self.found["two_by_two"] = cells
            self._save()
        return cells

    def _save(self) -> None:
        if self.path:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            tracking.write_json(self.path, self.found)
