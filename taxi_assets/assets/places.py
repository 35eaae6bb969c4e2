"""`taxi_zones`: the publisher's lookup of zone ids, so that results can name places."""

from collections.abc import Iterator

import dagster as dg

from taxi_assets.assets.ingest import Publisher
from taxi_assets.core.failures import explained
from taxi_assets.datasets.zones import ZONE_COLUMNS
from taxi_assets.keys import CODE_VERSION, OWNERS
from taxi_assets.settings import Settings
from taxi_assets.sinks.contract import COLUMN_SCHEMA, column_schema

PLACES = "places"


def zones_asset(settings: Settings) -> dg.AssetsDefinition:
    """`taxi_zones`."""

    @dg.asset(
        io_manager_key="zones",
        group_name=PLACES,
        kinds={"python", "parquet"},
        owners=OWNERS,
        code_version=CODE_VERSION,
        output_required=False,
        backfill_policy=dg.BackfillPolicy.single_run(),
        metadata={COLUMN_SCHEMA: column_schema(ZONE_COLUMNS)},
        description="Borough and name of each taxi zone, as published. A source without a lookup leaves it as it is; a trip "
        "with an unknown zone keeps its id.",
    )
    def taxi_zones(context: dg.AssetExecutionContext, publisher: dg.ResourceParam[Publisher]) -> Iterator[dg.Output]:
        """Fetch and check the lookup."""
        from taxi_assets.publisher.zone_lookup import read_zones, sample_zones

        source = publisher.open()
        with explained("taxi_zones"):
            if source.name == "sample":
                context.log.info("GENERATED sample: zones have made-up names.")
                table = sample_zones()
            elif path := source.zones(settings.home_folder / "downloads"):
                table = read_zones(path)
            else:
                context.log.info(f"The source {source.name} publishes no zone lookup; taxi_zones stays as it is.")
                return
        yield dg.Output(table, metadata={"dagster/row_count": table.num_rows, "source": source.name})

    return taxi_zones
