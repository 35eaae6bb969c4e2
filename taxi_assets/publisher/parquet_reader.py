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

from taxi_assets.datasets.eras import era_of
from taxi_assets.publisher.columns import MatchedColumns, canonical_name, match_columns, partition_columns
from taxi_assets.publisher.conform import is_readable_type, is_text, plain_text, unchecked_text
from taxi_assets.publisher.notation import PUBLISHED, Notation, recognize_notation
from taxi_assets.publisher.options import ReadOptions
from taxi_assets.publisher.rows import OpenedFile, ParsedRows, ReadProgress, published_value, raw_rows, source_text
from taxi_assets.publisher.source_file import DAMAGE, Part, SourceFile
from taxi_assets.publisher.times import NEW_YORK_ZONES, without_zone, zone_problem

BATCH_ROWS, BATCH_VALUES = 131_072, 1_500_000
"""Most rows of a batch, and most values: high-volume trips have 25 columns, many of text."""

PROBE_ROWS = 100
_DAMAGE = (*DAMAGE, pa.ArrowException)


def open_parquet(file: SourceFile, options: ReadOptions, progress: ReadProgress | None) -> OpenedFile:
    """Open the file; errors as in `reader.open_trips`."""
    with _open(file, file.parts[0]) as first:
        schema = first.schema_arrow
        names = [*schema.names, *partition_columns(file, schema.names)]
        columns = match_columns(file, names, "parquet", options)
        notation, problems = _notation(file, first, columns, options)
        written_by = first.metadata.created_by
    published = [(name, schema.field(i)) for name, i in columns.known.items() if i < len(schema.names)]
    problems += filter(None, (_type_problem(file, name, field) for name, field in published))
    if zoned := [
        field for _, field in published if _has_zone(field.type) and not _has_readable_zone(field.type, options)
    ]:
        problems.append(zone_problem(zoned[0].name, str(zoned[0].type)))
    fields = [pa.field(name, _plain_type(schema.field(i).type)) for name, i in columns.new.items()]
    raw_schema = pa.schema([*file.kind.raw_schema, *fields])
    record = columns.record({f.name: str(f.type) for f in fields}, _changed_types(file, schema, columns))
    record["written"] = {"format": "Parquet", "by": written_by, **notation.record()}
    rows = _rows(file, raw_schema, columns, notation, options, progress)
    return OpenedFile(raw_schema, record, rows, columns, [*columns.problems, *problems])


def _open(file: SourceFile, part: Part) -> pq.ParquetFile:
    if file.format(part) != "parquet":
        raise file.error("is no Parquet file, among Parquet files; name a folder of one month's files", part)
    try:
        parquet = pq.ParquetFile(
            part.seekable(), buffer_size=1 << 20, pre_buffer=False, coerce_int96_timestamp_unit="us"
        )
        _ = parquet.schema_arrow, parquet.metadata.created_by
    except _DAMAGE as error:
        raise file.damaged(error, part) from None
    return parquet


def _rows(
    file: SourceFile,
    schema: pa.Schema,
    columns: MatchedColumns,
    notation: Notation,
    options: ReadOptions,
    progress: ReadProgress | None,
) -> Iterator[pa.RecordBatch]:
    total, rows, size = sum(part.size for part in file.parts), 0, 0
    for part in file.parts:
        first_row = rows
        with _open(file, part) as parquet:
            width = len(parquet.schema_arrow.names)
            if [*parquet.schema_arrow.names] != [*columns.header[:width]]:
                raise file.error(f"has other columns than {file.parts[0].path.name}", part)
            count = parquet.metadata.num_rows
            for batch in _batches(file, part, parquet):
                known = {
                    name: (columns.header[i], _column(part, batch, columns, i, options))
                    for name, i in columns.known.items()
                }
                new = {name: batch.column(i).cast(schema.field(name).type) for name, i in columns.new.items()}
                lines = np.arange(rows + 1, rows + batch.num_rows + 1)
                parsed = ParsedRows(known, new, lines, lambda row, batch=batch: _row_text(batch, row))
                yield raw_rows(schema, parsed, notation=notation)
                rows += batch.num_rows
                if progress:
                    progress(size + part.size * (rows - first_row) // max(rows - first_row, count), total, rows)
        size += part.size
        if rows - first_row != count:
            raise file.error(
                f"is damaged: {count} rows according to its footer, {rows - first_row} found; download the month again",
                part,
            )


def _column(
    part: Part, batch: pa.RecordBatch, columns: MatchedColumns, position: int, options: ReadOptions
) -> pa.Array:
    """Return a column of a batch, or of the partition that the part is in; times whose zone is understood are without it."""
    if position >= batch.num_columns:
        return pa.repeat(pa.scalar(part.partition[columns.header[position]], pa.string()), batch.num_rows)
    values = batch.column(position)
    return without_zone(values, options.zoned_times) if _has_readable_zone(values.type, options) else values


def _batches(file: SourceFile, part: Part, parquet: pq.ParquetFile) -> Iterator[pa.RecordBatch]:
    """Yield batches of all columns; two may have the same name."""
    try:
        width = max(parquet.metadata.num_columns, 1)
        yield from parquet.iter_batches(max(min(BATCH_ROWS, BATCH_VALUES // width), 1))
    except _DAMAGE as error:
        raise file.damaged(error, part) from None


def _notation(
    file: SourceFile, parquet: pq.ParquetFile, columns: MatchedColumns, options: ReadOptions
) -> tuple[Notation, list[str]]:
    """Recognize how columns of text write times and numbers."""
    schema, part = parquet.schema_arrow, file.parts[0]
    text = {n: i for n, i in columns.known.items() if i < len(schema.names) and is_text(schema.field(i).type)}
    types = [file.kind.schema.field(name).type for name in text]
    if not any(pt.is_timestamp(type_) or pt.is_floating(type_) for type_ in types):
        return PUBLISHED, []
    try:
        batch = next(parquet.iter_batches(PROBE_ROWS), None)
    except _DAMAGE as error:
        raise file.damaged(error, part) from None

    def texts(values: pa.Array) -> list[str]:
        return [plain_text(value).strip() for value in values.cast(pa.binary()).to_pylist() if value is not None]

    def every_text(position: int) -> Iterator[pa.Array]:
        for each in file.parts:
            with _open(file, each) as whole:
                for found in _batches(file, each, whole):
                    yield unchecked_text(found.column(position))

    samples = {name: texts(batch.column(i)) for name, i in text.items()} if batch else {}
    return recognize_notation(file.kind, columns, samples, options, every_text)


def _has_readable_zone(type_: pa.DataType, options: ReadOptions) -> bool:
    return _has_zone(type_) and bool(options.zoned_times or type_.tz in NEW_YORK_ZONES)


def _has_zone(type_: pa.DataType) -> bool:
    return pt.is_timestamp(type_) and type_.tz is not None


def _type_problem(file: SourceFile, name: str, published: pa.Field) -> str | None:
    """Return why the type of a required column stands in the way."""
    target = file.kind.schema.field(name).type
    required = name in {column.name for column in file.kind.columns if column.required}
    zoned = _has_zone(published.type) and pt.is_timestamp(target)
    if not required or zoned or is_readable_type(published.type, target):
        return None
    return (
        f"has values of type {published.type} in {published.name!r}, where {target} is expected; write it as "
        f"{'a timestamp' if pt.is_timestamp(target) else 'a number'} or text"
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
