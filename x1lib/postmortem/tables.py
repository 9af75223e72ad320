"""Rows of lab02's tables, and a reader's number held against what was measured."""

from __future__ import annotations

from x1lib.postmortem.analysis import Analysis
from x1lib.postmortem.classifier import calm_figures


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
