"""A dataset in day folders, `<prefix>/tpep_pickup_date=YYYY-MM-DD/trips.parquet`.

The pickup date is in the folders' names and not in the files (hive style). Readers: pyarrow.dataset
(partitioning="hive"), DuckDB (read_parquet('<prefix>/*/*.parquet', hive_partitioning=true)), a BigQuery external
table (uris ["gs://bucket/<prefix>/*"], hive_partition_uri_prefix "gs://bucket/<prefix>"); the prefix contains
only these objects.

Every day of the month has exactly one object, an empty one if it has no trips. Overwriting an object is atomic in a
bucket, so a reader that lists and opens them sees each day old or new, never both and never neither. `journal` makes the
replacement of the month atomic for readers that use this module.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from taxi_assets.core.errors import PermanentError
from taxi_assets.core.manifest import WHOLE_MONTH, Manifest, compared_columns, count
from taxi_assets.core.month import Month
from taxi_assets.core.month_file import MonthFile
from taxi_assets.core.scratch import Scratch
from taxi_assets.core.staging import stage
from taxi_assets.core.table import Table
from taxi_assets.sinks.contract import ROW_COUNT, ConfigurableSink, WriteContext
from taxi_assets.sinks.day_folders.journal import JOURNALS, MonthOfObjects
from taxi_assets.sinks.storage.bucket import Bucket, Stat
from taxi_assets.sinks.storage.buckets import open_bucket
from taxi_assets.sinks.storage.month_objects import MANIFEST, fill, recorded_manifest

FILE = "trips.parquet"
"""The one object of a day."""


class DayFoldersIOManager(ConfigurableSink):
    """Keeps a month as one object a day, in folders by the day of the table's time."""

    location: str = Field(description="`gs://name`, or a directory used as a bucket.")
    prefix: str = Field(description="Folder of the dataset; {kind} allowed.")
    key_file: str | None = Field(None, description="Service account key; unset: Application Default Credentials.")

    def dataset(self, table: Table) -> str:
        """The dataset's folder."""
        return fill(self.prefix.strip("/"), kind=table.object_kind)

    def replace(self, table: Table, month_file: MonthFile, write: WriteContext) -> Mapping[str, Any]:
        """Split the month into days and publish them together. See `MonthSink.replace`."""
        from taxi_assets.sinks.day_folders.split import split_days

        started, month = time.monotonic(), month_file.month
        objects = self._objects(table, month)
        with Scratch(self.staging, "days") as folder:
            days = split_days(month_file, table, folder)
            split = time.monotonic() - started
            size, full = sum(file.bytes for file in days.values()), sum(file.rows > 0 for file in days.values())
            objects.publish({day: file.path for day, file in days.items()}, folder, write.log)
        seconds = time.monotonic() - started
        uri = objects.bucket.uri(self.dataset(table))
        write.log(
            f"{month}: {month_file.rows:,} rows, {size:,} bytes, in {len(days)} day folders of {uri} after {seconds:.1f} s "
            f"(of which {split:.1f} s splitting)."
        )
        return {
            "dagster/uri": uri,
            ROW_COUNT: month_file.rows,
            "bytes": size,
            "days": full,
            "rows_per_second": round(month_file.rows / max(seconds, 1e-3)),
        }

    def where(self, table: Table, month: Month) -> str:
        """The dataset's folder."""
        return self._objects(table, month).bucket.uri(self.dataset(table))

    def measure(self, table: Table, month: Month) -> Manifest | None:
        """Count and sum the rows of all days from their data pages, as the bucket holds them now."""
        with Scratch(self.staging, "measure") as folder:
            paths = self._objects(table, month).fetch(folder)
            if paths is None:
                return None
            columns = compared_columns(table)
            return count(table, (batch for path in paths for batch in MonthFile(path, month).batches(columns)))

    def manifests(self, table: Table) -> dict[Month, Manifest]:
        """See `MonthSink.manifests`. One listing of a bucket has them all; in a directory, the footer of the first day is read.

        A month that is being put in place is waited for or finished. A month of which a day is missing is not there.
        """
        return self._manifests(table, "")

    def manifest(self, table: Table, month: Month) -> Manifest | None:
        """See `MonthSink.manifest`."""
        return self._manifests(table, str(month)).get(month)

    def _manifests(self, table: Table, prefix: str) -> dict[Month, Manifest]:
        """The manifests of the months whose text starts with `prefix`."""
        bucket, start = open_bucket(self.location, self.key_file), f"{self.dataset(table)}/{table.day_key}="
        for journal in list(bucket.list(f"{JOURNALS}/{start}{prefix}")):
            self._objects(table, Month.parse(journal.name.removesuffix(".tar")[-7:])).settle()
        months: dict[Month, dict[str, Stat]] = {}
        for day in bucket.list(f"{start}{prefix}"):
            if match := re.match(r"\d{4}-\d{2}", day.name[len(start) :]):
                months.setdefault(Month.parse(match[0]), {})[day.name] = day
        found = {}
        for month, seen in months.items():
            days = [seen.get(name) for name in self._objects(table, month).names.values()]
            if all(days) and (manifest := _month_of(bucket, [day for day in days if day])):
                found[month] = manifest
        return found

    def read(self, table: Table, month: Month) -> MonthFile:
        """The complete month, old or new; downloaded immediately (from a directory: linked). See `MonthSink.read`."""
        scratch = Scratch(self.staging, "read")
        paths = self._objects(table, month).fetch(scratch.folder)
        if paths is None:
            raise PermanentError(
                f"{month}: {self.where(table, month)} has no such month; materialize its asset for it first."
            )
        days = [MonthFile(path, month) for path in paths]

        def merged() -> Path:
            with stage(scratch.folder, month, days[0].schema, table, "month", "lz4") as writer:
                for day in days:
                    for batch in day.batches():
                        writer.write(batch)
                extra = days[0].manifest.extra
                writer.extra = {name: value for name, value in extra.items() if name != WHOLE_MONTH}
                return writer.close().path

        return MonthFile(merged, month, bytes=sum(day.bytes for day in days))

    def _objects(self, table: Table, month: Month) -> MonthOfObjects:
        dataset = self.dataset(table)
        names = {day: f"{dataset}/{table.day_key}={day}/{FILE}" for day in month.days}
        journal = f"{JOURNALS}/{dataset}/{table.day_key}={month}.tar"
        bucket = open_bucket(self.location, self.key_file)
        return MonthOfObjects(bucket, month, names, journal, self.staging, _metadata)


def _metadata(path: Path) -> dict[str, str]:
    """The metadata of a day's object: the manifest of its month."""
    import pyarrow.parquet as pq

    of_day = Manifest.from_footer(pq.read_metadata(path))
    return {MANIFEST: json.dumps(of_day.extra[WHOLE_MONTH])} if of_day and WHOLE_MONTH in of_day.extra else {}


def _month_of(bucket: Bucket, days: list[Stat]) -> Manifest | None:
    """The manifest that the days of a month record; None if a day is of another month's load, or was removed meanwhile."""
    recorded = {day.metadata.get(MANIFEST) for day in days}
    if len(recorded) > 1:
        return None
    first = recorded_manifest(bucket, days[0])
    if first is None or None not in recorded:
        return first
    if WHOLE_MONTH in first.extra:
        return Manifest(**first.extra[WHOLE_MONTH])
    parts = [recorded_manifest(bucket, day) for day in days]  # written by a version that recorded days only
    times = [time for part in parts if part for time in (part.first, part.last) if time]
    return Manifest(
        sum(part.rows for part in parts if part),
        {name: math.fsum(part.sums.get(name, 0.0) for part in parts if part) for name in first.sums},
        min(times, default=None),
        max(times, default=None),
        first.extra,
    )
