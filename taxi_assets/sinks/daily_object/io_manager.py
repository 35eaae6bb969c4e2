"""One Parquet object per day, `YYYY/MM/DD/daily-trips.parquet`; a partition is a day.

Each day is replaced separately, like the months in `parquet_object`; a run may have any number of days, from any number
of months.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field

from taxi_assets.core.errors import PermanentError
from taxi_assets.core.folders import default_staging
from taxi_assets.core.manifest import Manifest
from taxi_assets.core.month import Month
from taxi_assets.core.month_file import MonthFile
from taxi_assets.core.table import Table
from taxi_assets.sinks.contract import WriteContext, load, months_in, origin, publish, table_of
from taxi_assets.sinks.storage.buckets import open_bucket
from taxi_assets.sinks.storage.month_objects import fill, measure_object, object_file, replace_object

TEMPLATE = "{year}/{month}/{day}/daily-trips.parquet"
"""The original's object names. With more than one table the template needs {kind}, too."""


class DailyObjectIOManager(dg.ConfigurableIOManager):
    """Keeps a day as one object. An asset returns the day's rows, or (day, rows) pairs, or a mapping from days."""

    location: str = Field(description="`gs://name`, or a directory used as a bucket.")
    template: str = Field(
        TEMPLATE, description="Name of a day's object; {year}, {month}, {day} required, {kind} allowed."
    )
    key_file: str | None = Field(None, description="Service account key; unset: Application Default Credentials.")
    staging: str = Field(default_factory=default_staging, description="Folder for files that are not published yet.")

    def name(self, table: Table, day: dt.date) -> str:
        """The day's object."""
        parts = {"year": f"{day:%Y}", "month": f"{day:%m}", "day": f"{day:%d}", "kind": table.object_kind}
        return fill(self.template, "year", "month", "day", **parts)

    def replace(self, table: Table, day: dt.date, day_file: MonthFile, write: WriteContext) -> Mapping[str, Any]:
        """Make the day's object exactly these rows, in one step, and return metadata about it.

        Raises:
            PermanentError: the rows are not all of that day.
            TransientError: the day is as it was before.
        """
        manifest = day_file.manifest
        span = [moment[:10] for moment in (manifest.first, manifest.last) if moment]
        if set(span) - {str(day)}:
            raise PermanentError(f"{day}: the rows are from {span[0]} to {span[-1]}; split the month by day first.")
        bucket = open_bucket(self.location, self.key_file)
        return replace_object(bucket, self.name(table, day), day_file, str(day), write)

    def measure(self, table: Table, day: dt.date) -> Manifest | None:
        """Count and sum the day's rows from the object's data pages; None without an object."""
        return measure_object(open_bucket(self.location, self.key_file), self.name(table, day), table)

    def read(self, table: Table, day: dt.date) -> MonthFile:
        """The day's object as it is now.

        Raises:
            PermanentError: there is none.
        """
        bucket, name = open_bucket(self.location, self.key_file), self.name(table, day)
        found = bucket.stat(name)
        if found is None:
            raise PermanentError(f"{day}: {bucket.uri(name)} does not exist; materialize its asset for it first.")
        return object_file(bucket, found, Month(day.year, day.month), self.staging)

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Publish every day of the run's partitions, each on its own, in the order of the values."""
        table = table_of(context)
        days = {dt.date.fromisoformat(key): key for key in context.asset_partition_keys}
        values = (
            (day, day_file)
            for day, value in days_in(obj, list(days))
            for day_file in months_in(value, table, [Month(day.year, day.month)], Path(self.staging))
        )

        def replace(day: dt.date, day_file: MonthFile, write: WriteContext) -> Mapping[str, Any]:
            metadata = {**origin(day_file), **self.replace(table, day, day_file, write)}
            day_file.discard()
            return metadata

        publish(context, days, values, replace)

    def load_input(self, context: dg.InputContext) -> Any:
        """Load days as the type that the reader annotates: a handle or a list of handles by default, or a table or data frame."""
        return load(context, lambda table, key: self.read(table, dt.date.fromisoformat(key)))


def days_in(obj: Any, expected: list[dt.date]) -> Iterator[tuple[dt.date, Any]]:
    """The days in what an asset returned: a mapping from days, (day, rows) pairs, or one day's rows.

    A day is a date or its partition key.
    """
    import pyarrow as pa

    if isinstance(obj, Mapping):
        obj = obj.items()
    elif isinstance(obj, (MonthFile, pa.Table)) or type(obj).__name__ == "DataFrame":
        if len(expected) != 1:
            raise PermanentError("One value is one day; return (day, rows) pairs in a run over several days.")
        obj = [(expected[0], obj)]
    if not isinstance(obj, Iterable) or isinstance(obj, (str, bytes)):
        raise PermanentError(
            f"An asset kept by day returned {type(obj).__name__}; return its rows, or (day, rows) pairs."
        )
    for day, value in obj:
        yield (day if isinstance(day, dt.date) else dt.date.fromisoformat(day)), value
