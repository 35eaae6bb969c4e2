"""Read from Dagster's event log what is being loaded and what failed, with a handful of queries for any number of months.

What is loaded is not read from it: that is what the lake and the sinks record (`manifests`).
"""

from __future__ import annotations

import datetime as dt
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import dagster as dg

from taxi_assets.core import run_tags
from taxi_assets.core.month import Month
from taxi_assets.datasets.schema import TaxiKind
from taxi_assets.keys import audit_name, job_name, monthly

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
    """The runs of a kind of taxi, with the keys of its monthly assets by name.

    Other code locations may share the instance: without the `location`, the name of this one, runs of all of them count.
    """

    def __init__(
        self,
        instance: dg.DagsterInstance,
        kind: TaxiKind,
        assets: Mapping[str, dg.AssetKey],
        location: str | None = None,
    ) -> None:
        self._instance, self._kind, self._assets, self._location = instance, kind, assets, location

    def resume_tags(self, month: Month) -> dict[str, str]:
        """Return the tags of a run that resumes the month's last run; none if that run succeeded or there was none."""
        runs = self._instance.get_runs(dg.RunsFilter(tags={PARTITION: month.key}), limit=100)
        last = next((run for run in runs if self._loads(run)), None)
        if last is None or last.status is dg.DagsterRunStatus.SUCCESS:
            return {}
        return {run_tags.GOES_ON_WITH: run_tags.load_id(last.run_id, last.tags)}

    def failed_checks(
        self, checks: Iterable[dg.AssetCheckKey], months: Sequence[Month]
    ) -> dict[Month, dict[str, Literal["run", "audit"]]]:
        """Return the assets of which a check failed since they were last materialized, by month: in a run or in an audit.

        The checks of a run over several months belong to no month: what they found is found again by the audit.
        """
        names = {asset: name for name, asset in self._assets.items()}
        failed: dict[Month, dict[str, Literal["run", "audit"]]] = defaultdict(dict)
        found = [
            (month, names[info.check_key.asset_key], info.latest_planned_run_id)
            for month, info in self._evaluations(checks, months)
            if info.latest_execution_status.value == "FAILED"
            and info.latest_check_event_storage_id > (info.latest_materialization_storage_id or 0)
        ]
        if found:
            runs = self._instance.get_runs(dg.RunsFilter(run_ids=[run_id for _, _, run_id in found]))
            audits = {run.run_id for run in runs if run.job_name == audit_name(self._kind)}
            for month, name, run_id in found:
                failed[month][name] = "audit" if run_id in audits else "run"
        return failed

    def last_checked(self, checks: Iterable[dg.AssetCheckKey], months: Sequence[Month]) -> dict[Month, int]:
        """Return the storage id of the oldest of the latest evaluations of each month: small is long ago."""
        oldest: dict[Month, int] = {}
        for month, info in self._evaluations(checks, months):
            evaluated = info.latest_check_event_storage_id
            oldest[month] = min(oldest.get(month, evaluated), evaluated)
        return oldest

    def _evaluations(self, checks: Iterable[dg.AssetCheckKey], months: Sequence[Month]) -> Iterator[tuple[Month, Any]]:
        keys = {month.key: month for month in months}
        if (checks := list(checks)) and keys:
            storage = self._instance.event_log_storage
            for info in storage.get_asset_check_partition_info(checks, partition_keys=list(keys)):
                if info.partition_key in keys:
                    yield keys[info.partition_key], info

    def running(self) -> dict[str, str]:
        """Return the partitions that are being loaded, with their run.

        A killed run that the daemon will retry counts; a run of a command whose process has ended does not.
        """
        running: dict[str, str] = {}
        since = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=RETRY_SECONDS)
        killed = self._instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE], updated_after=since))
        pending = [run for run in killed if retry(run.tags) == "coming"]
        for run in [*pending, *self._instance.get_runs(dg.RunsFilter(statuses=IN_PROGRESS), limit=1000)]:
            if self._loads(run) and not run_tags.is_dead(run.tags):
                running.update(dict.fromkeys(partitions_of(run.tags, self._kind), run.run_id))
        return running

    def _loads(self, run: dg.DagsterRun) -> bool:
        """Return whether the run loads months of this kind, in this code location."""
        origin = run.remote_job_origin
        if self._location and origin and origin.repository_origin.get_selector().location_name != self._location:
            return False
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
            if run_tags.SOURCE_VERSION in run.tags and PARTITION in run.tags and self._loads(run):
                failures[run.tags[PARTITION]][attempt(run.tags)] += 1
        return failures


def retry(tags: Mapping[str, str]) -> Literal["none", "coming", "begun"] | None:
    """Return whether the daemon retries a failed run, by its tags; None if it is not tagged yet, or retries are off."""
    will_retry = tags.get("dagster/will_retry")
    if will_retry is None:
        return None
    if will_retry != "true" or run_tags.process_of(tags):  # the daemon cannot retry a run of one of our commands
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
