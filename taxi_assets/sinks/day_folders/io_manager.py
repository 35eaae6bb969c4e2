"""gcs_partitioned: a dataset in day folders, `<prefix>/tpep_pickup_date=YYYY-MM-DD/trips.parquet`.

The pickup date is in the folders' names and not in the files (hive style). Readers: pyarrow.dataset
(partitioning="hive"), DuckDB (read_parquet('<prefix>/*/*.parquet', hive_partitioning=true)), a BigQuery external
table (uris ["gs://bucket/<prefix>/*"], hive_partition_uri_prefix "gs://bucket/<prefix>"); nothing but these objects
is under the prefix.

Every day of the month has its one object, an empty one when it has no trips: overwriting an object is atomic in a
bucket, so whoever lists and opens them sees each day old or new, never both and never neither. How the month as a
whole is made old or new is in `month_journal`; who reads through this module sees that.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pydantic import Field

from taxi_assets.core.errors import PermanentError
from taxi_assets.core.month import Month
from taxi_assets.datasets.schema import TaxiKind
from taxi_assets.lake.month_file import BATCH_ROWS, Facts, TripFile
from taxi_assets.lake.scratch import Scratch
from taxi_assets.sinks.contract import MonthIOManager, Trips, Writing
from taxi_assets.sinks.day_folders.journal import JOURNALS, MonthOfObjects
from taxi_assets.sinks.storage.buckets import open_bucket
from taxi_assets.sinks.storage.trip_objects import counted, fill

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

FILE = "trips.parquet"
"""The one object of a day."""


class DayFoldersIOManager(MonthIOManager):
    """Keeps a month as one object a day, in folders by pickup date."""

    location: str = Field(description="`gs://name`, or a directory used as a bucket.")
    prefix: str = Field(description="Folder of the dataset; {kind} allowed.")
    key_file: str | None = Field(None, description="Service account key; unset: Application Default Credentials.")

    def dataset(self, kind: TaxiKind) -> str:
        """The dataset's folder."""
        return fill(self.prefix.strip("/"), kind=kind.name)

    def replace(self, kind: TaxiKind, trips: Trips, writing: Writing) -> Mapping[str, Any]:
        """Split the month into days and publish them together. See `MonthIOManager.replace`."""
        from taxi_assets.sinks.day_folders.split import split_days

        started, objects = time.monotonic(), self._objects(kind, trips.month)
        with Scratch("days") as folder:
            days = split_days(trips, kind, folder)
            split = time.monotonic() - started
            size, full = sum(file.bytes for file in days.values()), sum(file.rows > 0 for file in days.values())
            objects.publish({day: file.path for day, file in days.items()}, folder, writing.log)
        seconds = time.monotonic() - started
        uri = objects.bucket.uri(self.dataset(kind))
        writing.log(
            f"{trips.month}: {trips.rows:,} rows, {size:,} bytes, in {len(days)} day folders of {uri} "
            f"after {seconds:.1f} s ({split:.1f} s of it splitting)."
        )
        return {
            "dagster/uri": uri,
            "dagster/partition_row_count": trips.rows,
            "bytes": size,
            "days": full,
            "rows_per_second": round(trips.rows / max(seconds, 1e-3)),
        }

    def where(self, kind: TaxiKind, month: Month) -> str:
        """The dataset's folder."""
        return self._objects(kind, month).bucket.uri(self.dataset(kind))

    def read_facts(self, kind: TaxiKind, month: Month) -> Facts | None:
        """Count and sum the rows of all days from their data pages, as the bucket holds them now."""
        with Scratch("facts") as folder:
            paths = self._objects(kind, month).fetch(folder)
            if paths is None:
                return None
            columns = ["total_amount", kind.pickup]
            return counted((batch for path in paths for batch in TripFile(path, month).batches(columns)), kind)

    def read(self, kind: TaxiKind, month: Month) -> TripDays:
        """The whole month, old or new; downloaded at once (from a directory: linked). See `MonthIOManager.read`."""
        objects, scratch = self._objects(kind, month), Scratch("read")
        paths = objects.fetch(scratch.folder)
        if paths is None:
            raise PermanentError(
                f"{month}: {self.where(kind, month)} has no such month; materialize gcs_partitioned for it first."
            )
        return TripDays(scratch, [TripFile(path, month) for path in paths], month)

    def _objects(self, kind: TaxiKind, month: Month) -> MonthOfObjects:
        dataset = self.dataset(kind)
        names = {day: f"{dataset}/{kind.pickup_date}={day}/{FILE}" for day in month.days}
        journal = f"{JOURNALS}/{dataset}/{kind.pickup_date}={month}.tar"
        return MonthOfObjects(open_bucket(self.location, self.key_file), month, names, journal)


class TripDays:
    """One month out of its day folders, as it was at one moment; like a `TripFile`, day after day."""

    def __init__(self, scratch: Scratch, files: list[TripFile], month: Month) -> None:
        self.month, self._files, self._scratch = month, files, scratch

    @property
    def rows(self) -> int:
        """Number of rows."""
        return sum(file.rows for file in self._files)

    @property
    def bytes(self) -> int:
        """Size of all days in bytes."""
        return sum(file.bytes for file in self._files)

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema, without metadata."""
        return self._files[0].schema

    @cached_property
    def facts(self) -> Facts:
        """What the writer recorded, added up."""
        days = [file.facts for file in self._files]
        firsts, lasts = ([getattr(d, n) for d in days if d.rows] for n in ("first_pickup", "last_pickup"))
        total = math.fsum(day.total_amount for day in days)
        return Facts(self.rows, total, min(firsts, default=None), max(lasts, default=None), days[0].extra)

    def batches(self, columns: list[str] | None = None, rows: int = BATCH_ROWS) -> Iterator[pa.RecordBatch]:
        """Stream the month in record batches of at most `rows` rows, day after day."""
        for file in self._files:
            yield from file.batches(columns, rows)

    def to_arrow(self) -> pa.Table:
        """Read the whole month; for people and small months."""
        import pyarrow as pa

        return pa.concat_tables([file.to_arrow() for file in self._files])

    def to_pandas(self) -> pd.DataFrame:
        """Read the whole month as a frame; for people and small months."""
        return self.to_arrow().to_pandas()
