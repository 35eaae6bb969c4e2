"""`trips`: one view over the tables of all datasets that are loaded, in Postgres and in the warehouse."""

import dagster as dg

from taxi_assets.core.errors import TaxiError
from taxi_assets.core.failures import RETRY, explained
from taxi_assets.core.table import Table
from taxi_assets.datasets.schema import KINDS
from taxi_assets.datasets.trips import trips
from taxi_assets.keys import CODE_VERSION, OWNERS, key
from taxi_assets.settings import Settings
from taxi_assets.sinks.contract import table_metadata
from taxi_assets.sinks.dimensions import loads_months

TRIPS = "trips"
DATABASES = {"postgres": "postgres_table", "warehouse": "bq_table"}
"""The resources of the databases, and the asset that loads the tables of each."""


def trips_view(settings: Settings) -> dg.AssetsDefinition:
    """The view's asset. Every load of a month materializes it, which changes nothing when all tables are in it."""
    view = trips([*KINDS.values()])

    @dg.asset(
        name=TRIPS,
        deps=[key(kind, sink) for kind in settings.taxi_kinds for sink in DATABASES.values()],
        required_resource_keys=set(DATABASES),
        group_name=TRIPS,
        kinds={"view", "postgres", "bigquery" if settings.bigquery_project else "duckdb"},
        owners=OWNERS,
        code_version=CODE_VERSION,
        retry_policy=RETRY,
        backfill_policy=dg.BackfillPolicy.single_run(),  # the only one that Dagster allows without partitions
        metadata=table_metadata(Table(view.name, view.columns, description=view.description)),
        description=f"{view.description} A view in Postgres (`{settings.postgres_schema}.{view.name}`) and in the warehouse "
        f"(`{settings.dataset}.{view.name}`) over those of {', '.join(f'`{table.name}`' for table, _ in view.parts)} that exist.",
    )
    def define_trips(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        metadata = {}
        for name in DATABASES:
            place = getattr(context.resources, name).views
            try:
                with explained(view.name):
                    changed = place.replace(view)
                if changed:
                    context.log.info(f"Defined the view {place.where(view)}.")
                metadata[name] = f"{place.where(view)}, {'defined' if changed else 'unchanged'}"
            except TaxiError as error:
                if not loads_months(context.run.tags):
                    raise
                context.log.warning(f"{view.name} stays as it is in {name}. {error}")
                metadata[name] = str(error)
        return dg.MaterializeResult(metadata=metadata)

    return define_trips
