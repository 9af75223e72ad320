"""Box 1, the run: its manifest, its files, its loss measured again, its hours and its money."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch

from x1lib import X1Error, tracking
from x1lib.budget_guard import Ledger
from x1lib.done.box import Box, DoneError, State, is_rented, open_box, read
from x1lib.inference.files import load_checkpoint
from x1lib.session.money import CAP_USD, LEDGER
from x1lib.tracking.manifest.checking import check as checked
from x1lib.train import evaluate

NAME, FOLDERS = "the run", ("run-cloud", "run-local")
TOLERANCE = 0.005  # relative, of a loss measured again: other kernels and dtypes round otherwise
PARTS = 16  # of the sample, whose spread says how far it may be from all held-out text
BATCH_TOKENS = 1024  # a pass: with GPT-2's vocabulary the logits are 0.2 GB a copy
DEVIATIONS = 4  # standard errors by which a sample's mean may miss that of the whole text
CENT = 0.01
SAME_TIME, SLACK_HOURS = 0.01, 60 / 3600  # the manifest is written a moment before the last line
NEEDED = ("checkpoint/model.safetensors", "checkpoint/config.json", "loss-curve.png")
AGAIN = "make lab00   (on a rented card: experiments/X1-pretraining/cloud/README.md)"


def check(lab: Path, log=lambda line: None) -> Box:
    """The best of the two run folders; a run that needs no rented card is a rehearsal."""
    there = [lab / name for name in FOLDERS if (lab / name / "manifest.json").exists()]
    if not there:
        return open_box(NAME, [f"neither {' nor '.join(FOLDERS)} holds a run"], AGAIN)
    boxes = [_box(folder, log) for folder in there]
    best = min(boxes, key=lambda box: list(State).index(box.state))
    if best is boxes[0] or boxes[0].state is not State.OPEN:
        return best
    faults = tuple(f"{there[0].name}: {fault}" for fault in boxes[0].faults)
    return Box(NAME, best.state, best.found, faults, AGAIN)


def _box(folder: Path, log) -> Box:
    faults: list[str] = []
    try:
        values = checked(folder)
        if values["status"] != "finished":
            raise DoneError(f"{folder.name} is {values['status']}: {values['reason'] or 'at work'}")
        if missing := [name for name in NEEDED if name not in values["artefacts"]]:
            raise DoneError(f"the manifest has no hash of {', '.join(missing)}")
    except X1Error as error:
        return open_box(NAME, [str(error)], AGAIN)
    said: list[str] = []
    for part in (_record, _loss_again, _hours, _money):
        try:
            said += part(folder, values, log)
        except X1Error as error:
            faults.append(str(error))
    if faults:
        return open_box(NAME, list(dict.fromkeys(faults)), AGAIN)  # one file, two checks
    state = State.DONE if is_rented(values) else State.REHEARSED
    return Box(NAME, state, f"{folder.name}: {', '.join(said)}", command=AGAIN)


def _record(folder: Path, values: dict, log) -> list[str]:
    """The results of the manifest are those that metrics.jsonl recorded last."""
    for name, result in values["heldout"].items():
        rows = [r for r in tracking.read_metrics(folder, "eval") if r["name"] == name]
        if not rows or rows[-1]["loss"] != result["loss"] or rows[-1]["step"] != values["steps"]:
            raise DoneError(f"the manifest's loss on {name} is not the one that metrics.jsonl says")
    main = values["heldout"].get("documents", {}).get("loss")
    if values["val_loss"] != main:
        raise DoneError(f"val_loss is {values['val_loss']}, and that of the documents {main}")
    read = [r["tokens"] for r in tracking.read_metrics(folder) if "tokens" in r]
    if not read or read[-1] != values["tokens"]:
        said = f"{read[-1]:,}" if read else "none"
        raise DoneError(f"the manifest says {values['tokens']:,} tokens, metrics.jsonl {said}")
    return [f"{values['tokens']:,} tokens"]


def _loss_again(folder: Path, values: dict, log) -> list[str]:
    """Load the checkpoint and measure the loss on the sample that lies beside it."""
    kept = values.get("heldout_sample")
    if not kept or kept["file"] not in values["artefacts"]:
        raise DoneError(f"{folder.name} kept no held-out tokens to measure its loss on again")
    log(f"measuring the loss of {folder.name} again on {kept['n_tokens']:,} held-out tokens")
    model = load_checkpoint(folder / "checkpoint")
    if torch.cuda.is_available():
        model = model.cuda()
    losses, sizes = losses_of(model, folder / kept["file"])
    loss, n_tokens = float(np.average(losses, weights=sizes)), int(sizes.sum())
    if n_tokens != kept["n_tokens"]:
        raise DoneError(f"{kept['file']} holds {n_tokens:,} tokens to predict, not as many as said")
    if not math.isclose(loss, kept["loss"], rel_tol=TOLERANCE):
        raise DoneError(f"on its sample the checkpoint loses {loss:.4f} nats, not"
                        f" {kept['loss']:.4f}")  # fmt: skip
    whole = values["heldout"][kept["text"]]
    error = 0.0  # where the sample is all that was read
    if whole["n_tokens"] > n_tokens:
        error = DEVIATIONS * float(losses.std(ddof=1)) / math.sqrt(len(losses))
    if abs(loss - whole["loss"]) > TOLERANCE * whole["loss"] + error:
        raise DoneError(f"on its sample the checkpoint loses {loss:.4f} nats, and the manifest says"
                        f" {whole['loss']:.4f} of {kept['text']}")  # fmt: skip
    return [f"loss {loss:.4f} again over {n_tokens:,} tokens (said {kept['loss']:.4f})"]


def losses_of(model, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Mean loss of each of some parts of the saved tokens, and how many tokens each has."""
    try:
        tokens = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DoneError(f"{path.name} cannot be read ({error})") from error
    if tokens.ndim != 1 or len(tokens) < 2 or tokens.max() >= model.shape.vocab_size:
        raise DoneError(f"{path.name} holds no tokens of this model")
    window = model.config.window
    size = max(1, math.ceil((len(tokens) - 1) / PARTS / window)) * window
    ones = np.ones(model.shape.vocab_size, np.int64)  # bytes, which nothing here asks for
    parts = [tokens[i : i + size + 1] for i in range(0, len(tokens) - 1, size)]
    found = [
        evaluate(model, part, ones, batch_size=max(1, BATCH_TOKENS // window)) for part in parts
    ]
    return np.array([one["loss"] for one in found]), np.array([one["n_tokens"] for one in found])


def _hours(folder: Path, values: dict, log) -> list[str]:
    hours, ceiling = values["wall_clock_seconds"] / 3600, values["config"]["hours"]
    if ceiling and hours > ceiling:
        raise DoneError(f"{folder.name} took {hours:.2f} h and had {ceiling:g}")
    clock = [r["elapsed_seconds"] for r in tracking.read_metrics(folder) if "elapsed_seconds" in r]
    recorded = max(clock, default=0.0) / 3600
    if not math.isclose(hours, recorded, rel_tol=SAME_TIME, abs_tol=SLACK_HOURS):
        raise DoneError(f"{folder.name} took {hours:.2f} h by its manifest and {recorded:.2f} h by"
                        " metrics.jsonl")  # fmt: skip
    return [f"{hours:.2f} h" + (f" of {ceiling:g}" if ceiling else "")]


def _money(folder: Path, values: dict, log) -> list[str]:
    """What the ledger says of the run, against the manifest and the cap."""
    path = folder.parent / LEDGER
    if not is_rented(values) and not path.exists():
        return ["nothing was billed"]
    if not path.exists():
        raise DoneError(f"{LEDGER} is missing: nobody knows what was spent")
    ledger = Ledger(path, overspent_ok=True)
    cap = ledger.recorded_cap_usd or CAP_USD
    if ledger.spent_usd > cap + CENT:
        raise DoneError(f"{ledger.spent_usd:.2f} US dollars are spent, over the cap of {cap:.2f}")
    if not is_rented(values):
        return ["nothing was billed"]
    account = ledger.runs.get(values["run_id"])
    if account is None or account.usd <= 0:
        raise DoneError(f"{LEDGER} has no dollar of the run {values['run_id'][:12]}")
    if values["usd"] is None or values["usd"] > account.usd + CENT:
        raise DoneError(f"the manifest says {values['usd']} US dollars, the ledger"
                        f" {account.usd:.2f}")  # fmt: skip
    billed = account.seconds / 3600
    return [f"{billed:.2f} h billed, {account.usd:.2f} of {cap:.2f} US dollars"]


def manifest_of(lab: Path, run_id: str | None) -> dict:
    """The manifest under a folder that has this id; nothing where none has."""
    for path in sorted(lab.rglob("manifest.json")):
        try:
            values = read(path)
        except DoneError:
            continue
        if run_id and values.get("run_id") == run_id:
            return values
    return {}
