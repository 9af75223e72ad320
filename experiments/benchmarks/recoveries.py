"""Three spikes, every recovery, several seeds: which one mends what, and for how long.

    python experiments/benchmarks/recoveries.py --out experiments/reference/recoveries

A trunk of 200 steps a seed (x1lib.postmortem.tiny); from it each fault, rewound to step 215, four
steps before the spike, and replayed for 45 steps with each recovery and untouched. Three placebos
leave out as many batches as the spike has, all of them before it: they begin at step 200, since
four steps have no room for them. A recovery holds until 20 steps after the spike, or for good where
it says so. outcomes.csv has a row a replay, cells.csv the 2 x 2 of state and data. One thread,
about two minutes a seed; seeds that outcomes.csv holds are not run again.
"""

import argparse
import csv
from pathlib import Path

import numpy as np

from x1lib.postmortem import CURES, Incident, Theatre
from x1lib.postmortem.replay import PLACEBOS
from x1lib.postmortem.tiny import tiny

SEEDS, TRUNK_STEPS, START, ONSET = range(3), 200, 215, 220
PLACEBO_START = TRUNK_STEPS  # room for PLACEBOS times the longest spike before the onset
SPIKES = {  # fault, and how many batches are the spike's
    "garbage": ("corrupt-data@220:1,kind=1,steps=6", 6),
    "stale second moment": ("adam-beta2@220:0.999,steps=15,jump=33", 1),
    "rate too high": ("lr-too-high@220:10,steps=5", 5),
}
LEFT_OUT = {"earlier-checkpoint"}  # needs a folder of checkpoints; cells.csv has "old, spike"
OUTCOMES = ("seed", "cause", "replay", "peak", "peak_after_steps", "end", "heldout")
CELLS = ("seed", "cause", "cell", "excess", "rise")


def mend_schedule(run, at) -> None:
    """What the rate should have been all along."""
    run.inject("")


def theatre_of(seed: int, trunk, cause: str, start: int) -> Theatre:
    spec, n_batches = SPIKES[cause]
    run = tiny(seed=seed).restore(trunk).inject(spec)
    run.run(start - TRUNK_STEPS)
    run.keep_as_start()
    return Theatre(run, Incident.of(run, ONSET, n_batches))


def placebos_before(theatre: Theatre, control) -> list:
    """Placebos of a theatre that begins early, where its untouched replay is `control` itself."""
    at, size = theatre.at, theatre.run.plan.batch_size
    room = at.first_sample - theatre.run.sample
    if room < PLACEBOS * at.n_steps * size:
        raise SystemExit(f"no room for placebos before step {ONSET}: begin before {at.start}")
    again, shown = theatre.play("untouched"), len(control.series["probe"])
    if again.series["probe"][-shown:] != control.series["probe"]:
        raise SystemExit("two untouched replays of one spike differ; nothing can be compared")
    return theatre.placebos()


def rows_of(seed: int, trunk, cause: str) -> tuple[list[dict], list[dict]]:
    """Outcomes and cells of one spike of a trunk."""
    theatre = theatre_of(seed, trunk, cause, START)
    played = [theatre.play(name) for name in CURES if name not in LEFT_OUT]
    if cause == "rate too high":
        played.append(theatre.play("schedule-mended", mend_schedule))
    early = theatre_of(seed, trunk, cause, PLACEBO_START)
    early.levels = theatre.levels  # one level for all
    played += placebos_before(early, played[0])
    who, n_after = {"seed": seed, "cause": cause}, theatre.at.horizon - ONSET + 1
    outcomes = [
        {
            **who, "replay": one.name, "peak": f"{one.peak:.4f}",
            "peak_after_steps": int(np.argmax(one.series["probe"][-n_after:])),
            "end": f"{one.end:.4f}", "heldout": f"{one.heldout:.4f}",
        }
        for one in played
    ]  # fmt: skip
    cells = [
        {**who, "cell": name} | {key: f"{value:.4f}" for key, value in cell.items()}
        for name, cell in theatre.two_by_two().items()
    ]
    return outcomes, cells


def append(path: Path, columns: tuple, rows: list[dict]) -> None:
    fresh = not path.exists()
    with open(path, "a", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        if fresh:
            writer.writeheader()
        writer.writerows(rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the two tables")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    path, done = options.out / "outcomes.csv", set()
    if path.exists():
        with open(path, newline="") as file:
            done = {int(row["seed"]) for row in csv.DictReader(file)}
    for seed in [one for one in options.seeds if one not in done]:
        trunk_run = tiny(seed=seed)
        trunk_run.run(TRUNK_STEPS)
        trunk, found = trunk_run.snapshot(), ([], [])
        for cause in SPIKES:
            for rows, more in zip(found, rows_of(seed, trunk, cause), strict=True):
                rows += more
        append(path, OUTCOMES, found[0])
        append(options.out / "cells.csv", CELLS, found[1])
        print(f"seed {seed}: {len(found[0])} replays", flush=True)


if __name__ == "__main__":
    main()
