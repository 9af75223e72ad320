"""Box 5, the cost of a token: the prices worked out again from the speeds, and where they went."""

from __future__ import annotations

import math
from pathlib import Path

from x1lib.done.box import Box, DoneError, State, is_rented, lacking, open_box, read
from x1lib.done.run import manifest_of
from x1lib.inference.lab import FULL, PAGE, RESULTS
from x1lib.inference.pricing import usd_per_million_tokens

NAME, FOLDER, AGAIN = "the cost of a token", "inference-cost", "make lab03"
FOR_REAL = f"{AGAIN}   (of your rented run, with -p usd_per_hour of the machine that serves)"
SAME = 1e-9  # relative: the same sum of the same numbers


def check(lab: Path, log=lambda line: None) -> Box:
    """Results, page and manifest; done for one's own rented run at one's own price."""
    try:
        found = read(lab / FOLDER / RESULTS)
        said = _prices(found)
        _page(lab / FOLDER / PAGE, found)
        run = _manifest(lab, found)
    except DoneError as error:
        return open_box(NAME, [f"{FOLDER}/: {error}"], AGAIN)
    except (KeyError, TypeError, ValueError) as error:
        return open_box(NAME, [lacking(f"{FOLDER}/{RESULTS}", error)], AGAIN)
    real = found["model"]["is_own"] and is_rented(run) and found["settings"]["usd_per_hour"] > 0
    return Box(NAME, State.DONE if real else State.REHEARSED, said, command=FOR_REAL)


def _prices(found: dict) -> str:
    """Every price from its speed; the one that is named is the least of the model's own."""
    hour, share = found["usd_per_hour"], found["settings"]["utilisation"]
    speeds = {(row["model"], row["batch"]): row["tokens_per_sec"] for row in found["speed"]}
    prices = {}
    for row in found["prices"]:
        at = row["model"], row["batch"]
        if at not in speeds:
            raise DoneError(f"{RESULTS} prices {at[0]} at batch {at[1]}, which was not timed")
        prices[at] = usd_per_million_tokens(speeds[at], hour, share)
        if not math.isclose(prices[at], row["usd_per_million_tokens"], rel_tol=SAME):
            raise DoneError(f"{RESULTS}: {at[0]} at batch {at[1]} is {prices[at]:.4g} US dollars a"
                            f" million, not {row['usd_per_million_tokens']:.4g}")  # fmt: skip
    if prices.keys() != speeds.keys():
        raise DoneError(f"{RESULTS} has no price of some speed")
    rivals = tuple(f"{name} " for name in found["baselines"])
    best: dict[str, tuple[str, int]] = {}
    for model, batch in speeds:
        fastest = best.get(model)
        if fastest is None or speeds[model, batch] > speeds[fastest]:
            best[model] = model, batch
    own = {model: prices[at] for model, at in best.items() if not model.startswith(rivals)}
    if not own:
        raise DoneError(f"{RESULTS} has no speed of your model")
    if FULL not in found["quality"] or not found["quality"][FULL]["loss"] > 0:
        raise DoneError(f"{RESULTS} does not say what the quantised models lose")
    least, named = min(own.values()), found["usd_per_million_tokens"]
    if not math.isclose(least, named, rel_tol=SAME):
        raise DoneError(f"{RESULTS} names {named:.4g} US dollars a million; the least is"
                        f" {least:.4g}")  # fmt: skip
    model = found["cheapest"]["model"]
    return f"${named:.4g} a million tokens ({model}, ${hour:g} an hour, in use {share:.0%})"


def _page(path: Path, found: dict) -> None:
    """The page has its parts and the price that results.json names."""
    if not path.exists():
        raise DoneError(f"{PAGE} is missing")
    page, best = path.read_text(encoding="utf-8", errors="replace"), found["cheapest"]
    for part in ("## Quality", "## Price"):
        if part not in page:
            raise DoneError(f"{PAGE} lacks {part!r}")
    usd = found["usd_per_million_tokens"]
    if f"| {best['model']} | {best['batch']} | {usd:.4f} |" not in page:
        raise DoneError(f"{PAGE} does not say the price that {RESULTS} names")
    lost = found["quality"][FULL]
    if f"| {FULL} | {lost['loss']:.4f} |" not in page:
        raise DoneError(f"{PAGE} does not say the loss that {RESULTS} holds")


def _manifest(lab: Path, found: dict) -> dict:
    """The manifest of the run that was measured, which holds the price; its values."""
    model = found["model"]
    if model["is_own"]:
        values = manifest_of(lab, model["run_id"])
    else:
        values = read(lab / FOLDER / "manifest.json")
    entry = values.get("inference") or {}
    if entry.get("usd_per_million_tokens") != found["usd_per_million_tokens"]:
        raise DoneError(f"the manifest of {model['run']} does not hold the price of {RESULTS}")
    return values
