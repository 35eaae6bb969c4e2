"""Dimensions in a DuckDB file: a table whose rows are replaced by one transaction, with their manifest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from taxi_assets.core.dimension import Dimension
from taxi_assets.core.errors import PermanentError
from taxi_assets.core.manifest import Manifest
from taxi_assets.core.table import Table
from taxi_assets.sinks.contract import WriteContext
from taxi_assets.sinks.dimensions import RECORDS, DimensionPlace
from taxi_assets.sinks.duckdb.connection import DuckDBFile, transaction
from taxi_assets.sinks.duckdb.table import DuckDBTable, quoted

if TYPE_CHECKING:
    import duckdb


@dataclass(frozen=True)
class DuckDBDimensions(DimensionPlace):
    """Keeps a dimension as a table of `dataset`, created when missing."""

    file: DuckDBFile
    dataset: str

    def where(self, table: Table) -> str:
        """The table and its file."""
        return self._own(table).where

    def replace(self, table: Table, dimension: Dimension, write: WriteContext) -> None:
        """Delete all rows and insert the new ones, in one transaction: readers see the old rows or the new."""
        own, records = self._own(table), self._own(Table(RECORDS))
        with self.file.open(table.name, write.log) as connection, transaction(connection):
            self._require_ours(connection, own)
            own.prepare(connection, table, table.name, write.log)
            connection.execute(f"DELETE FROM {own.sql}")
            connection.register("rows_of_dimension", dimension.rows)
            connection.execute(f"INSERT INTO {own.sql} BY NAME SELECT * FROM rows_of_dimension")
            columns = "table_name VARCHAR PRIMARY KEY, manifest VARCHAR NOT NULL"
            connection.execute(f"CREATE TABLE IF NOT EXISTS {records.sql} ({columns})")
            manifest = dimension.manifest.loaded_by(write.run_id).to_json()
            connection.execute(f"INSERT OR REPLACE INTO {records.sql} VALUES (?, ?)", [table.name, manifest])

    def read(self, table: Table) -> Dimension | None:
        """Read the rows and what is recorded of them; None if this package did not load the table."""
        if not Path(self.file.path).exists():
            return None
        own = self._own(table)
        with self.file.open(table.name, read_only=True) as connection:
            recorded = self._recorded(connection, own)
            columns = ", ".join(quoted(name) for name in own.columns(connection) if name in table.names)
            if recorded is None or not columns:
                return None
            rows = connection.sql(f"SELECT {columns} FROM {own.sql}").to_arrow_table()
        return Dimension.of(table, rows, recorded)

    def _own(self, table: Table) -> DuckDBTable:
        return DuckDBTable(self.dataset, table, self.file.path)

    def _recorded(self, connection: duckdb.DuckDBPyConnection, own: DuckDBTable) -> Manifest | None:
        records = self._own(Table(RECORDS))
        if not records.columns(connection):
            return None
        query = f"SELECT manifest FROM {records.sql} WHERE table_name = ?"
        found = connection.execute(query, [own.table.name]).fetchall()
        return Manifest.from_json(found[0][0]) if found else None

    def _require_ours(self, connection: duckdb.DuckDBPyConnection, own: DuckDBTable) -> None:
        """Check that the table, if it has rows, was loaded by this package: others' rows are not deleted."""
        if not own.columns(connection) or self._recorded(connection, own):
            return
        if connection.execute(f"SELECT 1 FROM {own.sql} LIMIT 1").fetchall():
            raise PermanentError(
                f"{own.where} exists and was not loaded by taxi_assets: rename it (ALTER TABLE {own.name} RENAME TO "
                f"{own.table.name}_old), or name another dataset in TAXI_DATASET."
            )
