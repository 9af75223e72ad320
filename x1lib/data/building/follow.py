"""Reading behind a writer: training starts with the first block and follows."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from x1lib.data.building.onepass import plan_folder
from x1lib.data.building.recipe import recipe
from x1lib.data.errors import DataError, DataNotReady, ShardError
from x1lib.data.shards import Shards
from x1lib.data.streams import open_stream
from x1lib.data.writer import named_os_errors

POLL_SECONDS = 0.1
# How long a folder may go without a writer before that is an error: one may be starting again.
PATIENCE_SECONDS = 60.0


def has_writer(folder: Path) -> bool:
    """Whether a process holds the folder's lock."""
    try:
        with open(Path(folder) / ".lock") as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
    except BlockingIOError:
        return True
    except OSError:
        return False


class FollowedShards(Shards):
    """Shards whose `batch` waits for a writer that is still at work.

    `.waited_seconds` is the time spent waiting, `.events` what happened: {"event": "waited",
    "sample", "seconds"}, {"event": "source_ended", "n_tokens", "ended"}; each also goes to
    `on_event`. Samples beyond a source that has ended are of the next epoch. `.writer` is the
    process that `feed` started, if it did. Raises ShardError when there is no writer for
    `patience_seconds`, and DataError with its last line when `.writer` failed.
    """

    writer: subprocess.Popen | None = None

    def __init__(
        self,
        folder,
        *,
        on_event: Callable[[dict], None] | None = None,
        poll_seconds: float = POLL_SECONDS,
        patience_seconds: float = PATIENCE_SECONDS,
    ):
        self.on_event, self.poll_seconds = on_event, poll_seconds
        self.patience_seconds = patience_seconds
        self.waited_seconds = 0.0
        self.events: list[dict] = []
        super().__init__(folder)

    def _tell(self, **event) -> None:
        self.events.append(event)
        if self.on_event:
            self.on_event(event)

    def refresh(self) -> FollowedShards:
        was_complete = self.complete
        super().refresh()
        if self.complete and not was_complete:
            ended = self.index.get("ended", "source")
            self._tell(event="source_ended", n_tokens=self.n_tokens, ended=ended)
        return self

    def batch(self, first_sample: int, batch_size: int, seq_len: int, seed: int, skip=()):
        """As Shards.batch, but what is not yet written is waited for."""
        try:
            return super().batch(first_sample, batch_size, seq_len, seed, skip)
        except DataNotReady:
            self._wait_for(int(first_sample) + batch_size, seq_len)
            return super().batch(first_sample, batch_size, seq_len, seed, skip)

    def _wait_for(self, n_samples: int, seq_len: int) -> None:
        began = seen = time.monotonic()
        self.refresh()
        while not self.complete and self.samples_per_epoch(seq_len) < n_samples:
            now = time.monotonic()
            if has_writer(self.folder):
                seen = now
            elif self.writer and self.writer.poll():
                raise DataError(f"the writer of {self.folder} failed: {_last_line(self.folder)}")
            elif now - seen >= self.patience_seconds:
                raise ShardError(
                    f"{self.folder} is unfinished and nobody has written to it for"
                    f" {now - seen:.0f} s; run the same `python -m x1lib.data build` again"
                )
            time.sleep(self.poll_seconds)
            self.refresh()
        seconds = time.monotonic() - began
        self.waited_seconds += seconds
        if seconds >= self.poll_seconds:
            self._tell(event="waited", sample=n_samples - 1, seconds=round(seconds, 3))

    def end_writer(self, seconds: float = 10.0) -> None:
        """End the process that `feed` started; what it wrote stays, and a later one goes on."""
        if self.writer and self.writer.poll() is None:
            self.writer.terminate()
            try:
                self.writer.wait(seconds)
            except subprocess.TimeoutExpired:
                self.writer.kill()
                self.writer.wait()


def build_command(
    source: str | Path, recipe_name: str, *, root=None, max_tokens=None, workers=1, **changes
) -> list[str]:
    """The command line of a build; `changes` are fields of Recipe that it has options for."""
    options = {"root": root, "max_tokens": max_tokens, "workers": workers, **changes}
    command = [sys.executable, "-m", "x1lib.data", "build", "--source", os.fspath(source)]
    command += ["--recipe", recipe_name]
    for name, value in options.items():
        if value is not None:
            command += [f"--{name.replace('_', '-')}", str(value)]
    return command


def feed(
    source: str | Path,
    recipe_name: str = "plain",
    *,
    root=None,
    max_tokens: int | None = None,
    workers: int = 1,
    start_seconds: float = 600.0,
    on_event: Callable[[dict], None] | None = None,
    log: Callable[[str], None] | None = None,
    **changes,
) -> tuple[FollowedShards, subprocess.Popen | None]:
    """Build in a process of its own and return once the first block can be read.

    Returns the shards and the writer, which goes on by itself and writes what it has to say beside
    the folder, to FOLDER.log; the writer is None where the folder is complete or another process
    writes it. `changes` are fields of Recipe; `log` is told once the source is known. Raises
    DataError with the writer's last line when it ends before the first block.
    """
    stream = open_stream(source)
    folder, _ = plan_folder(
        stream, recipe(recipe_name, **changes), root=root, max_tokens=max_tokens
    )
    if log:
        log(f"reading {source} while it is tokenised; training starts with the first block")
        if recipe_name == "plain":
            log("the text is taken as it comes, copies and all: `build --recipe dedup` drops them")
    if (shards := _readable(folder, on_event)) and (shards.complete or has_writer(folder)):
        return shards, None
    writer = None
    if not has_writer(folder):
        command = build_command(
            source, recipe_name, root=root, max_tokens=max_tokens, workers=workers, **changes
        )
        with named_os_errors(_log_of(folder)):
            folder.parent.mkdir(parents=True, exist_ok=True)
            with _log_of(folder).open("wb") as log:
                writer = subprocess.Popen(
                    command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
                )
    until = time.monotonic() + start_seconds
    while time.monotonic() < until:
        failed = writer and writer.poll() is not None
        if shards := _readable(folder, on_event):
            shards.writer = writer
            return shards, writer
        if failed:
            raise DataError(f"the writer ended before its first block: {_last_line(folder)}")
        time.sleep(POLL_SECONDS)
    if writer:
        writer.terminate()
    raise DataError(f"no block was written in {start_seconds:.0f} s; look at {_log_of(folder)}")


def _log_of(folder: Path) -> Path:
    return folder.with_name(folder.name + ".log")


def _last_line(folder: Path) -> str:
    try:
        lines = _log_of(folder).read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    return lines[-1] if lines else "it said nothing"


def _readable(folder: Path, on_event) -> FollowedShards | None:
    try:
        shards = FollowedShards(folder, on_event=on_event)
    except ShardError:
        return None
    return shards if shards.n_blocks else None
