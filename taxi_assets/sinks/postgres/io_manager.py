"""The Postgres sink: a table a kind of taxi, partitioned by month, each month replaced by one transaction.

This is the contract's side of it; the table is in `services.postgres_table`, the load in `services.postgres_load`, the
connection and its errors in `services.postgres_connection`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from pydantic import Field, PrivateAttr, SecretStr

from taxi_assets.core.errors import PermanentError
from taxi_assets.core.month import Month
from taxi_assets.datasets.schema import TaxiKind
from taxi_assets.lake.month_file import Facts
from taxi_assets.settings import get_settings
from taxi_assets.sinks.contract import MonthIOManager, Trips, Writing, sql_to_paste
from taxi_assets.sinks.postgres.connection import Server
from taxi_assets.sinks.postgres.embedded import EmbeddedPostgres
from taxi_assets.sinks.postgres.table import SQL_TYPES, Table, bytes_of, column_types, is_partition, relation, settle
from taxi_assets.sinks.table_schema import surplus_schema
from taxi_assets.sinks.warehouse_month import WarehouseMonth

if TYPE_CHECKING:
    import psycopg
    import pyarrow as pa

_READ_BYTES = 8_000_000


class PostgresIOManager(MonthIOManager):
    """Keeps months in the server of TAXI_POSTGRES_URL, else in the embedded one of TAXI_HOME.

    The address is no field: Dagster shows fields in its UI, and the address holds a password.
    """

    schema_name: str = Field("ny_taxi", description="Schema of the tables; it is made when missing.")
    statement_timeout: float = Field(
        1800.0, gt=0, description="Seconds that one statement may take, a month's COPY included."
    )
    patience: float = Field(
        600.0,
        gt=0,
        description="Seconds to wait for readers that hold the table, and for another run of the same month.",
    )
    _own_url: SecretStr | None = PrivateAttr(None)

    @staticmethod
    def at(url: str, **config: Any) -> PostgresIOManager:
        """One for the server at `url` whatever the settings say; the address stays out of Dagster's config."""

        class Elsewhere(PostgresIOManager):  # a class, as Dagster makes its instances anew from their fields alone
            _own_url: SecretStr | None = PrivateAttr(SecretStr(url))

        return Elsewhere(**config)

    def replace(self, kind: TaxiKind, trips: Trips, writing: Writing) -> Mapping[str, Any]:
        """Build the month as a new table and swap it in, in one transaction: readers see the old month or the new.

        Two writers of a month take turns, the last wins.

        Raises:
            TransientError: the server or a lock was not to be had.
            PermanentError: the server refused, or a table or row is not as it must be.
        """
        from taxi_assets.sinks.postgres.load import build, patiently, record, swap, take_turn

        month, table, log = trips.month, Table.of(self.schema_name, kind, trips), writing.log
        server = self._server()
        with server.connected(str(month)) as connection:
            shape = patiently(connection, table, month, self.patience, log, lambda cursor: settle(cursor, table))
            with connection.transaction(), connection.cursor() as cursor:
                take_turn(cursor, table, month, self.patience, log)
                started = time.monotonic()
                name = build(cursor, table, shape, trips, log)
                built = time.monotonic()
                size = bytes_of(cursor, table, name)
                record(cursor, table, trips, writing)
                patiently(connection, table, month, self.patience, log, lambda cursor: swap(cursor, table, month, name))
            swapped = time.monotonic()
            version = connection.info.parameter_status("server_version") or ""
        log(
            f"{month}: {trips.rows:,} rows in {table.name}, copied in {built - started:.1f} s, swapped in within "
            f"{swapped - built:.2f} s."
        )
        return {
            "dagster/table_name": table.name,
            "dagster/partition_row_count": trips.rows,
            "bytes": size,
            "sql": sql_to_paste(table.name, kind, month),
            "server": server.name,
            "server_version": version,
            "copy_seconds": round(built - started, 3),
            "swap_seconds": round(swapped - built, 3),
        }

    def read_facts(self, kind: TaxiKind, month: Month) -> Facts | None:
        """Ask the table for the month's rows, total and span; None when it has no partition for the month."""
        with self.transaction(str(month)) as cursor:
            return self._facts(cursor, Table(self.schema_name, kind), month)

    def read(self, kind: TaxiKind, month: Month) -> Trips:
        """The month as a handle.

        Raises:
            PermanentError: the table has no partition for the month.
        """
        facts, table = self.read_facts(kind, month), Table(self.schema_name, kind)
        if facts is None:
            raise PermanentError(f"{month}: {table.name} has no such month: materialize postgres_table for it.")

        def size() -> int:
            with self.transaction(str(month)) as cursor:
                oid, *_ = relation(cursor, table, table.partition(month)) or (None,)
                (total,) = cursor.execute("SELECT pg_total_relation_size(%s)", [oid]).fetchone() or (None,)
                return total or 0

        with self.transaction(str(month)) as cursor:
            schema = surplus_schema(kind, column_types(cursor, table), SQL_TYPES)
        return WarehouseMonth(month, facts, schema, lambda names: self._stream(table, month, schema, names), size)

    def _facts(self, cursor: psycopg.Cursor, table: Table, month: Month) -> Facts | None:
        from psycopg import sql

        if not is_partition(cursor, table, month):
            return None
        query = sql.SQL(
            "SELECT count(*), coalesce(sum(total_amount), 0), min({0}), max({0}) FROM {1} WHERE {0} >= %s AND {0} < %s"
        ).format(sql.Identifier(table.kind.pickup), table.sql)
        rows, total, first, last = cursor.execute(query, [month.start, month.end]).fetchone() or (0, 0.0, None, None)
        return Facts(rows, total, first and first.isoformat(sep=" "), last and last.isoformat(sep=" "), {})

    def _stream(self, table: Table, month: Month, schema: pa.Schema, names: list[str]) -> Iterator[pa.RecordBatch]:
        """Read by COPY as CSV, which Arrow parses: ten times as fast as rows of Python values, and exact."""
        import pyarrow as pa
        from psycopg import sql

        query = sql.SQL(
            "COPY (SELECT {} FROM {} WHERE {pickup} >= {} AND {pickup} < {}) TO STDOUT (FORMAT csv)"
        ).format(
            sql.SQL(", ").join(map(sql.Identifier, names)),
            table.sql,
            sql.Literal(str(month.start)),
            sql.Literal(str(month.end)),
            pickup=sql.Identifier(table.kind.pickup),
        )
        schema = pa.schema([schema.field(name) for name in names])
        with self.transaction(str(month)) as cursor:
            cursor.execute("SET LOCAL datestyle = 'ISO'")
            cursor.execute("SET LOCAL extra_float_digits = 1")  # as many digits as tell the number apart
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

    def transaction(self, what: str) -> AbstractContextManager[psycopg.Cursor]:
        """A transaction on the server, for tables beside the months', about `what`. See `Server.transaction`."""
        return self._server().transaction(what)

    def where(self, kind: TaxiKind, month: Month) -> str:  # noqa: ARG002
        """The table."""
        return Table(self.schema_name, kind).name

    def _server(self) -> Server:
        return Server(self._address, self.statement_timeout)

    def _address(self) -> str:
        """The server's address; the embedded one is started, again if need be."""
        url = self._own_url or get_settings().postgres_url
        if url is not None:
            return url.get_secret_value()
        return EmbeddedPostgres(get_settings().home_folder / "postgres").url()


def _parsed(lines: list[bytes], schema: pa.Schema) -> list[pa.RecordBatch]:
    """Batches from whole lines of CSV; an empty field is a null, a quoted empty one is empty text."""
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
