"""A directory as a bucket: processes that race, die, or run out of disk."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from taxi_assets.core.errors import PermanentError
from taxi_assets.sinks.storage.bucket import ObjectMissing, PreconditionFailed
from taxi_assets.sinks.storage.local_bucket import LocalBucket
from taxi_assets_tests.bucket_fixtures import NAME, names, read
from taxi_assets_tests.conftest import REPOSITORY

pytest_plugins = ["taxi_assets_tests.gcs_fixtures", "taxi_assets_tests.bucket_fixtures"]


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
from taxi_assets.sinks.storage.local_bucket import LocalBucket
LocalBucket(Path({str(bucket.root)!r})).put("a.parquet", Path({str(tmp_path / "slow")!r}))
"""
    writer = subprocess.Popen([sys.executable, "-c", code], cwd=REPOSITORY)
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
