"""Shared by the tests of downloads: a server with a month on it, a policy of short waits, and the expected folder.

Import the fixture `server` by name into the test module.
"""

import hashlib
import json
import random
from pathlib import Path

import pytest

from taxi_assets.publisher.download import Downloader, DownloadPolicy, DownloadProgress
from taxi_assets.publisher.published import Fetched
from taxi_assets_tests.misbehaving_server import MisbehavingServer, Offer, misbehaving_server

MONTH = "/yellow_tripdata_2021-01.parquet"
NAME = MONTH[1:]
QUICK = DownloadPolicy(
    attempts=4,
    total_seconds=20,
    connect_seconds=2,
    read_seconds=0.3,
    first_pause=0.01,
    longest_pause=0.05,
    longest_retry_after=2,
    slow_seconds=0.3,
    slow_bytes=2000,
)


def parquet(size: int, seed: int = 1) -> bytes:
    """Return bytes that begin and end like a Parquet file."""
    return b"PAR1" + random.Random(seed).randbytes(size - 8) + b"PAR1"


OLD, NEW = parquet(300_000), parquet(300_000, seed=2)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with misbehaving_server() as server:
        server.offers[MONTH] = Offer(OLD)
        yield server


def fetch(
    server: MisbehavingServer,
    folder: Path,
    path: str = MONTH,
    policy: DownloadPolicy = QUICK,
    address: str | None = None,
    progress: DownloadProgress | None = None,
) -> Fetched:
    """Probe and fetch a file of the server, or of another address."""
    downloader, address, label = Downloader(policy), address or server.address + path, "yellow 2021-01"
    published = downloader.probe(address, label).published
    assert published is not None
    return downloader.fetch(address, folder / path[1:], label, published, progress)


def holds(folder: Path, body: bytes, name: str = NAME) -> bool:
    """Return whether the folder contains the file, its record, and no part of an unfinished download."""
    record = json.loads((folder / f"{name}.json").read_text())
    left = sorted(path.name for path in folder.iterdir())
    return (
        (folder / name).read_bytes() == body
        and record["sha256"] == hashlib.sha256(body).hexdigest()
        and record["size"] == len(body)
        and left == [name, f"{name}.json", f"{name}.lock"]
    )
