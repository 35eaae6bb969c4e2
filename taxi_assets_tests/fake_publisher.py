"""A publisher on this machine, over real HTTP: tests publish, replace, withdraw and fail months."""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections import Counter
from collections.abc import Generator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from taxi_assets.core.month import Month
from taxi_assets.datasets.schema import YELLOW, TaxiKind
from taxi_assets.publisher.sample import write_sample


class FakePublisher:
    """Serves published months, with an ETag that changes with the content; anything else is 404."""

    def __init__(self, folder: Path, port: int) -> None:
        self._folder, self.port = folder, port
        self._files: dict[str, tuple[bytes, str, float]] = {}
        self._failures: Counter[tuple[str, str]] = Counter()
        self.requests: Counter[tuple[str, str]] = Counter()
        self.down = False

    @property
    def source(self) -> str:
        """The value of TAXI_SOURCE."""
        return f"http://127.0.0.1:{self.port}/{{kind}}_tripdata_{{month}}.csv.gz"

    def publish(
        self, month: str, rows: int = 300, variant: int = 0, kind: TaxiKind = YELLOW, days_ago: float = 0
    ) -> None:
        """Publish or republish a month."""
        path = self._folder / f"{kind.name}-{month}-{rows}-{variant}.csv.gz"
        write_sample(path, kind, Month.parse(month), rows, variant=variant)
        content = path.read_bytes()
        etag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
        self._files[self._path(month, kind)] = (content, etag, time.time() - days_ago * 86400)

    def publish_page(self, month: str) -> None:
        """Publish a web page under the month's name."""
        self._files[self._path(month, YELLOW)] = (b"<html>We will be right back.</html>", '"page"', time.time())

    def withdraw(self, month: str, kind: TaxiKind = YELLOW) -> None:
        """Remove a month."""
        self._files.pop(self._path(month, kind), None)

    def fail(self, month: str, times: int, method: str = "GET") -> None:
        """Answer the next requests for a month with 503."""
        self._failures[(method, self._path(month, YELLOW))] = times

    def asked(self, month: str, method: str = "GET") -> int:
        """Return the number of requests for a month."""
        return self.requests[(method, self._path(month, YELLOW))]

    @staticmethod
    def _path(month: str, kind: TaxiKind) -> str:
        return f"/{kind.name}_tripdata_{month}.csv.gz"

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Answer a request as the publisher would."""
        method, path = request.command, request.path
        self.requests[(method, path)] += 1
        if self.down or self._failures[(method, path)] > 0:
            self._failures[(method, path)] -= 1
            return request.send_error(503)
        if path not in self._files:
            return request.send_error(404)
        content, etag, modified = self._files[path]
        request.send_response(200)
        request.send_header("Content-Length", str(len(content)))
        request.send_header("ETag", etag)
        request.send_header("Last-Modified", formatdate(modified, usegmt=True))
        request.end_headers()
        if method == "GET":
            request.wfile.write(content)
        return None


@contextlib.contextmanager
def fake_publisher(folder: Path) -> Generator[FakePublisher, None, None]:
    """Run a publisher without months on a free port until the block ends."""
    folder.mkdir(parents=True, exist_ok=True)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            publisher.answer(self)

        do_HEAD = do_GET

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    publisher = FakePublisher(folder, server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield publisher
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
