"""Views in Postgres and in the warehouse: `trips` over the tables of all datasets, and what the codes in them mean."""

from collections.abc import Iterator

import dagster as dg

from taxi_assets.core.errors import TaxiError
from taxi_assets.core.failures import RETRY, explained
from taxi_assets.core.table import Table
from taxi_assets.datasets.codes import CODE_VIEWS
from taxi_assets.datasets.trips import trips
from taxi_assets.keys import CODE_VERSION, OWNERS, WAREHOUSE_POOL, key
from taxi_assets.settings import Settings
from taxi_assets.sinks.contract import table_metadata
from taxi_assets.sinks.dimensions import loads_months

GROUP = "views"
DATABASES = {"postgres": "postgres_table", "warehouse": "bq_table"}
"""The resources of the databases, and the asset that loads the tables of each."""


def view_assets(settings: Settings) -> dg.AssetsDefinition:
    """The views' assets. Every load of a month materializes them, which changes nothing when all tables are in them."""
    views = {view.name: view for view in (trips(), *CODE_VIEWS)}
    tables = [key(kind, sink) for kind in settings.taxi_kinds for sink in DATABASES.values()]

    @dg.multi_asset(
        name="define_views",
        specs=[
            dg.AssetSpec(
                view.name,
                deps=tables if view.parts else [],
                group_name=GROUP,
                kinds={"view", "postgres", "bigquery" if settings.bigquery_project else "duckdb"},
                owners=OWNERS,
                code_version=CODE_VERSION,
                metadata=table_metadata(Table(view.name, view.columns, description=view.description)),
                description=f"{view.description} A view in Postgres (`{settings.postgres_schema}.{view.name}`) and in the "
                f"warehouse (`{settings.dataset}.{view.name}`).",
            )
            for view in views.values()
        ],
        can_subset=True,
        pool=WAREHOUSE_POOL,
        required_resource_keys=set(DATABASES),
        retry_policy=RETRY,
        backfill_policy=dg.BackfillPolicy.single_run(),  # the only one that Dagster allows without partitions
    )
    def define_views(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult]:
        chosen = [view for name, view in views.items() if dg.AssetKey(name) in context.selected_asset_keys]
        found: dict[str, str] = {}
        for name in DATABASES:
            place = getattr(context.resources, name).views
            with explained(GROUP):
                try:
                    changed = place.replace(chosen)
                except TaxiError as error:
                    if not loads_months(context.run.tags):
                        raise
                    context.log.warning(f"The views in {name} stay as they are. {error}")
                    found[name] = str(error)
                    continue
            if changed:
                context.log.info(f"Defined {', '.join(changed)} in {name}.")
            found[name] = f"defined: {', '.join(changed)}" if changed else "unchanged"
        for view in chosen:
            yield dg.MaterializeResult(view.name, metadata=found)

    return define_views
