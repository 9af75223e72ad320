"""What a run says of itself when it starts and when it is done: its manifest and its artefacts."""

from __future__ import annotations

import uuid
from dataclasses import asdict
from typing import TYPE_CHECKING

from x1lib import checkpoint, runtime, tracking
from x1lib.runtime.hardware import hardware
from x1lib.session import sample
from x1lib.session.money import NO_PRICE
from x1lib.shapes import count_params
from x1lib.tracking import mirror

if TYPE_CHECKING:
    from x1lib.session.session import Session

# Entries that a finished run has; kwh and usd once there is a meter and a price.
TO_COME = (
    "steps", "tokens", "val_loss", "val_loss_source", "bits_per_byte",
    "bits_per_byte_source", "heldout", "tokens_per_sec", "mfu", "wall_clock_seconds",
    "peak_memory_bytes", "kwh", "usd", "artefacts", "heldout_sample",
)  # fmt: skip


def describe(run: Session) -> dict:
    """The manifest as it is before the first step: what is known, and null for what is to come."""
    count, known = count_params(run.shape), run.manifest.values
    # No path of a machine; and of the predictions, the one that was there before the first step.
    settings = {**asdict(run.config), "out": run.out.name}
    settings["sealed"] = known.get("config", settings).get("sealed", "")
    return {
        "format": tracking.MANIFEST_FORMAT,
        "run_id": known.get("run_id") or uuid.uuid4().hex,
        "created": known.get("created") or tracking.utc_now(),
        "status": "running",
        "reason": None,
        "finished": None,
        "seed": run.config.seed,
        "config": settings,
        "shape": asdict(run.shape),
        "n_params": {**asdict(count), "total": count.total},
        "versions": tracking.versions(),
        "git": tracking.git_state(),
        "machine": asdict(run.machine),
        "hardware": hardware(),
        "environment": tracking.environment(),
        "peak_flops_per_sec": run.peak_flops,
        "peak_source": run.peak_source,
        "flops_per_token": run.flops_per_token,
        "flops_convention": "palm",
        "data": _text_of(run),
        "lineage": run.lineage,
        **dict.fromkeys(TO_COME),
        "plan": asdict(run.plan) if run.plan else None,
        "kwh_status": "not measured: no energy meter is read",
        "usd_status": "not settled yet" if run.config.usd_per_hour else NO_PRICE,
        **_mirrored(run),
    }


def _text_of(run: Session) -> dict:
    """The text as far as it is written, which for a source that is streamed is not all of it."""
    shards = run.shards
    return {
        "source": shards.source,
        "tokenizer": shards.tokenizer,
        "n_tokens": shards.n_tokens,
        "fingerprint": shards.fingerprint(),
        "complete": shards.complete,
    }


def _mirrored(run: Session) -> dict:
    """Where the metrics are mirrored, or why they are not."""
    why = mirror.absent()
    return {
        "mlflow_uri": None if why else mirror.public_uri(run.out),
        "mlflow_status": f"not mirrored: {why}" if why else None,
    }


def finish(run: Session, model, results: dict) -> dict:
    """Export the model, draw the curve, and complete the manifest; returns it."""
    c = run.config
    export = checkpoint.export_hf(
        run.out / "checkpoint",
        run.shape,
        model.state_dict(),
        run.tokenizer,
        rope_theta=c.rope_theta,
        norm_eps=c.norm_eps,
        branch_multiplier=c.branch_multiplier,
        logit_multiplier=model.logit_multiplier,
        max_seq_len=c.window,
        log=run.log,
    )
    run.event("exported")
    values = {name: results.get(name, {}) for name in ("documents", "source")}
    rate = run.meter.tokens_per_sec
    run.manifest.update(
        steps=run.step,
        tokens=run.sample * c.window,
        plan=asdict(run.plan),
        data=_text_of(run),
        val_loss=values["documents"].get("loss"),
        val_loss_source=values["source"].get("loss"),
        bits_per_byte=values["documents"].get("bits_per_byte"),
        bits_per_byte_source=values["source"].get("bits_per_byte"),
        heldout=results,
        heldout_sample=sample.keep(run, model, results),
        tokens_per_sec=rate,
        mfu=run.mfu,
    )
    tracking.draw_loss_curve(run.out, log=run.log)
    kept = [*export.glob("*"), run.out / "loss-curve.png", run.out / sample.SAMPLE]
    run.manifest.update(
        status="finished",  # last of all: whoever reads it finds everything
        finished=tracking.utc_now(),
        artefacts=tracking.sha256_of([p for p in kept if p.is_file()], run.out),
        peak_memory_bytes=runtime.peak_memory_bytes(run.machine),
        wall_clock_seconds=round(run.pace.elapsed_seconds, 2),
        **run.money.leave("finished", done=True),
    )
    run.event("finished")
    _check(run)
    run.log(
        f"finished: {run.step:,} steps, {run.sample * c.window:,} tokens,"
        f" {run.pace.elapsed_seconds:.0f} s; {run.out / 'manifest.json'}"
    )
    return run.manifest.values


def _check(run: Session) -> None:
    """Say what is wrong with the manifest, if anything; nothing is lost by it."""
    try:
        wrong = tracking.manifest_faults(run.manifest.values)
    except tracking.TrackingError:
        return  # jsonschema is no part of what a trainer needs
    for line in wrong:
        run.log(f"warning: manifest.json, {line}")
