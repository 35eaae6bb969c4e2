"""The one place that knows local from cloud: which IO managers and publisher the settings select."""

from __future__ import annotations

from typing import Any

import dagster as dg

from taxi_assets.assets.publisher import Publisher
from taxi_assets.lake.dimensions import LakeDimensions
from taxi_assets.lake.io_manager import LakeIOManager
from taxi_assets.settings import Settings
from taxi_assets.sinks.bigquery.io_manager import BigQueryIOManager
from taxi_assets.sinks.daily_object.io_manager import DailyObjectIOManager
from taxi_assets.sinks.day_folders.io_manager import DayFoldersIOManager
from taxi_assets.sinks.dimensions import DimensionIOManager
from taxi_assets.sinks.duckdb.io_manager import DuckDBIOManager
from taxi_assets.sinks.parquet_object.io_manager import ParquetObjectIOManager
from taxi_assets.sinks.postgres.embedded import EmbeddedPostgres
from taxi_assets.sinks.postgres.io_manager import PostgresIOManager
from taxi_assets.sinks.several import SeveralSinks

SUMMARY_TEMPLATE = "reports/{kind}/daily_summary/{month}.parquet"


def embedded_postgres(settings: Settings) -> EmbeddedPostgres:
    """Return the embedded server of these settings, whether it is used or not."""
    return EmbeddedPostgres(settings.home_folder / "postgres")


def resources(settings: Settings) -> dict[str, Any]:
    """The resources of the code location, by key."""
    key_file = str(settings.gcp_key_file) if settings.gcp_key_file else None
    staging = str(settings.staging_folder)
    bucket = {"location": settings.bucket_location, "key_file": key_file, "staging": staging}
    if settings.bigquery_project:
        warehouse = BigQueryIOManager(
            project=settings.bigquery_project,
            dataset=settings.dataset,
            location=settings.bigquery_location,
            key_file=key_file,
            api_endpoint=settings.bigquery_endpoint,
            staging=staging,
        )
    else:
        file = str(settings.home_folder / "warehouse.duckdb")
        warehouse = DuckDBIOManager(path=file, dataset=settings.dataset, staging=staging)
    url = settings.postgres_url
    lakes = {
        f"{layer}_lake": LakeIOManager(
            folder=str(settings.lake_folder), asset=f"{layer}_trips", staging=staging, **together
        )
        for layer, together in (
            ("raw", {}),
            ("clean", {"follower": "rejected_trips"}),
            ("rejected", {"leader": "clean_trips"}),
        )
    }
    return {
        "publisher": Publisher(settings),
        **lakes,
        "postgres": PostgresIOManager(
            url.get_secret_value() if url else embedded_postgres(settings).url,
            settings.postgres_schema,
            staging=staging,
        ),
        "parquet_object": ParquetObjectIOManager(template=settings.object_template, **bucket),
        "day_folders": DayFoldersIOManager(prefix=settings.dataset_prefix, **bucket),
        "daily_object": DailyObjectIOManager(template=settings.daily_template, **bucket),
        "warehouse": warehouse,
        "summary": summary_io_manager,
        "dimensions": dimension_io_manager(settings),
    }


@dg.io_manager(
    required_resource_keys={"postgres", "parquet_object", "warehouse"},
    description="Keeps the daily summary with the connections of postgres_table, gcs_parquet and bq_table.",
)
def summary_io_manager(context: dg.InitResourceContext) -> SeveralSinks:
    """Built from the other sinks' resources, so that whatever replaces one of them replaces it here, too."""
    objects: ParquetObjectIOManager = context.resources.parquet_object
    bucket = objects.model_copy(update={"template": SUMMARY_TEMPLATE})
    parts = {"bucket": bucket, "postgres": context.resources.postgres, "warehouse": context.resources.warehouse}
    return SeveralSinks(parts)


def dimension_io_manager(settings: Settings) -> dg.IOManagerDefinition:
    """Keeps the dimensions in the lake, and with the connections of postgres_table and bq_table in the databases."""

    @dg.io_manager(
        required_resource_keys={"postgres", "warehouse"},
        description="Keeps the dimensions in the lake, in Postgres and in the warehouse.",
    )
    def dimensions(context: dg.InitResourceContext) -> DimensionIOManager:
        databases = {name: getattr(context.resources, name).dimensions for name in ("postgres", "warehouse")}
        return DimensionIOManager({"lake": LakeDimensions(settings.lake_folder), **databases})

    return dimensions
