"""What tests of the Postgres sink share: the sink in an empty database, trips that come in batches, a reader who counts.

Import the fixtures you use by name into the test module.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psycopg
import pyarrow as pa
import pytest

from taxi_assets.core.month import Month
from taxi_assets.core.month_file import BATCH_ROWS, MonthFile
from taxi_assets.sinks.postgres.io_manager import PostgresIOManager
from taxi_assets_tests.postgres_fixtures import rows_of
from taxi_assets_tests.processes import until

JANUARY, FEBRUARY = Month(2021, 1), Month(2021, 2)
TABLE = "ny_taxi.yellow_cab_data"


@pytest.fixture
def sink(postgres_url: str) -> PostgresIOManager:
    return PostgresIOManager(url=postgres_url)


def relations(url: str) -> set[str]:
    """Every table of the database outside Postgres' own schemas."""
    query = "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace::regnamespace::text !~ %s"
    return {name for (name,) in rows_of(url, query, "^(pg_|information)")}


def parts(*months: str) -> set[str]:
    return {"load_history", "month_manifests", "yellow_cab_data", *(f"yellow_cab_data_{month}" for month in months)}


class Streamed(MonthFile):
    """A month that comes batch by batch: each is preceded by a call of `before` with its number."""

    def __init__(self, file: MonthFile, before: Callable[[int], object], rows: int = 500) -> None:
        super().__init__(file.path, file.month, manifest=file.manifest, bytes=file.bytes)
        self._file, self._before, self._batch_rows, self.schema = file, before, rows, file.schema

    def batches(self, columns: list[str] | None = None, rows: int = BATCH_ROWS) -> Iterator[pa.RecordBatch]:
        for number, batch in enumerate(self._file.batches(columns, self._batch_rows)):
            self._before(number)
            yield batch

    def to_arrow(self) -> pa.Table:
        return self._file.to_arrow()


@dataclasses.dataclass
class Reader:
    """What a reader saw that counts a month all the time."""

    counts: set[int] = dataclasses.field(default_factory=set)
    longest: float = 0.0
    reads: int = 0


@contextmanager
def reading(url: str, month: Month = JANUARY) -> Iterator[Reader]:
    seen, enough = Reader(), threading.Event()

    def read() -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            while not enough.is_set():
                begun = time.monotonic()
                query = f"SELECT count(*) FROM {TABLE} WHERE tpep_pickup_datetime >= %s AND tpep_pickup_datetime < %s"
                (count,) = connection.execute(query, [month.start, month.end]).fetchone()
                seen.counts.add(count)
                seen.longest, seen.reads = max(seen.longest, time.monotonic() - begun), seen.reads + 1

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(read)
        until(lambda: seen.reads > 2 or future.done(), 20, "the reader's first reads")
        try:
            yield seen
        finally:
            enough.set()
            future.result()
