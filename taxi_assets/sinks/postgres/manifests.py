"""What Postgres records of each month: a row, written in the transaction that loads the month."""

from __future__ import annotations

from typing import Any, LiteralString, cast

import psycopg
from psycopg import sql

from taxi_assets.core.manifest import Manifest, aggregates, from_row
from taxi_assets.core.month import Month
from taxi_assets.sinks.postgres.records import HISTORY, MANIFESTS
from taxi_assets.sinks.postgres.table import PostgresTable, relation

_PARTITIONS = """
    SELECT relname FROM pg_catalog.pg_inherits JOIN pg_catalog.pg_class c ON c.oid = inhrelid
    WHERE inhparent = %s AND (%s::text IS NULL OR relname = %s)
"""


def record_manifest(cursor: psycopg.Cursor, table: PostgresTable, month: Month, manifest: Manifest) -> None:
    """Record the month in the transaction that loads it."""
    cursor.execute(
        sql.SQL(
            "INSERT INTO {} (table_name, month, manifest) VALUES (%s, %s, %s) "
            "ON CONFLICT (table_name, month) DO UPDATE SET manifest = excluded.manifest"
        ).format(table.identifier(MANIFESTS)),
        [table.table.name, month.start.date(), manifest.to_json()],
    )


def manifests(cursor: psycopg.Cursor, table: PostgresTable, month: Month | None = None) -> dict[Month, Manifest]:
    """Read what is recorded of the months that the table has, or of one of them, with at most five queries.

    A month that an older version of this package loaded has no record: it is described by its last row of the history, or
    by its own rows in a table with a key, which is small.
    """
    found = relation(cursor, table, table.table.name)
    if found is None:
        return {}
    recorded = _recorded(cursor, table, month)
    if table.table.key:
        measured = _measured(cursor, table)
        empty = {month for month, manifest in recorded.items() if not manifest.rows}
        return {month: recorded.get(month) or measured[month] for month in measured.keys() | empty}
    wanted = table.partition(month) if month else None
    names = [name for (name,) in cursor.execute(_PARTITIONS, [found[0], wanted, wanted])]
    months = {
        Month(int(name[-7:-3]), int(name[-2:])) for name in names if name[-7:-3].isdigit() and name[-2:].isdigit()
    }
    history = _history(cursor, table) if months - recorded.keys() else {}
    return {month: manifest for month in months if (manifest := recorded.get(month) or history.get(month))}


def _recorded(cursor: psycopg.Cursor, table: PostgresTable, month: Month | None) -> dict[Month, Manifest]:
    if relation(cursor, table, MANIFESTS) is None:
        return {}
    query = sql.SQL(
        "SELECT month, manifest::text FROM {} WHERE table_name = %s AND (%s::date IS NULL OR month = %s)"
    ).format(table.identifier(MANIFESTS))
    day = month.start.date() if month else None
    rows = cursor.execute(query, [table.table.name, day, day]).fetchall()
    return {Month(day.year, day.month): Manifest.from_json(text) for day, text in rows}


def _measured(cursor: psycopg.Cursor, table: PostgresTable) -> dict[Month, Manifest]:
    query = sql.SQL("SELECT date_trunc('month', {time}), {} FROM {} GROUP BY 1").format(
        sql.SQL(cast(LiteralString, aggregates(table.table))), table.sql, time=table.time
    )
    return {Month(month.year, month.month): from_row(table.table, row) for month, *row in cursor.execute(query)}


def _history(cursor: psycopg.Cursor, table: PostgresTable) -> dict[Month, Manifest]:
    if relation(cursor, table, HISTORY) is None:
        return {}
    query = sql.SQL(
        "SELECT DISTINCT ON (month) month, rows, total_amount, source, source_version, code_version, run_id, loaded_at "
        "FROM {} WHERE table_name = %s ORDER BY month, loaded_at DESC"
    ).format(table.identifier(HISTORY))
    found = {}
    for day, rows, total, *rest in cursor.execute(query, [table.table.name]):
        location, version, code_version, run_id, loaded_at = rest
        known: dict[str, Any] = {
            "location": location,
            "version": version,
            "code_version": code_version,
            "run_id": run_id,
            "loaded_at": loaded_at.isoformat(timespec="seconds"),
        }
        extra = {name: value for name, value in known.items() if value is not None}
        sums = {} if total is None else {"total_amount": total}
        found[Month(day.year, day.month)] = Manifest(rows, sums, extra=extra)
    return found
