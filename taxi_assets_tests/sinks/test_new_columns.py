"""Every sink takes columns that no version knows yet, keeps those of other months, and extends what older versions wrote."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from taxi_assets.core.errors import PermanentError
from taxi_assets.core.month_file import MonthFile
from taxi_assets.datasets.schema import YELLOW
from taxi_assets.lake.io_manager import LakeIOManager
from taxi_assets.sinks.contract import MonthSink, WriteContext
from taxi_assets.sinks.day_folders.io_manager import DayFoldersIOManager
from taxi_assets.sinks.duckdb.io_manager import DuckDBIOManager
from taxi_assets.sinks.parquet_object.io_manager import ParquetObjectIOManager
from taxi_assets.sinks.postgres.io_manager import PostgresIOManager
from taxi_assets_tests.bigquery_fixtures import bigquery_sink
from taxi_assets_tests.months import NEW_COLUMN_TYPES, month_of_trips, same_trips

OLDER = dataclasses.replace(YELLOW, columns=tuple(c for c in YELLOW.columns if c.name != "request_source"))
"""Yellow as the version before 2026-06 knew it."""
VALUES = {
    "int64": [2**62, -1, None],
    "double": [0.1, -2.5, None],
    "string": ["a,b", 'quo"ted', None],
    "bool": [True, False, None],
    "date32[day]": [dt.date(2026, 7, 1), dt.date(1999, 12, 31), None],
    "timestamp[us]": [dt.datetime(2026, 7, 1, 1, 2, 3, 456789), dt.datetime(1999, 1, 1), None],
}
assert set(VALUES) == set(NEW_COLUMN_TYPES)


class Sink:
    """A sink in a fresh place; `given` makes of a month what the sink is given in the graph.

    With `one_table`, all months share the columns of one table, and the sink logs those that a month lacks. Otherwise
    each month is a file with columns of its own.
    """

    def __init__(
        self,
        manager: MonthSink,
        given: Callable[[MonthFile], MonthFile] = lambda trips: trips,
        *,
        one_table: bool = True,
    ) -> None:
        self.manager, self._given, self.one_table, self.log = manager, given, one_table, []

    def load(self, trips: MonthFile, kind=YELLOW) -> None:
        self.manager.replace(
            kind.table, self._given(trips), WriteContext(f"run-{trips.path.stem}", "token", self.log.append, {})
        )


@pytest.fixture(params=["postgres", "object", "days", "duckdb", "bigquery", "lake"])
def sink(request: pytest.FixtureRequest, tmp_path: Path) -> Sink:
    bucket = str(tmp_path / "bucket")
    match request.param:
        case "postgres":
            return Sink(PostgresIOManager(url=request.getfixturevalue("postgres_url")))
        case "object":
            return Sink(ParquetObjectIOManager(location=bucket, template="nyc/{kind}_{month}.parquet"), one_table=False)
        case "days":
            return Sink(DayFoldersIOManager(location=bucket, prefix="nyc/{kind}_by_day"), one_table=False)
        case "lake":
            lake = LakeIOManager(folder=str(tmp_path / "lake"), asset="clean_trips")
            return Sink(lake, lambda trips: MonthFile(trips.path, trips.month), one_table=False)  # copied, not moved
        case "duckdb":
            return Sink(DuckDBIOManager(path=str(tmp_path / "warehouse.duckdb")))
        case _:
            server = request.getfixturevalue("bigquery")
            return Sink(bigquery_sink(server.endpoint), server.upload)


def more(**columns: pa.Array) -> Callable[[pa.RecordBatch], pa.RecordBatch]:
    """Adds columns to a batch, their values over and over."""

    def change(batch: pa.RecordBatch) -> pa.RecordBatch:
        for name, values in columns.items():
            repeated = values.take(pa.array([i % len(values) for i in range(batch.num_rows)], pa.int32()))
            batch = batch.append_column(name, repeated)
        return batch

    return change


EVERY_TYPE = {f"new_{t.split('[')[0]}": pa.array(values, pa.type_for_alias(t)) for t, values in VALUES.items()}


def test_new_columns_of_every_type_are_loaded_and_read_back(sink: Sink, tmp_path: Path) -> None:
    trips = month_of_trips(tmp_path, "2026-07", 300, change=more(**EVERY_TYPE))
    plain = month_of_trips(tmp_path, "2026-06", 200)
    sink.load(trips)
    sink.load(plain)
    assert same_trips(sink.manager.read(YELLOW.table, trips.month), trips)
    table = sink.manager.read(YELLOW.table, plain.month).to_arrow()
    assert table.select(YELLOW.schema.names).num_rows == 200
    assert all(table[name].null_count == 200 for name in EVERY_TYPE if name in table.column_names)
    assert (set(EVERY_TYPE) <= set(table.column_names)) == sink.one_table
    if sink.one_table:
        assert any("new_int64, new_double" in line and "null in this month" in line for line in sink.log), sink.log
    sink.load(trips)
    assert same_trips(sink.manager.read(YELLOW.table, trips.month), trips)


def test_what_an_older_version_wrote_is_extended_in_place(sink: Sink, tmp_path: Path) -> None:
    old = month_of_trips(tmp_path, "2026-05", 200, kind=OLDER)
    new = month_of_trips(tmp_path, "2026-06", 300)
    sink.load(old, OLDER)
    sink.load(new)
    assert same_trips(sink.manager.read(YELLOW.table, new.month), new)
    held = sink.manager.read(YELLOW.table, old.month).to_arrow()
    assert "request_source" not in held.column_names or held["request_source"].null_count == 200
    assert sorted(held["total_amount"].to_pylist()) == sorted(old.to_arrow()["total_amount"].to_pylist())
    sink.load(month_of_trips(tmp_path, "2026-04", 100, kind=OLDER), OLDER)  # the older version again, after a rollback


def test_a_month_in_the_lake_of_an_older_version_is_loaded_into_a_new_sink_and_a_table_of_this_version(sink, tmp_path):
    old = month_of_trips(tmp_path, "2026-05", 200, kind=OLDER)
    for first in ("2026-06", "2026-07"):
        sink.load(old)  # into an empty sink, then into one with the column
        held = sink.manager.read(YELLOW.table, old.month).to_arrow()
        assert "request_source" not in held.column_names or held["request_source"].null_count == 200
        new = month_of_trips(tmp_path, first, 100)
        sink.load(new)
        assert same_trips(sink.manager.read(YELLOW.table, new.month), new)


@pytest.mark.parametrize("sink", ["postgres", "duckdb"], indirect=True)
def test_a_new_column_is_converted_to_the_type_that_the_table_has(sink: Sink, tmp_path: Path) -> None:
    first = more(count=pa.array([1.5, None]), code=pa.array(["a", None]))
    sink.load(month_of_trips(tmp_path, "2026-06", 100, change=first))
    sink.load(
        month_of_trips(tmp_path, "2026-07", 100, change=more(count=pa.array([7, None]), code=pa.array([12, None])))
    )
    july = sink.manager.read(YELLOW.table, month_of_trips(tmp_path, "2026-07", 0).month).to_arrow()
    assert set(july["count"].to_pylist()) == {7.0, None}
    assert set(july["code"].to_pylist()) == {"12", None}
    too_large = month_of_trips(tmp_path, "2026-08", 10, change=more(count=pa.array([2**60 + 1])))
    with pytest.raises(PermanentError, match="2026-08: column count cannot be converted to double"):
        sink.load(too_large)


@pytest.mark.parametrize("sink", ["postgres", "duckdb", "bigquery"], indirect=True)
def test_a_month_that_lacks_a_required_column_is_refused_by_name(sink: Sink, tmp_path: Path) -> None:
    fewer = dataclasses.replace(YELLOW, columns=tuple(c for c in YELLOW.columns if c.name != "trip_distance"))
    trips = month_of_trips(tmp_path, "2021-01", 100, kind=fewer)
    with pytest.raises(PermanentError, match=r"2021-01: column trip_distance of yellow_cab_data is missing"):
        sink.load(trips)
    assert sink.manager.measure(YELLOW.table, trips.month) is None


@pytest.mark.parametrize("sink", ["postgres", "duckdb", "bigquery"], indirect=True)
def test_a_new_column_that_does_not_fit_the_tables_is_refused_by_name(sink: Sink, tmp_path: Path) -> None:
    june = month_of_trips(tmp_path, "2026-06", 100, change=more(count=pa.array([1, 2])))
    sink.load(june)
    with pytest.raises(PermanentError, match=r"has column count as \w+, trips have it as .* TAXI_NEW_COLUMNS=keep"):
        sink.load(month_of_trips(tmp_path, "2026-07", 100, change=more(count=pa.array([1.5]))))
    assert same_trips(sink.manager.read(YELLOW.table, june.month), june)


def test_objects_of_both_layouts_are_read_together_by_other_programs(tmp_path: Path) -> None:
    objects = Sink(ParquetObjectIOManager(location=str(tmp_path / "bucket"), template="nyc/{kind}_{month}.parquet"))
    days = Sink(DayFoldersIOManager(location=str(tmp_path / "bucket"), prefix="nyc/by_day"))
    for each in (objects, days):
        each.load(month_of_trips(tmp_path / "old", "2026-05", 200, kind=OLDER), OLDER)
        each.load(month_of_trips(tmp_path / "new", "2026-06", 300))
    folder = tmp_path / "bucket" / "nyc"
    query = (
        "SELECT count(*), count(request_source) FROM read_parquet('{}', union_by_name = true, hive_partitioning = {})"
    )
    assert duckdb.sql(query.format(folder / "*.parquet", "false")).fetchall() == [(500, 300)]
    assert duckdb.sql(query.format(folder / "by_day" / "*" / "*.parquet", "true")).fetchall() == [(500, 300)]
    newest = pq.read_schema(max((folder / "by_day").glob("*2026-06-*/*.parquet")))
    table = ds.dataset(folder / "by_day", schema=newest, partitioning="hive").to_table()
    assert (table.num_rows, table["request_source"].null_count) == (500, 200)
