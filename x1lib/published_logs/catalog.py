"""Where published training logs lie, and how to have one as columns."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from x1lib.published_files import Source, fetched, is_published
from x1lib.published_logs.reading import PARSERS, Log, LogError, read_run
from x1lib.tracking.metrics import METRICS

# Commits and checksums seen on 2026-11-22 in copies of the repositories.
MODDED = ("KellerJordan/modded-nanogpt", "f411b3d346aa52d3504324ca93c230fd84c6c07f")
BIGSCIENCE = ("bigscience-workshop/bigscience", "9e64edec2ad1fb9263bf39ba616a84ff64b4d947")
RETRIEVED = "2026-11-22"
RECORDS = "records/track_1_short"

# Ours: a real run with six things in it, shipped with the course (notebook 05).
READING_LOG = "reading-log"
READING_PATH = "experiments/reference/reading-log/log.csv"


@dataclass(frozen=True)
class Entry:
    """A published log: its file, the form of its lines, and the columns that come out.

    run: the name in `runs()` of the settings that it was made with, None where they are not there.
    batch_tokens: of every step; None where the log tells.
    """

    source: Source
    form: str
    columns: tuple[str, ...]
    batch_tokens: int | None = None
    run: str | None = None


def _modded(path: str, sha256: str, what: str) -> Source:
    return Source(*MODDED, f"{RECORDS}/{path}", sha256, what, "MIT", RETRIEVED)


def _bigscience(path: str, sha256: str, what: str) -> Source:
    return Source(*BIGSCIENCE, f"train/{path}", sha256, what, "Apache-2.0", RETRIEVED)


CATALOG: dict[str, Entry] = {
    "llmc-124M": Entry(
        _modded(
            "2024-10-13_llmc/main.log",
            "85ef0f26c4140a7120d299d03890975bf1c16bbecd5c81c229b3ac9769d919ca",
            "the lines of a GPT-2 124M trained by llm.c on 10.26B tokens of FineWeb",
        ),
        "llm.c",
        ("step", "loss", "val_loss", "lr", "grad_norm"),
        batch_tokens=524_288,
        run="GPT-2-124M-llm.c",
    ),
    "adamw-124M": Entry(
        _modded(
            "2024-06-06_AdamW/f66d43d7-e449-4029-8adf-e8537bab49ea.log",
            "541df2a28d04d71321c16866224a6743fd60c0cc76ea6cde4b9c26d108707de0",
            "the lines of the same size and text at three times the rate, on 5B tokens",
        ),
        "llm.c",
        ("step", "loss", "val_loss"),
        batch_tokens=524_288,
    ),
    "modded-1.5B": Entry(
        _modded(
            "2024-10-20_ScaleUp1B/ad8d7ae5-7b2d-4ee9-bc52-f912e9174d7a.txt",
            "6c0e7754f934bb1f9eef3e124ac4f03e143ebc1214d0871263ebab328088f083",
            "the lines of a 1.5B trained by modded-nanogpt, with the loss of one of 8 ranks",
        ),
        "modded-nanogpt",
        ("step", "loss", "val_loss", "seconds"),
        batch_tokens=491_520,
    ),
    "bloom-176B": Entry(
        _bigscience(
            "tr11-176B-ml/chronicles.md",
            "a9998b1caa6cce7f79e87314081d7d0bdfe363ec221cad9a926d80bac133778d",
            "the lines of BLOOM's log that its makers quote in their chronicles",
        ),
        "megatron",
        ("step", "tokens", "samples", "loss", "lr", "grad_norm", "batch", "step_seconds"),
        run="BLOOM-176B",
    ),
    "bigscience-104B": Entry(
        _bigscience(
            "tr8b-104B/chronicles.md",
            "c4dfcbd49a7ec22277da29bdce94c6ef20143cba2ebb9fa5c614aa3436575efa",
            "the lines that are quoted of the 104B that BLOOM's makers gave up",
        ),
        "megatron",
        ("step", "tokens", "samples", "loss", "lr", "grad_norm", "batch", "loss_scale"),
    ),
}


def load(name: str | Path, path: Path | None = None, folder: Path | None = None) -> Log:
    """A training log as columns: one of CATALOG, "reading-log", or a path of the reader's own.

    name: or a run's folder (metrics.jsonl), or a file in a form of PARSERS. path: a file
    already at hand for a name of CATALOG, as published (verified by its checksum) or in another
    form. folder: where downloads are kept. Raises PublishedUnavailable where a published log cannot
    be had, LogError where a path is missing, cannot be read or holds no log.
    """
    if name == READING_LOG and path is None:
        path = Path(__file__).resolve().parents[2] / READING_PATH
        return _read(READING_LOG, path)
    if str(name) not in CATALOG:
        if path is None and not Path(name).exists():
            raise LogError(
                f"{str(name)!r} is no log of the catalogue ({', '.join(CATALOG)}), nor a path; give"
                f" a name, a run's folder or a log's file"
            )
        return _read(str(name), Path(path or name))
    entry = CATALOG[str(name)]
    if path is not None:
        return _read(str(name), Path(path), entry)
    return _published(str(name), entry, fetched(entry.source, folder))


def _published(name: str, entry: Entry, content: bytes) -> Log:
    columns = PARSERS[entry.form](content.decode())
    return Log(name, columns, entry.source.url, verified=True)


def _read(name: str, path: Path, entry: Entry | None = None) -> Log:
    if path.is_dir():
        if not (path / METRICS).exists():
            raise LogError(f"{path} holds no {METRICS}; give the folder of a run")
        return Log(name, read_run(path / METRICS), str(path))
    try:
        content = path.read_bytes()
        if entry and is_published(content, entry.source):
            return _published(name, entry, content)
        text = content.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise LogError(f"{path} cannot be read ({error}); give a run's folder or a log") from error
    if path.suffix == ".jsonl":
        return Log(name, read_run(path), str(path))
    likely = entry.form if entry and path.suffix != ".csv" else "csv"
    refused = []
    for form in (likely, *(form for form in PARSERS if form != likely)):
        try:
            return Log(name, PARSERS[form](text), str(path))
        except LogError as error:
            refused.append(error)
    raise refused[0]  # by the form that it should have had
