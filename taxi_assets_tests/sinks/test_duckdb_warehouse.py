# ruff: noqa: F401, F811 - pytest finds fixtures by their imported names
"""The DuckDB warehouse: a month is replaced whole or not at all, whoever else wants the file and whenever it is killed.

What every sink promises is in the contract suite; here is what is particular to a file that one process at a time may
open.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from taxi_assets.core.errors import PermanentError, TransientError
from taxi_assets.core.folders import default_staging
from taxi_assets.core.month import Month
from taxi_assets.core.month_file import MonthFile
from taxi_assets.datasets.schema import GREEN, YELLOW, Column
from taxi_assets.sinks.duckdb import connection as duckdb_file
from taxi_assets.sinks.duckdb.io_manager import DuckDBIOManager
from taxi_assets_tests.months import month_of_trips, one_pickup_outside, same_trips
from taxi_assets_tests.sink_fixtures import holds, log, made, with_columns, writing

JANUARY, FEBRUARY = Month(2021, 1), Month(2021, 2)
TIP = Column("tip_jar", "double", "Coins, US dollars.")


@pytest.fixture
def warehouse(tmp_path: Path) -> DuckDBIOManager:
    return DuckDBIOManager(path=str(tmp_path / "warehouse.duckdb"))


class Streamed(MonthFile):
    """A month whose path DuckDB would take for a pattern, so that its rows are streamed."""

    def __init__(self, file: MonthFile, breaks_after: int | None = None) -> None:
        super().__init__(
            file.path.with_name("[streamed].parquet"), file.month, manifest=file.manifest, bytes=file.bytes
        )
        self._file, self._breaks_after, self.schema = file, breaks_after, file.schema

    def batches(self, columns: list[str] | None = None, rows: int = 500) -> Iterator[pa.RecordBatch]:
        for number, batch in enumerate(self._file.batches(columns, rows)):
            if number == self._breaks_after:
                raise ConnectionResetError("the bucket went away")
            yield batch

    def to_arrow(self) -> pa.Table:
        return self._file.to_arrow()


def test_a_first_load_makes_file_schema_and_described_table_and_reads_back_the_same_trips(warehouse, writing, tmp_path):
    assert warehouse.measure(YELLOW.table, JANUARY) is None
    trips = made(tmp_path)
    metadata = warehouse.replace(YELLOW.table, trips, writing)
    assert metadata["dagster/table_name"] == "ny_taxi.yellow_cab_data"
    assert metadata["dagster/partition_row_count"] == 2_000
    assert holds(warehouse, trips)
    assert same_trips(warehouse.read(YELLOW.table, JANUARY), trips)
    with duckdb.connect(warehouse.path) as connection:
        comments = connection.sql(
            "SELECT column_name, comment FROM duckdb_columns() WHERE table_name = 'yellow_cab_data'"
        ).fetchall()
    assert comments == [(column.name, column.description) for column in YELLOW.columns]


def test_a_dataset_may_be_named_like_its_file(writing, tmp_path):
    warehouse, trips = DuckDBIOManager(path=str(tmp_path / "trips.duckdb"), dataset="trips"), made(tmp_path)
    for _ in range(2):
        warehouse.replace(YELLOW.table, trips, writing)
        assert holds(warehouse, trips)


def test_a_month_that_is_not_a_local_file_is_streamed(warehouse, writing, tmp_path):
    trips = made(tmp_path)
    warehouse.replace(YELLOW.table, Streamed(trips), writing)
    assert same_trips(warehouse.read(YELLOW.table, JANUARY), trips)


def test_a_path_that_looks_like_a_pattern_or_a_hive_folder_is_taken_as_it_is(warehouse, writing, tmp_path):
    for name in ("[ab]*", "day=2021-01-01", "it's"):
        trips = month_of_trips(tmp_path / name, "2021-01", 100, seed=len(name))
        warehouse.replace(YELLOW.table, trips, writing)
        assert same_trips(warehouse.read(YELLOW.table, JANUARY), trips)


def test_a_row_outside_the_month_or_without_a_pickup_refuses_the_load_whole(warehouse, writing, tmp_path):
    old = made(tmp_path)
    warehouse.replace(YELLOW.table, old, writing)
    for spoil in (one_pickup_outside, without_first_pickup):
        with pytest.raises(PermanentError, match=r"2021-01: 1 of 300 rows have no tpep_pickup_datetime in the month"):
            warehouse.replace(YELLOW.table, made(tmp_path, rows=300, seed=1, change=spoil), writing)
        assert same_trips(warehouse.read(YELLOW.table, JANUARY), old)
    assert warehouse.measure(YELLOW.table, Month(2022, 1)).rows == 0


def without_first_pickup(batch: pa.RecordBatch) -> pa.RecordBatch:
    index = batch.schema.get_field_index(YELLOW.pickup)
    pickups = [None, *batch.column(index)[1:].to_pylist()]
    return batch.set_column(index, batch.schema.field(index), pa.array(pickups, pa.timestamp("us")))


def test_a_new_column_is_added_with_its_description_and_empty_in_older_months(warehouse, writing, tmp_path):
    warehouse.replace(YELLOW.table, made(tmp_path, "2021-02"), writing)
    wider = with_columns(*YELLOW.columns, TIP)
    trips = made(tmp_path, kind=wider)
    warehouse.replace(wider.table, trips, writing)
    assert same_trips(warehouse.read(wider.table, JANUARY), trips)
    assert warehouse.read(wider.table, FEBRUARY).to_arrow().column("tip_jar").null_count == 2_000
    with duckdb.connect(warehouse.path) as connection:
        [(comment,)] = connection.sql("SELECT comment FROM duckdb_columns() WHERE column_name = 'tip_jar'").fetchall()
    assert comment == "Coins, US dollars."


def test_a_new_column_of_a_load_that_fails_is_not_added(warehouse, writing, tmp_path):
    warehouse.replace(YELLOW.table, made(tmp_path), writing)
    wider = with_columns(*YELLOW.columns, TIP)
    with pytest.raises(PermanentError, match="no tpep_pickup_datetime in the month"):
        warehouse.replace(wider.table, made(tmp_path, kind=wider, change=one_pickup_outside), writing)
    with duckdb.connect(warehouse.path) as connection:
        assert not connection.sql("SELECT 1 FROM duckdb_columns() WHERE column_name = 'tip_jar'").fetchall()


def test_a_changed_column_is_refused_by_name(warehouse, writing, tmp_path):
    old = made(tmp_path)
    warehouse.replace(YELLOW.table, old, writing)
    kind = with_columns(*YELLOW.columns[:-1], Column("dropoff_latitude", "string", ""))
    with pytest.raises(PermanentError, match="has column dropoff_latitude as DOUBLE, trips have it as VARCHAR"):
        warehouse.replace(kind.table, made(tmp_path, seed=1, kind=kind), writing)
    assert same_trips(warehouse.read(YELLOW.table, JANUARY), old)


def test_while_another_process_holds_the_file_a_load_waits_and_says_for_whom(
    warehouse, writing, log, tmp_path, monkeypatch
):
    monkeypatch.setattr(duckdb_file, "_LOG_AFTER_SECONDS", 0.2)
    trips = made(tmp_path)
    with holder(warehouse.path) as child:
        release = threading.Timer(1.0, child.stdin.close)
        release.start()
        warehouse.replace(YELLOW.table, trips, writing)
    assert f"2021-01: waiting for {warehouse.path}, held by process {child.pid}." in log
    assert holds(warehouse, trips)


def test_a_first_load_does_not_overwrite_what_another_process_has_created_meanwhile(
    warehouse, writing, tmp_path, monkeypatch
):
    def exists(path: str) -> bool:
        """Say no; until anything is done about it, another process has created the file and loaded a month."""
        if path == warehouse.path:
            monkeypatch.undo()
            child = loader(warehouse, [february])
            assert child.wait(60) == 0
            return False
        return usual(path)

    january, february, usual = made(tmp_path), made(tmp_path, "2021-02", seed=1), os.path.exists
    monkeypatch.setattr(duckdb_file.os.path, "exists", exists)
    warehouse.replace(YELLOW.table, january, writing)
    assert holds(warehouse, january)
    assert holds(warehouse, february)
    assert [path.name for path in tmp_path.iterdir() if "warehouse" in path.name] == ["warehouse.duckdb"]


def test_a_file_is_created_where_there_are_no_hard_links(warehouse, writing, tmp_path, monkeypatch):
    def link(*_: str) -> None:
        raise PermissionError(1, "Operation not permitted")  # FAT on Linux

    monkeypatch.setattr(duckdb_file.os, "link", link)
    warehouse.replace(YELLOW.table, trips := made(tmp_path), writing)
    assert holds(warehouse, trips)


def test_a_file_that_stays_held_is_a_transient_error_naming_file_and_process(warehouse, writing, tmp_path):
    impatient = warehouse.model_copy(update={"lock_timeout": 0.3})
    with holder(warehouse.path) as child:
        with pytest.raises(TransientError, match=rf"2021-01: {warehouse.path} is still held by process {child.pid};"):
            impatient.replace(YELLOW.table, made(tmp_path), writing)
        with pytest.raises(TransientError, match=rf"held by process {child.pid};"):
            impatient.measure(YELLOW.table, JANUARY)
    impatient.replace(YELLOW.table, made(tmp_path), writing)


def test_a_reader_who_stops_midway_keeps_nobody_waiting(warehouse, writing, tmp_path):
    warehouse = warehouse.model_copy(update={"lock_timeout": 2.0})
    warehouse.replace(YELLOW.table, made(tmp_path), writing)
    stream = warehouse.read(YELLOW.table, JANUARY).batches(rows=100)
    next(stream)
    warehouse.replace(YELLOW.table, made(tmp_path, rows=5), writing)
    assert sum(batch.num_rows for batch in stream) == 1_900
    assert not list(Path(default_staging()).glob("warehouse-*"))


def test_a_file_that_may_not_grow_further_is_one_error_and_leaves_the_old_month(warehouse, tmp_path, writing):
    old = made(tmp_path, rows=1_000)
    warehouse.replace(YELLOW.table, old, writing)
    child = loader(warehouse, [made(tmp_path, rows=300_000, seed=1)], most_bytes=4 << 20)
    _, stderr = child.communicate(timeout=60)
    assert child.returncode != 0
    assert f"PermanentError: 2021-01: {warehouse.path} could not be used" in stderr.decode()
    assert same_trips(warehouse.read(YELLOW.table, JANUARY), old)


def test_a_file_that_is_not_a_database_is_named_and_left_alone(warehouse, writing, tmp_path):
    Path(warehouse.path).write_text("my shopping list" * 1000)
    with pytest.raises(PermanentError, match=rf"2021-01: {warehouse.path} could not be used .*not a valid DuckDB"):
        warehouse.replace(YELLOW.table, made(tmp_path), writing)
    assert Path(warehouse.path).read_text().startswith("my shopping list")


def test_replacing_a_month_ten_times_does_not_grow_the_file_beyond_two_of_it(warehouse, writing, tmp_path):
    versions = [made(tmp_path, rows=200_000, seed=seed) for seed in range(2)]
    sizes = []
    for number in range(10):
        warehouse.replace(YELLOW.table, versions[number % 2], writing)
        sizes.append(os.path.getsize(warehouse.path))
    assert max(sizes) < 2.5 * sizes[0], sizes


def test_memory_does_not_grow_with_the_month(warehouse, tmp_path):
    """Five million rows, 235 MB in the file, within 220 MB more than an idle process; DuckDB's limit is 96 MB."""
    big = made(tmp_path, rows=5_000_000)
    idle, loading = (peak_megabytes(warehouse, trips) for trips in ([], [big]))
    assert holds(warehouse, big)
    assert loading - idle < 220, (idle, loading)


def test_a_month_that_spills_needs_no_folder_to_be_there(warehouse, tmp_path, writing):
    """100,000 rows need more than 32 MB; on a machine that never staged anything."""
    trips = made(tmp_path, rows=100_000)
    shutil.rmtree(Path(default_staging()), ignore_errors=True)
    tight = DuckDBIOManager(path=warehouse.path, memory_limit="32MB")
    tight.replace(YELLOW.table, trips, writing)
    assert holds(warehouse, trips)
    assert list(Path(default_staging()).iterdir()) == []


def test_a_process_that_waits_in_vain_leaves_what_the_other_one_spilled(warehouse, tmp_path):
    hasty = warehouse.model_copy(update={"lock_timeout": 0.2})
    tight = duckdb_file.DuckDBFile(warehouse.path, warehouse.staging, "32MB", threads=1, lock_timeout=0)
    spilling = "CREATE TEMP TABLE {} AS SELECT range, hash(range) FROM range(4_000_000)"
    with tight.open("a holder") as connection:
        connection.execute(spilling.format("one"))
        assert loader(hasty, [made(tmp_path)]).wait(60) != 0
        connection.execute(spilling.format("two"))
        assert connection.execute("SELECT count(*) FROM one JOIN two USING (range)").fetchone() == (4_000_000,)


LOADER = """
import json, resource, sys
from pathlib import Path
from taxi_assets.sinks.contract import WriteContext
from taxi_assets.sinks.duckdb.io_manager import DuckDBIOManager
from taxi_assets.core.month_file import MonthFile
from taxi_assets.core.month import Month
from taxi_assets.datasets.schema import YELLOW
import duckdb
warehouse = DuckDBIOManager(**json.loads(sys.argv[1]))
if most_bytes := int(sys.argv[2]):
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
print("loading", flush=True)
for month, path in zip(sys.argv[3::2], sys.argv[4::2]):
    warehouse.replace(YELLOW.table, MonthFile(Path(path), Month.parse(month)), WriteContext("run", "token", lambda _: None, {}))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def loader(warehouse: DuckDBIOManager, months: list[MonthFile], announce: bool = False, most_bytes: int = 0):
    """A process that loads `months` one after another."""
    files = [text for trips in months for text in (str(trips.month), str(trips.path))]
    command = [sys.executable, "-c", LOADER, json.dumps(warehouse.model_dump()), str(most_bytes), *files]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE if announce else subprocess.DEVNULL,
        stderr=subprocess.PIPE if most_bytes else None,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
    )


def peak_megabytes(warehouse: DuckDBIOManager, months: list[MonthFile]) -> int:
    child = loader(warehouse, months, announce=True)
    stdout, _ = child.communicate(timeout=120)
    assert child.returncode == 0
    return int(stdout.split()[-1])


class holder:
    """A process that holds the file open until its standard input ends."""

    def __init__(self, path: str) -> None:
        program = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"
        self._child = subprocess.Popen(
            [sys.executable, "-c", program, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def __enter__(self) -> subprocess.Popen:
        assert self._child.stdout.readline() == b"held\n"
        return self._child

    def __exit__(self, *_) -> None:
        self._child.stdin.close()
        self._child.wait(10)
