"""The local warehouse: a month replaced in one transaction of a DuckDB file, standing in for BigQuery.

DuckDB lets one process at a time open a file for writing and then shuts out readers too. So every call waits its turn,
opens the file, does one short thing and closes it again. A month that is read leaves as a temporary Parquet file: a
slow reader keeps nobody waiting.
"""

from __future__ import annotations

import os
import re
import shutil
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from taxi_assets.core.errors import PermanentError, TransientError, disk_full
from taxi_assets.core.month import Month
from taxi_assets.datasets.schema import TaxiKind, columns_of
from taxi_assets.lake.month_file import BATCH_ROWS, Facts
from taxi_assets.settings import get_settings
from taxi_assets.sinks.contract import MonthIOManager, Trips, Writing, sql_to_paste
from taxi_assets.sinks.table_schema import (
    Difference,
    compare,
    converted_batches,
    require_canonical,
    surplus_schema,
)
from taxi_assets.sinks.warehouse_month import WarehouseMonth

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

SQL_TYPES = {
    "int16": "SMALLINT",
    "int64": "BIGINT",
    "bool": "BOOLEAN",
    "double": "DOUBLE",
    "string": "VARCHAR",
    "timestamp[us]": "TIMESTAMP",
    "date32[day]": "DATE",
}

REMEDY = "change the table's column yourself, or name another dataset in TAXI_DATASET, then materialize again."

_TURN: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
"""One connection a file in this process: DuckDB shares an instance among threads and refuses a second configuration."""

_RETRY_SECONDS = 0.05
_TELL_AFTER_SECONDS = 5.0


class DuckDBWarehouseIOManager(MonthIOManager):
    """Keeps a table a kind of taxi, `dataset.table`, in the DuckDB file `path`."""

    path: str = Field(description="The DuckDB file; it and its folder are made when missing.")
    dataset: str = Field("ny_taxi", description="Schema of the tables.")
    memory_limit: str = Field("96MB", description="Most memory DuckDB takes; a month of 15 million rows needs no more.")
    threads: int = Field(2, ge=1, description="Threads DuckDB works with.")
    lock_timeout: float = Field(300.0, gt=0, description="Seconds to wait while another process holds the file.")

    def replace(self, kind: TaxiKind, trips: Trips, writing: Writing) -> Mapping[str, Any]:
        """Replace the month in one transaction: both the old and the new month are never seen, nor is neither.

        Raises:
            TransientError: another process held the file for `lock_timeout` seconds.
            PermanentError: a row is outside the month, a column is not the table's, the disk is full.
        """
        require_canonical(kind, trips)
        path = getattr(trips, "path", None)  # an object in a bucket may be fetched for this: not while holding the file
        started = time.monotonic()
        with self._open(trips.month, writing.log) as connection, _transaction(connection):
            difference = self._bring_up_table(connection, kind, trips, writing.log)
            connection.execute(f"DELETE FROM {self._table(kind)} WHERE {_in_month(kind)}", _range(trips.month))
            _insert(connection, self._table(kind), trips, path, difference.converted)
            self._require_whole(connection, kind, trips)
        seconds = time.monotonic() - started
        writing.log(f"{trips.month}: {trips.rows:,} rows in {self._name(kind)} of {self.path}, {seconds:.1f} s.")
        return {
            "dagster/table_name": self._name(kind),
            "dagster/partition_row_count": trips.rows,
            "sql": sql_to_paste(self._name(kind), kind, trips.month),
            "file": self.path,
        }

    def read_facts(self, kind: TaxiKind, month: Month) -> Facts | None:
        """Ask the table for the month's rows, total and span; None when there is no table."""
        with self._open_to_read(kind, month) as connection:
            if connection is None:
                return None
            rows, total, first, last = _one(
                connection,
                f"SELECT count(*), coalesce(sum(total_amount), 0), min({kind.pickup}), max({kind.pickup}) "
                f"FROM {self._table(kind)} WHERE {_in_month(kind)}",
                _range(month),
            )
        return Facts(rows, total, first and first.isoformat(sep=" "), last and last.isoformat(sep=" "), {})

    def select(self, kind: TaxiKind, month: Month, query: Callable[[str], str]) -> pa.Table:
        """The answer to a query of the month; `query` is given the table as SQL names it.

        Raises:
            PermanentError: there is no table yet.
        """
        with self._open_to_read(kind, month) as connection:
            if connection is None:
                raise PermanentError(f"{month}: {self.where(kind, month)} does not exist: materialize bq_table first.")
            return connection.sql(query(self._table(kind))).to_arrow_table()

    def where(self, kind: TaxiKind, month: Month) -> str:  # noqa: ARG002
        """The table and its file."""
        return f"{self._name(kind)} in {self.path}"

    def read(self, kind: TaxiKind, month: Month) -> Trips:
        """The month as a handle; a month without rows is empty, not missing.

        Raises:
            PermanentError: there is no table yet.
        """
        facts = self.read_facts(kind, month)
        with self._open_to_read(kind, month) as connection:
            existing = self._columns(connection, kind) if connection else {}
        if facts is None:
            raise PermanentError(f"{month}: {self.path} has no table {self._name(kind)}: materialize bq_table for it.")

        def stream(columns: list[str]) -> Iterator[pa.RecordBatch]:
            import pyarrow.parquet as pq

            with self._copied(kind, month, columns) as path, pq.ParquetFile(path) as file:
                yield from file.iter_batches()

        schema = surplus_schema(kind, existing, SQL_TYPES)

        def size() -> int:
            with self._copied(kind, month, schema.names) as path:
                return path.stat().st_size

        return WarehouseMonth(month, facts, schema, stream, size)

    @contextmanager
    def _copied(self, kind: TaxiKind, month: Month, columns: list[str]) -> Generator[Path]:
        """The month in a temporary Parquet file."""
        folder = get_settings().staging_folder
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"warehouse-{month}-{uuid.uuid4().hex[:12]}.parquet"
        query = f"SELECT {', '.join(map(_quoted, columns))} FROM {self._table(kind)} WHERE {_in_month(kind)}"
        try:
            with self._open_to_read(kind, month) as connection:
                if connection is None:
                    raise PermanentError(f"{month}: {self._name(kind)} is gone from {self.path}: materialize bq_table.")
                target = str(path).replace("'", "''")
                connection.execute(f"COPY ({query}) TO '{target}' (ROW_GROUP_SIZE {BATCH_ROWS})", _range(month))
            yield path
        finally:
            path.unlink(missing_ok=True)

    def _name(self, kind: TaxiKind) -> str:
        return f"{self.dataset}.{kind.table}"

    def _table(self, kind: TaxiKind) -> str:
        return f"{_quoted(self.dataset)}.{_quoted(kind.table)}"

    def _bring_up_table(
        self, connection: duckdb.DuckDBPyConnection, kind: TaxiKind, trips: Trips, log: Callable[[str], None]
    ) -> Difference:
        columns, existing = columns_of(kind, trips.schema), self._columns(connection, kind)
        name = f"{self._name(kind)} in {self.path}"
        difference = compare(kind, columns, existing, SQL_TYPES, table=name, remedy=REMEDY)
        definition = {c.name: f"{_quoted(c.name)} {SQL_TYPES[c.type]}" for c in columns if c.name in difference.added}
        if existing:
            for added in definition.values():
                connection.execute(f"ALTER TABLE {self._table(kind)} ADD COLUMN {added}")
        else:
            connection.execute(f"CREATE SCHEMA IF NOT EXISTS {_quoted(self.dataset)}")
            connection.execute(f"CREATE TABLE {self._table(kind)} ({', '.join(definition.values())})")
        for column in columns:
            if column.name in definition:
                text = column.description.replace("'", "''")
                connection.execute(f"COMMENT ON COLUMN {self._table(kind)}.{_quoted(column.name)} IS '{text}'")
        if difference.surplus:
            log(
                f"{trips.month}: {name} has {', '.join(difference.surplus)}, which trips do not have; null in this month."
            )
        return difference

    def _columns(self, connection: duckdb.DuckDBPyConnection, kind: TaxiKind) -> dict[str, str]:
        return dict(
            connection.execute(
                "SELECT column_name, data_type FROM duckdb_columns() WHERE database_name = current_database() "
                "AND schema_name = ? AND table_name = ? ORDER BY column_index",
                [self.dataset, kind.table],
            ).fetchall()
        )

    def _require_whole(self, connection: duckdb.DuckDBPyConnection, kind: TaxiKind, trips: Trips) -> None:
        """Count what the month now holds: a row outside it, or without a pickup, would survive the next replace."""
        query = f"SELECT count(*) FROM {self._table(kind)} WHERE {_in_month(kind)}"
        (rows,) = _one(connection, query, _range(trips.month))
        if rows != trips.rows:
            raise PermanentError(
                f"{trips.month}: {trips.rows - rows:,} of {trips.rows:,} trips have no {kind.pickup} in the month, so "
                f"nothing was loaded into {self._name(kind)}: materialize clean_trips of this month again."
            )

    @contextmanager
    def _open_to_read(self, kind: TaxiKind, month: Month) -> Generator[duckdb.DuckDBPyConnection | None]:
        """A read-only connection, or None when the file or the table is not there."""
        if not Path(self.path).exists():
            yield None
            return
        with self._open(month, read_only=True) as connection:
            yield connection if self._columns(connection, kind) else None

    @contextmanager
    def _open(
        self, month: Month, log: Callable[[str], None] = lambda _: None, *, read_only: bool = False
    ) -> Generator[duckdb.DuckDBPyConnection]:
        """The file to oneself; its errors as ours."""
        import duckdb

        path = os.path.abspath(self.path)
        deadline = time.monotonic() + self.lock_timeout
        if not _TURN[path].acquire(timeout=self.lock_timeout):
            raise TransientError(
                f"{month}: {path} was busy for {self.lock_timeout:.0f} s in this process; run it again."
            )
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with _spill_folder(path, read_only) as spill:
                options = {
                    "memory_limit": self.memory_limit,
                    "threads": self.threads,
                    "preserve_insertion_order": False,  # with it, an INSERT of many row groups keeps them in memory
                    "write_buffer_row_group_count": 1,  # as many are held by each thread before they are written
                    "temp_directory": spill,
                    "autoinstall_known_extensions": False,
                }
                connection = _connect(path, read_only, options, deadline, month, log)
                try:
                    yield connection
                finally:
                    connection.close()
        except (duckdb.Error, OSError) as error:
            if disk_full(error):
                raise PermanentError(
                    f"{month}: the disk is full at {path}; free some, then materialize again."
                ) from error
            if isinstance(error, duckdb.OutOfMemoryException):
                raise PermanentError(
                    f"{month}: {self.memory_limit} was too little memory for DuckDB to write {path}; "
                    "raise the IO manager's memory_limit."
                ) from error
            if isinstance(error, (duckdb.IOException, duckdb.SerializationException, OSError)):
                raise PermanentError(
                    f"{month}: {path} could not be used ({_first_line(error)}); mend or move it, then "
                    "materialize again."
                ) from error
            raise
        finally:
            _TURN[path].release()


def _connect(
    path: str, read_only: bool, options: dict[str, Any], deadline: float, month: Month, log: Callable[[str], None]
) -> duckdb.DuckDBPyConnection:
    """Open the file, waiting until `deadline` while another process holds it."""
    import duckdb

    tell_at = time.monotonic() + _TELL_AFTER_SECONDS
    while True:
        try:
            return duckdb.connect(path, read_only=read_only, config=options)
        except (duckdb.IOException, duckdb.ConnectionException) as error:
            if "Could not set lock" not in str(error) and "different configuration" not in str(error):
                raise
            holder = re.search(r"PID (\d+)", str(error))
            held_by = f"process {holder[1]}" if holder else "another connection"
        now = time.monotonic()
        if now >= deadline:
            raise TransientError(
                f"{month}: {path} is still held by {held_by}; let it finish or end it (a notebook or "
                "the DuckDB shell holds the file while connected), then materialize again."
            )
        if now >= tell_at:
            log(f"{month}: waiting for {path}, held by {held_by}.")
            tell_at = now + 6 * _TELL_AFTER_SECONDS
        time.sleep(_RETRY_SECONDS)


@contextmanager
def _transaction(connection: duckdb.DuckDBPyConnection) -> Generator[None]:
    connection.execute("BEGIN TRANSACTION")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        connection.close()  # rolls back, also where a failed statement has made ROLLBACK an error itself
        raise


@contextmanager
def _spill_folder(path: str, read_only: bool) -> Generator[str]:
    """Where the writer may spill: one name, as it has the file to itself, so what a killed one left goes with it."""
    if read_only:  # counting and copying never spill
        yield ""
        return
    folder = get_settings().staging_folder / f"{Path(path).name}.spill"
    folder.parent.mkdir(parents=True, exist_ok=True)  # DuckDB makes the folder itself, and when it spills
    try:
        yield str(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _insert(
    connection: duckdb.DuckDBPyConnection, table: str, trips: Trips, path: Path | None, converted: Mapping[str, str]
) -> None:
    """Insert from the file itself where there is one and nothing is converted; else from a stream of batches."""
    is_pattern = bool(set(str(path)) & set("*?[{"))  # to DuckDB
    if path is not None and not converted and not is_pattern:
        source = f"read_parquet('{_escaped(path)}', hive_partitioning = false)"
    else:
        import pyarrow as pa

        if converted:  # checked first: DuckDB would wrap the error in one of its own
            for _ in converted_batches(trips, converted):
                pass
        types = {field.name: field.type for field in trips.schema}
        types |= {name: pa.type_for_alias(type_) for name, type_ in converted.items()}
        batches = pa.RecordBatchReader.from_batches(pa.schema(list(types.items())), converted_batches(trips, converted))
        connection.register("month_of_trips", batches)
        source = "month_of_trips"
    connection.execute(f"INSERT INTO {table} BY NAME SELECT * FROM {source}")


def _in_month(kind: TaxiKind) -> str:
    return f"{kind.pickup} >= ? AND {kind.pickup} < ?"


def _range(month: Month) -> list[Any]:
    return [month.start, month.end]


def _one(connection: duckdb.DuckDBPyConnection, query: str, parameters: list[Any]) -> tuple[Any, ...]:
    (row,) = connection.execute(query, parameters).fetchall()
    return row


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _escaped(path: Path) -> str:
    return str(path).replace("'", "''")


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0]
