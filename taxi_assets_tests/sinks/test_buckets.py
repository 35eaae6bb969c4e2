"""A bucket replaces objects whole and on a condition: a directory and Google Cloud Storage alike."""

from __future__ import annotations

import multiprocessing
import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from taxi_assets.errors import PermanentError, TransientError
from taxi_assets.services import buckets, gcs_bucket
from taxi_assets.services.buckets import Bucket, LocalBucket, ObjectMissing, PreconditionFailed, open_bucket

if TYPE_CHECKING:
    from taxi_assets_tests.gcs_fixtures import GcsServer, Request

pytest_plugins = ["taxi_assets_tests.gcs_fixtures"]

NAME = "nyc_taxi_data/yellow_tripdata_2021-01.parquet"


@pytest.fixture
def bucket(location: str) -> Bucket:
    return open_bucket(location)


@pytest.fixture
def file(tmp_path: Path):
    """A local file with these bytes."""

    def write(content: bytes) -> Path:
        path = tmp_path / f"{random.getrandbits(64):x}.bin"
        path.write_bytes(content)
        return path

    return write


def read(bucket: Bucket, name: str, generation: int | None = None) -> bytes:
    with bucket.open(name, generation) as reader:
        return reader.read()


def names(bucket: Bucket, prefix: str = "") -> list[str]:
    return [found.name for found in bucket.list(prefix)]


def test_an_object_is_what_was_put(bucket: Bucket, file, tmp_path: Path) -> None:
    put = bucket.put(NAME, file(b"trips"), if_generation=0)
    assert bucket.stat(NAME) == put
    assert put.size == 5
    assert read(bucket, NAME) == b"trips"
    bucket.download(NAME, tmp_path / "copy", put.generation)
    assert (tmp_path / "copy").read_bytes() == b"trips"


def test_a_replacement_has_another_generation_even_with_the_same_bytes(bucket: Bucket, file) -> None:
    generations = [bucket.put(NAME, file(b"trips")).generation for _ in range(20)]
    assert len(set(generations)) == 20
    assert 0 not in generations


def test_a_put_on_a_stale_condition_fails_and_changes_nothing(bucket: Bucket, file) -> None:
    first = bucket.put(NAME, file(b"first"), if_generation=0)
    second = bucket.put(NAME, file(b"second"), if_generation=first.generation)
    for stale in (0, first.generation):
        with pytest.raises(PreconditionFailed):
            bucket.put(NAME, file(b"late"), if_generation=stale)
    assert bucket.stat(NAME) == second
    assert read(bucket, NAME) == b"second"


def test_a_put_on_a_vanished_object_fails(bucket: Bucket, file) -> None:
    gone = bucket.put(NAME, file(b"first"))
    bucket.delete(NAME, if_generation=gone.generation)
    assert bucket.stat(NAME) is None
    with pytest.raises(PreconditionFailed):
        bucket.put(NAME, file(b"late"), if_generation=gone.generation)
    assert bucket.stat(NAME) is None


def test_a_delete_on_a_stale_condition_fails_and_changes_nothing(bucket: Bucket, file) -> None:
    """Over the wire this condition is checked by the tests' gate, as the emulator ignores it."""
    first = bucket.put(NAME, file(b"first"))
    bucket.put(NAME, file(b"second"))
    with pytest.raises(PreconditionFailed):
        bucket.delete(NAME, if_generation=first.generation)
    assert read(bucket, NAME) == b"second"


def test_deleting_nothing_is_no_error(bucket: Bucket) -> None:
    bucket.delete(NAME)
    bucket.delete(NAME, if_generation=1)


def test_a_generation_that_was_replaced_cannot_be_read(bucket: Bucket, file, tmp_path: Path) -> None:
    first = bucket.put(NAME, file(b"first"))
    bucket.put(NAME, file(b"second"))
    with pytest.raises(ObjectMissing):
        bucket.download(NAME, tmp_path / "copy", first.generation)
    assert not (tmp_path / "copy").exists()
    with pytest.raises(ObjectMissing):
        read(bucket, NAME, first.generation)
    with pytest.raises(ObjectMissing):
        read(bucket, "no/such/object")


def test_a_reader_in_the_middle_of_an_object_never_gets_another_generations_bytes(bucket: Bucket, file) -> None:
    size = 3 * gcs_bucket.READ_CHUNK
    bucket.put(NAME, file(b"1" * size))
    with bucket.open(NAME) as reader:
        start = reader.read(10)
        bucket.put(NAME, file(b"2" * size))
        try:
            rest = reader.read()
        except ObjectMissing:
            rest = b"1"  # Google no longer has the old bytes, and says so
    assert set(start + rest) == {ord("1")}


def test_downloaded_bytes_stay_when_the_object_is_replaced(bucket: Bucket, file, tmp_path: Path) -> None:
    bucket.put(NAME, file(b"first"))
    bucket.download(NAME, tmp_path / "copy")
    bucket.put(NAME, file(b"second"))
    bucket.delete(NAME)
    assert (tmp_path / "copy").read_bytes() == b"first"


def test_objects_are_listed_by_prefix_and_in_order(bucket: Bucket, file) -> None:
    for name in ("a/day=2/x.parquet", "a/day=1/x.parquet", "ab/x.parquet", "b.parquet"):
        bucket.put(name, file(b"x"))
    assert names(bucket, "a/") == ["a/day=1/x.parquet", "a/day=2/x.parquet"]
    assert names(bucket, "a/day=1") == ["a/day=1/x.parquet"]
    assert names(bucket, "a") == ["a/day=1/x.parquet", "a/day=2/x.parquet", "ab/x.parquet"]
    assert names(bucket, "nothing/") == []
    assert len(names(bucket)) == 4


@pytest.mark.parametrize(
    "name", ["", "/etc/passwd", "../up", "a/../../up", "a//b", "a/", ".bucket/lock", "a/.b", "a\nb"]
)
def test_names_that_leave_the_bucket_or_hide_in_it_are_refused(bucket: Bucket, file, name: str) -> None:
    with pytest.raises(PermanentError, match="cannot name an object"):
        bucket.put(name, file(b"x"))
    with pytest.raises(PermanentError, match="cannot name an object"):
        bucket.stat(name)


def test_one_of_many_writers_at_once_wins(bucket: Bucket, file) -> None:
    paths = [file(str(i).encode()) for i in range(8)]
    won: list[int] = []

    def write(i: int) -> None:
        try:
            bucket.put(NAME, paths[i], if_generation=0)
        except PreconditionFailed:
            return
        won.append(i)

    threads = [threading.Thread(target=write, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert read(bucket, NAME) == str(won[0]).encode()


def _count_up(root: Path, scratch: Path, times: int) -> None:
    """Add one to the number in an object, `times` times, on the condition that nobody did meanwhile."""
    bucket, own = LocalBucket(root), scratch / str(os.getpid())
    while times:
        seen = bucket.stat("count")
        try:
            with bucket.open("count", seen.generation) as reader:
                own.write_text(str(int(reader.read()) + 1))
            bucket.put("count", own, if_generation=seen.generation)
            times -= 1
        except (PreconditionFailed, ObjectMissing):
            pass


def test_processes_that_count_up_one_object_in_a_directory_lose_no_count(tmp_path: Path, file) -> None:
    LocalBucket(tmp_path / "bucket").put("count", file(b"0"))
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_count_up, args=(tmp_path / "bucket", tmp_path, 50)) for _ in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert read(LocalBucket(tmp_path / "bucket"), "count") == b"200"


def test_what_a_killed_writer_left_in_a_directory_is_hidden_and_removed_by_the_next(tmp_path: Path, file) -> None:
    bucket = LocalBucket(tmp_path / "bucket")
    os.mkfifo(tmp_path / "slow")  # a source that never ends
    code = f"""
from pathlib import Path
from typing import TYPE_CHECKING
from taxi_assets.services.buckets import LocalBucket
LocalBucket(Path({str(bucket.root)!r})).put("a.parquet", Path({str(tmp_path / "slow")!r}))
"""
    writer = subprocess.Popen([sys.executable, "-c", code], cwd=Path(buckets.__file__).parents[2])
    with (tmp_path / "slow").open("wb") as source:
        source.write(b"half a month")
        source.flush()
        while not list(bucket.root.rglob("*.writing")):
            time.sleep(0.01)
        bucket.put("b.parquet", file(b"whole"))
        assert len(list(bucket.root.rglob("*.writing"))) == 1, "a living writer's file was taken away"
        writer.kill()
        writer.wait()
    assert names(bucket) == ["b.parquet"]
    assert [path.name for path in bucket.root.glob("*.parquet")] == ["b.parquet"]
    bucket.put("b.parquet", file(b"whole"))
    assert list(bucket.root.rglob("*.writing")) == []


def test_folders_left_empty_in_a_directory_go_with_their_last_object(tmp_path: Path, file) -> None:
    bucket = LocalBucket(tmp_path / "bucket")
    bucket.put("a/b/c.parquet", file(b"x"))
    bucket.put("a/d.parquet", file(b"x"))
    bucket.delete("a/b/c.parquet")
    assert sorted(path.name for path in (bucket.root / "a").iterdir()) == ["d.parquet"]


def test_a_full_disk_is_said_in_a_sentence_and_the_object_stays(small_disk: Path, file) -> None:
    bucket = LocalBucket(small_disk)
    bucket.put(NAME, file(b"old"))
    with pytest.raises(PermanentError, match=r"2021-01.parquet could not be used: the disk is full; free some space"):
        bucket.put(NAME, file(bytes(4 << 20)))
    assert read(bucket, NAME) == b"old"
    bucket.put(NAME, file(b"new"))
    assert list(bucket.root.rglob("*.writing")) == []


def test_a_directory_that_is_a_file_is_said_in_a_sentence(tmp_path: Path, file) -> None:
    with pytest.raises(PermanentError, match="move it out of the way"):
        LocalBucket(file(b"no directory")).put(NAME, file(b"x"))


def test_metadata_and_content_type_are_kept_by_google(gcs: GcsServer, file) -> None:
    bucket = open_bucket(f"gs://{gcs.new_bucket()}")
    bucket.put(NAME, file(b"123456789"), metadata={"rows": "5"}, content_type="application/vnd.apache.parquet")
    assert bucket.stat(NAME).metadata == {"rows": "5"}
    assert bucket.stat(NAME).crc32c == "4waSgw=="  # E3069283, the check value in RFC 3720's terms
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


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [("503", "is not available"), ("reset", "cannot be reached")],
)
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


@pytest.mark.parametrize("location", ["s3://elsewhere", "gs://", "gs://name/folder"])
def test_a_location_that_is_no_bucket_is_refused(location: str) -> None:
    with pytest.raises(PermanentError, match="is neither a directory nor gs://name"):
        open_bucket(location)


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
