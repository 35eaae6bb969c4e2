"""Jobs: selections of the graph that are launched by name."""

from __future__ import annotations

from collections.abc import Sequence

import dagster as dg

from taxi_assets.assets.dimensions import dimensions
from taxi_assets.assets.views import GROUP as VIEWS
from taxi_assets.core import run_tags
from taxi_assets.datasets.schema import TaxiKind
from taxi_assets.keys import CODE_VERSION, INGEST, REPORTS, SINKS, group, job_name
from taxi_assets.settings import Settings


def load_month(kind: TaxiKind, settings: Settings, without: Sequence[dg.AssetCheckKey] = ()):
    """Load a month end to end: every asset of the kind, with all its checks but those about no month; dimensions and views."""
    groups = (group(kind, name) for name in (INGEST, SINKS, REPORTS))
    small = dg.AssetSelection.assets(*(each.key for each in dimensions(settings))).without_checks()
    selection = (dg.AssetSelection.groups(*groups, VIEWS) - dg.AssetSelection.checks(*without)) | small
    return dg.define_asset_job(
        job_name(kind),
        selection=selection,
        tags={"taxi": kind.name, run_tags.CODE_VERSION: CODE_VERSION},
        description=f"Load a month of {kind.name} trips into every sink, with all checks, its summary and its report.",
    )
