"""The one place that knows local from cloud: which IO managers and publisher the settings select."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg

from taxi_assets.assets.publisher import Publisher
from taxi_assets.lake.dimensions import LakeDimensions
from taxi_assets.lake.io_manager import LakeIOManager
from taxi_assets.settings import Settings
from taxi_assets.sinks.daily_object.io_manager import DailyObjectIOManager
from taxi_assets.sinks.day_folders.io_manager import DayFoldersIOManager
from taxi_assets.sinks.dimensions import DimensionIOManager
from taxi_assets.sinks.duckdb.io_manager import DuckDBIOManager
from taxi_assets.sinks.parquet_object.io_manager import ParquetObjectIOManager
from taxi_assets.sinks.postgres.embedded import EmbeddedPostgres
from taxi_assets.sinks.postgres.io_manager import EmbeddedPostgresIOManager, PostgresIOManager
from taxi_assets.sinks.several import SeveralSinks

if TYPE_CHECKING:
    from dagster_gcp import BigQueryResource, GCSResource

SUMMARY_TEMPLATE = "reports/{kind}/daily_summary/{month}.parquet"


def embedded_postgres(settings: Settings) -> EmbeddedPostgres:
    """Return the embedded server of these settings, whether it is used or not."""
    return EmbeddedPostgres(settings.home_folder / "postgres")


def resources(settings: Settings) -> dict[str, Any]:
    """The resources that the package's assets use, by key."""
    key_file = str(settings.gcp_key_file) if settings.gcp_key_file else None
    staging = str(settings.staging_folder)
    bucket = {"location": settings.bucket_location, "key_file": key_file, "staging": staging}
    if settings.bigquery_project:
        from taxi_assets.sinks.bigquery.io_manager import BigQueryIOManager  # Google's client is slow to import

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
    tables = {"schema_name": settings.postgres_schema, "staging": staging}
    if settings.postgres_url:
        postgres = PostgresIOManager(url=settings.postgres_url.get_secret_value(), **tables)
    else:
        postgres = EmbeddedPostgresIOManager(folder=str(embedded_postgres(settings).folder), **tables)
    pairs = {"raw": {}, "clean": {"follower": "rejected_trips"}, "rejected": {"leader": "clean_trips"}}
    lakes = {
        f"{layer}_lake": LakeIOManager(
            folder=str(settings.lake_folder), asset=f"{layer}_trips", staging=staging, **pair
        )
        for layer, pair in pairs.items()
    }
    return {
        "publisher": Publisher(source=settings.source, sample_rows=settings.sample_rows, folder=str(settings.folder)),
        **lakes,
        "postgres": postgres,
        "parquet_object": ParquetObjectIOManager(template=settings.object_template, **bucket),
        "day_folders": DayFoldersIOManager(prefix=settings.dataset_prefix, **bucket),
        "daily_object": DailyObjectIOManager(template=settings.daily_template, **bucket),
        "warehouse": warehouse,
        "summary": summary_io_manager,
        "dimensions": dimension_io_manager(settings),
    }


def resource_definitions(settings: Settings) -> dict[str, Any]:
    """The resources as the UI may show them, fields with a secret by their variables; and those for other projects' assets."""
    shown = resources(settings)
    if settings.postgres_url:
        shown["postgres"] = with_variable(shown["postgres"], "url", "TAXI_POSTGRES_URL")
    if "{" in settings.source:  # an address, which may contain a password or a token
        shown["publisher"] = with_variable(shown["publisher"], "source", "TAXI_SOURCE")
    return {**shown, **resources_of_others(settings)}


def with_variable(resource: Any, field: str, variable: str) -> dg.ResourceDefinition:
    """Return a definition of the resource whose config is `field` as the variable's name: what Dagster stores of an EnvVar.

    The value is the one that the settings have read. Dagster would look an EnvVar up in the environment of the process: it
    is not there if it is in `.env` and the command is not Dagster's, and it could not differ between two definitions in a
    process. The only allowed value is the name, so that nobody replaces it in the launchpad in vain.
    """
    name = dg.Field(dg.Enum(variable, [dg.EnumValue(variable)]), default_value=variable)
    make: Any = dg.IOManagerDefinition if isinstance(resource, dg.IOManager) else dg.ResourceDefinition
    return make(lambda _: resource, config_schema={field: {"env": name}}, description=type(resource).__doc__)


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


def resources_of_others(settings: Settings) -> dict[str, dg.ResourceDefinition]:
    """Cloud Storage and BigQuery for assets of other projects."""
    key_file = str(settings.gcp_key_file) if settings.gcp_key_file else None

    @dg.resource(description="dagster-gcp's GCSResource, with the account of TAXI_GCP_KEY_FILE or at an emulator.")
    def gcs(_: dg.InitResourceContext) -> GCSResource:
        from taxi_assets.sinks.storage.resource import Storage  # slow to import

        return Storage(key_file=key_file)

    @dg.resource(description="dagster-gcp's BigQueryResource, with the project, location and account of the settings.")
    def bigquery(_: dg.InitResourceContext) -> BigQueryResource:
        from taxi_assets.sinks.bigquery.resource import Warehouse  # slow to import

        return Warehouse(
            project=settings.bigquery_project,
            location=settings.bigquery_location,
            key_file=key_file,
            api_endpoint=settings.bigquery_endpoint,
        )

    return {"gcs": gcs, "bigquery": bigquery}
