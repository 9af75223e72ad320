"""From a crawl's archive to text: WARC records (ISO 28500) and the main text of a page's HTML."""

from __future__ import annotations

import gzip
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from x1lib.data.errors import SourceError, missing_library
from x1lib.data.sources import Document
from x1lib.data.stages.chain import Count, n_utf8_bytes

# A page larger than this is a dump, a data file or an attack; CommonCrawl cuts at 1 MiB itself
# (5 MiB since CC-MAIN-2025-13).
MAX_HTML_BYTES = 5 * 2**20
HTML_TYPES = ("text/html", "application/xhtml+xml")


@dataclass(frozen=True)
class Page:
    """One response of a crawl: HTTP status, media type, the HTML as bytes."""

    url: str
    date: str
    status: int
    media_type: str
    charset: str | None
    html: bytes


class _Gzip(gzip.GzipFile):
    """A packed file whose early end is an OSError: the library takes EOFError for a good end."""

    def read(self, size=-1):
        try:
            return super().read(size)
        except EOFError as error:
            raise OSError(str(error)) from error


def read_warc(path: str | Path) -> Iterator[Page]:
    """The responses in a .warc or .warc.gz file, in file order; other records are passed over.

    Raises SourceError naming the file and the record where the archive breaks off.
    """
    try:
        from warcio.archiveiterator import ArchiveIterator
    except ImportError as error:
        raise missing_library("warcio", "to read WARC files") from error
    path = Path(path)
    n = 0
    try:
        # unpacked by Python, which tells a cut member from a whole one; the library does not
        with _Gzip(path) if path.suffix == ".gz" else path.open("rb") as file:
            for record in ArchiveIterator(file):
                n += 1
                if record.rec_type != "response" or record.http_headers is None:
                    continue
                headers = record.rec_headers
                content_type = record.http_headers.get_header("Content-Type") or ""
                media_type, _, rest = content_type.partition(";")
                charset = rest.partition("charset=")[2].strip().strip('"') or None
                html = record.content_stream().read(MAX_HTML_BYTES + 1)
                # the library takes a record that is cut short for one that ends
                if len(html) <= MAX_HTML_BYTES and getattr(record.raw_stream, "limit", 0):
                    raise EOFError("the file ends inside a record")
                yield Page(
                    url=headers.get_header("WARC-Target-URI") or "",
                    date=headers.get_header("WARC-Date") or "",
                    status=int(record.http_headers.get_statuscode() or 0),
                    media_type=media_type.strip().lower(),
                    charset=charset,
                    html=html,
                )
    except Exception as error:  # a damaged record fails in the library in many ways
        raise SourceError(
            f"{path} breaks off after record {n} ({error}); fetch the file again"
        ) from error
    if not n:
        raise SourceError(f"{path} holds no WARC record; give a .warc or .warc.gz file")


def decoded(page: Page) -> str | None:
    """A page's HTML as text: by the charset it names, else as UTF-8; None where neither fits."""
    for charset in (page.charset, "utf-8"):
        if charset:
            try:
                return page.html.decode(charset)
            except (LookupError, UnicodeDecodeError):
                continue
    return None


def main_text(html: str) -> str | None:
    """The main text of a page, its menus, notices and footers left out; None where there is none.

    By trafilatura (Barbaresi 2021), which FineWeb used as well. Raises DataError without it.
    """
    try:
        from trafilatura import extract
    except ImportError as error:
        raise missing_library("trafilatura", "to take the text out of HTML") from error
    logging.getLogger("trafilatura").setLevel(logging.CRITICAL)  # it logs each empty page
    return extract(html, include_comments=False, include_tables=False, favor_precision=True)


def page_document(page: Page) -> Document | str:
    """The document of a page, its address as id, or the reason why there is none."""
    if page.status != 200:
        return f"status_{page.status}"
    if page.media_type not in HTML_TYPES:
        return "not_html"
    if len(page.html) > MAX_HTML_BYTES:
        return "html_too_large"
    html = decoded(page)
    if html is None:
        return "charset_unknown"
    text = main_text(html)
    if not text or not text.strip():
        return "no_main_text"
    return Document(id=page.url, source="warc", text=text)


def documents_of(path: str | Path, count: Count | None = None) -> Iterator[Document]:
    """The documents in a WARC file; `count` takes what went in and why a page gave none."""
    count = Count() if count is None else count
    for page in read_warc(path):
        document = page_document(page)
        if isinstance(document, str):
            count.see(len(page.html), None, document)
        else:
            count.see(len(page.html), n_utf8_bytes(document.text))
            yield document
