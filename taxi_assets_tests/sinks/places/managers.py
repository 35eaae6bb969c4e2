"""The IO managers of the places, made in whatever process; where one keeps days or moves files, as a sink of months."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa

from taxi_assets.core.month import Month
from taxi_assets.core.month_file import MonthFile
from taxi_assets.core.staging import stage
from taxi_assets.datasets.schema import YELLOW
from taxi_assets.lake.io_manager import LakeIOManager
from taxi_assets.settings import Settings
from taxi_assets.sinks.contract import WriteContext
from taxi_assets.sinks.daily_object.io_manager import DailyObjectIOManager
from taxi_assets.sinks.day_folders.io_manager import DayFoldersIOManager
from taxi_assets.sinks.duckdb.io_manager import DuckDBIOManager
from taxi_assets.sinks.parquet_object.io_manager import ParquetObjectIOManager
from taxi_assets.sinks.postgres.io_manager import PostgresIOManager
from taxi_assets_tests.bigquery_fixtures import bigquery_sink

PATIENCE = 1.0
"""Seconds that a server which is away is waited for: long enough to outlast a fault, short enough to see it give up."""


class _FirstOfMonth:
    """gcs_daily as a month: its first day, by the methods of the other sinks."""

    def __init__(self, location: str) -> None:
        self._daily = DailyObjectIOManager(location=location)

    def replace(self, table: Any, trips: MonthFile, writing: WriteContext) -> Any:
        return self._daily.replace(table, trips.month.start.date(), trips, writing)

    def measure(self, table: Any, month: Month) -> Any:
        return self._daily.measure(table, month.start.date())

    def read(self, table: Any, month: Month) -> Any:
        return self._daily.read(table, month.start.date())


LAKE_ASSET = "clean_trips"


class _Lake:
    """The lake. With `staged`, the month is first written to a staged file, as assets do, and the lake moves that file
    into place. Otherwise the lake copies the month's file."""

    def __init__(self, home: str, *, staged: bool) -> None:
        settings = Settings(home=home)
        folder, self._staging = str(settings.lake_folder), settings.staging_folder
        self._lake = LakeIOManager(folder=folder, asset=LAKE_ASSET, staging=str(self._staging))
        self._staged = staged
        self.measure, self.read, self.manifest = self._lake.measure, self._lake.read, self._lake.manifest
        self.manifests = self._lake.manifests

    def replace(self, table: Any, trips: MonthFile, writing: WriteContext) -> Any:
        if not self._staged:
            return self._lake.replace(table, MonthFile(trips.path, trips.month), writing)
        with stage(self._staging, trips.month, trips.schema, table, "clean") as writer:
            for batch in trips.batches():
                writer.write(batch)
            writer.extra = trips.manifest.extra
            staged = writer.close()
        return self._lake.replace(table, staged, writing)


def on_the_first(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch with all its pickups on the first of the month."""
    index = batch.schema.get_field_index(YELLOW.pickup)
    late = batch.column(index).to_numpy(zero_copy_only=False)
    first = late.astype("datetime64[M]").astype("datetime64[us]") + (late - late.astype("datetime64[D]"))
    return batch.set_column(index, batch.schema.field(index), pa.array(first, pa.timestamp("us")))


MAKE: dict[str, Callable[[str], Any]] = {
    "postgres": lambda where: PostgresIOManager(url=where, patience=60),
    "object": lambda where: ParquetObjectIOManager(location=where, template="nyc/{kind}_tripdata_{month}.parquet"),
    "days": lambda where: DayFoldersIOManager(location=where, prefix="nyc/{kind}_by_day"),
    "daily": _FirstOfMonth,
    "duckdb": lambda where: DuckDBIOManager(path=where),
    "bigquery": lambda where: bigquery_sink(*where.split(), retry_seconds=PATIENCE),
    "lake": lambda where: _Lake(where, staged=True),
    "lake-copied": lambda where: _Lake(where, staged=False),
}
"""A sink, in whatever process, from one word that says where."""
