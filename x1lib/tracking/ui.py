"""Open mlflow's pages on the runs that were mirrored: `make mlflow`, or

python -m x1lib.tracking.ui [--runs experiments/X1-pretraining] [--port 5000]
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import socket
import sqlite3
import sys
from pathlib import Path

from x1lib import exit_code_of
from x1lib.tracking.mirror import MirrorError, tracking_uri
from x1lib.tracking.secrets import scrub

HOST = "127.0.0.1"
# Without these, mlflow starts some ten processes: workers, and runners of jobs that we do not use.
LIGHT = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}


def command(runs: Path, port: int) -> list[str]:
    """The command that serves the store of a folder of runs on this machine.

    Raises MirrorError where mlflow is not installed, no run is mirrored yet, or the port is taken.
    """
    if importlib.util.find_spec("mlflow") is None:
        raise MirrorError("mlflow is not installed; pip install 'x1lib[lab]', or make setup")
    uri = tracking_uri(runs / "any")
    if uri.startswith(("http://", "https://")):
        raise MirrorError(f"MLFLOW_TRACKING_URI is a server: open {scrub(uri)} in a browser")
    if uri.startswith("sqlite:///") and not _has_runs(Path(uri.removeprefix("sqlite:///"))):
        raise MirrorError(
            f"no run is mirrored in {runs} yet; make lab00 makes one, unless X1_MLFLOW is off, and"
            " python -m x1lib.tracking.mirror RUN_FOLDER copies one that is there"
        )
    with socket.socket() as probe:
        if probe.connect_ex((HOST, port)) == 0:
            raise MirrorError(f"port {port} is taken; give another: make mlflow PORT={port + 1}")
    arguments = ["--host", HOST, "--port", str(port), "--workers", "1"]
    return [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri, *arguments]


def _has_runs(database: Path) -> bool:
    """Whether an mlflow database holds a run."""
    if not database.exists():
        return False
    with contextlib.closing(
        sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)
    ) as c:
        try:
            return bool(c.execute("select exists(select 1 from runs)").fetchone()[0])
        except sqlite3.Error:  # being made
            return False


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m x1lib.tracking.ui", description=__doc__)
    home = Path("experiments") / "X1-pretraining"
    parser.add_argument("--runs", type=Path, default=home, help="folder that holds the run folders")
    parser.add_argument("--port", type=int, default=5000)
    arguments = parser.parse_args(argv)

    def serve() -> None:
        words = command(arguments.runs, arguments.port)
        print(f"mlflow at http://{HOST}:{arguments.port}; Ctrl-C ends it", flush=True)
        os.execve(sys.executable, words, {**LIGHT, **os.environ})

    return exit_code_of(serve)


if __name__ == "__main__":
    sys.exit(main())
