# ruff: noqa: F401, F811 - pytest finds fixtures by their imported names
"""The Postgres sink when a load fails or is refused: the month stays as it was, and a sentence says why."""

from __future__ import annotations

import dataclasses
import time

import psycopg
import pyarrow as pa
import pytest

from taxi_assets.core.errors import PermanentError, TransientError
from taxi_assets.core.month_file import MonthFile
from taxi_assets.datasets.schema import YELLOW, Column, TaxiKind
from taxi_assets.sinks.postgres.embedded import EmbeddedPostgres
from taxi_assets.sinks.postgres.io_manager import EmbeddedPostgresIOManager, PostgresIOManager
from taxi_assets_tests.months import one_pickup_outside, same_trips
from taxi_assets_tests.postgres_fixtures import rows_of, run_sql
from taxi_assets_tests.postgres_sink_fixtures import JANUARY, TABLE, Streamed, parts, relations, sink
from taxi_assets_tests.sink_fixtures import holds, log, made, writing

TIP = Column("tip_jar", "double", "Coins, US dollars.")


def with_columns(*columns: Column) -> TaxiKind:
    return dataclasses.replace(YELLOW, columns=columns)


@pytest.mark.parametrize("breaks_before", [0, 1, 3])
def test_a_stream_that_breaks_midway_leaves_the_old_month(sink, writing, postgres_url, tmp_path, breaks_before):
    old = made(tmp_path)
    sink.replace(YELLOW.table, old, writing)

    def break_(number: int) -> None:
        if number == breaks_before:
            raise ConnectionResetError("the bucket went away")

    with pytest.raises(ConnectionResetError, match="the bucket went away"):
        sink.replace(YELLOW.table, Streamed(made(tmp_path, seed=1), break_), writing)
    assert same_trips(sink.read(YELLOW.table, JANUARY), old)
    assert relations(postgres_url) == parts("2021_01")
    assert rows_of(postgres_url, "SELECT count(*) FROM ny_taxi.load_history") == [(1,)]


def test_a_pickup_outside_the_month_refuses_the_whole_month(sink, writing, tmp_path):
    old = made(tmp_path)
    sink.replace(YELLOW.table, old, writing)
    with pytest.raises(
        PermanentError, match=r"2021-01: a row has a tpep_pickup_datetime outside the month, so nothing"
    ):
        sink.replace(YELLOW.table, made(tmp_path, seed=1, change=one_pickup_outside), writing)
    assert same_trips(sink.read(YELLOW.table, JANUARY), old)


def test_a_month_that_is_shorter_than_announced_is_refused(sink, writing, tmp_path):
    trips = made(tmp_path)
    short = MonthFile(trips.path, JANUARY, manifest=dataclasses.replace(trips.manifest, rows=2_001))
    with pytest.raises(PermanentError, match=r"2021-01: expected 2,001 rows, copied 2,000"):
        sink.replace(YELLOW.table, short, writing)
    assert sink.measure(YELLOW.table, JANUARY) is None


def test_a_server_killed_with_9_midway_fails_the_load_in_a_sentence_and_the_next_one_starts_it_again(
    own_postgres_server, writing, tmp_path
):
    server = EmbeddedPostgres(tmp_path / ".taxi" / "postgres")
    sink, old, new = (
        EmbeddedPostgresIOManager(folder=str(server.folder)),
        made(tmp_path),
        made(tmp_path, rows=5_000, seed=1),
    )
    sink.replace(YELLOW.table, old, writing)
    with pytest.raises(
        TransientError, match=r"2021-01: Postgres on 127.0.0.1:\d+, database postgres says: .*run it again"
    ):
        sink.replace(
            YELLOW.table, Streamed(new, lambda number: own_postgres_server.kill() if number == 5 else None), writing
        )
    assert holds(sink, old)
    assert relations(own_postgres_server.url) == parts("2021_01")
    sink.replace(YELLOW.table, new, writing)
    assert same_trips(sink.read(YELLOW.table, JANUARY), new)


def test_a_connection_cut_by_the_server_midway_is_told_as_worth_a_retry(sink, writing, postgres_url, tmp_path):
    def cut(number: int) -> None:
        if number == 2:
            ours = "application_name = 'taxi_assets' AND datname = current_database()"
            run_sql(postgres_url, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {ours}")

    with pytest.raises(TransientError, match=r"2021-01: Postgres on .* run it again"):
        sink.replace(YELLOW.table, Streamed(made(tmp_path), cut), writing)
    assert sink.measure(YELLOW.table, JANUARY) is None


def test_a_statement_that_takes_too_long_is_canceled(writing, postgres_url, tmp_path):
    sink = PostgresIOManager(url=postgres_url, statement_timeout=0.5)
    with pytest.raises(TransientError, match=r"2021-01: .*statement timeout"):
        sink.replace(YELLOW.table, Streamed(made(tmp_path), lambda number: time.sleep(0.5)), writing)


def test_an_unpartitioned_table_of_our_name_is_refused_and_left_alone(sink, writing, postgres_url, tmp_path):
    run_sql(postgres_url, "CREATE SCHEMA ny_taxi", f"CREATE TABLE {TABLE} (n int)", f"INSERT INTO {TABLE} VALUES (1)")
    with pytest.raises(PermanentError, match=rf"{TABLE} exists and is not partitioned .*RENAME TO yellow_cab_data_old"):
        sink.replace(YELLOW.table, made(tmp_path), writing)
    assert rows_of(postgres_url, f"SELECT n FROM {TABLE}") == [(1,)]


def test_a_table_that_has_the_name_of_the_months_partition_is_refused_and_left_alone(
    sink, writing, postgres_url, tmp_path
):
    sink.replace(YELLOW.table, made(tmp_path, "2021-02"), writing)
    run_sql(postgres_url, f"CREATE TABLE {TABLE}_2021_01 (n int)", f"INSERT INTO {TABLE}_2021_01 VALUES (1)")
    with pytest.raises(PermanentError, match=rf"2021-01: {TABLE}_2021_01 exists and is no partition of"):
        sink.replace(YELLOW.table, made(tmp_path), writing)
    assert rows_of(postgres_url, f"SELECT n FROM {TABLE}_2021_01") == [(1,)]


def test_a_new_column_is_added_with_its_description_and_empty_in_months_before(sink, writing, postgres_url, tmp_path):
    fewer = with_columns(*YELLOW.columns[:-4])
    sink.replace(fewer.table, made(tmp_path, "2021-02", kind=fewer), writing)
    trips = made(tmp_path)
    sink.replace(YELLOW.table, trips, writing)
    assert same_trips(sink.read(YELLOW.table, JANUARY), trips)
    assert rows_of(postgres_url, f"SELECT count(*), count(dropoff_latitude) FROM {TABLE}_2021_02") == [(2_000, 0)]
    described = (
        "SELECT col_description(attrelid, attnum) FROM pg_attribute WHERE attrelid = %s::regclass AND attname = %s"
    )
    assert rows_of(postgres_url, described, TABLE, "dropoff_latitude") == [(YELLOW.columns[-1].description,)]


def test_a_column_of_another_type_or_one_that_may_not_be_null_is_refused_by_name(sink, writing, tmp_path, postgres_url):
    more = with_columns(*YELLOW.columns, TIP)
    sink.replace(more.table, made(tmp_path, "2021-02", kind=more), writing)
    with psycopg.connect(postgres_url) as connection:
        connection.execute(f"ALTER TABLE {TABLE} ALTER COLUMN tip_jar SET NOT NULL")
    with pytest.raises(
        PermanentError, match=f"{TABLE} has column tip_jar, which may not be null and trips do not have"
    ):
        sink.replace(YELLOW.table, made(tmp_path), writing)
    other = with_columns(*YELLOW.columns, dataclasses.replace(TIP, type="int16"))
    with pytest.raises(PermanentError, match="column tip_jar as double precision, trips have it as smallint"):
        sink.replace(other.table, made(tmp_path, kind=other), writing)
