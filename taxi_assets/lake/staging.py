"""How a month's file is written: batch by batch, under a staged name first, so that a crash publishes nothing.

What a file is to its readers is in `files`.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from taxi_assets.core.month import Month
from taxi_assets.lake.month_file import FACTS_KEY, Facts, TripFile

ROW_GROUP_ROWS = 131_072
"""Rows written together: large enough to compress and scan well, small enough that a writer holds about 50 MB: a group
that is being written, and the next one as it comes in."""


class TripFileWriter:
    """Writes batches to a staged Parquet file, keeping the facts as it goes. Made by `stage`."""

    def __init__(self, path: Path, month: Month, schema: pa.Schema, pickup: str, codec: str = "zstd") -> None:
        self.path, self.month, self.extra = path, month, {}
        self._pickup, self._schema = pickup, schema
        self.rows, self._total = 0, 0.0
        self._first: Any = None
        self._last: Any = None
        self._pending: list[pa.RecordBatch] = []
        self._pending_rows = 0
        self._writing: Future[None] | None = None
        self._writer = pq.ParquetWriter(path, schema, **parquet_options(schema, codec))

    def write(self, batch: pa.RecordBatch) -> None:
        """Append a batch of the file's schema."""
        if not batch.num_rows:
            return
        self.rows += batch.num_rows
        self._total += pc.sum(batch.column("total_amount")).as_py() or 0.0
        span = pc.min_max(batch.column(self._pickup)).as_py()
        if span["min"] is not None:
            self._first = span["min"] if self._first is None else min(self._first, span["min"])
            self._last = span["max"] if self._last is None else max(self._last, span["max"])
        self._pending.append(batch)
        self._pending_rows += batch.num_rows
        if self._pending_rows >= ROW_GROUP_ROWS:
            self.flush()

    def flush(self) -> None:
        """Begin to write what is pending as a row group, while the caller goes on; the one before it is in the file then."""
        if self._pending:
            self.settle()
            table = pa.Table.from_batches(self._pending, self._schema)
            # in one group; a limit of ROW_GROUP_ROWS would leave a small one behind each
            self._writing = _writers().submit(self._writer.write_table, table, row_group_size=self._pending_rows)
            self._pending, self._pending_rows = [], 0

    def settle(self) -> None:
        """Wait until what was flushed is in the file; what went wrong with it is raised here."""
        if writing := self._writing:
            self._writing = None
            writing.result()

    def close(self) -> TripFile:
        """Finish the file and return its handle."""
        self.flush()
        self.settle()
        text = lambda moment: moment.isoformat(sep=" ") if moment else None  # noqa: E731
        facts = Facts(self.rows, self._total, text(self._first), text(self._last), self.extra)
        self._writer.add_key_value_metadata({FACTS_KEY.decode(): json.dumps(facts.__dict__)})
        self._writer.close()
        return TripFile(self.path, self.month)

    def abandon(self) -> None:
        """Give up: close and remove the staged file."""
        try:
            self.settle()
            self._writer.close()
        except (OSError, pa.ArrowException):
            pass
        finally:
            self.path.unlink(missing_ok=True)


NO_DICTIONARY = ("datetime", "longitude", "latitude", "source_line", "source_text", "reject_detail")
"""Parts of the names of columns with a value of its own in each row. The others are worth a dictionary: of a month's
fares, tips and even distances there are few distinct ones, and it makes files a sixth smaller and faster."""


def parquet_options(schema: pa.Schema, codec: str) -> dict[str, Any]:
    """What months are written with: `zstd` where others read the file, `lz4` (a third faster, a quarter larger) where
    only the next step does."""
    dictionary = [name for name in schema.names if not any(part in name for part in NO_DICTIONARY)]
    return {"compression": codec, "compression_level": 1 if codec == "zstd" else None, "use_dictionary": dictionary}


@cache
def _writers() -> ThreadPoolExecutor:
    """Threads that write: encoding a row group takes as long as making the next one, and needs no lock of Python's."""
    return ThreadPoolExecutor(2, "taxi-write")


os.register_at_fork(after_in_child=_writers.cache_clear)  # a child has none of its parent's threads


@contextmanager
def stage(
    directory: Path, month: Month, schema: pa.Schema, pickup: str, label: str, codec: str = "zstd"
) -> Generator[TripFileWriter, None, None]:
    """Open a writer on a fresh name in `directory`; on an exception the file is removed.

    The caller closes the writer; whoever publishes the file moves it away.
    """
    directory.mkdir(parents=True, exist_ok=True)
    writer = TripFileWriter(
        directory / f"{label}-{month}-{uuid.uuid4().hex[:12]}.parquet", month, schema, pickup, codec
    )
    try:
        yield writer
    except BaseException:
        writer.abandon()
        raise
