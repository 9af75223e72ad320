"""Which learning rate and batch, and whether one rate serves all widths: short runs on a CPU.

    python experiments/benchmarks/lr_batch_sweep.py --out experiments/reference/lr-batch-sweep

Two layers, widths 16 to 256, 409,600 tokens each, through the trainer itself with one thread:
without the rule across widths, with it from a base width of 64, and from one of 256; the decay of a
step is equal in all. At width 64 a larger batch as well. Runs that stand in runs.csv are not run
again; --figure draws it anew. About 17 minutes of one core that nobody else uses.
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from x1lib import X1Error, tracking
from x1lib.planning import step_law_lr
from x1lib.shapes import count_params
from x1lib.train import Config, train

N_TOKENS, SEQ_LEN, SEED = 409_600, 256, 0
BATCH = 512  # where the widths are compared
# (width, base width of the rule or 0, batch): rates. At its base width the rule changes nothing.
GRID = {
    (64, 0, 512): (0.000625, 0.00125, 0.0025, 0.005, 0.01, 0.02),
    (64, 0, 1024): (0.0025, 0.005, 0.01),
    (128, 0, 512): (0.000625, 0.00125, 0.0025, 0.005),
    (128, 64, 512): (0.000625, 0.00125, 0.0025, 0.005, 0.01),
    (256, 64, 512): (0.0025, 0.005, 0.01),
    (64, 256, 512): (0.000625, 0.00125, 0.0025),
    (128, 256, 512): (0.000625, 0.00125),
    (256, 0, 512): (0.000625, 0.00125),
    (16, 256, 512): (0.001, 0.002, 0.004),  # with the next row: the ends of lab01's CPU plan
    (96, 256, 512): (0.000625, 0.001, 0.002),
}
COLUMNS = (
    "width", "n_body", "base_width", "batch_tokens", "lr", "tokens", "steps", "seed", "status",
    "val_loss", "val_loss_source", "seconds",
)  # fmt: skip
TICKS = (0.0003125, 0.00125, 0.005, 0.02)
DECAY = 0.1  # x lr, of hidden matrices, a step


def designed() -> Iterator[tuple[int, int, int, float]]:
    """Width, base width, batch and learning rate of each run."""
    for setting, rates in GRID.items():
        yield from ((*setting, lr) for lr in rates)


def shape_of(width: int) -> str:
    """Two layers, two heads to a key/value head, SwiGLU 3 x the width; heads as in lab01, or 32."""
    heads = width // (8 if width in (16, 96) else 32)
    return f"2x{width}:{heads}/{heads // 2}:{3 * width}"


def run(width: int, base_width: int, batch_tokens: int, lr: float) -> dict:
    """Train once; a run that fails is a row with a status and no loss."""
    shape, seconds = shape_of(width), time.perf_counter()
    n_body = count_params(shape).body
    decay = DECAY if base_width else DECAY * lr / step_law_lr(n_body, N_TOKENS)
    row = {
        "width": width,
        "n_body": n_body,
        "base_width": base_width,
        "batch_tokens": batch_tokens,
        "lr": lr,
    }
    row |= {"seed": SEED, "tokens": N_TOKENS}
    with tempfile.TemporaryDirectory() as scratch:
        config = Config(
            out=f"{scratch}/run", shape=shape, tokenizer="bpe4096", seq_len=SEQ_LEN, seed=SEED,
            tokens=N_TOKENS, batch_tokens=batch_tokens, lr=lr, weight_decay=decay,
            base_width=base_width,
            device="cpu", threads=1, compile="off", sample_tokens=0,
            eval_tokens=1024, final_eval_tokens=32_768, eval_every=10**6, checkpoint_every=10**6,
        )  # fmt: skip
        try:
            found = train(config, log=lambda _: None)
        except X1Error as error:
            return row | {"status": type(error).__name__}
    seconds = round(time.perf_counter() - seconds, 1)
    keys = ("steps", "tokens", "status", "val_loss", "val_loss_source")
    return row | {key: found[key] for key in keys} | {"seconds": seconds}


def read(path: Path) -> list[dict]:
    """The rows that are there; numbers are numbers, and what is missing is None."""
    if not path.exists():
        return []
    with open(path, newline="") as file:
        return [
            {k: v if k == "status" else json.loads(v) if v else None for k, v in row.items()}
            for row in csv.DictReader(file)
        ]


def write(path: Path, rows: list[dict]) -> None:
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def curve(rows: list[dict], **wanted) -> tuple[np.ndarray, np.ndarray]:
    """Learning rates and losses of the finished runs that are as wanted, by rate."""
    mine = [r for r in rows if r["status"] == "finished"]
    mine = [r for r in mine if all(r[key] == value for key, value in wanted.items())]
    found = sorted((row["lr"], row["val_loss"]) for row in mine)
    return tuple(np.array(column) for column in zip(*found, strict=True))


def optimum(lr: np.ndarray, loss: np.ndarray) -> tuple[float | None, float]:
    """Rate and loss at the lowest point of a parabola in log lr through the three lowest.

    The rate is None where the lowest run stands at the end of the grid.
    """
    i = int(loss.argmin())
    if not 0 < i < len(lr) - 1:
        return None, float(loss.min())
    c2, c1, c0 = np.polyfit(np.log(lr[i - 1 : i + 2]), loss[i - 1 : i + 2], 2)
    return float(np.exp(-c1 / (2 * c2))), float(c0 - c1**2 / (4 * c2))


def of_rule(rows: list[dict], width: int, base_width: int, batch: int = BATCH):
    """The curve of a width under the rule; at the base width that is the curve without it."""
    base = 0 if base_width == width else base_width
    return curve(rows, width=width, base_width=base, batch_tokens=batch)


def summary(rows: list[dict]) -> dict:
    """The optimum of each curve, as it is drawn."""
    found = {}
    for width, base_width, batch in GRID:
        lr, loss = optimum(*of_rule(rows, width, base_width, batch))
        rule = f"from {base_width}" if base_width else "off"
        found[f"width {width}, rule {rule}, batch {batch}"] = {"lr": lr, "val_loss": loss}
    return found


def draw(rows: list[dict], path: Path) -> None:
    """Loss against learning rate by width: without the rule, and with it from two base widths."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(11, 3.8), sharey=True, layout="constrained")
    colours = {16: "#CC79A7", 64: "#0072B2", 96: "#56B4E9", 128: "#E69F00", 256: "#009E73"}
    titles = {0: "one rate for all weights", 64: "the rule, base 64", 256: "the rule, base 256"}
    for axis, (base_width, title) in zip(axes, titles.items(), strict=True):
        for width, colour in colours.items():
            if (width, 0 if width == base_width else base_width, BATCH) not in GRID:
                continue
            x, y = of_rule(rows, width, base_width)
            axis.plot(x, y, "o-", color=colour, ms=4, label=f"width {width}")
            axis.plot(x[y.argmin()], y.min(), "*", color=colour, ms=13, mec="white")
        axis.set(xscale="log", xlabel="peak learning rate", title=title, ylim=(5.2, 6.1))
        axis.set_xticks(TICKS, [f"{rate:g}" for rate in TICKS])
        axis.minorticks_off()
        axis.legend(frameon=False, fontsize=8)
        axis.grid(alpha=0.25)
    axes[0].set_ylabel("held-out loss [nats a token]")
    figure.suptitle(f"One seed, {N_TOKENS:,} tokens, {BATCH} a step; star: the lowest run")
    figure.savefig(path, dpi=110, metadata={"Software": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of runs.csv and the figure")
    parser.add_argument("--figure", action="store_true", help="draw only")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / "runs.csv"
    rows = read(path)
    known = {(r["width"], r["base_width"], r["batch_tokens"], r["lr"]) for r in rows}
    for setting in () if arguments.figure else designed():
        if setting in known:
            continue
        rows.append(run(*setting))
        write(path, rows)
        print(*(rows[-1].get(key) for key in COLUMNS), flush=True)
    tracking.write_json(arguments.out / "optima.json", summary(rows))
    draw(rows, arguments.out / "lr-batch-sweep.png")


if __name__ == "__main__":
    main()
