"""Save, verify, load and retain checkpoints: safetensors and JSON, nothing is ever unpickled."""

import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError

from x1lib.checkpoint.files import (
    UNSEAL_ERRORS,
    CheckpointError,
    NoSuchStepError,
    aside,
    discard,
    file_sha256,
    fsync_path,
    leftovers,
    make_folder,
    seal,
    unseal,
    write_bytes,
    write_error,
    write_tensors,
)

FORMAT = 1
CHECKSUMS, STATE, PINS = "checksums.json", "state.json", "pins.json"
MILESTONE = "milestone"
_FOLDER = re.compile(r"step-(\d{8,})")
_TENSOR_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\.safetensors")


@dataclass(frozen=True)
class Checkpoint:
    """One verified checkpoint: tensors by file stem and name, on the CPU, and the JSON state."""

    step: int
    tensors: dict = field(repr=False)
    state: dict = field(repr=False)
    path: Path


class _Damaged(Exception):
    """Why one checkpoint folder cannot be trusted: "<file>: <reason>"."""


def step_path(folder, step):
    """Where the checkpoint of `step` lies, whether or not it is there."""
    return Path(folder) / f"step-{step:08d}"


def list_steps(folder):
    """Steps that have a checkpoint folder, ascending; damaged ones are listed too."""
    folder = Path(folder)
    names = os.listdir(folder) if folder.is_dir() else []
    steps = [int(match[1]) for match in map(_FOLDER.fullmatch, names) if match]
    return sorted(step for step in steps if step_path(folder, step).is_dir())


def save(folder, step, tensors, state, *, keep_last=2, milestone=False, log=print):
    """Write the checkpoint of `step`, then delete those that retention no longer keeps.

    tensors: file stem -> name -> torch.Tensor; state: what JSON can hold (tuples become lists).
    A valid checkpoint of this step is kept as it is. Kept: the `keep_last` newest up to `step`,
    milestones, pins, and any step beyond `step`. Returns the checkpoint's folder.
    Raises NoSpaceError when the disk is full and CheckpointError for any other failure, both
    with the older checkpoints whole.
    """
    folder = Path(folder)
    if keep_last < 1:
        raise CheckpointError(f"keep_last is {keep_last}; expected at least 1 checkpoint to keep.")
    for stem in tensors:
        if not _TENSOR_FILE.fullmatch(f"{stem}.safetensors"):
            raise CheckpointError(
                f"tensor group {stem!r} cannot name a file; use letters, digits, '_', '-' and '.'."
            )
    try:
        state_bytes = (json.dumps(state, indent=1) + "\n").encode()
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"the state of step {step} is not JSON ({error}); keep numbers, strings, lists and "
            "dicts in it and put tensors in `tensors`."
        ) from error
    make_folder(folder)
    for path in leftovers(folder, rf"{_FOLDER.pattern}|{re.escape(PINS)}"):
        discard(path, log)
    if milestone:  # before the folder exists: no kill can leave it there without its mark
        _add_pin(folder, step, MILESTONE, log)
    path = step_path(folder, step)
    if not (path.is_dir() and _is_valid(path)):
        _write(path, step, tensors, state_bytes, log)
    _retain(folder, step, keep_last, log)
    return path


def _write(path, step, tensors, state_bytes, log):
    """Write aside, flush everything, rename into place."""
    folder, temporary = path.parent, aside(path, "tmp")
    sizes = [t.numel() * t.element_size() for group in tensors.values() for t in group.values()]
    try:
        temporary.mkdir()
        files = {STATE: write_bytes(temporary / STATE, state_bytes)}
        for stem, group in tensors.items():
            name = f"{stem}.safetensors"
            files[name] = write_tensors(temporary / name, group)
        sealed = seal({"format": FORMAT, "step": step, "files": files})
        write_bytes(temporary / CHECKSUMS, sealed)
        fsync_path(temporary)
        damaged = aside(path, "old")
        if path.exists():  # save() found it damaged
            os.rename(path, damaged)
        os.rename(temporary, path)
        fsync_path(folder)
    except BaseException as error:
        if temporary.exists():
            discard(temporary, log)
        if isinstance(error, OSError):
            what = f"the checkpoint of step {step}"
            raise write_error(error, what, folder, sum(sizes) + len(state_bytes)) from error
        raise
    if damaged.exists():
        discard(damaged, log)


def load_latest(folder, *, step=None, log=print):
    """The newest checkpoint whose every byte matches its checksum, or the one of `step`.

    Damaged ones are passed over, each with a line to `log`. Returns None when the folder holds
    no checkpoint. Raises NoSuchStepError when `step` is not there, and CheckpointError when it is
    damaged or when all are: never a silent fresh start. Opens only JSON and safetensors files.
    """
    folder, steps = Path(folder), list_steps(folder)
    if step is not None:
        if step not in steps:
            raise _no_such_step(folder, step, steps)
        steps = [step]
    reasons = []
    for candidate in reversed(steps):
        path = step_path(folder, candidate)
        try:
            return _load(path)
        except _Damaged as damage:
            reasons.append(f"{path.name}/{damage}")
            if step is None:
                log(f"warning: damaged checkpoint passed over: {path}/{damage}")
    if reasons:
        raise CheckpointError(
            f"no checkpoint in {folder} can be trusted ({'; '.join(reasons)}); restore a copy, "
            "or move the folder away to start from step 0 on purpose."
        )
    return None


def pin(folder, step, reason, *, log=print):
    """Keep the checkpoint of `step` for good, and say why; survives restarts.

    Raises NoSuchStepError when it is not there, NoSpaceError and CheckpointError as `save` does.
    """
    steps = list_steps(folder)
    if step not in steps:
        raise _no_such_step(folder, step, steps)
    _add_pin(Path(folder), step, reason, log)


def pins(folder):
    """Step -> reasons for which retention never deletes it; raises CheckpointError if damaged."""
    path = Path(folder) / PINS
    try:
        return {int(step): reasons for step, reasons in unseal(path.read_bytes()).items()}
    except FileNotFoundError:
        return {}
    except (OSError, *UNSEAL_ERRORS) as error:
        raise CheckpointError(
            f"{path} cannot be read ({error}), so no checkpoint is deleted; "
            "remove that file to give up the pins in it."
        ) from error


def _add_pin(folder, step, reason, log):
    kept = pins(folder)
    if reason in kept.get(step, []):
        return
    kept.setdefault(step, []).append(reason)
    path = folder / PINS
    temporary = aside(path, "tmp")
    data = seal({str(key): kept[key] for key in sorted(kept)})
    try:
        write_bytes(temporary, data)
        os.replace(temporary, path)
        fsync_path(folder)
    except OSError as error:
        if temporary.exists():
            discard(temporary, log)
        raise write_error(error, f"the pin of step {step}", folder, len(data)) from error


def _no_such_step(folder, step, steps):
    there = f"steps {', '.join(map(str, steps))} are" if steps else "no checkpoint is"
    return NoSuchStepError(f"no checkpoint of step {step} in {folder}; {there} there.")


def _checksums(path):
    """Name -> (size, sha256) by a checkpoint's own list, sizes checked; raises _Damaged."""
    try:
        content = unseal((path / CHECKSUMS).read_bytes())
        version, step = content["format"], content["step"]
        files = {name: (file["bytes"], file["sha256"]) for name, file in content["files"].items()}
    except FileNotFoundError:
        raise _Damaged(f"{CHECKSUMS}: missing") from None
    except (OSError, *UNSEAL_ERRORS) as error:
        raise _Damaged(f"{CHECKSUMS}: {error}") from None
    if version != FORMAT:
        raise _Damaged(f"{CHECKSUMS}: format {version}, expected {FORMAT}")
    if step != int(_FOLDER.fullmatch(path.name)[1]) or STATE not in files:
        raise _Damaged(f"{CHECKSUMS}: belongs to another checkpoint (step {step})")
    for name, (expected, _) in files.items():
        if name != STATE and not _TENSOR_FILE.fullmatch(name):
            raise _Damaged(f"{CHECKSUMS}: lists {name!r}, which no checkpoint holds")
        try:
            size = (path / name).stat().st_size
        except OSError as error:
            raise _Damaged(f"{name}: {error.strerror}") from None
        if size != expected:
            raise _Damaged(f"{name}: {size} bytes, expected {expected}")
    return files


def _verify(path):
    """Names of a checkpoint's tensor files after every byte was checked; raises _Damaged."""
    files = _checksums(path)
    for name, (_, expected) in files.items():
        try:
            found = file_sha256(path / name)
        except OSError as error:
            raise _Damaged(f"{name}: {error}") from None
        if found != expected:
            raise _Damaged(f"{name}: its sha256 does not match, so a byte has changed")
    return [name for name in files if name != STATE]


def _load(path):
    names = _verify(path)
    name, tensors = STATE, {}
    try:
        state = json.loads((path / STATE).read_bytes())
        for name in names:
            tensors[name.removesuffix(".safetensors")] = safetensors.torch.load_file(path / name)
    except (OSError, ValueError, SafetensorError) as error:
        raise _Damaged(f"{name}: {error}") from None
    return Checkpoint(int(_FOLDER.fullmatch(path.name)[1]), tensors, state, path)


def _is_valid(path):
    try:
        _verify(path)
    except _Damaged:
        return False
    return True


def _retain(folder, step, keep_last, log):
    """Delete what is older than the `keep_last` newest sound checkpoints up to `step`.

    The one just saved is among those, so the last valid checkpoint is never deleted. Sound is
    judged by list and sizes only: hashing gigabytes at each save would cost more than it guards.
    """
    try:
        protected = pins(folder)
    except CheckpointError as error:
        log(f"warning: {error}")
        return
    kept = 0
    for candidate in reversed([s for s in list_steps(folder) if s <= step]):
        path = step_path(folder, candidate)
        if kept >= keep_last:
            if candidate not in protected:
                _delete(path, log)
            continue
        try:
            _checksums(path)
            kept += 1
        except _Damaged:
            pass  # takes no place among the kept; deleted once it is older than they are


def _delete(path, log):
    """Rename away first, so that a half-deleted folder is never read as a checkpoint."""
    doomed = aside(path, "old")
    try:
        os.rename(path, doomed)
    except OSError as error:
        log(f"could not delete {path} ({error}); going on, the next save tries again")
        return
    discard(doomed, log)
