"""The handle that assets pass to each other: an immutable Parquet file of one month, read in batches.

Memory is bounded by a batch whatever the month's size, a sink that wants bytes copies bytes, and because a file is written
under a staged name first, a crash publishes nothing.
"""

from __future__ import annotations

import json
import math
import os
import uuid
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from taxi_assets.errors import PermanentError
from taxi_assets.trips.month import Month

if TYPE_CHECKING:
    import pandas as pd

BATCH_ROWS = 65_536
ROW_GROUP_ROWS = 131_072
"""Rows written together: large enough to compress and scan well, small enough that a writer holds about 50 MB: a group
that is being written, and the next one as it comes in."""

_FACTS = b"taxi_assets"


@dataclass(frozen=True)
class Facts:
    """What is known about a month without reading it; kept in the Parquet footer.

    `rows`, `total_amount` (US dollars, summed), `first_pickup` and `last_pickup` are what sinks are reconciled with;
    `extra` holds what the writer wants to tell (source, its version, counts by reason): JSON values only.
    """

    rows: int
    total_amount: float
    first_pickup: str | None
    last_pickup: str | None
    extra: dict[str, Any]

    def differences(self, found: Facts) -> list[str]:
        """The names of what differs: rows, span, or the sum by more than a cent in ten million (sums add up in any order)."""
        names = [
            name for name in ("rows", "first_pickup", "last_pickup") if getattr(self, name) != getattr(found, name)
        ]
        same = math.isclose(self.total_amount, found.total_amount, rel_tol=1e-9, abs_tol=0.01)
        return names if same else [*names, "total_amount"]


@runtime_checkable
class Trips(Protocol):
    """One month of trips, wherever it is: `TripFile` is one; so is an object in a bucket or a table's partition."""

    @property
    def month(self) -> Month:
        """The month."""
        ...

    @property
    def rows(self) -> int:
        """Number of rows."""
        ...

    @property
    def bytes(self) -> int:
        """Size in bytes."""
        ...

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema, without metadata."""
        ...

    @property
    def facts(self) -> Facts:
        """What the writer recorded about the month."""
        ...

    def batches(self, columns: list[str] | None = None, rows: int = BATCH_ROWS) -> Iterator[pa.RecordBatch]:
        """Stream the month in record batches of at most `rows` rows."""
        ...

    def to_arrow(self) -> pa.Table:
        """Read the whole month."""
        ...


@dataclass(frozen=True)
class TripFile:
    """An immutable Parquet file of one month."""

    path: Path
    month: Month

    @cached_property
    def _footer(self) -> pq.FileMetaData:
        try:
            return pq.read_metadata(self.path)
        except FileNotFoundError:
            raise PermanentError(
                f"{self.month}: {self.path} is gone; materialise the asset that wrote it again."
            ) from None
        except pa.ArrowInvalid as error:
            raise PermanentError(f"{self.month}: {self.path} is not a readable Parquet file ({error}).") from None

    @cached_property
    def schema(self) -> pa.Schema:
        """The Arrow schema, without metadata."""
        return pq.read_schema(self.path).remove_metadata()

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self._footer.num_rows

    @property
    def bytes(self) -> int:
        """Size on disk in bytes."""
        return os.stat(self.path).st_size

    @cached_property
    def facts(self) -> Facts:
        """What the writer recorded about the month.

        Raises:
            PermanentError: the file was not written by this package.
        """
        recorded = (self._footer.metadata or {}).get(_FACTS)
        if recorded is None:
            raise PermanentError(f"{self.month}: {self.path} was not written by taxi_assets (its footer has no facts).")
        return Facts(**json.loads(recorded))

    def batches(self, columns: list[str] | None = None, rows: int = BATCH_ROWS) -> Iterator[pa.RecordBatch]:
        """Stream the month in record batches of at most `rows` rows."""
        with pq.ParquetFile(self.path, buffer_size=1 << 20, pre_buffer=False) as file:
            yield from file.iter_batches(batch_size=rows, columns=columns)

    def to_arrow(self) -> pa.Table:
        """Read the whole month; for people and small months."""
        return pq.read_table(self.path, partitioning=None).replace_schema_metadata(None)

    def to_pandas(self) -> pd.DataFrame:
        """Read the whole month as a frame; for people and small months."""
        return self.to_arrow().to_pandas()


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
        self._writer.add_key_value_metadata({_FACTS.decode(): json.dumps(facts.__dict__)})
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
