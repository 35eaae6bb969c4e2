"""A BigQuery emulator for tests, the bucket it loads from, and a proxy that records requests and injects faults.

The fixture `bigquery` is in `conftest`. The emulator is `emulators.bigquery`; where it is unavailable, tests that need it are
skipped with a reason.
"""

from __future__ import annotations

import http.client
import json
import socket
import struct
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests

from taxi_assets.core.month_file import MonthFile
from taxi_assets.sinks.bigquery.io_manager import BigQueryIOManager
from taxi_assets_tests.emulators import bigquery as emulator
from taxi_assets_tests.emulators.storage import command as storage_command
from taxi_assets_tests.processes import free_port, until

PROJECT, BUCKET = "taxi-test", "taxi-test-bucket"


class BigQueryServer:
    """The emulator and its bucket, as processes that can be killed and started again on the same data and port.

    `storage` is the address of a Cloud Storage emulator to load from; without it, one with BUCKET is started.
    """

    def __init__(self, folder: Path, storage: str | None = None) -> None:
        self._folder = folder
        self._port, self._grpc_port, storage_port = free_port(), free_port(), free_port()
        self.endpoint = f"http://127.0.0.1:{self._port}"
        self.storage = storage or f"http://127.0.0.1:{storage_port}"
        self._process: subprocess.Popen | None = None
        self._storage_process = None if storage else self._start_storage(storage_port)
        self.start()

    def start(self) -> None:
        """Start the emulator, and wait until it answers."""
        command = emulator.command(self._port, self._grpc_port, self._folder / "data")
        with (self._folder / "bigquery.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, env=emulator.environment(self.storage), stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        until(lambda: self._answers(f"{self.endpoint}/bigquery/v2/projects"), 60, "the BigQuery emulator")

    def kill(self) -> None:
        """As by kill -9."""
        self._process.kill()
        self._process.wait(10)

    def stop(self) -> None:
        """End the servers, at once: they would wait for the connections of clients that tests have killed."""
        for process in filter(None, (self._process, self._storage_process)):
            process.kill()
            process.wait(10)

    def upload(self, trips: MonthFile) -> MonthFile:
        """Put the month into the bucket under the name of its month, as the generation after the last."""
        name = f"nyc_taxi_data/{trips.month}-{uuid.uuid4().hex[:6]}.parquet"
        answer = requests.post(
            f"{self.storage}/upload/storage/v1/b/{BUCKET}/o",
            params={"uploadType": "media", "name": name},
            data=trips.path.read_bytes(),
            timeout=60,
        )
        answer.raise_for_status()
        generation = int(answer.json()["generation"])
        return MonthFile(trips.path, trips.month, uri=f"gs://{BUCKET}/{name}", generation=generation)

    def delete_datasets(self) -> None:
        """Delete all datasets with their tables, but not the emulator's default one."""
        datasets = f"{self.endpoint}/bigquery/v2/projects/{PROJECT}/datasets"
        for each in requests.get(datasets, timeout=60).json().get("datasets", []):
            if (name := each["datasetReference"]["datasetId"]) != "local":
                requests.delete(f"{datasets}/{name}", params={"deleteContents": "true"}, timeout=60).raise_for_status()

    def _start_storage(self, port: int) -> subprocess.Popen:
        root = self._folder / "storage"
        (root / BUCKET).mkdir(parents=True)
        command = storage_command(root, port)
        with (self._folder / "storage.log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        until(lambda: self._answers(f"{self.storage}/_internal/healthcheck"), 20, "the storage emulator")
        return process

    @staticmethod
    def _answers(url: str) -> bool:
        with suppress(requests.RequestException):
            return requests.get(url, timeout=5).status_code < 500
        return False


@contextmanager
def bigquery_server(folder: Path, storage: str | None = None) -> Iterator[BigQueryServer]:
    """A separate server for a test that stops it; skips the test where the emulator is unavailable."""
    try:
        emulator.prepare()
    except emulator.Unavailable as reason:
        pytest.skip(str(reason))
    server = BigQueryServer(folder, storage)
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def bigquery_of_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BigQueryServer]:
    with bigquery_server(tmp_path_factory.mktemp("bigquery")) as server:
        yield server


@pytest.fixture
def bigquery(bigquery_of_session: BigQueryServer) -> Iterator[BigQueryServer]:
    """The emulator, for datasets of the test's own, which are deleted: it gets slower with every one that it has."""
    yield bigquery_of_session
    bigquery_of_session.delete_datasets()


def bigquery_sink(endpoint: str, dataset: str | None = None, **options: Any) -> BigQueryIOManager:
    """The sink at `endpoint`, in its own dataset."""
    options = {"retry_seconds": 10.0, "job_seconds": 60.0} | options
    return BigQueryIOManager(
        project=PROJECT, dataset=dataset or f"taxi_{uuid.uuid4().hex[:8]}", api_endpoint=endpoint, **options
    )


@dataclass
class Request:
    """A request that went over the wire."""

    method: str
    path: str
    body: dict[str, Any]


@dataclass
class Wire:
    """A proxy in front of the emulator: records every request, and injects the faults that `disturb` returns.

    `disturb` is called with each request and returns `None`, a status and BigQuery's reason like `(503, "backendError")`,
    `"reset"` (the request is not passed on), `"lost"` (it is passed on, and the response is lost), or a function that
    changes the JSON of the response.
    """

    endpoint: str
    requests: list[Request] = field(default_factory=list)
    disturb: Callable[[Request], Any] = field(default=lambda request: None)
    lose: Callable[[], bool] = field(default=lambda: False)
    """Whether a response that has just come from the emulator is lost."""

    def sent(self, method: str, ending: str) -> list[Request]:
        """The requests of that method whose path, without its query, ends so."""
        return [r for r in self.requests if r.method == method and r.path.split("?")[0].endswith(ending)]


@contextmanager
def wire_to(endpoint: str) -> Iterator[Wire]:
    """Put a wire in front of `endpoint`."""
    target = endpoint.removeprefix("http://")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            is_json = body and "json" in self.headers.get("Content-Type", "")  # and no upload
            request = Request(self.command, self.path, json.loads(body) if is_json else {})
            wire.requests.append(request)
            trouble = wire.disturb(request)
            if trouble == "reset":
                return self.reset()
            if isinstance(trouble, tuple):
                status, reason = trouble
                error = {"code": status, "message": "disturbed", "errors": [{"reason": reason, "message": "disturbed"}]}
                return self.answer(status, {"Content-Type": "application/json"}, json.dumps({"error": error}).encode())
            connection = http.client.HTTPConnection(target, timeout=60)
            try:
                connection.request(self.command, self.path, body, {**self.headers, "Connection": "close"})
                answer = connection.getresponse()
                content = answer.read()
            except OSError:
                return self.reset()
            finally:
                connection.close()
            if trouble == "lost" or wire.lose():
                return self.reset()
            if callable(trouble):
                content = json.dumps(trouble(json.loads(content))).encode()
            return self.answer(answer.status, dict(answer.getheaders()), content)

        def answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
            with suppress(OSError):  # the client was killed
                self.send_response(status)
                for name, value in headers.items():
                    if name.lower() not in ("content-length", "transfer-encoding", "connection", "server", "date"):
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        def reset(self) -> None:
            """Close so that the client sees a reset."""
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = pass_on

        def log_message(self, *_: object) -> None:
            pass

        def finish(self) -> None:
            with suppress(OSError):
                super().finish()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    wire = Wire(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield wire
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
