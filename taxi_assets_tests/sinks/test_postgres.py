# ruff: noqa: F401, F811 - pytest finds fixtures by their imported names
"""What is particular to the Postgres sink, on real servers: the table it makes, the values it keeps, its history.

What every sink promises is in the contract suite.
"""

from __future__ import annotations

import time

import pyarrow as pa
import pytest

from taxi_assets.core.errors import PermanentError
from taxi_assets.core.manifest import Manifest
from taxi_assets.datasets.schema import GREEN, YELLOW
from taxi_assets.sinks.contract import WriteContext
from taxi_assets.sinks.postgres.io_manager import PostgresIOManager
from taxi_assets_tests.months import same_trips
from taxi_assets_tests.postgres_fixtures import ON_OTHER_VERSIONS, rows_of, run_sql
from taxi_assets_tests.postgres_sink_fixtures import FEBRUARY, JANUARY, TABLE, Streamed, parts, relations, sink
from taxi_assets_tests.sink_fixtures import holds, log, made, writing


def test_a_first_load_makes_schema_and_described_partitioned_table_and_reads_back_the_same_trips(
    every_postgres_url, writing, tmp_path
):
    sink, trips = PostgresIOManager(url=every_postgres_url), made(tmp_path)
    assert sink.measure(YELLOW.table, JANUARY) is None
    metadata = sink.replace(YELLOW.table, trips, writing)
    assert metadata["dagster/table_name"] == TABLE
    assert metadata["dagster/partition_row_count"] == 2_000
    assert metadata["server_version"].split(".")[0].isdigit()
    assert sink.measure(YELLOW.table, JANUARY).rows == trips.manifest.rows
    assert holds(sink, trips)
    assert same_trips(sink.read(YELLOW.table, JANUARY), trips)
    comments = rows_of(
        every_postgres_url,
        "SELECT attname, col_description(attrelid, attnum) FROM pg_attribute "
        "WHERE attrelid = %s::regclass AND attnum > 0 ORDER BY attnum",
        TABLE,
    )
    assert comments == [(column.name, column.description) for column in YELLOW.columns]
    assert relations(every_postgres_url) == parts("2021_01")


@ON_OTHER_VERSIONS
def test_reloading_the_same_a_changed_a_smaller_and_an_empty_month_leaves_exactly_the_last_one(
    every_postgres_url, writing, tmp_path
):
    sink = PostgresIOManager(url=every_postgres_url)
    february = made(tmp_path, "2021-02")
    sink.replace(YELLOW.table, february, writing)
    for rows, seed in ((2_000, 0), (2_000, 0), (2_500, 1), (10, 2), (0, 3), (2_000, 0)):
        trips = made(tmp_path, rows=rows, seed=seed)
        sink.replace(YELLOW.table, trips, writing)
        assert holds(sink, trips)
        assert same_trips(sink.read(YELLOW.table, JANUARY), trips)
    assert same_trips(sink.read(YELLOW.table, FEBRUARY), february)
    assert relations(every_postgres_url) == parts("2021_01", "2021_02")


def test_the_rows_are_in_the_months_partition_frozen_and_another_months_query_does_not_touch_it(
    sink, writing, postgres_url, tmp_path
):
    for month in ("2020-12", "2021-01"):
        sink.replace(YELLOW.table, made(tmp_path, month), writing)
    assert rows_of(postgres_url, f"SELECT DISTINCT tableoid::regclass::text FROM {TABLE} ORDER BY 1") == [
        (f"{TABLE}_2020_12",), (f"{TABLE}_2021_01",)]  # fmt: skip
    plan = rows_of(postgres_url, f"EXPLAIN SELECT count(*) FROM {TABLE} WHERE tpep_pickup_datetime < '2021-01-01'")
    assert "2021_01" not in str(plan)
    run_sql(postgres_url, "CREATE EXTENSION pg_visibility")
    pages = f"SELECT count(*), count(*) FILTER (WHERE all_frozen) FROM pg_visibility('{TABLE}_2021_01')"
    ((all_, frozen),) = rows_of(postgres_url, pages)
    assert frozen >= all_ - 1 > 10  # Postgres leaves the last page to the next vacuum


def test_every_kind_of_value_comes_back_as_it_was(sink, writing, tmp_path):
    def spoil(batch: pa.RecordBatch) -> pa.RecordBatch:
        odd = {
            "store_and_fwd_flag": pa.array(["", None, '"', "a,b\nc", "é\\N", "NULL"], pa.string()),
            "fare_amount": pa.array([0.1 + 0.2, -0.0, 1e-300, None, 1.7976931348623157e308, 1 / 3]),
            "passenger_count": pa.array([-32768, 32767, 0, None, 1, 2], pa.int16()),
        }
        for name, values in odd.items():
            batch = batch.set_column(batch.schema.get_field_index(name), batch.schema.field(name), values)
        return batch

    trips = made(tmp_path, rows=6, change=spoil)
    sink.replace(YELLOW.table, trips, writing)
    assert same_trips(sink.read(YELLOW.table, JANUARY), trips)
    months = [batch.num_rows for batch in sink.read(YELLOW.table, JANUARY).batches(["fare_amount", "vendorid"], rows=4)]
    assert months == [4, 2]


def test_text_with_a_nul_is_kept_without_it(sink, writing, postgres_url, tmp_path):
    def spoil(batch: pa.RecordBatch) -> pa.RecordBatch:
        index = batch.schema.get_field_index("store_and_fwd_flag")
        return batch.set_column(index, batch.schema.field(index), pa.array(["Y\0", None, "\0"]))

    sink.replace(YELLOW.table, made(tmp_path, rows=3, change=spoil), writing)
    assert set(rows_of(postgres_url, f"SELECT store_and_fwd_flag FROM {TABLE}")) == {("Y",), (None,), ("",)}


def test_datasets_share_the_history(sink, writing, postgres_url, tmp_path):
    sink.replace(YELLOW.table, made(tmp_path), writing)
    sink.replace(GREEN.table, made(tmp_path, seed=1, kind=GREEN), writing)
    assert rows_of(postgres_url, "SELECT table_name FROM ny_taxi.load_history ORDER BY loaded_at") == [
        ("yellow_cab_data",), ("green_cab_data",)]  # fmt: skip


def test_every_load_is_one_row_of_the_history_with_where_it_came_from(sink, postgres_url, tmp_path):
    trips = made(tmp_path)
    trips.manifest.extra.update(source="tlc", location="https://there/2021-01.parquet", version="etag-7")
    starters = ({"dagster/schedule_name": "monthly"}, {"dagster/backfill": "abc"}, {})
    for run, tags in enumerate(starters, 1):
        sink.replace(YELLOW.table, trips, WriteContext(f"run-{run}", "token", print, tags))
    total = "round(total_amount::numeric, 2)::float8"
    columns = f"table_name, month::text, rows, {total}, source, source_version, run_id, started_by"
    rows = rows_of(postgres_url, f"SELECT {columns} FROM ny_taxi.load_history ORDER BY loaded_at")
    same = (
        "yellow_cab_data",
        "2021-01-01",
        2_000,
        round(trips.manifest.sums["total_amount"], 2),
        "https://there/2021-01.parquet",
        "etag-7",
    )
    told = ("schedule monthly", "backfill abc", "user")
    assert rows == [(*same, f"run-{run}", starter) for run, starter in enumerate(told, 1)]


def test_a_view_has_what_is_loaded_now(sink, postgres_url, tmp_path):
    loads = (("run-1", made(tmp_path), "etag-7"), ("run-2", made(tmp_path, seed=1), "etag-8"))
    for run, trips, version in loads:
        trips.manifest.extra.update(location="https://there/2021-01.parquet", version=version, generated=False)
        sink.replace(YELLOW.table, trips, WriteContext(run, "token", print, {}))
    columns = "table_name, month::text, rows, source, source_version, generated, run_id, loaded_at > now() - interval '1 hour'"
    assert rows_of(postgres_url, f"SELECT {columns} FROM ny_taxi.loaded_months") == [
        ("yellow_cab_data", "2021-01-01", 2_000, "https://there/2021-01.parquet", "etag-8", False, "run-2", True)
    ]


def test_a_load_that_another_run_finishes_again_stays_one_row_and_a_new_load_is_another(sink, postgres_url, tmp_path):
    trips, changed = made(tmp_path), made(tmp_path, seed=1)
    trips.manifest.extra["version"] = changed.manifest.extra["version"] = None
    goes_on = {"taxi_assets/goes_on_with": "run-1"}
    for what, run, tags in (
        (trips, "run-1", {}),  # killed when the month was in, before anybody heard of it
        (trips, "run-2", goes_on),
        (trips, "run-3", {**retried("run-1", "run-1"), "dagster/retry_number": "1"}),
        (trips, "run-4", {}),  # loaded again on purpose
        (changed, "run-5", goes_on),  # begun then, but other trips: not the same load
    ):
        sink.replace(YELLOW.table, what, WriteContext(run, "token", print, tags))
    rows = rows_of(postgres_url, "SELECT run_id, load_id FROM ny_taxi.load_history ORDER BY loaded_at")
    assert rows == [("run-3", "run-1"), ("run-4", "run-4"), ("run-5", "run-1")]


def retried(parent: str, root: str) -> dict[str, str]:
    """The tags that Dagster gives to a re-execution, whoever asked for it."""
    return {"dagster/parent_run_id": parent, "dagster/root_run_id": root}


def test_a_re_execution_by_hand_is_a_load_of_its_own_and_an_automatic_retry_is_not(sink, postgres_url, tmp_path):
    trips = made(tmp_path)
    goes_on = {"taxi_assets/goes_on_with": "run-1"}
    for run, tags in (
        ("run-1", {}),
        ("run-2", retried("run-1", "run-1")),  # "Re-execute" in the UI, weeks later
        ("run-3", {**goes_on, **retried("run-2", "run-1")}),  # it copies our tags, too
        ("run-4", {**retried("run-3", "run-1"), "dagster/retry_number": "3"}),  # which was killed, and retried
    ):
        sink.replace(YELLOW.table, trips, WriteContext(run, "token", print, tags))
    rows = rows_of(postgres_url, "SELECT run_id, load_id FROM ny_taxi.load_history ORDER BY loaded_at")
    assert rows == [("run-1", "run-1"), ("run-2", "run-2"), ("run-4", "run-3")]


def test_a_history_from_before_loads_had_ids_is_kept_and_grown(sink, writing, postgres_url, tmp_path):
    sink.replace(YELLOW.table, made(tmp_path), writing)
    run_sql(postgres_url, "ALTER TABLE ny_taxi.load_history DROP COLUMN load_id")
    sink.replace(YELLOW.table, made(tmp_path, seed=1), writing)
    rows = rows_of(postgres_url, "SELECT load_id FROM ny_taxi.load_history ORDER BY loaded_at")
    assert rows == [(None,), (writing.run_id,)]


def test_indexes_of_the_table_are_on_every_new_partition_and_were_made_before_the_swap(
    every_postgres_url, writing, tmp_path
):
    sink = PostgresIOManager(url=every_postgres_url)
    sink.replace(YELLOW.table, made(tmp_path, "2021-02"), writing)
    run_sql(
        every_postgres_url,
        f'CREATE INDEX "odd name" ON {TABLE} (pulocationid, tpep_pickup_datetime DESC) WHERE vendorid = 1',
    )
    for seed in range(2):
        sink.replace(YELLOW.table, made(tmp_path, seed=seed), writing)
    query = "SELECT count(*) FROM pg_inherits JOIN pg_index ON indexrelid = inhrelid WHERE inhparent = %s::regclass"
    assert rows_of(every_postgres_url, query, 'ny_taxi."odd name"') == [(2,)]
    query = "SELECT indexname FROM pg_indexes WHERE tablename = 'yellow_cab_data_2021_01'"
    ((name,),) = rows_of(every_postgres_url, query)
    assert name.startswith("yellow_cab_data_2021_01_new")  # named when its table was not yet swapped in


def test_long_loads_tell_how_far_they_are(sink, writing, log, tmp_path):
    sink.replace(YELLOW.table, Streamed(made(tmp_path), lambda number: time.sleep(0.8)), writing)
    assert any("2021-01: 1,500 rows (75 %)" in line and "rows/s" in line for line in log), log


def test_facts_agree_with_what_the_writer_of_the_file_found(sink, writing, tmp_path):
    trips = made(tmp_path, rows=100_000)
    sink.replace(YELLOW.table, trips, writing)
    found = sink.measure(YELLOW.table, JANUARY)
    assert found == Manifest(
        100_000,
        {"total_amount": pytest.approx(trips.manifest.sums["total_amount"], rel=1e-9)},
        trips.manifest.first,
        trips.manifest.last,
        {},
    )
    sink.replace(YELLOW.table, made(tmp_path, rows=0), writing)
    assert sink.measure(YELLOW.table, JANUARY) == Manifest(0, {"total_amount": 0.0})
