"""What lab03 leaves: results.json, inference-cost.md, and the price in the run's manifest."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path

import torch

from x1lib import launch, tracking
from x1lib.inference.baselines import BASELINES
from x1lib.inference.benchmark import Measured, best_batch
from x1lib.inference.lab import FULL, PAGE, RESULTS, SERVED, Lab, _dtype, as_dicts, recorded
from x1lib.inference.pricing import (
    break_even_tokens,
    serving_equals_training_tokens,
    usd_per_million_tokens,
)
from x1lib.inference.text import EMBEDDED
from x1lib.runtime.hardware import hardware

FORMAT = 1
NOT_MEASURED = "its weights are not at hand, and quality is of weights"
OTHER_TEXT = "recorded on other held-out text: all embedded documents"


def price_rows(lab: Lab) -> list[dict]:
    """US dollars for a million tokens of every model at every batch that was timed."""
    s, rows = lab.settings, []
    for one in lab.speed:
        usd = usd_per_million_tokens(one.tokens_per_sec, lab.usd_per_hour, s.utilisation)
        rows.append({
            "model": one.model,
            "batch": one.batch,
            "context_tokens": one.prompt_tokens + one.new_tokens,
            "utilisation": s.utilisation,
            "usd_per_million_tokens": usd,
        })  # fmt: skip
    return rows


def cheapest_row(lab: Lab, model: str) -> dict:
    """The price at the batch at which a model gave the most tokens a second."""
    best = best_batch(lab.speed, model)
    return next(r for r in price_rows(lab) if (r["model"], r["batch"]) == (model, best.batch))


def training_usd(lab: Lab) -> tuple[float | None, str]:
    """What the run cost to train, and how that is known: billed, or its hours at this price.

    None where the run's machine was not of this one's kind, with the reason: its hours had another
    price, which nobody gave.
    """
    values = lab.found.manifest
    if values.get("usd"):  # a manifest of format 1 has none
        return values["usd"], "billed"
    hours, machine = values["wall_clock_seconds"] / 3600, values["machine"]
    here = torch.cuda.get_device_name() if lab.device == "cuda" else None
    if machine["device"] != lab.device or (here and machine["device_name"] != here):
        what = machine["device_name"] or machine["device"]
        return None, f"unknown: {hours:.3f} h on {what}, whose price was not given to the run"
    return hours * lab.usd_per_hour, f"its {hours:.3f} h at {lab.usd_per_hour:g} dollars an hour"


def quality_of(lab: Lab, name: str) -> tuple[float | None, str]:
    """Bits per byte of a baseline on the very text that the model was measured on, as recorded;
    None and the reason where the record is of another text or there is none."""
    kept = recorded("baseline-quality") or {}
    if name not in kept or "bits_per_byte" not in kept[name]:
        return None, NOT_MEASURED
    one = kept[name]
    if lab.text.source != EMBEDDED or one["n_bytes"] != lab.quality[FULL].n_bytes:
        return None, OTHER_TEXT
    said = f"recorded: {one['weights']}, windows of {one['window_tokens']:,} tokens; {one['text']}"
    return one["bits_per_byte"], said


def unpriced(lab: Lab) -> dict[str, float]:
    """Bits per byte of baselines that were recorded on this very text and are not timed here."""
    others = (name for name in BASELINES if name not in lab.settings.baseline_names)
    return {name: bits for name in others if (bits := quality_of(lab, name)[0]) is not None}


def comparison(lab: Lab) -> list[dict]:
    """One row a model: quality, and the least price for a million tokens at this machine."""
    rows = []
    for name in (FULL, *SERVED):
        row = cheapest_row(lab, lab.variant(name))
        # float32 is not served: where bf16 is, that is the row of its quality.
        here = _dtype(lab.dtype) if name == FULL else name
        bits = lab.quality.get(here, lab.quality[FULL]).bits_per_byte
        rows.append(row | {"bits_per_byte": bits, "status": "measured"})
    for name in lab.settings.baseline_names:
        bits, why = quality_of(lab, name)
        for kind in (_dtype(lab.dtype), *SERVED):
            row = cheapest_row(lab, f"{name} {kind}")
            rows.append(row | {"bits_per_byte": bits, "status": why})
    return rows


def results(lab: Lab) -> dict:
    """Everything that was measured, as it goes to results.json; what is unknown is None."""
    own = cheapest_row(lab, lab.variant(FULL))
    best = min((cheapest_row(lab, lab.variant(n)) for n in (FULL, *SERVED)),
               key=lambda row: row["usd_per_million_tokens"])  # fmt: skip
    trained, how = training_usd(lab)
    values = lab.found.manifest
    rivals = {}
    for name in lab.settings.baseline_names:
        rival = min((cheapest_row(lab, f"{name} {k}") for k in (_dtype(lab.dtype), *SERVED)),
                    key=lambda row: row["usd_per_million_tokens"])  # fmt: skip
        usd = rival["usd_per_million_tokens"]
        tokens = float("inf")
        if trained is not None:
            tokens = break_even_tokens(trained, best["usd_per_million_tokens"], usd)
        bits, why = quality_of(lab, name)
        rivals[name] = {
            "n_params": BASELINES[name].n_params,
            "source": BASELINES[name].source,
            "cheapest": rival,
            "break_even_tokens": tokens if tokens != float("inf") else None,
            "bits_per_byte": bits,
            "quality_status": why,
        }
    return {
        "format": FORMAT,
        "created": tracking.utc_now(),
        "settings": asdict(lab.settings) | {"out": lab.folder.name},
        "model": {
            "run": lab.found.folder.name,
            "is_own": lab.found.is_own,
            "run_id": values.get("run_id"),
            "shape": values["shape"],
            "n_params": values["n_params"],
            "tokens": values["tokens"],
            "tokens_per_param": lab.found.tokens_per_param,
            "training_usd": trained,
            "training_usd_source": how,
        },
        "quality": as_dicts(lab.quality),
        "quality_text": f"{lab.text.name}; weights quantised, activations in float32",
        "quality_served": as_dicts(lab.quality_served),
        "text": {
            "source": lab.text.source,
            "note": lab.text.note or None,
            "tokenizer": lab.text.words.name,
            "n_tokens": lab.quality[FULL].n_tokens,
            "n_bytes": lab.quality[FULL].n_bytes,
            "window_tokens": lab.model.config.window,
        },
        "disk_bytes": lab.disk_bytes,
        "memory_bytes": lab.memory_bytes,
        "kernels": lab.kernels,
        "kernel_error": lab.kernel_error,
        "speed": [row.as_dict() for row in lab.speed],
        "peaks": {name: asdict(peak) for name, peak in lab.peaks.items()},
        "usd_per_hour": lab.usd_per_hour,
        "price_source": lab.price_source,
        "prices": price_rows(lab),
        "usd_per_million_tokens": best["usd_per_million_tokens"],
        "usd_per_million_tokens_full": own["usd_per_million_tokens"],
        "cheapest": best,
        "serving_equals_training_tokens": serving_equals_training_tokens(
            trained, best["usd_per_million_tokens"]
        ) if trained else None,
        "baselines": rivals,
        "machine": hardware(),
        "versions": tracking.versions(),
    }  # fmt: skip


def write(lab: Lab) -> dict:
    """Write results.json, inference-cost.md, and the price into the run's manifest.

    Only the reader's own run is written to; of the course's reference a copy of the manifest is
    made beside the results. Returns what results.json holds.
    """
    found = results(lab)
    tracking.write_json(lab.folder / RESULTS, found)
    (lab.folder / PAGE).write_text(page(lab, found))
    entry = {
        "usd_per_million_tokens": found["usd_per_million_tokens"],
        "model": found["cheapest"]["model"],
        "batch": found["cheapest"]["batch"],
        "context_tokens": found["cheapest"]["context_tokens"],
        "utilisation": found["cheapest"]["utilisation"],
        "usd_per_hour": found["usd_per_hour"],
        "price_source": found["price_source"],
    }
    if not lab.found.is_own:
        shutil.copy(lab.found.folder / "manifest.json", lab.folder / "manifest.json")
    tracking.Manifest(manifest_folder(lab)).update(inference=entry)
    return found


def manifest_folder(lab: Lab) -> Path:
    """Where the manifest lies that the price went into."""
    return lab.found.folder if lab.found.is_own else lab.folder


def page(lab: Lab, found: dict) -> str:
    """inference-cost.md: what a million tokens cost, at what quality, and what was assumed."""
    whose = "your run" if lab.found.is_own else "the course's reference checkpoint"
    lines = [
        "# What a million tokens cost",
        "",
        f"`{lab.name}`, {whose}: {found['model']['n_params']['total']:,} parameters,"
        f" {found['model']['tokens']:,} training tokens"
        f" ({found['model']['tokens_per_param']:.2f} a parameter).",
        "",
        f"Machine: {found['machine']['cpu']}, at {found['usd_per_hour']:g} US dollars an hour"
        f" ({found['price_source']}), in use {lab.settings.utilisation:.0%} of the time;"
        f" {lab.settings.prompt_tokens} tokens read and {lab.settings.new_tokens} written a text.",
        "",
        "## Quality",
        "",
        f"Text: {lab.text.name}; {found['text']['n_bytes']:,} bytes, windows of"
        f" {found['text']['window_tokens']} tokens.",
        "",
        "| weights | loss [nats/token] | rise | bits/byte | KL [nats] | same choice | on disk |"
        " in memory |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, q in found["quality"].items():
        kl, same = (
            (f"{q['kl']:.4f}", f"{q['agreement']:.1%}") if q["kl"] is not None else ("-", "-")
        )
        disk, memory = (
            f"{sizes[name] / 1e6:.2f} MB" if name in sizes and name != FULL else "-"
            for sizes in (found["disk_bytes"], found["memory_bytes"])
        )
        lines.append(f"| {name} | {q['loss']:.4f} | {q['rise']:+.2%} | {q['bits_per_byte']:.4f} |"
                     f" {kl} | {same} | {disk} | {memory} |")  # fmt: skip
    lines += [
        "",
        f"The full model as served, in {_dtype(lab.dtype)}:"
        f" {found['memory_bytes'][FULL] / 1e6:.2f} MB.",
        "",
        *_served(found),
        "## Price",
        "",
        "| model | batch | US dollars a million | bits/byte | tokens/s | a step, least to most |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    timed = {(row.model, row.batch): row for row in lab.speed}
    for row in comparison(lab):
        one = timed[row["model"], row["batch"]]
        bits = f"{row['bits_per_byte']:.3f}" if row["bits_per_byte"] else "not measured"
        usd = row["usd_per_million_tokens"]
        lines.append(f"| {row['model']} | {row['batch']} | {usd:.4f} | {bits} |"
                     f" {one.tokens_per_sec:,.0f} | {_spread(one)} |")  # fmt: skip
    lines += [
        "",
        "Prefill, idle beyond the stated share, and anybody's margin are not in it. An API's price"
        " holds all three: compare it with none of these.",
        "",
    ]
    return "\n".join(launch.shown(line) for line in lines)


def _served(found: dict) -> list[str]:
    """Of the page: what the rows above lose through the kernels that are timed."""
    rows = {name: q for name, q in found["quality_served"].items() if name != FULL}
    if not rows:
        return []
    n_tokens = next(iter(rows.values()))["n_tokens"]
    said = "; ".join(f"{name} {q['rise']:+.3%}, KL {q['kl']:.5f}" for name, q in rows.items())
    return [
        f"As served, over the first {n_tokens:,} tokens, and by the reference: {said}.",
        "",
    ]


def _spread(row: Measured) -> str:
    """The least and the most that a step took, of the turns that were counted."""
    low, high = (f"{1e3 * seconds:.1f}" for seconds in row.tpot_spread)
    return f"{low} to {high} ms"


def roofline_table(rows: list[Measured]) -> tuple[tuple, list[tuple]]:
    """Head and rows of a table: share of its roofline that each model reaches, by batch."""
    batches = sorted({row.batch for row in rows})
    share = {(row.model, row.batch): f"{row.roofline_share:.0%}" for row in rows}
    models = list(dict.fromkeys(row.model for row in rows))
    body = [(model, *(share.get((model, n), "-") for n in batches)) for model in models]
    return ("share of the roofline", *(f"batch {n}" for n in batches)), body


def speed_table(rows: list[Measured]) -> tuple[tuple, list[tuple]]:
    """Head and rows of a table: tokens a second, and the least and most of a step's time."""
    batches = sorted({row.batch for row in rows})
    head = ("model", *(f"batch {n}" for n in batches))
    body = []
    for model in dict.fromkeys(row.model for row in rows):
        mine = {row.batch: row for row in rows if row.model == model}
        cells = (
            f"{mine[n].tokens_per_sec:,.0f} ({_spread(mine[n])})" if n in mine else "-"
            for n in batches
        )
        body.append((model, *cells))
    return head, body


def gain_table(rows: list[Measured]) -> tuple[tuple, list[tuple]]:
    """Head and rows of a table: how many times as fast as its bf16 a model's codes decode."""
    steps = {(row.model, row.batch): row.tpot_seconds for row in rows}
    batches = sorted({row.batch for row in rows})
    body = []
    for model in dict.fromkeys(row.model for row in rows):
        full = f"{model.partition(' ')[0]} bf16"
        if model == full or (full, batches[0]) not in steps:
            continue
        cells = (
            f"{steps[full, n] / steps[model, n]:.2f}"
            if (full, n) in steps and (model, n) in steps
            else "-"
            for n in batches
        )
        body.append((model, *cells))
    return ("times bf16", *(f"batch {n}" for n in batches)), body
