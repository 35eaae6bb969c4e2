"""The local warehouse: a month replaced in one transaction of a DuckDB file, instead of BigQuery.

Only one process at a time can open a DuckDB file for writing, and then no other can read it. So every call waits for
the file, opens it, runs one short transaction and closes it again. A month is read through a temporary Parquet file, so that
a slow reader does not block others.
"""

from __future__ import annotations

import os
import re
import shutil
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from taxi_assets.core.errors import PermanentError, TransientError, disk_full
from taxi_assets.core.manifest import Manifest, aggregates, from_row
from taxi_assets.core.month import Month
from taxi_assets.core.month_file import BATCH_ROWS, MonthFile
from taxi_assets.core.scratch import Scratch
from taxi_assets.core.table import Table
from taxi_assets.sinks.columns import Difference, compare, converted_batches, read_schema, require_columns
from taxi_assets.sinks.contract import ConfigurableSink, WriteContext, example_query

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

REMEDY = "change the table's column yourself, or name another dataset in TAXI_DATASET, then materialize again"

_LOCKS: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
"""One connection a file in this process: DuckDB shares an instance among threads and refuses a second configuration."""

_RETRY_SECONDS = 0.05
_LOG_AFTER_SECONDS = 5.0


class DuckDBIOManager(ConfigurableSink):
    """Keeps tables, `dataset.table`, in the DuckDB file `path`."""

    kind: ClassVar[str] = "duckdb"

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
        with self._open(month, write.log) as connection, _transaction(connection):
            difference = self._prepare(connection, table, loaded, month, write.log)
            connection.execute(f"DELETE FROM {self._sql(table)} WHERE {_in_month(table)}", _range(month))
            _insert(connection, self._sql(table), month_file, path, difference.converted)
            self._require_whole(connection, table, month_file)
        seconds = time.monotonic() - started
        write.log(f"{month}: {month_file.rows:,} rows in {self._name(table)} of {self.path}, {seconds:.1f} s.")
        return {
            "dagster/table_name": self._name(table),
            "dagster/partition_row_count": month_file.rows,
            "sql": example_query(self._name(table), table, month),
            "file": self.path,
        }

    def measure(self, table: Table, month: Month) -> Manifest | None:
        """Query the table for the month's rows, sums and time span; None when there is no table."""
        with self._open_to_read(table, month) as connection:
            return None if connection is None else self._measure(connection, table, month)

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
            return connection.sql(query(self._sql(table))).to_arrow_table()

    def where(self, table: Table, month: Month) -> str:  # noqa: ARG002
        """The table and its file."""
        return f"{self._name(table)} in {self.path}"

    def read(self, table: Table, month: Month) -> MonthFile:
        """The month as a handle; its rows are copied out when they are first read. Without rows it is empty, not missing.

        Raises:
            PermanentError: there is no table yet.
        """
        with self._open_to_read(table, month) as connection:
            if connection is None:
                raise PermanentError(
                    f"{month}: {self.path} has no table {self._name(table)}: materialize its asset for it."
                )
            manifest = self._measure(connection, table, month)
            schema = read_schema(table, self._columns(connection, table), SQL_TYPES)
        scratch = Scratch(self.staging, "duckdb")

        def fetch() -> Path:
            path = scratch.folder / f"{month}.parquet"
            columns = ", ".join(map(_quoted, schema.names))
            query = f"SELECT {columns} FROM {self._sql(table)} WHERE {_in_month(table)}"
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
        query = f"SELECT {aggregates(table)} FROM {self._sql(table)} WHERE {_in_month(table)}"
        return from_row(table, _one(connection, query, _range(month)))

    def _name(self, table: Table) -> str:
        return f"{self.dataset}.{table.name}"

    def _sql(self, table: Table) -> str:
        return f"{_quoted(self.dataset)}.{_quoted(table.name)}"

    def _prepare(
        self,
        connection: duckdb.DuckDBPyConnection,
        table: Table,
        loaded: Table,
        month: Month,
        log: Callable[[str], None],
    ) -> Difference:
        """Create the table when it is missing, and add the month's new columns."""
        existing, name = self._columns(connection, table), self.where(table, month)
        not_null = self._columns(connection, table, "NOT is_nullable AND column_default IS NULL")
        difference = compare(table, loaded, existing, SQL_TYPES, name=name, remedy=REMEDY, not_null=not_null)
        definition = {
            c.name: f"{_quoted(c.name)} {SQL_TYPES[c.type]}" for c in loaded.columns if c.name in difference.added
        }
        if existing:
            for added in definition.values():
                connection.execute(f"ALTER TABLE {self._sql(table)} ADD COLUMN {added}")
        else:
            connection.execute(f"CREATE SCHEMA IF NOT EXISTS {_quoted(self.dataset)}")
            connection.execute(f"CREATE TABLE {self._sql(table)} ({', '.join(definition.values())})")
        for column in loaded.columns:
            if column.name in definition:
                text = column.description.replace("'", "''")
                connection.execute(f"COMMENT ON COLUMN {self._sql(table)}.{_quoted(column.name)} IS '{text}'")
        if difference.surplus:
            log(f"{month}: {name} has {', '.join(difference.surplus)}, which trips do not have; null in this month.")
        return difference

    def _columns(self, connection: duckdb.DuckDBPyConnection, table: Table, condition: str = "true") -> dict[str, str]:
        return dict(
            connection.execute(
                "SELECT column_name, data_type FROM duckdb_columns() WHERE database_name = current_database() "
                f"AND schema_name = ? AND table_name = ? AND {condition} ORDER BY column_index",
                [self.dataset, table.name],
            ).fetchall()
        )

    def _require_whole(self, connection: duckdb.DuckDBPyConnection, table: Table, month_file: MonthFile) -> None:
        """Count the rows of the month: a row outside it, or without a time, would survive the next replacement."""
        query = f"SELECT count(*) FROM {self._sql(table)} WHERE {_in_month(table)}"
        (rows,) = _one(connection, query, _range(month_file.month))
        if rows != month_file.rows:
            raise PermanentError(
                f"{month_file.month}: {month_file.rows - rows:,} of {month_file.rows:,} rows have no {table.time} in the "
                f"month, so nothing was loaded into {self._name(table)}: materialize its upstream again."
            )

    @contextmanager
    def _open_to_read(self, table: Table, month: Month) -> Generator[duckdb.DuckDBPyConnection | None]:
        """A read-only connection, or None when the file or the table is not there."""
        if not Path(self.path).exists():
            yield None
            return
        with self._open(month, read_only=True) as connection:
            yield connection if self._columns(connection, table) else None

    @contextmanager
    def _open(
        self, month: Month, log: Callable[[str], None] = lambda _: None, *, read_only: bool = False
    ) -> Generator[duckdb.DuckDBPyConnection]:
        """Open the file for exclusive use, and translate its errors."""
        import duckdb

        path = os.path.abspath(self.path)
        deadline = time.monotonic() + self.lock_timeout
        if not _LOCKS[path].acquire(timeout=self.lock_timeout):
            raise TransientError(
                f"{month}: {path} was busy for {self.lock_timeout:.0f} s in this process; run it again."
            )
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with _spill_folder(Path(self.staging), path, read_only) as spill:
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
                    f"{month}: {path} could not be used ({_first_line(error)}); fix or move it, then materialize again."
                ) from error
            raise
        finally:
            _LOCKS[path].release()


def _connect(
    path: str, read_only: bool, options: dict[str, Any], deadline: float, month: Month, log: Callable[[str], None]
) -> duckdb.DuckDBPyConnection:
    """Open the file, waiting until `deadline` while another process holds it."""
    import duckdb

    log_at = time.monotonic() + _LOG_AFTER_SECONDS
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
        if now >= log_at:
            log(f"{month}: waiting for {path}, held by {held_by}.")
            log_at = now + 6 * _LOG_AFTER_SECONDS
        time.sleep(_RETRY_SECONDS)


@contextmanager
def _transaction(connection: duckdb.DuckDBPyConnection) -> Generator[None]:
    connection.execute("BEGIN TRANSACTION")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        connection.close()  # rolls back, even if ROLLBACK would fail after a failed statement
        raise


@contextmanager
def _spill_folder(staging: Path, path: str, read_only: bool) -> Generator[str]:
    """Where the writer spills: always the same folder, so that what a killed writer left is removed by the next one."""
    if read_only:  # counting and copying never spill
        yield ""
        return
    folder = staging / f"{Path(path).name}.spill"
    folder.parent.mkdir(parents=True, exist_ok=True)  # DuckDB creates the folder itself, when it spills
    try:
        yield str(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


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
    return f"{table.time} >= ? AND {table.time} < ?"


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
