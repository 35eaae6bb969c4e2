"""How a month's file is written: batch by batch, under a staged name first, so that a crash publishes nothing.

What a file is to its readers is in `month_file`.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taxi_assets.core.manifest import FOOTER_KEY, RowCounter
from taxi_assets.core.month import Month
from taxi_assets.core.month_file import MonthFile
from taxi_assets.core.table import Table

if TYPE_CHECKING:
    import pyarrow as pa

ROW_GROUP_ROWS = 131_072
"""Rows written together: enough to compress and scan well; a writer holds two groups, about 50 MB."""


class MonthWriter:
    """Writes batches to a staged Parquet file and counts them. Made by `stage`."""

    def __init__(self, path: Path, month: Month, schema: pa.Schema, table: Table, codec: str = "zstd") -> None:
        import pyarrow.parquet as pq

        self.path, self.month = path, month
        self.extra: dict[str, Any] = {}
        self._schema, self._counter = schema, RowCounter(table, schema.names)
        self._pending: list[pa.RecordBatch] = []
        self._pending_rows = 0
        self._writing: Future[None] | None = None
        self._writer = pq.ParquetWriter(path, schema, **parquet_options(schema, codec))

    @property
    def rows(self) -> int:
        """Rows written so far."""
        return self._counter.rows

    def write(self, batch: pa.RecordBatch) -> None:
        """Append a batch of the file's schema."""
        if not batch.num_rows:
            return
        self._counter.add(batch)
        self._pending.append(batch)
        self._pending_rows += batch.num_rows
        if self._pending_rows >= ROW_GROUP_ROWS:
            self.flush()

    def flush(self) -> None:
        """Begin to write the pending rows as a row group in another thread, after the row group before it."""
        import pyarrow as pa

        if self._pending:
            self.wait()
            table = pa.Table.from_batches(self._pending, self._schema)
            # one group; a limit of ROW_GROUP_ROWS would leave a small one behind each
            self._writing = _writers().submit(self._writer.write_table, table, row_group_size=self._pending_rows)
            self._pending, self._pending_rows = [], 0

    def wait(self) -> None:
        """Wait until the flushed rows are in the file; raises what went wrong with them."""
        if writing := self._writing:
            self._writing = None
            writing.result()

    def close(self) -> MonthFile:
        """Finish the file and return its handle."""
        self.flush()
        self.wait()
        manifest = self._counter.manifest(self.extra)
        self._writer.add_key_value_metadata({FOOTER_KEY.decode(): manifest.to_json()})
        self._writer.close()
        return MonthFile(self.path, self.month, staged=True)

    def abort(self) -> None:
        """Close and remove the staged file."""
        import pyarrow as pa

        with suppress(OSError, pa.ArrowException):
            self.wait()
            self._writer.close()
        self.path.unlink(missing_ok=True)


NO_DICTIONARY = ("datetime", "longitude", "latitude", "source_line", "source_text", "reject_detail")
"""Parts of the names of columns with a value of its own in each row. A dictionary of the others, even of fares and distances,
makes files a sixth smaller and faster."""


def parquet_options(schema: pa.Schema, codec: str) -> dict[str, Any]:
    """The writer's options: `zstd`, or `lz4` (a third faster, a quarter larger) where only the next step reads the file."""
    dictionary = [name for name in schema.names if not any(part in name for part in NO_DICTIONARY)]
    return {"compression": codec, "compression_level": 1 if codec == "zstd" else None, "use_dictionary": dictionary}


@cache
def _writers() -> ThreadPoolExecutor:
    """Threads that write: encoding a row group takes as long as making the next one, and needs no lock of Python's."""
    return ThreadPoolExecutor(2, "taxi-write")


os.register_at_fork(after_in_child=_writers.cache_clear)  # a child has none of its parent's threads


@contextmanager
def stage(
    folder: Path, month: Month, schema: pa.Schema, table: Table, label: str, codec: str = "zstd"
) -> Generator[MonthWriter, None, None]:
    """Open a writer on a fresh name in `folder`; on an exception the file is removed.

    The caller closes the writer; whoever publishes the file moves it away.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{label}-{month}-{uuid.uuid4().hex[:12]}.parquet"
    try:
        writer = MonthWriter(path, month, schema, table, codec)
    except BaseException:  # the disk is full: the file is there, and empty
        path.unlink(missing_ok=True)
        raise
    try:
        yield writer
    except BaseException:
        writer.abort()
        raise
