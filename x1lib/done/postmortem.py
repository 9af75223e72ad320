"""Box 3, the post-mortem: every part of the page, and evidence that agrees with it."""

from __future__ import annotations

import re
import zlib
from pathlib import Path

from x1lib.done.box import Box, DoneError, State, is_rented, lacking, open_box, read
from x1lib.done.run import manifest_of
from x1lib.postmortem.report import EVIDENCE, NORMS, PAGE, TOKENS

NAME, AGAIN = "the post-mortem", "make lab02"
FOR_REAL = f"{AGAIN}   (on a rented card, of a run that was trained there)"
ROWS = ("run", "time", "steps", "samples", "loss", "held-out probe", "cause", "rewound to")
SECTIONS = ("Why", "Evidence", "Data or state?", "Recovery", "Cost", "Limits")
JSONS = ("trace.json", "step.json", "analysis.json")
LEAST_WORDS = 12  # in a section


def check(lab: Path, log=lambda line: None) -> Box:
    """The page beside its evidence; done where the run that spiked was on a rented card."""
    if not (lab / PAGE).exists():
        return open_box(NAME, [f"{PAGE} is missing"], AGAIN)
    page, faults = (lab / PAGE).read_text(encoding="utf-8", errors="replace"), []
    evidence: dict[str, dict] = {}
    for name in JSONS:
        try:
            evidence[name] = read(lab / EVIDENCE / name)
        except DoneError as error:
            faults.append(f"{EVIDENCE}/: {error}")
    for name in (NORMS, TOKENS):
        if wrong := png_fault(lab / EVIDENCE / name):
            faults.append(f"{EVIDENCE}/{name} {wrong}")
        elif f"({EVIDENCE}/{name})" not in page:
            faults.append(f"{PAGE} does not show {EVIDENCE}/{name}")
    faults += _parts(page)
    if not faults:
        try:
            faults += _agreement(page, evidence)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            faults.append(lacking(f"{EVIDENCE}/", error))
    if faults:
        return open_box(NAME, faults, AGAIN)
    found = evidence["analysis.json"]
    run = manifest_of(lab, found["run_id"])
    state = State.DONE if is_rented(run) else State.REHEARSED
    said = f"{found['verdict']['cause']} at step {found['incident']['onset']:,} of {found['run']}"
    return Box(NAME, state, f"{said}, {len(found['outcomes'])} replays", command=FOR_REAL)


def _parts(page: str) -> list[str]:
    """What the page lacks."""
    found = [f"{PAGE} lacks the row {row!r}" for row in ROWS if f"\n| {row} |" not in page]
    texts = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL))
    for name in SECTIONS:
        if name not in texts:
            found.append(f"{PAGE} lacks the section {name!r}")
        elif len(texts[name].split()) < LEAST_WORDS:
            found.append(f"{PAGE}: the section {name!r} says nothing")
    return found


def _agreement(page: str, evidence: dict[str, dict]) -> list[str]:
    """Where the page and the files of evidence say different things."""
    found, step, trace = (evidence[f"{name}.json"] for name in ("analysis", "step", "trace"))
    at, cause = found["incident"], found["verdict"]["cause"]
    last = at["onset"] + at["n_steps"] - 1
    faults = []
    wanted = {
        "run": f"| run | {found['run']}, id {found['run_id'] or 'not recorded'} |",
        "steps": f"| steps | {at['onset']:,} to {last:,};",
        "samples": f"| samples | {at['first_sample']:,} to {at['last_sample'] - 1:,} |",
        "cause": f"| cause | **{cause}**, confidence {found['verdict']['confidence']} |",
        "rewound to": f"| rewound to | checkpoint of step {at['start']:,};",
    }
    faults += [f"{PAGE}: {name} is not what analysis.json says"
               for name, row in wanted.items() if row not in page]  # fmt: skip
    if step["step"] != at["onset"]:
        faults.append(f"step.json is of step {step['step']}, the spike is at {at['onset']}")
    if at["onset"] not in trace["series"]["step"]:
        faults.append("trace.json does not reach the spike")
    if not found["outcomes"]:
        faults.append("no recovery was replayed")
    for name, one in found["outcomes"].items():
        row = f"| {name} | not finite |" if one["failed"] else f"| {name} | {one['peak']:+.3f} | "
        row += "" if one["failed"] else f"{one['end']:+.3f} |"
        if row not in page:
            faults.append(f"{PAGE}: what came of {name} is not what analysis.json says")
    return faults


def png_fault(path: Path) -> str | None:
    """Why a file is no whole PNG; None where it is. Each chunk carries a checksum."""
    try:
        data = path.read_bytes()
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "is no PNG"
    at, kind = 8, b""
    while at + 12 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        kind, end = data[at + 4 : at + 8], at + 8 + size
        if data[end : end + 4] != zlib.crc32(data[at + 4 : end]).to_bytes(4, "big"):
            return "is damaged"
        at = end + 4
    return None if kind == b"IEND" else "is cut short"
