"""What tests of downloads share: a server with a month on it, quick patience, and what a folder must hold afterwards.

Import the fixture `server` by name into the test module.
"""

import hashlib
import json
import random
from pathlib import Path

import pytest

from taxi_assets.publisher.download import Downloaded, Downloader, Patience
from taxi_assets.publisher.offer import Published
from taxi_assets_tests.misbehaving_server import MisbehavingServer, Offer, misbehaving_server

MONTH = "/yellow_tripdata_2021-01.parquet"
NAME = MONTH[1:]
QUICK = Patience(
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
    """Bytes that begin and end as a Parquet file does."""
    return b"PAR1" + random.Random(seed).randbytes(size - 8) + b"PAR1"


OLD, NEW = parquet(300_000), parquet(300_000, seed=2)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with misbehaving_server() as server:
        server.offers[MONTH] = Offer(OLD)
        yield server


def fetch(server: MisbehavingServer, folder: Path, path: str = MONTH, patience: Patience = QUICK, **how) -> Downloaded:
    downloader = Downloader(patience, **{name: how.pop(name) for name in list(how) if name == "free_bytes"})
    address = how.pop("address", server.address + path)

    def look() -> Published:
        published = downloader.probe(address, "yellow 2021-01").published
        assert published is not None
        return published

    return downloader.fetch(address, folder / path[1:], "yellow 2021-01", look, **how)


def holds(folder: Path, body: bytes, name: str = NAME) -> bool:
    """Whether the folder holds the file, its right note, and nothing of a download under way."""
    note = json.loads((folder / f"{name}.json").read_text())
    left = sorted(path.name for path in folder.iterdir())
    return (
        (folder / name).read_bytes() == body
        and note["sha256"] == hashlib.sha256(body).hexdigest()
        and note["size"] == len(body)
        and left == [name, f"{name}.json", f"{name}.lock"]
    )
