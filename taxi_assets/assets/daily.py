"""`gcs_daily`: the export of single days. The day, a parameter of the original pipeline, is the partition."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg

from taxi_assets.assets.common import MONTHS, Months, each, labels, metadata
from taxi_assets.core.failures import RETRY, explained
from taxi_assets.core.month_file import MonthFile
from taxi_assets.datasets.schema import TaxiKind
from taxi_assets.keys import BUCKET_POOL, DAILY, daily, key, prefix
from taxi_assets.settings import Settings


def daily_asset(kind: TaxiKind, settings: Settings) -> dg.AssetsDefinition:
    """Return `gcs_daily` for a kind of taxi."""

    @dg.asset(
        name="gcs_daily",
        key_prefix=prefix(kind),
        partitions_def=daily(kind),
        io_manager_key="daily_object",
        ins={
            "trips": dg.AssetIn(
                key(kind, "clean_trips"), partition_mapping=dg.TimeWindowPartitionMapping(), dagster_type=MONTHS
            )
        },
        **labels(kind, DAILY, "sink"),
        kinds={"gcs" if settings.bucket_location.startswith("gs://") else "file", "parquet"},
        retry_policy=RETRY,
        pool=BUCKET_POOL,
        backfill_policy=dg.BackfillPolicy.single_run(),
        metadata=metadata(kind.table, key(kind, "clean_trips")),
        description=f"One day's trips as one object, `{settings.daily_template}`, from the clean month that holds the day. "
        "A run or a backfill takes any window of days; each day is replaced on its own.",
    )
    def gcs_daily(context: dg.AssetExecutionContext, trips: Months) -> dg.Output:
        days = [dt.date.fromisoformat(partition) for partition in context.partition_keys]
        return dg.Output(_split(each(trips), kind, days, settings.staging_folder))

    return gcs_daily


def _split(
    months: list[MonthFile], kind: TaxiKind, days: list[dt.date], staging: Path
) -> Iterator[tuple[dt.date, Any]]:
    """Yield the selected days of each month, split in one pass per month."""
    from taxi_assets.sinks.day_folders.split import split_days

    for trips in months:
        selected = [day for day in days if (day.year, day.month) == trips.month]
        with explained(f"gcs_daily {trips.month}"):
            yield from split_days(trips, kind.table, staging, selected).items()
