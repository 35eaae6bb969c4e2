"""The handle that assets pass to each other: an immutable Parquet file of one month, read in batches.

Memory is bounded by a batch whatever the month's size, and a sink that wants bytes copies bytes. How files are written is
in `staging`. The definitions know handles, so what reads one imports Arrow.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from taxi_assets.core.errors import PermanentError
from taxi_assets.core.month import Month

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

BATCH_ROWS = 65_536
FACTS_KEY = b"taxi_assets"
"""Where the facts are in a Parquet footer's metadata."""


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
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            return pq.read_metadata(self.path)
        except FileNotFoundError:
            raise PermanentError(
                f"{self.month}: {self.path} is gone; materialize the asset that wrote it again."
            ) from None
        except pa.ArrowInvalid as error:
            raise PermanentError(f"{self.month}: {self.path} is not a readable Parquet file ({error}).") from None

    @cached_property
    def schema(self) -> pa.Schema:
        """The Arrow schema, without metadata."""
        import pyarrow.parquet as pq

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
        recorded = (self._footer.metadata or {}).get(FACTS_KEY)
        if recorded is None:
            raise PermanentError(f"{self.month}: {self.path} was not written by taxi_assets (its footer has no facts).")
        return Facts(**json.loads(recorded))

    def batches(self, columns: list[str] | None = None, rows: int = BATCH_ROWS) -> Iterator[pa.RecordBatch]:
        """Stream the month in record batches of at most `rows` rows."""
        import pyarrow.parquet as pq

        with pq.ParquetFile(self.path, buffer_size=1 << 20, pre_buffer=False) as file:
            yield from file.iter_batches(batch_size=rows, columns=columns)

    def to_arrow(self) -> pa.Table:
        """Read the whole month; for people and small months."""
        import pyarrow.parquet as pq

        return pq.read_table(self.path, partitioning=None).replace_schema_metadata(None)

    def to_pandas(self) -> pd.DataFrame:
        """Read the whole month as a frame; for people and small months."""
        return self.to_arrow().to_pandas()
