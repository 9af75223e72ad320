"""How well spikes are told apart: hundreds of small runs with a known cause, and without one.

    python experiments/benchmarks/classify_spikes.py --set tune --out DIR
    python experiments/benchmarks/classify_spikes.py --set sealed-2 --out DIR

Each run branches from a trunk trained in this process on the embedded text, for a few dozen steps.
`tune` is what the thresholds of x1lib.postmortem.classifier were chosen on. The sealed sets differ
in widths, batches, rates, seeds and strengths, hold look-alikes besides, and are refused while the
rules are not committed: a table names the commit. `sealed-1` was opened first; what it showed went
into the rules, and `sealed-2` judges those. `--again` judges the CSV of `tune` anew without
training; a sealed set is judged once, and `--again` writes its page from the verdicts there are.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import subprocess
import sysconfig
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass, fields
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from x1lib import data, tracking
from x1lib.data.sources import EMBEDDED_FILES
from x1lib.pacing import Schedule
from x1lib.planning import Plan
from x1lib.postmortem.classifier import CAUSES, Features, classify, features
from x1lib.postmortem.corpus import Corpus
from x1lib.postmortem.rewound import Changes, Rewound
from x1lib.postmortem.trace import Trace, batch_excess, watch
from x1lib.session import opening
from x1lib.train import Config

RULES = ("x1lib/postmortem", "x1lib/stability")
SEQ_LEN, WINDOW, HISTORY, UNWATCHED = 64, 24, 72, 200  # tokens; steps
FAULT_AT, AFTER, QUIET = 2, 16, 20  # steps into a branch; steps after the fault's; of adam-beta2
FOREVER = 10**6
PROBE_ROWS = 4
HARM = 0.2  # nats that a run must be off its trunk, in loss or probe, for its fault to be a spike


@dataclass(frozen=True)
class Trunk:
    shape: str
    lr: float
    batch: int  # sequences
    seed: int
    warmup: int = 50


@dataclass(frozen=True)
class Case:
    """One run: what is done to it and what should be said of it."""

    truth: str  # a cause, or "other" for a look-alike that is none of the four faults
    kind: str
    strength: float = 0.0
    spec: str = ""  # a fault, its step to be filled in
    text: str = ""  # other text from the branch on


TRUNKS = {
    "tune": [Trunk("2x64", 3e-3, 8, seed) for seed in (1, 2, 3)],
    "sealed-1": [
        Trunk("2x48:2/1:128", 4e-3, 8, 11),
        Trunk("2x48:2/1:128", 2e-3, 12, 12),
        Trunk("2x96:3/1:256", 3e-3, 8, 13),
        Trunk("3x96:3/3:256", 2e-3, 8, 14),
    ],
    "sealed-2": [
        Trunk("2x40:2/1:96", 3e-3, 8, 21),
        Trunk("3x48:3/1:128", 4e-3, 8, 22),
        Trunk("2x80:4/2:192", 2e-3, 10, 23),
        Trunk("1x112:4/2:288", 3e-3, 8, 24),
    ],
}
LATE = {  # the end of warm-up is in the middle of what is watched
    "sealed-1": Trunk("2x48:2/1:128", 4e-3, 8, 15, UNWATCHED + HISTORY + 5 * WINDOW),
    "sealed-2": Trunk("2x40:2/1:96", 3e-3, 8, 25, UNWATCHED + HISTORY + 5 * WINDOW),
}


def cases(name: str) -> list[Case]:
    """The faults of a set; strengths of the sealed one lie between the other's and beyond."""
    draw = np.random.RandomState({"tune": 1, "sealed-1": 2, "sealed-2": 4}[name])
    n = 25
    found = []
    for _ in range(n):
        share = draw.uniform(*((0.2, 1.0) if name == "tune" else (0.1, 1.0)))
        steps = draw.randint(1, 4 if name == "tune" else 6)
        found.append(Case("rare-token", "", share, f"rare-token@%d:{share:.3f},steps={steps}"))
        share = draw.uniform(*((0.3, 1.0) if name == "tune" else (0.15, 1.0)))
        kind, steps = draw.randint(0, 3), draw.randint(1, 4 if name == "tune" else 6)
        found.append(Case("corrupt-data", ("shuffle", "garbage", "repeat")[kind], share,
                          f"corrupt-data@%d:{share:.3f},steps={steps},kind={kind}"))  # fmt: skip
        factor = math.exp(draw.uniform(math.log(5 if name == "tune" else 4), math.log(30)))
        hidden, steps = int(draw.random_sample() < 0.4), draw.randint(1, 9)
        found.append(Case("lr-too-high", "hidden" if hidden else "logged", factor,
                          f"lr-too-high@%d:{factor:.2f},steps={steps},hidden={hidden}",
                          ))  # fmt: skip
        beta2 = draw.choice((0.995, 0.999, 0.9999) if name == "tune" else (0.99, 0.998, 0.9995))
        jump = draw.choice((10, 33) if name == "tune" else (8, 20, 60))
        found.append(Case("adam-beta2", f"jump {jump}", beta2,
                          f"adam-beta2@%d:{beta2},steps={QUIET},jump={jump}"))  # fmt: skip
    if name == "tune":
        found += [Case("clean", "beta2 0.95", 33, f"adam-beta2@%d:0.95,steps={QUIET},jump=33")] * 5
        found += [Case("clean", "lr x2", 2, "lr-too-high@%d:2,steps=5")] * 5
        found += [Case("other", "wikipedia", text="wikipedia")] * 5
    else:
        for jump in (10, 15, 20, 33, 33, 60, 60, 100):
            spec = f"adam-beta2@%d:0.95,steps={QUIET},jump={jump}"
            found.append(Case("clean", "beta2 0.95", jump, spec))
        for factor in (1.5, 1.6, 1.8, 1.9, 2.0, 2.0, 2.1, 2.2):
            spec = f"lr-too-high@%d:{factor},steps={draw.randint(1, 9)}"
            found.append(Case("clean", "small rise of lr", factor, spec))
        found += [Case("other", "wikipedia", text="wikipedia")] * 8
        found += [Case("other", "code", text="code")] * 8
    return found


class Bench:
    """Text, corpus and the rows of the table."""

    def __init__(self, name: str, log=print):
        self.name, self.log = name, log
        torch.set_num_threads(1)
        folder = data.prepare("embedded", "bpe4096", log=lambda line: None)
        self.shards = data.Shards(folder)
        self.corpus = Corpus(self.shards)
        self.texts = {"wikipedia": EMBEDDED_FILES[1]}
        if name != "tune":
            self.texts["code"] = Path(tempfile.mkdtemp()) / "code.txt"
            stdlib = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
            pages = [path.read_text(errors="ignore") for path in stdlib]
            self.texts["code"].write_text("\n\n".join(pages))
        self.texts = {
            key: data.Shards(data.prepare(str(path), "bpe4096", log=lambda line: None))
            for key, path in self.texts.items()
        }
        self.rows: list[dict] = []
        self.steps = 0

    def rewound(self, trunk: Trunk) -> Rewound:
        config = Config(
            out="none", shape=trunk.shape, tokenizer="bpe4096", seq_len=SEQ_LEN, seed=trunk.seed,
            batch_tokens=SEQ_LEN * trunk.batch, steps=FOREVER, lr=trunk.lr, compile="off",
            dtype="float32", device="cpu", threads=1,
        )  # fmt: skip
        machine, _ = opening.choose_machine(config, 1.0, None)
        schedule = Schedule(trunk.warmup, ((FOREVER, 0.0), (FOREVER + 1, 1.0)))
        plan = Plan(SEQ_LEN, trunk.batch, trunk.batch, trunk.lr, trunk.lr, 0.1, schedule)
        run = Rewound(config, plan, machine, self.shards)
        run.probe_rows = run.probe_rows[:PROBE_ROWS]
        return run

    def watch(self, run: Rewound, n_steps: int) -> Trace:
        self.steps += n_steps
        return watch(run, n_steps, self.corpus)

    def grow(self, trunk: Trunk, n_windows: int):
        """A trunk's run, its whole trace, and the state at the start of each window."""
        run = self.rewound(trunk)
        run.run(UNWATCHED)
        self.steps += UNWATCHED
        trace, states = self.watch(run, HISTORY), []
        for k in range(n_windows):
            states.append(self.pooled(run.snapshot(), k, n_windows))
            trace = trace + self.watch(run, WINDOW)
        return run, trace, states

    def pooled(self, state: dict, k: int, n_states: int) -> dict:
        """The snapshot, moved into one block for all: many small ones would break up the heap."""
        flat = [t for group in state["tensors"].values() for t in group.values()]
        size = sum(t.numel() for t in flat)
        if k == 0:
            self.pool = torch.empty(n_states, size)
        place = 0
        for group in state["tensors"].values():
            for name, t in group.items():
                inside = self.pool[k, place : place + t.numel()].view(t.shape)
                group[name] = inside.copy_(t)
                place += t.numel()
        return state

    def judge(self, trunk: Trunk, run: Rewound, case: Case, history: Trace, state, branch: Trace,
              clean: Trace | None) -> None:  # fmt: skip
        """Measure one run and keep its row."""
        whole = history + branch
        usual = history.rows[-8:]

        def excess(onset: int) -> float:
            self.steps += 4
            return batch_excess(run, state, whole.rows[max(0, onset - 2) : onset + 1], usual)

        found = features(whole, len(history), excess=excess)
        row = {
            "set": self.name, "shape": trunk.shape, "lr": trunk.lr, "batch": trunk.batch,
            "seed": trunk.seed, "start": state["step"], **asdict(case),
            "harm_loss": 0.0, "harm_probe": 0.0, **asdict(found),
        }  # fmt: skip
        if clean is not None:
            n = min(len(clean), len(branch))
            for name in ("loss", "probe"):
                row[f"harm_{name}"] = float((branch[name][:n] - clean[name][:n]).max())
        self.rows.append({**row, "verdict": classify(found).cause})

    def clean_windows(self, trunk: Trunk, run, trace: Trace, states, kind: str = "") -> None:
        for i, state in enumerate(states):
            begin = HISTORY + i * WINDOW
            history, window = trace.part(begin - HISTORY, begin), trace.part(begin, begin + WINDOW)
            self.judge(trunk, run, Case("clean", kind), history, state, window, None)

    def branch(self, trunk: Trunk, run, trace: Trace, states, case: Case, i: int) -> None:
        state, begin = states[i], HISTORY + i * WINDOW
        quiet = QUIET if case.spec.startswith("adam") else 0
        run.restore(state)
        if case.spec:
            run.inject(case.spec % (state["step"] + FAULT_AT + quiet))
        if case.text:
            run.changes = Changes(shards=self.texts[case.text])
        n_steps = FAULT_AT + quiet + AFTER
        branch = self.watch(run, n_steps)
        history, clean = trace.part(begin - HISTORY, begin), trace.part(begin, begin + n_steps)
        self.judge(trunk, run, case, history, state, branch, clean)

    def write(self, path: Path) -> None:
        """The rows as CSV."""
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, self.rows[0].keys())
            writer.writeheader()
            for row in self.rows:
                short = {k: round(v, 5) if isinstance(v, float) else v for k, v in row.items()}
                writer.writerow(short)

    def everything(self, partly: Path) -> None:
        """Every run of the set; what is there so far is written to `partly` after each trunk."""
        todo = cases(self.name)
        draw = np.random.RandomState(3)
        draw.shuffle(todo)
        trunks = TRUNKS[self.name]
        n_windows = -(-100 // len(trunks)) + 2  # the last two only to compare branches with
        for k, trunk in enumerate(trunks):
            run, trace, states = self.grow(trunk, n_windows)
            self.clean_windows(trunk, run, trace, states[:-2])
            for case in todo[k :: len(trunks)]:
                self.branch(trunk, run, trace, states, case, draw.randint(0, n_windows - 2))
            self.write(partly)
            self.log(f"{trunk}: {len(self.rows)} runs, {self.steps:,} steps,"
                     f" {time.process_time():.0f} s of CPU")  # fmt: skip
        if self.name in LATE:
            late = LATE[self.name]
            run, trace, states = self.grow(late, 10)
            self.clean_windows(late, run, trace, states, "end of warm-up")


# ------------------------------------------------------------------------------------ the table


def wilson(k: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's 95% interval of a share k / n (Wilson 1927)."""
    if not n:
        return 0.0, 1.0
    share, centre = k / n, (k + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * math.sqrt(n * share * (1 - share) + z * z / 4)
    return max(0.0, centre - half), min(1.0, centre + half)


def is_harmed(row: dict) -> bool:
    return max(float(row["harm_loss"]), float(row["harm_probe"])) >= HARM


def summary(rows: list[dict], commit: str, cost: dict) -> tuple[dict, str]:
    """Figures and the page that shows them."""
    faults = [c for c in CAUSES if c not in ("clean", "unknown")]
    strong = [r for r in rows if r["truth"] in faults and is_harmed(r)]
    weak = [r for r in rows if r["truth"] in faults and not is_harmed(r)]
    clean = [r for r in rows if r["truth"] == "clean" and not r["spec"] and not r["kind"]]
    alike = [r for r in rows if r["truth"] in ("clean", "other") and (r["spec"] or r["kind"])]

    def share(some: list[dict], right) -> dict:
        k = sum(right(r) for r in some)
        low, high = wilson(k, len(some))
        return {"k": k, "n": len(some), "share": k / max(1, len(some)), "low": low, "high": high}

    def true(r):
        return r["verdict"] == r["truth"]

    def named(r):
        return r["verdict"] in faults

    result = {
        "set": rows[0]["set"], "rules_commit": commit, **cost,
        "accuracy": share(strong, true),
        "accuracy_of_flagged": share([r for r in strong if r["verdict"] != "clean"], true),
        "by_cause": {c: share([r for r in strong if r["truth"] == c], true) for c in faults},
        "below_harm": {c: dict(Counter(r["verdict"] for r in weak if r["truth"] == c))
                       for c in faults},
        "alarms_in_clean": share(clean, lambda r: r["verdict"] != "clean"),
        "faults_named_in_lookalikes": {
            kind: share([r for r in alike if r["kind"] == kind], named)
            for kind in sorted({r["kind"] for r in alike})
        },
        "confusion": {c: dict(Counter(r["verdict"] for r in some if r["truth"] == c))
                      for c in (*faults, "clean", "other")
                      for some in [strong + clean + alike] },
    }  # fmt: skip

    n_trunks = len({(r["shape"], r["seed"]) for r in rows})
    named_alike = sum(one["k"] for one in result["faults_named_in_lookalikes"].values())

    def said(one: dict) -> str:
        return f"{one['k']} of {one['n']} ({one['low']:.0%} to {one['high']:.0%})"

    lines = [
        f"# Spikes told apart: the {result['set']} set",
        "",
        f"Rules of commit `{commit}`. {cost['runs']} runs, {cost['steps']:,} steps,"
        f" {cost['cpu_seconds']:.0f} s of CPU on {cost['machine']}. Intervals are Wilson's, 95%, as"
        f" if runs were independent: they branch from {n_trunks} trunks, so all are too narrow.",
        "",
        f"Of {len(strong)} runs whose fault did {HARM} nats of harm to loss or probe, the cause is"
        f" named in {said(result['accuracy'])}; of those that raised an alarm, in"
        f" {said(result['accuracy_of_flagged'])}. Alarms in clean windows of {WINDOW} steps:"
        f" {said(result['alarms_in_clean'])}; look-alikes, which are not among these, are given a"
        f" cause in {named_alike} of {len(alike)}.",
        "",
        "| truth | " + " | ".join(CAUSES) + " | right |",
        "|---|" + "---|" * (len(CAUSES) + 1),
    ]
    for cause in (*faults, "clean", "other"):
        counts = result["confusion"][cause]
        right = said(result["by_cause"][cause]) if cause in faults else ""
        cells = " | ".join(str(counts.get(c, "")) for c in CAUSES)
        lines.append(f"| {cause} | {cells} | {right} |")
    lines += ["", "`clean` and `other` hold the look-alikes too. A fault named in them:", ""]
    for kind, one in result["faults_named_in_lookalikes"].items():
        lines.append(f"- {kind}: {said(one)}")
    lines += ["", f"Faults that did less than {HARM} nats of harm, and what was said:", ""]
    for cause, counts in result["below_harm"].items():
        lines.append(f"- {cause}: " + (", ".join(f"{v} {k}" for k, v in counts.items()) or "none"))
    lines += ["", "By strength, weak runs included (named right / runs):", ""]
    for cause in faults:
        some = sorted((r for r in rows if r["truth"] == cause), key=lambda r: float(r["strength"]))
        parts = []
        for part in np.array_split(np.arange(len(some)), 4):
            ours = [some[i] for i in part]
            if ours:
                low, high = float(ours[0]["strength"]), float(ours[-1]["strength"])
                right = sum(true(r) for r in ours)
                parts.append(f"{low:.4g} to {high:.4g}: {right}/{len(ours)}")
        lines.append(f"- {cause}: " + "; ".join(parts))
    return result, "\n".join(lines) + "\n"


def committed() -> tuple[str, bool]:
    """The commit of the rules, and whether the working tree has them as they stand there."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True)
    command = ["git", "status", "--porcelain", "--", *RULES]
    changed = subprocess.run(command, capture_output=True, text=True).stdout.strip()
    return commit.stdout.strip()[:12], not changed


def reread(path: Path) -> list[dict]:
    """A CSV's rows, judged by the rules as they are now."""
    kinds = {f.name: f.type for f in fields(Features)}
    rows = []
    for row in csv.DictReader(path.open()):
        values = {}
        for name, kind in kinds.items():
            text = row.get(name, "")
            if text == "":
                values[name] = None
            elif "bool" in kind:
                values[name] = text == "True"
            else:
                values[name] = int(text) if "int" in kind else float(text)
        rows.append({**row, "verdict": classify(Features(**values)).cause})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--set", choices=TRUNKS, required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder of the CSV and the table")
    parser.add_argument("--again", action="store_true", help="from the CSV that is there")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / f"{arguments.set}.csv"
    commit, is_committed = committed()
    if arguments.again:
        sealed = arguments.set != "tune"
        rows = list(csv.DictReader(path.open())) if sealed else reread(path)
        known = json.loads(path.with_suffix(".json").read_text())
        cost = {k: known[k] for k in ("runs", "steps", "cpu_seconds", "machine")}
        if sealed:
            commit, is_committed = known["rules_commit"], True
    else:
        if arguments.set != "tune" and not is_committed:
            parser.error("the rules are not committed: commit them, then open the sealed set")
        bench = Bench(arguments.set)
        bench.everything(path.with_suffix(".part"))
        path.with_suffix(".part").unlink()
        rows = bench.rows
        bench.write(path)
        versions = tracking.versions()
        cost = {
            "runs": len(rows), "steps": bench.steps,
            "cpu_seconds": round(time.process_time(), 1),
            "machine": f"one thread, torch {versions.get('torch', torch.__version__)}",
        }  # fmt: skip
    result, page = summary(rows, commit + ("" if is_committed else " and changes"), cost)
    tracking.write_json(path.with_suffix(".json"), result)
    path.with_suffix(".md").write_text(page)
    print(page)


if __name__ == "__main__":
    main()
