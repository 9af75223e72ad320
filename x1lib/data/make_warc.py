"""Write the small crawl that the course learns on: `python -m x1lib.data.make_warc`.

assets/pages.warc.gz is this command's output, the same bytes on every machine. Its pages are the
hand-labelled ones and some pages of the public-domain books and speeches, set into HTML with the
menus, notices and footers that real pages have; and on purpose what a crawl is full of: a page
twice, a page that differs in a few words, an error page, a file that is no HTML, old charsets, an
empty page, a page with an address and a telephone number (invented, of ranges that reach nobody).
"""

from __future__ import annotations

import argparse
import gzip
import html
import io
import re
import uuid
from collections.abc import Iterator
from pathlib import Path

from x1lib.data.sources import ASSETS, EMBEDDED_FILES, Source
from x1lib.data.stages.quality import labelled_pages

DATE = "2026-01-01T00:00:00Z"
SITE = "http://www.example.org"
BOOK_PAGES = 24
BOOK_CHARACTERS = 2_500
HTML = "text/html; charset=utf-8"

_MENU = "".join(
    f'<li><a href="/{name.lower()}">{name}</a></li>'
    for name in ("Home", "News", "Lessons", "Shop", "About", "Contact", "Login")
)
_NOTICE = (
    '<div class="cookie-banner">This website uses cookies to ensure you get the best experience.'
    ' <a href="/cookies">Read our cookie policy</a> <button>Accept all</button></div>'
)
_ASIDE = (
    '<aside class="sidebar"><h3>Most read</h3><ul><li><a href="/1">Ten tips for spring</a></li>'
    '<li><a href="/2">What is new in town</a></li></ul><p>Subscribe to our newsletter!</p></aside>'
)
_FOOTER = (
    "<footer><p>Copyright 2026 Example. All rights reserved. <a href='/terms'>Terms of use</a> |"
    " <a href='/privacy'>Privacy policy</a> | Powered by ExampleCMS</p></footer>"
)

Response = tuple[str, int, str, bytes]  # address, status, content type, body


def page_html(title: str, text: str) -> str:
    """A page as sites have them: the text in an article, menus and notices around it.

    Blank lines part paragraphs; a text of many short lines becomes a list.
    """
    lines = text.split("\n")
    if len(lines) > 5 and sum(map(len, lines)) / len(lines) < 50:
        body = "<ul>" + "".join(f"<li>{html.escape(line)}</li>" for line in lines) + "</ul>"
    else:
        paragraphs = re.split(r"\n\s*\n", text)
        body = "".join(f"<p>{html.escape(' '.join(p.split()))}</p>\n" for p in paragraphs if p)
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}'
        "</title><script>window.dataLayer = window.dataLayer || [];</script>"
        "<style>.sidebar{float:right}</style></head>\n"
        f"<body><nav><ul>{_MENU}</ul></nav>{_NOTICE}\n<main><article><h1>{html.escape(title)}</h1>\n"
        f"{body}</article></main>\n{_ASIDE}{_FOOTER}</body></html>\n"
    )


def _book_pages() -> Iterator[tuple[str, str]]:
    """Openings of public-domain chapters and speeches, cut at a paragraph."""
    found = 0
    for i, document in enumerate(Source("books", EMBEDDED_FILES[:1]).documents()):
        if i % 25 or found == BOOK_PAGES:
            continue
        cut = document.text.rfind("\n\n", 0, BOOK_CHARACTERS)
        if cut > 500:
            found += 1
            yield re.sub(r"\W+", "-", document.id).strip("-").lower(), document.text[:cut]


def _responses() -> Iterator[Response]:
    pages = {page["id"]: page["text"] for page in labelled_pages()}
    for name, text in pages.items():
        yield f"{SITE}/{name}", 200, HTML, page_html(name.capitalize(), text).encode()
    for name, text in _book_pages():
        yield f"{SITE}/library/{name}", 200, HTML, page_html(name, text).encode()
    tides = pages["tides"]
    yield f"{SITE}/print/tides", 200, HTML, page_html("Tides", tides).encode()
    near = tides.replace("two high tides a day", "two high tides every day", 1)
    yield "http://mirror.example.net/tides", 200, HTML, page_html("Tides", near).encode()
    latin = pages["volcano"] + " The word café shows which charset a page is in."
    body = page_html("Volcano", latin).replace('<meta charset="utf-8">', "")
    yield f"{SITE}/old/volcano", 200, "text/html; charset=iso-8859-1", body.encode("latin-1")
    yield f"{SITE}/old/broken", 200, HTML, body.encode("latin-1")  # says UTF-8 and is not
    private = pages["review"] + (
        " You can reach the owner at maria@hotel.example.com or on +1 202 555 0143, and the booking"
        " page is at 203.0.113.7 or 8.8.8.8 until the new one is ready."
    )
    yield f"{SITE}/hotel", 200, HTML, page_html("Hotel", private).encode()
    yield f"{SITE}/gone", 404, HTML, page_html("Not found", pages["errorpage"]).encode()
    yield f"{SITE}/api/items", 200, "application/json", b'{"items": [1, 2, 3]}'
    yield f"{SITE}/empty", 200, HTML, page_html("", "").encode()


def _record(kind: str, address: str | None, content_type: str, block: bytes, number: int) -> bytes:
    """One WARC/1.0 record (ISO 28500), packed by itself as crawls do it."""
    name = uuid.uuid5(uuid.NAMESPACE_URL, f"x1/{number}/{address}")
    head = ["WARC/1.0", f"WARC-Type: {kind}", f"WARC-Record-ID: <urn:uuid:{name}>"]
    head += [f"WARC-Date: {DATE}"] + ([f"WARC-Target-URI: {address}"] if address else [])
    head += [f"Content-Type: {content_type}", f"Content-Length: {len(block)}", "", ""]
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as file:
        file.write("\r\n".join(head).encode() + block + b"\r\n\r\n")
    return packed.getvalue()


def warc_bytes() -> bytes:
    """The whole archive: a warcinfo record, then a request and a response for each page."""
    info = b"software: x1lib.data.make_warc\r\nformat: WARC File Format 1.0\r\n"
    records = [_record("warcinfo", None, "application/warc-fields", info, 0)]
    for number, (address, status, content_type, body) in enumerate(_responses(), 1):
        asked = f"GET {address} HTTP/1.1\r\n\r\n".encode()
        kind = "application/http; msgtype="
        records.append(_record("request", address, kind + "request", asked, 2 * number))
        head = f"HTTP/1.1 {status} {'OK' if status == 200 else 'Not Found'}\r\n"
        head += f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
        block = head.encode() + body
        records.append(_record("response", address, kind + "response", block, 2 * number + 1))
    return b"".join(records)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m x1lib.data.make_warc", description="Write the course's small crawl."
    )
    parser.add_argument(
        "--out", type=Path, default=ASSETS / "pages.warc.gz", help="file to write (.warc.gz)"
    )
    out = parser.parse_args().out
    out.write_bytes(warc_bytes())
    print(f"{out}: {out.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
