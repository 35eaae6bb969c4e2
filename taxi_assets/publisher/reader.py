"""A published file of any month since 2009 to canonical batches: what the file is decides who reads it.

CSV is read in `csv_reader`, Parquet in `parquet_reader`; both match columns in `columns` and conform values in `conform`,
by the tables in `eras` and `encodings`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from taxi_assets.core.month import Month
from taxi_assets.datasets.schema import TaxiKind
from taxi_assets.publisher.columns import NewColumns
from taxi_assets.publisher.csv_reader import open_csv
from taxi_assets.publisher.parquet_reader import open_parquet
from taxi_assets.publisher.published import PublishedFile
from taxi_assets.publisher.rows import OpenedFile, Progress

HOPELESS_ROWS = 100
"""Rows from the start of which one at least must be readable; if none is, the file is written in some other way."""


def open_trips(
    path: Path,
    kind: TaxiKind,
    month: Month,
    progress: Progress | None = None,
    new_columns: NewColumns = "keep",
) -> OpenedFile:
    """Open a published file: CSV, gzipped CSV or Parquet, told apart by content and not by name.

    Every published row is yielded once, in order. A readable one has the four REJECT_COLUMNS null. An unreadable one
    has every other column null, and `reject_reason` (one of `rows.REASONS`), `reject_detail`, `source_line` (the line
    in the CSV, the row in the Parquet file, from 1) and `source_text` (the line, or the row as JSON). Blank lines are
    no rows. Columns that are not known follow, under their published names and of their published types.

    Args:
        path: the file; read in bounded memory (about 150 MB) whatever its size.
        kind: whose trips it holds.
        month: the month it was published for; named in errors. Trips of other months are yielded like any other.
        progress: called after each batch.
        new_columns: `refuse` refuses a file with a column that is not known, or with two of one name.

    Returns:
        The schema, what the columns are, and batches of 20,000 to 131,072 rows (the last one fewer).

    Raises:
        PermanentError: the file as a whole cannot be used. What is wrong with its format, header, columns or types is
            raised here; damage in its middle (a wrong checksum, a missing end) while iterating, and what was yielded
            until then must be dropped.
    """
    file = PublishedFile(path, kind, month)
    open_file = open_parquet if file.format() == "parquet" else open_csv
    opened = open_file(file, new_columns, progress)
    return opened._replace(batches=_with_readable_start(file, opened.batches))


def read_trips(
    path: Path, kind: TaxiKind, month: Month, progress: Progress | None = None, new_columns: NewColumns = "keep"
) -> Iterator[pa.RecordBatch]:
    """The rows of a published file; see `open_trips`."""
    yield from open_trips(path, kind, month, progress, new_columns).batches


def _with_readable_start(file: PublishedFile, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The batches, if one of the first HOPELESS_ROWS rows can be read.

    Raises:
        PermanentError: none can, or there is none.
    """
    held: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        held.append(batch)
        rows += batch.num_rows
        if batch.column("reject_reason").null_count:
            yield from held
            held = []
            yield from batches
            return
        if rows >= HOPELESS_ROWS:
            break
    if not rows:
        raise file.refused("has a header but no trips, which no published month has; download the month again")
    first = held[0].slice(0, 1).to_pylist()[0]
    raise file.refused(
        f"has no readable row among its first {rows} (line {first['source_line']}: {first['reject_reason']}, "
        f"{first['reject_detail']}), so it is not written as the publisher writes it; get the published file"
    )
