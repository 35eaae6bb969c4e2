"""From the publisher to clean months: `raw_trips`, then `clean_trips` and `rejected_trips` in one pass."""

import time
from collections.abc import Iterator
from functools import cache, partial
from typing import TYPE_CHECKING, Annotated, Any

import dagster as dg
from pydantic import Field, create_model

from taxi_assets.assets.common import MONTHS, Months, RateLimiter, backfill_policy, metadata, share
from taxi_assets.assets.guards import Replacing, loaded_month, require_replaceable
from taxi_assets.assets.publisher import PUBLISHER, pinned, repinned
from taxi_assets.assets.sinks import sinks
from taxi_assets.assets.zone_outlines import LOCATION, has_coordinates, open_zone_ids
from taxi_assets.core import run_tags
from taxi_assets.core.errors import NotPublishedYet
from taxi_assets.core.failures import RETRY, explained
from taxi_assets.core.manifest import ZONE_OUTLINES
from taxi_assets.core.month import Month
from taxi_assets.core.month_file import MonthFile
from taxi_assets.datasets.rules import RULES, CleaningRules
from taxi_assets.datasets.schema import TaxiKind
from taxi_assets.keys import (
    CODE_VERSION,
    INGEST,
    LOADED_COLUMNS,
    NEW_COLUMNS,
    OWNERS,
    PUBLISHER_POOL,
    group,
    key,
    monthly,
    op_name,
    prefix,
)
from taxi_assets.publisher.columns import new_columns_of, recorded_columns, written
from taxi_assets.publisher.source import TripSource
from taxi_assets.settings import Settings
from taxi_assets.sinks.contract import requested_months

if TYPE_CHECKING:
    from taxi_assets.lake.cleaning import Cleaned


def cleaning_config(defaults: CleaningRules) -> type[dg.Config]:
    """The run config of `clean_trips`: the fields of `CleaningRules`, with these defaults."""
    fields: dict[str, Any] = {}
    for name, field in CleaningRules.model_fields.items():
        described = Field(description=field.description)
        annotation = Annotated[field.annotation, described, *field.metadata]  # ty: ignore[invalid-type-form]
        fields[name] = (annotation, getattr(defaults, name))
    return create_model("CleaningConfig", __base__=dg.Config, __doc__="Which trips are kept.", **fields)


def load_raw_month(
    context: dg.AssetExecutionContext, settings: Settings, source: TripSource, kind: TaxiKind, month: Month
) -> MonthFile:
    """Fetch a month and conform it to the canonical schema in a staged file; unreadable lines are rows with a reason.

    Columns that are not known follow the canonical ones, as published.
    """
    from taxi_assets.core.staging import stage
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
            "source": source.name,
            "location": fetched.published.location,
            "version": fetched.published.version or fetched.sha256,
            "data_version": fetched.published.data_version or fetched.sha256,
            "sha256": fetched.sha256,
            "generated": fetched.generated,
            "code_version": CODE_VERSION,
            "published_bytes": fetched.size,
            "unreadable": unreadable,
            "columns": opened.columns,
        }
        file = writer.close()
    seconds = {"fetch_seconds": fetched_at - started, "read_seconds": time.monotonic() - fetched_at}
    _add_seconds(context, key(kind, "raw_trips"), month, **seconds)
    context.log.info(f"{month}: {file.rows:,} rows, {unreadable:,} of them unreadable.")
    context.log.info(f"{month}: {written(opened.columns)}.")
    if ignored := opened.columns["ignored"]:
        context.log.info(f"{month}: columns without trip data are ignored: {', '.join(ignored)}.")
    return file


def _add_seconds(context: dg.AssetExecutionContext, asset: dg.AssetKey, month: Month, **seconds: float) -> None:
    """Add how long the month's stages took to its metadata; publishing it is `seconds`, from its IO manager."""
    rounded = {name: round(value, 3) for name, value in seconds.items()}
    context.add_asset_metadata(rounded, asset_key=asset, partition_key=month.key)


def raw_metadata(kind: TaxiKind, file: MonthFile) -> dict[str, Any]:
    """Metadata about the input, for the UI."""
    extra = file.manifest.extra
    new = new_columns_of(kind, extra)
    return {
        "rows": file.rows,
        "unreadable": extra["unreadable"],
        "source": extra["source"],
        "location": extra["location"],
        "version": extra["version"],
        "sha256": extra["sha256"],
        "published_bytes": extra["published_bytes"],
        "generated": extra["generated"],
        "published_columns": dg.MetadataValue.json(recorded_columns(extra)["header"]),
        **({NEW_COLUMNS: dg.MetadataValue.json(new)} if new else {}),
    }


def cleaned_metadata(raw_rows: int, cleaned: "Cleaned") -> dict[str, Any]:
    """What was kept and what was thrown out, for the UI."""
    rejected, extra = cleaned.rejected.rows, cleaned.clean.manifest.extra
    loaded = extra["loaded_columns"]
    return {
        "raw_rows": raw_rows,
        "clean_rows": cleaned.clean.rows,
        "rejected_rows": rejected,
        "rejected_share": round(rejected / raw_rows, 6) if raw_rows else 0.0,
        "zero_passenger_rows": cleaned.reasons.get("zero_passengers", 0),
        "rejected_by_reason": dg.MetadataValue.json(cleaned.reasons),
        **({LOADED_COLUMNS: dg.MetadataValue.json(loaded)} if loaded else {}),
        **{name: extra[name] for name in (ZONE_OUTLINES, LOCATION) if extra.get(name)},
    }


def ingest_assets(kind: TaxiKind, settings: Settings) -> list[dg.AssetsDefinition]:
    """`raw_trips`, and `clean_trips` with `rejected_trips`, for a kind of taxi."""
    partitions, policy = monthly(kind), backfill_policy(settings)
    CleaningConfig = cleaning_config(settings.cleaning_rules)
    keepers = [sink.io_manager for sink in sinks(settings)]

    @dg.asset(
        name="raw_trips",
        key_prefix=prefix(kind),
        partitions_def=partitions,
        io_manager_key="raw_lake",
        deps=[key(kind, PUBLISHER)],
        dagster_type=MONTHS,
        output_required=False,
        group_name=group(kind, INGEST),
        kinds={"python", "parquet"},
        owners=OWNERS,
        code_version=CODE_VERSION,
        tags={"taxi": kind.name, "layer": "raw"},
        retry_policy=RETRY,
        pool=PUBLISHER_POOL,
        backfill_policy=policy,
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
                return raw

        if len(months) > 1:
            yield dg.Output(_each(context, months, load))
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
            metadata=raw_metadata(kind, file),
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

    def _each(context: dg.AssetExecutionContext, months: list[Month], load: Any) -> Iterator[MonthFile]:
        """Load the months one by one, as they are published, so that a failure keeps the ones before it."""
        for month in months:
            file = load(month)
            context.add_asset_metadata(
                raw_metadata(kind, file), asset_key=key(kind, "raw_trips"), partition_key=month.key
            )
            yield file

    reasons = " ".join(f"`{rule.reason}`: {rule.description}" for rule in RULES if rule.concerns(kind))

    @dg.multi_asset(
        name=op_name(kind, "clean_trips"),
        partitions_def=partitions,
        backfill_policy=policy,
        ins={"raw_trips": dg.AssetIn(key(kind, "raw_trips"), dagster_type=MONTHS)},
        outs={
            "clean_trips": dg.AssetOut(
                key=key(kind, "clean_trips"),
                dagster_type=MONTHS,
                io_manager_key="clean_lake",
                group_name=group(kind, INGEST),
                kinds={"python", "parquet"},
                owners=OWNERS,
                code_version=CODE_VERSION,
                tags={"taxi": kind.name, "layer": "clean"},
                metadata=dict(metadata(kind.table, key(kind, "raw_trips"))),
                description="The month's trips that passed the cleaning rules (settings, run config): picked up in the month, "
                "with at least one passenger. raw = clean + rejected, always.",
            ),
            "rejected_trips": dg.AssetOut(
                key=key(kind, "rejected_trips"),
                dagster_type=MONTHS,
                io_manager_key="rejected_lake",
                group_name=group(kind, INGEST),
                kinds={"python", "parquet"},
                owners=OWNERS,
                code_version=CODE_VERSION,
                tags={"taxi": kind.name, "layer": "rejected"},
                metadata=dict(metadata(kind.raw_table, key(kind, "raw_trips"))),
                description=f"The month's rows that were not kept, each with its reason. {reasons}",
            ),
        },
    )
    def clean_trips(
        context: dg.AssetExecutionContext,
        config: CleaningConfig,  # ty: ignore[invalid-type-form]
        raw_trips: Months,
    ) -> Iterator[dg.Output]:
        from taxi_assets.lake.cleaning import clean_month

        raws: list[MonthFile] = raw_trips if isinstance(raw_trips, list) else [raw_trips]
        for raw in raws if len(raws) > 1 else ():
            if event := repinned(context.instance, kind, raw.month, raw.manifest.extra.get("data_version")):
                context.log_event(event)
        rules = CleaningRules(**config.model_dump())
        zone_ids = cache(partial(open_zone_ids, settings))  # the outlines are read once for all months
        rejected: list[MonthFile] = []

        def clean(raw: MonthFile) -> "Cleaned":
            progress, started = RateLimiter(context.log.info), time.monotonic()
            with explained(f"clean_trips {raw.month}"):
                located = settings.zone_outlines and has_coordinates(raw.manifest.extra)
                cleaned = clean_month(
                    raw,
                    kind,
                    rules,
                    settings.staging_folder,
                    lambda done, total: progress(lambda: f"{raw.month}: {done:,} rows cleaned{share(done, total)}"),
                    settings.new_columns,
                    own_rules=rules != settings.cleaning_rules,
                    zone_ids=zone_ids() if located else None,
                )
            _add_seconds(context, key(kind, "clean_trips"), raw.month, clean_seconds=time.monotonic() - started)
            zero = cleaned.reasons.get("zero_passengers", 0)
            context.log.info(
                f"{raw.month}: {raw.rows:,} rows = {cleaned.clean.rows:,} clean + {cleaned.rejected.rows:,} rejected"
                + (f"; rides with zero passengers: {zero:,}." if kind.measures.passengers else ".")
            )
            rejected.append(cleaned.rejected)
            return cleaned

        def months() -> Iterator[MonthFile]:
            for raw in raws:
                cleaned = clean(raw)
                for name in ("clean_trips", "rejected_trips"):
                    context.add_asset_metadata(
                        cleaned_metadata(raw.rows, cleaned), asset_key=key(kind, name), partition_key=raw.month.key
                    )
                yield cleaned.clean

        if len(raws) > 1:
            yield dg.Output(months(), "clean_trips")  # publishing a month publishes its rejected rows, too
            yield dg.Output(rejected, "rejected_trips")
        else:
            cleaned = clean(raws[0])
            about = cleaned_metadata(raws[0].rows, cleaned)
            yield dg.Output(cleaned.clean, "clean_trips", metadata=about)
            yield dg.Output(cleaned.rejected, "rejected_trips", metadata=about)

    return [raw_trips, clean_trips]
