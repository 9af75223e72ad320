"""`loss-curve.png`: a run as one would show it in a report."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np

from x1lib.tracking.columns import PHASES, Columns, columns_of
from x1lib.tracking.manifest import MANIFEST
from x1lib.tracking.progress import clock

CURVE = "loss-curve.png"
# Okabe & Ito's colours, told apart by colour-blind eyes; markers and widths differ as well.
GREY, BLUE, VERMILION, GREEN = "#9a9a9a", "#0072B2", "#D55E00", "#009E73"
HELDOUT = {
    "documents": ("held-out documents", VERMILION, "o"),
    "source": ("held-out book", GREEN, "s"),
}
SHADES = {"warmup": "0.91", "cooldown": "0.95"}
NAMES = {"warmup": "warm-up", "constant": "constant rate", "cooldown": "cooldown"}
SMOOTHED = 0.02  # of the run: the width of the moving mean
MOST_POINTS = 2_000  # of the thin line; of more steps it shows the lowest and highest in each place
FIRST_SHOWN = 0.04  # of the run: what is higher before then is cut off, and said so
LEAST_STEPS_TO_CUT, FEW_STEPS = 100, 20


def draw_loss_curve(folder: Path, log=print) -> Path | None:
    """Draw training and held-out loss over tokens, with phases and restarts, from metrics.jsonl.

    Needs matplotlib (extra `lab`); without it, says so and returns None.
    """
    try:
        import matplotlib
    except ImportError:
        log("no loss-curve.png: matplotlib is not installed (pip install 'x1lib[lab]')")
        return None
    matplotlib.use("Agg", force=False)
    from matplotlib.figure import Figure

    folder = Path(folder)
    figure = Figure(figsize=(8, 4.8), layout="constrained")
    plot_loss(figure.subplots(), folder)
    path = folder / CURVE
    temporary = path.with_name(".loss-curve.tmp.png")
    figure.savefig(temporary, dpi=150)
    temporary.replace(path)
    return path


def plot_loss(axes, folder: Path) -> None:
    """The curve of a run folder, under way or done, on matplotlib axes."""
    run, manifest = columns_of(folder), _manifest(folder)
    tokens, loss = np.asarray(run.tokens, float), np.asarray(run.loss)
    unit, label = token_unit(run)
    x = tokens / unit
    few = {"marker": "."} if len(loss) < FEW_STEPS else {}
    axes.plot(*_thinned(x, loss), **few, color=GREY, lw=0.6, alpha=0.8, label="training, each step")
    mean = _moving_mean(loss)
    axes.plot(x, mean, color=BLUE, lw=2.0, label="training, moving mean")
    for key, style in HELDOUT.items():
        evals = [e for e in run.evals if e["name"] == key]
        _heldout(axes, evals, unit, manifest.get("status") == "finished", *style)
    _restarts(axes, run, unit)
    axes.set_xlabel(label, fontsize=11)
    axes.set_ylabel("loss [nats per token]", fontsize=11)
    axes.tick_params(labelsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    _limits(axes, x, loss, run.evals, unit, manifest.get("shape", {}).get("vocab_size", 0))
    _phases(axes, run, x)
    _bits_axis(axes, [e for e in run.evals if e["name"] == "documents"])
    axes.set_title(_title(manifest, run), loc="left", fontsize=11, pad=18)
    corner = "best" if few else "upper right"  # the loss falls; "best" is slow on many points
    # A ground behind the words only where a restart's line could run through them.
    ground = 0.85 if any(line["event"] == "resume" for line in run.events) else 0.0
    axes.legend(fontsize=10, loc=corner, edgecolor="none", framealpha=ground)
    if not len(tokens) and not run.evals:
        axes.set(xticks=[], yticks=[])
        axes.text(0.5, 0.5, "no step yet", transform=axes.transAxes, ha="center", fontsize=11)


def _manifest(folder: Path) -> dict:
    path = Path(folder) / MANIFEST
    return json.loads(path.read_text()) if path.exists() else {}


def token_unit(run: Columns) -> tuple[float, str]:
    """Tokens in one unit of a run's horizontal axis, and that axis's label."""
    size, name = _unit(max([*run.tokens[-1:], *(e["tokens"] for e in run.evals)], default=0.0))
    return size, f"training tokens [{name}]" if name else "training tokens"


def _unit(tokens: float) -> tuple[float, str]:
    units = ((1e9, "billions"), (1e6, "millions"), (1e3, "thousands"))
    return next(((size, name) for size, name in units if tokens >= 0.5 * size), (1.0, ""))


def _thinned(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same line of at most MOST_POINTS: the extremes of each stretch, in their order."""
    n_stretches = MOST_POINTS // 2
    if len(y) <= MOST_POINTS:
        return x, y
    kept = []
    for part in np.array_split(np.arange(len(y)), n_stretches):
        finite = part[np.isfinite(y[part])]
        if len(finite):
            kept += sorted({finite[y[finite].argmin()], finite[y[finite].argmax()]})
    return x[kept], y[kept]


def _moving_mean(y: np.ndarray) -> np.ndarray:
    """Mean over about 2% of the run around each step, NaN left out; narrower at the start.

    There it stays even on both sides, since the loss falls fast; at the end it lacks one side.
    """
    half = int(SMOOTHED * len(y) / 2)
    known = np.isfinite(y)
    sums = np.concatenate(([0.0], np.cumsum(np.where(known, y, 0.0))))
    counts = np.concatenate(([0], np.cumsum(known)))
    at = np.arange(len(y))
    reach = np.minimum(half, at)
    low, high = at - reach, np.minimum(at + reach + 1, len(y))
    n = counts[high] - counts[low]
    return np.where(n > 0, (sums[high] - sums[low]) / np.maximum(n, 1), np.nan)


def _heldout(axes, evals: list, unit: float, done: bool, label: str, color: str, marker: str):
    """One held-out text: a line through equal evaluations, and hollow what read more or less."""
    if not evals:
        return
    equal = [e for e in evals if e["n_bytes"] == evals[0]["n_bytes"]]
    when = "at the end" if done else "so far"
    last = f"{label}, {evals[-1]['loss']:.3f} {when}" if evals[-1]["loss"] else label
    x, y = [e["tokens"] / unit for e in equal], [e["loss"] for e in equal]
    axes.plot(x, y, marker=marker, color=color, ms=5, lw=1.3, label=last)
    others = [e for e in evals if e["n_bytes"] != evals[0]["n_bytes"]]
    if others:
        x, y = [e["tokens"] / unit for e in others], [e["loss"] for e in others]
        words = "more" if others[-1]["n_bytes"] > equal[0]["n_bytes"] else "less"
        axes.plot(x, y, marker, color=color, mfc="white", ms=6, label=f"{label}, {words} of it")


def _restarts(axes, run: Columns, unit: float) -> None:
    """A line where the run was taken up again; in the legend, how often."""
    steps = [line["step"] for line in run.events if line["event"] == "resume"]
    places = np.searchsorted(run.step, steps, side="right") - 1
    at = [run.tokens[i] / unit if i >= 0 else 0.0 for i in places]
    words = f"restart ({len(at)} times)" if len(at) > 1 else "restart"
    for number, place in enumerate(at):
        label = "_" if number else words
        axes.axvline(place, color="0.25", lw=1.1, ls=(0, (1, 2)), label=label, zorder=1)


def _limits(axes, x: np.ndarray, loss: np.ndarray, evals: list, unit: float, vocab: int) -> None:
    """Show the part that tells runs apart: the fall at the start is cut off, and said so."""
    held = np.array([(e["tokens"] / unit, e["loss"]) for e in evals if e["loss"]]).reshape(-1, 2)
    at, values = np.concatenate((x, held[:, 0])), np.concatenate((loss, held[:, 1]))
    at, values = at[np.isfinite(values)], values[np.isfinite(values)]
    if not len(values):
        return
    late = at >= at.min() + FIRST_SHOWN * (at.max() - at.min())
    top = values[late].max() if len(loss) >= LEAST_STEPS_TO_CUT else values.max()
    margin = 0.05 * max(top - values.min(), 0.01)
    axes.set_ylim(values.min() - margin, top + margin)
    width = at.max() - at.min() or 1.0
    axes.set_xlim(at.min() - 0.005 * width, at.max() + 0.01 * width)
    if values.max() > top + margin:
        first = next((e["loss"] for e in evals if e["step"] == 0), values.max())
        chance = f"; ln {vocab:,} = {math.log(vocab):.2f}" if vocab else ""
        place = at[values <= top + margin].min()
        axes.plot(
            [place], [top + margin], "^", color=BLUE, ms=8, clip_on=False, zorder=5, ls="",
            label=f"cut off: it starts at {first:.2f}{chance}",
        )  # fmt: skip


def _phases(axes, run: Columns, x: np.ndarray) -> None:
    """Shade warm-up and cooldown, and name the phases above the axes, clear of the curves."""
    low, high = axes.get_xlim()
    above = {"transform": axes.get_xaxis_transform(), "fontsize": 9.5, "color": "0.3"}
    for phase, name in NAMES.items():
        places = np.flatnonzero(np.asarray(run.phase) == PHASES.index(phase))
        if not len(places):
            continue
        begin, end = x[max(0, places[0] - 1)], x[places[-1]]
        begin = low if places[0] == 0 else begin
        if phase in SHADES:
            axes.axvspan(begin, end, color=SHADES[phase], lw=0, zorder=0)
        if phase == "constant" and end - begin < 0.3 * (high - low):
            continue  # no room between the other two
        where = {"warmup": (begin, "left"), "cooldown": (end, "right")}
        at, align = where.get(phase, ((begin + end) / 2, "center"))
        axes.text(at, 1.015, name, ha=align, va="bottom", **above)


def _bits_axis(axes, evals: list[dict]) -> None:
    """Bits per byte at the right, where one factor is exact: for one text, read alike each time."""
    factors = {e["n_tokens"] / (e["n_bytes"] * math.log(2)) for e in evals}
    if len(factors) != 1:
        return
    (factor,) = factors
    side = axes.secondary_yaxis("right", functions=(lambda y: y * factor, lambda y: y / factor))
    side.set_ylabel("held-out documents [bits per byte]", fontsize=11, color=VERMILION)
    side.tick_params(labelsize=10, colors=VERMILION)
    side.spines["right"].set_color(VERMILION)


def _title(manifest: dict, run: Columns) -> str:
    """The run in two lines: what was trained on what, how long; with which result, where."""
    if not manifest.get("shape"):
        return "a run that has not begun"
    n_tokens = run.tokens[-1] if len(run.tokens) else 0
    unit, name = _unit(n_tokens)
    seconds = manifest.get("wall_clock_seconds") or max(
        (line.get("elapsed_seconds") or 0.0 for line in [*run.evals, *run.events]), default=0.0
    )
    body = manifest["n_params"]["body"] / 1e6
    source = manifest.get("data", {}).get("source")
    amount = [f"{n_tokens / unit:,.4g}", name.removesuffix("s"), "tokens"]
    what = [
        f"{manifest['shape']['name']} ({body:,.1f}M body parameters)",
        " ".join(filter(None, [*amount, source and f"of {source}"])),
        f"{clock(seconds)} h",
    ]
    result = [manifest["machine"]["device_name"]]
    if manifest.get("mfu"):
        result.append(f"MFU {manifest['mfu']:.1%}")
    if manifest.get("bits_per_byte"):
        held = f"held-out {manifest['val_loss']:.3f} nats/token, {manifest['bits_per_byte']:.3f}"
        result.insert(0, f"{held} bits/byte")
    elif manifest["status"] != "finished":
        word = {"running": "unfinished"}.get(manifest["status"], manifest["status"])
        result.insert(0, f"{word}, at step {run.step[-1] if len(run.step) else 0:,}")
    return " · ".join(what) + "\n" + " · ".join(result)
