"""`raw_trips`: every row of a published month, in the canonical schema."""

import time
from collections.abc import Iterator
from typing import Any

import dagster as dg

from taxi_assets.assets.common import MONTHS, RateLimiter, add_seconds, metadata, monthly_asset, origin, share
from taxi_assets.assets.guards import Replacing, loaded_month, require_replaceable
from taxi_assets.assets.publisher import PUBLISHER, pinned
from taxi_assets.assets.sinks import sinks
from taxi_assets.core import run_tags
from taxi_assets.core.errors import NotPublishedYet
from taxi_assets.core.failures import explained
from taxi_assets.core.month import Month
from taxi_assets.core.month_file import MonthFile
from taxi_assets.core.staging import stage
from taxi_assets.datasets.schema import TaxiKind
from taxi_assets.keys import INGEST, NEW_COLUMNS, PUBLISHER_POOL, key
from taxi_assets.publisher.columns import new_columns_of, recorded_columns, written
from taxi_assets.publisher.source import TripSource
from taxi_assets.settings import Settings
from taxi_assets.sinks.contract import requested_months


def load_raw_month(
    context: dg.AssetExecutionContext, settings: Settings, source: TripSource, kind: TaxiKind, month: Month
) -> MonthFile:
    """Fetch a month and conform it to the canonical schema in a staged file; unreadable lines are rows with a reason.

    Columns that are not known follow the canonical ones, as published.
    """
    from taxi_assets.publisher.reader import open_trips

    progress, started = RateLimiter(context.log.info), time.monotonic()
    fetched = source.fetch(
        kind,
        month,
        settings.home_folder / "downloads",
        lambda done, total: progress(lambda: f"{month}: {done / 1e6:,.1f} MB downloaded{share(done, total)}"),
    )
    fetched_at = time.monotonic()
    label = "GENERATED sample, not real trips" if fetched.generated else f"from {fetched.published.location}"
    context.log.info(
        f"{month}: {fetched.size / 1e6:,.1f} MB {label}"
        f"{'' if fetched.downloaded or fetched.generated else ', read in place'}."
    )

    def report(done: int, total: int, rows: int) -> None:
        progress(lambda: f"{month}: {rows:,} rows read{share(done, total)}")

    unreadable = 0
    opened = open_trips(fetched.path, kind, month, report, settings.read_options)
    with stage(settings.staging_folder, month, opened.schema, kind.raw_table, f"{kind.name}-raw", "lz4") as writer:
        for batch in opened.batches:
            unreadable += batch.num_rows - batch.column("reject_reason").null_count
            writer.write(batch)
        writer.extra = {
            **origin(source.name, fetched),
            "version": fetched.published.version or fetched.sha256,
            "data_version": fetched.published.data_version or fetched.sha256,
            "published_bytes": fetched.size,
            "unreadable": unreadable,
            "columns": opened.columns,
        }
        file = writer.close()
    seconds = {"fetch_seconds": fetched_at - started, "read_seconds": time.monotonic() - fetched_at}
    add_seconds(context, key(kind, "raw_trips"), month, **seconds)
    context.log.info(f"{month}: {file.rows:,} rows, {unreadable:,} of them unreadable.")
    context.log.info(f"{month}: {written(opened.columns)}.")
    if ignored := opened.columns["ignored"]:
        context.log.info(f"{month}: columns without trip data are ignored: {', '.join(ignored)}.")
    return file


def raw_metadata(kind: TaxiKind, file: MonthFile) -> dict[str, Any]:
    """Metadata about the input, for the UI."""
    extra = file.manifest.extra
    new = new_columns_of(kind, extra)
    shown = ("unreadable", "source", "location", "version", "sha256", "published_bytes", "generated")
    return {
        "rows": file.rows,
        **{name: extra[name] for name in shown},
        "published_columns": dg.MetadataValue.json(recorded_columns(extra)["header"]),
        **({NEW_COLUMNS: dg.MetadataValue.json(new)} if new else {}),
    }


def raw_trips_asset(kind: TaxiKind, settings: Settings) -> dg.AssetsDefinition:
    """`raw_trips` of a kind of taxi."""
    keepers = [sink.io_manager for sink in sinks(settings)]

    @dg.asset(
        **monthly_asset(kind, "raw_trips", settings, INGEST, "raw"),
        io_manager_key="raw_lake",
        deps=[key(kind, PUBLISHER)],
        dagster_type=MONTHS,
        output_required=False,
        kinds={"python", "parquet"},
        pool=PUBLISHER_POOL,
        metadata=metadata(kind.raw_table),
        required_resource_keys={"publisher", "raw_lake", *keepers},
        description=f"Every row of the {kind.name} file published for the month, in the canonical schema. A line that could not "
        "be read is a row with its reason, line number and text: nothing is lost.",
    )
    def raw_trips(context: dg.AssetExecutionContext, config: Replacing) -> Iterator[dg.Output]:
        months = requested_months(context.run.tags, context.partition_keys)
        source = context.resources.publisher.open()

        def load(month: Month) -> MonthFile:
            with explained(f"raw_trips {month}"):
                loaded = loaded_month(kind, month, context.resources, keepers)
                raw = load_raw_month(context, settings, source, kind, month)
                try:
                    require_replaceable(raw, loaded, kind, config)
                except BaseException:
                    raw.discard()
                    raise
            about = raw_metadata(kind, raw)
            context.add_asset_metadata(about, asset_key=key(kind, "raw_trips"), partition_key=month.key)
            return raw

        if len(months) > 1:
            yield dg.Output(map(load, months))  # one by one, as they are published: a failure keeps the ones before it
            return
        try:
            file = load(months[0])
        except dg.Failure as failure:
            if not _may_be_skipped(context, months[0], failure):
                raise
            return
        extra = file.manifest.extra
        yield dg.Output(
            file,
            data_version=dg.DataVersion(extra["version"]),
            tags=pinned(context.instance, kind, months[0], extra["data_version"]),
        )

    def _may_be_skipped(context: dg.AssetExecutionContext, month: Month, failure: dg.Failure) -> bool:
        """Whether the month is only not published yet, and this is a backfill of many months ("materialize all missing").

        The month stays missing, with an observation that has the reason: nothing is materialized, and no run has failed.
        """
        if not isinstance(failure.__cause__, NotPublishedYet) or run_tags.DAGSTER_BACKFILL not in context.run.tags:
            return False
        if loaded_month(kind, month, context.resources, keepers):  # it was withdrawn
            return False
        reason = f"Skipped: {failure.__cause__}"
        context.log.warning(reason)
        raw = key(kind, "raw_trips")
        context.log_event(dg.AssetObservation(raw, partition=month.key, metadata={"not_published": reason}))
        return True

    return raw_trips
