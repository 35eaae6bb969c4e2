"""The local warehouse: a month replaced in one transaction of a DuckDB file, instead of BigQuery.

Only one process at a time can open a DuckDB file for writing, and then no other can read it. So every call waits for
the file, opens it, runs one short transaction and closes it again. A month is read through a temporary Parquet file, so that
a slow reader does not block others.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from taxi_assets.core.errors import PermanentError
from taxi_assets.core.manifest import Manifest, aggregates, from_row
from taxi_assets.core.month import Month
from taxi_assets.core.month_file import BATCH_ROWS, MonthFile
from taxi_assets.core.scratch import Scratch
from taxi_assets.core.table import Table
from taxi_assets.sinks.columns import converted_batches, read_schema, require_columns
from taxi_assets.sinks.contract import ROW_COUNT, ConfigurableSink, WriteContext, example_query
from taxi_assets.sinks.duckdb.connection import DuckDBFile, transaction
from taxi_assets.sinks.duckdb.dimensions import DuckDBDimensions
from taxi_assets.sinks.duckdb.table import SQL_TYPES, DuckDBTable, quoted
from taxi_assets.sinks.duckdb.views import DuckDBViews

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

MANIFESTS = Table("month_manifests")
"""What is recorded of each month of each table."""


class DuckDBIOManager(ConfigurableSink):
    """Keeps tables, `dataset.table`, in the DuckDB file `path`."""

    kind: ClassVar[str] = "duckdb"
    is_database: ClassVar[bool] = True

    path: str = Field(description="The DuckDB file; it and its folder are created when missing.")
    dataset: str = Field("ny_taxi", description="Schema of the tables.")
    memory_limit: str = Field("96MB", description="Memory limit of DuckDB; a month of 15 million rows needs no more.")
    threads: int = Field(2, ge=1, description="Number of DuckDB's threads.")
    lock_timeout: float = Field(300.0, gt=0, description="Seconds to wait while another process holds the file.")

    def replace(self, table: Table, month_file: MonthFile, write: WriteContext) -> Mapping[str, Any]:
        """Replace the month in one transaction: readers see the old month or the new.

        Raises:
            TransientError: another process held the file for `lock_timeout` seconds.
            PermanentError: a row is outside the month, a column is not the table's, the disk is full.
        """
        month, loaded = month_file.month, require_columns(table, month_file, SQL_TYPES)
        path = month_file.path  # an object in a bucket is downloaded now, not while the file is held
        started = time.monotonic()
        with self._file().open(month, write.log) as connection, transaction(connection):
            difference = self._table(table).prepare(connection, loaded, month, write.log)
            connection.execute(f"DELETE FROM {self._table(table).sql} WHERE {_in_month(table)}", _range(month))
            _insert(connection, self._table(table).sql, month_file, path, difference.converted)
            self._require_whole(connection, table, month_file)
            self._record(connection, table, month, month_file.manifest.loaded_by(write.run_id))
        seconds = time.monotonic() - started
        write.log(f"{month}: {month_file.rows:,} rows in {self._table(table).name} of {self.path}, {seconds:.1f} s.")
        return {
            "dagster/table_name": self._table(table).name,
            ROW_COUNT: month_file.rows,
            "sql": example_query(self._table(table).name, table, month),
            "file": self.path,
        }

    def measure(self, table: Table, month: Month) -> Manifest | None:
        """Query the table for the month's rows, sums and time span; None when there is no table."""
        with self._open_to_read(table, month) as connection:
            return None if connection is None else self._measure(connection, table, month)

    def manifests(self, table: Table) -> dict[Month, Manifest]:
        """See `MonthSink.manifests`; if a month has no record, all months are measured by one query."""
        return self._manifests(table, None)

    def manifest(self, table: Table, month: Month) -> Manifest | None:
        """See `MonthSink.manifest`."""
        return self._manifests(table, month).get(month)

    def _manifests(self, table: Table, month: Month | None) -> dict[Month, Manifest]:
        with self._open_to_read(table, month or table.name) as connection:
            if connection is None:
                return {}
            recorded = {}
            if self._table(MANIFESTS).columns(connection):
                query = f"SELECT month, manifest FROM {self._table(MANIFESTS).sql} WHERE table_name = ?"
                rows = connection.execute(query, [table.name]).fetchall()
                recorded = {Month(day.year, day.month): Manifest.from_json(text) for day, text in rows}
            measured = self._by_month(connection, table, "count(*)", month)
            if measured.keys() - recorded.keys():
                measured = self._by_month(connection, table, aggregates(table), month)
        empty = {each for each, manifest in recorded.items() if not manifest.rows and month in (None, each)}
        return {each: recorded.get(each) or from_row(table, measured[each]) for each in measured.keys() | empty}

    def _by_month(
        self, connection: duckdb.DuckDBPyConnection, table: Table, select: str, month: Month | None
    ) -> dict[Month, list[Any]]:
        where, values = (f"WHERE {_in_month(table)}", _range(month)) if month else ("", [])
        start = f"date_trunc('month', {quoted(table.time or '')})"
        found = connection.execute(f"SELECT {start}, {select} FROM {self._table(table).sql} {where} GROUP BY 1", values)
        return {Month(day.year, day.month): row for day, *row in found.fetchall() if day}

    def _record(self, connection: duckdb.DuckDBPyConnection, table: Table, month: Month, manifest: Manifest) -> None:
        columns = "table_name VARCHAR, month DATE, manifest VARCHAR NOT NULL, PRIMARY KEY (table_name, month)"
        connection.execute(f"CREATE TABLE IF NOT EXISTS {self._table(MANIFESTS).sql} ({columns})")
        values = [table.name, month.start.date(), manifest.to_json()]
        connection.execute(f"INSERT OR REPLACE INTO {self._table(MANIFESTS).sql} VALUES (?, ?, ?)", values)

    def select(self, table: Table, month: Month, query: Callable[[str], str]) -> pa.Table:
        """The answer to a query of the month; `query` gets the table's name as SQL quotes it.

        Raises:
            PermanentError: there is no table yet.
        """
        with self._open_to_read(table, month) as connection:
            if connection is None:
                raise PermanentError(
                    f"{month}: {self.where(table, month)} does not exist: materialize its asset first."
                )
            return connection.sql(query(self._table(table).sql)).to_arrow_table()

    def where(self, table: Table, month: Month) -> str:  # noqa: ARG002
        """The table and its file."""
        return self._table(table).where

    @property
    def views(self) -> DuckDBViews:
        """The database as a place of views."""
        return DuckDBViews(self._file(), self.dataset)

    @property
    def dimensions(self) -> DuckDBDimensions:
        """The file as a place of dimensions."""
        return DuckDBDimensions(self._file(), self.dataset)

    def read(self, table: Table, month: Month) -> MonthFile:
        """The month as a handle; its rows are copied out when they are first read. Without rows it is empty, not missing.

        Raises:
            PermanentError: there is no table yet.
        """
        with self._open_to_read(table, month) as connection:
            if connection is None:
                raise PermanentError(
                    f"{month}: {self.path} has no table {self._table(table).name}: materialize its asset for it."
                )
            manifest = self._measure(connection, table, month)
            schema = read_schema(table, self._table(table).columns(connection), SQL_TYPES)
        scratch = Scratch(self.staging, "duckdb")

        def fetch() -> Path:
            path = scratch.folder / f"{month}.parquet"
            columns = ", ".join(map(quoted, schema.names))
            query = f"SELECT {columns} FROM {self._table(table).sql} WHERE {_in_month(table)}"
            copy = f"COPY ({query}) TO '{_escaped(path)}' (ROW_GROUP_SIZE {BATCH_ROWS})"
            with self._open_to_read(table, month) as connection:
                if connection is None:
                    raise PermanentError(
                        f"{month}: {self.where(table, month)} was deleted: materialize its asset for it."
                    )
                connection.execute(copy, _range(month))
            return path

        return MonthFile(fetch, month, manifest=manifest, schema=schema)

    def _measure(self, connection: duckdb.DuckDBPyConnection, table: Table, month: Month) -> Manifest:
        query = f"SELECT {aggregates(table)} FROM {self._table(table).sql} WHERE {_in_month(table)}"
        return from_row(table, _one(connection, query, _range(month)))

    def _table(self, table: Table) -> DuckDBTable:
        return DuckDBTable(self.dataset, table, self.path)

    def _require_whole(self, connection: duckdb.DuckDBPyConnection, table: Table, month_file: MonthFile) -> None:
        """Count the rows of the month: a row outside it, or without a time, would survive the next replacement."""
        query = f"SELECT count(*) FROM {self._table(table).sql} WHERE {_in_month(table)}"
        (rows,) = _one(connection, query, _range(month_file.month))
        if rows != month_file.rows:
            raise PermanentError(
                f"{month_file.month}: {month_file.rows - rows:,} of {month_file.rows:,} rows have no {table.time} in the "
                f"month, so nothing was loaded into {self._table(table).name}: materialize its upstream again."
            )

    @contextmanager
    def _open_to_read(self, table: Table, what: object) -> Generator[duckdb.DuckDBPyConnection | None]:
        """A read-only connection, or None when the file or the table is not there."""
        if not Path(self.path).exists():
            yield None
            return
        with self._file().open(what, read_only=True) as connection:
            yield connection if self._table(table).columns(connection) else None

    def _file(self) -> DuckDBFile:
        return DuckDBFile(self.path, self.staging, self.memory_limit, self.threads, self.lock_timeout)


def _insert(
    connection: duckdb.DuckDBPyConnection, table: str, month_file: MonthFile, path: Path, converted: Mapping[str, str]
) -> None:
    """Insert from the file if there is one and no conversion is needed; else from a stream of batches."""
    is_pattern = bool(set(str(path)) & set("*?[{"))  # to DuckDB
    if not converted and not is_pattern:
        source = f"read_parquet('{_escaped(path)}', hive_partitioning = false)"
    else:
        import pyarrow as pa

        if converted:  # checked first: DuckDB would wrap the error in another one
            for _ in converted_batches(month_file, converted):
                pass
        types = {field.name: field.type for field in month_file.schema}
        types |= {name: pa.type_for_alias(type_) for name, type_ in converted.items()}
        batches = pa.RecordBatchReader.from_batches(
            pa.schema(list(types.items())), converted_batches(month_file, converted)
        )
        connection.register("month_of_trips", batches)
        source = "month_of_trips"
    connection.execute(f"INSERT INTO {table} BY NAME SELECT * FROM {source}")


def _in_month(table: Table) -> str:
    time = quoted(table.time or "")
    return f"{time} >= ? AND {time} < ?"


def _range(month: Month) -> list[Any]:
    return [month.start, month.end]


def _one(connection: duckdb.DuckDBPyConnection, query: str, parameters: list[Any]) -> tuple[Any, ...]:
    (row,) = connection.execute(query, parameters).fetchall()
    return row


def _escaped(path: Path) -> str:
    return str(path).replace("'", "''")
