"""Run the tests in groups, print the seconds of each, and fail if one of them failed.

    python tests/run_groups.py [--long] [GROUP ...]

Each group is a pytest of its own: the cells of a notebook must stay on one worker, and a trainer
that is killed on purpose should not share a process with unit tests.
"""

import argparse
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

REPOSITORY = Path(__file__).resolve().parent.parent
REPORTS = REPOSITORY / "build" / "tests"
# Every test runs with these, however it is started: conftest.py takes them from here.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",  # sums in one order, and workers that do not fight for the cores
    "X1_OFFLINE": "1",
    "X1_DATA": str(REPOSITORY / ".cache" / "test-data"),  # shards are prepared once for all groups
    "HF_HUB_OFFLINE": "1",
    "X1_MLFLOW": "off",  # but in the tests of the mirror
    "X1_PROGRESS": "off",  # an exercise that a test solves is not the reader's
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
WORKERS = ["-n", "auto", "--maxprocesses=4"]
NBVAL = ["--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout=120"]


@dataclass(frozen=True)
class Outcome:
    """How one group ended."""

    name: str
    exit_code: int
    seconds: float = 0.0
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    note: str = ""


def groups() -> dict[str, list[str]]:
    """Pytest's arguments by group, in running order: what fails fast comes first.

    An empty list is a group that has nothing to run yet.
    """
    apart = [f"tests/{name}" for name in ("test_project.py", "test_notebooks.py", "test_hours.py")]
    apart += ["tests/faults"]
    ignored = [f"--ignore={path}" for path in apart]
    notebooks = (REPOSITORY / "notebooks").glob("*.ipynb")
    theory = sorted(
        str(path.relative_to(REPOSITORY)) for path in notebooks if not path.stem.startswith("lab")
    )
    return {
        "project": ["tests/test_project.py"],
        "unit": ["tests", *ignored, *WORKERS, "--dist=loadfile"],
        "faults": ["tests/faults", *WORKERS, "--dist=worksteal"],
        "hours": ["tests/test_hours.py", "-rP"],  # alone: a watch is looked at
        "notebooks": ["tests/test_notebooks.py", *WORKERS, "--dist=worksteal"],
        # Labs are left out: they are run with parameters by tests/test_notebooks.py.
        "theory": [*NBVAL, *WORKERS, "--dist=loadfile", *theory] if theory else [],
    }


def run(name: str, arguments: list[str], long: bool) -> Outcome:
    """Run one group to its end and read what came of it from pytest's own report."""
    if not arguments:
        return Outcome(name, 0, skipped=1, note="nothing to run yet")
    report = REPORTS / f"{name}.xml"
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-q", f"--junitxml={report}", *arguments]
    command += ["--durations=5", "--durations-min=5"]
    if long:
        command += ["-m", "long or not long"]
    print(f"\n== {name} ==", flush=True)
    begun = time.monotonic()
    exit_code = subprocess.run(command, cwd=REPOSITORY, env=os.environ | ENVIRONMENT).returncode
    seconds = time.monotonic() - begun
    if not report.exists():
        return Outcome(name, exit_code or 1, seconds, failed=1, note="pytest wrote no report")
    counts = {"tests": 0, "failures": 0, "errors": 0, "skipped": 0}
    for suite in ElementTree.parse(report).getroot().iter("testsuite"):
        for key in counts:
            counts[key] += int(suite.get(key, 0))
    failed = counts["failures"] + counts["errors"]
    passed = counts["tests"] - failed - counts["skipped"]
    # An exit code without a failed test (no tests at all, a crashed worker) is a failure too.
    if exit_code and not failed:
        return Outcome(name, exit_code, seconds, passed, 1, note=f"pytest ended with {exit_code}")
    return Outcome(name, exit_code, seconds, passed, failed, counts["skipped"])


def main() -> int:
    parser = argparse.ArgumentParser(description="Run the tests in groups.")
    parser.add_argument("names", nargs="*", metavar="GROUP", help=f"of {', '.join(groups())}")
    parser.add_argument("--long", action="store_true", help="with the long versions")
    options = parser.parse_args()
    if unknown := set(options.names) - set(groups()):
        parser.error(f"no group named {', '.join(sorted(unknown))}")
    REPORTS.mkdir(parents=True, exist_ok=True)
    outcomes = [
        run(name, arguments, options.long)
        for name, arguments in groups().items()
        if not options.names or name in options.names
    ]
    print(f"\n{'group':<10} {'seconds':>8} {'passed':>7} {'failed':>7} {'skipped':>8}")
    for one in outcomes:
        counts = f"{one.passed:>7} {one.failed:>7} {one.skipped:>8}"
        print(f"{one.name:<10} {one.seconds:>8.1f} {counts}  {one.note}".rstrip())
    passed, failed, skipped = (
        sum(getattr(one, key) for one in outcomes) for key in ("passed", "failed", "skipped")
    )
    print(f"{'all':<10} {sum(one.seconds for one in outcomes):>8.1f}\n")
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if any(one.exit_code for one in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
