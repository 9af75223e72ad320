"""Training logs as columns: published ones by name, this course's own, and the reader's.

    log = load("llmc-124M")          # downloaded once, verified, kept on this disk
    log = load("reading-log")        # ours, shipped with the course
    log = load("path/to/run")        # a run's folder, or a file in a form of PARSERS

CATALOG says where each published log lies, at which commit, with which checksum and licence, and
what its columns are. `runs()` holds the settings that runs were published with; where no log can be
read by a machine, it says how one was looked for.
"""

from x1lib.published_files import PublishedUnavailable
from x1lib.published_logs.catalog import CATALOG, READING_LOG, Entry, load
from x1lib.published_logs.facts import FIELDS, Fact, PublishedRun, quoted, runs
from x1lib.published_logs.reading import UNITS, Log, LogError
from x1lib.published_logs.schedules import cosine, ramped

__all__ = [
    "CATALOG",
    "FIELDS",
    "READING_LOG",
    "UNITS",
    "Entry",
    "Fact",
    "Log",
    "LogError",
    "PublishedRun",
    "PublishedUnavailable",
    "cosine",
    "load",
    "quoted",
    "ramped",
    "runs",
]
