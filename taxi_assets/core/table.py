"""What is kept in a sink: a table with named, typed and described columns. A sink knows tables and nothing of taxis."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

TIMESTAMP = "timestamp[us]"
"""New York wall clock without zone, as published: `timestamp` in Postgres, `DATETIME` in BigQuery."""


@dataclass(frozen=True)
class Column:
    """A column: its name, the name of its Arrow type (as Arrow prints it: `double`, `timestamp[us]`), and what it means.

    `required`: a published file must have it; in the tables that are ours, no row is without it.
    """

    name: str
    type: str
    description: str = ""
    required: bool = False


@dataclass(frozen=True)
class Table:
    """A table of a sink.

    Attributes:
        name: the table's name in databases.
        columns: its columns; none where they are not known before the first month.
        time: the column that says to which month a row belongs; none in a dimension (`core.dimension`).
        sums: the columns that are summed to reconcile two copies of a month.
        kind: what stands for `{kind}` in the names of objects; the table's name by default.
        day: the name of the folders' key in a dataset by day; the time column's name with `_day` by default.
        description: one sentence, kept in databases.
        key: the columns of the primary key. A table that has one is small: it is kept in one piece, and a month of it, or a
            whole dimension, is deleted and inserted in one transaction, where other tables have a partition a month.
        clustering: the columns by which a warehouse sorts a month.
    """

    name: str
    columns: tuple[Column, ...] = ()
    time: str | None = None
    sums: tuple[str, ...] = ()
    kind: str = ""
    day: str = ""
    description: str = ""
    key: tuple[str, ...] = ()
    clustering: tuple[str, ...] = ()

    @property
    def object_kind(self) -> str:
        """What stands for `{kind}` in the names of objects."""
        return self.kind or self.name

    @property
    def day_key(self) -> str:
        """The name of the folders' key in a dataset by day."""
        return self.day or f"{self.time}_day"

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns as Arrow has them; a required one of a table with a key is never null."""
        return arrow_schema(self.columns, required=bool(self.key))

    @property
    def names(self) -> list[str]:
        """The names of the columns."""
        return [column.name for column in self.columns]

    def with_columns_of(self, schema: pa.Schema) -> Table:
        """The table with the columns that only `schema` has behind its own.

        Those without a description are new at the publisher (TAXI_NEW_COLUMNS=add).
        """
        known = set(self.names)
        new = (
            Column(
                field.name,
                str(field.type),
                (field.metadata or {}).get(b"description", b"New at the publisher.").decode(),
            )
            for field in schema
            if field.name not in known
        )
        return replace(self, columns=(*self.columns, *new))


def arrow_schema(columns: Iterable[Column], *, required: bool = False) -> pa.Schema:
    """The columns as Arrow has them; with `required`, required ones are not nullable and all have their description."""
    import pyarrow as pa

    if not required:
        return pa.schema([pa.field(c.name, pa.type_for_alias(c.type)) for c in columns])
    return pa.schema(
        pa.field(c.name, pa.type_for_alias(c.type), nullable=not c.required, metadata={"description": c.description})
        for c in columns
    )
