"""`clean_trips` and `rejected_trips`: the rows of `raw_trips` that pass the cleaning rules, and the others, in one pass."""

import time
from collections.abc import Iterator
from functools import cache, partial
from typing import Annotated, Any

import dagster as dg
from pydantic import Field, create_model

from taxi_assets.assets.common import (
    MONTHS,
    Months,
    RateLimiter,
    add_seconds,
    backfill_policy,
    each,
    labels,
    metadata,
    share,
)
from taxi_assets.assets.publisher import repinned
from taxi_assets.assets.zone_outlines import LOCATION, has_coordinates, open_zone_ids
from taxi_assets.core.failures import explained
from taxi_assets.core.manifest import ZONE_OUTLINES
from taxi_assets.core.month_file import MonthFile
from taxi_assets.core.table import Table
from taxi_assets.datasets.rules import RULES, CleaningRules
from taxi_assets.datasets.schema import TaxiKind
from taxi_assets.keys import INGEST, LOADED_COLUMNS, key, monthly, op_name
from taxi_assets.settings import Settings


def cleaning_config(defaults: CleaningRules) -> type[dg.Config]:
    """The run config of `clean_trips`: the fields of `CleaningRules`, with these defaults."""
    fields: dict[str, Any] = {}
    for name, field in CleaningRules.model_fields.items():
        described = Field(description=field.description)
        annotation = Annotated[field.annotation, described, *field.metadata]  # ty: ignore[invalid-type-form]
        fields[name] = (annotation, getattr(defaults, name))
    return create_model("CleaningConfig", __base__=dg.Config, __doc__="Which trips are kept.", **fields)


def cleaned_metadata(clean: MonthFile, rejected: MonthFile) -> dict[str, Any]:
    """What was kept and what was thrown out, for the UI."""
    extra = clean.manifest.extra
    raw_rows, loaded = extra["raw_rows"], extra["loaded_columns"]
    return {
        "raw_rows": raw_rows,
        "clean_rows": clean.rows,
        "rejected_rows": rejected.rows,
        "rejected_share": round(rejected.rows / raw_rows, 6) if raw_rows else 0.0,
        "zero_passenger_rows": extra["reasons"].get("zero_passengers", 0),
        "rejected_by_reason": dg.MetadataValue.json(extra["reasons"]),
        **({LOADED_COLUMNS: dg.MetadataValue.json(loaded)} if loaded else {}),
        **{name: extra[name] for name in (ZONE_OUTLINES, LOCATION) if extra.get(name)},
    }


def clean_trips_asset(kind: TaxiKind, settings: Settings) -> dg.AssetsDefinition:
    """`clean_trips` with `rejected_trips`, of a kind of taxi."""
    CleaningConfig = cleaning_config(settings.cleaning_rules)
    reasons = " ".join(f"`{rule.reason}`: {rule.description}" for rule in RULES if rule.concerns(kind))

    def out(name: str, layer: str, table: Table, description: str) -> dg.AssetOut:
        return dg.AssetOut(
            key=key(kind, name),
            dagster_type=MONTHS,
            io_manager_key=f"{layer}_lake",
            kinds={"python", "parquet"},
            metadata=dict(metadata(table, key(kind, "raw_trips"))),
            description=description,
            **labels(kind, INGEST, layer),
        )

    @dg.multi_asset(
        name=op_name(kind, "clean_trips"),
        partitions_def=monthly(kind),
        backfill_policy=backfill_policy(settings),
        ins={"raw_trips": dg.AssetIn(key(kind, "raw_trips"), dagster_type=MONTHS)},
        outs={
            "clean_trips": out(
                "clean_trips",
                "clean",
                kind.table,
                "The month's trips that passed the cleaning rules (settings, run config): picked up in the month, "
                "with at least one passenger. raw = clean + rejected, always.",
            ),
            "rejected_trips": out(
                "rejected_trips",
                "rejected",
                kind.raw_table,
                f"The month's rows that were not kept, each with its reason. {reasons}",
            ),
        },
    )
    def clean_trips(
        context: dg.AssetExecutionContext,
        config: CleaningConfig,  # ty: ignore[invalid-type-form]
        raw_trips: Months,
    ) -> Iterator[dg.Output]:
        from taxi_assets.lake.cleaning import clean_month

        raws = each(raw_trips)
        for raw in raws if len(raws) > 1 else ():
            if event := repinned(context.instance, kind, raw.month, raw.manifest.extra.get("data_version")):
                context.log_event(event)
        rules = CleaningRules(**config.model_dump())
        zone_ids = cache(partial(open_zone_ids, settings))  # the outlines are read once for all months
        rejected: list[MonthFile] = []

        def clean(raw: MonthFile) -> MonthFile:
            progress, started = RateLimiter(context.log.info), time.monotonic()
            with explained(f"clean_trips {raw.month}"):
                located = settings.zone_outlines and has_coordinates(raw.manifest.extra)
                kept, rest = clean_month(
                    raw,
                    kind,
                    rules,
                    settings.staging_folder,
                    lambda done, total: progress(lambda: f"{raw.month}: {done:,} rows cleaned{share(done, total)}"),
                    settings.new_columns,
                    own_rules=rules != settings.cleaning_rules,
                    zone_ids=zone_ids() if located else None,
                )
            add_seconds(context, key(kind, "clean_trips"), raw.month, clean_seconds=time.monotonic() - started)
            about = cleaned_metadata(kept, rest)
            for name in ("clean_trips", "rejected_trips"):
                context.add_asset_metadata(about, asset_key=key(kind, name), partition_key=raw.month.key)
            zero = about["zero_passenger_rows"]
            context.log.info(
                f"{raw.month}: {raw.rows:,} rows = {kept.rows:,} clean + {rest.rows:,} rejected"
                + (f"; rides with zero passengers: {zero:,}." if kind.measures.passengers else ".")
            )
            rejected.append(rest)
            return kept

        # Of several months, each is published, with its rejected rows, before the next is cleaned.
        yield dg.Output(map(clean, raws) if len(raws) > 1 else clean(raws[0]), "clean_trips")
        yield dg.Output(rejected if len(raws) > 1 else rejected[0], "rejected_trips")

    return clean_trips
