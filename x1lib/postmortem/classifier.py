"""What made a spike: a list of decisions, read from the top, over figures that are all measured.

It sees what a trainer's record and a replay of it show, never the run's settings nor what its
schedule meant. What the state shows is asked before what the batch shows: about one ordinary batch
in a hundred and fifty holds a sample that looks broken, and no ordinary update is thrice its size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field

import numpy as np

from x1lib.postmortem.trace import Trace
from x1lib.stability import detect

CAUSES = ("clean", "lr-too-high", "adam-beta2", "rare-token", "corrupt-data", "unknown")
BEFORE = 10  # steps before the onset in which a cause in the state may lie
BATCHES = 2  # batches before the onset that may be the cause, besides its own
LEAST = 8  # steps that say what was normal

LR_RATIO = 2.5  # times the median before
UPDATE_RATIO = 2.5  # likewise
GV = 3.5  # clipped gradient norm over the root of the second moment: 1 where they agree
EXCESS = 0.3  # nats by which a batch is harder than those before it, at the same weights
RARE = 0.1  # share of the batch's tokens that are of the rarest 1%
RARE_PER_DISORDER = 0.35  # a batch drawn from rare tokens loses its order too
DISORDER = 0.25  # share of the way from text to shuffled text, of the whole batch
ROW_DISORDER = 0.55  # likewise of its worst sample: what is broken is broken wholly
REPETITION = 0.9  # share of a sample's tokens that equal the one before them
# A strong witness is an alarm by itself. The loss's threshold is lower than the trainer's: here
# somebody looks. The probe is one batch and moves smoothly, so its own noise says little: it must
# rise by 2.8% of its level. A weak one needs another: an odd batch, or updates of another size.
LOSS_RULE, PROBE_RULE = {"k": 5.0}, {"k": 7.0, "floor": 0.004}
WEAK_LOSS_RULE, WEAK_PROBE_RULE = {"k": 3.0}, {"k": 7.0, "floor": 0.002}
NOISES, HURT = 3.0, 0.1  # words only: deviations of a calm probe, and nats that a model feels
SURE = 1.5  # times its threshold: a figure that leaves no doubt


def find_onset(trace: Trace, first: int = 0) -> int | None:
    """The place where a spike begins: the first from `first` on that is called one.

    By the loss or the probe alone, or by less of either beside a batch or an update unlike others.
    """
    alarms = {*detect(trace["loss"], **LOSS_RULE), *detect(trace["probe"], **PROBE_RULE)}
    for place in detect(trace["loss"], **WEAK_LOSS_RULE):
        f = _near(trace, int(place), batches=0)
        if f["row_disorder"] >= ROW_DISORDER or f["repetition"] >= REPETITION or f["rare"] >= RARE:
            alarms.add(place)
    for place in detect(trace["probe"], **WEAK_PROBE_RULE):
        if _near(trace, int(place))["update_ratio"] >= UPDATE_RATIO:
            alarms.add(place)
    return min((int(place) for place in alarms if place >= first), default=None)


@dataclass(frozen=True)
class Features:
    """Figures of one spike, each against what was normal in the steps before.

    loss_rise, probe_rise [nats]; lr_ratio, update_ratio (the largest in the ten steps to the
    onset); gv (the same); rare, disorder, row_disorder, repetition (the worst of three batches);
    excess [nats]: how much harder the batch is than others for the weights before the spike, None
    where it was not tried; other_data_rise [nats]: how high the probe still rose when those weights
    were trained on other batches, likewise; lead: steps from the gradient norm's leap to the
    loss's, None where either stayed; failed: whether a loss was not finite; probe_noise [nats]: the
    probe's deviation from its own line before, which no decision reads.
    """

    onset: int | None
    loss_rise: float = 0.0
    probe_rise: float = 0.0
    lr_ratio: float = 1.0
    update_ratio: float = 1.0
    gv: float = 1.0
    rare: float = 0.0
    disorder: float = 0.0
    row_disorder: float = 0.0
    repetition: float = 0.0
    excess: float | None = None
    other_data_rise: float | None = None
    lead: int | None = None
    failed: bool = False
    probe_noise: float | None = None


def features(
    trace: Trace, first: int = 0, *, onset: int | None = None, excess=None, other_data_rise=None
) -> Features:
    """Figures of the first spike from place `first` of a trace on, or of the one at `onset`.

    excess: a number, or a function of the onset's place that measures it, asked only where needed.
    """
    if onset is None:
        onset = find_onset(trace, first)
    if onset is None and trace.failed and len(trace):
        onset = len(trace) - 1
    if onset is None:
        return Features(None)
    until, usual = _normal(trace, onset)
    return Features(
        onset=int(trace.series["step"][onset]),
        loss_rise=float(trace["loss"][onset : onset + 5].max()) - usual("loss"),
        probe_rise=float(trace["probe"][onset : onset + 10].max()) - usual("probe"),
        **_near(trace, onset),
        excess=excess(onset) if callable(excess) else excess,
        other_data_rise=other_data_rise,
        lead=_lead(trace, until, onset),
        failed=trace.failed is not None,
        probe_noise=_deviation(trace["probe"][:until]),
    )


def _deviation(values: np.ndarray) -> float | None:
    """Of values around their own straight line: a calm probe falls, and that is no noise."""
    if len(values) < LEAST:
        return None
    steps = np.arange(len(values))
    return float(np.std(values - np.polyval(np.polyfit(steps, values, 1), steps)))


def _normal(trace: Trace, onset: int):
    """How many places before an onset are normal, and a function from a name to its median."""
    until = max(1, min(onset, max(LEAST, onset - BEFORE)))
    return until, lambda name: float(np.median(trace[name][:until]))


def _near(trace: Trace, onset: int, batches: int = BATCHES) -> dict[str, float]:
    """The figures of the steps up to an onset against those that are normal."""
    until, usual = _normal(trace, onset)
    near = slice(max(0, onset - BEFORE), onset + 1)
    batch = slice(max(0, onset - batches), onset + 1)
    gain, row_gain = usual("gain"), float(np.median(np.sort(trace["row_gain"][:until])[:3]))
    to_shuffled = gain - trace.orderless_gain
    return {
        "lr_ratio": float(trace["lr"][near].max()) / usual("lr"),
        "update_ratio": float(trace["update_rms"][near].max()) / usual("update_rms"),
        "gv": float(trace["gv"][near].max()) / usual("gv"),
        "rare": float(trace["rare"][batch].max()),
        "disorder": (gain - float(trace["gain"][batch].min())) / to_shuffled,
        "row_disorder": (row_gain - float(trace["row_gain"][batch].min())) / to_shuffled,
        "repetition": float(trace["repetition"][batch].max()),
    }


def calm_figures(trace: Trace, onset_step: int) -> dict[str, float]:
    """The highest that each figure of `Features` was in the steps that count as normal."""
    until, _ = _normal(trace, trace.place(onset_step))
    found = [_near(trace, place, batches=0) for place in range(min(LEAST, until - 1), until)]
    return {name: max(one[name] for one in found) for name in found[0]}


def _lead(trace: Trace, until: int, onset: int) -> int | None:
    """Steps from the gradient norm's leap to the loss's first from the onset on.

    The norm's is counted back from there for as long as it stays high: it leaps now and then for
    a step, and that is no beginning. Negative where it leaps after the loss.
    """
    loss_over, norm_over = (
        trace[name] > factor * np.median(trace[name][:until])
        for name, factor in (("loss", 1.1), ("grad_norm", 2.0))
    )
    if not loss_over[onset:].any():
        return None
    at = onset + int(np.argmax(loss_over[onset:]))
    if not norm_over[at]:
        return -int(np.argmax(norm_over[at:])) if norm_over[at:].any() else None
    first = at
    while first > until and norm_over[first - 1]:
        first -= 1
    return at - first


@dataclass(frozen=True)
class Decision:
    """One line of the list: a cause, what must hold, by how much it does, and how to say it."""

    cause: str
    holds: Callable[[Features], bool]
    margin: Callable[[Features], float]  # times the threshold
    words: str


DECISIONS = (
    Decision(
        "clean",
        lambda f: f.onset is None,
        lambda f: SURE,
        "neither the loss nor the probe left its level",
    ),
    Decision(
        "lr-too-high",
        lambda f: f.lr_ratio >= LR_RATIO,
        lambda f: f.lr_ratio / LR_RATIO,
        "the logged learning rate was {lr_ratio:.1f} times what it had been",
    ),
    Decision(
        "adam-beta2",
        lambda f: f.update_ratio >= UPDATE_RATIO and f.gv >= GV,
        lambda f: min(f.update_ratio / UPDATE_RATIO, f.gv / GV),
        "updates were {update_ratio:.1f} times as large at an unchanged logged rate, and the"
        " gradient had outgrown the second moment {gv:.1f} times",
    ),
    Decision(
        "lr-too-high",
        lambda f: f.update_ratio >= UPDATE_RATIO,
        lambda f: f.update_ratio / UPDATE_RATIO,
        "updates were {update_ratio:.1f} times as large with a second moment that fits the"
        " gradient: the rate was higher than the log says",
    ),
    Decision(
        "rare-token",
        lambda f: _is_harder(f) and f.rare >= max(RARE, RARE_PER_DISORDER * f.disorder),
        lambda f: f.rare / max(RARE, RARE_PER_DISORDER * f.disorder),
        "{rare:.0%} of the batch are tokens that make up 1% of the corpus",
    ),
    Decision(
        "corrupt-data",
        lambda f: _is_harder(f) and f.repetition >= REPETITION,
        lambda f: f.repetition / REPETITION,
        "a sample repeats itself in {repetition:.0%} of its tokens",
    ),
    Decision(
        "corrupt-data",
        lambda f: _is_harder(f) and f.row_disorder >= ROW_DISORDER,
        lambda f: f.row_disorder / ROW_DISORDER,
        "a sample has lost {row_disorder:.0%} of the order that text has, the batch {disorder:.0%}",
    ),
)


def _is_harder(f: Features) -> bool:
    return f.excess is None or f.excess >= EXCESS


@dataclass(frozen=True)
class Verdict:
    """A cause with how sure it is ("high", "medium", "low"), and the evidence on both sides."""

    cause: str
    confidence: str
    evidence_for: tuple[str, ...]
    evidence_against: tuple[str, ...]
    features: Features = field(repr=False)

    def to_json(self) -> dict:
        return asdict(self)


def classify(f: Features) -> Verdict:
    """The first decision that holds, or "unknown"; what else was found speaks for it or against.

    Confidence is high where the figure is half as much again as its threshold and nothing speaks
    against it, low where either fails badly; it is a word, not a probability.
    """
    decision = next((d for d in DECISIONS if d.holds(f)), None)
    if decision is None:
        words = ["a spike, and no figure that explains it: rate, updates, second moment, tokens"
                 " and their order are as before"]  # fmt: skip
        if f.excess is not None and f.excess >= EXCESS:
            words.append(f"the batch is {f.excess:.2f} nats harder than others at the same weights")
        if f.disorder >= DISORDER:
            words.append(
                f"all of it lost {f.disorder:.0%} of its order: text of another kind, maybe"
            )
        return Verdict("unknown", "low", tuple(words), (), f)
    pro, contra = [decision.words.format(**asdict(f))], []
    if f.onset is not None:
        for words, speaks_for_state in _others(f, "{update_ratio" not in decision.words):
            is_state = decision.cause in ("lr-too-high", "adam-beta2")
            (pro if speaks_for_state == is_state else contra).append(words)
    margin = decision.margin(f)
    doubts = len(contra) + (margin < SURE)
    confidence = "high" if not doubts else "medium" if doubts == 1 or margin >= SURE else "low"
    return Verdict(decision.cause, confidence, tuple(pro), tuple(contra), f)


def _others(f: Features, with_updates: bool = True):
    """Further evidence: (words, whether it speaks for the state rather than the batch).

    with_updates: their size too, where it is not what decided.
    """
    if f.excess is not None:
        hard = f.excess >= EXCESS
        side = "harder than others" if hard else "as easy as others"
        yield f"the batch is {side} for the weights before it ({f.excess:+.2f} nats)", not hard
    if f.other_data_rise is not None:
        rose = f.other_data_rise >= max(0.1, f.probe_rise / 2)
        said = "rose too" if rose else "stayed"
        yield f"trained on other batches, the probe {said} ({f.other_data_rise:+.2f} nats)", rose
    if with_updates and f.update_ratio >= UPDATE_RATIO:
        yield f"updates were {f.update_ratio:.1f} times as large", True
    if f.probe_rise >= 0.3 and f.probe_rise >= 0.8 * f.loss_rise:
        yield f"the model itself was hurt: the probe rose by {f.probe_rise:.2f} nats", True
    elif f.loss_rise >= 0.3 and f.probe_rise <= 0.25 * f.loss_rise:
        yield _harm(f), False


def _harm(f: Features) -> str:
    """How much a model was hurt by a batch that was far worse than it, in words of that size."""
    if f.probe_rise <= NOISES * (f.probe_noise or 0.0):
        rose = (
            f"rose by {f.probe_rise:.2f} nats, as noise may" if f.probe_rise > 0 else "did not rise"
        )
        return f"the model was not hurt: the probe {rose}"
    if f.probe_rise < HURT:
        return f"the model was hardly hurt: the probe rose by {f.probe_rise:.2f} nats"
    return (
        f"the model was hurt, and less than the batch was bad: the probe rose by {f.probe_rise:.2f}"
        f" nats, the loss by {f.loss_rise:.2f}"
    )
