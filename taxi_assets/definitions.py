"""The code location: `defs` is what Dagster loads; `build_defs` makes fresh definitions with other settings or resources."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg

from taxi_assets.assets.checks import month_checks
from taxi_assets.assets.clean_trips import clean_trips_asset
from taxi_assets.assets.daily import daily_asset
from taxi_assets.assets.dimensions import dimension_asset, dimension_check, dimensions
from taxi_assets.assets.publisher import publisher_asset
from taxi_assets.assets.raw_trips import raw_trips_asset
from taxi_assets.assets.reports import daily_summary_asset, month_report_asset
from taxi_assets.assets.sinks import sink_asset, sinks
from taxi_assets.assets.views import view_assets
from taxi_assets.automation.alerts import alerts_sensor
from taxi_assets.automation.audit import audit_job, audit_schedule
from taxi_assets.automation.deadlines import deadline_checks, deadline_job, deadline_schedule
from taxi_assets.automation.housekeeping import housekeeping_job, housekeeping_schedule
from taxi_assets.automation.jobs import load_month
from taxi_assets.automation.schedules import monthly_schedule, reconciliation
from taxi_assets.automation.sensors import new_months_sensor, sinks_follow
from taxi_assets.datasets.schema import TaxiKind
from taxi_assets.executors import executor
from taxi_assets.resources import resource_definitions
from taxi_assets.settings import Settings, load_settings
from taxi_assets.terminal import terminal_logger


def build_defs(
    settings: Settings | None = None, *, resource_overrides: Mapping[str, Any] | None = None
) -> dg.Definitions:
    """The definitions for `settings` (by default the environment's), with some resources replaced."""
    # Beta and preview features used on purpose: backfill policies, data versions, checks shown per partition.
    for category in (dg.BetaWarning, dg.PreviewWarning):
        warnings.filterwarnings("ignore", category=category, module="dagster|taxi_assets")
    settings = settings or load_settings()
    kinds, declarative = settings.taxi_kinds, settings.automation == "declarative"
    loads = (publisher_asset, raw_trips_asset, clean_trips_asset, daily_summary_asset, month_report_asset)
    assets = [
        *_of_each_kind(settings, *loads, *([daily_asset] if settings.daily else [])),
        *(sink_asset(sink, kind, settings) for kind in kinds for sink in sinks(settings)),
        *(dimension_asset(each, settings) for each in dimensions(settings)),
        view_assets(settings),
    ]
    schedules = _of_each_kind(settings, monthly_schedule, reconciliation, deadline_schedule, audit_schedule)
    return dg.Definitions(
        assets=_with_code_references(assets, settings),
        asset_checks=[
            *(check for kind in kinds for check in month_checks(kind, settings)),
            *_of_each_kind(settings, deadline_checks),
            *map(dimension_check, dimensions(settings)),
        ],
        jobs=[*_of_each_kind(settings, load_month, deadline_job, audit_job), housekeeping_job(settings)],
        schedules=[*schedules, housekeeping_schedule(settings)],
        sensors=[
            *_of_each_kind(settings, new_months_sensor, *([sinks_follow] if declarative else [])),
            alerts_sensor(settings),
        ],
        resources={**resource_definitions(settings), **(resource_overrides or {})},
        loggers={"console": dg.colored_console_logger, "terminal": dg.LoggerDefinition(terminal_logger)},
        executor=executor(settings),
    )


def _of_each_kind(settings: Settings, *factories: Callable[[TaxiKind, Settings], Any]) -> list[Any]:
    return [make(kind, settings) for kind in settings.taxi_kinds for make in factories]


def _with_code_references(assets: Sequence[dg.AssetsDefinition | dg.SourceAsset], settings: Settings) -> Sequence[Any]:
    """Link the assets to their code: the file on this machine, or its page at TAXI_GIT_URL."""
    referenced = dg.with_source_code_references(assets)
    if not settings.git_url:
        return referenced
    package = dg.AnchorBasedFilePathMapping(
        local_file_anchor=Path(__file__), file_anchor_path_in_repository="taxi_assets/definitions.py"
    )
    return dg.link_code_references_to_git(referenced, settings.git_url, settings.git_ref, package)


defs = build_defs()
gc.freeze()  # what imports made is never garbage: looking at all of it would pause each run for a tenth of a second
