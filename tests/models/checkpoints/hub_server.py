"""A server on this machine that speaks as much of the Hub's interface as a download needs."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class HubServer(ThreadingHTTPServer):
    """Serves the files of ``folder`` as one repository.

    Attributes:
        status: Answer with this instead, when not 200.
        error_code: What the Hub's own header calls the error.
        cut_after: Break the first download of a file after this many bytes.
        ranges: Starts of the ranges that were asked for.
        tokens: Tokens that were sent.
    """

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.status, self.error_code = 200, ""
        self.cut_after: int | None = None
        self.ranges: list[int] = []
        self.tokens: set[str] = set()
        self.paths: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format, *args):  # noqa: A002 - the base class calls it so
        pass

    def do_HEAD(self):
        self._answer(has_body=False)

    def do_GET(self):
        self._answer(has_body=True)

    def _answer(self, *, has_body):
        server, path = self.server, unquote(urlsplit(self.path).path)
        server.paths.append(path)
        if token := self.headers.get("authorization"):
            server.tokens.add(token.removeprefix("Bearer "))
        if server.status != 200:
            self._send(server.status, b"{}", {"X-Error-Code": server.error_code}, has_body)
        elif path.startswith("/api/"):
            self._send(200, self._listing(path), {"Content-Type": "application/json"}, has_body)
        else:
            self._send_file(server.folder / path.split(f"/resolve/{COMMIT}/")[-1], has_body)

    def _listing(self, path):
        names = sorted(p.name for p in self.server.folder.iterdir())
        files = [
            {
                "type": "file",
                "path": name,
                "rfilename": name,
                "size": (self.server.folder / name).stat().st_size,
                "oid": _digest(self.server.folder / name),
            }
            for name in names
        ]
        if "/tree/" in path:
            return json.dumps(files).encode()
        return json.dumps({"id": "facebook/x", "sha": COMMIT, "siblings": files}).encode()

    def _send_file(self, file, has_body):
        if not file.is_file():
            self._send(404, b"", {"X-Error-Code": "EntryNotFound"}, has_body)
            return
        content = file.read_bytes()
        headers = {
            "ETag": f'"{_digest(file)}"',
            "X-Repo-Commit": COMMIT,
            "Accept-Ranges": "bytes",
        }
        wanted = self.headers.get("range", "")
        if has_body and wanted.startswith("bytes="):
            start = int(wanted.removeprefix("bytes=").split("-")[0])
            self.server.ranges.append(start)
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            self._send(206, content[start:], headers, has_body)
        else:
            self._send(200, content, headers, has_body)

    def _send(self, status, body, headers, has_body):
        cut = self.server.cut_after
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if not has_body:
            return
        if cut is not None and len(body) > cut:
            self.server.cut_after = None
            self.wfile.write(body[:cut])
            self.close_connection = True
        else:
            self.wfile.write(body)


def _digest(file):
    return hashlib.sha1(file.read_bytes(), usedforsecurity=False).hexdigest()


@contextmanager
def serving(folder: Path) -> Iterator[HubServer]:
    """Serve a folder until the block ends."""
    with HubServer(folder) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
