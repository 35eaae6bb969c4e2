"""What tests of buckets share.

Fixtures are found through `pytest_plugins`.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from taxi_assets.sinks.storage.bucket import Bucket
from taxi_assets.sinks.storage.buckets import open_bucket

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
