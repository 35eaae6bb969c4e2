"""Which assets a month has, where their manifests are read, and what the settings expect of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial
from typing import Any

import dagster as dg

from taxi_assets.assets.guards import Replacing
from taxi_assets.assets.report_manifests import report_manifests
from taxi_assets.assets.sinks import sinks
from taxi_assets.assets.zone_outlines import other_outlines
from taxi_assets.core.manifest import Manifest
from taxi_assets.core.month import Month
from taxi_assets.core.table import Table
from taxi_assets.datasets.rules import CleaningRules
from taxi_assets.datasets.schema import TaxiKind
from taxi_assets.keys import CODE_VERSION, key, op_name
from taxi_assets.lake.io_manager import LakeIOManager
from taxi_assets.publisher.columns import new_columns_of, to_load
from taxi_assets.reports.daily_summary import summary_table
from taxi_assets.settings import Settings
from taxi_assets.sinks.contract import MonthSink
from taxi_assets.status.decide import Assets, Decision, Expected
from taxi_assets.status.manifests import Recorders
from taxi_assets.status.months import AssetGraph, MonthStatus


def resource_keys(settings: Settings) -> set[str]:
    """Return the resources that a decision about months needs: the publisher, the lake and the sinks."""
    lakes = ("raw_lake", "clean_lake", "rejected_lake")
    return {"publisher", *lakes, "summary", "parquet_object", *(sink.io_manager for sink in sinks(settings))}


def month_status(
    instance: dg.DagsterInstance,
    graph: AssetGraph | None,
    kind: TaxiKind,
    settings: Settings,
    resources: Any,
    location: str | None = None,
) -> MonthStatus:
    """Return the status of a kind's months.

    `resources` has `resource_keys` as attributes; `location` is the name of this code location, if it is known.
    """
    reads = recorders(kind, settings, resources)
    return MonthStatus(instance, graph, kind, expected(kind, settings), reads, assets(kind, settings), location)


def run_config(kind: TaxiKind, decision: Decision | None = None, replacing: Replacing | None = None) -> dict[str, Any]:
    """Return the run config of a month's load: what raw_trips may replace, and cleaning rules that the month was given on
    purpose, by the decision about it."""
    configs: dict[str, dict[str, Any]] = {}
    if replacing:
        configs["raw_trips"] = replacing.model_dump(exclude_defaults=True)
    if decision and decision.rules is not None:
        configs["clean_trips"] = dict(decision.rules)
    selected = decision.assets if decision else None
    return {
        "ops": {
            op_name(kind, name): {"config": config}
            for name, config in configs.items()
            if config and (selected is None or key(kind, name).to_user_string() in selected)
        }
    }


def assets(kind: TaxiKind, settings: Settings) -> Assets:
    """Return the names of the kind's monthly assets."""

    def names(*short: str) -> tuple[str, ...]:
        return tuple(key(kind, name).to_user_string() for name in short)

    return Assets(
        *names("raw_trips", "clean_trips", "rejected_trips"),
        names(*(sink.name for sink in sinks(settings))),
        names("daily_summary", "month_report"),
    )


def recorders(kind: TaxiKind, settings: Settings, resources: Any) -> Recorders:
    """Return the calls that read the manifests of each asset's months."""

    def in_lake(lake: LakeIOManager, table: Table, months: Collection[Month] | None) -> Mapping[Month, Manifest]:
        """Read the footers of these months only: the lake may be a mounted bucket, with a request for each."""
        if months is None:
            return lake.manifests(table)
        return {month: manifest for month in months if (manifest := lake.manifest(table, month))}

    def in_sink(sink: MonthSink, table: Table, _: Collection[Month] | None) -> Mapping[Month, Manifest]:
        return sink.manifests(table)

    calls: dict[str, Any] = {
        "raw_trips": partial(in_lake, resources.raw_lake, kind.raw_table),
        "clean_trips": partial(in_lake, resources.clean_lake, kind.table),
        "rejected_trips": partial(in_lake, resources.rejected_lake, kind.raw_table),
        **{sink.name: partial(in_sink, getattr(resources, sink.io_manager), kind.table) for sink in sinks(settings)},
        "daily_summary": partial(in_sink, resources.summary, summary_table(kind)),
        "month_report": lambda _: report_manifests(resources.parquet_object, kind),
    }
    return {key(kind, name).to_user_string(): call for name, call in calls.items()}


def expected(kind: TaxiKind, settings: Settings) -> Expected:
    """Return what this version and these settings would load."""
    defaults = CleaningRules().model_dump()
    rules, outlines_differ = settings.cleaning_rules.model_dump(), other_outlines(settings)

    def outdated(clean: Manifest) -> str | None:
        new, loaded = new_columns_of(kind, clean.extra), clean.extra.get("loaded_columns", {})
        if left := [name.strip() for name in to_load(kind, new, settings.new_columns) if name not in loaded]:
            return f"lacks column {', '.join(left)}, which the raw month has and which is now loaded"
        if why := outlines_differ(clean.extra):
            return why
        if clean.extra.get("own_rules", True):  # older versions did not record whether a run had rules of its own
            return None
        recorded = {**defaults, **clean.extra["rules"]}
        if changed := [name for name, value in rules.items() if recorded.get(name) != value]:
            return f"was cleaned with another {', '.join(changed)}"
        return None

    return Expected(CODE_VERSION, outdated, settings.repair)
