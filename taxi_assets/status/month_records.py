"""What a Dagster instance knows of months, in a handful of queries however many months there are.

The events are the truth: materializations with their order and code version, and the blocking checks' outcomes on them.
A run's own status only stands in where a check has no partition (a run over a range of months).
"""

from __future__ import annotations

import datetime as dt
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import dagster as dg

from taxi_assets.assets.common import INGEST, REPORTS, SINKS, group, key
from taxi_assets.assets.ingest import LOADED_COLUMNS, NEW_COLUMNS
from taxi_assets.assets.jobs import job_name
from taxi_assets.automation.outcomes import RETRY_SECONDS, retry
from taxi_assets.core import run_tags
from taxi_assets.core.month import Month
from taxi_assets.core.partitions import monthly
from taxi_assets.datasets.schema import TaxiKind
from taxi_assets.publisher.columns import NewColumns, to_load
from taxi_assets.status.decide import Graph, Known, Made

if TYPE_CHECKING:
    from dagster._core.definitions.assets.graph.asset_graph import AssetGraph

PARTITION = "dagster/partition"
_CODE_VERSION = "dagster/code_version"
_MATERIALIZATION = dg.DagsterEventType.ASSET_MATERIALIZATION
UNDER_WAY = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
"""Not NOT_STARTED: a run is that for a moment, or for ever when its process was killed in it."""
REMEMBER_FAILURES = dt.timedelta(days=30)


class MonthRecords:
    """The months of a kind of taxi: their assets, in `assets` the code location's graph, and what became of them."""

    def __init__(
        self, instance: dg.DagsterInstance, assets: AssetGraph, kind: TaxiKind, new_columns: NewColumns = "keep"
    ) -> None:
        self._instance, self._kind, self._assets, self._new_columns = instance, kind, assets, new_columns
        groups, partitions = {group(kind, name) for name in (INGEST, SINKS, REPORTS)}, monthly(kind)
        self._keys = {
            asset.to_user_string(): asset
            for asset in assets.toposorted_asset_keys
            if assets.get(asset).group_name in groups and assets.get(asset).partitions_def == partitions
        }
        mine = set(self._keys.values())
        self.graph: Graph = {
            name: frozenset(parent.to_user_string() for parent in assets.get(asset).parent_keys & mine)
            for name, asset in self._keys.items()
        }
        self.code = {name: assets.get(asset).code_version or "" for name, asset in self._keys.items()}

    def selection(self, assets: Iterable[str]) -> list[dg.AssetKey]:
        """Keys of the assets, with those that are always made together."""
        wanted = {self._keys[name] for name in assets}
        for asset in list(wanted):
            wanted |= {k for k in self._assets.get(asset).execution_set_entity_keys if isinstance(k, dg.AssetKey)}
        return sorted(wanted)

    def part(self, assets: Iterable[str]) -> dict[str, Any]:
        """Keyword arguments of a RunRequest for these assets, with their checks."""
        keys = self.selection(assets)
        return {"asset_selection": keys, "asset_check_keys": self.checks(keys)}

    def going_on(self, month: Month) -> dict[str, str]:
        """Tags of a run that finishes what the month's last run began; none when that succeeded, or there was none."""
        runs = self._instance.get_runs(dg.RunsFilter(tags={PARTITION: month.key}), limit=100)
        last = next((run for run in runs if self._loads(run)), None)
        if last is None or last.status is dg.DagsterRunStatus.SUCCESS:
            return {}
        return {run_tags.GOES_ON_WITH: run_tags.load_id(last.run_id, last.tags)}

    def checks(self, assets: Iterable[dg.AssetKey]) -> list[dg.AssetCheckKey]:
        """The checks of the assets that are about a month."""
        checks = self._assets.get_check_keys_for_assets(set(assets))
        return sorted(check for check in checks if self._assets.get(check).partitions_def is not None)

    def read(self, months: Sequence[Month]) -> dict[Month, Known]:
        """What is known of each of the months."""
        partitions = {month.key for month in months}
        latest = {name: self._latest(asset, partitions) for name, asset in self._keys.items()}
        made = {name: self._made(asset, latest[name]) for name, asset in self._keys.items()}
        running, failures = self._running(), self._failures()
        raw, clean = (latest[key(self._kind, name).to_user_string()] for name in ("raw_trips", "clean_trips"))
        return {
            month: Known(
                made={name: found[month.key] for name, found in made.items() if month.key in found},
                running=running.get(month.key),
                failures=failures.get(month.key, {}),
                outdated=self._outdated(raw.get(month.key), clean.get(month.key)),
                **_source(raw.get(month.key)),
            )
            for month in months
        }

    def _latest(self, asset: dg.AssetKey, partitions: set[str]) -> dict[str, dg.EventLogRecord]:
        """The latest materialization of each partition that has one."""
        order = self._instance.event_log_storage.get_latest_storage_id_by_partition(asset, _MATERIALIZATION, partitions)
        ids, found = list(order.values()), {}
        for start in range(0, len(ids), 500):  # databases bound the parameters of a statement
            some = dg.AssetRecordsFilter(asset, storage_ids=ids[start : start + 500])
            for record in self._instance.fetch_materializations(some, limit=500).records:
                found[record.partition_key] = record
        return found

    def _outdated(self, raw: dg.EventLogRecord | None, clean: dg.EventLogRecord | None) -> dict[str, str]:
        """The reason to clean the raw month again: it has columns that would be loaded now and were not."""
        if raw is None or clean is None or raw.storage_id > clean.storage_id:
            return {}
        new, loaded = _json(raw, NEW_COLUMNS), _json(clean, LOADED_COLUMNS)
        left = [name.strip() for name in to_load(self._kind, new, self._new_columns) if name not in loaded]
        if not left:
            return {}
        reason = f"has no column {', '.join(left)}, which the raw month has and which is loaded now"
        return {key(self._kind, "clean_trips").to_user_string(): reason}

    def _made(self, asset: dg.AssetKey, latest: Mapping[str, dg.EventLogRecord]) -> dict[str, Made]:
        passed = self._passed(asset, latest)
        return {
            partition: Made(
                record.storage_id, (_materialization(record).tags or {}).get(_CODE_VERSION), partition in passed
            )
            for partition, record in latest.items()
        }

    def _passed(self, asset: dg.AssetKey, latest: Mapping[str, dg.EventLogRecord]) -> set[str]:
        """The partitions whose latest materialization passed every blocking check."""
        checks = [check for check in self.checks([asset]) if self._assets.get(check).blocking]
        if not checks or not latest:
            return set(latest)
        infos = self._instance.event_log_storage.get_asset_check_partition_info(checks, partition_keys=list(latest))
        green, told = Counter(), set()
        for info in infos:
            if info.is_current:
                told.add(info.partition_key)
                green[info.partition_key] += info.latest_execution_status.value == "SUCCEEDED"
        passed = {partition for partition in told if green[partition] == len(checks)}
        return passed | self._in_good_range(latest, latest.keys() - told)

    def _in_good_range(self, latest: Mapping[str, dg.EventLogRecord], untold: Iterable[str]) -> set[str]:
        """The partitions made by a run over several months, whose checks have no partition, that succeeded."""
        runs = {latest[partition].run_id for partition in untold}
        if not runs:
            return set()
        good = {
            run.run_id
            for run in self._instance.get_runs(dg.RunsFilter(run_ids=list(runs)))
            if run.status == dg.DagsterRunStatus.SUCCESS and PARTITION not in run.tags
        }
        return {partition for partition in untold if latest[partition].run_id in good}

    def _running(self) -> dict[str, str]:
        """The months that are being loaded, with their run; a killed one that the daemon will start again counts."""
        found: dict[str, str] = {}
        since = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=RETRY_SECONDS)
        killed = self._instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE], updated_after=since))
        awaited = [run for run in killed if retry(run.tags) == "coming"]
        for run in [*awaited, *self._instance.get_runs(dg.RunsFilter(statuses=UNDER_WAY), limit=1000)]:
            if self._loads(run):
                found.update(dict.fromkeys(partitions_of(run.tags, self._kind), run.run_id))
        return found

    def _loads(self, run: dg.DagsterRun) -> bool:
        """Whether the run loads months of this kind."""
        if run.asset_selection:
            return not run.asset_selection.isdisjoint(self._keys.values())
        return run.job_name == job_name(self._kind)

    def _failures(self) -> dict[str, Counter[str]]:
        """By month and source version, the runs that automation started and that failed lately."""
        found: dict[str, Counter[str]] = defaultdict(Counter)
        since = dt.datetime.now(dt.UTC) - REMEMBER_FAILURES
        lately = dg.RunsFilter(
            job_name=job_name(self._kind), statuses=[dg.DagsterRunStatus.FAILURE], created_after=since
        )
        for run in self._instance.get_runs(lately, limit=1000):
            if run_tags.SOURCE_VERSION in run.tags and PARTITION in run.tags:
                found[run.tags[PARTITION]][attempt(run.tags)] += 1
        return found


def _materialization(record: dg.EventLogRecord) -> dg.AssetMaterialization:
    assert record.asset_materialization is not None
    return record.asset_materialization


def _json(record: dg.EventLogRecord, name: str) -> dict[str, Any]:
    """Metadata that is a JSON object; an empty one where there is none."""
    metadata = _materialization(record).metadata
    return cast(dict[str, Any], metadata[name].value) if name in metadata else {}


def _source(raw: dg.EventLogRecord | None) -> dict[str, Any]:
    """Version, location and size of the published file that raw_trips was made from."""
    if raw is None:
        return {}
    metadata = _materialization(raw).metadata
    names = {"version": "version", "location": "location", "published_bytes": "size"}
    return {ours: metadata[theirs].value for theirs, ours in names.items() if theirs in metadata}


def attempt(tags: Mapping[str, str]) -> str:
    """What a run tried to load: a source version by a code version."""
    return f"{tags.get(run_tags.SOURCE_VERSION)} by {tags.get(run_tags.CODE_VERSION)}"


def partitions_of(tags: Mapping[str, str], kind: TaxiKind) -> list[str]:
    """The partitions a run is about: one, a range, or none."""
    if PARTITION in tags:
        return [tags[PARTITION]]
    start, end = (tags.get(f"dagster/asset_partition_range_{edge}") for edge in ("start", "end"))
    if not start or not end:
        return []
    return [partition for partition in monthly(kind).get_partition_keys() if start <= partition <= end]
