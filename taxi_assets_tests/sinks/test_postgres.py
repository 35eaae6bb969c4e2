# ruff: noqa: F401, F811 - pytest finds fixtures by their imported names
"""The Postgres sink: a month is replaced whole or not at all, whoever reads, writes, is killed or goes away meanwhile.

What every sink promises is in the contract suite; here is what is particular to Postgres, on real servers.
"""

from __future__ import annotations

import dataclasses
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pyarrow as pa
import pytest

from taxi_assets.errors import PermanentError, TransientError
from taxi_assets.io_managers.base import Writing
from taxi_assets.io_managers.postgres import PostgresIOManager
from taxi_assets.services.embedded_postgres import EmbeddedPostgres
from taxi_assets.trips.files import BATCH_ROWS, Facts, TripFile
from taxi_assets.trips.month import Month
from taxi_assets.trips.schema import GREEN, YELLOW, Column, TaxiKind
from taxi_assets_tests.months import month_of_trips, one_pickup_outside, same_facts, same_trips
from taxi_assets_tests.postgres_fixtures import (
    OTHERS,
    PostgresServer,
    as_user,
    every_postgres_server,
    every_postgres_url,
    own_postgres_server,
    postgres_server,
    postgres_url,
    rows_of,
    run_sql,
)
from taxi_assets_tests.processes import REPOSITORY, free_port, until

JANUARY, FEBRUARY = Month(2021, 1), Month(2021, 2)
TIP = Column("tip_jar", pa.float64(), "Coins, US dollars.")
TABLE = "ny_taxi.yellow_cab_data"

ON_OTHER_VERSIONS = pytest.mark.parametrize("every_postgres_server", list(OTHERS), indirect=True)
"""What the contract suite does on the embedded server."""


@pytest.fixture
def sink(postgres_url: str) -> PostgresIOManager:
    return PostgresIOManager.at(postgres_url)


@pytest.fixture
def log() -> list[str]:
    return []


@pytest.fixture
def writing(log: list[str]) -> Writing:
    return Writing("11111111-run", "token", log.append, {})


def made(tmp_path: Path, month: str = "2021-01", rows: int = 2_000, seed: int = 0, **options) -> TripFile:
    return month_of_trips(tmp_path / "made", month, rows, seed, **options)


def holds(sink: PostgresIOManager, trips: TripFile) -> bool:
    return same_facts(sink.read_facts(YELLOW, trips.month), trips.facts)


def relations(url: str) -> set[str]:
    """Every table of the database outside Postgres' own schemas."""
    query = "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace::regnamespace::text !~ %s"
    return {name for (name,) in rows_of(url, query, "^(pg_|information)")}


def parts(*months: str) -> set[str]:
    return {"load_history", "yellow_cab_data", *(f"yellow_cab_data_{month}" for month in months)}


def with_columns(*columns: Column) -> TaxiKind:
    return dataclasses.replace(YELLOW, columns=columns)


class Streamed:
    """A month that comes batch by batch: each is preceded by a call of `before` with its number."""

    def __init__(self, file: TripFile, before: Callable[[int], object], rows: int = 500) -> None:
        self._file, self._before, self._rows = file, before, rows
        self.month, self.rows, self.bytes, self.schema, self.facts = (
            file.month, file.rows, file.bytes, file.schema, file.facts)  # fmt: skip

    def batches(self, columns: list[str] | None = None, rows: int = BATCH_ROWS) -> Iterator[pa.RecordBatch]:
        for number, batch in enumerate(self._file.batches(columns, self._rows)):
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


def test_a_first_load_makes_schema_and_described_partitioned_table_and_reads_back_the_same_trips(
    every_postgres_url,
    writing,
    tmp_path,
):
    sink, trips = PostgresIOManager.at(every_postgres_url), made(tmp_path)
    assert sink.read_facts(YELLOW, JANUARY) is None
    metadata = sink.replace(YELLOW, trips, writing)
    assert metadata["dagster/table_name"] == TABLE
    assert metadata["dagster/partition_row_count"] == 2_000
    assert metadata["server_version"].split(".")[0].isdigit()
    assert sink.read_facts(YELLOW, JANUARY).rows == trips.facts.rows
    assert holds(sink, trips)
    assert same_trips(sink.read(YELLOW, JANUARY), trips)
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
    every_postgres_url,
    writing,
    tmp_path,
):
    sink = PostgresIOManager.at(every_postgres_url)
    february = made(tmp_path, "2021-02")
    sink.replace(YELLOW, february, writing)
    for rows, seed in ((2_000, 0), (2_000, 0), (2_500, 1), (10, 2), (0, 3), (2_000, 0)):
        trips = made(tmp_path, rows=rows, seed=seed)
        sink.replace(YELLOW, trips, writing)
        assert holds(sink, trips)
        assert same_trips(sink.read(YELLOW, JANUARY), trips)
    assert same_trips(sink.read(YELLOW, FEBRUARY), february)
    assert relations(every_postgres_url) == parts("2021_01", "2021_02")


def test_the_rows_are_in_the_months_partition_frozen_and_another_months_query_does_not_touch_it(
    sink,
    writing,
    postgres_url,
    tmp_path,
):
    for month in ("2020-12", "2021-01"):
        sink.replace(YELLOW, made(tmp_path, month), writing)
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
    sink.replace(YELLOW, trips, writing)
    assert same_trips(sink.read(YELLOW, JANUARY), trips)
    months = [batch.num_rows for batch in sink.read(YELLOW, JANUARY).batches(["fare_amount", "vendorid"], rows=4)]
    assert months == [4, 2]


def test_text_with_a_nul_is_kept_without_it(sink, writing, postgres_url, tmp_path):
    def spoil(batch: pa.RecordBatch) -> pa.RecordBatch:
        index = batch.schema.get_field_index("store_and_fwd_flag")
        return batch.set_column(index, batch.schema.field(index), pa.array(["Y\0", None, "\0"]))

    sink.replace(YELLOW, made(tmp_path, rows=3, change=spoil), writing)
    assert set(rows_of(postgres_url, f"SELECT store_and_fwd_flag FROM {TABLE}")) == {("Y",), (None,), ("",)}


def test_kinds_keep_separate_tables_and_share_the_history(sink, writing, postgres_url, tmp_path):
    yellow, green = made(tmp_path), made(tmp_path, seed=1, kind=GREEN)
    sink.replace(YELLOW, yellow, writing)
    sink.replace(GREEN, green, writing)
    assert holds(sink, yellow)
    assert same_trips(sink.read(GREEN, JANUARY), green)
    assert rows_of(postgres_url, "SELECT table_name FROM ny_taxi.load_history ORDER BY loaded_at") == [
        ("yellow_cab_data",), ("green_cab_data",)]  # fmt: skip


def test_every_load_is_one_row_of_the_history_with_where_it_came_from(sink, postgres_url, tmp_path):
    trips = made(tmp_path)
    trips.facts.extra.update(source="tlc", location="https://there/2021-01.parquet", version="etag-7")
    starters = ({"dagster/schedule_name": "monthly"}, {"dagster/backfill": "abc"}, {})
    for run, tags in enumerate(starters, 1):
        sink.replace(YELLOW, trips, Writing(f"run-{run}", "token", print, tags))
    total = "round(total_amount::numeric, 2)::float8"
    columns = f"table_name, month::text, rows, {total}, source, source_version, run_id, started_by"
    rows = rows_of(postgres_url, f"SELECT {columns} FROM ny_taxi.load_history ORDER BY loaded_at")
    same = (
        "yellow_cab_data",
        "2021-01-01",
        2_000,
        round(trips.facts.total_amount, 2),
        "https://there/2021-01.parquet",
        "etag-7",
    )
    told = ("schedule monthly", "backfill abc", "user")
    assert rows == [(*same, f"run-{run}", starter) for run, starter in enumerate(told, 1)]


def test_a_load_that_another_run_finishes_again_stays_one_row_and_a_new_load_is_another(sink, postgres_url, tmp_path):
    trips, changed = made(tmp_path), made(tmp_path, seed=1)
    trips.facts.extra["version"] = changed.facts.extra["version"] = None
    goes_on = {"taxi_assets/goes_on_with": "run-1"}
    for what, run, tags in (
        (trips, "run-1", {}),  # killed when the month was in, before anybody heard of it
        (trips, "run-2", goes_on),
        (trips, "run-3", {"dagster/root_run_id": "run-1"}),
        (trips, "run-4", {}),  # loaded again on purpose
        (changed, "run-5", goes_on),  # begun then, but other trips: not the same load
    ):
        sink.replace(YELLOW, what, Writing(run, "token", print, tags))
    rows = rows_of(postgres_url, "SELECT run_id, load_id FROM ny_taxi.load_history ORDER BY loaded_at")
    assert rows == [("run-3", "run-1"), ("run-4", "run-4"), ("run-5", "run-1")]


def test_a_history_from_before_loads_had_ids_is_kept_and_grown(sink, writing, postgres_url, tmp_path):
    sink.replace(YELLOW, made(tmp_path), writing)
    with psycopg.connect(postgres_url) as connection:
        connection.execute("ALTER TABLE ny_taxi.load_history DROP COLUMN load_id")
    sink.replace(YELLOW, made(tmp_path, seed=1), writing)
    rows = rows_of(postgres_url, "SELECT load_id FROM ny_taxi.load_history ORDER BY loaded_at")
    assert rows == [(None,), (writing.run_id,)]


def test_before_the_first_load_reading_a_month_says_what_to_materialise(sink):
    with pytest.raises(PermanentError, match=r"2021-01: ny_taxi.yellow_cab_data has no such month: materialise"):
        sink.read(YELLOW, JANUARY)


@pytest.mark.parametrize("breaks_before", [0, 1, 3])
def test_a_stream_that_breaks_midway_leaves_the_old_month(sink, writing, postgres_url, tmp_path, breaks_before):
    old = made(tmp_path)
    sink.replace(YELLOW, old, writing)

    def break_(number: int) -> None:
        if number == breaks_before:
            raise ConnectionResetError("the bucket went away")

    with pytest.raises(ConnectionResetError, match="the bucket went away"):
        sink.replace(YELLOW, Streamed(made(tmp_path, seed=1), break_), writing)
    assert same_trips(sink.read(YELLOW, JANUARY), old)
    assert relations(postgres_url) == parts("2021_01")
    assert rows_of(postgres_url, "SELECT count(*) FROM ny_taxi.load_history") == [(1,)]


def test_a_pickup_outside_the_month_refuses_the_whole_month(sink, writing, tmp_path):
    old = made(tmp_path)
    sink.replace(YELLOW, old, writing)
    with pytest.raises(
        PermanentError, match=r"2021-01: a trip was picked up outside the month, so none .* clean_trips"
    ):
        sink.replace(YELLOW, made(tmp_path, seed=1, change=one_pickup_outside), writing)
    assert same_trips(sink.read(YELLOW, JANUARY), old)


def test_a_month_that_is_shorter_than_announced_is_refused(sink, writing, tmp_path):
    short = Streamed(made(tmp_path), lambda number: None)
    short.rows += 1
    with pytest.raises(PermanentError, match=r"2021-01: 2,001 rows were announced, 2,000 came"):
        sink.replace(YELLOW, short, writing)
    assert sink.read_facts(YELLOW, JANUARY) is None


@ON_OTHER_VERSIONS
def test_twenty_months_at_once_on_an_empty_database_all_arrive(every_postgres_url, writing, tmp_path):
    months = [made(tmp_path, f"{2020 + n // 12}-{n % 12 + 1:02d}", rows=500 + n, seed=n) for n in range(20)]
    sink = PostgresIOManager.at(every_postgres_url)
    for _ in range(2):  # the second time every load has an old partition to take away
        with ThreadPoolExecutor(20) as pool:
            list(pool.map(lambda trips: sink.replace(YELLOW, trips, writing), months))
        for trips in months:
            assert holds(sink, trips)
    assert len(relations(every_postgres_url)) == 22


def test_two_writers_of_a_month_take_turns_and_the_last_one_wins(sink, writing, log, postgres_url, tmp_path):
    first, second = made(tmp_path), made(tmp_path, rows=1_000, seed=1)
    midway, go_on = threading.Event(), threading.Event()

    def pause(number: int) -> None:
        if number == 2:
            midway.set()
            assert go_on.wait(30)

    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(sink.replace, YELLOW, Streamed(first, pause), writing)
        assert midway.wait(30)
        two = pool.submit(sink.replace, YELLOW, second, writing)
        until(lambda: any("waiting for another run" in line for line in log), 20, "the second writer to wait")
        assert not two.done()
        go_on.set()
        one.result()
        two.result()
    assert same_trips(sink.read(YELLOW, JANUARY), second)
    assert relations(postgres_url) == parts("2021_01")


def test_a_writer_that_waits_too_long_for_another_gives_up_in_a_sentence(writing, postgres_url, tmp_path):
    midway, go_on = threading.Event(), threading.Event()

    def pause(number: int) -> None:
        midway.set()
        assert go_on.wait(30)

    with ThreadPoolExecutor(1) as pool:
        one = pool.submit(PostgresIOManager.at(postgres_url).replace, YELLOW, Streamed(made(tmp_path), pause), writing)
        assert midway.wait(30)
        with pytest.raises(
            TransientError, match=r"2021-01: another run has been writing this month of ny_taxi.yellow_cab_data"
        ):
            PostgresIOManager.at(postgres_url, patience=0.5).replace(YELLOW, made(tmp_path), writing)
        go_on.set()
        one.result()


def test_a_reader_throughout_sees_the_old_or_the_new_month_and_never_waits_long(
    every_postgres_url,
    writing,
    tmp_path,
):
    sink = PostgresIOManager.at(every_postgres_url)
    months = [made(tmp_path, rows=rows, seed=rows) for rows in (20_000, 30_000)]
    sink.replace(YELLOW, months[1], writing)
    with reading(every_postgres_url) as seen:
        for _ in range(4):
            for trips in months:
                sink.replace(YELLOW, trips, writing)
    assert seen.counts == {20_000, 30_000}
    assert seen.longest < 2


def test_a_long_transaction_of_a_reader_delays_the_swap_and_other_readers_hardly_notice(
    writing,
    log,
    postgres_url,
    tmp_path,
):
    sink, old, new = PostgresIOManager.at(postgres_url), made(tmp_path), made(tmp_path, rows=3_000, seed=1)
    sink.replace(YELLOW, old, writing)
    with ThreadPoolExecutor(1) as pool, reading(postgres_url) as seen:
        with psycopg.connect(postgres_url, application_name="a notebook") as notebook:
            assert notebook.execute(f"SELECT count(*) FROM {TABLE}").fetchone() == (2_000,)
            replaced = pool.submit(sink.replace, YELLOW, new, writing)
            until(lambda: sum("trying again" in line for line in log) >= 2, 30, "the swap to try twice")
            assert not replaced.done()
            assert any(f"in use by process {notebook.info.backend_pid} of taxi (a notebook)" in line for line in log), (
                log
            )
        replaced.result(timeout=30)
    assert holds(sink, new)
    assert seen.counts == {2_000, 3_000}
    assert seen.longest < 4  # 1.2 s in line behind the swap, on a busy machine
    assert "SELECT" not in "".join(log)


def test_a_reader_that_does_not_end_is_named_and_the_month_stays_as_it_was(writing, postgres_url, tmp_path):
    sink, old = PostgresIOManager.at(postgres_url, patience=2), made(tmp_path)
    sink.replace(YELLOW, old, writing)
    with psycopg.connect(postgres_url, application_name="a notebook") as notebook:
        notebook.execute(f"SELECT count(*) FROM {TABLE}")
        with pytest.raises(
            TransientError, match=r"2021-01: .* in use by process \d+ of taxi \(a notebook\), its query begun"
        ):
            sink.replace(YELLOW, made(tmp_path, seed=1), writing)
    assert same_trips(sink.read(YELLOW, JANUARY), old)
    assert relations(postgres_url) == parts("2021_01")


def test_a_server_killed_with_9_midway_fails_the_load_in_a_sentence_and_the_next_one_starts_it_again(
    own_postgres_server,
    writing,
    tmp_path,
):
    sink, old, new = PostgresIOManager(), made(tmp_path), made(tmp_path, rows=5_000, seed=1)
    sink.replace(YELLOW, old, writing)
    with pytest.raises(
        TransientError, match=r"2021-01: Postgres on 127.0.0.1:\d+, database postgres says: .*run it again"
    ):
        sink.replace(YELLOW, Streamed(new, lambda number: own_postgres_server.kill() if number == 5 else None), writing)
    assert holds(sink, old)
    assert relations(own_postgres_server.url) == parts("2021_01")
    sink.replace(YELLOW, new, writing)
    assert same_trips(sink.read(YELLOW, JANUARY), new)


def test_a_connection_cut_by_the_server_midway_is_told_as_worth_a_retry(sink, writing, postgres_url, tmp_path):
    def cut(number: int) -> None:
        if number == 2:
            ours = "application_name = 'taxi_assets' AND datname = current_database()"
            run_sql(postgres_url, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {ours}")

    with pytest.raises(TransientError, match=r"2021-01: Postgres on .* run it again"):
        sink.replace(YELLOW, Streamed(made(tmp_path), cut), writing)
    assert sink.read_facts(YELLOW, JANUARY) is None


def test_a_statement_that_takes_too_long_is_cancelled(writing, postgres_url, tmp_path):
    sink = PostgresIOManager.at(postgres_url, statement_timeout=0.5)
    with pytest.raises(TransientError, match=r"2021-01: .*statement timeout"):
        sink.replace(YELLOW, Streamed(made(tmp_path), lambda number: time.sleep(0.5)), writing)


def test_an_unpartitioned_table_of_our_name_is_refused_and_left_alone(sink, writing, postgres_url, tmp_path):
    run_sql(postgres_url, "CREATE SCHEMA ny_taxi", f"CREATE TABLE {TABLE} (n int)", f"INSERT INTO {TABLE} VALUES (1)")
    with pytest.raises(PermanentError, match=rf"{TABLE} exists and is not partitioned .*RENAME TO yellow_cab_data_old"):
        sink.replace(YELLOW, made(tmp_path), writing)
    assert rows_of(postgres_url, f"SELECT n FROM {TABLE}") == [(1,)]


def test_a_table_that_has_the_name_of_the_months_partition_is_refused_and_left_alone(
    sink,
    writing,
    postgres_url,
    tmp_path,
):
    sink.replace(YELLOW, made(tmp_path, "2021-02"), writing)
    run_sql(postgres_url, f"CREATE TABLE {TABLE}_2021_01 (n int)", f"INSERT INTO {TABLE}_2021_01 VALUES (1)")
    with pytest.raises(PermanentError, match=rf"2021-01: {TABLE}_2021_01 exists and is no partition of"):
        sink.replace(YELLOW, made(tmp_path), writing)
    assert rows_of(postgres_url, f"SELECT n FROM {TABLE}_2021_01") == [(1,)]


def test_a_new_column_is_added_with_its_description_and_empty_in_months_before(
    sink,
    writing,
    postgres_url,
    tmp_path,
):
    fewer = with_columns(*YELLOW.columns[:-4])
    sink.replace(fewer, made(tmp_path, "2021-02", kind=fewer), writing)
    trips = made(tmp_path)
    sink.replace(YELLOW, trips, writing)
    assert same_trips(sink.read(YELLOW, JANUARY), trips)
    assert rows_of(postgres_url, f"SELECT count(*), count(dropoff_latitude) FROM {TABLE}_2021_02") == [(2_000, 0)]
    described = (
        "SELECT col_description(attrelid, attnum) FROM pg_attribute WHERE attrelid = %s::regclass AND attname = %s"
    )
    assert rows_of(postgres_url, described, TABLE, "dropoff_latitude") == [(YELLOW.columns[-1].description,)]


def test_a_column_of_another_type_or_one_too_many_is_refused_by_name(sink, writing, tmp_path):
    more = with_columns(*YELLOW.columns, TIP)
    sink.replace(more, made(tmp_path, "2021-02", kind=more), writing)
    with pytest.raises(PermanentError, match=f"{TABLE} has column tip_jar, which trips do not have"):
        sink.replace(YELLOW, made(tmp_path), writing)
    other = with_columns(*YELLOW.columns, dataclasses.replace(TIP, type=pa.string()))
    with pytest.raises(PermanentError, match="column tip_jar as double precision, trips have it as text"):
        sink.replace(other, made(tmp_path), writing)


def test_trips_that_lack_a_column_are_refused_by_name(sink, writing, tmp_path):
    fewer = with_columns(*YELLOW.columns[:-1])
    with pytest.raises(PermanentError, match=r"2021-01: column dropoff_latitude of the trips is missing"):
        sink.replace(YELLOW, made(tmp_path, kind=fewer), writing)


def test_indexes_of_the_table_are_on_every_new_partition_and_were_made_before_the_swap(
    every_postgres_url,
    writing,
    tmp_path,
):
    sink = PostgresIOManager.at(every_postgres_url)
    sink.replace(YELLOW, made(tmp_path, "2021-02"), writing)
    run_sql(
        every_postgres_url,
        f'CREATE INDEX "odd name" ON {TABLE} (pulocationid, tpep_pickup_datetime DESC) WHERE vendorid = 1',
    )
    for seed in range(2):
        sink.replace(YELLOW, made(tmp_path, seed=seed), writing)
    query = "SELECT count(*) FROM pg_inherits JOIN pg_index ON indexrelid = inhrelid WHERE inhparent = %s::regclass"
    assert rows_of(every_postgres_url, query, 'ny_taxi."odd name"') == [(2,)]
    query = "SELECT indexname FROM pg_indexes WHERE tablename = 'yellow_cab_data_2021_01'"
    ((name,),) = rows_of(every_postgres_url, query)
    assert name.startswith("yellow_cab_data_2021_01_new")  # named when its table was not yet swapped in


def test_a_role_without_privileges_loads_into_a_schema_that_it_may_create_in(
    every_postgres_url,
    every_postgres_server,
    writing,
    tmp_path,
):
    database = every_postgres_url.rpartition("/")[2]
    role = f"loader_{database}"
    run_sql(every_postgres_server.url, f"CREATE ROLE {role} LOGIN PASSWORD 'sesame' NOSUPERUSER")
    try:
        sink = PostgresIOManager.at(as_user(every_postgres_url, role, "sesame"))
        with pytest.raises(PermanentError, match=r"2021-01: .*permission denied for database .*TAXI_POSTGRES_SCHEMA"):
            sink.replace(YELLOW, made(tmp_path), writing)
        run_sql(every_postgres_url, f"CREATE SCHEMA ny_taxi AUTHORIZATION {role}")
        for seed in range(2):
            trips = made(tmp_path, seed=seed)
            sink.replace(YELLOW, trips, writing)
            assert same_trips(sink.read(YELLOW, JANUARY), trips)
        with pytest.raises(PermanentError, match="permission denied for database"):
            PostgresIOManager.at(as_user(every_postgres_url, role, "sesame"), schema_name="other").replace(
                YELLOW, trips, writing
            )
    finally:
        run_sql(every_postgres_url, f"DROP OWNED BY {role} CASCADE", f"DROP ROLE {role}")


def test_a_table_of_another_owner_is_refused_in_a_sentence(postgres_url, postgres_server, writing, tmp_path):
    PostgresIOManager.at(postgres_url).replace(YELLOW, made(tmp_path), writing)
    role = f"guest_{postgres_url.rpartition('/')[2]}"
    run_sql(postgres_url, f"CREATE ROLE {role} LOGIN PASSWORD 'sesame'", f"GRANT ALL ON SCHEMA ny_taxi TO {role}",
            f"GRANT ALL ON ALL TABLES IN SCHEMA ny_taxi TO {role}")  # fmt: skip
    try:
        with pytest.raises(PermanentError, match=r"2021-01: .*must be owner of table yellow_cab_data.*owns the tables"):
            PostgresIOManager.at(as_user(postgres_url, role, "sesame")).replace(YELLOW, made(tmp_path, seed=1), writing)
    finally:
        run_sql(postgres_url, f"DROP OWNED BY {role} CASCADE", f"DROP ROLE {role}")


SECRET = "s3cr3t%2Fword"


@pytest.mark.parametrize(
    ("address", "error", "sentence"),
    [
        ("postgresql://taxi:{word}@127.0.0.1:{closed}/trips", TransientError,
         r"2021-01: Postgres on 127.0.0.1:\d+, database trips cannot be reached \(.*refused.*\); start it or correct"),
        ("postgresql://taxi:{word}@no-such-host.invalid/trips", TransientError,
         r"2021-01: Postgres on no-such-host.invalid:5432, database trips cannot be reached"),
        ("postgresql://taxi:{word}@127.0.0.1:{open}/postgres", PermanentError,
         r"2021-01: Postgres on .* refuses the connection \(.*authentication failed.*check the user and password"),
        ("postgresql://taxi@127.0.0.1:{open}/postgres", PermanentError, r"no password supplied.*add the password"),
        ("{good}_not_there", PermanentError, r'database ".*not_there" does not exist.*create it, or correct'),
        ("{good}?sslmode=require", PermanentError, r"does not support SSL.*enable TLS"),
        ("mysql://taxi:{word}@127.0.0.1/trips", PermanentError, r"^TAXI_POSTGRES_URL is not an address of Postgres"),
        ("postgresql://taxi:{word}@127.0.0.1:port/trips", PermanentError,
         r"invalid integer value .*: correct TAXI_POSTGRES_URL"),
    ],
)  # fmt: skip
def test_a_server_that_cannot_be_used_is_told_in_one_sentence_without_the_password(
    postgres_server,
    writing,
    tmp_path,
    address,
    error,
    sentence,
    capsys,
):
    port = postgres_server.url.rpartition(":")[2].partition("/")[0]
    url = address.format(word=SECRET, closed=free_port(), open=port, good=postgres_server.url)
    sink = PostgresIOManager.at(url)
    with pytest.raises(error, match=sentence) as raised:
        sink.replace(YELLOW, made(tmp_path), writing)
    told = f"{raised.value!r} {raised.value.__cause__!r} {sink!r} {sink} {capsys.readouterr()}"
    for word in (SECRET, "s3cr3t/word", postgres_server.url.split(":")[2].partition("@")[0]):
        assert word not in told
    assert "\n" not in str(raised.value)


def test_the_address_is_nowhere_in_what_dagster_shows_and_is_still_used_in_its_runs(postgres_url, tmp_path):
    import dagster as dg

    sink = PostgresIOManager.at(postgres_url)
    assert postgres_url not in repr(sink) + str(sink) + sink.model_dump_json()
    shown = str(PostgresIOManager.to_config_schema().as_field().config_type.fields.keys())
    assert "url" not in shown
    trips = made(tmp_path)

    @dg.asset(partitions_def=dg.MonthlyPartitionsDefinition("2021-01-01"), io_manager_key="postgres")
    def postgres_table() -> object:
        return trips

    result = dg.materialize([postgres_table], partition_key="2021-01-01", resources={"postgres": sink})
    assert result.success
    assert holds(sink, trips)


def test_without_an_address_it_is_the_settings_one_and_else_the_embedded_server(
    postgres_url,
    writing,
    tmp_path,
    monkeypatch,
):
    from taxi_assets.settings import get_settings

    trips = made(tmp_path)
    monkeypatch.setenv("TAXI_POSTGRES_URL", postgres_url)
    get_settings.cache_clear()
    PostgresIOManager(schema_name="by_setting").replace(YELLOW, trips, writing)
    assert rows_of(postgres_url, "SELECT count(*) FROM by_setting.yellow_cab_data") == [(2_000,)]
    monkeypatch.delenv("TAXI_POSTGRES_URL")
    get_settings.cache_clear()
    embedded = EmbeddedPostgres(tmp_path / ".taxi" / "postgres")
    try:
        PostgresIOManager().replace(YELLOW, trips, writing)
        assert rows_of(embedded.url(), f"SELECT count(*) FROM {TABLE}") == [(2_000,)]
    finally:
        embedded.remove()


def test_long_loads_tell_how_far_they_are(sink, writing, log, tmp_path):
    sink.replace(YELLOW, Streamed(made(tmp_path), lambda number: time.sleep(0.8)), writing)
    assert any("2021-01: 1,500 rows (75 %)" in line and "rows/s" in line for line in log), log


def test_facts_agree_with_what_the_writer_of_the_file_found(sink, writing, tmp_path):
    trips = made(tmp_path, rows=100_000)
    sink.replace(YELLOW, trips, writing)
    found = sink.read_facts(YELLOW, JANUARY)
    assert found == Facts(
        100_000,
        pytest.approx(trips.facts.total_amount, rel=1e-9),
        trips.facts.first_pickup,
        trips.facts.last_pickup,
        {},
    )
    sink.replace(YELLOW, made(tmp_path, rows=0), writing)
    assert sink.read_facts(YELLOW, JANUARY) == Facts(0, 0.0, None, None, {})


def test_a_reader_of_the_handle_that_stops_early_lets_go_of_the_table(sink, writing, tmp_path):
    trips = made(tmp_path, rows=200_000)
    sink.replace(YELLOW, trips, writing)
    batches = sink.read(YELLOW, JANUARY).batches(rows=1_000)
    assert next(batches).num_rows == 1_000
    batches.close()
    begun = time.monotonic()
    sink.replace(YELLOW, made(tmp_path, rows=10), writing)
    assert time.monotonic() - begun < 5
