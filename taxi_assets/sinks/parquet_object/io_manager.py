"""One Parquet object per month, in a bucket or in a directory used as one.

The object is the month's file, uploaded unchanged. It replaces its predecessor in one step, on the condition that the
predecessor has the generation that this writer read: the last complete writer wins.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from taxi_assets.core.errors import PermanentError
from taxi_assets.core.manifest import Manifest
from taxi_assets.core.month import Month
from taxi_assets.core.month_file import MonthFile
from taxi_assets.core.table import Table
from taxi_assets.sinks.contract import ConfigurableSink, WriteContext
from taxi_assets.sinks.storage.bucket import Bucket
from taxi_assets.sinks.storage.buckets import open_bucket
from taxi_assets.sinks.storage.month_objects import (
    fill,
    measure_object,
    months_of_objects,
    object_file,
    recorded_manifest,
    replace_object,
)


class ParquetObjectIOManager(ConfigurableSink):
    """Keeps a month as one object."""

    location: str = Field(description="`gs://name`, or a directory used as a bucket.")
    template: str = Field(description="The object's name; {month} is required, {kind} allowed.")
    key_file: str | None = Field(None, description="Service account key; unset: Application Default Credentials.")

    def bucket(self) -> Bucket:
        """The bucket; it also stores other objects than months."""
        return open_bucket(self.location, self.key_file)

    def where(self, table: Table, month: Month) -> str:
        """The object's address."""
        return self.bucket().uri(self.name(table, month))

    def name(self, table: Table, month: Month) -> str:
        """The month's object."""
        return fill(self.template, "month", kind=table.object_kind, month=str(month))

    def replace(self, table: Table, month_file: MonthFile, write: WriteContext) -> Mapping[str, Any]:
        """Upload the month's file. See `MonthSink.replace`."""
        month = month_file.month
        return replace_object(self.bucket(), self.name(table, month), month_file, str(month), write)

    def measure(self, table: Table, month: Month) -> Manifest | None:
        """Count and sum the object's rows from its data pages, as the bucket holds them now."""
        return measure_object(self.bucket(), self.name(table, month), table)

    def manifests(self, table: Table) -> dict[Month, Manifest]:
        """See `MonthSink.manifests`. One listing of a bucket has them all; in a directory, each file's footer is read."""
        bucket = self.bucket()
        objects = months_of_objects(bucket, self.template, table.object_kind)
        found = {month: recorded_manifest(bucket, each) for month, each in objects.items()}
        return {month: manifest for month, manifest in found.items() if manifest}

    def manifest(self, table: Table, month: Month) -> Manifest | None:
        """See `MonthSink.manifest`."""
        bucket = self.bucket()
        found = bucket.stat(self.name(table, month))
        return recorded_manifest(bucket, found) if found else None

    def read(self, table: Table, month: Month) -> MonthFile:
        """The month's object as it is now. See `MonthSink.read`."""
        bucket, name = self.bucket(), self.name(table, month)
        found = bucket.stat(name)
        if found is None:
            raise PermanentError(f"{month}: {bucket.uri(name)} does not exist; materialize its asset for it first.")
        return object_file(bucket, found, month, self.staging)
