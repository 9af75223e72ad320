"""Where documents come from: the embedded text by name, local files by path."""

import hashlib
import json
import lzma
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from x1lib.data.errors import SourceError

ASSETS = Path(__file__).parent / "assets"
EMBEDDED_FILES = (ASSETS / "public_domain.jsonl.xz", ASSETS / "wikipedia_intros.jsonl.xz")
SUFFIXES = (".jsonl", ".jsonl.xz", ".txt")

# The whole book is held out, so that one validation loss is on a text of which no page was seen.
HELDOUT_SOURCE = "moby-dick"
# A random 1% of the other documents is held out: those whose hash lies below this.
HELDOUT_BELOW = 2**64 // 100

# A .txt has no documents: it is cut at the first blank line after this many bytes.
TXT_DOCUMENT_BYTES = 8_192


@dataclass(frozen=True)
class Document:
    """One text with the id that decides its place and whether it is held out."""

    id: str
    source: str
    text: str


@dataclass(frozen=True)
class Source:
    """A named text; `documents()` yields it in file order, one document in memory at a time."""

    name: str
    files: tuple[Path, ...]

    def documents(self) -> Iterator[Document]:
        """Every document, the empty ones too; raises SourceError naming file and line."""
        for path in self.files:
            yield from _read_txt(path) if path.suffix == ".txt" else _read_jsonl(path)

    def fingerprint(self) -> str:
        """sha256 over the content of the files, in order: the identity of the input."""
        digest = hashlib.sha256()
        for path in self.files:
            with _opened(path) as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()


def open_source(source: str | Path) -> Source:
    """The source called "embedded", or the one at a .jsonl, .jsonl.xz or .txt path.

    A .jsonl line is an object with "text", and "id" and "source" where it has them; the id
    defaults to file name and line number. Raises SourceError saying what exists.
    """
    if str(source) == "embedded":
        return Source("embedded", EMBEDDED_FILES)
    path = Path(source).expanduser()
    if not str(path).endswith(SUFFIXES):
        raise SourceError(
            f"unknown source {str(source)!r}; give 'embedded' or the path of a file that "
            f"ends in {', '.join(SUFFIXES)}"
        )
    if not path.is_file():
        raise SourceError(f"source file {path} does not exist; check the path")
    return Source(_stem(path), (path,))


def stable_hash(text: str, purpose: bytes) -> int:
    """A 64-bit hash that is the same on every machine; `purpose` (≤ 16 bytes) separates uses."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8, person=purpose)
    return int.from_bytes(digest.digest(), "little")


def _stem(path: Path) -> str:
    return next(path.name.removesuffix(s) for s in SUFFIXES if path.name.endswith(s))


def _opened(path: Path):
    try:
        return path.open("rb")
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror}; check the file") from error


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    with _opened(path) as raw, lzma.open(raw) if path.suffix == ".xz" else raw as file:
        number = 0
        try:
            for number, line in enumerate(file, 1):
                yield number, line
        except (lzma.LZMAError, EOFError, OSError) as error:
            raise SourceError(
                f"{path} breaks off after line {number} ({error}); fetch the file again"
            ) from error


def _text(raw: bytes, path: Path, number: int) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SourceError(
            f"{path}, line {number}: not valid UTF-8 ({error.reason} at byte {error.start}); "
            "convert the file to UTF-8"
        ) from error


def _read_jsonl(path: Path) -> Iterator[Document]:
    stem = _stem(path)
    for number, raw in _lines(path):
        line = _text(raw, path, number)
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            raise SourceError(
                f"{path}, line {number}: not JSON ({error}); each line must be one object"
            ) from error
        text = record.get("text") if isinstance(record, dict) else None
        if not isinstance(text, str):
            raise SourceError(
                f'{path}, line {number}: no "text" string; each line must be an object with one'
            )
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise SourceError(
                f"{path}, line {number}: half of a surrogate pair at character {error.start}; "
                "such a text has no UTF-8 form: repair the line"
            ) from error
        name = record.get("id")
        yield Document(
            id=f"{stem}/{number}" if name is None else str(name),
            source=str(record.get("source", stem)),
            text=text,
        )


def _read_txt(path: Path) -> Iterator[Document]:
    stem = _stem(path)
    parts: list[str] = []
    size = count = 0
    for number, raw in _lines(path):
        parts.append(_text(raw, path, number))
        size += len(raw)
        if size >= TXT_DOCUMENT_BYTES and not raw.strip():
            yield Document(f"{stem}/{count}", stem, "".join(parts))
            parts, size, count = [], 0, count + 1
    if parts:
        yield Document(f"{stem}/{count}", stem, "".join(parts))
