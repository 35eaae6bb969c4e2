"""A file server on 127.0.0.1 that follows HTTP until a test scripts it to misbehave.

It supports HEAD, Range and If-Range, and records requests and responses. It runs in a thread of the test.
"""

from __future__ import annotations

import contextlib
import gzip
import threading
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


@dataclass
class Offer:
    """A file at a path."""

    body: bytes
    etag: str | None = '"one"'
    modified: str | None = "Thu, 21 Mar 2024 15:00:00 GMT"


@dataclass(frozen=True)
class Fault:
    """How one response differs from a correct one; the default does not."""

    status: int | None = None  # respond with this status and an empty body
    headers: dict[str, str] = field(default_factory=dict)  # added to the correct ones, or replacing them
    drop_after: int | None = None  # close the connection after this many bytes of the body
    stall_after: int | None = None  # stop sending after this many bytes, and keep the connection open
    piece: int = 1 << 16  # bytes sent at a time
    pause: float = 0.0  # seconds between pieces
    ignore_range: bool = False
    ignore_if_range: bool = False
    shift: int = 0  # a 206 starts this many bytes after the requested one
    announce: int = 0  # added to Content-Length
    chunked: bool = False  # no Content-Length
    gzip: bool = False  # Content-Encoding: gzip, whatever Accept-Encoding is
    body: bytes | None = None  # sent instead of the file


@dataclass
class Seen:
    """A request, and the status and number of bytes sent."""

    method: str
    path: str
    headers: dict[str, str]
    status: int = 0
    sent: int = 0

    @property
    def range(self) -> str | None:
        return self.headers.get("Range")


class MisbehavingServer(ThreadingHTTPServer):
    """`offers` are its files; `script` sets how the next responses for a path differ from correct ones."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.offers: dict[str, Offer] = {}
        self.missing = 404
        self.seen: list[Seen] = []
        self.closing = threading.Event()
        self._scripts: dict[tuple[str, str], Iterator[Fault]] = {}

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def script(self, path: str, *faults: Fault, method: str = "GET", then: Fault | None = None) -> None:
        """Set the next responses to `method` for `path`; afterwards `then`, or correct ones."""

        def faults_in_order() -> Iterator[Fault]:
            yield from faults
            while True:
                yield then or Fault()

        self._scripts[method, path] = faults_in_order()

    def fault(self, method: str, path: str) -> Fault:
        return next(self._scripts[method, path]) if (method, path) in self._scripts else Fault()

    def requests(self, method: str, path: str | None = None) -> list[Seen]:
        """Return the requests of a method, in order."""
        return [seen for seen in self.seen if seen.method == method and path in (None, seen.path)]

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore clients that close the connection, which is tested."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: MisbehavingServer

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self) -> None:
        path = urlsplit(self.path).path
        seen = Seen(self.command, path, dict(self.headers))
        self.server.seen.append(seen)
        fault, offer = self.server.fault(self.command, path), self.server.offers.get(path)
        if fault.status or offer is None:
            seen.status = fault.status or self.server.missing
            self._head(seen.status, {"Content-Length": "0", **fault.headers})
            return
        body = offer.body if fault.body is None else fault.body
        known = {"ETag": offer.etag, "Last-Modified": offer.modified, "Accept-Ranges": "bytes"}
        headers = {name: value for name, value in known.items() if value}
        seen.status, start = 200, self._start(fault, offer)
        if start is not None:
            if start >= len(body):
                seen.status = 416
                self._head(416, {"Content-Range": f"bytes */{len(body)}", "Content-Length": "0"})
                return
            seen.status, start = 206, start + fault.shift
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
            body = body[start:]
        if fault.gzip:
            body, headers["Content-Encoding"] = gzip.compress(body), "gzip"
        if fault.chunked:
            headers["Transfer-Encoding"] = "chunked"
        else:
            headers["Content-Length"] = str(len(body) + fault.announce)
        self._head(seen.status, {**headers, **fault.headers})
        if self.command == "GET":
            self._send(seen, fault, body[: len(body) + min(0, fault.announce)])

    def _start(self, fault: Fault, offer: Offer) -> int | None:
        """Return the first byte of the requested range; None for the whole file."""
        requested = self.headers.get("Range")
        if not requested or fault.ignore_range:
            return None
        condition = self.headers.get("If-Range")
        if condition and not fault.ignore_if_range and condition not in (offer.etag, offer.modified):
            return None
        return int(requested.removeprefix("bytes=").partition("-")[0])

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _send(self, seen: Seen, fault: Fault, body: bytes) -> None:
        stop = min(cut for cut in (fault.drop_after, fault.stall_after, len(body)) if cut is not None)
        while seen.sent < stop:
            piece = body[seen.sent : min(stop, seen.sent + fault.piece)]
            self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n" if fault.chunked else piece)
            self.wfile.flush()
            seen.sent += len(piece)
            if fault.pause and self.server.closing.wait(fault.pause):
                break
        if fault.stall_after is not None:
            self.server.closing.wait(30)
        if seen.sent < len(body) or fault.announce > 0:
            self.close_connection = True
        elif fault.chunked:
            self.wfile.write(b"0\r\n\r\n")


@contextlib.contextmanager
def misbehaving_server() -> Generator[MisbehavingServer, None, None]:
    """Run a server until the block ends."""
    server = MisbehavingServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        server.server_close()
        thread.join(5)


def wait_for_bytes(server: MisbehavingServer, sent: int, seconds: float = 10) -> None:
    """Wait until the server has sent this many bytes in response to the last GET."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if (gets := server.requests("GET")) and gets[-1].sent >= sent:
            return
        time.sleep(0.01)
    raise AssertionError(f"the server did not send {sent} bytes within {seconds} s")
