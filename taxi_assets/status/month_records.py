"""Read what a Dagster instance has recorded about months, with a handful of queries for any number of months.

The event log is authoritative: materializations with their order and code version, and the outcomes of blocking checks on
them. The status of the run is used only where a check has no partition (a run over a range of months).
"""

from __future__ import annotations

import datetime as dt
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, cast

import dagster as dg

from taxi_assets.core import run_tags
from taxi_assets.core.month import Month
from taxi_assets.datasets.schema import TaxiKind
from taxi_assets.keys import INGEST, LOADED_COLUMNS, NEW_COLUMNS, REPORTS, SINKS, group, job_name, key, monthly
from taxi_assets.publisher.columns import NewColumns, to_load
from taxi_assets.publisher.published import Published
from taxi_assets.status.decide import Decision, Graph, Materialized, MonthRecord, decide

AssetGraph = Any
"""`RepositoryDefinition.asset_graph`; Dagster has no public name for its type."""

PARTITION = "dagster/partition"
_CODE_VERSION = "dagster/code_version"
_MATERIALIZATION = dg.DagsterEventType.ASSET_MATERIALIZATION
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


class MonthRecords:
    """The months of a kind of taxi; `assets` is the asset graph of the code location."""

    def __init__(
        self, instance: dg.DagsterInstance, assets: AssetGraph, kind: TaxiKind, new_columns: NewColumns = "keep"
    ) -> None:
        self._instance, self._kind, self._assets, self._new_columns = instance, kind, assets, new_columns
        groups, partitions = {group(kind, name) for name in (INGEST, SINKS, REPORTS)}, monthly(kind)
        self._keys: dict[str, dg.AssetKey] = {
            asset.to_user_string(): asset
            for asset in assets.toposorted_asset_keys
            if assets.get(asset).group_name in groups and assets.get(asset).partitions_def == partitions
        }
        keys = set(self._keys.values())
        self.graph: Graph = {
            name: frozenset(parent.to_user_string() for parent in assets.get(asset).parent_keys & keys)
            for name, asset in self._keys.items()
        }
        self.code = {name: assets.get(asset).code_version or "" for name, asset in self._keys.items()}

    def decide(
        self, published: Mapping[Month, Published | None], recorded: Mapping[Month, MonthRecord]
    ) -> list[Decision]:
        """Decide about each of the recorded months; those that are not in `published` were not probed."""
        return [
            decide(month, published.get(month), record, self.graph, self.code, probed=month in published)
            for month, record in recorded.items()
        ]

    def selection(self, assets: Iterable[str]) -> list[dg.AssetKey]:
        """Return the keys of the assets and of those that are always materialized together with them."""
        keys = {self._keys[name] for name in assets}
        for asset in list(keys):
            keys |= {k for k in self._assets.get(asset).execution_set_entity_keys if isinstance(k, dg.AssetKey)}
        return sorted(keys)

    def request_arguments(self, assets: Iterable[str] | None) -> dict[str, Any]:
        """Return the arguments of a RunRequest for these assets and their checks; none for the whole job."""
        if assets is None:
            return {}
        keys = self.selection(assets)
        return {"asset_selection": keys, "asset_check_keys": self.checks(keys)}

    def resume_tags(self, month: Month) -> dict[str, str]:
        """Return the tags of a run that resumes the month's last run; none if that run succeeded or there was none."""
        runs = self._instance.get_runs(dg.RunsFilter(tags={PARTITION: month.key}), limit=100)
        last = next((run for run in runs if self._loads(run)), None)
        if last is None or last.status is dg.DagsterRunStatus.SUCCESS:
            return {}
        return {run_tags.GOES_ON_WITH: run_tags.load_id(last.run_id, last.tags)}

    def checks(self, assets: Iterable[dg.AssetKey]) -> list[dg.AssetCheckKey]:
        """Return the partitioned checks of the assets."""
        checks = self._assets.get_check_keys_for_assets(set(assets))
        return sorted(check for check in checks if self._assets.get(check).partitions_def is not None)

    def read(self, months: Sequence[Month]) -> dict[Month, MonthRecord]:
        """Read the records of the months."""
        partitions = {month.key for month in months}
        latest = {name: self._latest(asset, partitions) for name, asset in self._keys.items()}
        materialized = {name: self._materialized(asset, latest[name]) for name, asset in self._keys.items()}
        running, failures = self._running(), self._failures()
        raw, clean = (latest[key(self._kind, name).to_user_string()] for name in ("raw_trips", "clean_trips"))
        return {
            month: MonthRecord(
                materialized={name: each[month.key] for name, each in materialized.items() if month.key in each},
                running=running.get(month.key),
                failures=failures.get(month.key, {}),
                outdated=self._outdated(raw.get(month.key), clean.get(month.key)),
                **_source(raw.get(month.key)),
            )
            for month in months
        }

    def _latest(self, asset: dg.AssetKey, partitions: set[str]) -> dict[str, dg.EventLogRecord]:
        """Read the latest materialization of each partition."""
        order = self._instance.event_log_storage.get_latest_storage_id_by_partition(asset, _MATERIALIZATION, partitions)
        ids, records = list(order.values()), {}
        for start in range(0, len(ids), 500):  # databases limit the parameters of a statement
            some = dg.AssetRecordsFilter(asset, storage_ids=ids[start : start + 500])
            for record in self._instance.fetch_materializations(some, limit=500).records:
                records[record.partition_key] = record
        return records

    def _outdated(self, raw: dg.EventLogRecord | None, clean: dg.EventLogRecord | None) -> dict[str, str]:
        """Return the reason to clean a raw month again if it has columns that were not loaded and now would be."""
        if raw is None or clean is None or raw.storage_id > clean.storage_id:
            return {}
        new, loaded = _json(raw, NEW_COLUMNS), _json(clean, LOADED_COLUMNS)
        left = [name.strip() for name in to_load(self._kind, new, self._new_columns) if name not in loaded]
        if not left:
            return {}
        reason = f"lacks column {', '.join(left)}, which the raw month has and which is now loaded"
        return {key(self._kind, "clean_trips").to_user_string(): reason}

    def _materialized(self, asset: dg.AssetKey, latest: Mapping[str, dg.EventLogRecord]) -> dict[str, Materialized]:
        passed = self._passed(asset, latest)
        return {
            partition: Materialized(
                record.storage_id, (_materialization(record).tags or {}).get(_CODE_VERSION), partition in passed
            )
            for partition, record in latest.items()
        }

    def _passed(self, asset: dg.AssetKey, latest: Mapping[str, dg.EventLogRecord]) -> set[str]:
        """Return the partitions whose latest materialization passed every blocking check."""
        checks = [check for check in self.checks([asset]) if self._assets.get(check).blocking]
        if not checks or not latest:
            return set(latest)
        infos = self._instance.event_log_storage.get_asset_check_partition_info(checks, partition_keys=list(latest))
        passes, evaluated = Counter(), set()
        for info in infos:
            if info.is_current:
                evaluated.add(info.partition_key)
                passes[info.partition_key] += info.latest_execution_status.value == "SUCCEEDED"
        passed = {partition for partition in evaluated if passes[partition] == len(checks)}
        return passed | self._passed_in_range(latest, latest.keys() - evaluated)

    def _passed_in_range(self, latest: Mapping[str, dg.EventLogRecord], partitions: Iterable[str]) -> set[str]:
        """Return those of the partitions whose run over several months succeeded: its checks have no partition."""
        runs = {latest[partition].run_id for partition in partitions}
        if not runs:
            return set()
        succeeded = {
            run.run_id
            for run in self._instance.get_runs(dg.RunsFilter(run_ids=list(runs)))
            if run.status == dg.DagsterRunStatus.SUCCESS and PARTITION not in run.tags
        }
        return {partition for partition in partitions if latest[partition].run_id in succeeded}

    def _running(self) -> dict[str, str]:
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
            return not run.asset_selection.isdisjoint(self._keys.values())
        return run.job_name == job_name(self._kind)

    def _failures(self) -> dict[str, Counter[str]]:
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


def _materialization(record: dg.EventLogRecord) -> dg.AssetMaterialization:
    assert record.asset_materialization is not None
    return record.asset_materialization


def _json(record: dg.EventLogRecord, name: str) -> dict[str, Any]:
    """Return metadata that is a JSON object; an empty one if the materialization has none."""
    metadata = _materialization(record).metadata
    return cast(dict[str, Any], metadata[name].value) if name in metadata else {}


def _source(raw: dg.EventLogRecord | None) -> dict[str, Any]:
    """Return version, location and size of the published file that raw_trips was loaded from."""
    if raw is None:
        return {}
    metadata = _materialization(raw).metadata
    names = {"version": "version", "location": "location", "published_bytes": "size"}
    return {name: metadata[key].value for key, name in names.items() if key in metadata}


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
