"""A bucket replaces objects whole and on a condition: a directory and Google Cloud Storage alike."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from taxi_assets.core.errors import PermanentError
from taxi_assets.sinks.storage import gcs_bucket
from taxi_assets.sinks.storage.bucket import Bucket, ObjectMissing, PreconditionFailed
from taxi_assets.sinks.storage.buckets import open_bucket
from taxi_assets_tests.bucket_fixtures import NAME, names, read

pytest_plugins = ["taxi_assets_tests.gcs_fixtures", "taxi_assets_tests.bucket_fixtures"]


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


@pytest.mark.parametrize("location", ["s3://elsewhere", "gs://", "gs://name/folder"])
def test_a_location_that_is_no_bucket_is_refused(location: str) -> None:
    with pytest.raises(PermanentError, match="is neither a directory nor gs://name"):
        open_bucket(location)
