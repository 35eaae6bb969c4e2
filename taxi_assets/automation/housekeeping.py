"""What killed processes leave behind, found and removed: staged files, half downloads, tables that were never swapped in,
and runs that still count as under way though their process is gone.

Nothing here is needed for a month to be right: staged files and tables are never read. They take room.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg

from taxi_assets.automation.schedules import TIMEZONE, status
from taxi_assets.core import run_tags
from taxi_assets.datasets.schema import TaxiKind
from taxi_assets.settings import Settings, get_settings
from taxi_assets.status.month_records import UNDER_WAY

HOUSEKEEPING = "housekeeping"
HOUR = 3600.0
STAGED_HOURS = 24.0
"""Hours after which nobody writes to a staged file any more: several times a run's longest time (dagster.yaml)."""
DOWNLOAD_HOURS = 7 * 24.0
"""Hours a half download is kept to be resumed."""


def orphans(settings: Settings, now: float) -> Iterator[Path]:
    """Staged files and half downloads that have not been written to for so long that their writer is gone."""
    places = [
        (settings.staging_folder, "*", STAGED_HOURS),
        (settings.lake_folder, "*.tmp", STAGED_HOURS),
        (settings.home_folder / "downloads", "*.part", DOWNLOAD_HOURS),
    ]
    for folder, pattern, hours in places:
        for path in sorted(folder.rglob(pattern)):
            if path.is_file() and not path.name.startswith(".") and not _scratch_in_use(path):
                try:
                    state = path.stat()
                except FileNotFoundError:  # published or removed by its owner meanwhile
                    continue
                if now - state.st_mtime > hours * HOUR:
                    yield path


def _scratch_in_use(path: Path) -> bool:
    """Whether the file is in a scratch folder whose user lives (it holds a lock): such a folder removes itself."""
    import fcntl

    folder = next((parent for parent in path.parents if parent.suffix == ".scratch"), None)
    if folder is None:
        return False
    try:
        with (folder / ".lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        pass
    return False


def remove_orphans(settings: Settings, log: Callable[[str], object], now: float | None = None) -> tuple[int, int]:
    """Remove them; how many there were, and their bytes."""
    found = [(path, path.stat().st_size) for path in orphans(settings, now or time.time())]
    for path, size in found:
        log(f"Removing {path} ({size / 1e6:,.1f} MB): whoever wrote it is gone.")
        path.unlink(missing_ok=True)
    for folder in sorted(settings.staging_folder.glob("*.scratch")):
        if not any(each.is_file() and each.name != ".lock" for each in folder.rglob("*")):
            _remove_folder(folder)
    return len(found), sum(size for _, size in found)


def _remove_folder(folder: Path) -> None:
    import shutil

    if not _scratch_in_use(folder / "any"):
        shutil.rmtree(folder, ignore_errors=True)


LEFT_TABLES = """
    SELECT c.relname FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_catalog.pg_constraint k ON k.conrelid = c.oid AND k.contype = 'c' AND k.conname = 'month'
    WHERE n.nspname = %s AND c.relkind = 'r' AND NOT c.relispartition AND c.relname ~ %s ORDER BY 1
"""
"""Tables of a month in the making. The loader makes and swaps them in one transaction, so one that others can see was left
by somebody; it is known by its name and by the check that the loader gives it."""


def drop_left_tables(settings: Settings, kind: TaxiKind, log: Callable[[str], object]) -> int:
    """Drop the kind's tables that were built and never swapped in; how many there were.

    Raises:
        TransientError, PermanentError: Postgres cannot be reached or refuses.
    """
    from psycopg import sql

    from taxi_assets.resources import resources

    server = resources(settings)["postgres"]._server()
    with server.transaction("housekeeping") as cursor:
        pattern = rf"^{kind.table}_\d{{4}}_\d{{2}}_new$"
        names = [name for (name,) in cursor.execute(LEFT_TABLES, [settings.postgres_schema, pattern]).fetchall()]
        for name in names:
            log(f"Dropping {settings.postgres_schema}.{name}: it was never swapped in.")
            cursor.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(settings.postgres_schema, name)))
    return len(names)


def make_storage(instance: dg.DagsterInstance) -> None:
    """Make Dagster's databases where they are missing, in one process: SQLite's do not bear two at their first start."""
    instance.get_runs(limit=1)
    instance.event_log_storage.get_materialized_partitions(dg.AssetKey("raw_trips"))
    instance.all_instigator_state()
    instance.get_daemon_statuses()


def end_dead_runs(instance: dg.DagsterInstance, log: Callable[[str], object]) -> list[str]:
    """Report the runs as failed whose process, one of `make run` or `make backfill` on this machine, is gone; their ids.

    Runs of the daemon are the daemon's to watch (run monitoring in dagster.yaml).
    """
    ended = []
    for run in instance.get_runs(dg.RunsFilter(statuses=[*UNDER_WAY, dg.DagsterRunStatus.NOT_STARTED])):
        process = run.tags.get(run_tags.PROCESS)
        if process and run_tags.is_gone(process):
            month = run.tags.get("dagster/partition", "")[:7]
            sentence = (
                f"{month or 'The run'}: the process that loaded it ended without a word (killed, or out of memory); "
                "nothing is half loaded, load it again."
            )
            log(f"Run {run.run_id[:8]}: {sentence}")
            instance.report_run_failed(run, sentence)
            ended.append(run.run_id)
    return ended


@dg.op(
    description="Removes staged files, half downloads and tables that killed processes left; ends runs that are dead."
)
def tidy(context: dg.OpExecutionContext) -> None:
    """Do it all; Postgres' part last, as it may be away."""
    from taxi_assets.core.failures import explained

    settings = get_settings()
    files, size = remove_orphans(settings, context.log.info)
    runs = end_dead_runs(context.instance, context.log.info)
    with explained("housekeeping"):
        tables = sum(drop_left_tables(settings, kind, context.log.info) for kind in settings.taxi_kinds)
    context.log.info(f"{files} files ({size / 1e6:,.1f} MB) and {tables} tables removed, {len(runs)} dead runs ended.")


@dg.job(name=HOUSEKEEPING, description="Finds and removes what killed processes left.")
def housekeeping_job() -> None:
    """The job around `tidy`."""
    tidy()


def housekeeping_schedule(settings: Settings) -> dg.ScheduleDefinition:
    """Once a day, with the reconciliation."""
    return dg.ScheduleDefinition(
        name=HOUSEKEEPING,
        job=housekeeping_job,
        cron_schedule=settings.reconcile_cron,
        execution_timezone=TIMEZONE,
        default_status=status(settings),
        tags={run_tags.STARTED_BY: f"schedule {HOUSEKEEPING}"},
    )
