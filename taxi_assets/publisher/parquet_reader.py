"""Reads a published Parquet file as raw rows, a batch at a time; values are converted in `conform`.

Column chunks in the footer are not inspected: pyarrow 26 crashes there on a damaged footer, while reading rows raises.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as pt

from taxi_assets.core.errors import PermanentError
from taxi_assets.datasets.eras import era_of
from taxi_assets.publisher.columns import MatchedColumns, NewColumns, canonical_name, match_columns
from taxi_assets.publisher.conform import is_readable_type, is_text
from taxi_assets.publisher.rows import OpenedFile, ParsedRows, ReadProgress, published_value, raw_rows, source_text
from taxi_assets.publisher.source_file import SourceFile

BATCH_ROWS, BATCH_VALUES = 131_072, 1_500_000
"""Most rows of a batch, and most values: high-volume trips have 25 columns, many of text."""

_DAMAGE = (OSError, ValueError, pa.ArrowException)


def open_parquet(file: SourceFile, new_columns: NewColumns, progress: ReadProgress | None) -> OpenedFile:
    """Open the file; errors as in `reader.open_trips`."""
    try:
        parquet = pq.ParquetFile(file.path, buffer_size=1 << 20, pre_buffer=False, coerce_int96_timestamp_unit="us")
        schema = parquet.schema_arrow
    except _DAMAGE as error:
        raise file.damaged(error) from None
    try:
        columns = match_columns(file, schema.names, "parquet", new_columns)
        for column in file.kind.columns:
            if column.required:
                _check_type(file, schema.field(columns.known[column.name]), file.kind.schema.field(column.name).type)
    except PermanentError:
        parquet.close()
        raise
    fields = [pa.field(name, _plain_type(schema.field(i).type)) for name, i in columns.new.items()]
    raw_schema = pa.schema([*file.kind.raw_schema, *fields])
    record = columns.record({f.name: str(f.type) for f in fields}, _changed_types(file, schema, columns))
    return OpenedFile(raw_schema, record, _rows(file, parquet, raw_schema, columns, progress))


def _rows(
    file: SourceFile, parquet: pq.ParquetFile, schema: pa.Schema, columns: MatchedColumns, progress: ReadProgress | None
) -> Iterator[pa.RecordBatch]:
    with parquet:
        size, rows = file.path.stat().st_size, 0
        for batch in _batches(file, parquet):
            names = batch.schema.names
            known = {name: (names[i], batch.column(i)) for name, i in columns.known.items()}
            new = {name: batch.column(i).cast(schema.field(name).type) for name, i in columns.new.items()}
            lines = np.arange(rows + 1, rows + batch.num_rows + 1)
            yield raw_rows(schema, ParsedRows(known, new, lines, lambda row, batch=batch: _row_text(batch, row)))
            rows += batch.num_rows
            if progress:
                progress(size * rows // max(rows, parquet.metadata.num_rows), size, rows)
        if rows != parquet.metadata.num_rows:
            raise file.error(
                f"is damaged: {parquet.metadata.num_rows} rows according to its footer, {rows} found; download the month "
                "again"
            )


def _batches(file: SourceFile, parquet: pq.ParquetFile) -> Iterator[pa.RecordBatch]:
    """Yield batches of all columns; two may have the same name."""
    try:
        width = max(parquet.metadata.num_columns, 1)
        yield from parquet.iter_batches(max(min(BATCH_ROWS, BATCH_VALUES // width), 1))
    except _DAMAGE as error:
        raise file.damaged(error) from None


def _check_type(file: SourceFile, published: pa.Field, target: pa.DataType) -> None:
    if is_readable_type(published.type, target):
        return
    if pt.is_timestamp(published.type):
        raise file.error(
            f"has a time zone in {published.name!r} ({published.type}), so its times are ambiguous: published times are "
            "New York wall clock without a zone"
        )
    raise file.error(
        f"has values of type {published.type} in {published.name!r}, where {target} is expected; if the publisher "
        "changed it, add the type to taxi_assets.publisher.conform"
    )


def _changed_types(file: SourceFile, schema: pa.Schema, columns: MatchedColumns) -> dict[str, list[str]]:
    """Return the expected and the actual type family of each known column where they differ, by published name."""
    era = era_of(file.kind.name, "parquet", str(file.month))
    if era is None:
        return {}
    special = {canonical_name(name, file.kind): type_ for name, type_ in era.types}
    changed = {}
    for name, position in columns.known.items():
        published = schema.field(position)
        expected = special.get(name) or str(file.kind.schema.field(name).type)
        actual = _family(published.type)
        if expected == "number" and actual in ("integer", "double"):
            continue
        family = expected if expected == "number" else _family(pa.type_for_alias(expected))
        if actual not in (family, "null"):
            changed[published.name] = [family, actual]
    return changed


def _family(type_: pa.DataType) -> str:
    """Return the family of a type: `int32` and `int64` are both `integer`."""
    if pt.is_dictionary(type_):
        type_ = type_.value_type
    families = {
        "integer": pt.is_integer,
        "double": lambda t: pt.is_floating(t) or pt.is_decimal(t),
        "text": is_text,
        "timestamp": lambda t: pt.is_timestamp(t) and t.tz is None,
        "null": pt.is_null,
    }
    return next((name for name, belongs in families.items() if belongs(type_)), str(type_))


def _plain_type(type_: pa.DataType) -> pa.DataType:
    """Return the type of a new column in the raw month: the published one without dictionary or extension."""
    if pt.is_dictionary(type_):
        return type_.value_type
    return type_.storage_type if isinstance(type_, pa.BaseExtensionType) else type_


def _row_text(batch: pa.RecordBatch, row: int) -> str:
    """Return a row as JSON; NaN and infinity are strings in it."""
    values: dict[str, Any] = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        value = published_value(column, row)
        values[name] = str(value) if isinstance(value, float) and not math.isfinite(value) else value
    return source_text(json.dumps(values, default=str, ensure_ascii=False).encode("utf-8", "backslashreplace"))
