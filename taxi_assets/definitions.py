"""The code location: `defs` is what Dagster loads; `build_defs` makes fresh definitions with other settings or resources."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg

from taxi_assets.assets.checks import month_checks
from taxi_assets.assets.clean_trips import clean_trips_asset
from taxi_assets.assets.daily import daily_asset
from taxi_assets.assets.dimensions import dimension_assets, dimension_checks
from taxi_assets.assets.jobs import load_month
from taxi_assets.assets.publisher import publisher_asset
from taxi_assets.assets.raw_trips import raw_trips_asset
from taxi_assets.assets.reports import report_assets
from taxi_assets.assets.sinks import sink_assets
from taxi_assets.assets.views import view_assets
from taxi_assets.automation.alerts import alerts_sensor
from taxi_assets.automation.audit import audit_jobs, audit_schedule
from taxi_assets.automation.deadlines import check_keys, deadline_checks, deadline_job, deadline_schedule
from taxi_assets.automation.housekeeping import housekeeping_job, housekeeping_schedule
from taxi_assets.automation.schedules import monthly_schedule, reconciliation
from taxi_assets.automation.sensors import new_months_sensor, sinks_follow, with_conditions
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
    kinds = settings.taxi_kinds
    declarative = settings.automation == "declarative"
    assets = [
        asset
        for kind in kinds
        for asset in (
            raw_trips_asset(kind, settings),
            clean_trips_asset(kind, settings),
            *sink_assets(kind, settings),
            *report_assets(kind, settings),
        )
    ]
    daily_assets = [daily_asset(kind, settings) for kind in kinds if settings.daily]
    checks = [check for kind in kinds for check in (*month_checks(kind, settings), deadline_checks(kind, settings))]
    jobs = [
        job
        for kind in kinds
        for job in (load_month(kind, settings, without=check_keys(kind, settings)), deadline_job(kind, settings))
    ]
    schedules = [
        make(kind, settings)
        for kind in kinds
        for make in (monthly_schedule, reconciliation, deadline_schedule, audit_schedule)
    ]
    assets = [
        *(with_conditions(kinds, assets) if declarative else assets),
        *daily_assets,
        *dimension_assets(settings),
        view_assets(settings),
    ]
    sources = [publisher_asset(kind, settings) for kind in kinds]
    return dg.Definitions(
        assets=_with_code_references([*sources, *assets], settings),
        asset_checks=[*checks, *dimension_checks(settings)],
        jobs=[*jobs, *audit_jobs(kinds, settings), housekeeping_job(settings)],
        schedules=[*schedules, housekeeping_schedule(settings)],
        sensors=[
            *(new_months_sensor(kind, settings) for kind in kinds),
            *(sinks_follow(kind, settings) for kind in kinds if declarative),
            alerts_sensor(settings),
        ],
        resources={**resource_definitions(settings), **(resource_overrides or {})},
        loggers={"console": dg.colored_console_logger, "terminal": dg.LoggerDefinition(terminal_logger)},
        executor=executor(settings),
    )


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
