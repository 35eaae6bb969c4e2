"""gcs_partitioned: a month as day folders, in a directory and in Google Cloud Storage."""

from __future__ import annotations

import datetime as dt
import itertools
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.fs as fs
import pyarrow.parquet as pq
import pytest

from taxi_assets.core.errors import PermanentError
from taxi_assets.core.month import Month
from taxi_assets.core.month_file import MonthFile
from taxi_assets.core.staging import stage
from taxi_assets.datasets.schema import YELLOW
from taxi_assets.sinks.day_folders import split as day_split
from taxi_assets.sinks.day_folders.io_manager import DayFoldersIOManager
from taxi_assets.sinks.day_folders.split import split_days
from taxi_assets.sinks.storage.bucket import Stat
from taxi_assets.sinks.storage.buckets import open_bucket
from taxi_assets_tests.months import month_of_trips, one_pickup_outside
from taxi_assets_tests.sinks.bucket_contract import WRITING, BucketSinkContract
from taxi_assets_tests.sinks.places.base import broken

if TYPE_CHECKING:
    from taxi_assets_tests.gcs_fixtures import GcsServer

pytest_plugins = ["taxi_assets_tests.gcs_fixtures"]

JANUARY = Month(2021, 1)
DAY = "nyc/yellow_by_day/tpep_pickup_date=2021-01-{:02d}/trips.parquet"


class Died(BaseException):
    """kill -9 at a certain point."""


def per_day(file: MonthFile) -> Counter:
    """The month's rows by day of pickup."""
    return Counter(day.as_py() for batch in file.batches([YELLOW.pickup]) for day in batch.column(0).cast(pa.date32()))


def dataset(location: str, gcs: GcsServer | None) -> ds.Dataset:
    """The dataset as pyarrow finds it, without a line of ours."""
    kind = ds.partitioning(pa.schema([("tpep_pickup_date", pa.date32())]), flavor="hive")
    if gcs is None:
        return ds.dataset(f"{location}/nyc/yellow_by_day", format="parquet", partitioning=kind)
    where = f"{location.removeprefix('gs://')}/nyc/yellow_by_day"
    files = fs.GcsFileSystem(anonymous=True, scheme="http", endpoint_override=gcs.url.removeprefix("http://"))
    return ds.dataset(where, filesystem=files, format="parquet", partitioning=kind)


def count(found: ds.Dataset) -> Counter:
    table = found.to_table(columns=["tpep_pickup_date", YELLOW.pickup])
    assert table["tpep_pickup_date"].equals(table[YELLOW.pickup].cast(pa.date32())), "a trip is in another day's folder"
    return Counter(table["tpep_pickup_date"].to_pylist())


class TestDayFolders(BucketSinkContract):
    name = "days"

    @pytest.fixture
    def server(self, location: str, request: pytest.FixtureRequest) -> GcsServer | None:
        return request.getfixturevalue("gcs") if location.startswith("gs://") else None

    def test_pyarrow_reads_the_days_as_a_hive_dataset(self, sink, month, location, server) -> None:
        file = month()
        self.replace(sink, file)
        found = dataset(location, server)
        assert count(found) == per_day(file)
        assert found.schema.names == [*YELLOW.schema.names, "tpep_pickup_date"]
        third = found.to_table(filter=ds.field("tpep_pickup_date") == dt.date(2021, 1, 3))
        assert third.num_rows == per_day(file)[dt.date(2021, 1, 3)]

    def test_each_day_is_one_object_whose_file_has_no_date_column(self, sink, month, location, tmp_path: Path) -> None:
        self.replace(sink, month())
        self.replace(sink, month(rows=40, seed=1))
        bucket = open_bucket(location)
        assert [found.name for found in bucket.list("")] == [DAY.format(day) for day in range(1, 32)]
        bucket.download(DAY.format(5), tmp_path / "day")
        assert pq.read_schema(tmp_path / "day").names == YELLOW.schema.names

    def test_a_reader_without_our_code_sees_each_day_old_or_new(self, sink, month, location, server) -> None:
        months = [month(rows=600 + 300 * i, seed=i) for i in range(2)]
        days = [per_day(file) for file in months]
        self.replace(sink, months[0])
        stop, wrong, looks = threading.Event(), [], []

        def poll() -> None:
            while not stop.is_set():
                try:
                    found = count(dataset(location, server))
                except (OSError, pa.ArrowInvalid) as error:  # replaced between listing and reading: an error, not a lie
                    looks.append(error)
                    continue
                wrong.extend(day for day in JANUARY.days if found[day] not in (days[0][day], days[1][day]))
                looks.append(None)

        reader = threading.Thread(target=poll)
        reader.start()
        for i in range(1, 7):
            self.replace(sink, months[i % 2])
        stop.set()
        reader.join()
        assert wrong == []
        assert looks.count(None) > 2
        if server is None:
            assert looks.count(None) == len(looks)

    def test_a_month_committed_but_not_in_place_is_finished_by_the_next_reader(
        self, sink, month, location, monkeypatch
    ) -> None:
        old, new = month(), month(seed=1)
        self.replace(sink, old)
        self.die_after_commit(location, new, monkeypatch)
        assert [found.name for found in open_bucket(location).list("_journal/")] != []
        self.require(sink, new)
        self.require_nothing_left(location)

    def test_a_month_committed_but_not_in_place_is_finished_by_the_next_writer(
        self, sink, month, location, monkeypatch
    ) -> None:
        old, new = month(), month(seed=1)
        self.replace(sink, old)
        self.die_after_commit(location, new, monkeypatch)
        with pytest.raises(ZeroDivisionError):  # it fails before its own commit, and changes nothing
            self.replace(sink, broken(old))
        self.require(sink, new)
        self.die_after_commit(location, old, monkeypatch)
        self.replace(sink, new)
        self.require(sink, new)
        self.require_nothing_left(location)

    def die_after_commit(self, location: str, file: MonthFile, monkeypatch: pytest.MonkeyPatch) -> None:
        """Write a month and die with three days in place."""
        placed = itertools.count()

        def put_until(self: Any, name: str, *args: Any, **more: Any) -> Stat:
            if "tpep_pickup_date=2021-01-" in name and next(placed) >= 3:
                raise Died
            return real(self, name, *args, **more)

        cls = type(open_bucket(location))
        real = cls.put
        with monkeypatch.context() as patch:
            patch.setattr(cls, "put", put_until)
            with pytest.raises(Died):
                DayFoldersIOManager(location=location, prefix="nyc/{kind}_by_day").replace(YELLOW.table, file, WRITING)

    def test_a_journal_that_is_none_is_said_to_be_none(self, sink, month, location, tmp_path: Path) -> None:
        file = month()
        self.replace(sink, file)
        (tmp_path / "junk").write_bytes(b"no archive")
        bucket = open_bucket(location)
        bucket.put("_journal/nyc/yellow_by_day/tpep_pickup_date=2021-01.tar", tmp_path / "junk")
        with pytest.raises(PermanentError, match=r"2021-01: .*_journal/.* is not a journal of this month .*remove it"):
            self.replace(sink, file)

    def test_a_day_that_somebody_removed_is_missed_and_comes_back_with_the_next_load(
        self, sink, month, location
    ) -> None:
        file = month()
        self.replace(sink, file)
        open_bucket(location).delete(DAY.format(7))
        with pytest.raises(PermanentError, match=r"2021-01: .*tpep_pickup_date=2021-01-07/trips.parquet is gone"):
            sink.measure(YELLOW.table, JANUARY)
        self.replace(sink, file)
        self.require(sink, file)

    def test_trips_outside_the_month_are_refused_and_the_old_month_stays(
        self, sink, month, location, tmp_path: Path
    ) -> None:
        old = month()
        self.replace(sink, old)
        with pytest.raises(PermanentError, match="2021-01: rows with a tpep_pickup_datetime outside the month"):
            self.replace(sink, month_of_trips(tmp_path, "2021-01", 100, change=one_pickup_outside))
        self.require(sink, old)
        self.require_nothing_left(location)


def test_duckdb_reads_the_days_as_a_hive_dataset(tmp_path: Path) -> None:
    file = month_of_trips(tmp_path, "2021-01", 800)
    DayFoldersIOManager(location=str(tmp_path / "bucket"), prefix="nyc/{kind}_by_day").replace(
        YELLOW.table, file, WRITING
    )
    found = duckdb.sql(
        f"SELECT tpep_pickup_date, count(*) FROM read_parquet('{tmp_path}/bucket/nyc/yellow_by_day/*/*.parquet', "
        "hive_partitioning=true) WHERE tpep_pickup_datetime::date = tpep_pickup_date GROUP BY 1"
    ).fetchall()
    assert dict(found) == per_day(file)


def test_trips_in_any_order_go_to_their_days_in_that_order(tmp_path: Path) -> None:
    file = month_of_trips(tmp_path, "2021-01", 70_000)
    days = split_days(file, YELLOW.table, tmp_path)
    whole = file.to_arrow()
    for day, found in days.items():
        expected = whole.filter(pc.equal(whole[YELLOW.pickup].cast(pa.date32()), day))
        assert found.to_arrow().equals(expected)
        assert found.manifest.rows == expected.num_rows
    assert sum(found.rows for found in days.values()) == 70_000


class Watched(MonthFile):
    """Notes what Arrow holds in memory after every batch."""

    peak = 0

    def batches(self, columns: list[str] | None = None, rows: int = 4096) -> Iterator[pa.RecordBatch]:
        before = pa.total_allocated_bytes()
        for batch in super().batches(columns, rows):
            yield batch
            Watched.peak = max(Watched.peak, pa.total_allocated_bytes() - before)


def in_order_with_stragglers(file: MonthFile) -> MonthFile:
    """The month in time order, but with a trip of the last day in every batch."""
    table = file.to_arrow().sort_by(YELLOW.pickup)
    late = (np.arange(table.num_rows) % 4096 == 0) * np.timedelta64(31, "D")
    pickups = np.minimum(table[YELLOW.pickup].to_numpy() + late, np.datetime64("2021-01-31T23:00"))
    table = table.set_column(1, table.schema.field(1), pa.array(pickups, pa.timestamp("us")))
    with stage(file.path.parent, file.month, table.schema, YELLOW.table, "stragglers") as writer:
        for batch in table.to_batches(max_chunksize=65_536):
            writer.write(batch)
        return writer.close()


@pytest.mark.parametrize("order", [lambda file: file, in_order_with_stragglers], ids=["mixed", "stragglers"])
def test_however_large_a_month_is_the_same_memory_splits_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: Callable[[MonthFile], MonthFile]
) -> None:
    monkeypatch.setattr(day_split, "PENDING_ROWS", 65_536)
    peaks = []
    for rows in (131_072, 3 * 131_072):
        file = order(month_of_trips(tmp_path, "2021-01", rows))
        monkeypatch.setattr(Watched, "peak", 0)
        split_days(Watched(file.path, file.month), YELLOW.table, tmp_path / str(rows))
        peaks.append(Watched.peak)
    assert peaks[1] < 1.5 * peaks[0], peaks


def test_days_and_journals_are_put_and_removed_on_conditions(gcs: GcsServer, tmp_path: Path) -> None:
    """At the level of HTTP, as the emulator ignores conditions on deletes and large uploads."""
    location = f"gs://{gcs.new_bucket()}"
    sink = DayFoldersIOManager(location=location, prefix="{kind}")
    file = month_of_trips(tmp_path, "2021-01", 100)
    sink.replace(YELLOW.table, file, WRITING)
    generations = {str(found.generation) for found in open_bucket(location).list("yellow/")}
    gcs.requests.clear()
    sink.replace(YELLOW.table, file, WRITING)
    changes = [request for request in gcs.requests if request.is_change]
    journal, *days, removal = [request.query["ifGenerationMatch"] for request in changes]
    assert journal == "0"
    assert set(days) == generations
    assert len(days) == 31
    assert changes[-1].method == "DELETE"
    assert int(removal) > 1_000_000


def test_the_journal_is_beside_the_dataset_and_not_in_it(gcs: GcsServer, tmp_path: Path) -> None:
    sink = DayFoldersIOManager(location=f"gs://{gcs.new_bucket()}", prefix="nyc/{kind}")
    names = []
    gcs.disturb = lambda request: names.append(request.path + str(request.query)) if request.is_change else None
    sink.replace(YELLOW.table, month_of_trips(tmp_path, "2021-01", 10), WRITING)
    assert "_journal%2Fnyc%2Fyellow%2Ftpep_pickup_date%3D2021-01.tar" in names[-1]


def test_a_full_disk_leaves_the_old_month(small_disk: Path, tmp_path: Path) -> None:
    sink = DayFoldersIOManager(location=str(small_disk), prefix="{kind}")
    old = month_of_trips(tmp_path, "2021-01", 100)
    sink.replace(YELLOW.table, old, WRITING)
    with pytest.raises(PermanentError, match="the disk is full; free some space"):
        sink.replace(YELLOW.table, month_of_trips(tmp_path, "2021-01", 60_000), WRITING)
    assert sink.measure(YELLOW.table, JANUARY).rows == 100
    sink.replace(YELLOW.table, old, WRITING)
    left = [path.name for path in small_disk.rglob("*") if path.is_file() and path.name != "trips.parquet"]
    assert left == ["lock"]


def test_a_month_that_fills_the_disk_after_its_commit_is_finished_when_there_is_room(
    small_disk: Path, tmp_path: Path
) -> None:
    sink = DayFoldersIOManager(location=str(small_disk), prefix="{kind}")
    old, new = (month_of_trips(tmp_path, "2021-01", rows, seed=rows) for rows in (100, 3_000))
    sink.replace(YELLOW.table, old, WRITING)
    free = 2 * new.bytes + 31 * 14_000  # room for the journal, and not for all days beside it
    ballast = small_disk / ".ballast"
    room = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
    ballast.write_bytes(bytes(max(0, room - free)))
    with pytest.raises(
        PermanentError, match=r"2021-01 is in .*_journal/.* next read or run will finish it.* disk is full"
    ):
        sink.replace(YELLOW.table, new, WRITING)
    ballast.unlink()
    assert sink.measure(YELLOW.table, JANUARY).rows == 3_000
