"""Published rows to raw rows: readable ones conformed, unreadable ones kept with their place, text and reason.

`REASONS` is the complete list of what `reject_reason` may be in a raw month; cleaning adds its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.types as pt

from taxi_assets.datasets.schema import REJECT_COLUMNS
from taxi_assets.publisher.conform import conform, plain_text

REASONS = {
    "unreadable_field_count": "The line has fewer or more fields than the header; empty ones beyond it do not count.",
    "unreadable_value": "A value does not fit its column: not a number, not whole, out of range, not a full timestamp, "
    "or a code that is in no table.",
    "unreadable_quotes": "The line opens a quotation mark that it does not close, or goes on after closing one.",
    "unreadable_length": "The line is longer than a megabyte; its start is kept.",
}
"""Why a published line or row could not be read."""

Progress = Callable[[int, int, int], None]
"""Called after each batch with the file's bytes read, its bytes in all, and the rows so far."""

TEXT_BYTES = 64 << 10
"""Bytes of an unreadable line that are kept as source_text."""
VALUE_CHARACTERS = 100


class Reject(NamedTuple):
    """One unreadable line (CSV) or row (Parquet), counted from 1 in the published file."""

    reason: str
    detail: str
    line: int
    text: str


class OpenedFile(NamedTuple):
    """A published file whose header is known to be usable: what its rows are read as, and the rows."""

    schema: pa.Schema
    """The kind's raw schema and then the file's new columns."""
    columns: dict[str, Any]
    """What the file's columns are: `columns.MatchedColumns.record`."""
    batches: Iterator[pa.RecordBatch]


class Published(NamedTuple):
    """Rows as published, split into columns: known ones by canonical name as (published name, values), new ones by their
    name in the raw month; and the line of each row."""

    columns: dict[str, tuple[str, pa.Array]]
    new: dict[str, pa.Array]
    lines: np.ndarray
    text_of: Callable[[int], str]
    """The source_text of the row at a position; asked for unreadable rows only."""


def raw_rows(schema: pa.Schema, published: Published, rejects: Iterable[Reject] = ()) -> pa.RecordBatch:
    """Conform rows to the raw month's schema and put the unreadable ones, and the `rejects` found before, in their places.

    New columns are taken as they are.
    """
    rejects = list(rejects)
    lines = published.lines
    columns: dict[str, pa.Array] = dict(published.new)
    faults: dict[str, np.ndarray] = {}
    for name, (_, values) in published.columns.items():
        columns[name], bad = conform(name, schema.field(name).type, values)
        if bad is not None:
            faults[name] = bad.to_numpy(zero_copy_only=False)
    readable = _batch(schema, columns, len(lines))
    if faults:
        unreadable = np.logical_or.reduce(list(faults.values()))
        for row in np.flatnonzero(unreadable).tolist():
            found = [published.columns[name] for name, bad in faults.items() if bad[row]]
            details = [value_detail(column, published_value(values, row)) for column, values in found]
            rejects.append(Reject("unreadable_value", "; ".join(details), int(lines[row]), published.text_of(row)))
        readable = readable.filter(pa.array(~unreadable))
        lines = lines[~unreadable]
    if not rejects:
        return readable
    order = np.argsort(np.concatenate([lines, np.array([reject.line for reject in rejects], np.int64)]), kind="stable")
    both = pa.Table.from_batches([readable, reject_rows(schema, rejects)]).combine_chunks().to_batches()
    return both[0].take(pa.array(order))


def reject_rows(schema: pa.Schema, rejects: list[Reject]) -> pa.RecordBatch:
    """Unreadable rows in the raw month's schema: every column of the trip is null."""
    values = zip(REJECT_COLUMNS, zip(*rejects, strict=True), strict=True)
    return _batch(schema, {c.name: pa.array(v, schema.field(c.name).type) for c, v in values}, len(rejects))


def _batch(schema: pa.Schema, columns: dict[str, pa.Array], rows: int) -> pa.RecordBatch:
    arrays = [columns[f.name] if f.name in columns else pa.nulls(rows, f.type) for f in schema]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def value_detail(column: str, value: object) -> str:
    """`Passenger_Count '1.5'`: the published column and its value."""
    shown = repr(value)
    return f"{column.strip()[:80]} {shown if len(shown) <= VALUE_CHARACTERS else shown[:VALUE_CHARACTERS] + '…'}"


def published_value(values: pa.Array, row: int) -> Any:
    """One value as a Python object; text that is not UTF-8, or has NULs, in a form that can be stored."""
    value = values.slice(row, 1)
    if pt.is_dictionary(value.type):
        value = value.dictionary_decode()
    if pt.is_string(value.type) or pt.is_large_string(value.type) or pt.is_string_view(value.type):
        value = value.cast(pa.binary())
    plain = value[0].as_py()
    return plain_text(plain) if isinstance(plain, bytes) else plain


def source_text(line: bytes, size: int | None = None) -> str:
    """A line as text that every sink can store, cut after 64 KiB with a note of its full `size` in bytes."""
    size = len(line) if size is None else size
    text = plain_text(line[:TEXT_BYTES])
    return text if size <= TEXT_BYTES else f"{text} [cut here: {size} bytes in all]"
