"""Views in Postgres, over the partitioned tables of a schema."""

from __future__ import annotations

from dataclasses import dataclass
from typing import LiteralString, cast

from taxi_assets.core.errors import PermanentError
from taxi_assets.core.table import Table
from taxi_assets.core.view import View
from taxi_assets.sinks.postgres.connection import Server
from taxi_assets.sinks.postgres.records import comment
from taxi_assets.sinks.postgres.table import SQL_TYPES, PostgresTable, lock_key, relation
from taxi_assets.sinks.views import ViewPlace

_VIEW = "v"


@dataclass(frozen=True)
class PostgresViews(ViewPlace):
    """Keeps views in `schema`."""

    server: Server
    schema: str

    def where(self, view: View) -> str:
        """The view."""
        return f"{self.schema}.{view.name}"

    def replace(self, view: View) -> bool:
        """In one transaction; a reader has the old definition or the new one."""
        from psycopg import sql

        own = PostgresTable(self.schema, Table(view.name))
        with self.server.transaction(view.name) as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [lock_key(self.where(view))])
            names = [table.name for table, _ in view.parts if relation(cursor, own, table.name) is not None]
            query = view.over(names).select(SQL_TYPES, lambda table: PostgresTable(self.schema, table).sql.as_string())
            if not names:
                return False
            if (found := relation(cursor, own, view.name)) is not None:
                oid, kind, *_ = found
                if kind != _VIEW:
                    raise PermanentError(
                        f"{self.where(view)} is not a view: rename it (ALTER TABLE {self.where(view)} RENAME TO "
                        f"{view.name}_old), or name another schema in TAXI_POSTGRES_SCHEMA."
                    )
                described = cursor.execute("SELECT obj_description(%s)", [oid]).fetchone()
                if described == (view.comment(query),):
                    return False
                cursor.execute(sql.SQL("DROP VIEW {}").format(own.sql))
            cursor.execute(sql.SQL("CREATE VIEW {} AS {}").format(own.sql, sql.SQL(cast(LiteralString, query))))
            comment(cursor, sql.SQL("VIEW {}").format(own.sql), view.comment(query))
        return True
