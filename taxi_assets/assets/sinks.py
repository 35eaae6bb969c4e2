"""The sinks' assets: they return their input, and their IO managers load it."""

from __future__ import annotations

from dataclasses import dataclass

import dagster as dg

from taxi_assets.assets.common import MONTHS, Months, metadata, monthly_asset
from taxi_assets.datasets.schema import TaxiKind
from taxi_assets.keys import BUCKET_POOL, POSTGRES_POOL, SINKS, WAREHOUSE_POOL, key
from taxi_assets.settings import Settings


@dataclass(frozen=True)
class Sink:
    """A sink's asset: its name, its upstream, its IO manager, and how the UI shows it."""

    name: str
    upstream: str
    io_manager: str
    kinds: frozenset[str]
    description: str
    pool: str | None = None
    table_prefix: str = ""
    """What qualifies the table's name: `project.dataset`, or a schema. The name of a Postgres database is in its address, which
    no definition may contain."""


def sinks(settings: Settings) -> tuple[Sink, ...]:
    """The sinks, in the order of the graph."""
    cloud_bucket = settings.bucket_location.startswith("gs://")
    bucket = "gcs" if cloud_bucket else "file"
    warehouse = "bigquery" if settings.bigquery_project else "duckdb"
    return (
        Sink(
            "postgres_table",
            "clean_trips",
            "postgres",
            frozenset({"postgres", "table"}),
            "The month as a partition of `{schema}.{table}` in Postgres, swapped in by one transaction.",
            POSTGRES_POOL,
            settings.postgres_schema,
        ),
        Sink(
            "gcs_parquet",
            "clean_trips",
            "parquet_object",
            frozenset({bucket, "parquet"}),
            "The month as one Parquet object in the bucket.",
            BUCKET_POOL,
        ),
        Sink(
            "gcs_partitioned",
            "clean_trips",
            "day_folders",
            frozenset({bucket, "parquet"}),
            "The month as a dataset in day folders, `{date}=YYYY-MM-DD/`, in the bucket.",
            BUCKET_POOL,
        ),
        Sink(
            "bq_table",
            "gcs_parquet",
            "warehouse",
            frozenset({warehouse, "table"}),
            "The month in the warehouse's `{dataset}.{table}`, loaded from the object that gcs_parquet wrote.",
            WAREHOUSE_POOL,
            f"{settings.bigquery_project or 'warehouse'}.{settings.dataset}",
        ),
    )


def sink_asset(sink: Sink, kind: TaxiKind, settings: Settings) -> dg.AssetsDefinition:
    """The asset of a sink and a kind of taxi."""
    table_name = {"dagster/table_name": f"{sink.table_prefix}.{kind.table.name}"} if sink.table_prefix else {}

    @dg.asset(
        **monthly_asset(kind, sink.name, settings, SINKS, "sink"),
        io_manager_key=sink.io_manager,
        ins={"trips": dg.AssetIn(key(kind, sink.upstream), dagster_type=MONTHS)},
        dagster_type=MONTHS,
        kinds=set(sink.kinds),
        pool=sink.pool,
        metadata={**metadata(kind.table, key(kind, sink.upstream)), **table_name},
        description=sink.description.format(
            schema=settings.postgres_schema, dataset=settings.dataset, table=kind.table.name, date=kind.pickup_date
        ),
    )
    def deliver(trips: Months) -> Months:
        return trips

    return deliver
