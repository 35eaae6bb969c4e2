"""Housekeeping: removes files that killed processes left behind, and marks runs whose process is gone as failed.

No month depends on it: nothing reads these files. They use disk space.
"""

import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg

from taxi_assets.automation.schedules import job_schedule
from taxi_assets.core import run_tags
from taxi_assets.core.locks import is_locked
from taxi_assets.datasets.bases import BASES
from taxi_assets.datasets.schema import KINDS
from taxi_assets.datasets.zones import ZONES
from taxi_assets.settings import Settings
from taxi_assets.status.run_history import IN_PROGRESS

HOUSEKEEPING = "housekeeping"
PURPOSE = "Removes what killed processes left behind."
HOUR = 3600.0
STAGED_HOURS = 24.0
"""Age after which no process writes to a staged file: several times a run's maximum duration (dagster.yaml)."""
DOWNLOAD_HOURS = 7 * 24.0
"""Age until which an incomplete download is kept, to be resumed."""


_TOKEN, _KINDS = "[0-9a-f]{12}", "|".join(KINDS)
STAGED = rf"[\w-]+-\d{{4}}-\d\d-{_TOKEN}\.parquet|[\w-]+\.scratch/.+|[^/]+\.spill/.+"
"""Staged files: of `core.staging`, of `core.scratch`, and what DuckDB spilled."""
COPIED = rf"(({_KINDS})_(raw|clean|rejected)_trips/\d{{4}}-\d\d|{ZONES.name}|{BASES.name})\.{_TOKEN}\.tmp"
"""Files that `lake.io_manager` and `lake.dimensions` wrote into the lake and did not rename."""
DOWNLOADED = rf"(({_KINDS})_tripdata_\d{{4}}-\d\d[\w.]*|taxi_zone_lookup\.csv)\.part"
"""Incomplete downloads of `publisher.source` and `publisher.lookups`."""


def orphans(settings: Settings) -> Iterator[tuple[Path, int]]:
    """Return the files, with their size in bytes, that this package wrote and no process has written to for a long time.

    Each place may contain files of other programs, which are recognized by their names and kept.
    """
    places = [
        (settings.staging_folder, STAGED, STAGED_HOURS),
        (settings.lake_folder, COPIED, STAGED_HOURS),
        (settings.home_folder / "downloads", DOWNLOADED, DOWNLOAD_HOURS),
    ]
    in_use = {lock.parent for lock in settings.staging_folder.glob("*.scratch/.lock") if is_locked(lock)}
    for folder, names, hours in places:
        for path in sorted(folder.rglob("*")):
            ours = re.fullmatch(names, path.relative_to(folder).as_posix())
            if ours and path.is_file() and not path.name.startswith(".") and in_use.isdisjoint(path.parents):
                try:
                    facts = path.stat()
                except FileNotFoundError:  # published or removed by its owner in the meantime
                    continue
                if time.time() - facts.st_mtime > hours * HOUR:
                    yield path, facts.st_size


def remove_orphans(settings: Settings, log: Callable[[str], object]) -> tuple[int, int]:
    """Remove them; return their number and total size in bytes."""
    found = list(orphans(settings))
    for path, size in found:
        log(f"Removing {path} ({size / 1e6:,.1f} MB): no process has written to it for a long time.")
        path.unlink(missing_ok=True)
        if path.parent.suffix == ".scratch" and all(each.name == ".lock" for each in path.parent.iterdir()):
            shutil.rmtree(path.parent, ignore_errors=True)
    return len(found), sum(size for _, size in found)


def end_dead_runs(instance: dg.DagsterInstance, log: Callable[[str], object]) -> list[str]:
    """Mark runs of `make run` and `make backfill` on this machine as failed if their process is gone; return their ids.

    Runs that the daemon launched are ended by Dagster's run monitoring (dagster.yaml).
    """
    ended = []
    for run in instance.get_runs(dg.RunsFilter(statuses=[*IN_PROGRESS, dg.DagsterRunStatus.NOT_STARTED])):
        if run_tags.is_dead(run.tags):
            month = run.tags.get("dagster/partition", "")[:7]
            message = f"{month or 'The run'}: its process was killed (out of memory?); nothing partial remains. Load it again."
            log(f"Run {run.run_id[:8]}: {message}")
            instance.report_run_failed(run, message)
            storage = instance.event_log_storage
            if storage.supports_global_concurrency_limits:  # the daemon, which frees them as well, may be down
                storage.free_concurrency_slots_for_run(run.run_id)
            ended.append(run.run_id)
    return ended


def housekeeping_job(settings: Settings) -> dg.JobDefinition:
    """Define the job."""

    @dg.op(description="Removes staged files and incomplete downloads of killed processes, and ends dead runs.")
    def tidy(context: dg.OpExecutionContext) -> None:
        files, size = remove_orphans(settings, context.log.info)
        runs = end_dead_runs(context.instance, context.log.info)
        context.log.info(f"Files removed: {files} ({size / 1e6:,.1f} MB); dead runs ended: {len(runs)}.")

    @dg.job(name=HOUSEKEEPING, description=PURPOSE)
    def housekeeping() -> None:
        tidy()

    return housekeeping


def housekeeping_schedule(settings: Settings) -> dg.ScheduleDefinition:
    """Define its schedule: daily, at the time of the reconciliation."""
    return job_schedule(HOUSEKEEPING, HOUSEKEEPING, settings.reconcile_cron, settings, PURPOSE)
