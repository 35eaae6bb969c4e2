"""A view over several tables: the same columns of each, under common names; or rows that do not change, without a table.

Sinks create views; they know nothing of trips.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

from taxi_assets.core.table import Column, Table


@dataclass(frozen=True)
class View:
    """All rows of the tables of `parts`, one below the other, or the values of `rows`.

    Attributes:
        name: the view's name in databases.
        columns: its columns, in order.
        description: one sentence, kept in databases.
        parts: each table with the SQL expression of each column that it has; another one is null. The expressions are read by
            Postgres, DuckDB and BigQuery.
        rows: the values of the columns, numbers or texts.
    """

    name: str
    columns: tuple[Column, ...]
    description: str
    parts: tuple[tuple[Table, Mapping[str, str]], ...] = ()
    rows: tuple[tuple[object, ...], ...] = ()

    def over(self, existing: Collection[str]) -> View:
        """The view over those of its tables that exist, by name."""
        return replace(self, parts=tuple(part for part in self.parts if part[0].name in existing))

    def select(self, types: Mapping[str, str], quoted: Callable[[Table], str]) -> str:
        """The query in a database's SQL; empty if the view has no rows and is over no table.

        A column of a table is named as it is, so that a condition on it prunes months.

        Args:
            types: the SQL type of each Arrow type.
            quoted: writes a table's name.
        """
        parts = [(values, f"\nFROM {quoted(table)}") for table, values in self.parts]
        parts += [
            (
                {
                    column.name: f"CAST({_literal(value)} AS {types[column.type]})"
                    for column, value in zip(self.columns, row, strict=True)
                },
                "",
            )
            for row in self.rows
        ]
        return "\nUNION ALL\n".join(
            "SELECT\n"
            + ",\n".join(
                f"  {values.get(column.name) or f'CAST(NULL AS {types[column.type]})'} AS {column.name}"
                for column in self.columns
            )
            + source
            for values, source in parts
        )

    def comment(self, query: str) -> str:
        """The description with a digest of the query, by which `query` is known to be that of the view that exists."""
        return f"{self.description} [{hashlib.sha256(query.encode()).hexdigest()[:12]}]"


def _literal(value: object) -> str:
    return str(value) if isinstance(value, int) else "'" + str(value).replace("'", "''") + "'"
