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
        parts: each table with the SQL expression of each column that it has, which all databases read; others are null.
            Several columns instead of an expression: the first value of those that the table has.
        rows: the values of the columns, numbers or texts.
    """

    name: str
    columns: tuple[Column, ...]
    description: str
    parts: tuple[tuple[Table, Mapping[str, str | tuple[str, ...]]], ...] = ()
    rows: tuple[tuple[object, ...], ...] = ()

    def over(self, existing: Mapping[str, Collection[str]]) -> View:
        """The view over those of its tables that exist; `existing` has the columns of each, by name."""
        parts = tuple(
            (table, {name: _first_value(value, existing[table.name]) for name, value in values.items()})
            for table, values in self.parts
            if existing.get(table.name)
        )
        return replace(self, parts=parts)

    def select(self, types: Mapping[str, str], quoted: Callable[[Table], str]) -> str:
        """The query in a database's SQL; empty if the view has no rows and is over no table.

        `types` are the database's by Arrow type, `quoted` writes a table's name. A column of a table is named as it is, so that
        a condition on it prunes months.
        """
        queries = [f"{self._query(values, types)}\nFROM {quoted(table)}" for table, values in self.parts]
        for row in self.rows:
            literals = zip(self.columns, map(_literal, row), strict=True)
            queries.append(self._query({c.name: f"CAST({text} AS {types[c.type]})" for c, text in literals}, types))
        return "\nUNION ALL\n".join(queries)

    def _query(self, values: Mapping[str, str | tuple[str, ...]], types: Mapping[str, str]) -> str:
        """The columns with the expressions that they have, and null for the others."""
        shown = (f"  {values.get(c.name) or f'CAST(NULL AS {types[c.type]})'} AS {c.name}" for c in self.columns)
        return "SELECT\n" + ",\n".join(shown)

    def comment(self, query: str) -> str:
        """The description with a digest of the query, by which `query` is known to be that of the view that exists."""
        return f"{self.description} [{hashlib.sha256(query.encode()).hexdigest()[:12]}]"


def _first_value(value: str | tuple[str, ...], existing: Collection[str]) -> str:
    """The expression; of several columns, that of the first one with a value."""
    if isinstance(value, str):
        return value
    names = [name for name in value if name in existing]
    return f"COALESCE({', '.join(names)})" if len(names) > 1 else "".join(names)


def _literal(value: object) -> str:
    return str(value) if isinstance(value, int) else "'" + str(value).replace("'", "''") + "'"
