"""Recognizes that another run has replaced a month while this one was at work: two runs of a month, of which one wins."""

from __future__ import annotations

from collections.abc import Iterable

import dagster as dg

from taxi_assets.core.month import Month


def replaced_by_another(
    instance: dg.DagsterInstance, run_id: str, assets: Iterable[dg.AssetKey], month: Month
) -> list[str]:
    """Return a sentence if another run has replaced the month in one of the assets since this run began, else none.

    Only for messages: whether a month is as it must be is decided by what the sinks hold.
    """
    record = instance.get_run_record_by_id(run_id)
    if record is None or record.start_time is None:
        return []
    for asset in assets:
        since = dg.AssetRecordsFilter(asset, asset_partitions=[month.key], after_timestamp=record.start_time)
        for other in instance.fetch_materializations(since, limit=20).records:
            if other.run_id != run_id:
                return [f"{month}: another run ({other.run_id[:8]}) replaced {asset.path[-1]} meanwhile; run it again."]
    return []
