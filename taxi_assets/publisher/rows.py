"""Converts parsed rows to raw rows: readable ones conformed, unreadable ones with their line, text and reason.

`REASONS` are all values of `reject_reason` in a raw month; cleaning adds its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.types as pt

from taxi_assets.datasets.schema import REJECT_COLUMNS
from taxi_assets.publisher.columns import MatchedColumns
from taxi_assets.publisher.conform import conform, is_text, plain_text
from taxi_assets.publisher.notation import PUBLISHED, Notation

REASONS = {
    "unreadable_field_count": "The line has fewer or more fields than the header; empty ones beyond it do not count.",
    "unreadable_value": "A value does not fit its column: not a number, not whole, out of range, not a full timestamp, "
    "or a code that is in no table.",
    "unreadable_quotes": "The line opens a quotation mark that it does not close, or has text after a closing one.",
    "unreadable_length": "The line is longer than a megabyte; its start is kept.",
}
"""Why a published line or row is unreadable."""

ReadProgress = Callable[[int, int, int], None]
"""Called after each batch with the bytes of the file read so far, its size in bytes, and the rows so far."""

TEXT_BYTES = 64 << 10
"""Maximum bytes of an unreadable line in source_text."""
VALUE_CHARACTERS = 100


class Reject(NamedTuple):
    """One unreadable line (CSV) or row (Parquet), counted from 1 in the published file."""

    reason: str
    detail: str
    line: int
    text: str


class OpenedFile(NamedTuple):
    """A published file: the schema of its rows, its columns, and the rows."""

    schema: pa.Schema
    """The kind's raw schema and then the file's new columns."""
    columns: dict[str, Any]
    """The file's columns as JSON values: `columns.MatchedColumns.record`."""
    batches: Iterator[pa.RecordBatch]
    matched: MatchedColumns
    problems: Sequence[str] = ()
    """What stands in the way of reading it."""


class ParsedRows(NamedTuple):
    """Rows as published, by column: known ones by canonical name as (published name, values), new ones by their name in
    the raw month; and the line of each row."""

    known: dict[str, tuple[str, pa.Array]]
    new: dict[str, pa.Array]
    lines: np.ndarray
    text_of: Callable[[int], str]
    """Returns the source_text of the row at a position; called for unreadable rows only."""


def raw_rows(
    schema: pa.Schema, parsed: ParsedRows, rejects: Iterable[Reject] = (), notation: Notation = PUBLISHED
) -> pa.RecordBatch:
    """Conform rows to the raw month's schema; unreadable ones and `rejects` are inserted in line order.

    New columns are not converted.
    """
    rejects, lines = list(rejects), parsed.lines
    columns: dict[str, pa.Array] = dict(parsed.new)
    faults: dict[str, np.ndarray] = {}
    for name, (_, values) in parsed.known.items():
        columns[name], bad = conform(name, schema.field(name).type, values, notation)
        if bad is not None:
            faults[name] = bad.to_numpy(zero_copy_only=False)
    readable = batch_of(schema, columns, len(lines))
    if faults:
        unreadable = np.logical_or.reduce(list(faults.values()))
        for row in np.flatnonzero(unreadable).tolist():
            unreadable_columns = [parsed.known[name] for name, bad in faults.items() if bad[row]]
            details = [value_detail(column, published_value(values, row)) for column, values in unreadable_columns]
            rejects.append(Reject("unreadable_value", "; ".join(details), int(lines[row]), parsed.text_of(row)))
        readable = readable.filter(pa.array(~unreadable))
        lines = lines[~unreadable]
    if not rejects:
        return readable
    order = np.argsort(np.concatenate([lines, np.array([reject.line for reject in rejects], np.int64)]), kind="stable")
    return pa.concat_batches([readable, reject_rows(schema, rejects)]).take(pa.array(order))


def reject_rows(schema: pa.Schema, rejects: list[Reject]) -> pa.RecordBatch:
    """Return unreadable rows in the raw month's schema: every column of the trip is null."""
    values = zip(REJECT_COLUMNS, zip(*rejects, strict=True), strict=True)
    return batch_of(schema, {c.name: pa.array(v, schema.field(c.name).type) for c, v in values}, len(rejects))


def batch_of(schema: pa.Schema, columns: dict[str, pa.Array], rows: int) -> pa.RecordBatch:
    """Return the columns in the order of the schema; one that is missing is null."""
    arrays = [columns[f.name] if f.name in columns else pa.nulls(rows, f.type) for f in schema]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def value_detail(column: str, value: object) -> str:
    """Return the published column and its value: `Passenger_Count '1.5'`."""
    shown = repr(value)
    return f"{column.strip()[:80]} {shown if len(shown) <= VALUE_CHARACTERS else shown[:VALUE_CHARACTERS] + '…'}"


def published_value(values: pa.Array, row: int) -> Any:
    """Return one value as a Python object; text that is not UTF-8, or has NULs, is escaped."""
    value = values.slice(row, 1)
    if pt.is_dictionary(value.type):
        value = value.dictionary_decode()
    if is_text(value.type):
        value = value.cast(pa.binary())
    try:
        plain = value[0].as_py()
    except (OverflowError, ValueError):  # Python has no time after the year 9999
        return f"{value.type} {value.cast(pa.int64())[0]}"
    return plain_text(plain) if isinstance(plain, bytes) else plain


def source_text(line: bytes, size: int | None = None) -> str:
    """Return a line as text that every sink can store, truncated after 64 KiB with its full `size` in bytes."""
    size = len(line) if size is None else size
    text = plain_text(line[:TEXT_BYTES])
    return text if size <= TEXT_BYTES else f"{text} [cut here: {size} bytes in all]"
