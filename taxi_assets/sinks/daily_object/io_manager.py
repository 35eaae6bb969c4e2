"""gcs_daily: one Parquet object a day, `YYYY/MM/DD/daily-trips.parquet`; a partition is a day here.

Each day is replaced on its own, as the months of gcs_parquet are; a run may hold any number of days, from any number of
months. The original pipeline exported one such object, with the date as its parameter.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import dagster as dg
from pydantic import Field

from taxi_assets.core.errors import PermanentError
from taxi_assets.core.month import Month
from taxi_assets.datasets.schema import TaxiKind
from taxi_assets.lake.month_file import Facts, TripFile
from taxi_assets.settings import get_settings
from taxi_assets.sinks.contract import Trips, Writing, kind_of, load, months_in, origin, publish
from taxi_assets.sinks.storage.buckets import open_bucket
from taxi_assets.sinks.storage.trip_objects import TripObject, as_file, fill, object_facts, replace_object

TEMPLATE = "{year}/{month}/{day}/daily-trips.parquet"
"""The original's object names. With more than one kind of taxi the template needs {kind}, too."""


def split_day(trips: Trips, kind: TaxiKind, day: dt.date) -> TripFile:
    """The month's trips of one day as a staged file, in one streaming pass; publishing it removes it.

    For several days of a month `split_days` does the same in a single pass.

    Raises:
        PermanentError: the day is not of this month, or the month holds trips of none of its days.
    """
    from taxi_assets.sinks.day_folders.split import split_days

    return split_days(trips, kind, get_settings().staging_folder, [day])[day]


class DailyObjectIOManager(dg.ConfigurableIOManager):
    """Keeps a day as one object. An asset returns the day's trips, or (day, trips) pairs, or a mapping from days."""

    location: str = Field(description="`gs://name`, or a directory used as a bucket.")
    template: str = Field(
        TEMPLATE, description="Name of a day's object; {year}, {month}, {day} required, {kind} allowed."
    )
    key_file: str | None = Field(None, description="Service account key; unset: Application Default Credentials.")

    def name(self, kind: TaxiKind, day: dt.date) -> str:
        """The day's object."""
        parts = {"year": f"{day:%Y}", "month": f"{day:%m}", "day": f"{day:%d}", "kind": kind.name}
        return fill(self.template, "year", "month", "day", **parts)

    def replace(self, kind: TaxiKind, day: dt.date, trips: Trips, writing: Writing) -> Mapping[str, Any]:
        """Make the day's object exactly these trips, in one step, and return metadata about it.

        Raises:
            PermanentError: the trips are not all of that day.
            TransientError: the day is as it was before.
        """
        bucket, name = open_bucket(self.location, self.key_file), self.name(kind, day)
        with as_file(trips, kind) as file:
            span = [moment[:10] for moment in (file.facts.first_pickup, file.facts.last_pickup) if moment]
            if set(span) - {str(day)}:
                raise PermanentError(
                    f"{day}: was given trips from {span[0]} to {span[-1]}; split the month by day first."
                )
            return replace_object(bucket, name, file, str(day), writing)

    def read_facts(self, kind: TaxiKind, day: dt.date) -> Facts | None:
        """Count and sum the day's rows from the object's data pages; None without an object."""
        return object_facts(open_bucket(self.location, self.key_file), self.name(kind, day), kind)

    def read(self, kind: TaxiKind, day: dt.date) -> TripObject:
        """The day's object as it is now.

        Raises:
            PermanentError: there is none.
        """
        bucket, name = open_bucket(self.location, self.key_file), self.name(kind, day)
        found = bucket.stat(name)
        if found is None:
            raise PermanentError(f"{day}: {bucket.uri(name)} does not exist; materialize gcs_daily for it first.")
        return TripObject(bucket, found, Month(day.year, day.month))

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Publish every day of the run's partitions, each on its own, in the order given."""
        kind = kind_of(context)
        days = {dt.date.fromisoformat(key): key for key in context.asset_partition_keys}
        given = (
            (day, trips)
            for day, value in days_in(obj, list(days))
            for trips in months_in(value, kind, [Month(day.year, day.month)])
        )

        def replace(day: dt.date, trips: Trips, writing: Writing) -> Mapping[str, Any]:
            metadata = {**origin(trips), **self.replace(kind, day, trips, writing)}
            _discard(trips)
            return metadata

        publish(context, days, given, replace)

    def load_input(self, context: dg.InputContext) -> Any:
        """Load days as the reader's annotation asks: a handle or a list of them by default, a table or a frame."""
        return load(context, lambda kind, key: self.read(kind, dt.date.fromisoformat(key)))


def days_in(obj: Any, expected: list[dt.date]) -> Iterator[tuple[dt.date, Any]]:
    """The days in what an asset returned: a mapping from days, (day, trips) pairs, or one day's trips.

    A day is a date or its partition key.
    """
    import pyarrow as pa

    if isinstance(obj, Mapping):
        obj = obj.items()
    elif isinstance(obj, (Trips, pa.Table)) or type(obj).__name__ == "DataFrame":
        if len(expected) != 1:
            raise PermanentError("One value is one day; return (day, trips) pairs in a run over several days.")
        obj = [(expected[0], obj)]
    if not isinstance(obj, Iterable) or isinstance(obj, (str, bytes)):
        raise PermanentError(
            f"An asset kept by day returned {type(obj).__name__}; return its trips, or (day, trips) pairs."
        )
    for day, value in obj:
        yield (day if isinstance(day, dt.date) else dt.date.fromisoformat(day)), value


def _discard(trips: Trips) -> None:
    """Remove a staged file that has been published; files that live elsewhere are not ours."""
    if isinstance(trips, TripFile) and trips.path.is_relative_to(get_settings().staging_folder):
        trips.path.unlink(missing_ok=True)
