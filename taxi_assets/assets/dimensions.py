"""Dimensions: small tables without months, in the lake and in every database, such as the names of the taxi zones.

A dimension is an entry of `dimensions`. Every load of a month materializes them, which is cheap when nothing has changed; what
fails there is a warning, because no month depends on them.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import dagster as dg

from taxi_assets.assets.common import origin
from taxi_assets.assets.publisher import Publisher
from taxi_assets.assets.zone_outlines import fetch_outlines
from taxi_assets.core.dimension import Dimension
from taxi_assets.core.errors import TaxiError
from taxi_assets.core.failures import RETRY, explained
from taxi_assets.core.table import Table
from taxi_assets.datasets.bases import BASES
from taxi_assets.datasets.zones import OUTLINE, ZONES
from taxi_assets.keys import CODE_VERSION, OWNERS, PUBLISHER_POOL
from taxi_assets.settings import Settings
from taxi_assets.sinks.contract import table_metadata
from taxi_assets.sinks.dimensions import loads_months

IO_MANAGER = "dimensions"


@dataclass(frozen=True)
class DimensionAsset:
    """The asset of a dimension: its table, and what fetches it; None from a source without it."""

    table: Table
    description: str
    fetch: Callable[[Settings, Publisher], Dimension | None]

    @property
    def key(self) -> dg.AssetKey:
        """The asset key: the table's name."""
        return dg.AssetKey(self.table.name)


def _zones_table(settings: Settings) -> Table:
    """The lookup as a table, with the zones' outlines if they are set."""
    return replace(ZONES, columns=(*ZONES.columns, OUTLINE)) if settings.zone_outlines else ZONES


def _zones(settings: Settings, publisher: Publisher) -> Dimension | None:
    """Fetch the lookup that TAXI_ZONES names, else the source's, and check it."""
    from taxi_assets.publisher import lookups
    from taxi_assets.publisher.zone_lookup import read_zones

    folder = settings.home_folder / "downloads"
    if settings.zones:
        name, target = "TAXI_ZONES", folder / lookups.ZONES_FILE
        fetched = lookups.named_lookup(settings.zones, settings.folder, target, lookups.ZONES, name)
    else:
        source = publisher.open()
        name, fetched = source.name, source.zones(folder)
    if fetched is None:
        return None
    rows = read_zones(fetched.path)
    if settings.zone_outlines:
        import shapely

        from taxi_assets.publisher.zone_outlines import read_outlines

        texts = {id_: shapely.to_wkt(each, -1) for id_, each in read_outlines(fetch_outlines(settings).path).items()}
        rows = rows.append_column(OUTLINE.name, [[texts.get(id_) for id_ in rows[ZONES.key[0]].to_pylist()]])
    return Dimension.of(_zones_table(settings), rows, origin(name, fetched))


def _bases(settings: Settings, publisher: Publisher) -> Dimension:  # noqa: ARG001
    """Fetch the lookup that TAXI_FHV_BASES names, and check it."""
    from taxi_assets.publisher import lookups
    from taxi_assets.publisher.base_lookup import read_bases

    name, target = "TAXI_FHV_BASES", settings.home_folder / "downloads" / lookups.BASES_FILE
    fetched = lookups.named_lookup(str(settings.fhv_bases), settings.folder, target, lookups.BASES, name)
    return Dimension.of(BASES, read_bases(fetched.path), origin(name, fetched))


def dimensions(settings: Settings) -> list[DimensionAsset]:
    """The dimensions that the settings ask for. One more is one more entry."""
    zones = DimensionAsset(
        _zones_table(settings),
        "Borough and name of each taxi zone, as published, or of the file in TAXI_ZONES. A source without a lookup leaves it as "
        "it is; generated names never replace real ones; a trip with an unknown zone keeps its id.",
        _zones,
    )
    bases = DimensionAsset(
        BASES, "The bases that send for-hire vehicles, by license number, of the lookup in TAXI_FHV_BASES.", _bases
    )
    return [zones, *([bases] if settings.fhv_bases else [])]


def dimension_asset(dimension: DimensionAsset, settings: Settings) -> dg.AssetsDefinition:
    """The asset of a dimension."""
    warehouse = "bigquery" if settings.bigquery_project else "duckdb"
    table = dimension.table

    @dg.asset(
        key=dimension.key,
        io_manager_key=IO_MANAGER,
        group_name="places",
        kinds={"parquet", "postgres", warehouse},
        owners=OWNERS,
        code_version=CODE_VERSION,
        retry_policy=RETRY,
        pool=PUBLISHER_POOL,
        backfill_policy=dg.BackfillPolicy.single_run(),  # the only one that Dagster allows without partitions
        metadata=table_metadata(table),
        description=f"{dimension.description} A file in the lake, and the table `{table.name}` in Postgres "
        f"(`{settings.postgres_schema}`) and in the warehouse (`{settings.dataset}`).",
    )
    def fetch_dimension(context: dg.AssetExecutionContext, publisher: dg.ResourceParam[Publisher]) -> dg.Output:
        with explained(table.name):
            try:
                fetched = dimension.fetch(settings, publisher)
            except TaxiError as error:
                if not loads_months(context.run.tags):
                    raise
                context.log.warning(f"{table.name} stays as it is. {error}")
                return dg.Output(None, metadata={"error": str(error)})
        if fetched is None:
            context.log.info(f"The source has no {table.name}; what is loaded stays as it is.")
        return dg.Output(fetched)

    return fetch_dimension


def dimension_check(dimension: DimensionAsset) -> dg.AssetChecksDefinition:
    """The check of a dimension."""
    table = dimension.table

    @dg.asset_check(
        name=f"{table.name}_is_in_every_sink",
        asset=dimension.key,
        required_resource_keys={IO_MANAGER},
        description=f"Fails if the lake, Postgres and the warehouse hold different rows of {table.name}. Materialize "
        f"{table.name} again; if it still fails, something else writes to the table.",
    )
    def is_in_every_sink(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        held: dict[str, Dimension | None] = {}
        problems = []
        for name, place in context.resources.dimensions.places.items():
            try:
                held[name] = place.read(table)
            except TaxiError as error:
                problems.append(str(error))
        first, expected = next(((name, found) for name, found in held.items() if found), (None, None))
        for name, found in held.items():
            if expected and not found:
                problems.append(f"{name} has no {table.name}.")
            elif expected and found and not found.rows.equals(expected.rows):
                problems.append(f"{name} has other rows of {table.name} than {first}.")
        return dg.AssetCheckResult(
            passed=not problems,
            description=" ".join(problems) or None,
            metadata={f"{name}_rows": found.rows.num_rows for name, found in held.items() if found},
        )

    return is_in_every_sink
