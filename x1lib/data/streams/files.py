"""Local files as a stream: .jsonl, .txt, .parquet and .warc, packed by gzip, xz or zstandard."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from x1lib.data.errors import SourceError, missing_library
from x1lib.data.sources import TXT_DOCUMENT_BYTES, Document
from x1lib.data.streams.batches import Batch, batched

PACKINGS = (".gz", ".xz", ".zst")
KINDS = (".jsonl", ".txt", ".parquet", ".warc")
# Files up to this size are told apart by all their bytes, larger ones by size and both ends.
WHOLE_BYTES = 2**28
END_BYTES = 2**20
ID_KEYS, SOURCE_KEYS = ("id", "url"), ("source",)

Record = tuple[Document | str, Any]


def kind_of(path: Path) -> tuple[str, str] | None:
    """A file's kind and packing by its name, such as (".jsonl", ".gz"); None for other files."""
    packing = path.suffix if path.suffix in PACKINGS else ""
    kind = Path(path.name.removesuffix(packing)).suffix
    return (kind, packing) if kind in KINDS and (kind != ".parquet" or not packing) else None


def list_files(where: str | Path) -> tuple[Path, ...]:
    """The files at a path: the file itself, or all of a folder that can be read, by name.

    Raises SourceError where there is none.
    """
    path = Path(where).expanduser()
    if path.is_dir():
        found = sorted(p for p in path.rglob("*") if p.is_file() and kind_of(p))
        if not found:
            raise SourceError(f"{path} holds no file that ends in {', '.join(KINDS)}")
        return tuple(found)
    if not path.is_file():
        raise SourceError(f"source file {path} does not exist; check the path")
    if not kind_of(path):
        raise SourceError(
            f"{path} is of no kind that can be read; give {', '.join(KINDS)}, the first two and"
            f" .warc also with {', '.join(PACKINGS)}"
        )
    return (path,)


class _ZstdFile(io.RawIOBase):
    """zstandard's frames as a file; the library's own reader takes a cut file for a whole one."""

    def __init__(self, raw, zstandard):
        self._raw, self._library = raw, zstandard.ZstdDecompressor()
        self._frame = self._library.decompressobj()
        self._packed = self._plain = b""
        self._inside = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        while not self._plain:
            self._packed = self._packed or self._raw.read(2**17)
            if not self._packed:
                if self._inside:
                    raise EOFError("the file ends inside a frame")
                return 0
            if self._frame.eof:
                self._frame = self._library.decompressobj()
            self._plain = self._frame.decompress(self._packed)
            self._inside = not self._frame.eof
            self._packed = self._frame.unused_data if self._frame.eof else b""
        n = min(len(buffer), len(self._plain))
        buffer[:n], self._plain = self._plain[:n], self._plain[n:]
        return n


@contextmanager
def _unpacked(path: Path):
    """The bytes of a file as a file object, unpacked."""
    packing = kind_of(path)[1]
    with path.open("rb") as raw:
        if packing == ".zst":
            try:
                import zstandard
            except ImportError as error:
                raise missing_library("zstandard", f"to read {path.name}") from error
            yield io.BufferedReader(_ZstdFile(raw, zstandard), 2**20)
        else:
            opener = {".gz": gzip.open, ".xz": lzma.open}.get(packing)
            yield opener(raw) if opener else raw


def _unpacking_errors() -> tuple[type[Exception], ...]:
    found = (lzma.LZMAError, zlib.error, EOFError, OSError)
    try:
        import zstandard
    except ImportError:
        return found
    return (*found, zstandard.ZstdError)


def _lines(path: Path) -> Iterator[bytes]:
    number = 0
    try:
        with _unpacked(path) as file:
            for line in file:
                number += 1
                yield line
    except _unpacking_errors() as error:
        raise SourceError(
            f"{path} breaks off after line {number} ({error}); fetch the file again"
        ) from error


def document_of(record: object, default_id: str, default_source: str) -> Document | str:
    """The document in a row or JSON object, or the reason why there is none."""
    text = record.get("text") if isinstance(record, dict) else None
    if not isinstance(text, str):
        return "no_text"
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            return "half_a_surrogate_pair"
    name = next((str(record[k]) for k in ID_KEYS if record.get(k) is not None), default_id)
    source = next((str(record[k]) for k in SOURCE_KEYS if record.get(k)), default_source)
    return Document(id=name, source=source, text=text)


def _read_jsonl(path: Path, stem: str, first: int) -> Iterator[Document | str]:
    for number, raw in enumerate(_lines(path), 1):
        if number <= first:
            continue
        try:
            record = json.loads(raw) if raw.strip() else None
        except UnicodeDecodeError:
            yield "invalid_utf8"
        except ValueError:
            yield "not_json"
        else:
            yield "blank_line" if record is None else document_of(record, f"{stem}/{number}", stem)


def _read_txt(path: Path, stem: str, first: int) -> Iterator[Document | str]:
    """A .txt has no documents: it is cut at the first blank line after 8 KB."""
    parts: list[bytes] = []
    size = count = 0

    def cut() -> Document | str:
        try:
            return Document(f"{stem}/{count}", stem, b"".join(parts).decode("utf-8"))
        except UnicodeDecodeError:
            return "invalid_utf8"

    for raw in _lines(path):
        parts.append(raw)
        size += len(raw)
        if size >= TXT_DOCUMENT_BYTES and not raw.strip():
            if count >= first:
                yield cut()
            parts, size, count = [], 0, count + 1
    if parts and count >= first:
        yield cut()


def _read_parquet(path: Path, stem: str, first: int) -> Iterator[Document | str]:
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise missing_library("pyarrow", f"to read {path.name}") from error
    number = 0
    try:
        with ParquetFile(path) as file:
            names = [n for n in ("text", *ID_KEYS, *SOURCE_KEYS) if n in file.schema_arrow.names]
            for group in range(file.num_row_groups):
                n_rows = file.metadata.row_group(group).num_rows
                if number + n_rows <= first:  # passed over unread
                    number += n_rows
                    continue
                for rows in file.iter_batches(1_024, row_groups=[group], columns=names):
                    for row in rows.to_pylist():
                        number += 1
                        if number > first:
                            yield document_of(row, f"{stem}/{number}", stem)
    except (ArrowException, OSError) as error:
        raise SourceError(
            f"{path} breaks off after row {number} ({error}); fetch the file again"
        ) from error


def _read_warc(path: Path, stem: str, first: int) -> Iterator[Document | str]:
    from x1lib.data.stages.extract import page_document, read_warc

    for number, page in enumerate(read_warc(path), 1):
        if number > first:
            yield page_document(page)


READERS: dict[str, Callable[[Path, str, int], Iterator[Document | str]]] = {
    ".jsonl": _read_jsonl,
    ".txt": _read_txt,
    ".parquet": _read_parquet,
    ".warc": _read_warc,
}


@dataclass(frozen=True)
class FileStream:
    """Documents of local files, file by file; a cursor is [file, records of it that are done].

    `part` is (s, n): only the records whose number in their file is s modulo n, for n tasks at one
    source. A record that holds no document (bad UTF-8, no JSON, no text) is counted and passed
    over; a file that cannot be unpacked raises SourceError naming it.
    """

    name: str
    files: tuple[Path, ...]
    part: tuple[int, int] = (0, 1)

    def identity(self) -> dict:
        return {"files": [file_identity(path) for path in self.files], "part": list(self.part)}

    def batches(self, cursor: list[int] | None = None) -> Iterator[Batch]:
        return batched(self._records(*(cursor or (0, 0))))

    def _records(self, first_file: int, first_record: int) -> Iterator[Record]:
        s, n = self.part
        for i, path in enumerate(self.files[first_file:], first_file):
            kind, packing = kind_of(path)
            stem = path.name.removesuffix(packing).removesuffix(kind)
            done = first_record if i == first_file else 0
            for number, record in enumerate(READERS[kind](path, stem, done), done):
                if number % n == s:
                    yield record, [i, number + 1]


def file_identity(path: Path) -> str:
    """What tells a file's content apart: its sha256; beyond 256 MiB that of size and both ends."""
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            if size <= WHOLE_BYTES:
                return hashlib.file_digest(file, "sha256").hexdigest()
            digest = hashlib.sha256(str(size).encode())
            digest.update(file.read(END_BYTES))
            file.seek(-END_BYTES, 2)
            digest.update(file.read(END_BYTES))
            return f"ends-{digest.hexdigest()}"
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror}; check the file") from error
