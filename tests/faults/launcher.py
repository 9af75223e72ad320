"""Starts trainers as processes of their own, with or without a planted fault.

    python tests/faults/launcher.py              a server: one JSON request a line, one answer
    python tests/faults/launcher.py --once JSON  this process becomes the trainer

The server has imported once what a trainer imports, torch above all, and forks: 4 s less a run.
What a forked process runs is `x1lib.train.main`, exactly what `python -m x1lib.train` runs.
"""

import contextlib
import importlib
import json
import os
import signal
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

import plants  # noqa: E402  (the folders of the tests come first)

from x1lib import train  # noqa: E402

# What a trainer imports on its way: for determinism and compiling, for the export, for the curve.
LATER = ("torch._inductor", "torch._dynamo", "safetensors.torch", "matplotlib.pyplot")


def become_trainer(request: dict) -> int:
    """Apply the plants of a request and run the trainer; returns its exit code."""
    os.environ.update(request.get("environment", {}))
    for name, options in request.get("plants", {}).items():
        getattr(plants, name)(**options)
    return train.main(request["argv"])


def fork_trainer(request: dict) -> int:
    """Fork a trainer whose output goes to request["log"]; returns its process id."""
    pid = os.fork()
    if pid:
        return pid
    code = 70  # EX_SOFTWARE: replaced unless the trainer dies of an exception of its own
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        code = become_trainer(request)
    except SystemExit as error:
        code = error.code
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 1  # as the interpreter ends after a traceback
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def serve() -> None:
    """Answer requests until standard input closes; then end the trainers that still run."""
    for name in LATER:
        with contextlib.suppress(ImportError):  # matplotlib is optional
            importlib.import_module(name)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    running = set()
    for line in sys.stdin:
        request = json.loads(line)
        if "argv" in request:
            answer = fork_trainer(request)
            running.add(answer)
        else:
            pid, status = os.waitpid(request["poll"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
            running.discard(pid)
        print(json.dumps(answer), flush=True)
    for pid in running:
        os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--once"]:
        sys.exit(become_trainer(json.loads(sys.argv[2])))
    serve()
