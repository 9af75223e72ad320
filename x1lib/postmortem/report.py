"""`spike-postmortem.md`: what happened, why, what was tried, and what it cost; with two figures."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from x1lib import tracking
from x1lib.postmortem.analysis import MOST_STEPS, Analysis
from x1lib.postmortem.cures import AFTER, CURES, HOLD
from x1lib.postmortem.replay import Outcome, better
from x1lib.postmortem.rewound import PostmortemError
from x1lib.postmortem.room import ANALYSIS, EVIDENCE, PAGE, make_room
from x1lib.tracking.manifest import write_json

NORMS, TOKENS = "grad-norm.png", "token-histogram.png"
BLUE, VERMILION, GREY = "#0072B2", "#D55E00", "#9a9a9a"  # Okabe & Ito's, as in loss-curve.png
SHOWN_STEPS = 120  # before the spike, in the figure


def write(found: Analysis, out: Path | str | None = None, log=print) -> Path:
    """Write the page and its folder of evidence into `out`, the run's parent where it is None.

    What lies there about another run is moved aside first, and `log` says where. The figures need
    matplotlib (extra `lab`); without it the page says that they are missing. Raises PostmortemError
    where `out` is a file.
    """
    out = found.folder.absolute().parent if out is None else Path(out)
    folder = out / EVIDENCE
    if out.exists() and not out.is_dir():
        raise PostmortemError(f"{out} is no folder; give one for the page")
    make_room(out, found.folder.name, found.manifest.get("run_id"), log)
    folder.mkdir(parents=True, exist_ok=True)
    found.trace.save(folder / "trace.json")
    write_json(folder / "step.json", found.detail.to_json())
    write_json(folder / ANALYSIS, tracking.metrics.finite(found.to_json()))
    figures = draw(found, folder, log)
    path = out / PAGE
    path.write_text(tracking.scrub(page(found, figures)))
    log(str(path))
    return path


def page(found: Analysis, figures: bool = True) -> str:
    """The page as Markdown; dollar signs escaped, so that they never turn into maths."""
    at, verdict, f = found.incident, found.verdict, found.features
    last = at.onset + at.n_steps - 1
    longer = ", and not over by then" if at.n_steps >= MOST_STEPS else ""
    name = {"unknown": "cause unknown", "clean": "no spike"}.get(verdict.cause, verdict.cause)
    lines = [
        f"# Post-mortem: {name}, at step {at.onset:,} of {found.folder.name}",
        "",
        "| | |",
        "|---|---|",
        f"| run | {found.folder.name}, id {found.manifest.get('run_id') or 'not recorded'} |",
        f"| time | {_time(found.spike_time)} |",
        f"| steps | {at.onset:,} to {last:,}; seen at {found.spike_step:,}{longer} |",
        f"| samples | {at.first_sample:,} to {at.last_sample - 1:,} |",
        f"| loss | {f.loss_rise:+.2f} nats above the level before it |",
        f"| held-out probe | {f.probe_rise:+.2f} nats above the level before it |",
        f"| cause | **{verdict.cause}**, confidence {verdict.confidence} |",
        f"| rewound to | checkpoint of step {at.start:,};"
        f" {_exactness(found)} |",
        "",
        "## Why",
        "",
        *(f"- for: {words}" for words in verdict.evidence_for),
        *(f"- against: {words}" for words in verdict.evidence_against),
        "",
        *_figure(figures, NORMS, "Gradient norm and loss by step"),
        *_figure(figures, TOKENS, "Tokens of the batch by how frequent they are in the corpus"),
        *_evidence(found),
        *_two_by_two(found),
        *_outcomes(found),
        *_cost(found),
        "## Limits",
        "",
        "One run, one seed. The classifier was measured on models of 0.2 to 0.5 million"
        " parameters with one cause at a time; it knows no mixture, nor a cause that is none of its"
        " four; nor was it measured how often its high, medium and low are right"
        " (experiments/reference/spike-classifier). A recovery that lowers the rate or"
        " clips harder dampens every spike, so that it helped says little about the cause.",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "not recorded"
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _exactness(found: Analysis) -> str:
    if found.is_exact and found.n_compared:
        return f"its replay equals the record to the bit over {found.n_compared} steps"
    if not found.n_compared:
        return "the record has no step to compare the replay with"
    return "its replay is **not** equal to the record: what follows holds within rounding"


def _figure(drawn: bool, name: str, words: str) -> list[str]:
    if drawn:
        return [f"![{words}]({EVIDENCE}/{name})", ""]
    return [f"({words}: no figure, matplotlib is not installed.)", ""]


def _evidence(found: Analysis) -> list[str]:
    f, detail = found.features, found.detail
    excess = "not tried" if f.excess is None else f"{f.excess:+.2f} nats"
    other = "not tried" if f.other_data_rise is None else f"{f.other_data_rise:+.2f} nats"
    lead = "one of them stayed" if f.lead is None else f"{f.lead:+d} steps"
    rows = [
        ("logged rate, against its median before", f"{f.lr_ratio:.2f} times"),
        ("size of updates, likewise", f"{f.update_ratio:.2f} times"),
        ("clipped gradient over root of second moment, likewise", f"{f.gv:.2f} times"),
        ("the batch, forward only, at the weights before", excess),
        ("probe, had other batches come", other),
        ("tokens of the rarest 1% in the batch", f"{f.rare:.1%}"),
        ("order lost, batch / worst sample", f"{f.disorder:.0%} / {f.row_disorder:.0%}"),
        ("repetition in the worst sample", f"{f.repetition:.0%}"),
        ("share of the lookup's gradient on rare rows", f"{detail.lookup_share_rare:.0%}"),
        ("gradient norm leads the loss by", lead),
    ]
    lines = ["## Evidence", "", "| measured | found |", "|---|---|"]
    lines += [f"| {words} | {value} |" for words, value in rows]
    top = sorted(detail.tensors.items(), key=lambda kv: -kv[1]["gradient"])[:5]
    lines += ["", f"Step {detail.step:,}, the five tensors with the largest gradient:", ""]
    lines += ["| tensor | gradient | update / weight | g² / v |", "|---|---|---|---|"]
    for name, one in top:
        share = one["update"] / one["weight"] if one["weight"] else math.nan
        lines.append(f"| `{name}` | {one['gradient']:.3g} | {share:.2e} | {one['g2_over_v']:.2f} |")
    lines += ["", "g² / v is of the clipped gradient, and any hard batch raises it tenfold or so: a"
              " stale second moment shows in its root against its median, above."]  # fmt: skip
    losses = np.array(detail.sample_losses)
    spread = f"highest {losses.max():.2f}, deviation {losses.std():.2f} nats. The worst:"
    lines += ["", f"Losses of its {len(losses)} samples: median {np.median(losses):.2f}, {spread}"]
    lines.append("")
    for one in detail.worst:
        text = f": `{_inline(one['text'])}`" if "text" in one else ""
        lines.append(f"- sample {one['sample']:,}, {one['loss']:.2f} nats{text}")
    return [*lines, ""]


def _inline(text: str) -> str:
    return " ".join(text.replace("`", "'").split())[:160]


def _two_by_two(found: Analysis) -> list[str]:
    cells = found.two_by_two
    if not cells:
        return []
    lines = [
        "## Data or state?",
        "",
        "How much harder the first batch is than others for that state, and how far the probe then"
        " rises [nats]:",
        "",
        "| | the spike's batches | other batches |",
        "|---|---|---|",
    ]
    for state, words in (("old", "checkpoint before"), ("spike", "state at the spike")):
        row = [cells[f"{state}, {data}"] for data in ("spike", "other")]
        said = " | ".join(f"{one['excess']:+.2f}, {one['rise']:+.2f}" for one in row)
        lines.append(f"| {words} | {said} |")
    return [*lines, ""]


def _outcomes(found: Analysis) -> list[str]:
    if not found.outcomes:
        return []
    noise = {"end": math.nan, "heldout": math.nan} | found.noise
    control = found.outcomes.get("untouched")
    lines = [
        "## Recovery",
        "",
        f"Each from the checkpoint of step {found.incident.start:,} (earlier-checkpoint: from the"
        " one before it, so it meets the spike's batches some steps sooner), held for"
        f" {HOLD} steps from the spike on and read {AFTER} steps later,"
        " beside the untouched control. Placebos, which leave out as many innocent batches, end"
        f" up to {noise['end']:.3f} nats from it on the probe and {noise['heldout']:.3f} on other"
        " held-out text: less than that is noise. Losses in nats a token; the probe above its level"
        " before the spike.",
        "",
        "| recovery | probe at most | probe at the end | held-out | steps back to level"
        " | tokens lost | US dollars lost |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, one in found.outcomes.items():
        lines.append(f"| {name} | " + " | ".join(_cells(one)) + " |")
    lines.append("")
    if control and (names := better(found.outcomes, found.noise)):
        gain = control.end - found.outcomes[names[0]].end
        lines.append(
            f"Below the control by more than noise, on the probe and on held-out text:"
            f" {', '.join(names)}. The lowest: **{names[0]}**, by {gain:.3f} nats."
        )
    elif control:
        lines.append(
            "No recovery ended below the untouched control by more than noise on both the probe and"
            " held-out text: after these steps there was nothing to choose."
        )
    lines.append("")
    lines += [f"- {name} {CURES[name].does}{_source(name)}" for name in found.outcomes
              if name in CURES and name != "untouched"]  # fmt: skip
    for name, why in found.not_tried.items():
        lines.append(f"- {name} was not tried: {why}")
    return [*lines, ""]


def _source(name: str) -> str:
    return f". Source: {CURES[name].source}" if CURES[name].source else ""


def _cost(found: Analysis) -> list[str]:
    """What the spike cost where nothing was done, and what these replays did."""
    control = found.outcomes.get("untouched")
    if control is None:
        return []
    price = found.usd_per_token

    def said(n_tokens: int) -> str:
        return f"{n_tokens:,} tokens" + (rf", \${n_tokens * price:.4f}" if price else "")

    lines = ["## Cost", ""]
    if control.tokens_lost is None:
        lines.append(
            "- left alone: the probe was not back at its level when the replay ended, so more than"
            f" {said((len(control.series['loss']) - _lead_in(found)) * found.tokens_a_step)}"
        )
    else:
        steps = control.back_after_steps
        lines.append(
            f"- left alone: {said(control.tokens_lost)}, the {steps} steps of the way back"
        )
    n_steps = sum(len(one.series["loss"]) for one in found.outcomes.values())
    lines.append(f"- this post-mortem: {said(n_steps * found.tokens_a_step)} in replays")
    if price is None:
        lines.append("- no price was given for this run, so what was lost has none in dollars")
    return [*lines, ""]


def _lead_in(found: Analysis) -> int:
    return found.incident.onset - 1 - found.incident.start


def _cells(one: Outcome) -> list[str]:
    if one.failed:
        return ["not finite", "not finite", "-", "never", "-", "-"]
    return [
        f"{one.peak:+.3f}",
        f"{one.end:+.3f}",
        "-" if one.heldout is None else f"{one.heldout:.4f}",
        "not yet" if one.back_after_steps is None else str(one.back_after_steps),
        "-" if one.tokens_lost is None else f"{one.tokens_lost:,}",
        "-" if one.usd_lost is None else rf"\${one.usd_lost:.4f}",
    ]


def draw(found: Analysis, folder: Path, log=print) -> bool:
    """Draw both figures into a folder; returns whether matplotlib was there to do it."""
    try:
        import matplotlib
    except ImportError:
        log("no figures: matplotlib is not installed (pip install 'x1lib[lab]')")
        return False
    matplotlib.use("Agg", force=False)
    from matplotlib.figure import Figure

    for name, plot in ((NORMS, plot_norms), (TOKENS, plot_tokens)):
        figure = Figure(figsize=(8, 4.4), layout="constrained")
        plot(figure, found)
        figure.savefig(folder / name, dpi=150)
    return True


def plot_norms(figure, found: Analysis) -> None:
    """Gradient norm and loss as the run recorded them, from well before the spike."""
    step = np.array(found.record["step"])
    near = (step >= found.incident.onset - SHOWN_STEPS) & (step <= found.incident.horizon)
    upper, lower = figure.subplots(2, 1, sharex=True)
    rows = ((upper, "grad_norm", "gradient norm", BLUE), (lower, "loss", "loss [nats]", VERMILION))
    for axes, name, label, colour in rows:
        values = np.array([math.nan if v is None else v for v in found.record[name]])
        axes.plot(step[near], values[near], color=colour, lw=1.3)
        first = found.incident.onset - 0.5
        axes.axvspan(first, first + found.incident.n_steps, color="0.88", zorder=0)
        axes.axvline(found.incident.start, color=GREY, ls=":", lw=1.2)
        axes.set_ylabel(label)
        axes.spines[["top", "right"]].set_visible(False)
    upper.set_yscale("log")
    lower.set_xlabel("step; shaded: the spike, dotted: the checkpoint it was rewound to")
    cause = found.verdict.cause
    upper.set_title(f"A spike at step {found.incident.onset:,}: {cause}", loc="left", fontsize=11)


def plot_tokens(figure, found: Analysis) -> None:
    """The batch's tokens by tenths of the corpus, frequent first."""
    axes = figure.subplots()
    batch = np.array(found.detail.histogram["batch"])
    corpus = np.array(found.detail.histogram["corpus"])
    place = np.arange(len(batch))
    axes.bar(place - 0.2, corpus, 0.4, color=GREY, label="corpus")
    axes.bar(place + 0.2, batch, 0.4, color=BLUE, label=f"batch of step {found.detail.step:,}")
    axes.set_xticks(place, [f"{10 * i + 10}%" for i in place])
    axes.set_xlabel("tokens by frequency in the corpus: the most frequent 10%, the next, ...")
    axes.set_ylabel("share of tokens")
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_ylim(0, 1.2 * max(batch.max(), corpus.max()))  # the legend lies above the bars
    axes.legend(frameon=False, loc="upper left", ncols=2)
    ratio = batch[-1] / max(corpus[-1], 1e-9)
    axes.set_title(
        f"The rarest tenth is {ratio:.1f} times as common in the batch as in the corpus",
        loc="left", fontsize=11,
    )  # fmt: skip


def summary(found: Analysis) -> str:
    """One JSON line of the verdict, for programs."""
    return json.dumps(tracking.metrics.finite(found.verdict.to_json()))
