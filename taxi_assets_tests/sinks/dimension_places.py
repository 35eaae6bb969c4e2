"""The places of dimensions as tests see them: what their ordinary clients read there, and processes that write until killed.

The sinks' own places (`sinks.places`) give them a server, a file or a folder.
"""

from __future__ import annotations

import multiprocessing
import os
import uuid
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from google.api_core.exceptions import NotFound

from taxi_assets.core.dimension import Dimension
from taxi_assets.core.table import Column, Table
from taxi_assets.lake.dimensions import LakeDimensions
from taxi_assets.sinks.contract import WriteContext
from taxi_assets.sinks.dimensions import DimensionPlace
from taxi_assets_tests.bigquery_fixtures import PROJECT
from taxi_assets_tests.months import stage_in
from taxi_assets_tests.postgres_fixtures import rows_of
from taxi_assets_tests.processes import until
from taxi_assets_tests.sinks.places.base import PRELOADED, Place
from taxi_assets_tests.sinks.places.managers import MAKE

PLACES = ("lake", "postgres", "duckdb", "bigquery")

TABLE = Table(
    "pets",
    (
        Column("id", "int16", "Number of the pet.", required=True),
        Column("name", "string", "What it's called; empty for strays."),
        Column("tame", "bool", "Whether it bites not."),
    ),
    key=("id",),
    description="Pets, by number.",
)

Row = tuple[int, str | None, bool]


def pets(name: str, rows: int = 1_500, **extra: object) -> Dimension:
    """A dimension whose rows all have this name in theirs, but for one without a name."""
    ids = list(range(rows))
    names = [None if id_ == 1 else f'{name}, "{id_}" \\N' for id_ in ids]
    table = pa.table([ids, names, [id_ % 2 == 0 for id_ in ids]], TABLE.schema)
    return Dimension.of(TABLE, table, {"source": "tests", "sha256": name, "generated": False, **extra})


def rows(dimension: Dimension) -> list[Row]:
    """Its rows, as `held` returns them."""
    return [tuple(row.values()) for row in dimension.rows.to_pylist()]


def kept_in(name: str, where: str) -> DimensionPlace:
    """The place, in whatever process."""
    return LakeDimensions(Path(where)) if name == "lake" else MAKE[name](where).dimensions


def held(place: Place) -> list[Row] | None:
    """The rows in order, by an ordinary client and none of our code; None without a table."""
    if place.name == "lake":
        path = Path(place.where) / "pets.parquet"
        if not path.exists():
            return None
        with pq.ParquetFile(path) as file:  # `read_table` opens it twice, and it may be replaced in between
            return list(zip(*file.read().to_pydict().values(), strict=True))
    if place.name == "duckdb":
        if not Path(place.where).exists():
            return None
        with until(lambda: _opened(place.where), 30, "the file, which one at a time may open") as connection:
            with suppress(duckdb.CatalogException):
                return connection.execute("SELECT id, name, tame FROM ny_taxi.pets ORDER BY id").fetchall()
            return None
    if place.name == "postgres":
        if not rows_of(place.where, "SELECT 1 FROM pg_tables WHERE tablename = 'pets'"):
            return None
        return rows_of(place.where, "SELECT id, name, tame FROM ny_taxi.pets ORDER BY id")
    with suppress(NotFound):
        query = f"SELECT id, name, tame FROM `{PROJECT}.{place.dataset}.pets` ORDER BY id"
        return [row.values() for row in place.client.query(query).result()]
    return None


def tables(place: Place) -> set[str]:
    """The names of everything there."""
    if place.name == "lake":
        return {path.name for path in Path(place.where).iterdir()}
    if place.name == "duckdb":
        with duckdb.connect(place.where, read_only=True) as connection:
            return {name for (name,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()}
    if place.name == "postgres":
        query = "SELECT tablename FROM pg_tables WHERE schemaname !~ '^(pg_|information)'"
        return {name for (name,) in rows_of(place.where, query)}
    return {table.table_id for table in place.client.list_tables(place.dataset)}


def writing(run_id: str = "run") -> WriteContext:
    return WriteContext(run_id, uuid.uuid4().hex[:12], lambda line: None, {})


@contextmanager
def writer_without_end(place: Place, *versions: Dimension) -> Generator[multiprocessing.process.BaseProcess]:
    """A process that has begun to write the versions in turn, and does so until it is killed."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    ours, its = context.Pipe()
    process = context.Process(target=_write_on, args=(place.name, place.where, versions, place.environment, its))
    process.start()
    its.close()
    try:
        assert ours.poll(60), f"a process to write {place.name} did not start"
        ours.recv()
        yield process
    finally:
        process.kill()
        process.join()
        ours.close()


def _write_on(name, where, versions, environment, wire) -> None:
    os.environ.update(environment)
    stage_in(environment["DAGSTER_HOME"])
    place = kept_in(name, where)
    place.replace(TABLE, versions[0], writing())
    wire.send("begun")
    while True:
        for version in versions:
            place.replace(TABLE, version, writing())


def _opened(path: str) -> duckdb.DuckDBPyConnection | None:
    with suppress(duckdb.IOException, duckdb.ConnectionException):
        return duckdb.connect(path, read_only=True)
    return None
