"""Names in the graph: keys and groups of assets, jobs, partitions, and the version of the code that makes months."""

from __future__ import annotations

import dagster as dg

from taxi_assets.core.month import Month
from taxi_assets.datasets.schema import TaxiKind

OWNERS = ["team:taxi-data"]
INGEST, SINKS, DAILY, REPORTS = "ingest", "sinks", "daily", "reports"

CODE_VERSION = "1"
"""Raised when the same published file would give other rows; months of an older version show as stale."""

PUBLISHER_POOL, POSTGRES_POOL, BUCKET_POOL, WAREHOUSE_POOL = POOLS = (
    "taxi_publisher",
    "taxi_postgres",
    "taxi_bucket",
    "taxi_warehouse",
)
"""Dagster's pools: a step is in that of the shared resource that it uses most. They have no limit until an operator sets one."""

NEW_COLUMNS, LOADED_COLUMNS = "new_columns", "loaded_columns"
"""Metadata of raw_trips and of clean_trips: columns of the file that were not known, and those of them that were loaded."""


def prefix(kind: TaxiKind) -> list[str]:
    """The key prefix of a kind's assets: none for yellow, whose six assets users know by their plain names."""
    return [] if kind.name == "yellow" else [kind.name]


def key(kind: TaxiKind, name: str) -> dg.AssetKey:
    """The asset key of `name` for a kind."""
    return dg.AssetKey([*prefix(kind), name])


def op_name(kind: TaxiKind, name: str) -> str:
    """The name of an asset's op, in run config and in logs: as Dagster makes it of the key."""
    return key(kind, name).to_python_identifier()


def group(kind: TaxiKind, name: str) -> str:
    """The group an asset of a kind is shown in."""
    return "_".join([*prefix(kind), name])


LOAD_MONTH = "load_month"


def job_name(kind: TaxiKind) -> str:
    """`load_month` for yellow, `load_green_month` for green."""
    return LOAD_MONTH if kind.name == "yellow" else f"load_{kind.name}_month"


def audit_name(kind: TaxiKind) -> str:
    """Return the name of the audit's job and schedule."""
    return f"audit_{kind.name}"


def monthly(kind: TaxiKind) -> dg.MonthlyPartitionsDefinition:
    """Every month from the kind's first to the current one.

    Months are published about two months late (TLC; median 51 days). They are partitions all the same, so that a month that
    appears early needs no change here; asking for one that is not published yet is one clear error.
    """
    year, month = kind.first_month
    return dg.MonthlyPartitionsDefinition(
        start_date=f"{year}-{month:02d}-01", timezone="America/New_York", end_offset=0
    )


def months(kind: TaxiKind) -> list[Month]:
    """The months of these partitions, oldest first."""
    return [Month.parse(partition) for partition in monthly(kind).get_partition_keys()]


def daily(kind: TaxiKind) -> dg.DailyPartitionsDefinition:
    """Every day from the kind's first month on."""
    year, month = kind.first_month
    return dg.DailyPartitionsDefinition(start_date=f"{year}-{month:02d}-01", timezone="America/New_York")
