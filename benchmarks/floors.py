"""The least that each part costs on this machine: the same bytes through the fastest plain call there is, whole in memory
where that is faster. `python -m benchmarks.floors NAME` runs one; imports and reading the input are not counted.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import inputs
from benchmarks.measure import Case, report

if TYPE_CHECKING:
    import psycopg


def decode() -> Callable[[], object]:
    """Unpack the csv.gz (isal), 4 MB at a time."""
    from isal import igzip

    def work() -> None:
        with igzip.open(inputs.PUBLISHED) as file:
            while file.read(4 << 20):
                pass

    return work


def parse() -> Callable[[], object]:
    """Parse the unpacked CSV with pyarrow into the canonical types, on all cores."""
    import pyarrow as pa
    from pyarrow import csv

    from taxi_assets.datasets.schema import KINDS

    data = inputs.CSV.read_bytes()
    names = data[: data.index(b"\n")].decode().strip().lower().split(",")
    kind = KINDS["yellow"]
    types = {name: kind.schema.field(name).type for name in names}

    def work() -> object:
        return csv.read_csv(
            pa.py_buffer(data),
            csv.ReadOptions(column_names=names, skip_rows=1),
            convert_options=csv.ConvertOptions(column_types=types, strings_can_be_null=True, null_values=[""]),
        )

    return work


def write_raw() -> Callable[[], object]:
    """Write the month, in memory, as Parquet with the codec and dictionaries of ours."""
    import pyarrow.parquet as pq

    from taxi_assets.core.staging import parquet_options

    table = pq.read_table(inputs.RAW)
    return lambda: pq.write_table(
        table, _target("raw.parquet"), row_group_size=1 << 18, **parquet_options(table.schema, "lz4")
    )


def write_clean() -> Callable[[], object]:
    """Read the raw Parquet, keep the clean trips, write them as Parquet: pyarrow, whole in memory, on all cores."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    from taxi_assets.core.month import Month
    from taxi_assets.core.staging import parquet_options
    from taxi_assets.datasets.schema import KINDS

    kind, month = KINDS["yellow"], Month.parse(inputs.MONTH)
    pickup = pc.field(kind.pickup)
    wanted = (pc.field("passenger_count") > 0) & (pickup >= month.start) & (pickup < month.end)

    def work() -> None:
        table = pq.read_table(inputs.RAW, columns=kind.schema.names, filters=wanted)
        pq.write_table(table, _target("clean.parquet"), row_group_size=1 << 18, **parquet_options(table.schema, "zstd"))

    return work


def copy() -> Callable[[], object]:
    """COPY a file already in Postgres' binary form, with FREEZE, into a table of the same transaction, and commit."""
    return _copying()


def copy_replacing() -> Callable[[], object]:
    """The same, with the month before still there for its readers, and dropped in the transaction."""
    _copying()()
    return _copying(replacing=True)


def _copying(*, replacing: bool = False) -> Callable[[], None]:
    from taxi_assets.datasets.schema import KINDS
    from taxi_assets.sinks.postgres.table import SQL_TYPES

    columns = ", ".join(f"{column.name} {SQL_TYPES[column.type]}" for column in KINDS["yellow"].columns)
    connection = connect()
    connection.execute("CREATE SCHEMA IF NOT EXISTS bench")
    if not replacing:
        connection.execute("DROP TABLE IF EXISTS bench.floor")
    connection.execute("CHECKPOINT")
    inputs.BINARY.read_bytes()  # into the page cache

    def work() -> None:
        with connection.transaction(), connection.cursor() as cursor, inputs.BINARY.open("rb") as file:
            if replacing:
                cursor.execute("ALTER TABLE bench.floor RENAME TO old")
            cursor.execute(f"CREATE TABLE bench.floor ({columns})".encode())
            with cursor.copy("COPY bench.floor FROM STDIN (FORMAT binary, FREEZE)") as sink:
                while data := file.read(1 << 20):
                    sink.write(data)
            if replacing:
                cursor.execute("DROP TABLE bench.old")

    return work


def copy_bytes() -> Callable[[], object]:
    """Copy the clean month's Parquet bytes to another file, flushed to disk."""

    def work() -> None:
        target = _target("copied.parquet")
        shutil.copyfile(inputs.CLEAN, target)
        with target.open("rb") as file:
            os.fsync(file.fileno())

    return work


def day_folders() -> Callable[[], object]:
    """Split the clean Parquet into day folders with pyarrow.dataset, on all cores."""
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import dataset

    from taxi_assets.datasets.schema import KINDS

    kind = KINDS["yellow"]

    def work() -> None:
        root = _target("days")
        shutil.rmtree(root, ignore_errors=True)
        columns: dict = {name: pc.field(name) for name in kind.schema.names}
        columns[kind.pickup_date] = pc.field(kind.pickup).cast(pa.date32())
        options = {"compression": "zstd", "compression_level": 1}
        dataset.write_dataset(
            dataset.dataset(inputs.CLEAN).scanner(columns=columns),
            root,
            format="parquet",
            file_options=dataset.ParquetFileFormat().make_write_options(**options),
            partitioning=dataset.partitioning(pa.schema([(kind.pickup_date, pa.date32())]), flavor="hive"),
        )

    return work


def duckdb() -> Callable[[], object]:
    """Load the clean Parquet into a new table of a DuckDB file, and close it."""
    import duckdb as library

    path = _target("floor.duckdb")
    path.unlink(missing_ok=True)

    def work() -> None:
        with library.connect(str(path), config={"preserve_insertion_order": False}) as connection:
            connection.execute(f"CREATE TABLE trips AS SELECT * FROM read_parquet('{inputs.CLEAN}')")

    return work


def connect() -> psycopg.Connection:
    """A connection to the server that all cases share."""
    import psycopg

    return psycopg.connect(
        host=os.environ["BENCH_POSTGRES_HOST"],
        port=int(os.environ["BENCH_POSTGRES_PORT"]),
        user=os.environ["BENCH_POSTGRES_USER"],
        password=os.environ["BENCH_POSTGRES_PASSWORD"],
        dbname=os.environ["BENCH_POSTGRES_DATABASE"],
        autocommit=True,
    )


def _target(name: str) -> Path:
    return inputs.SCRATCH / name


FLOORS = {
    f"floor_{f.__name__}": f
    for f in (decode, parse, write_raw, write_clean, copy, copy_replacing, copy_bytes, day_folders, duckdb)
}

NOOP = (sys.executable, "-m", "benchmarks.launch", "benchmarks.noop_graph")
CASES = [
    *(
        Case(
            name,
            (floor.__doc__ or "").partition(" `python")[0],
            (sys.executable, "-m", "benchmarks.floors", name),
            True,
        )
        for name, floor in FLOORS.items()
    ),
    Case("import_dagster", "Start Python and import dagster.", (sys.executable, "-c", "import dagster")),
    Case(
        "noop_graph",
        "A graph of the shape of ours, assets and checks that do nothing, through the same launch path.",
        NOOP,
        home="noop",
    ),
]


def timed(work: Callable[[], object]) -> None:
    """Run `work` once and report its seconds and those of the processor."""
    cpu, started = time.process_time(), time.monotonic()
    work()
    report(seconds=time.monotonic() - started, cpu=time.process_time() - cpu)


if __name__ == "__main__":
    timed(FLOORS[sys.argv[1]]())
