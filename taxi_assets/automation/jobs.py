"""The job that loads a month."""

from __future__ import annotations

import dagster as dg

from taxi_assets.assets.dimensions import dimensions
from taxi_assets.assets.views import GROUP as VIEWS
from taxi_assets.automation.deadlines import check_keys
from taxi_assets.core import run_tags
from taxi_assets.datasets.schema import TaxiKind
from taxi_assets.keys import CODE_VERSION, INGEST, REPORTS, SINKS, group, job_name
from taxi_assets.settings import Settings


def load_month(kind: TaxiKind, settings: Settings):
    """Load a month end to end: every asset of the kind, with all its checks but those about no month; dimensions and views."""
    groups = (group(kind, name) for name in (INGEST, SINKS, REPORTS))
    small = dg.AssetSelection.assets(*(each.key for each in dimensions(settings))).without_checks()
    about_no_month = dg.AssetSelection.checks(*check_keys(kind, settings))
    selection = (dg.AssetSelection.groups(*groups, VIEWS) - about_no_month) | small
    return dg.define_asset_job(
        job_name(kind),
        selection=selection,
        tags={"taxi": kind.name, run_tags.CODE_VERSION: CODE_VERSION},
        description=f"Load a month of {kind.name} trips into every sink, with all checks, its summary and its report.",
    )
