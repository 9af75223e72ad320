"""An estimate in words: the sentence a person would say, and the lines of the bill."""

from __future__ import annotations

import math

import numpy as np

from x1lib.economics.checks import EconomicsError, number

_SCALES = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))


def short(x: float) -> str:
    """A number as one would say it: 0.05, 7.5, 1,270, 12.8k, 5B; 1.2e15 beyond what has a name."""
    size = abs(x)
    if size < 9999.5:
        if size >= 9.95:
            return f"{x:,.0f}"
        return f"{x:.1f}" if size >= 0.995 else _powers(f"{x:.2g}")
    rounded = float(f"{x:.3g}")  # before its scale is chosen: 999,900 is 1M, not 1000k
    for scale, letter in _SCALES:
        if scale <= abs(rounded) < 1e15:
            return f"{rounded / scale:.3g}{letter}"
    return _powers(f"{x:.3g}")


def dollars(x: float) -> str:
    """A price with its cents, and below $100 with what is finer than a cent where there is any."""
    return f"${x:,.2f}" if round(x, 2) == x or abs(x) >= 100 else f"${_powers(f'{x:.6g}')}"


def _powers(text: str) -> str:
    """1e+15 and 1e-05 as one writes them: 1e15, 1e-5."""
    number, _, power = text.partition("e")
    return f"{number}e{int(power)}" if power else text


def sentence(e, budget_usd: float = 50.0) -> str:
    """One run in a sentence; raises EconomicsError for an estimate of many."""
    _one(e)
    family = e.gpu.replace("-", " ") if e.gpu.startswith("RTX") else e.gpu.split("-")[0]
    cards = f"one {family}" if e.n_gpus == 1 else f"{e.n_gpus:,.0f} {family}s"
    parts = [f"{short(e.hours)} h on {cards}"]
    parts += [] if e.usd is None else [f"${short(e.usd)}"]
    parts += [] if e.kwh is None else [f"{short(e.kwh)} kWh"]
    text = ", ".join(parts)
    if e.usd:
        budget = number("budget_usd", budget_usd, low=0).item()
        runs = math.floor(min(budget / e.usd, 1e15))
        said = f"{budget:,g}" if budget < 1e4 else short(budget)
        fit = {0: "not one of these fits", 1: "one of these fits"}
        text += f"; {fit.get(runs, f'{runs:,} of these fit')} in ${said}"
    if e.fits is False:
        text += f"; it needs {e.memory_bytes / 1e9:,.0f} GB a card and does not fit"
    return text + "."


def bill(e) -> str:
    """The lines of one run's bill, what it rests on and its notes."""
    _one(e)
    rows = [
        ("model", f"{short(e.n_params)} parameters, {short(e.n_tokens)} tokens, {e.convention}"),
        ("work", f"{e.flops:.3g} FLOP at MFU {e.mfu:g} on {e.n_gpus:,.0f} x {e.gpu}"),
        ("time", f"{_exact(e.hours)} h, {_exact(e.gpu_hours)} card hours"),
    ]
    if e.billed_gpu_hours > e.gpu_hours:
        rows.append(("billed", f"{_exact(e.billed_gpu_hours)} card hours"))
    if e.kwh is not None:
        rows.append(("energy", f"{short(e.kwh)} kWh at most, {short(e.kg_co2e)} kg CO2e"))
    fits = {None: "", True: ", fits", False: ", DOES NOT FIT"}[e.fits]
    parts = ", ".join(f"{k} {v / 1e9:.3g}" for k, v in e.memory_by_part.items() if v is not None)
    rows.append(("memory", f"{e.memory_bytes / 1e9:.3g} GB a card{fits} ({parts})"))
    if e.usd is not None:
        rows += [(line, f"${usd:,.2f}") for line, usd in e.usd_by_line.items() if usd]
        rows.append(("total", f"${e.usd:,.2f}, ${e.usd_per_million_tokens:.3g} a million tokens"))
    rows += [("note", note) for note in e.notes]
    return "\n".join(f"{name + ':':22}{text}" for name, text in rows)


def _exact(hours: float) -> str:
    return f"{hours:,.1f}" if hours >= 1 else f"{hours:.3g}"


def _one(e) -> None:
    values = [v for v in vars(e).values() if not isinstance(v, dict | tuple)]
    values += [*e.usd_by_line.values(), *e.memory_by_part.values()]
    if any(isinstance(value, np.ndarray) for value in values):
        raise EconomicsError("this estimate is of many runs; put one in words at a time")
