"""Run `prepare` once for each write, fsync and rename in it, killed there; then run it again.

    python tests/data_killed.py SOURCE ROOT EXPECTED_FOLDER

Prints how many places there are. Fails unless every half-made folder is refused or is a valid
prefix, and the second run gives the same bytes. Children are forked, so that this is fast.
"""

import io
import os
import shutil
import signal
import sys
import traceback
from pathlib import Path

from data_folders import contents

from x1lib.data import ShardError, Shards, prepare, writer

BLOCK_TOKENS = 4_096


class Killer:
    """Counts the calls that change the disk, and kills the process at one of them."""

    def __init__(self, at: int):
        self.at, self.calls = at, 0

    def wrap(self, function):
        def called(*arguments):
            self.calls += 1
            if self.calls == self.at:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments)

        return called

    def wrap_write(self, write_atomically):
        """As `wrap`, but a torn part of the content reaches the disk first."""

        def called(path, write):
            def torn(file):
                self.calls += 1
                if self.calls == self.at:
                    whole = io.BytesIO()
                    write(whole)
                    file.write(whole.getvalue()[: len(whole.getvalue()) // 2])
                    file.flush()
                    os.kill(os.getpid(), signal.SIGKILL)
                write(file)

            return write_atomically(path, torn)

        return called


def prepare_killed_at(at: int, source: str, root: Path) -> bool:
    """Whether a child that dies at its `at`-th disk call really died; False when it finished."""
    child = os.fork()
    if child == 0:
        killer = Killer(at)
        os.replace, os.fsync = killer.wrap(os.replace), killer.wrap(os.fsync)
        writer.write_atomically = killer.wrap_write(writer.write_atomically)
        try:
            prepare(source, "bytes", root=root, block_tokens=BLOCK_TOKENS, log=None)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return True
    assert os.WEXITSTATUS(status) == 0, f"prepare failed by itself, killed at {at}"
    return False


def main(source: str, root: Path, expected: dict[str, bytes]) -> None:
    places = 0
    quiet = {"root": root, "block_tokens": BLOCK_TOKENS, "log": None}
    for at in range(1, 10_000):
        shutil.rmtree(root, ignore_errors=True)
        died = prepare_killed_at(at, source, root)
        places += died
        folder = next(root.iterdir())
        try:
            Shards(folder).verify()
        except ShardError as error:
            assert "index.json cannot be read" in str(error), error
        if died and at % 3 == 0:  # killed once more before it is let through
            prepare_killed_at(at // 2 + 1, source, root)
        assert prepare(source, "bytes", **quiet) == folder
        assert contents(folder) == expected, f"killed at call {at}: other bytes"
        if not died:
            break
    print(places)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), contents(Path(sys.argv[3])))
