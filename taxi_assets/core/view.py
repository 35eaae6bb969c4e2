"""A view over several tables: the same columns of each, under common names. Sinks create it; they know nothing of trips."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from taxi_assets.core.table import Column, Table


@dataclass(frozen=True)
class View:
    """All rows of the tables of `parts`, one below the other.

    Attributes:
        name: the view's name in databases.
        columns: its columns, in order.
        parts: each table with the SQL expression of each column that it has; another one is null. The expressions are read by
            Postgres, DuckDB and BigQuery.
        description: one sentence, kept in databases.
    """

    name: str
    columns: tuple[Column, ...]
    parts: tuple[tuple[Table, Mapping[str, str]], ...]
    description: str

    def over(self, existing: Collection[str]) -> View:
        """The view over those of its tables that exist, by name."""
        return View(
            self.name, self.columns, tuple(part for part in self.parts if part[0].name in existing), self.description
        )

    def select(self, types: Mapping[str, str], quoted: Callable[[Table], str]) -> str:
        """The query in a database's SQL; a column of a table is named as it is, so that a condition on it prunes months.

        Args:
            types: the SQL type of each Arrow type.
            quoted: writes a table's name.
        """
        return "\nUNION ALL\n".join(self._select(table, values, types, quoted) for table, values in self.parts)

    def _select(
        self, table: Table, values: Mapping[str, str], types: Mapping[str, str], quoted: Callable[[Table], str]
    ) -> str:
        shown = [
            f"  {values.get(column.name) or f'CAST(NULL AS {types[column.type]})'} AS {column.name}"
            for column in self.columns
        ]
        return "SELECT\n" + ",\n".join(shown) + f"\nFROM {quoted(table)}"

    def comment(self, query: str) -> str:
        """The description with a digest of the query, by which `query` is known to be that of the view that exists."""
        return f"{self.description} [{hashlib.sha256(query.encode()).hexdigest()[:12]}]"
