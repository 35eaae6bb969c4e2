"""Google Cloud Storage as a bucket, over the wire: what is sent, what is retried, and what is said when it fails."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from taxi_assets.core.errors import PermanentError, TransientError
from taxi_assets.sinks.storage import gcs_bucket
from taxi_assets.sinks.storage.bucket import PreconditionFailed
from taxi_assets.sinks.storage.buckets import open_bucket
from taxi_assets_tests.bucket_fixtures import NAME, names, read
from taxi_assets_tests.gcs_fixtures import GcsServer, Request

pytest_plugins = ["taxi_assets_tests.gcs_fixtures", "taxi_assets_tests.bucket_fixtures"]


def test_metadata_and_content_type_are_kept_by_google(gcs: GcsServer, file) -> None:
    bucket = open_bucket(f"gs://{gcs.new_bucket()}")
    bucket.put(NAME, file(b"123456789"), metadata={"rows": "5"}, content_type="application/vnd.apache.parquet")
    assert bucket.stat(NAME).metadata == {"rows": "5"}
    assert bucket._bucket.get_blob(NAME).crc32c == "4waSgw=="  # E3069283, the check value in RFC 3720's terms
    assert bucket.uri(NAME) == f"gs://{bucket._bucket.name}/{NAME}"


@pytest.mark.parametrize("size", [5, 20 << 20])
def test_every_change_at_google_carries_its_condition_and_every_upload_its_checksum(
    gcs: GcsServer, file, size: int
) -> None:
    """At the level of HTTP, as the emulator ignores conditions on large (resumable) uploads and on deletes."""
    bucket = open_bucket(f"gs://{gcs.new_bucket()}")
    gcs.requests.clear()
    first = bucket.put(NAME, file(bytes(size)), if_generation=0)
    second = bucket.put(NAME, file(bytes(size)), if_generation=first.generation)
    bucket.delete(NAME, if_generation=second.generation)
    starts = [request for request in gcs.requests if request.method in ("POST", "DELETE")]
    expected = ["0", str(first.generation), str(second.generation)]
    assert [request.query.get("ifGenerationMatch") for request in starts] == expected
    kind = "multipart" if size < 8 << 20 else "resumable"
    assert [request.query.get("uploadType") for request in starts] == [kind, kind, None]
    chunks = [request for request in gcs.requests if request.method == "PUT"]
    assert len(chunks) == (0 if kind == "multipart" else 2 * 3)
    assert all(int(chunk.headers["content-length"]) <= gcs_bucket.UPLOAD_CHUNK for chunk in chunks)


def test_a_large_upload_loses_against_a_faster_writer(gcs: GcsServer, file) -> None:
    """The tests' gate checks this condition, as the emulator ignores it on resumable uploads."""
    bucket = open_bucket(f"gs://{gcs.new_bucket()}")
    small, large, faster = file(b"faster"), file(bytes(20 << 20)), threading.Event()

    def overtake(request: Request) -> None:
        if request.method == "PUT" and not faster.is_set():
            faster.set()
            bucket.put(NAME, small, if_generation=0)

    gcs.disturb = overtake
    with pytest.raises(PreconditionFailed):
        bucket.put(NAME, large, if_generation=0)
    assert read(bucket, NAME) == b"faster"


def test_bytes_damaged_on_the_way_back_are_noticed(gcs: GcsServer, file, tmp_path: Path) -> None:
    name = gcs.new_bucket()
    bucket = open_bucket(f"gs://{name}")
    bucket.put(NAME, file(b"trips of January"))
    (gcs.folder / name / NAME).write_bytes(b"trips of Januarz")
    with pytest.raises(TransientError, match=r"2021-01.parquet: bytes were damaged on the way \(wrong CRC32C\)"):
        bucket.download(NAME, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_a_busy_or_resetting_server_is_asked_again(gcs: GcsServer, file) -> None:
    bucket = open_bucket(f"gs://{gcs.new_bucket()}")
    faults = iter(["503", "reset", None] * 20)
    gcs.disturb = lambda request: next(faults)
    first = bucket.put(NAME, file(b"first"), if_generation=0)
    bucket.put(NAME, file(b"second"), if_generation=first.generation)
    assert read(bucket, NAME) == b"second"
    assert names(bucket) == [NAME]


def test_an_unconditional_change_is_not_sent_twice(gcs: GcsServer, file) -> None:
    bucket = open_bucket(f"gs://{gcs.new_bucket()}")
    gcs.disturb = lambda request: "503" if request.is_change else None
    gcs.requests.clear()
    with pytest.raises(TransientError, match="is not available"):
        bucket.put(NAME, file(b"x"))
    assert len([request for request in gcs.requests if request.is_change]) == 1


def test_a_missing_bucket_is_said_in_a_sentence(gcs: GcsServer, file) -> None:
    bucket = open_bucket("gs://no-such-bucket")
    with pytest.raises(PermanentError, match="gs://no-such-bucket does not exist; create it, or correct TAXI_BUCKET"):
        bucket.put(NAME, file(b"x"), if_generation=0)


@pytest.mark.parametrize(("fault", "sentence"), [("503", "is not available"), ("reset", "cannot be reached")])
def test_a_server_that_stays_away_is_said_in_a_sentence(
    gcs: GcsServer, file, monkeypatch: pytest.MonkeyPatch, fault: str, sentence: str
) -> None:
    monkeypatch.setattr(gcs_bucket, "PATIENCE", 1.0)
    name = gcs.new_bucket()
    bucket = open_bucket(f"gs://{name}")
    gcs.disturb = lambda request: fault
    for work in (
        lambda: bucket.put(NAME, file(b"x"), if_generation=0),
        lambda: bucket.stat(NAME),
        lambda: names(bucket),
        lambda: bucket.delete(NAME, if_generation=1),
        lambda: read(bucket, NAME, 1),
    ):
        with pytest.raises(TransientError, match=f"gs://{name} {sentence}.*run it again"):
            work()


def test_a_key_file_that_is_none_is_refused_without_quoting_it(file, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    key = file(b'{"private_key": "very secret"}')
    with pytest.raises(PermanentError, match=r"not a readable service account key .*TAXI_GCP_KEY_FILE") as told:
        open_bucket("gs://name", key)
    assert "very secret" not in str(told.value)
    assert told.value.__suppress_context__


def test_no_credentials_at_all_are_said_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    with pytest.raises(
        PermanentError, match=r"gs://name needs credentials .*gcloud auth application-default login.* TAXI_GCP_KEY_FILE"
    ):
        open_bucket("gs://name")
