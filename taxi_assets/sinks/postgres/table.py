"""The Postgres table: partitioned by month, created when missing, extended by new columns, otherwise unchanged.

Many months are loaded concurrently, so the table is prepared in a short transaction before a load. The load's long
transaction must not lock the table while it copies; otherwise loads would wait for each other's swaps.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any, LiteralString, NamedTuple

import psycopg
from psycopg import sql
from psycopg.sql import Composable, Identifier

from taxi_assets.core.errors import PermanentError
from taxi_assets.core.month import Month
from taxi_assets.core.table import Table
from taxi_assets.sinks.columns import Difference, compare
from taxi_assets.sinks.dimensions import RECORDS
from taxi_assets.sinks.postgres.records import HISTORY, LOADED, MANIFESTS, comment, create_record

SQL_TYPES: dict[str, LiteralString] = {
    "int16": "smallint",
    "int64": "bigint",
    "bool": "boolean",
    "date32[day]": "date",
    "double": "double precision",
    "string": "text",
    "timestamp[us]": "timestamp without time zone",
}

_LOAD_ID = "load_id"
"""The run that began a load (`run_tags.load_id`). The first histories do not have the column: it is added to them."""

_COLUMNS = """
    SELECT attname, format_type(atttypid, atttypmod), attnotnull, CASE attgenerated
        WHEN 's' THEN 'GENERATED ALWAYS AS (' || pg_get_expr(adbin, adrelid) || ') STORED'
        WHEN 'v' THEN 'GENERATED ALWAYS AS (' || pg_get_expr(adbin, adrelid) || ')'
        ELSE 'DEFAULT ' || pg_get_expr(adbin, adrelid) END
    FROM pg_catalog.pg_attribute LEFT JOIN pg_catalog.pg_attrdef ON adrelid = attrelid AND adnum = attnum
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

_IS_PARTITION = """
    SELECT EXISTS (
        SELECT FROM pg_catalog.pg_inherits JOIN pg_catalog.pg_class parent ON parent.oid = inhparent
        WHERE inhrelid = c.oid AND parent.relname = %s AND parent.relnamespace = n.oid
    ) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = %s AND c.relname = %s
"""
"""One query, as the partition may be replaced at any time: between two, the table that the first one found is gone."""


def lock_key(name: str) -> int:
    """A number for the advisory lock on `name`: a schema while its tables are created, a partition while it is written."""
    return int.from_bytes(hashlib.sha256(f"taxi_assets {name}".encode()).digest()[:8], "big", signed=True)


@dataclass(frozen=True)
class PostgresTable:
    """A table by its names in a database."""

    schema: str
    table: Table

    @property
    def name(self) -> str:
        """`schema.table`, for display."""
        return f"{self.schema}.{self.table.name}"

    @property
    def sql(self) -> Identifier:
        """The table."""
        return self.identifier(self.table.name)

    @property
    def records(self) -> tuple[str, ...]:
        """The names of the tables and views with what is recorded of this one."""
        return (HISTORY, MANIFESTS, LOADED) if self.table.time else (RECORDS,)

    @property
    def time(self) -> Identifier:
        """The column that contains the month."""
        assert self.table.time is not None
        return sql.Identifier(self.table.time)

    def identifier(self, name: str) -> Identifier:
        """Another relation of the schema."""
        return sql.Identifier(self.schema, name)

    def partition(self, month: Month) -> str:
        """The name of the month's partition: `yellow_cab_data_2021_01`."""
        return f"{self.table.name}_{month.year}_{month.month:02d}"


class ExistingColumn(NamedTuple):
    """A column as Postgres spells it. `default` is its default, or how it is generated."""

    name: str
    type: LiteralString
    not_null: bool
    default: LiteralString | None

    @property
    def definition(self) -> Composable:
        """The column in CREATE TABLE or ADD COLUMN."""
        parts: list[Composable] = [sql.Identifier(self.name), sql.SQL(self.type)]
        if self.not_null:
            parts.append(sql.SQL("NOT NULL"))
        if self.default:
            parts.append(sql.SQL(self.default))
        return sql.SQL(" ").join(parts)


@dataclass(frozen=True)
class Shape:
    """What a month's table must look like to become a partition: columns and index definitions.

    `difference` is the difference between the table and the month that is loaded.
    """

    columns: list[ExistingColumn]
    difference: Difference
    indexes: list[str] = field(default_factory=list)


def prepare(cursor: psycopg.Cursor, table: PostgresTable, loaded: Table) -> Shape:
    """Create schema, table and its records where they are missing, add new columns, and return the table's shape.

    `loaded` is the table with the month's new columns.

    Raises:
        PermanentError: something else has the table's name, or a column differs.
    """
    shape, complete = _look(cursor, table, loaded)
    if shape is not None and complete:
        return shape
    # twenty loaders may start on an empty database at once: one creates the table, the others find it
    cursor.execute("SELECT pg_advisory_xact_lock(%s)", [lock_key(table.schema)])
    shape, _ = _look(cursor, table, loaded)
    _create(cursor, table, loaded, shape)
    shape, _ = _look(cursor, table, loaded)
    assert shape is not None, table.name
    return shape


def existing_columns(cursor: psycopg.Cursor, table: PostgresTable, name: str) -> list[ExistingColumn]:
    """The columns of a relation of the table's schema; none when it does not exist."""
    found = relation(cursor, table, name)
    return [ExistingColumn(*row) for row in cursor.execute(_COLUMNS, [found[0]])] if found else []


def relation(cursor: psycopg.Cursor, table: PostgresTable, name: str) -> tuple[Any, ...] | None:
    """Oid, kind and partition key of a relation of the table's schema; None if there is none."""
    return cursor.execute(_RELATION, [table.schema, name]).fetchone()


def bytes_of(cursor: psycopg.Cursor, table: PostgresTable, name: str) -> int:
    """Bytes on disk of a table of the table's schema, with its indexes."""
    found = relation(cursor, table, name)
    size = cursor.execute("SELECT pg_total_relation_size(%s)", [found and found[0]]).fetchone()
    return size[0] if size and size[0] else 0


def is_partition(cursor: psycopg.Cursor, table: PostgresTable, month: Month) -> bool:
    """Whether the month has its partition.

    Raises:
        PermanentError: something else has its name.
    """
    name = table.partition(month)
    found = cursor.execute(_IS_PARTITION, [table.table.name, table.schema, name]).fetchone()
    if found == (False,):
        raise PermanentError(
            f"{month}: {table.schema}.{name} exists and is no partition of {table.name}: rename it (ALTER TABLE "
            f"{table.schema}.{name} RENAME TO {name}_old), or name another schema in TAXI_POSTGRES_SCHEMA."
        )
    return found is not None


def _look(cursor: psycopg.Cursor, table: PostgresTable, loaded: Table) -> tuple[Shape | None, bool]:
    """The table's shape if it exists, and whether nothing is missing."""
    if (found := relation(cursor, table, table.table.name)) is None:
        return None, False
    oid, relkind, key = found
    expected = None if table.table.key else f"RANGE ({table.table.time})"
    if key and key.replace('"', "") == expected:  # Postgres quotes names that are keywords
        key = expected
    if key != expected or relkind != ("r" if table.table.key else "p"):
        layout = f"partitioned by {expected.lower()}" if expected else "an ordinary table"
        raise PermanentError(
            f"{table.name} exists and is not {layout}: rename it (ALTER TABLE {table.name} RENAME TO "
            f"{table.table.name}_old), or name another schema in TAXI_POSTGRES_SCHEMA."
        )
    columns = existing_columns(cursor, table, table.table.name)
    difference = compare(
        table.table,
        loaded,
        {column.name: column.type for column in columns},
        SQL_TYPES,
        name=table.name,
        remedy="change the table yourself, or name another schema in TAXI_POSTGRES_SCHEMA",
        not_null=[column.name for column in columns if column.not_null and not column.default],
    )
    indexes = [definition for (definition,) in cursor.execute(_INDEXES, [oid])]
    complete = not difference.added and all(relation(cursor, table, name) is not None for name in table.records)
    return Shape(columns, difference, indexes), complete and not _lacks_load_id(cursor, table)


def create_schema(cursor: psycopg.Cursor, name: str) -> None:
    """Create a schema when it is missing; `IF NOT EXISTS` would need the right to create one even if it exists."""
    if not cursor.execute("SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = %s", [name]).fetchone():
        cursor.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(name)))


def _create(cursor: psycopg.Cursor, table: PostgresTable, loaded: Table, shape: Shape | None) -> None:
    added = [column for column in loaded.columns if shape is None or column.name in shape.difference.added]
    definitions = [
        ExistingColumn(c.name, SQL_TYPES[c.type], c.required and bool(loaded.key), None).definition for c in added
    ]
    create_schema(cursor, table.schema)
    if shape is None:
        if loaded.key:
            key = sql.SQL(", ").join(map(sql.Identifier, loaded.key))
            definitions.append(sql.SQL("PRIMARY KEY ({})").format(key))
            layout = sql.SQL("")
        else:
            layout = sql.SQL(" PARTITION BY RANGE ({})").format(table.time)
        columns = sql.SQL(", ").join(definitions)
        cursor.execute(sql.SQL("CREATE TABLE {} ({}){}").format(table.sql, columns, layout))
        if loaded.description:
            comment(cursor, sql.SQL("TABLE {}").format(table.sql), loaded.description)
    elif added:
        actions = sql.SQL(", ").join(sql.SQL("ADD COLUMN ") + definition for definition in definitions)
        cursor.execute(sql.SQL("ALTER TABLE {} {}").format(table.sql, actions))
    for column in added:
        target = sql.Identifier(table.schema, table.table.name, column.name)
        comment(cursor, sql.SQL("COLUMN {}").format(target), column.description)
    for name in table.records:
        if relation(cursor, table, name) is None:
            create_record(cursor, table.identifier, name)
    if _lacks_load_id(cursor, table):
        names = table.identifier(HISTORY), sql.Identifier(_LOAD_ID)
        cursor.execute(sql.SQL("ALTER TABLE {} ADD COLUMN {} text").format(*names))


def _lacks_load_id(cursor: psycopg.Cursor, table: PostgresTable) -> bool:
    """Whether the history is of a version that did not have the column."""
    return HISTORY in table.records and _LOAD_ID not in {c.name for c in existing_columns(cursor, table, HISTORY)}
