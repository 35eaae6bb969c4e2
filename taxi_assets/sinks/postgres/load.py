"""One month into Postgres: built beside the table, swapped in as its partition, all in one transaction.

Building holds no lock that anybody waits for; the swap needs the table for a moment, and lets readers go first.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from taxi_assets.core.errors import PermanentError, TransientError
from taxi_assets.core.month import Month
from taxi_assets.core.run_tags import load_id, started_by
from taxi_assets.lake.month_file import Trips
from taxi_assets.sinks.postgres.table import HISTORY, Shape, Table, is_partition, lock_key, relation
from taxi_assets.sinks.table_schema import converted_batches

if TYPE_CHECKING:
    import psycopg
    from psycopg import sql

    from taxi_assets.sinks.contract import Writing

T = TypeVar("T")

LOCK_WAIT = "1200ms"
"""How long a swap may stand in line for the table, and new readers behind it. More than Postgres' deadlock_timeout of a
second, after which an autovacuum that is in the way is canceled."""

_PROGRESS_SECONDS = 2.0
_SEND_ROWS = 16_384
"""Rows encoded at a time. The encoder holds Python's lock, and the socket's buffer lasts the server for milliseconds."""

_BLOCKERS = """
    SELECT DISTINCT a.pid, a.usename, nullif(a.application_name, ''), to_char(a.query_start, 'YYYY-MM-DD HH24:MI:SS')
    FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a USING (pid)
    WHERE l.granted AND l.locktype = 'relation' AND l.relation = ANY(%s) AND pid <> pg_backend_pid()
      AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
    ORDER BY 1 LIMIT 3
"""
"""Who holds the table. Their queries' texts are left out: they may hold secrets."""


def take_turn(cursor: psycopg.Cursor, table: Table, month: Month, patience: float, log: Callable[[str], Any]) -> None:
    """Wait until no other writer is at the month; for the rest of the transaction none will be.

    Raises:
        TransientError: one still is after `patience` seconds.
    """
    key, deadline, told = lock_key(f"{table.schema}.{table.partition(month)}"), time.monotonic() + patience, False
    while True:
        # asked again and again, as a server process that waits in line does not notice that its client was killed
        (taken,) = cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [key]).fetchone() or (False,)
        if taken:
            return
        if time.monotonic() > deadline:
            raise TransientError(
                f"{month}: another run has been writing this month of {table.name} for {patience:.0f} s; let it "
                "finish or cancel it, then run the month again."
            )
        if not told:
            log(f"{month}: waiting for another run that writes this month of {table.name}.")
            told = True
        time.sleep(0.1)


def build(cursor: psycopg.Cursor, table: Table, shape: Shape, trips: Trips, log: Callable[[str], Any]) -> str:
    """Create the month's new table, fill it and index it; return its name.

    Raises:
        PermanentError: a pickup is outside the month, or a row is missing.
    """
    from psycopg import errors, sql

    month, name = trips.month, f"{table.partition(trips.month)}_new"
    new, pickup = table.identifier(name), sql.Identifier(table.kind.pickup)
    if surplus := shape.difference.surplus:
        log(f"{month}: {table.name} has {', '.join(surplus)}, which trips do not have; null in this month.")
    if relation(cursor, table, name) is not None:
        raise PermanentError(
            f"{month}: {table.schema}.{name} is in the way: rename or drop it, then run the month again."
        )
    columns = [
        sql.SQL("{} {}{}").format(sql.Identifier(column), sql.SQL(type_), sql.SQL(" NOT NULL" if required else ""))
        for column, type_, required in shape.columns
    ]
    # the partition's own bound: with it, attaching needs not read the rows again
    month_only = sql.SQL("CONSTRAINT month CHECK ({0} IS NOT NULL AND {0} >= {1} AND {0} < {2})").format(
        pickup, *_bounds(month)
    )
    cursor.execute(sql.SQL("CREATE TABLE {} ({})").format(new, sql.SQL(", ").join([*columns, month_only])))
    try:
        rows = _copy(cursor, new, table, shape, trips, log)
    except errors.CheckViolation as error:
        raise PermanentError(
            f"{month}: a trip was picked up outside the month, so none of it was loaded into {table.name}; materialize "
            "clean_trips again."
        ) from error
    if rows != trips.rows:
        raise PermanentError(
            f"{month}: {trips.rows:,} rows were announced, {rows:,} came; materialize clean_trips again."
        )
    for definition in shape.indexes:  # the table's indexes, made here and not during the swap
        head, _, tail = definition.partition(" USING ")
        unique = sql.SQL("UNIQUE " if head.startswith("CREATE UNIQUE") else "")
        cursor.execute(sql.SQL("CREATE {}INDEX ON {} USING ").format(unique, new).as_bytes(cursor) + tail.encode())
    return name


def swap(cursor: psycopg.Cursor, table: Table, month: Month, name: str) -> None:
    """Make the table `name` the month's partition and drop the one before.

    Raises:
        psycopg.errors.LockNotAvailable: readers were in the way for `LOCK_WAIT`; nothing was changed.
    """
    from psycopg import sql

    partition = table.partition(month)
    old = table.identifier(partition)
    if is_partition(cursor, table, month):
        # in the order readers lock: the table, then the partition
        cursor.execute(sql.SQL("LOCK TABLE ONLY {} IN ACCESS EXCLUSIVE MODE").format(table.sql))
        cursor.execute(sql.SQL("ALTER TABLE {} DETACH PARTITION {}").format(table.sql, old))
        cursor.execute(sql.SQL("DROP TABLE {}").format(old))
    new = table.identifier(name)
    cursor.execute(sql.SQL("ALTER TABLE {} RENAME TO {}").format(new, sql.Identifier(partition)))
    cursor.execute(
        sql.SQL("ALTER TABLE {} ATTACH PARTITION {} FOR VALUES FROM ({}) TO ({})").format(
            table.sql, old, *_bounds(month)
        )
    )


def patiently(
    connection: psycopg.Connection, table: Table, month: Month, patience: float, log: Callable[[str], Any],
    attempt: Callable[[psycopg.Cursor], T],
) -> T:  # fmt: skip
    """Run `attempt`, which needs the table for itself, in a (nested) transaction until readers let it.

    Raises:
        TransientError: after `patience` seconds they still do not; the sentence names who.
    """
    from psycopg import errors

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
                f"{month}: {who}, and for {patience:.0f} s no moment was free to swap the month in; end what uses it "
                "so long, then run the month again."
            )
        log(f"{month}: {who}; trying again in {pause:.2g} s.")
        time.sleep(pause)
        pause = min(2 * pause, 10.0)


def record(cursor: psycopg.Cursor, table: Table, trips: Trips, writing: Writing) -> None:
    """Write the load into the history, to become visible with the month.

    A run that goes on for one that was killed after it had loaded the month loads it again: that is the same load, in
    one row. Writers of a month take turns (`take_turn`), so no other row of it appears in between.
    """
    from psycopg import sql

    extra = trips.facts.extra
    values = {
        "table_name": table.kind.table,
        "month": trips.month.start.date(),
        "rows": trips.rows,
        "total_amount": trips.facts.total_amount,
        "source": extra.get("location") or extra.get("source"),
        "source_version": extra.get("version"),
        "code_version": extra.get("code_version"),
        "run_id": writing.run_id,
        "started_by": started_by(writing.tags),
        "load_id": load_id(writing.run_id, writing.tags),
    }
    same = ("table_name", "month", "load_id", "rows", "total_amount", "source_version", "code_version")
    where = sql.SQL(" AND ").join(sql.SQL("{} IS NOT DISTINCT FROM %s").format(sql.Identifier(name)) for name in same)
    delete = sql.SQL("DELETE FROM {} WHERE {}").format(table.identifier(HISTORY), where)
    cursor.execute(delete, [values[name] for name in same])
    names = sql.SQL(", ").join(map(sql.Identifier, values))
    marks = sql.SQL(", ").join([sql.Placeholder()] * len(values))
    insert = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(table.identifier(HISTORY), names, marks)
    cursor.execute(insert, list(values.values()))


def _copy(
    cursor: psycopg.Cursor, new: sql.Identifier, table: Table, shape: Shape, trips: Trips, log: Callable[[str], Any]
) -> int:
    """Stream the month in COPY's binary form; FREEZE, as the table is this transaction's: nothing is to be vacuumed."""
    from pgpq import ArrowToPostgresBinaryEncoder
    from psycopg import sql

    types = {column.name: column.type for column in table.columns} | dict(shape.difference.converted)
    schema = pa.schema([pa.field(name, pa.type_for_alias(type_)) for name, type_ in types.items()])
    encoder = ArrowToPostgresBinaryEncoder(schema)
    rows = sent = 0
    started = told = time.monotonic()
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary, FREEZE)").format(
        new, sql.SQL(", ").join(map(sql.Identifier, schema.names))
    )
    with cursor.copy(statement) as copy:
        copy.write(encoder.write_header())
        for count, data in _ahead(
            (b.num_rows, encoder.write_batch(b)) for b in _encodable(table, trips, schema, shape)
        ):
            copy.write(data)
            rows, sent, now = rows + count, sent + len(data), time.monotonic()
            if now - told >= _PROGRESS_SECONDS:
                told = now
                share = 100 * rows / max(trips.rows, 1)
                log(
                    f"{trips.month}: {rows:,} rows ({share:.0f} %), {sent / 1e6:,.0f} MB sent to {table.name}, "
                    f"{rows / (now - started):,.0f} rows/s."
                )
        copy.write(encoder.finish())
    return rows


def _ahead(items: Iterator[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    """The items, each made in another thread while the one before is sent: the server need not wait for us."""

    def make() -> tuple[int, bytes] | None:
        return next(items, None)

    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(make)
        while (item := coming.result()) is not None:
            coming = pool.submit(make)
            yield item


def _encodable(table: Table, trips: Trips, schema: pa.Schema, shape: Shape) -> Iterator[pa.RecordBatch]:
    """The month's batches in exactly the table's columns; text without NUL, which Postgres cannot hold.

    Raises:
        PermanentError: a column is missing or of another type.
    """
    for field in table.kind.schema:
        given = trips.schema.field(field.name).type if field.name in trips.schema.names else "missing"
        if given != field.type:
            raise PermanentError(
                f"{trips.month}: column {field.name} of the trips is {given}, the table's is {field.type}; materialize "
                "clean_trips again."
            )
    texts = [index for index, field in enumerate(schema) if field.type == pa.string()]
    for batch in converted_batches(trips, shape.difference.converted, _SEND_ROWS):
        if not batch.num_rows:
            continue
        batch = batch.select(schema.names)
        for index in texts:
            column = batch.column(index)
            if pc.any(pc.match_substring(column, "\0")).as_py():
                batch = batch.set_column(index, schema.field(index), pc.replace_substring(column, "\0", ""))
        yield batch


def _bounds(month: Month) -> tuple[sql.Literal, sql.Literal]:
    from psycopg import sql

    return sql.Literal(str(month.start)), sql.Literal(str(month.end))


def _who_holds(connection: psycopg.Connection, table: Table, month: Month) -> str:
    with connection.cursor() as cursor:
        found = [relation(cursor, table, name) for name in (table.kind.table, table.partition(month))]
        rows = cursor.execute(_BLOCKERS, [[oid for oid, *_ in filter(None, found)]]).fetchall()
    told = [
        f"process {pid}" + f" of {user or 'another user'}"
        + (f" ({program})" if program else "") + (f", its query begun {begun}" if begun else "")
        for pid, user, program, begun in rows
    ]  # fmt: skip
    return " and ".join(told) or "another connection"
