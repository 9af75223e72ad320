"""Start the trainer detached, or find the one that is at work."""

from __future__ import annotations

import fcntl
import itertools
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from x1lib import X1Error, checkpoint, runtime, settings, tracking, watchdog
from x1lib.launch.companions import (
    WATCHDOG_LOG,
    check_terminate,
    mirrored,
    told,
    unwatched,
    watched,
)
from x1lib.launch.detached import children as _children
from x1lib.launch.detached import detached, is_alive
from x1lib.launch.places import (
    LOG,
    last_progress,
    log_end,
    manifest,
    project_root,
    shown,
    size,
)
from x1lib.settings import ConfigError
from x1lib.tracking import scrub, write_json
from x1lib.tracking.holders import is_locked, read_json
from x1lib.train import Config

LOCK, LAUNCH_LOCK = "lock", "launch.lock"
ASKED = "launch.json"  # the settings that a trainer was started with, before it says so itself
A_RUNS_OWN = {  # what may lie in a folder before its run has a manifest
    LOG, LOCK, LAUNCH_LOCK, ASKED, "predictions.json", "metrics.jsonl", "state", "heartbeat.json",
    "mirror.log", "mlflow.json", "mlflow.lock", WATCHDOG_LOG, "watchdog.json", "watchdog.lock",
}  # fmt: skip
START_SECONDS = 120.0  # importing torch from a cold network disk


class LaunchError(X1Error, RuntimeError):
    """A trainer that could not be started, reached or stopped."""


class RunFailed(X1Error, RuntimeError):
    """A run ended before it was finished; the last lines say why."""


@dataclass(frozen=True)
class Launched:
    """A run that is under way or finished. how: started, resumed, attached or finished."""

    folder: Path
    how: str
    pid: int | None = None  # None when finished
    log_bytes: int = 0  # where this launch's lines begin in train.log

    @property
    def alive(self) -> bool:
        """Whether its trainer is at work."""
        return self.pid is not None and is_alive(self.pid)

    @property
    def exit_code(self) -> int | None:
        """How its trainer ended; None while it works, and where another process started it."""
        child = _children.get(self.pid)
        return child.poll() if child else None


def attached(folder: Path) -> Launched:
    """The run of a folder as another process sees it: with the trainer at work there, if any."""
    return Launched(folder, "attached", _holder(folder) or None, size(folder / LOG))


def make_room(config: Config, log: Callable[[str], object] = print) -> Path:
    """Return the folder of a run; a finished run with other settings there is moved aside first.

    It is renamed with the next free number behind its name, and nothing in it changes. An
    unfinished one stays where it is: `start` resumes it or says which setting differs. One that
    never made a step has nothing to resume, and is moved aside like a finished one.
    """
    folder = project_root() / config.out
    _refuse_strange(folder)
    stored = manifest(folder)
    changed = settings.differences(stored.get("config", {}), config)
    done = stored.get("status") == "finished" or not tracking.last_step(folder)
    if stored and done and changed and not _holder(folder):
        numbered = (folder.with_name(f"{folder.name}-{i}") for i in itertools.count(1))
        aside = next(place for place in numbered if not place.exists())
        if not watchdog.retire(folder):  # or it would go on beside the next one's
            raise LaunchError(
                f"the watchdog of {shown(folder)} is ending this machine, so nothing is begun on"
                " it; start again on another, or end that watchdog first"
            )
        folder.rename(aside)
        was = ", ".join(f"{name} {then!r}" for name, (then, _) in changed.items())
        what = "finished run" if stored.get("status") == "finished" else "run without a step"
        log(f"the {what} with {was} is now in {shown(aside)}")
    return folder


def _refuse_strange(folder: Path) -> None:
    """Raise LaunchError for a folder that holds the project, or files and no run."""
    if folder.exists() and not folder.is_dir():
        raise LaunchError(f"{shown(folder)} is a file; give out a folder of its own")
    if project_root().resolve().is_relative_to(folder.resolve()):
        raise LaunchError(f"{shown(folder)} holds the project; give out a folder of its own")
    names = {path.name for path in folder.glob("*")} if folder.exists() else set()
    if names - A_RUNS_OWN and "manifest.json" not in names:
        strange = ", ".join(sorted(names - A_RUNS_OWN)[:3])
        raise LaunchError(
            f"{shown(folder)} holds {strange} and no run; give out a new folder, or an empty one"
        )


def start(config: Config, log: Callable[[str], object] = print) -> Launched:
    """Start the trainer detached, attach to the one at work, resume a dead one, or find it done.

    The trainer has a session of its own, no input, and writes to `train.log` in its folder. Says
    in one line which it was. Raises ConfigError when the folder holds a run with other settings,
    LaunchError or RunFailed when there is no trainer to follow.
    """
    folder = project_root() / config.out
    _refuse_strange(folder)
    check_terminate(config)  # before anything is billed
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / LAUNCH_LOCK, "a")
    except OSError as error:
        raise LaunchError(
            f"cannot write to {shown(folder)} ({error.strerror}); give out a writable folder"
        ) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of two notebooks started at once, the second attaches
        launched, line = _start(config, folder)
        beside = [mirrored(launched), watched(launched, config)]
        beside += told(launched, config) if launched.how == "attached" else []
    for said in filter(None, [line, *beside]):
        log(said)
    return launched


def _start(config: Config, folder: Path) -> tuple[Launched, str]:
    where, log_bytes = shown(folder), size(folder / LOG)
    pid = _holder(folder)
    steps = checkpoint.list_steps(folder / "state")
    if steps or pid:
        _check_same(config, folder)
    if pid:
        line = f"attached to process {pid} in {where}: {last_progress(folder)}"
        return Launched(folder, "attached", pid, log_bytes), line
    values = manifest(folder)
    if steps and values.get("status") == "finished":
        done = f"{values['steps']:,} steps, {values['tokens']:,} tokens"
        return Launched(folder, "finished"), f"finished before: {done} in {where}; nothing started"
    write_json(folder / ASKED, scrub(asdict(config)))
    child = _spawn(config, folder)
    run = Launched(folder, "resumed" if steps else "started", child.pid, log_bytes)
    _wait_for_lock(run, child)
    again = f" from step {steps[-1]:,}" if steps else ""
    return run, f"{run.how}{again} in {where} as process {child.pid}"


def _wait_for_lock(run: Launched, child: subprocess.Popen) -> None:
    """Return when the trainer has its folder; from then on another start finds and joins it."""
    until = time.monotonic() + START_SECONDS
    while child.poll() is None and _holder_written(run.folder).get("pid") != child.pid:
        if time.monotonic() > until:
            child.kill()
            raise LaunchError(
                f"the trainer did not take {shown(run.folder)} in {START_SECONDS:.0f} s, so it was"
                f" ended; read {LOG} there"
            )
        time.sleep(0.05)
    if child.poll():
        raise RunFailed(why(run))


def command(config: Config) -> list[str]:
    """The command line that trains with these settings; defaults are left out."""
    flags = []
    for f in fields(config):
        value, flag = getattr(config, f.name), f.name.replace("_", "-")
        if value != f.default:
            yes_no = f"--{flag}" if value else f"--no-{flag}"
            flags.append(yes_no if isinstance(value, bool) else f"--{flag}={value}")
    return [sys.executable, "-m", "x1lib.train", *flags]


def _spawn(config: Config, folder: Path) -> subprocess.Popen:
    return detached(command(replace(config, out=str(folder))), folder / LOG, cwd=project_root())


def _holder(folder: Path) -> int | None:
    """The process that holds a run folder, by the lock and not by the number in it alone."""
    if not is_locked(folder / LOCK):
        return None
    holder = _holder_written(folder)
    if holder.get("host", platform.node()) != platform.node():
        where = f"{shown(folder)} on {holder['host']}"
        raise LaunchError(f"a trainer is at work in {where}; follow it there")
    return holder.get("pid")


def _holder_written(folder: Path) -> dict:
    """What the newest trainer wrote into the lock file; that it still runs, the lock must say."""
    return read_json(folder / LOCK)


def _check_same(config: Config, folder: Path) -> None:
    """Raise ConfigError when the run in a folder has settings that decide its result otherwise."""
    stored = manifest(folder).get("config") or read_json(folder / ASKED)
    for name, (then, now) in settings.differences(stored, config).items():
        raise ConfigError(
            f"{name} was {then!r} when the run in {shown(folder)} was started and is {now!r} now;"
            f" ask for {then!r} again, or give another out"
        )


def why(run: Launched) -> str:
    """Why a run is not finished: the end of its log, then how its process ended."""
    code = run.exit_code
    how = "is gone" if code is None else f"ended with exit code {code}"
    advice = "start it again: it goes on from its last checkpoint"
    if code is not None and code < 0:
        how = f"was ended by {signal.Signals(-code).name}"
    elif code not in (None, runtime.EXIT_INTERRUPTED):
        advice = "mend what its last line says, then start it again"
    lines = [f"  {line}" for line in log_end(run.folder, run.log_bytes)[-8:]]
    if lines and lines[-1].endswith(runtime.HOURS_OVER):
        advice = "nothing is left of its hours: give more of them, or a smaller shape"
        if tracking.last_step(run.folder):
            advice = "start it again: in a minute it evaluates and exports what it came to"
    start = f"the run in {shown(run.folder)} did not finish; the end of its {LOG}:"
    end = f"The trainer (process {run.pid}) {how}; {advice}."
    billed = unwatched(run.folder, read_json(run.folder / ASKED).get("usd_per_hour", 0.0))
    return "\n".join(filter(None, [start, *lines, end, billed]))
