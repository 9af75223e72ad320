"""From the seconds of every step to what ladder.json holds."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import torch

from x1lib import tracking
from x1lib.economics import flops_per_token
from x1lib.ladder.bench import WARM_UP_STEPS, Bench, Climber
from x1lib.ladder.rungs import MEASURED, NOT_MEASURED, TOLERANCE, Rung, naming
from x1lib.ladder.settings import Settings
from x1lib.ladder.stored import FORMAT
from x1lib.shapes import count_params

OUT_OF_TIME = "the minutes were over before its turn; give more of them"


def describe(bench: Bench, settings: Settings) -> dict:
    asked = asdict(settings)
    asked.pop("out")  # no path of a machine
    n = count_params(bench.shape)
    return {
        "format": FORMAT,
        "created": tracking.utc_now(),
        "settings": asked,
        "machine": asdict(bench.machine),
        "float32_products": _float32_products(bench.machine.device),
        "versions": tracking.versions(),
        "git": tracking.git_state(),
        "shape": asdict(bench.shape),
        "n_params": {**asdict(n), "total": n.total},
        "source": bench.shards.source,
        "tokenizer": bench.shards.tokenizer,
        "seq_len": bench.config.window,
        "batch_size": bench.batch_size,
        "batch_tokens": bench.batch_size * bench.config.window,
        "flops_convention": "palm",
        "flops_per_token": flops_per_token(bench.shape, bench.config.window),
        "peak_flops_per_sec": bench.peak_flops,
        "peak_source": bench.peak_source,
        "tolerance": {k: {"loss": a, "grad_norm": b} for k, (a, b) in TOLERANCE.items()},
        "warm_up_steps": WARM_UP_STEPS,
        "rounds": bench.n_rounds,
        "seconds": round(bench.used_seconds, 2),
    }


def _float32_products(device: str) -> str:
    if device == "cuda" and torch.get_float32_matmul_precision() != "highest":
        return "TF32"
    return "float32" + (", TF32 off" if device == "cuda" else "")


def results(bench: Bench, rungs: list[Rung], climbers: dict[str, Climber]) -> list[dict]:
    tokens = bench.batch_size * bench.config.window
    share = flops_per_token(bench.shape, bench.config.window) / bench.peak_flops
    found, before = [], None
    for rung in rungs:
        climber = climbers.get(rung.name)
        if climber is None or not climber.seconds:
            why = rung.why or OUT_OF_TIME
            found.append({**asdict(rung), "status": NOT_MEASURED, "why": why, **NOTHING})
            continue
        low, middle, high = _quartiles([*climber.seconds.values()]).values()
        speed_up = _ratios(before.seconds, climber.seconds) if before else None
        rate = {"low": tokens / high, "median": tokens / middle, "high": tokens / low}
        found.append({
            **asdict(rung),
            "micro_batch": climber.plan.micro_batch,
            "n_steps": len(climber.seconds),
            "step_seconds": {"low": low, "median": middle, "high": high},
            "tokens_per_sec": rate,
            "mfu": {k: v * share for k, v in rate.items()},
            "speed_up": speed_up,
            "speed_up_over": before.rung.name if before else None,
            "first_step_seconds": climber.first_seconds,
            "compile_seconds": max(0.0, climber.first_seconds - middle) if rung.compile else None,
            "peak_memory_bytes": climber.peak_memory_bytes,
            "first_loss": climber.first_loss,
            "first_grad_norm": climber.first_norm,
        })  # fmt: skip
        before = climber
    return found


NOTHING = dict.fromkeys(
    ("micro_batch", "n_steps", "step_seconds", "tokens_per_sec", "mfu", "speed_up", "speed_up_over",
     "first_step_seconds", "compile_seconds", "peak_memory_bytes", "first_loss", "first_grad_norm")
)  # fmt: skip


def _quartiles(values: list[float]) -> dict[str, float]:
    return dict(zip(("low", "median", "high"), np.percentile(values, (25, 50, 75)).tolist()))


def _ratios(before: dict[int, float], now: dict[int, float]) -> dict | None:
    """How many times faster than another rung, round by round; None without a common round."""
    ratios = [before[i] / now[i] for i in before.keys() & now.keys()]
    return _quartiles(ratios) if ratios else None


def cost_of_deterministic(climbers: dict[str, Climber]) -> dict | None:
    """How much longer a deterministic step takes, as a share; None without the step to compare."""
    free = climbers.get("not-deterministic")
    alike = [
        c for c in climbers.values() if free and c is not free and _is_deterministic_twin(c, free)
    ]
    if not (alike and free.seconds):
        return None
    ratios = _ratios(alike[-1].seconds, free.seconds) or {}
    return {k: v - 1 for k, v in ratios.items()} or None


def _is_deterministic_twin(one: Climber, free: Climber) -> bool:
    return replace(one.rung, deterministic=False, **naming(free.rung)) == free.rung


def line(result: dict) -> str:
    """One rung for the log."""
    if result["status"] != MEASURED:
        return f"{result['name']}: not measured: {result['why']}"
    times = f", {result['speed_up']['median']:.2f} x" if result["speed_up"] else ""
    rate, share = result["tokens_per_sec"]["median"], result["mfu"]["median"]
    return f"{result['name']} ({result['change']}): {rate:,.0f} tokens/s, MFU {share:.1%}{times}"
