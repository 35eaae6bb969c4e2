"""The Postgres table of a kind of taxi: partitioned by month, made when missing, grown by new columns, else left alone.

Loaders of many months work at once. So what the table looks like is settled in a short transaction before a load: a
load's long one must hold no lock on the table while it copies, or loads would wait for each other's swaps.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, LiteralString

from taxi_assets.core.errors import PermanentError
from taxi_assets.core.month import Month
from taxi_assets.datasets.schema import Column, TaxiKind, columns_of
from taxi_assets.lake.month_file import Trips
from taxi_assets.sinks.table_schema import Difference, compare

if TYPE_CHECKING:
    import psycopg
    from psycopg.sql import Composable, Identifier

SQL_TYPES: dict[str, LiteralString] = {
    "int16": "smallint",
    "int64": "bigint",
    "bool": "boolean",
    "date32[day]": "date",
    "double": "double precision",
    "string": "text",
    "timestamp[us]": "timestamp without time zone",
}

HISTORY = "load_history"

_HISTORY_COLUMNS = """
    table_name text NOT NULL,
    month date NOT NULL,
    rows bigint NOT NULL,
    total_amount double precision,
    source text,
    source_version text,
    code_version text,
    run_id text,
    started_by text,
    load_id text,
    loaded_at timestamptz NOT NULL DEFAULT now()
"""
_LOAD_ID = "load_id"
"""The run that began a load (`run_tags.load_id`). The first histories do not have the column: it is added to them."""

_COLUMNS = """
    SELECT attname, format_type(atttypid, atttypmod), attnotnull FROM pg_catalog.pg_attribute
    WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped ORDER BY attnum
"""
_INDEXES = """
    SELECT pg_get_indexdef(indexrelid) FROM pg_catalog.pg_index
    WHERE indrelid = %s AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint WHERE conindid = indexrelid)
"""
_RELATION = """
    SELECT c.oid, c.relkind, pg_get_partkeydef(c.oid) FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = %s
"""


def lock_key(name: str) -> int:
    """A number for the advisory lock on `name`: a schema while its tables are made, a partition while it is written."""
    return int.from_bytes(hashlib.sha256(f"taxi_assets {name}".encode()).digest()[:8], "big", signed=True)


@dataclass(frozen=True)
class Table:
    """A kind's table by name, and the names that follow from it."""

    schema: str
    kind: TaxiKind
    new: tuple[Column, ...] = ()
    """Columns that the month to be loaded has more than the kind."""

    @classmethod
    def of(cls, schema: str, kind: TaxiKind, trips: Trips) -> Table:
        """The table, to be loaded with these trips."""
        return cls(schema, kind, columns_of(kind, trips.schema)[len(kind.columns) :])

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns of the month that is loaded."""
        return (*self.kind.columns, *self.new)

    @property
    def name(self) -> str:
        """`schema.table`, for people."""
        return f"{self.schema}.{self.kind.table}"

    @property
    def sql(self) -> Identifier:
        """The table."""
        return self.identifier(self.kind.table)

    def identifier(self, name: str) -> Identifier:
        """Another relation of the schema."""
        from psycopg import sql

        return sql.Identifier(self.schema, name)

    @property
    def types(self) -> dict[str, LiteralString]:
        """The columns, and each one's type as Postgres spells it."""
        return {column.name: SQL_TYPES[column.type] for column in self.columns}

    def partition(self, month: Month) -> str:
        """The name of the month's partition: `yellow_cab_data_2021_01`."""
        return f"{self.kind.table}_{month.year}_{month.month:02d}"


@dataclass(frozen=True)
class Shape:
    """What a month's table must look like to become a partition: columns `(name, type, not null)`, index definitions.

    `difference` is what the table has other than the month that is loaded.
    """

    columns: list[tuple[str, LiteralString, bool]]
    difference: Difference
    indexes: list[str] = field(default_factory=list)


def settle(cursor: psycopg.Cursor, table: Table) -> Shape:
    """Make schema, table and history where missing, add new columns, and return the table's shape.

    Raises:
        PermanentError: something else has the table's name, or a column differs.
    """
    shape, complete = _look(cursor, table)
    if shape is not None and complete:
        return shape
    # twenty loaders may start on an empty database at once: one makes the table, the others find it
    cursor.execute("SELECT pg_advisory_xact_lock(%s)", [lock_key(table.schema)])
    shape, _ = _look(cursor, table)
    _make(cursor, table, shape)
    shape, _ = _look(cursor, table)
    assert shape is not None, table.name
    return shape


def column_types(cursor: psycopg.Cursor, table: Table) -> dict[str, str]:
    """The columns of the table that exists and their types; none when it does not exist."""
    found = relation(cursor, table, table.kind.table)
    return {name: type_ for name, type_, _ in cursor.execute(_COLUMNS, [found[0]]).fetchall()} if found else {}


def relation(cursor: psycopg.Cursor, table: Table, name: str) -> tuple[Any, ...] | None:
    """Oid, kind and partition key of a relation of the table's schema; None if there is none."""
    return cursor.execute(_RELATION, [table.schema, name]).fetchone()


def bytes_of(cursor: psycopg.Cursor, table: Table, name: str) -> int:
    """Bytes on disk of a table of the table's schema, with its indexes."""
    found = relation(cursor, table, name)
    size = cursor.execute("SELECT pg_total_relation_size(%s)", [found and found[0]]).fetchone()
    return size[0] if size and size[0] else 0


def is_partition(cursor: psycopg.Cursor, table: Table, month: Month) -> bool:
    """Whether the month has its partition.

    Raises:
        PermanentError: something else has its name.
    """
    name = table.partition(month)
    if (found := relation(cursor, table, name)) is None:
        return False
    parent = relation(cursor, table, table.kind.table)
    query = "SELECT 1 FROM pg_catalog.pg_inherits WHERE inhrelid = %s AND inhparent = %s"
    if parent is None or cursor.execute(query, [found[0], parent[0]]).fetchone() is None:
        raise PermanentError(
            f"{month}: {table.schema}.{name} exists and is no partition of {table.name}: rename it (ALTER TABLE "
            f"{table.schema}.{name} RENAME TO {name}_old), or name another schema in TAXI_POSTGRES_SCHEMA."
        )
    return True


def _look(cursor: psycopg.Cursor, table: Table) -> tuple[Shape | None, bool]:
    """The table's shape if it exists, and whether nothing is missing."""
    if (found := relation(cursor, table, table.kind.table)) is None:
        return None, False
    oid, relkind, key = found
    wanted_key = f"RANGE ({table.kind.pickup})"
    if relkind != "p" or key != wanted_key:
        raise PermanentError(
            f"{table.name} exists and is not partitioned by {wanted_key.lower()}: rename it (ALTER TABLE {table.name} "
            f"RENAME TO {table.kind.table}_old), or name another schema in TAXI_POSTGRES_SCHEMA."
        )
    columns = cursor.execute(_COLUMNS, [oid]).fetchall()
    difference = compare(
        table.kind,
        table.columns,
        {name: type_ for name, type_, _ in columns},
        SQL_TYPES,
        table=table.name,
        remedy="change the table yourself, or name another schema in TAXI_POSTGRES_SCHEMA.",
        not_null=[name for name, _, required in columns if required],
    )
    indexes = [definition for (definition,) in cursor.execute(_INDEXES, [oid])]
    complete = not difference.added and _LOAD_ID in _history_columns(cursor, table)
    return Shape(columns, difference, indexes), complete


def _make(cursor: psycopg.Cursor, table: Table, shape: Shape | None) -> None:
    from psycopg import sql

    def column(name: str) -> sql.Composable:
        return sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(table.types[name]))

    added = shape.difference.added if shape else list(table.types)
    if not cursor.execute("SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = %s", [table.schema]).fetchone():
        cursor.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(table.schema)))
    if shape is None:
        cursor.execute(
            sql.SQL("CREATE TABLE {} ({}) PARTITION BY RANGE ({})").format(
                table.sql, sql.SQL(", ").join(map(column, added)), sql.Identifier(table.kind.pickup)
            )
        )
        _comment(cursor, sql.SQL("TABLE {}").format(table.sql),
                 f"New York's {table.kind.name} taxi trips, a partition a month, each replaced whole.")  # fmt: skip
    elif added:
        actions = sql.SQL(", ").join(sql.SQL("ADD COLUMN ") + column(name) for name in added)
        cursor.execute(sql.SQL("ALTER TABLE {} {}").format(table.sql, actions))
    for new in table.columns:
        if new.name in added:
            target = sql.Identifier(table.schema, table.kind.table, new.name)
            _comment(cursor, sql.SQL("COLUMN {}").format(target), new.description)
    kept = _history_columns(cursor, table)
    if not kept:
        cursor.execute(sql.SQL("CREATE TABLE {} (" + _HISTORY_COLUMNS + ")").format(table.identifier(HISTORY)))
        _comment(cursor, sql.SQL("TABLE {}").format(table.identifier(HISTORY)),
                 "One row a month loaded, written in the transaction that made it visible.")  # fmt: skip
    elif _LOAD_ID not in kept:
        names = table.identifier(HISTORY), sql.Identifier(_LOAD_ID)
        cursor.execute(sql.SQL("ALTER TABLE {} ADD COLUMN {} text").format(*names))


def _history_columns(cursor: psycopg.Cursor, table: Table) -> set[str]:
    """The history's columns; none where there is no history."""
    found = relation(cursor, table, HISTORY)
    return {name for name, *_ in cursor.execute(_COLUMNS, [found[0]]).fetchall()} if found else set()


def _comment(cursor: psycopg.Cursor, target: Composable, text: str) -> None:
    from psycopg import sql

    cursor.execute(sql.SQL("COMMENT ON {} IS {}").format(target, sql.Literal(text)))
