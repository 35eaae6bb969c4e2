"""Sources in buckets: Google Cloud Storage over the emulator, S3 over a small server of its protocol."""

import hashlib
import threading
import urllib.parse
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from xml.sax.saxutils import escape

import pytest
from google.cloud import storage

from taxi_assets.core.errors import PermanentError, TransientError
from taxi_assets.core.month import Month
from taxi_assets.datasets.schema import YELLOW
from taxi_assets.publisher.source import trip_source
from taxi_assets_tests.gcs_fixtures import GcsServer
from taxi_assets_tests.published_files import HEADER, MONTH, ROW, parquet, read

CSV = f"{HEADER}\n{ROW}\n".encode()


class S3(ThreadingHTTPServer):
    """Objects by `bucket/name`, read by the requests that pyarrow sends; `status` refuses all of them."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _S3Handler)
        self.objects: dict[str, bytes] = {}
        self.status = 0


class _S3Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: S3

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        parts = urllib.parse.urlsplit(self.path)
        name, query = urllib.parse.unquote(parts.path).lstrip("/"), urllib.parse.parse_qs(parts.query)
        if self.server.status:
            code = {403: "AccessDenied", 503: "SlowDown"}[self.server.status]
            self._send(self.server.status, f"<Error><Code>{code}</Code></Error>".encode())
        elif "list-type" in query:
            prefix = f"{name.strip('/')}/{query.get('prefix', [''])[0]}"
            found = sorted(each for each in self.server.objects if each.startswith(prefix))
            entries = "".join(
                f"<Contents><Key>{escape(each.partition('/')[2])}</Key><Size>{len(self.server.objects[each])}</Size>"
                "<LastModified>2026-01-02T03:04:05.000Z</LastModified></Contents>"
                for each in found
            )
            head = f"<IsTruncated>false</IsTruncated><KeyCount>{len(found)}</KeyCount>"
            self._send(200, f"<ListBucketResult>{head}{entries}</ListBucketResult>".encode())
        elif (body := self.server.objects.get(name)) is None:
            self._send(404, b"<Error><Code>NoSuchKey</Code></Error>")
        else:
            span = self.headers.get("Range", "")
            start, end = (int(each) for each in span.removeprefix("bytes=").split("-")) if span else (0, len(body) - 1)
            tag = {"ETag": f'"{hashlib.md5(body).hexdigest()}"', "Last-Modified": "Fri, 02 Jan 2026 03:04:05 GMT"}
            self._send(206 if span else 200, body[start : end + 1], tag)

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {
            **(headers or {}),
            "Content-Length": str(len(body)),
            "Content-Type": "application/xml",
        }.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


class Store:
    """A bucket of either kind: `address` and how objects get there."""

    def __init__(self, address: str, put) -> None:
        self.address, self.put = address, put


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    server = S3()
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    settings = {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(params=["gs", "s3"])
def store(request: pytest.FixtureRequest) -> Store:
    if request.param == "s3":
        server: S3 = request.getfixturevalue("s3")
        return Store("s3://trips", lambda name, content: server.objects.__setitem__(f"trips/{name}", content))
    emulator: GcsServer = request.getfixturevalue("gcs")
    bucket = storage.Client(project="test").bucket(emulator.new_bucket())
    return Store(f"gs://{bucket.name}", lambda name, content: bucket.blob(name).upload_from_string(content))


def test_an_object_is_copied_once_and_again_when_it_changes(store: Store, tmp_path: Path) -> None:
    source = trip_source(f"{store.address}/a b/{{year}}/{{month_number}}-{{kind}} é.csv", 10, Path("/"))
    assert source.probe(YELLOW, MONTH) is None
    store.put("a b/2019/06-yellow é.csv", CSV)
    published = source.probe(YELLOW, MONTH)
    assert published is not None
    assert (published.size, published.location) == (len(CSV), f"{store.address}/a b/2019/06-yellow é.csv")
    steps: list[tuple[int, int | None]] = []
    first = source.fetch(YELLOW, MONTH, tmp_path, lambda done, total: steps.append((done, total)))
    assert first.path.read_bytes() == CSV
    assert first.sha256 == hashlib.sha256(CSV).hexdigest()
    assert steps[-1] == (len(CSV), len(CSV))
    second = source.fetch(YELLOW, MONTH, tmp_path)
    assert (first.downloaded, second.downloaded) == (True, False)
    store.put("a b/2019/06-yellow é.csv", CSV + ROW.encode())
    third = source.fetch(YELLOW, MONTH, tmp_path)
    assert third.downloaded
    assert third.published.version != published.version
    assert read(third.path).num_rows == 2


def test_a_folder_of_parts_is_copied_and_read_as_one_file(store: Store, tmp_path: Path) -> None:
    part = parquet(tmp_path / "a.parquet")
    for name in ("part-0.parquet", "part-1.parquet", "sub/part-2.parquet"):
        store.put(f"2019-06/{name}", part)
    store.put("2019-06/_SUCCESS", b"x")
    source = trip_source(f"{store.address}/{{month}}", 10, Path("/"))
    fetched = source.fetch(YELLOW, MONTH, tmp_path / "downloads")
    assert read(fetched.path).num_rows == 3
    assert fetched.size == 3 * len(part)
    store.put("2019-06/part-1.parquet", part + part[:0])
    assert source.fetch(YELLOW, MONTH, tmp_path / "downloads").sha256 == fetched.sha256


def test_a_month_that_is_not_there_is_named(store: Store, tmp_path: Path) -> None:
    source = trip_source(f"{store.address}/{{month}}.csv", 10, Path("/"))
    with pytest.raises(
        PermanentError, match=rf"^yellow 2019-06 is not published at {store.address}/2019-06\.csv; check"
    ):
        source.fetch(YELLOW, MONTH, tmp_path)
    assert source.probe(YELLOW, Month(1999, 1)) is None


def test_a_store_that_refuses_or_is_down_is_one_sentence_without_secrets(s3: S3, tmp_path: Path) -> None:
    source = trip_source("s3://trips/{month}.csv", 10, Path("/"))
    s3.status = 403
    with pytest.raises(
        PermanentError, match=r"^yellow 2019-06: s3://trips/2019-06\.csv cannot be read .*; check TAXI_SOURCE"
    ) as refusal:
        source.fetch(YELLOW, MONTH, tmp_path)
    assert "secret" not in str(refusal.value)
    assert "\n" not in str(refusal.value)
    s3.status = 503
    with pytest.raises(TransientError, match=r"cannot be read .*; run it again later"):
        source.probe(YELLOW, MONTH)


def test_an_address_with_a_password_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match="has no user or password") as refusal:
        trip_source("s3://key:secret@trips/{month}.csv", 10, tmp_path)
    assert "secret" not in str(refusal.value)
