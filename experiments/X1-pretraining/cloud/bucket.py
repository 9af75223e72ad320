"""Keep a run in a bucket, and bring it back on the next machine.

    python bucket.py restore RUN_FOLDER BUCKET_FOLDER   before the trainer starts
    python bucket.py follow RUN_FOLDER BUCKET_FOLDER    copy until SIGTERM, and once more then
    python bucket.py save RUN_FOLDER BUCKET_FOLDER      one copy now

A mounted bucket looks like a folder and is none: what holds a checkpoint together on a disk (fsync,
rename, append, locks) is missing there or only pretended. So a run trains on the machine's own
disk, and this program asks four things of a bucket: to write a new file from its first byte to its
last, to read, to list, to delete. `files/` holds contents under their sha256, `copies/NUMBER.json`
says which of them make up the run, carries a sha256 of its own, and is written when all of them
are there. A copy that was cut short has no valid list, and the one before it is whole.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import itertools
import os
import platform
import re
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from x1lib import X1Error, checkpoint, exit_code_of
from x1lib.budget_guard import take_in
from x1lib.checkpoint.files import UNSEAL_ERRORS, aside, leftovers, seal, unseal
from x1lib.checkpoint.store import CHECKSUMS, PINS, step_path

FORMAT = 1
KEPT = 2  # copies, each with a checkpoint of its own
LEDGER = "ledger.jsonl"  # lies beside the run's folder
SMALL_BYTES = 1 << 20  # read again at every look; what is larger only with a new checkpoint
CHUNK_BYTES = 8 << 20
LOOK_SECONDS = 5.0  # for a new checkpoint
LEFT_OUT = {"lock", "launch.lock", "watchdog.lock"}  # hold for one machine


class BucketError(X1Error, RuntimeError):
    """A copy that could not be made, or not be trusted."""


class Bucket:
    """The copies of one run in a folder that may be a mounted bucket; one machine writes."""

    def __init__(self, folder: Path, log: Callable[[str], object] = print) -> None:
        self.files, self.copies, self.log = folder / "files", folder / "copies", log
        self.newest = self._newest()  # that this process knows of

    def read(self) -> Iterator[tuple[int, dict]]:
        """Number and contents of each copy whose list is whole, the newest first."""
        for number in sorted(self._numbers(), reverse=True):
            try:
                yield number, unseal(self._path(number).read_bytes())
            except (OSError, *UNSEAL_ERRORS) as error:
                self.log(f"bucket: copy {number} is not whole and passed over: {error}")

    def put(self, path: Path, expected: dict | None = None) -> dict:
        """Store what a file holds, unless it is there; returns its bytes and sha256.

        expected: as a checkpoint's own list says; BucketError where it is not so. Without it the
        file may be growing: of a log, whole lines are taken.
        """
        if expected is not None:
            record = {key: expected[key] for key in ("bytes", "sha256")}
            if not self._has(record) and self._write(record["sha256"], _chunks(path)) != record:
                raise BucketError(f"{path} is not what its checkpoint's list says; nothing changed")
            return record
        data = path.read_bytes()
        if path.suffix in (".jsonl", ".log"):
            data = data[: data.rfind(b"\n") + 1]
        record = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        if not self._has(record):
            self._write(record["sha256"], [data])
        return record

    def add(self, content: dict) -> int:
        """Make this the newest copy, all of its files being there; returns its number."""
        if (newest := self._newest()) != self.newest:
            raise BucketError(
                f"another machine made copy {newest} of this run; one run has one trainer: end"
                " one of the two machines"
            )
        self.newest = number = newest + 1
        self.copies.mkdir(parents=True, exist_ok=True)
        with open(self._path(number), "xb") as file:
            file.write(seal(content))
        self._sweep()
        return number

    def get(self, record: dict, path: Path) -> None:
        """Bring a file back to a disk, checked and flushed; raises BucketError."""
        path.parent.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256()
        try:
            with open(path, "xb") as file:
                for chunk in _chunks(self.files / record["sha256"]):
                    digest.update(chunk)
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
        except FileNotFoundError as error:
            raise BucketError(f"{path.name} is missing") from error
        if digest.hexdigest() != record["sha256"]:
            raise BucketError(f"{path.name} has changed: its sha256 does not match")

    def _numbers(self) -> list[int]:
        names = os.listdir(self.copies) if self.copies.is_dir() else []
        return [int(stem) for name in names if (stem := name.removesuffix(".json")).isdigit()]

    def _newest(self) -> int:
        return max(self._numbers(), default=0)

    def _path(self, number: int) -> Path:
        return self.copies / f"{number:08d}.json"

    def _has(self, record: dict) -> bool:
        path = self.files / record["sha256"]
        return path.exists() and path.stat().st_size == record["bytes"]

    def _write(self, name: str, chunks: Iterable[bytes]) -> dict:
        """Write a new file from start to end; what a killed writer left of it is deleted first."""
        self.files.mkdir(parents=True, exist_ok=True)
        path, digest, n_bytes = self.files / name, hashlib.sha256(), 0
        path.unlink(missing_ok=True)
        with open(path, "xb") as file:
            for chunk in chunks:
                digest.update(chunk)
                n_bytes += file.write(chunk)
        return {"bytes": n_bytes, "sha256": digest.hexdigest()}

    def _sweep(self) -> None:
        """Keep the newest copy and that of the checkpoint before; delete the rest, lists first."""
        kept: dict[int, dict] = {}
        for number, content in self.read():
            if content["step"] not in {one["step"] for one in kept.values()} and len(kept) < KEPT:
                kept[number] = content
        named = {r["sha256"] for content in kept.values() for r in content["files"].values()}
        for number in set(self._numbers()) - kept.keys():
            self._path(number).unlink(missing_ok=True)
        for name in set(os.listdir(self.files)) - named:
            (self.files / name).unlink(missing_ok=True)


def _chunks(path: Path) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk


# The run's folder


def newest_step(folder: Path) -> int:
    """Step of the newest checkpoint of a run; 0 where there is none."""
    return max(checkpoint.list_steps(folder / "state"), default=0)


def save(folder: Path, bucket: Bucket, last: dict | None = None) -> dict | None:
    """Copy a run as it is; returns what the copy holds, None for a folder with nothing in it.

    last: the copy before. Where its checkpoint is still the newest, only small files are read again
    (heartbeat, manifest, ledger), so that a day's log is not sent every minute.
    """
    step = newest_step(folder)
    full = last is None or step != last["step"]
    files = {} if full else dict(last["files"])
    if full:  # the checkpoint first: the logs that are read after it reach at least as far
        kept = {*checkpoint.pins(folder / "state"), step} & {
            *checkpoint.list_steps(folder / "state")
        }
        for path in (step_path(folder / "state", one) for one in sorted(kept)):
            listed = unseal((path / CHECKSUMS).read_bytes())["files"]
            for name in [*listed, CHECKSUMS]:
                files[f"state/{path.name}/{name}"] = bucket.put(path / name, listed.get(name))
    for name, path in _others(folder).items():
        with contextlib.suppress(FileNotFoundError):  # replaced at this moment: at the next look
            if full or name not in files or path.stat().st_size <= SMALL_BYTES:
                files[name] = bucket.put(path)
    if not files or (last and files == last["files"]):
        return last
    content = {"format": FORMAT, "step": step, "host": platform.node(), "files": files}
    number = bucket.add(content)
    if full:
        bucket.log(f"bucket: copy {number}, the run at step {step:,}")
    return content


def _others(folder: Path) -> dict[str, Path]:
    """All files of a run but its checkpoints, locks and what is being written aside, by name."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        hidden = any(part.startswith((".", "tmp-", "old-")) for part in Path(name).parts)
        if name.startswith("state/") and name != f"state/{PINS}":
            continue
        if path.is_file() and not hidden and path.name not in LEFT_OUT and ".db" not in path.name:
            found[name] = path
    if (ledger := folder.parent / LEDGER).exists():
        found[f"../{LEDGER}"] = ledger
    return found


def follow(folder: Path, bucket: Bucket, seconds: float, over: threading.Event) -> None:
    """Copy at each new checkpoint, and small files every so many seconds, until told; then again.

    A copy that fails is tried again at the next look: training goes on meanwhile.
    """
    last, tried = None, -seconds
    while True:
        ending = over.wait(LOOK_SECONDS if last else 1.0)
        newer = last is not None and newest_step(folder) != last["step"]
        if ending or newer or time.monotonic() - tried >= seconds:
            tried = time.monotonic()
            try:  # the last copy is a full one
                last = save(folder, bucket, None if ending else last)
            except BucketError:
                raise
            except (OSError, X1Error, *UNSEAL_ERRORS) as error:
                bucket.log(f"bucket: no copy this time: {type(error).__name__}: {error}")
                if ending:
                    raise BucketError("the last copy could not be made; see above") from error
        if ending:
            return


def restore(folder: Path, bucket: Bucket) -> int | None:
    """Bring back the newest copy that is whole, where it is ahead of the folder; returns its step.

    None where nothing was brought back. What the folder held is moved aside and kept. Raises
    BucketError where a trainer is at work there, where no copy can be trusted (a run must not begin
    anew in silence). Ledgers that parted are added up; LedgerError where one cannot be counted.
    """
    _refuse_while_training(folder)
    for path in leftovers(folder.parent, re.escape(folder.name), "tmp"):  # of a killed restore
        shutil.rmtree(path)
    reasons = []
    for number, content in bucket.read():
        if (folder / "state").exists() and content["step"] <= newest_step(folder):
            _bring_ledger(bucket, content, folder)  # a machine may have cost more, and made no step
            bucket.log(f"bucket: this disk has the run at step {newest_step(folder):,} already")
            return None
        fetched = aside(folder, "tmp")
        try:
            for name, record in content["files"].items():
                bucket.get(record, fetched / ("." + LEDGER if name.startswith("..") else name))
        except BucketError as error:
            shutil.rmtree(fetched)
            reasons.append(f"copy {number}: {error}")
            bucket.log(f"bucket: copy {number} passed over: {error}")
            continue
        try:
            _take_ledger(fetched / ("." + LEDGER), folder.parent / LEDGER, bucket.log)
            _exchange(fetched, folder)
        except BaseException:
            shutil.rmtree(fetched, ignore_errors=True)
            raise
        bucket.log(f"bucket: copy {number} is back: the run at step {content['step']:,}")
        return content["step"]
    if reasons or bucket.newest:
        raise BucketError(
            f"no copy in {bucket.copies.parent} is whole ({'; '.join(reasons) or 'no list is'});"
            " give another folder of the bucket to begin a new run on purpose"
        )
    bucket.log("bucket: nothing there yet: a new run")
    return None


def _refuse_while_training(folder: Path) -> None:
    with contextlib.suppress(FileNotFoundError), open(folder / "lock") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BucketError(f"a trainer is at work in {folder}; stop it first") from error


def _bring_ledger(bucket: Bucket, content: dict, folder: Path) -> None:
    if record := content["files"].get(f"../{LEDGER}"):
        fetched = folder.parent / f".tmp-{LEDGER}"
        fetched.unlink(missing_ok=True)
        bucket.get(record, fetched)
        _take_ledger(fetched, folder.parent / LEDGER, bucket.log)


def _take_ledger(fetched: Path, here: Path, log: Callable[[str], object]) -> None:
    """Keep the longer of two ledgers where one is the other's beginning; else add up the two."""
    if not fetched.exists():
        return
    new, old = fetched.read_bytes(), here.read_bytes() if here.exists() else b""
    if new.startswith(old):
        os.replace(fetched, here)
    elif old.startswith(new):
        fetched.unlink()
    else:
        usd = take_in(here, fetched)
        fetched.unlink()
        log(f"bucket: its ledger parted from {here.name}; {usd:.2f} US dollars of it were added")


def _exchange(fetched: Path, folder: Path) -> None:
    """Put the fetched folder in the run's place at one stroke; the old one gets a number."""
    if folder.exists():
        numbered = (folder.with_name(f"{folder.name}-before-{i}") for i in itertools.count(1))
        os.rename(folder, next(place for place in numbered if not place.exists()))
    os.rename(fetched, folder)
    handle = os.open(folder.parent, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)


def main(argv: list[str] | None = None) -> int:
    sys.stdout.reconfigure(line_buffering=True)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=["restore", "follow", "save"])
    parser.add_argument("folder", type=Path, metavar="RUN_FOLDER")
    parser.add_argument("bucket", type=Path, metavar="BUCKET_FOLDER")
    parser.add_argument("--seconds", type=float, default=60.0, help="between copies of small files")
    given = parser.parse_args(argv)
    folder, over = given.folder.absolute(), threading.Event()
    folder.parent.mkdir(parents=True, exist_ok=True)

    def command() -> None:
        try:
            bucket = Bucket(given.bucket)
            if given.action == "restore":
                restore(folder, bucket)
            elif given.action == "save":
                save(folder, bucket)
            else:
                for number in (signal.SIGTERM, signal.SIGINT):
                    signal.signal(number, lambda *_: over.set())
                follow(folder, bucket, given.seconds, over)
        except OSError as error:
            raise BucketError(f"{error}; is the bucket mounted, and the disk not full?") from error

    return exit_code_of(command)


if __name__ == "__main__":
    sys.exit(main())
