"""Read from Dagster's event log what is being loaded and what failed, with a handful of queries for any number of months.

What is loaded is not read from it: that is what the lake and the sinks record (`manifests`).
"""

from __future__ import annotations

import datetime as dt
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import dagster as dg

from taxi_assets.core import run_tags
from taxi_assets.core.month import Month
from taxi_assets.datasets.schema import TaxiKind
from taxi_assets.keys import job_name, monthly

PARTITION = "dagster/partition"
IN_PROGRESS = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
"""Without NOT_STARTED: a run has that status for a moment, or permanently if its process was killed in that moment."""
RETRY_SECONDS = 300.0
"""How long to wait for the daemon to retry a killed run. Occasionally it never does although it tagged the run so: it had
read the failure event before the run's status."""
FAILURE_WINDOW = dt.timedelta(days=30)


class RunHistory:
    """The runs of a kind of taxi; `assets` are the keys of its monthly assets, by name."""

    def __init__(self, instance: dg.DagsterInstance, kind: TaxiKind, assets: Mapping[str, dg.AssetKey]) -> None:
        self._instance, self._kind, self._assets = instance, kind, assets

    def resume_tags(self, month: Month) -> dict[str, str]:
        """Return the tags of a run that resumes the month's last run; none if that run succeeded or there was none."""
        runs = self._instance.get_runs(dg.RunsFilter(tags={PARTITION: month.key}), limit=100)
        last = next((run for run in runs if self._loads(run)), None)
        if last is None or last.status is dg.DagsterRunStatus.SUCCESS:
            return {}
        return {run_tags.GOES_ON_WITH: run_tags.load_id(last.run_id, last.tags)}

    def failed_checks(self, checks: Iterable[dg.AssetCheckKey], months: Sequence[Month]) -> dict[Month, set[str]]:
        """Return the assets of which a check, evaluated on their latest materialization, failed, by month.

        The checks of a run over several months belong to no month: what they found is found again by the audit.
        """
        names = {asset: name for name, asset in self._assets.items()}
        failed: dict[Month, set[str]] = defaultdict(set)
        keys = {month.key: month for month in months}
        if not (checks := list(checks)) or not keys:
            return failed
        infos = self._instance.event_log_storage.get_asset_check_partition_info(checks, partition_keys=list(keys))
        for info in infos:
            if (
                info.partition_key in keys
                and info.is_current
                and info.latest_execution_status.value in ("FAILED", "EXECUTION_FAILED")
            ):
                failed[keys[info.partition_key]].add(names[info.check_key.asset_key])
        return failed

    def running(self) -> dict[str, str]:
        """Return the partitions that are being loaded, with their run; a killed run that the daemon will retry counts."""
        running: dict[str, str] = {}
        since = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=RETRY_SECONDS)
        killed = self._instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE], updated_after=since))
        pending = [run for run in killed if retry(run.tags) == "coming"]
        for run in [*pending, *self._instance.get_runs(dg.RunsFilter(statuses=IN_PROGRESS), limit=1000)]:
            if self._loads(run):
                running.update(dict.fromkeys(partitions_of(run.tags, self._kind), run.run_id))
        return running

    def _loads(self, run: dg.DagsterRun) -> bool:
        """Return whether the run loads months of this kind."""
        if run.asset_selection:
            return not run.asset_selection.isdisjoint(self._assets.values())
        return run.job_name == job_name(self._kind)

    def failures(self) -> dict[str, Counter[str]]:
        """Count the recent failed runs of automation by partition and `attempt`."""
        failures: dict[str, Counter[str]] = defaultdict(Counter)
        since = dt.datetime.now(dt.UTC) - FAILURE_WINDOW
        recent = dg.RunsFilter(
            job_name=job_name(self._kind), statuses=[dg.DagsterRunStatus.FAILURE], created_after=since
        )
        for run in self._instance.get_runs(recent, limit=1000):
            if run_tags.SOURCE_VERSION in run.tags and PARTITION in run.tags:
                failures[run.tags[PARTITION]][attempt(run.tags)] += 1
        return failures


def retry(tags: Mapping[str, str]) -> Literal["none", "coming", "begun"] | None:
    """Return whether the daemon retries a failed run, by its tags; None if it is not tagged yet, or retries are off."""
    will_retry = tags.get("dagster/will_retry")
    if will_retry is None:
        return None
    if will_retry != "true" or run_tags.PROCESS in tags:  # the daemon cannot retry a run of a process of ours
        return "none"
    return "begun" if "dagster/auto_retry_run_id" in tags else "coming"


def attempt(tags: Mapping[str, str]) -> str:
    """Return what a run tried to load: a source version with a code version."""
    return f"{tags.get(run_tags.SOURCE_VERSION)} by {tags.get(run_tags.CODE_VERSION)}"


def partitions_of(tags: Mapping[str, str], kind: TaxiKind) -> list[str]:
    """Return the partitions of a run: one, a range, or none."""
    if PARTITION in tags:
        return [tags[PARTITION]]
    start, end = (tags.get(f"dagster/asset_partition_range_{edge}") for edge in ("start", "end"))
    if not start or not end:
        return []
    return [partition for partition in monthly(kind).get_partition_keys() if start <= partition <= end]
