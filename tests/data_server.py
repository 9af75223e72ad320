"""A local HTTP server that drops connections: plain files, and what is asked of the Hub."""

import json
import re
import socket
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

SHA = "0123456789abcdef0123456789abcdef01234567"


class Server(ThreadingHTTPServer):
    """Serves `files` by path; the next `drops` bodies over 1 kB break off in the middle."""

    daemon_threads = True

    def __init__(self, files: dict[str, bytes], repository: str | None = None):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.repository, self.drops, self.dropped = files, repository, 0, 0
        self.address = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request, client_address):
        """A reader that went away is part of the test."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def do_HEAD(self):
        self.do_GET(body=False)

    def do_GET(self, body=True):
        path = unquote(self.path.partition("?")[0])
        if self.server.repository and path.startswith(f"/api/datasets/{self.server.repository}"):
            return self.answer(json.dumps(self.described(path)).encode(), body)
        if found := re.match(r"/datasets/.*?/resolve/[^/]+/(.*)", path):
            path = "/" + found[1]
        data = self.server.files.get(path)
        if data is None:
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        return self.answer(data, body)

    def described(self, path):
        """The Hub's description of the data set, or a listing of one of its folders."""
        names = [name.strip("/") for name in self.server.files]
        if found := re.search(r"/tree/[^/]+/?(.*)", path):
            inside = [n for n in names if n.startswith(found[1])]
            folders = sorted({n.split("/")[0] for n in inside if "/" in n} - {found[1]})
            listed = [{"type": "directory", "path": f, "size": 0, "oid": SHA} for f in folders]
            return listed + [
                {"type": "file", "path": n, "size": len(self.server.files["/" + n]), "oid": SHA}
                for n in inside
                if "/" not in n[len(found[1]) :].strip("/")
            ]
        return {
            "id": self.server.repository,
            "sha": SHA,
            "private": False,
            "gated": False,
            "disabled": False,
            "tags": [],
            "downloads": 0,
            "likes": 0,
            "siblings": [{"rfilename": name} for name in names],
        }

    def answer(self, data, body):
        first, last = 0, len(data) - 1
        if asked := self.headers.get("Range"):
            a, b = asked.split("=")[1].split("-")
            first, last = int(a or 0), min(last, int(b) if b else last)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(last - first + 1))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", '"one"')
        self.send_header("X-Repo-Commit", SHA)
        self.end_headers()
        part = data[first : last + 1]
        if not body:
            return
        if self.server.drops and len(part) > 1_000:
            self.server.drops -= 1
            self.server.dropped += 1
            self.wfile.write(part[: len(part) // 2])
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        self.wfile.write(part)


@contextmanager
def serving(files, repository=None):
    """A running Server, closed afterwards."""
    server = Server(files, repository)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
