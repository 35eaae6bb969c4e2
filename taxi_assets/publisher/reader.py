"""Reads a published file of any month since 2009, CSV or Parquet, as batches in the canonical schema.

`csv_reader` and `parquet_reader` match columns in `columns`, by `datasets.eras`, and convert values in `conform`, by
`datasets.encodings`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from taxi_assets.core.month import Month
from taxi_assets.datasets.schema import TaxiKind
from taxi_assets.publisher.csv_reader import open_csv
from taxi_assets.publisher.options import PUBLISHED_FILES, ReadOptions
from taxi_assets.publisher.parquet_reader import open_parquet
from taxi_assets.publisher.rows import OpenedFile, ReadProgress
from taxi_assets.publisher.source_file import SourceFile

PROBE_ROWS = 100
"""Number of first rows of which at least one must be readable; else the file has another format."""


def open_trips(
    path: Path,
    kind: TaxiKind,
    month: Month,
    progress: ReadProgress | None = None,
    options: ReadOptions = PUBLISHED_FILES,
) -> OpenedFile:
    """Open a file: CSV, gzipped CSV or Parquet, whatever its name is, one in a zip archive, or a folder of parts.

    Memory is bounded (about 150 MB). Every published row is yielded once, in order; blank lines are none. In a readable row
    the four REJECT_COLUMNS are null. In an unreadable one all others are, and `reject_reason` (one of `rows.REASONS`),
    `reject_detail`, `source_line` (the line or row in the file, from 1) and `source_text` (the line, or the row as JSON) are
    set. Unknown columns follow the canonical ones, with their published names and types.

    Args:
        path, kind, month: the file, its dataset, and the month for errors; trips of other months are yielded, too.
        progress: called after each batch.
        options: the settings about files.

    Returns:
        The schema, the columns, and batches of 20,000 to 131,072 rows (the last one may have fewer).

    Raises:
        PermanentError: the whole file is rejected. Errors in its format, header, columns or types are raised here, all at
            once; damage found later is raised while iterating, and the batches yielded until then must be discarded.
    """
    file = SourceFile(path, kind, month)
    opened = open_file(file, options, progress)
    if opened.problems:
        raise file.error(". It ".join(opened.problems))
    return opened._replace(batches=_with_readable_start(file, opened.batches))


def open_file(file: SourceFile, options: ReadOptions, progress: ReadProgress | None = None) -> OpenedFile:
    """Open a file as `open_trips` does, but return what stands in the way of reading its rows."""
    return (open_parquet if file.format() == "parquet" else open_csv)(file, options, progress)


def _with_readable_start(file: SourceFile, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Pass the batches on; raise PermanentError if none of the first PROBE_ROWS rows is readable, or there is no row."""
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
        if rows >= PROBE_ROWS:
            break
    if not rows:
        raise file.error("has a header but no trips; download the month again")
    first = held[0].slice(0, 1).to_pylist()[0]
    raise file.error(
        f"has no readable row among its first {rows} (line {first['source_line']}: {first['reject_reason']}, "
        f"{first['reject_detail']}): its format is none that is known; `taxi-assets inspect` shows how it was read"
    )
