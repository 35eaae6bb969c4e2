"""Loads one month into Postgres: built as a separate table and attached as a partition, in one transaction.

Building blocks no other session. The swap locks the table briefly, and gives way to readers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import psycopg
import pyarrow as pa
import pyarrow.compute as pc
from pgpq import ArrowToPostgresBinaryEncoder
from psycopg import errors, sql

from taxi_assets.core.errors import PermanentError, TransientError
from taxi_assets.core.month import Month
from taxi_assets.core.month_file import MonthFile
from taxi_assets.core.run_tags import load_id, started_by
from taxi_assets.sinks.columns import converted_batches
from taxi_assets.sinks.contract import WriteContext
from taxi_assets.sinks.postgres.records import HISTORY
from taxi_assets.sinks.postgres.table import PostgresTable, Shape, existing_columns, is_partition, lock_key, relation

T = TypeVar("T")

LOCK_WAIT = "1200ms"
"""lock_timeout of the swap, during which new readers also wait. Longer than Postgres' deadlock_timeout of one second,
after which a blocking autovacuum is canceled."""

_PROGRESS_SECONDS = 2.0
_SEND_ROWS = 16_384
"""Rows encoded at a time. The encoder holds the GIL, and the socket buffer keeps the server busy for milliseconds only."""

_BLOCKERS = """
    SELECT DISTINCT a.pid, a.usename, nullif(a.application_name, ''), to_char(a.query_start, 'YYYY-MM-DD HH24:MI:SS')
    FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a USING (pid)
    WHERE l.granted AND l.locktype = 'relation' AND l.relation = ANY(%s) AND pid <> pg_backend_pid()
      AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
    ORDER BY 1 LIMIT 3
"""
"""The sessions that lock the table. Their query texts are omitted because they may contain secrets."""


def lock_month(
    cursor: psycopg.Cursor, table: PostgresTable, month: Month, patience: float, log: Callable[[str], Any]
) -> None:
    """Acquire the month's advisory lock; until the end of the transaction no other load of the month can run.

    Raises:
        TransientError: another load holds it after `patience` seconds.
    """
    key, deadline, logged = lock_key(f"{table.schema}.{table.partition(month)}"), time.monotonic() + patience, False
    while True:
        # polled, because a server process that waits for a lock does not notice that its client was killed
        (locked,) = cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [key]).fetchone() or (False,)
        if locked:
            return
        if time.monotonic() > deadline:
            raise TransientError(
                f"{month}: another run has been writing this month of {table.name} for {patience:.0f} s; let it "
                "finish or cancel it, then run the month again."
            )
        if not logged:
            log(f"{month}: waiting for another run that writes this month of {table.name}.")
            logged = True
        time.sleep(0.1)


def build(
    cursor: psycopg.Cursor, table: PostgresTable, shape: Shape, month_file: MonthFile, log: Callable[[str], Any]
) -> str:
    """Create the month's new table, fill it and index it; return its name.

    Raises:
        PermanentError: a row is outside the month, or one is missing.
    """
    month, name = month_file.month, f"{table.partition(month_file.month)}_new"
    new = table.identifier(name)
    if relation(cursor, table, name) is not None:
        raise PermanentError(
            f"{month}: {table.schema}.{name} already exists: rename or drop it, then run the month again."
        )
    # the partition's own bound: with it, attaching needs not read the rows again
    month_only = sql.SQL("CONSTRAINT month CHECK ({0} IS NOT NULL AND {0} >= {1} AND {0} < {2})").format(
        table.time, *_bounds(month)
    )
    columns = [column.definition for column in shape.columns]
    cursor.execute(sql.SQL("CREATE TABLE {} ({})").format(new, sql.SQL(", ").join([*columns, month_only])))
    try:
        copy(cursor, new, table, shape, month_file, log, freeze=True)
    except errors.CheckViolation as error:
        raise PermanentError(
            f"{month}: a row has a {table.table.time} outside the month, so nothing was loaded into {table.name}; "
            "materialize its upstream again."
        ) from error
    for definition in shape.indexes:  # the table's indexes, created here and not during the swap
        head, _, tail = definition.partition(" USING ")
        unique = sql.SQL("UNIQUE " if head.startswith("CREATE UNIQUE") else "")
        cursor.execute(sql.SQL("CREATE {}INDEX ON {} USING ").format(unique, new).as_bytes(cursor) + tail.encode())
    return name


def swap(cursor: psycopg.Cursor, table: PostgresTable, month: Month, name: str) -> None:
    """Attach the table `name` as the month's partition and drop the previous one.

    Raises:
        psycopg.errors.LockNotAvailable: readers held the table for `LOCK_WAIT`; nothing was changed.
    """
    partition = table.partition(month)
    old, new = table.identifier(partition), table.identifier(name)
    if is_partition(cursor, table, month):
        # in the order readers lock: the table, then the partition
        cursor.execute(sql.SQL("LOCK TABLE ONLY {} IN ACCESS EXCLUSIVE MODE").format(table.sql))
        cursor.execute(sql.SQL("ALTER TABLE {} DETACH PARTITION {}").format(table.sql, old))
        cursor.execute(sql.SQL("DROP TABLE {}").format(old))
    else:  # as ATTACH PARTITION does, but before the columns are compared
        cursor.execute(sql.SQL("LOCK TABLE ONLY {} IN SHARE UPDATE EXCLUSIVE MODE").format(table.sql))
    present = {column.name for column in existing_columns(cursor, table, name)}
    for column in existing_columns(cursor, table, table.table.name):
        if column.name not in present:  # another month's load has added it while this month was copied
            cursor.execute(sql.SQL("ALTER TABLE {} ADD COLUMN {}").format(new, column.definition))
    cursor.execute(sql.SQL("ALTER TABLE {} RENAME TO {}").format(new, sql.Identifier(partition)))
    cursor.execute(
        sql.SQL("ALTER TABLE {} ATTACH PARTITION {} FOR VALUES FROM ({}) TO ({})").format(
            table.sql, old, *_bounds(month)
        )
    )


def replace_rows(
    cursor: psycopg.Cursor, table: PostgresTable, shape: Shape, month_file: MonthFile, log: Callable[[str], Any]
) -> None:
    """Delete the month's rows of a table with a key and insert the new ones."""
    bounds = _bounds(month_file.month)
    cursor.execute(sql.SQL("DELETE FROM {0} WHERE {1} >= {2} AND {1} < {3}").format(table.sql, table.time, *bounds))
    copy(cursor, table.sql, table, shape, month_file, log, freeze=False)


def with_retries(
    connection: psycopg.Connection, table: PostgresTable, month: Month, patience: float, log: Callable[[str], Any],
    attempt: Callable[[psycopg.Cursor], T],
) -> T:  # fmt: skip
    """Run `attempt`, which locks the table, in a (nested) transaction until no reader is in its way.

    Raises:
        TransientError: one still is after `patience` seconds; the error names the session.
    """
    deadline, pause = time.monotonic() + patience, 0.25
    while True:
        try:
            with connection.transaction(), connection.cursor() as cursor:
                cursor.execute("SELECT set_config('lock_timeout', %s, true)", [LOCK_WAIT])
                return attempt(cursor)
        except (errors.LockNotAvailable, errors.DeadlockDetected):
            who = f"{table.name} is in use by {_who_holds(connection, table, month)}"
        if time.monotonic() + pause > deadline:
            raise TransientError(
                f"{month}: could not lock the table within {patience:.0f} s: {who}; terminate the session that blocks it, "
                "then run the month again."
            )
        log(f"{month}: {who}; retrying in {pause:.2g} s.")
        time.sleep(pause)
        pause = min(2 * pause, 10.0)


def record(cursor: psycopg.Cursor, table: PostgresTable, month_file: MonthFile, write: WriteContext) -> None:
    """Write the load into the history, to become visible with the month.

    A run that resumes one that was killed after it had loaded the month loads it again: that is the same load, in one row.
    Only one load of a month runs at a time (`lock_month`), so no other row of it appears in between.
    """
    manifest, extra = month_file.manifest, month_file.manifest.extra
    values = {
        "table_name": table.table.name,
        "month": month_file.month.start.date(),
        "rows": month_file.rows,
        "total_amount": manifest.sums.get("total_amount"),
        "source": extra.get("location") or extra.get("source"),
        "source_version": extra.get("version"),
        "code_version": extra.get("code_version"),
        "run_id": write.run_id,
        "started_by": started_by(write.tags),
        "load_id": load_id(write.run_id, write.tags),
    }
    same = ("table_name", "month", "load_id", "rows", "total_amount", "source_version", "code_version")
    where = sql.SQL(" AND ").join(sql.SQL("{} IS NOT DISTINCT FROM %s").format(sql.Identifier(name)) for name in same)
    delete = sql.SQL("DELETE FROM {} WHERE {}").format(table.identifier(HISTORY), where)
    cursor.execute(delete, [values[name] for name in same])
    names = sql.SQL(", ").join(map(sql.Identifier, values))
    marks = sql.SQL(", ").join([sql.Placeholder()] * len(values))
    insert = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(table.identifier(HISTORY), names, marks)
    cursor.execute(insert, list(values.values()))


def copy(
    cursor: psycopg.Cursor,
    target: sql.Identifier,
    table: PostgresTable,
    shape: Shape,
    month_file: MonthFile,
    log: Callable[[str], Any],
    *,
    freeze: bool,
) -> None:
    """Stream the month as binary COPY; into a table of the same transaction with FREEZE, so that no vacuum is needed.

    Raises:
        PermanentError: a row is missing.
    """
    month, difference = month_file.month, shape.difference
    if difference.surplus:
        log(f"{month}: {table.name} has {', '.join(difference.surplus)}, which trips do not have; null in this month.")
    types = {field.name: str(field.type) for field in month_file.schema} | dict(difference.converted)
    schema = pa.schema([pa.field(name, pa.type_for_alias(type_)) for name, type_ in types.items()])
    encoder = ArrowToPostgresBinaryEncoder(schema)
    rows = sent = 0
    started = logged = time.monotonic()
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary{})").format(
        target, sql.SQL(", ").join(map(sql.Identifier, schema.names)), sql.SQL(", FREEZE" if freeze else "")
    )
    with cursor.copy(statement) as stream:
        stream.write(encoder.write_header())
        batches = _encodable(month_file, schema, difference.converted)
        for count, data in _ahead((b.num_rows, encoder.write_batch(b)) for b in batches):
            stream.write(data)
            rows, sent, now = rows + count, sent + len(data), time.monotonic()
            if now - logged >= _PROGRESS_SECONDS:
                logged = now
                share = 100 * rows / max(month_file.rows, 1)
                log(
                    f"{month}: {rows:,} rows ({share:.0f} %), {sent / 1e6:,.0f} MB sent to {table.name}, "
                    f"{rows / (now - started):,.0f} rows/s."
                )
        stream.write(encoder.finish())
    if rows != month_file.rows:
        raise PermanentError(
            f"{month}: expected {month_file.rows:,} rows, copied {rows:,}; materialize the upstream again."
        )


def _ahead(items: Iterator[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    """The items, each produced in another thread while the previous one is sent, so that the server does not wait."""

    def make() -> tuple[int, bytes] | None:
        return next(items, None)

    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(make)
        while (item := coming.result()) is not None:
            coming = pool.submit(make)
            yield item


def _encodable(month_file: MonthFile, schema: pa.Schema, converted: Mapping[str, str]) -> Iterator[pa.RecordBatch]:
    """The month's batches in exactly these columns; text without NUL, which Postgres cannot store."""
    texts = [index for index, field in enumerate(schema) if field.type == pa.string()]
    for batch in converted_batches(month_file, converted, _SEND_ROWS):
        if not batch.num_rows:
            continue
        batch = batch.select(schema.names)
        for index in texts:
            column = batch.column(index)
            if pc.any(pc.match_substring(column, "\0")).as_py():
                batch = batch.set_column(index, schema.field(index), pc.replace_substring(column, "\0", ""))
        yield batch


def _bounds(month: Month) -> tuple[sql.Literal, sql.Literal]:
    return sql.Literal(str(month.start)), sql.Literal(str(month.end))


def _who_holds(connection: psycopg.Connection, table: PostgresTable, month: Month) -> str:
    with connection.cursor() as cursor:
        found = [relation(cursor, table, name) for name in (table.table.name, table.partition(month))]
        rows = cursor.execute(_BLOCKERS, [[oid for oid, *_ in filter(None, found)]]).fetchall()
    sessions = [
        f"process {pid}" + f" of {user or 'another user'}"
        + (f" ({program})" if program else "") + (f", its query begun {begun}" if begun else "")
        for pid, user, program, begun in rows
    ]  # fmt: skip
    return " and ".join(sessions) or "another connection"
