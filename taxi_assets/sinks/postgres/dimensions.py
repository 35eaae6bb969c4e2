"""Dimensions in Postgres: an ordinary table whose rows are replaced by one transaction, with their manifest."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg
from psycopg import sql

from taxi_assets.core.dimension import Dimension
from taxi_assets.core.errors import PermanentError
from taxi_assets.core.manifest import Manifest
from taxi_assets.core.table import Table
from taxi_assets.sinks.contract import WriteContext
from taxi_assets.sinks.dimensions import RECORDS, DimensionPlace
from taxi_assets.sinks.postgres.connection import Server
from taxi_assets.sinks.postgres.table import PostgresTable, existing_columns, lock_key, prepare, relation

LOCK_WAIT = "10s"
"""How long to wait for another writer of the dimension. Readers are never in the way, and never wait."""


@dataclass(frozen=True)
class PostgresDimensions(DimensionPlace):
    """Keeps a dimension as a table of `schema`, created when missing."""

    server: Server
    schema: str

    def where(self, table: Table) -> str:
        """The table."""
        return f"{self.schema}.{table.name}"

    def replace(self, table: Table, dimension: Dimension, write: WriteContext) -> None:
        """Delete all rows and insert the new ones, in one transaction: readers see the old rows or the new."""
        own, records = PostgresTable(self.schema, table), sql.Identifier(self.schema, RECORDS)
        columns = sql.SQL(", ").join(map(sql.Identifier, table.names))
        with self.server.transaction(table.name) as cursor:
            cursor.execute("SELECT set_config('lock_timeout', %s, true)", [LOCK_WAIT])
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [lock_key(self.where(table))])
            self._require_ours(cursor, own)
            prepare(cursor, own, table)
            cursor.execute(sql.SQL("DELETE FROM {}").format(own.sql))
            with cursor.copy(sql.SQL("COPY {} ({}) FROM STDIN").format(own.sql, columns)) as copy:
                for row in dimension.rows.to_pylist():
                    copy.write_row(list(row.values()))
            cursor.execute(
                sql.SQL(
                    "INSERT INTO {} (table_name, manifest) VALUES (%s, %s) "
                    "ON CONFLICT (table_name) DO UPDATE SET manifest = excluded.manifest"
                ).format(records),
                [table.name, dimension.manifest.loaded_by(write.run_id).to_json()],
            )

    def read(self, table: Table) -> Dimension | None:
        """Read the rows and what is recorded of them; None if this package did not load the table."""
        import pyarrow as pa

        own = PostgresTable(self.schema, table)
        with self.server.transaction(table.name) as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")  # the rows that the record is of
            recorded = self._recorded(cursor, own)
            names = [column.name for column in existing_columns(cursor, own, table.name) if column.name in table.names]
            if recorded is None or not names:
                return None
            columns = sql.SQL(", ").join(map(sql.Identifier, names))
            rows = cursor.execute(sql.SQL("SELECT {} FROM {}").format(columns, own.sql)).fetchall()
        schema = pa.schema([table.schema.field(name) for name in names])
        named = [dict(zip(names, row, strict=True)) for row in rows]
        return Dimension.of(table, pa.Table.from_pylist(named, schema), recorded)

    def _recorded(self, cursor: psycopg.Cursor, own: PostgresTable) -> Manifest | None:
        if relation(cursor, own, RECORDS) is None:
            return None
        query = sql.SQL("SELECT manifest::text FROM {} WHERE table_name = %s").format(own.identifier(RECORDS))
        found = cursor.execute(query, [own.table.name]).fetchone()
        return Manifest.from_json(found[0]) if found else None

    def _require_ours(self, cursor: psycopg.Cursor, own: PostgresTable) -> None:
        """Check that the table, if it has rows, was loaded by this package: others' rows are not deleted."""
        if relation(cursor, own, own.table.name) is None or self._recorded(cursor, own):
            return
        if cursor.execute(sql.SQL("SELECT 1 FROM {} LIMIT 1").format(own.sql)).fetchone():
            raise PermanentError(
                f"{own.name} exists and was not loaded by taxi_assets: rename it (ALTER TABLE {own.name} RENAME TO "
                f"{own.table.name}_old), or name another schema in TAXI_POSTGRES_SCHEMA."
            )
