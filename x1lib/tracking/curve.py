"""`loss-curve.png`: a run as one would show it in a report."""

from __future__ import annotations

import json
from pathlib import Path

from x1lib.tracking.manifest import MANIFEST
from x1lib.tracking.metrics import read_metrics

CURVE = "loss-curve.png"


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
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    plot_loss(figure.subplots(), folder)
    path = folder / CURVE
    temporary = path.with_name(".loss-curve.tmp.png")
    figure.savefig(temporary, dpi=150)
    temporary.replace(path)
    return path


def plot_loss(axes, folder: Path) -> None:
    """The curve of a run folder on matplotlib axes."""
    steps, evals = read_metrics(folder, "step"), read_metrics(folder, "eval")
    tokens = [line["tokens"] / 1e6 for line in steps]
    losses = [line["loss"] for line in steps]
    axes.plot(tokens, losses, color="0.75", lw=0.7, label="train, each step")
    axes.plot(tokens, _smooth(losses), color="C0", lw=1.6, label="train, smoothed")
    names = {"documents": "held-out documents", "source": "held-out book (Moby-Dick)"}
    for color, (name, label) in zip(("C1", "C2"), names.items(), strict=True):
        points = {e["tokens"]: e["loss"] for e in evals if e["name"] == name}
        if not points:
            continue
        x = [t / 1e6 for t in points]
        axes.plot(x, list(points.values()), "o-", color=color, ms=4, lw=1, label=label)
    _phases(axes, steps)
    for line in read_metrics(folder, "event"):
        if line["event"] == "resume":
            at = max((s["tokens"] for s in steps if s["step"] <= line["step"]), default=0) / 1e6
            axes.axvline(at, color="0.4", lw=0.8, ls=":")
    axes.set(xlabel="training tokens [millions]", ylabel="loss [nats per token]")
    manifest = json.loads((folder / MANIFEST).read_text())
    axes.set_title(_title(manifest), loc="left", fontsize=10)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)


def _smooth(values: list[float], share: float = 0.02) -> list[float]:
    """Exponential mean over about 2% of the run, corrected for its start (as Adam's is)."""
    decay = 1 - 1 / max(1.0, share * len(values))
    mean, weight, smooth = 0.0, 0.0, []
    for value in values:
        mean, weight = decay * mean + (1 - decay) * value, decay * weight + 1 - decay
        smooth.append(mean / weight)
    return smooth


def _phases(axes, steps: list[dict]) -> None:
    for phase, shade in (("warmup", "0.90"), ("cooldown", "0.94")):
        inside = [line["tokens"] / 1e6 for line in steps if line["phase"] == phase]
        if inside:
            axes.axvspan(inside[0], inside[-1], color=shade, zorder=0)
            text = {"warmup": "warm-up", "cooldown": "cooldown"}[phase]
            axes.annotate(text, (inside[0], 0.02), xycoords=("data", "axes fraction"), fontsize=8)


def _title(manifest: dict) -> str:
    parts = [
        f"{manifest['shape']['name']}: {manifest['n_params']['body'] / 1e6:.1f}M body parameters",
        f"{manifest['tokens'] / 1e6:.1f}M tokens of {manifest['data']['source']}",
    ]
    if manifest.get("bits_per_byte"):
        parts.append(
            f"held-out {manifest['val_loss']:.3f} nats/token,"
            f" {manifest['bits_per_byte']:.3f} bits/byte"
        )
    return ", ".join(parts[:2]) + "\n" + "; ".join([*parts[2:], manifest["machine"]["device_name"]])
