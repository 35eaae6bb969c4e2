"""Views in a DuckDB file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from taxi_assets.core.errors import PermanentError
from taxi_assets.core.table import Table
from taxi_assets.core.view import View
from taxi_assets.sinks.duckdb.connection import DuckDBFile, transaction
from taxi_assets.sinks.duckdb.table import SQL_TYPES, DuckDBTable, quoted
from taxi_assets.sinks.views import ViewPlace

if TYPE_CHECKING:
    import duckdb


@dataclass(frozen=True)
class DuckDBViews(ViewPlace):
    """Keeps views in `dataset`, a schema of the file."""

    file: DuckDBFile
    dataset: str

    def replace(self, views: Sequence[View]) -> list[str]:
        """In one transaction."""
        with self.file.open("views") as connection, transaction(connection):
            return [view.name for view in views if self._replace(connection, view)]

    def _replace(self, connection: duckdb.DuckDBPyConnection, view: View) -> bool:
        own = self._own(Table(view.name))
        existing = {table.name: self._own(table).columns(connection) for table, _ in view.parts}
        query = view.over(existing).select(SQL_TYPES, lambda table: self._own(table).sql)
        found = connection.execute(
            "SELECT comment FROM duckdb_views() WHERE database_name = current_database() AND schema_name = ? "
            "AND view_name = ?",
            [self.dataset, view.name],
        ).fetchall()
        if not query or found == [(view.comment(query),)]:
            return False
        if own.columns(connection) and not found:
            raise PermanentError(
                f"{own.where} is not a view: rename it (ALTER TABLE {own.name} RENAME TO {view.name}_old), or name another "
                "dataset in TAXI_DATASET."
            )
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(self.dataset)}")
        connection.execute(f"CREATE OR REPLACE VIEW {own.sql} AS {query}")
        text = view.comment(query).replace("'", "''")
        connection.execute(f"COMMENT ON VIEW {own.sql} IS '{text}'")
        return True

    def _own(self, table: Table) -> DuckDBTable:
        return DuckDBTable(self.dataset, table, self.file.path)
