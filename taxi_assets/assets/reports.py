"""The reports: `daily_summary`, by SQL on the warehouse, and `month_report`, an HTML page with charts of the month.

`taxi_assets.reports` computes and formats them; this module adds partitions, resources and metadata.
"""

import base64
import time
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from taxi_assets.assets.common import MONTHS, Months, each, lineage, monthly_asset
from taxi_assets.assets.concurrent_runs import replaced_by_another
from taxi_assets.assets.report_manifests import PAGE, page_with_manifest
from taxi_assets.assets.sinks import Sink, sinks
from taxi_assets.core import run_tags
from taxi_assets.core.errors import PermanentError, TransientError
from taxi_assets.core.failures import explained
from taxi_assets.core.month import Month
from taxi_assets.core.month_file import MonthFile
from taxi_assets.core.scratch import Scratch
from taxi_assets.core.staging import stage
from taxi_assets.datasets.schema import TaxiKind
from taxi_assets.datasets.zones import ZONES
from taxi_assets.keys import BUCKET_POOL, REPORTS, WAREHOUSE_POOL, key
from taxi_assets.reports.daily_summary import (
    as_frame,
    as_summary,
    require_reconciled,
    summary_sql,
    summary_table,
    summary_type,
    summed_columns,
)
from taxi_assets.reports.figures import MonthProfile
from taxi_assets.settings import Settings
from taxi_assets.sinks.contract import table_metadata
from taxi_assets.sinks.dimensions import DimensionIOManager
from taxi_assets.sinks.parquet_object.io_manager import ParquetObjectIOManager
from taxi_assets.sinks.storage.bucket import Bucket, ObjectMissing
from taxi_assets.sinks.storage.month_objects import MANIFEST, link

if TYPE_CHECKING:
    import pyarrow as pa

PROFILE = "reports/{kind}/{month}.json"
"""Name of the object with the month's figures, for the pages of other years."""


def _summarized_from(kind: TaxiKind) -> dict[str, tuple[str, ...]]:
    """The columns of the trips from which each column of the summary is computed."""
    payment = kind.measures.payment
    keys = {"pickup_date": (kind.pickup,), "payment": (payment,) if payment else (), "borough": ("pulocationid",)}
    return keys | summed_columns(kind)


def daily_summary_asset(kind: TaxiKind, settings: Settings) -> dg.AssetsDefinition:
    """`daily_summary` of a kind of taxi."""

    @dg.asset(
        **monthly_asset(kind, "daily_summary", settings, REPORTS, "report"),
        io_manager_key="summary",
        output_required=False,
        required_resource_keys={"warehouse"},
        ins={"clean_trips": dg.AssetIn(key(kind, "clean_trips"), dagster_type=MONTHS)},
        deps=[key(kind, "bq_table")],
        kinds={"bigquery" if settings.bigquery_project else "duckdb", "pandas", "postgres"},
        pool=WAREHOUSE_POOL,
        metadata={
            **table_metadata(summary_table(kind)),
            "dagster/column_lineage": lineage(key(kind, "bq_table"), _summarized_from(kind)),
        },
        description="Trips, passengers, miles, fares, tips and revenue by day, way of payment and borough of pickup: "
        "summed by SQL in the warehouse, checked, and kept as a table "
        f"`{settings.postgres_schema}.{kind.name}_daily_summary` in Postgres, as one in the warehouse, and as an "
        "object in the bucket.",
    )
    def daily_summary(context: dg.AssetExecutionContext, clean_trips: Months) -> Iterator[dg.Output]:
        def summarize(clean: MonthFile) -> MonthFile:
            month, warehouse, table = clean.month, context.resources.warehouse, summary_table(kind)
            with explained(f"daily_summary {month}"):
                summary = as_summary(warehouse.select(kind.table, month, lambda name: summary_sql(kind, month, name)))
                try:
                    require_reconciled(kind, summary, clean.manifest, month)
                except PermanentError as error:
                    compared = (key(kind, "clean_trips"), key(kind, "bq_table"))
                    if other := replaced_by_another(context.instance, context.run_id, compared, month):
                        raise TransientError(other[0]) from error  # a retry reads the month that replaced this one
                    raise
                checked = dg.check_dagster_type(summary_type(), as_frame(summary))
                if not checked.success:
                    raise PermanentError(f"{month}: the daily summary is not as it must be ({checked.description}).")
                with stage(settings.staging_folder, month, summary.schema, table, f"{kind.name}-summary") as writer:
                    for batch in summary.to_batches():
                        writer.write(batch)
                    writer.extra = clean.manifest.extra  # the summary is of this version of the month
                    return writer.close()

        def summaries() -> Iterator[MonthFile]:
            for clean in each(clean_trips):
                summary = summarize(clean)
                yield summary
                summary.discard()

        if isinstance(clean_trips, MonthFile) and run_tags.AUTOMATION_CONDITION in context.run.tags:
            held = context.resources.warehouse.manifest(kind.table, clean_trips.month)
            if held and held.stale(clean_trips.manifest):  # bq_table follows in a later run, and this asset follows it
                context.log.info(f"{clean_trips.month}: skipped; bq_table still has the previous clean month.")
                return
        yield dg.Output(summaries())

    return daily_summary


def month_report_asset(kind: TaxiKind, settings: Settings) -> dg.AssetsDefinition:
    """`month_report` of a kind of taxi."""
    compared = sinks(settings)

    @dg.asset(
        **monthly_asset(kind, "month_report", settings, REPORTS, "report"),
        required_resource_keys={"raw_lake", "parquet_object", "dimensions", *(sink.io_manager for sink in compared)},
        ins={name: dg.AssetIn(key(kind, name), dagster_type=MONTHS) for name in ("clean_trips", "rejected_trips")},
        # taxi_zones is read if it exists. It is not a dependency: a source may publish none, and the report is due
        deps=[*(key(kind, sink.name) for sink in compared), key(kind, "daily_summary")],
        kinds={"python", "html"},
        pool=BUCKET_POOL,
        description="The month on one page: trips per day with the rejected share, hours and weekdays, distances and "
        "fares, top zones, the same month of other years, rejects by reason, and what every sink holds. An "
        f"HTML file in the bucket, `{PAGE.format(kind=kind.name, month='YYYY-MM')}`, that needs nothing beside itself.",
    )
    def month_report(
        context: dg.AssetExecutionContext, clean_trips: Months, rejected_trips: Months
    ) -> dg.MaterializeResult:
        for clean, rejected in zip(each(clean_trips), each(rejected_trips), strict=True):
            with explained(f"month_report {clean.month}"):
                metadata = _report(context, kind, compared, clean, rejected)
            context.add_asset_metadata(metadata, partition_key=clean.month.key)
        return dg.MaterializeResult()

    return month_report


def _report(
    context: dg.AssetExecutionContext, kind: TaxiKind, compared: tuple[Sink, ...], clean: MonthFile, rejected: MonthFile
) -> dict[str, Any]:
    """Count the month, publish its page and its figures, and return metadata with the picture."""
    from taxi_assets.reports.charts import trips_per_day_bars, trips_per_day_svg
    from taxi_assets.reports.html import SinkState, render
    from taxi_assets.reports.profile import profile_month

    month, started, resources = clean.month, time.monotonic(), context.resources
    raw = resources.raw_lake.manifest(kind.raw_table, month)
    if raw is None:
        raise PermanentError(f"{month} has no raw_trips; materialize raw_trips for it first.")
    profile = profile_month(kind, clean, rejected, raw.rows, _zones(resources.dimensions, clean))
    counted = time.monotonic()
    states = []
    for sink in compared:
        manager = getattr(resources, sink.io_manager)
        actual, where = manager.measure(kind.table, month), manager.where(kind.table, month)
        states.append(SinkState.compare(sink.name, clean.manifest, actual, where))
    measured = time.monotonic()
    objects: ParquetObjectIOManager = resources.parquet_object
    bucket, page = objects.bucket(), PAGE.format(kind=kind.name, month=month)
    others = list(_other_years(context, bucket, kind, month))
    _put(objects, PROFILE.format(kind=kind.name, month=month), profile.to_json(), "application/json")
    recorded = clean.manifest.loaded_by(context.run_id)
    html = page_with_manifest(render(profile, earlier=others, sinks=states), recorded)
    size = _put(objects, page, html, "text/html; charset=utf-8", {MANIFEST: recorded.to_json()})
    context.log.info(f"{month}: report in {bucket.uri(page)} after {time.monotonic() - started:.1f} s.")
    return {
        "trips_per_day": _picture(trips_per_day_bars(profile), f"{month}: trips per day, kept and rejected"),
        "trips_per_day_chart": _picture(trips_per_day_svg(profile), f"Trips per day of {month}"),
        "page": _address(bucket, page),
        "dagster/uri": bucket.uri(page),
        "bytes": size,
        "trips": profile.totals.trips,
        "rejected_share": round(profile.rejected_share, 6),
        "revenue": profile.totals.revenue,
        "other_years": ", ".join(other.month for other in others) or "none loaded",
        "sinks_that_differ": sum(bool(state.differences) for state in states),
        "count_seconds": round(counted - started, 3),
        "ask_sinks_seconds": round(measured - counted, 3),
        "write_seconds": round(time.monotonic() - measured, 3),
    }


def _zones(dimensions: DimensionIOManager, clean: MonthFile) -> "pa.Table | None":
    """Return the zone lookup for the month: a generated one, or one of unknown origin, is used for generated months only."""
    zones = dimensions.read(ZONES)
    usable = zones and (zones.generated is False or clean.manifest.extra.get("generated"))
    return zones.rows if zones and usable else None


def _picture(svg: str, text: str) -> dg.MarkdownMetadataValue:
    """Return an SVG image that Dagster's UI shows, from a data address."""
    return dg.MetadataValue.md(f"![{text}](data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()})")


def report_address(objects: ParquetObjectIOManager, kind: TaxiKind, month: Month) -> str | None:
    """Return the address of the month's page, as a browser opens it; None if there is none."""
    bucket, name = objects.bucket(), PAGE.format(kind=kind.name, month=month)
    return _address(bucket, name).value if bucket.stat(name) else None


def _address(bucket: Bucket, name: str) -> dg.UrlMetadataValue | dg.PathMetadataValue:
    """Return the URL of the page for a browser: on Google with a login, or a file in a directory."""
    return link(bucket, name).get("link") or dg.MetadataValue.path(Path(bucket.uri(name)).as_uri())


def _other_years(
    context: dg.AssetExecutionContext, bucket: Bucket, kind: TaxiKind, month: Month
) -> Iterator[MonthProfile]:
    """Yield the figures of the same month in other years, if this release wrote their reports."""
    own, pattern = (PROFILE.format(kind=kind.name, month=each) for each in (month, f"????-{month.month:02}"))
    for stat in bucket.list(own.removesuffix(f"{month}.json")):
        if fnmatch(stat.name, pattern) and stat.name != own:
            try:
                with bucket.open(stat.name) as file:
                    yield MonthProfile.from_json(file.read().decode())
            except (PermanentError, ObjectMissing) as error:  # another run may replace it at the same time
                context.log.warning(f"{month}: {stat.name} is left out of the comparison. {error}")


def _put(
    objects: ParquetObjectIOManager, name: str, text: str, content_type: str, metadata: Mapping[str, str] | None = None
) -> int:
    """Replace an object atomically and return its size in bytes; the last complete writer wins."""
    with Scratch(objects.staging, "report") as folder:
        (folder / "object").write_text(text, encoding="utf-8")
        return objects.bucket().put(name, folder / "object", metadata=metadata, content_type=content_type).size
