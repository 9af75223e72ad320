"""What published logs tell of their spikes, and what they cannot: alarms, durations, who led.

    python experiments/benchmarks/read_spike_logs.py --logs DIR --out logs.md

DIR holds llmc_gpt2_124M.csv and modded_1p5B_ad8d7ae5.csv (KellerJordan/modded-nanogpt, MIT) and
bigscience_chronicle_lines.csv (bigscience-workshop/bigscience, Apache-2.0); none is shipped here.
"""

from __future__ import annotations

import argparse
import csv
from collections import Counter
from pathlib import Path

import numpy as np

from x1lib.postmortem import read_log
from x1lib.stability import RULES, detect, lead, spike_score

LLMC, MODDED, BLOOM = (
    "llmc_gpt2_124M.csv", "modded_1p5B_ad8d7ae5.csv", "bigscience_chronicle_lines.csv",
)  # fmt: skip
BLOOM_RUN, BLOOM_STEPS = "tr11-176B", range(31214, 31223)  # the spike that is quoted line by line


def columns(path: Path, *names: str) -> list[np.ndarray]:
    with path.open() as file:
        rows = list(csv.DictReader(file))
    return [np.array([float(row[name]) for row in rows]) for name in names]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--logs", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    loss, norm, lr = columns(arguments.logs / LLMC, "train_loss", "grad_norm", "lr")
    (rank0,) = columns(arguments.logs / MODDED, "train_loss_rank0")
    curves = {
        "llm.c GPT-2 124M, loss": loss,
        "the same, gradient norm": norm,
        "modded-nanogpt 1.5B, loss of one rank": rank0,
    }
    lines = [
        "# Published logs, read by the same rules",
        "",
        "Values flagged:",
        "",
        "| curve | values | " + " | ".join(RULES) + " | OLMo 2's spike score |",
        "|---|---|" + "---|" * (len(RULES) + 1),
    ]
    for name, values in curves.items():
        counts = " | ".join(str(len(detect(values, rule))) for rule in RULES)
        lines.append(f"| {name} | {len(values):,} | {counts} | {spike_score(values):.3%} |")
    lines += ["", "Loss spikes by the OLMo 2 rule, and what the log says of their cause:", ""]
    for name, has_norm, spikes in (
        ("llm.c GPT-2 124M", True, read_log(loss, norm, lr, rule="olmo2")),
        ("modded-nanogpt 1.5B", False, read_log(rank0, rule="olmo2")),
    ):
        causes = ", ".join(f"{n} {cause}" for cause, n in Counter(s.cause for s in spikes).items())
        lasted = sorted(Counter(s.duration for s in spikes).items())
        lasted = ", ".join(f"{n} back after {d} value{'s' * (d > 1)}" for d, n in lasted)
        with_norm = sum(s.lead is not None for s in spikes)
        said = f"{with_norm} with a raised gradient norm" if has_norm else "its norm is not logged"
        places = ", ".join(f"{s.place:,}" for s in spikes[:6]) + (" ..." if len(spikes) > 6 else "")
        lines.append(f"- {name}: {len(spikes)} (at {places}); cause: {causes}; {lasted}; {said}")
    flagged, loss_flagged = detect(norm, "olmo2"), set(detect(loss, "olmo2").tolist())
    together = sum(any(abs(i - j) <= 5 for j in loss_flagged) for i in flagged.tolist())
    lines.append(
        f"- llm.c: of {len(flagged)} flagged gradient norms, {together} are within 5 steps of a"
        " flagged loss: its gradient spikes are not its loss spikes"
    )
    with (arguments.logs / BLOOM).open() as file:
        rows = [r for r in csv.DictReader(file)
                if BLOOM_RUN in r["file"] and int(r["iteration"]) in BLOOM_STEPS]  # fmt: skip
    rows.sort(key=lambda r: int(r["iteration"]))
    bloom = [np.array([float(r[c]) for r in rows]) for c in ("lm_loss", "grad_norm")]
    lines += [
        f"- BLOOM 176B, iterations {rows[0]['iteration']} to {rows[-1]['iteration']}, {len(rows)}"
        f" quoted lines: the gradient norm leads the loss by {lead(*bloom)} steps",
        "",
        "A log holds no batch and no state, so of four causes only a learning rate that is logged"
        " wrong can be named, and none of these is. A loss that is back after one value with a calm"
        " gradient is what one hard batch looks like; a gradient norm that leaves first is what a"
        " stale second moment looks like. Neither is proof; that takes checkpoint and batch.",
    ]
    arguments.out.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
