"""Activations by width and depth, with the rule across widths and without: is one rate enough?

    python experiments/benchmarks/coordinate_check.py --out experiments/reference/coordinate-check

Ten steps at rate 0.01 of a fresh model a row (x1lib.postmortem.tiny.activations), one thread; the
seeds say how far apart two runs are that differ in nothing else. About a minute.
"""

import argparse
import csv
from pathlib import Path

from x1lib.postmortem.tiny import activations

BASE = 32
SEEDS = range(4)
WIDTHS, DEPTHS = (32, 64, 128, 256, 512), (2, 4, 8)
# width, layers, base width of the rule (0: none). At its base width the rule changes nothing.
GRID = [
    *((width, 2, base) for base in (0, BASE) for width in WIDTHS),
    *((64, layers, BASE) for layers in DEPTHS if layers != 2),
]
COLUMNS = ("width", "layers", "base_width", "seed", "queries", "stream", "logits")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of coordinates.csv")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    with open(out / "coordinates.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for width, layers, base in GRID:
            for seed in SEEDS:
                found = activations(width, layers, base_width=base, seed=seed)
                row = {"width": width, "layers": layers, "base_width": base, "seed": seed}
                writer.writerow(row | {name: f"{value:.5g}" for name, value in found.items()})
            print(f"width {width}, {layers} layers, base {base}: {len(SEEDS)} seeds", flush=True)


if __name__ == "__main__":
    main()
