"""Views in Postgres, over the partitioned tables of a schema."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import LiteralString, cast

import psycopg
from psycopg import sql

from taxi_assets.core.errors import PermanentError
from taxi_assets.core.table import Table
from taxi_assets.core.view import View
from taxi_assets.sinks.postgres.connection import Server
from taxi_assets.sinks.postgres.records import comment
from taxi_assets.sinks.postgres.table import (
    SQL_TYPES,
    PostgresTable,
    create_schema,
    existing_columns,
    lock_key,
    relation,
)
from taxi_assets.sinks.views import ViewPlace

_VIEW = "v"


@dataclass(frozen=True)
class PostgresViews(ViewPlace):
    """Keeps views in `schema`."""

    server: Server
    schema: str

    def replace(self, views: Sequence[View]) -> list[str]:
        """In one transaction; a reader has the old definitions or the new ones."""
        with self.server.transaction("views") as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [lock_key(f"{self.schema} views")])
            return [view.name for view in views if self._replace(cursor, view)]

    def _replace(self, cursor: psycopg.Cursor, view: View) -> bool:
        own = PostgresTable(self.schema, Table(view.name))
        names = [table.name for table, _ in view.parts]
        existing = {name: [column.name for column in existing_columns(cursor, own, name)] for name in names}
        query = view.over(existing).select(SQL_TYPES, lambda table: PostgresTable(self.schema, table).sql.as_string())
        if not query:
            return False
        if (found := relation(cursor, own, view.name)) is not None:
            oid, kind, *_ = found
            if kind != _VIEW:
                raise PermanentError(
                    f"{own.name} is not a view: rename it (ALTER TABLE {own.name} RENAME TO "
                    f"{view.name}_old), or name another schema in TAXI_POSTGRES_SCHEMA."
                )
            if cursor.execute("SELECT obj_description(%s)", [oid]).fetchone() == (view.comment(query),):
                return False
            cursor.execute(sql.SQL("DROP VIEW {}").format(own.sql))
        create_schema(cursor, self.schema)
        cursor.execute(sql.SQL("CREATE VIEW {} AS {}").format(own.sql, sql.SQL(cast(LiteralString, query))))
        comment(cursor, sql.SQL("VIEW {}").format(own.sql), view.comment(query))
        return True
