"""Interventions half-way, by plan: rate warmed up again, shorter sequences, other text, cooldown.

    python experiments/benchmarks/midtraining.py --out experiments/reference/midtraining

Two trunks a seed of x1lib.postmortem.tiny, a young one (200 steps at rate 0.003) and a hot one (400
steps at 0.01); from each, every plan for so many steps more, then the loss of held-out text of both
kinds: a book, and pages of the encyclopaedia. The trunks train on both, the other text is the
encyclopaedia alone. outcomes.csv has a row a plan. One thread, about a minute a seed; seeds that
it holds are not run again.
"""

import argparse
import csv
from dataclasses import replace
from pathlib import Path

from x1lib.pacing import Schedule
from x1lib.postmortem import Changes
from x1lib.postmortem.tiny import encyclopaedia, heldout, tiny

SEEDS = range(4)
TRUNKS = {"young": (200, 3e-3, 40), "hot": (400, 1e-2, 60)}  # steps, rate, steps of a plan
WARMUP = 50
PLANS = (
    "as it was", "rate warmed up again", "sequences halved", "other text", "cooldown",
    "cooldown on the other text",
)  # fmt: skip
COLUMNS = ("seed", "trunk", "plan", "steps", "book", "encyclopaedia")


def follow(run, trunk: dict, plan: str, steps: int) -> None:
    """Train on from a trunk for so many steps by one of PLANS."""
    run.restore(trunk)
    changes = {"shards": encyclopaedia()} if "other text" in plan else {}
    changes |= {"seq_share": 0.5} if plan == "sequences halved" else {}
    run.changes = Changes(**changes)
    if plan == "rate warmed up again":
        run.step = 0  # what the schedule counts; batches go by samples
    if "cooldown" in plan:
        cool = Schedule(WARMUP, ((run.step, 0.0), (run.step + steps, 1.0)))
        run.plan = replace(run.plan, schedule=cool)
    run.run(steps)


def rows_of(seed: int) -> list[dict]:
    """Every plan from every trunk of a seed."""
    rows = []
    for name, (trunk_steps, lr, steps) in TRUNKS.items():
        run = tiny(WARMUP, seed=seed, lr=lr)
        run.run(trunk_steps)
        trunk = run.snapshot()
        for plan in PLANS:
            follow(run, trunk, plan, steps)
            losses = {kind: f"{nats:.4f}" for kind, nats in heldout(run).items()}
            rows.append({"seed": seed, "trunk": name, "plan": plan, "steps": steps} | losses)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of outcomes.csv")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    path, done = options.out / "outcomes.csv", set()
    if path.exists():
        with open(path, newline="") as file:
            done = {int(row["seed"]) for row in csv.DictReader(file)}
    for seed in [one for one in options.seeds if one not in done]:
        rows, fresh = rows_of(seed), not path.exists()
        with open(path, "a", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            if fresh:
                writer.writeheader()
            writer.writerows(rows)
        print(f"seed {seed}: {len(rows)} plans", flush=True)


if __name__ == "__main__":
    main()
