"""A published Parquet file to raw rows, a batch at a time; values are converted in `conform`.

A footer is never looked at chunk by chunk: pyarrow 26 ends the process over a damaged one there, while reading rows
raises.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from taxi_assets.trips.conform import is_readable_type
from taxi_assets.trips.eras import match_columns
from taxi_assets.trips.published import PublishedFile
from taxi_assets.trips.rows import Published, published_value, raw_rows, source_text

BATCH_ROWS = 131_072

_DAMAGE = (OSError, ValueError, pa.ArrowException)


def read_parquet(
    file: PublishedFile, progress: Callable[[int, int, int], None] | None = None
) -> Iterator[pa.RecordBatch]:
    """Yield the file's rows in the raw schema; errors as of `reader.read_trips`."""
    try:
        parquet = pq.ParquetFile(file.path, buffer_size=1 << 20, pre_buffer=False)
        schema = parquet.schema_arrow
    except _DAMAGE as error:
        raise file.damaged(error) from None
    with parquet:
        size = file.path.stat().st_size
        names = schema.names
        positions = match_columns(file, names)
        for name, position in positions.items():
            _check_type(file, schema.field(position), file.kind.schema.field(name).type)
        rows = 0
        for batch in _batches(file, parquet, [names[i] for i in positions.values()]):
            columns = {name: (names[i], batch.column(names[i])) for name, i in positions.items()}
            lines = np.arange(rows + 1, rows + batch.num_rows + 1)
            raw = raw_rows(file.kind, Published(columns, lines, lambda row, batch=batch: _row_text(batch, row)))
            rows += batch.num_rows
            if progress:
                progress(size * rows // max(rows, parquet.metadata.num_rows), size, rows)
            yield raw
        if rows != parquet.metadata.num_rows:
            raise file.refused(
                f"is damaged: its footer promises {parquet.metadata.num_rows} rows, it holds {rows}; download the "
                "month again"
            )


def _batches(file: PublishedFile, parquet: pq.ParquetFile, columns: list[str]) -> Iterator[pa.RecordBatch]:
    try:
        yield from parquet.iter_batches(BATCH_ROWS, columns=columns)
    except _DAMAGE as error:
        raise file.damaged(error) from None


def _check_type(file: PublishedFile, published: pa.Field, target: pa.DataType) -> None:
    if is_readable_type(published.type, target):
        return
    if pa.types.is_timestamp(published.type):
        raise file.refused(
            f"has times with a zone in {published.name!r} ({published.type}); published times are New York wall "
            "clock without one, and which instant is meant cannot be told"
        )
    raise file.refused(
        f"has values of type {published.type} in {published.name!r}, where {target} is expected; if the "
        "publisher changed it, teach `conform` the type"
    )


def _row_text(batch: pa.RecordBatch, row: int) -> str:
    values = {name: _json(published_value(batch.column(name), row)) for name in batch.schema.names}
    return source_text(json.dumps(values, default=str, ensure_ascii=False).encode("utf-8", "backslashreplace"))


def _json(value: Any) -> Any:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
