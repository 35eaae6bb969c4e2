"""The DuckDB table: created when missing, extended by new columns, otherwise unchanged."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taxi_assets.core.table import Table
from taxi_assets.sinks.columns import Difference, compare

if TYPE_CHECKING:
    import duckdb

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


@dataclass(frozen=True)
class DuckDBTable:
    """A table by its names in a file."""

    dataset: str
    table: Table
    file: str

    @property
    def name(self) -> str:
        """`dataset.table`, for display."""
        return f"{self.dataset}.{self.table.name}"

    @property
    def sql(self) -> str:
        """The table as SQL quotes it, in full if the dataset is named like the file, and so like DuckDB's database."""
        names = [self.dataset, self.table.name]
        if Path(self.file).name.partition(".")[0] == self.dataset:
            names.insert(0, self.dataset)
        return ".".join(map(quoted, names))

    @property
    def where(self) -> str:
        """The table and its file."""
        return f"{self.name} in {self.file}"

    def columns(self, connection: duckdb.DuckDBPyConnection) -> dict[str, str]:
        """Name and type of the columns that are committed; none when the table does not exist."""
        return {name: kind for name, kind, _ in self._columns(connection)}

    def _columns(self, connection: duckdb.DuckDBPyConnection) -> list[tuple[str, str, bool]]:
        """Name, type and whether each row needs a value.

        `duckdb_columns()` takes twenty times as long. A missing table is an error here, which would end the transaction of
        `connection`, so that the question is asked beside it.
        """
        import duckdb

        query = 'SELECT name, type, "notnull" AND dflt_value IS NULL FROM pragma_table_info(?)'
        with connection.cursor() as cursor, suppress(duckdb.CatalogException):
            return cursor.execute(query, [self.sql]).fetchall()
        return []

    def prepare(
        self, connection: duckdb.DuckDBPyConnection, loaded: Table, what: object, log: Callable[[str], Any]
    ) -> Difference:
        """Create the table when it is missing, and add the columns that only `loaded` has; `what` is loaded, for the log."""
        columns = self._columns(connection)
        existing = {name: kind for name, kind, _ in columns}
        not_null = [name for name, _, needed in columns if needed]
        difference = compare(self.table, loaded, existing, SQL_TYPES, name=self.where, remedy=REMEDY, not_null=not_null)
        definition = {
            c.name: f"{quoted(c.name)} {SQL_TYPES[c.type]}" for c in loaded.columns if c.name in difference.added
        }
        if existing:
            for added in definition.values():
                connection.execute(f"ALTER TABLE {self.sql} ADD COLUMN {added}")
        else:
            connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(self.dataset)}")
            connection.execute(f"CREATE TABLE {self.sql} ({', '.join(definition.values())})")
            _comment(connection, f"TABLE {self.sql}", self.table.description)
        for column in loaded.columns:
            if column.name in definition:
                _comment(connection, f"COLUMN {self.sql}.{quoted(column.name)}", column.description)
        if difference.surplus:
            surplus = ", ".join(difference.surplus)
            log(f"{what}: {self.where} has {surplus}, which trips do not have; null in this month.")
        return difference


def _comment(connection: duckdb.DuckDBPyConnection, target: str, text: str) -> None:
    escaped = text.replace("'", "''")
    connection.execute(f"COMMENT ON {target} IS '{escaped}'")


def quoted(name: str) -> str:
    """A name as SQL quotes it."""
    return '"' + name.replace('"', '""') + '"'
