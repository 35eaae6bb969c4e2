"""The tables and the view in which Postgres records what it holds of other tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, LiteralString

import psycopg
from psycopg import sql
from psycopg.sql import Composable, Identifier

from taxi_assets.sinks.dimensions import RECORDS

if TYPE_CHECKING:
    from collections.abc import Callable

HISTORY, MANIFESTS, LOADED = "load_history", "month_manifests", "loaded_months"

_HISTORY_COLUMNS: LiteralString = """
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
_RECORDS: dict[str, tuple[LiteralString, str]] = {
    HISTORY: (_HISTORY_COLUMNS, "One row for each load of a month, written in the transaction that published it."),
    MANIFESTS: (
        "table_name text, month date, manifest jsonb NOT NULL, PRIMARY KEY (table_name, month)",
        "What each loaded month is: rows, source, code, rules. Written in the transaction that loads it.",
    ),
    RECORDS: (
        "table_name text PRIMARY KEY, manifest jsonb NOT NULL",
        "What each dimension is: source, SHA-256, code. Written in the transaction that loads it.",
    ),
}
"""The tables with what is recorded of others: their columns and comment."""
_LOADED_MONTHS: LiteralString = """
    CREATE VIEW {} AS SELECT
        table_name,
        month,
        (manifest ->> 'rows')::bigint AS rows,
        manifest -> 'extra' ->> 'location' AS source,
        manifest -> 'extra' ->> 'version' AS source_version,
        manifest -> 'extra' ->> 'sha256' AS sha256,
        (manifest -> 'extra' ->> 'generated')::boolean AS generated,
        manifest -> 'extra' ->> 'code_version' AS code_version,
        manifest -> 'extra' ->> 'run_id' AS run_id,
        (manifest -> 'extra' ->> 'loaded_at')::timestamptz AS loaded_at
    FROM {}
"""


def create_record(cursor: psycopg.Cursor, identifier: Callable[[str], Identifier], name: str) -> None:
    """Create one of these; `identifier` puts a name in its schema."""
    own = identifier(name)
    if name == LOADED:
        cursor.execute(sql.SQL(_LOADED_MONTHS).format(own, identifier(MANIFESTS)))
        comment(cursor, sql.SQL("VIEW {}").format(own), "What is loaded now: one row for each table and month.")
    else:
        columns, text = _RECORDS[name]
        cursor.execute(sql.SQL("CREATE TABLE {} (" + columns + ")").format(own))
        comment(cursor, sql.SQL("TABLE {}").format(own), text)


def comment(cursor: psycopg.Cursor, target: Composable, text: str) -> None:
    """Describe a table, a view or a column."""
    cursor.execute(sql.SQL("COMMENT ON {} IS {}").format(target, sql.Literal(text)))
