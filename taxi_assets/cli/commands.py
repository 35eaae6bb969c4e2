"""The subcommands of `taxi-assets`."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from argparse import Namespace
from collections.abc import Callable, Mapping
from pathlib import Path

import dagster as dg

from taxi_assets.assets.checks import same_month
from taxi_assets.assets.guards import Replacing
from taxi_assets.assets.month_status import month_status, run_config
from taxi_assets.assets.reports import report_address
from taxi_assets.assets.sinks import sinks
from taxi_assets.automation.housekeeping import end_dead_runs
from taxi_assets.automation.sensors import kind_option
from taxi_assets.cli.audit import audit_months
from taxi_assets.cli.backfill import backfill, backfill_lock
from taxi_assets.cli.execute import changed_a_month, execute
from taxi_assets.cli.inspect import inspect
from taxi_assets.cli.interrupts import INTERRUPTED, Interrupts
from taxi_assets.cli.open_files import users_of
from taxi_assets.cli.sinks import failed_load, require_sinks
from taxi_assets.cli.status import status
from taxi_assets.core.errors import PermanentError, TaxiError
from taxi_assets.core.failures import run_failures
from taxi_assets.core.home import load_home
from taxi_assets.core.locks import is_locked
from taxi_assets.core.month import Month
from taxi_assets.datasets.schema import KINDS, TaxiKind
from taxi_assets.definitions import build_defs
from taxi_assets.keys import job_name, months
from taxi_assets.resources import embedded_postgres, resources
from taxi_assets.settings import Settings, load_settings

DEMO_HOME = Path(".taxi")


def _kind(options: Namespace, settings: Settings) -> TaxiKind:
    return KINDS[options.kind] if options.kind else settings.taxi_kinds[0]


def _require_partitions(kind: TaxiKind, settings: Settings, *requested: Month) -> None:
    """Raise PermanentError unless the kind is switched on and the months are partitions of it."""
    if kind not in settings.taxi_kinds:
        raise PermanentError(
            f"{kind.name} trips are switched off; to switch them on, set TAXI_KINDS={settings.kinds},{kind.name} in .env or in "
            "the environment."
        )
    first, *_, last = every = months(kind)
    for month in requested:
        if month not in every:
            raise PermanentError(
                f"{month} cannot be loaded: {kind.name} months run from {first} to {last}, the last complete month."
            )


def _run(options: Namespace, interrupts: Interrupts, settings: Settings | None = None) -> int:
    """Execute the month's job in this process."""
    settings, kind, month = _month(options, settings or load_settings())
    require_sinks(settings, kind, month)
    with dg.DagsterInstance.get() as instance:
        end_dead_runs(instance, print)
        defs, config = build_defs(settings), run_config(kind, replacing=_replacing(options))
        job = defs.resolve_job_def(job_name(kind))
        result = execute(job, instance, "make run", config, partition=month.key, interrupts=interrupts)
        if failures := run_failures(result):
            with dg.build_resources(resources(settings), instance) as opened:
                graph = defs.get_repository_def().asset_graph
                records = month_status(instance, graph, kind, settings, opened)
                outcome = failed_load(records, month, changed=changed_a_month(result))
            print(f"\n{month} {outcome}:", *failures, sep="\n  ", file=sys.stderr)
            return 1
    interrupts.sentence = INTERRUPTED  # from here on the month is loaded
    print()
    return _print_summary(settings, kind, month)


def _demo(_: Namespace, interrupts: Interrupts) -> int:
    """Load a generated month into local sinks in the project folder, whatever the environment and `.env` name."""
    local = dict.fromkeys(("postgres_url", "bucket", "lake", "bigquery_project", "bigquery_endpoint", "gcp_key_file"))
    settings = load_settings(
        profile="local", source="sample", kinds="yellow", executor="in_process", home=DEMO_HOME, **local
    )
    elsewhere = load_home().home_folder != settings.home_folder
    os.environ["TAXI_HOME"] = str(settings.home_folder)  # for Dagster's history
    code = _run(Namespace(month="2021-01", kind=None, accept_smaller=True, replace_real=False), interrupts, settings)
    if elsewhere:
        print(f"\nTAXI_HOME is another folder. For the demo's: export TAXI_HOME={settings.home_folder}")
    return code


def _replacing(options: Namespace) -> Replacing:
    return Replacing(accept_smaller=options.accept_smaller, replace_real=options.replace_real)


def _backfill(options: Namespace, interrupts: Interrupts) -> int:
    if options.jobs is not None and options.jobs < 1:
        raise PermanentError("--jobs must be at least 1.")
    jobs = options.jobs or max((os.cpu_count() or 2) // 2, 1)  # a month uses more than one CPU at times
    return backfill(*_months(options), jobs, interrupts, _replacing(options), again=options.again)


def _months(options: Namespace) -> tuple[Settings, TaxiKind, list[Month]]:
    """The settings, the kind of taxi, and the months of `--from` and `--to`, both included; by default all partitions."""
    settings = load_settings()
    kind = _kind(options, settings)
    every = months(kind)
    first, last = Month.parse(options.first or str(every[0])), Month.parse(options.last or str(every[-1]))
    _require_partitions(kind, settings, first, last)
    if last < first:
        raise PermanentError(f"{first} is after {last}; give the earlier month first.")
    return settings, kind, first.through(last)


def _month(options: Namespace, settings: Settings) -> tuple[Settings, TaxiKind, Month]:
    kind, month = _kind(options, settings), Month.parse(options.month)
    _require_partitions(kind, settings, month)
    return settings, kind, month


def _status(options: Namespace, _: Interrupts) -> int:
    return status(*_months(options), as_json=options.json)


def _audit(options: Namespace, interrupts: Interrupts) -> int:
    return audit_months(*_months(options), interrupts, repair=options.repair)


def _summary(options: Namespace, _: Interrupts) -> int:
    return _print_summary(*_month(options, load_settings()))


def _print_summary(settings: Settings, kind: TaxiKind, month: Month) -> int:
    """Print the published, clean and rejected rows, and what each sink answers now; a sink that does not is a problem."""
    managers = resources(settings)
    raw, clean, rejected = (
        managers[f"{layer}_lake"].manifest(kind.table, month) for layer in ("raw", "clean", "rejected")
    )
    if not raw or not clean or not rejected:
        option = kind_option(kind, settings)
        raise PermanentError(f"{month} of {kind.name} trips is not loaded; run: make run MONTH={month}{option}")
    origin = "GENERATED sample" if raw.extra["generated"] else raw.extra["location"]
    print(f"{kind.name} trips of {month}, {origin}\n")
    reasons = sorted(rejected.extra["reasons"].items(), key=lambda reason: -reason[1])
    lines: list[tuple[str, int | None, str]] = [
        ("raw_trips", raw.rows, "rows as published"),
        ("clean_trips", clean.rows, "kept"),
        ("rejected_trips", rejected.rows, "set aside, by reason:"),
        *((f"  {reason}", rows, "") for reason, rows in reasons),
    ]
    matches = True
    for sink in sinks(settings):
        try:
            held = managers[sink.io_manager].measure(kind.table, month)
            problems, _ = same_month(month, sink.name, clean, held)
        except TaxiError as error:
            held, problems = None, [str(error)]
        matches &= not problems
        lines.append((sink.name, held.rows if held else None, " ".join(problems) or "same as clean_trips"))
    width = max(len(name) for name, _, _ in lines)
    for name, rows, note in lines:
        print(f"  {name:<{width}}  {'-' if rows is None else format(rows, ','):>12}  {note}".rstrip())
    with contextlib.suppress(TaxiError):  # the bucket's line has the reason
        if page := report_address(managers["parquet_object"], kind, month):
            print(f"\nReport: {page}")
    return 0 if matches else 1


def _postgres_url(_: Namespace, __: Interrupts) -> int:
    settings = load_settings()
    if settings.postgres_url:
        raise PermanentError("TAXI_POSTGRES_URL is set, so the embedded Postgres is not used; connect to that server.")
    print(embedded_postgres(settings).url())
    return 0


def _stop(_: Namespace, __: Interrupts) -> int:
    postgres = embedded_postgres(load_settings())
    places = " and ".join(map(str, postgres.folders))
    running = is_locked(postgres.folder / "alive")  # also while it starts or recovers, when it does not answer
    postgres.stop()
    print(f"Stopped the embedded Postgres in {places}." if running else "The embedded Postgres was not running.")
    return 0


def _clean_data(options: Namespace, _: Interrupts) -> int:
    settings = load_settings()
    home = settings.home_folder
    if not home.exists():
        print(f"Nothing to delete: {home} does not exist.")
        return 0
    _require_unused(home)
    outside = "".join(f" and {path}" for path in embedded_postgres(settings).folders if not path.is_relative_to(home))
    question = f"Delete everything in {home}{outside} (months, Postgres, warehouse, Dagster's history)? [y/N] "
    if not options.yes and not _confirmed(question):
        print("Nothing was deleted.")
        return 1
    with backfill_lock(home):
        _require_unused(home)
        embedded_postgres(settings).remove()  # its data may be in another folder, if its user cannot read this one
        deleted = Path(tempfile.mkdtemp(prefix=".deleted-", dir=home))
        for path in home.iterdir():  # moved first: a process that uses the folder adds nothing to what is being deleted
            if path != deleted:
                path.rename(deleted / path.name)
        shutil.rmtree(deleted)
    with contextlib.suppress(OSError):  # a mount point, or not empty: such a process made a file in it
        home.rmdir()
    print(f"Deleted {home}.")
    return 0


def _require_unused(home: Path) -> None:
    """Raise PermanentError if a process uses the folder, other than the embedded Postgres, which is stopped."""
    users = users_of(home, except_in=home / "postgres")
    if not users and is_locked(load_home().history_lock):
        users = ["another process"]
    if users:
        raise PermanentError(
            f"{home} is in use by {'; '.join(users)}. Nothing was deleted; stop it, then run the command again."
        )


def _confirmed(question: str) -> bool:
    """Ask on the terminal.

    Raises:
        PermanentError: there is none.
    """
    print(question, end="", flush=True)
    if not (answer := sys.stdin.readline()):
        print()
        raise PermanentError(
            "Nothing was deleted: nobody answered the question; to delete without it, add --yes (make clean-data YES=1)."
        )
    return answer.strip().lower() in ("y", "yes")


COMMANDS: Mapping[str, Callable[[Namespace, Interrupts], int]] = {
    "run": _run,
    "demo": _demo,
    "backfill": _backfill,
    "status": _status,
    "audit": _audit,
    "summary": _summary,
    "inspect": inspect,
    "postgres-url": _postgres_url,
    "stop": _stop,
    "clean-data": _clean_data,
}
