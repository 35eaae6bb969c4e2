"""The Postgres sink: a table partitioned by month, each month replaced by one transaction.

The table is in `table`, the load in `load`, the connection and its errors in `connection`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, LiteralString, cast

import psycopg
from psycopg import sql
from pydantic import Field

from taxi_assets.core.errors import PermanentError
from taxi_assets.core.manifest import Manifest, aggregates, from_row
from taxi_assets.core.month import Month
from taxi_assets.core.month_file import MonthFile
from taxi_assets.core.scratch import Scratch
from taxi_assets.core.staging import stage
from taxi_assets.core.table import Table
from taxi_assets.sinks.columns import read_schema, require_columns
from taxi_assets.sinks.contract import ROW_COUNT, ConfigurableSink, WriteContext, example_query
from taxi_assets.sinks.postgres.connection import Server
from taxi_assets.sinks.postgres.dimensions import PostgresDimensions
from taxi_assets.sinks.postgres.embedded import EmbeddedPostgres
from taxi_assets.sinks.postgres.manifests import manifests, record_manifest
from taxi_assets.sinks.postgres.table import (
    SQL_TYPES,
    PostgresTable,
    bytes_of,
    existing_columns,
    is_partition,
    prepare,
    relation,
)
from taxi_assets.sinks.postgres.views import PostgresViews

if TYPE_CHECKING:
    import pyarrow as pa

    from taxi_assets.sinks.postgres.table import Shape

_READ_BYTES = 8_000_000


class PostgresIOManager(ConfigurableSink):
    """Keeps months in a Postgres database."""

    kind: ClassVar[str] = "postgres"
    is_database: ClassVar[bool] = True

    url: str = Field(
        repr=False,
        description="`postgresql://user:password@host:port/database`. Give it as a `dagster.EnvVar`: other values are shown in "
        "Dagster's UI, with their password.",
    )
    schema_name: str = Field("ny_taxi", description="Schema of the tables; created when missing.")
    statement_timeout: float = Field(
        1800.0, gt=0, description="Seconds that one statement may take, a month's COPY included."
    )
    patience: float = Field(
        600.0,
        gt=0,
        description="Seconds to wait for readers that lock the table, and for another run of the same month.",
    )

    def address(self) -> str:
        """Return the URL; it is called at every attempt to connect."""
        return self.url

    def replace(self, table: Table, month_file: MonthFile, write: WriteContext) -> Mapping[str, Any]:
        """Build the month as a new table and swap it in, in one transaction: readers see the old month or the new.

        Loads of the same month run one after another; the last wins.

        Raises:
            TransientError: the server or a lock was not available.
            PermanentError: the server refused, or a table or row is not as it must be.
        """
        from taxi_assets.sinks.postgres.load import build, lock_month, record, replace_rows, swap, with_retries

        month, log, wait = month_file.month, write.log, self.patience
        loaded, own = require_columns(table, month_file, SQL_TYPES), self._table(table)
        server = self._server()

        def prepared(cursor: psycopg.Cursor) -> Shape:
            server.limit(cursor)
            return prepare(cursor, own, loaded)

        with server.connected(str(month)) as connection:
            shape = with_retries(connection, own, month, wait, log, prepared)
            with connection.transaction(), connection.cursor() as cursor:
                server.limit(cursor)
                lock_month(cursor, own, month, wait, log)
                started = time.monotonic()
                if table.key:
                    replace_rows(cursor, own, shape, month_file, log)
                    copied = time.monotonic()
                    size = bytes_of(cursor, own, table.name)
                else:
                    name = build(cursor, own, shape, month_file, log)
                    copied = time.monotonic()
                    size = bytes_of(cursor, own, name)
                    record(cursor, own, month_file, write)
                    with_retries(connection, own, month, wait, log, lambda cursor: swap(cursor, own, month, name))
                record_manifest(cursor, own, month, month_file.manifest.loaded_by(write.run_id))
            swapped = time.monotonic()
            version = connection.info.parameter_status("server_version") or ""
        log(
            f"{month}: {month_file.rows:,} rows in {own.name}, copied in {copied - started:.1f} s, swapped in within "
            f"{swapped - copied:.2f} s."
        )
        return {
            "dagster/table_name": own.name,
            ROW_COUNT: month_file.rows,
            "bytes": size,
            "sql": example_query(own.name, table, month),
            "server": server.name,
            "server_version": version,
            "copy_seconds": round(copied - started, 3),
            "swap_seconds": round(swapped - copied, 3),
        }

    def measure(self, table: Table, month: Month) -> Manifest | None:
        """Query the table for the month's rows, sums and time span; None if it does not have the month."""
        own = self._table(table)
        with self._server().transaction(str(month)) as cursor:
            exists = relation(cursor, own, table.name) if table.key else is_partition(cursor, own, month)
            if not exists:
                return None
            query = sql.SQL("SELECT {} FROM {} WHERE {time} >= %s AND {time} < %s").format(
                sql.SQL(cast(LiteralString, aggregates(table))), own.sql, time=own.time
            )
            row = cursor.execute(query, [month.start, month.end]).fetchone()
        assert row is not None
        return None if table.key and not row[0] else from_row(table, row)

    def read(self, table: Table, month: Month) -> MonthFile:
        """The month as a handle; its rows are copied out when they are first read.

        Raises:
            PermanentError: the table does not have the month.
        """
        manifest, own = self.measure(table, month), self._table(table)
        if manifest is None:
            raise PermanentError(f"{month}: {own.name} has no such month: materialize its asset for it.")
        scratch = Scratch(self.staging, "postgres")

        def fetch() -> Path:
            with self._server().transaction(str(month)) as cursor:
                existing = {column.name: column.type for column in existing_columns(cursor, own, table.name)}
            schema = read_schema(table, existing, SQL_TYPES)
            with stage(scratch.folder, month, schema, table, "month", "lz4") as writer:
                for batch in self._stream(own, month, schema):
                    writer.write(batch.cast(schema))
                return writer.close().path

        return MonthFile(fetch, month, manifest=manifest)

    def manifests(self, table: Table) -> dict[Month, Manifest]:
        """See `MonthSink.manifests`."""
        with self._server().transaction(table.name) as cursor:
            return manifests(cursor, self._table(table))

    def manifest(self, table: Table, month: Month) -> Manifest | None:
        """See `MonthSink.manifest`."""
        with self._server().transaction(str(month)) as cursor:
            return manifests(cursor, self._table(table), month).get(month)

    def where(self, table: Table, month: Month) -> str:  # noqa: ARG002
        """The table."""
        return self._table(table).name

    @property
    def views(self) -> PostgresViews:
        """The database as a place of views."""
        return PostgresViews(self._server(), self.schema_name)

    @property
    def dimensions(self) -> PostgresDimensions:
        """The database as a place of dimensions."""
        return PostgresDimensions(self._server(), self.schema_name)

    def _stream(self, table: PostgresTable, month: Month, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        """Read by COPY as CSV, which Arrow parses: ten times as fast as rows of Python values, and exact."""
        query = sql.SQL("COPY (SELECT {} FROM {} WHERE {time} >= {} AND {time} < {}) TO STDOUT (FORMAT csv)").format(
            sql.SQL(", ").join(map(sql.Identifier, schema.names)),
            table.sql,
            sql.Literal(str(month.start)),
            sql.Literal(str(month.end)),
            time=table.time,
        )
        with self._server().transaction(str(month)) as cursor:
            cursor.execute("SET LOCAL datestyle = 'ISO'")
            cursor.execute("SET LOCAL extra_float_digits = 1")  # the shortest digits that identify the number
            with cursor.copy(query) as copy:
                lines: list[bytes] = []
                held = 0
                for line in copy:
                    lines.append(bytes(line))
                    held += len(line)
                    if held >= _READ_BYTES:
                        yield from _parsed(lines, schema)
                        lines, held = [], 0
                yield from _parsed(lines, schema)

    def _table(self, table: Table) -> PostgresTable:
        return PostgresTable(self.schema_name, table)

    def _server(self) -> Server:
        return Server(self.address, self.statement_timeout)


class EmbeddedPostgresIOManager(PostgresIOManager):
    """Keeps months in a Postgres server on this machine, which is started when it is first needed."""

    url: str = Field("", description="Not used.")
    folder: str = Field(description="Folder of the server and its data.")

    def address(self) -> str:
        """Return the server's URL; start the server if it does not run."""
        return EmbeddedPostgres(Path(self.folder)).url()


def _parsed(lines: list[bytes], schema: pa.Schema) -> list[pa.RecordBatch]:
    """Batches from complete CSV lines; an empty field is NULL, a quoted empty field is an empty string."""
    import pyarrow as pa
    from pyarrow import csv

    if not lines:
        return []
    return csv.read_csv(
        pa.BufferReader(b"".join(lines)),
        read_options=csv.ReadOptions(column_names=schema.names, block_size=2 * _READ_BYTES),
        parse_options=csv.ParseOptions(newlines_in_values=True),
        convert_options=csv.ConvertOptions(
            column_types=schema,
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            true_values=["t"],
            false_values=["f"],
        ),
    ).to_batches()
