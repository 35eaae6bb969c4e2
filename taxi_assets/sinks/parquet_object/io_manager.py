"""gcs_parquet: one Parquet object a month, in a bucket or in a directory used as one.

The object is the staged file's bytes, uploaded as they are. It appears under its name whole, in one step, on the
condition that its predecessor is the one this writer saw: the last complete writer wins.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from taxi_assets.core.errors import PermanentError
from taxi_assets.core.month import Month
from taxi_assets.datasets.schema import TaxiKind
from taxi_assets.lake.month_file import Facts
from taxi_assets.sinks.contract import MonthIOManager, Trips, Writing
from taxi_assets.sinks.storage.buckets import Bucket, open_bucket
from taxi_assets.sinks.storage.trip_objects import TripObject, as_file, fill, object_facts, replace_object


class ParquetObjectIOManager(MonthIOManager):
    """Keeps a month as one object."""

    location: str = Field(description="`gs://name`, or a directory used as a bucket.")
    template: str = Field(description="The object's name; {month} is required, {kind} allowed.")
    key_file: str | None = Field(None, description="Service account key; unset: Application Default Credentials.")

    def bucket(self) -> Bucket:
        """The bucket, for objects beside the months', too."""
        return open_bucket(self.location, self.key_file)

    def where(self, kind: TaxiKind, month: Month) -> str:
        """The object's address."""
        return self.bucket().uri(self.name(kind, month))

    def name(self, kind: TaxiKind, month: Month) -> str:
        """The month's object."""
        return fill(self.template, "month", kind=kind.name, month=str(month))

    def replace(self, kind: TaxiKind, trips: Trips, writing: Writing) -> Mapping[str, Any]:
        """Upload the month's file. See `MonthIOManager.replace`."""
        bucket, name = self.bucket(), self.name(kind, trips.month)
        with as_file(trips, kind) as file:
            return replace_object(bucket, name, file, str(trips.month), writing)

    def read_facts(self, kind: TaxiKind, month: Month) -> Facts | None:
        """Count and sum the object's rows from its data pages, as the bucket holds them now."""
        bucket, name = self.bucket(), self.name(kind, month)
        return object_facts(bucket, name, kind)

    def read(self, kind: TaxiKind, month: Month) -> TripObject:
        """The month's object as it is now. See `MonthIOManager.read`."""
        bucket, name = self.bucket(), self.name(kind, month)
        found = bucket.stat(name)
        if found is None:
            raise PermanentError(f"{month}: {bucket.uri(name)} does not exist; materialize gcs_parquet for it first.")
        return TripObject(bucket, found, month)
