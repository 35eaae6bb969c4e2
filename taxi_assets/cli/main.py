"""The command line behind `make`: load a month and show what became of it, stop what was started, remove the data.

Everything else is Dagster's own: `dagster dev`, `dagster asset materialize`.
"""

from __future__ import annotations

import argparse
import shutil
import sys

from taxi_assets.core import run_tags
from taxi_assets.core.errors import PermanentError, TaxiError
from taxi_assets.core.month import Month
from taxi_assets.datasets.schema import KINDS, TaxiKind
from taxi_assets.settings import get_settings


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit code: 0 done, 1 failed, 2 asked for wrongly."""
    parser = argparse.ArgumentParser(prog="python -m taxi_assets", description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(required=True, metavar="command")
    run = commands.add_parser("run", help="load a month into every sink, with all checks")
    summary = commands.add_parser("summary", help="show what a month holds in every sink")
    for command, function in ((run, _run), (summary, _summary)):
        command.add_argument("month", help="YYYY-MM")
        command.add_argument("--kind", choices=list(KINDS), help="kind of taxi (default: the first of TAXI_KINDS)")
        command.set_defaults(function=function)
    backfill = commands.add_parser("backfill", help="load many months, heaviest first; the same command goes on")
    backfill.add_argument("--from", dest="first", required=True, metavar="YYYY-MM", help="first month")
    backfill.add_argument("--to", dest="last", required=True, metavar="YYYY-MM", help="last month")
    backfill.add_argument("--jobs", type=int, help="months at a time (default: half the processors)")
    backfill.add_argument("--kind", choices=list(KINDS), help="kind of taxi (default: the first of TAXI_KINDS)")
    backfill.add_argument("--again", action="store_true", help="load also what is up to date")
    backfill.set_defaults(function=_backfill)
    commands.add_parser("init", help="make Dagster's storage, before several processes use it").set_defaults(
        function=_init
    )
    commands.add_parser("stop", help="stop the embedded Postgres").set_defaults(function=_stop)
    clean = commands.add_parser("clean-data", help="remove everything written at run time")
    clean.add_argument("--yes", action="store_true", help="do not ask")
    clean.set_defaults(function=_clean_data)
    asked = parser.parse_args(arguments)
    try:
        return asked.function(asked)
    except TaxiError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _kind(asked: argparse.Namespace) -> TaxiKind:
    return KINDS[asked.kind] if asked.kind else get_settings().taxi_kinds[0]


def _require_loadable(kind: TaxiKind, *months: Month) -> None:
    """Refuse months that are no partitions of a kind that is switched on."""
    if kind not in get_settings().taxi_kinds:
        raise PermanentError(f"{kind.name} trips are switched off; set TAXI_KINDS={get_settings().kinds},{kind.name}.")
    from taxi_assets.core.partitions import monthly

    keys = monthly(kind).get_partition_keys()
    for month in months:
        if month.key not in keys:
            raise PermanentError(
                f"{month} cannot be loaded: {kind.name} months run from {keys[0][:7]} to {keys[-1][:7]}, the last that is "
                "over."
            )


def _run(asked: argparse.Namespace) -> int:
    """Launch the month's job in this process."""
    month, kind = Month.parse(asked.month), _kind(asked)
    _require_loadable(kind, month)
    import dagster as dg

    from taxi_assets.assets.jobs import job_name
    from taxi_assets.core.failures import run_failures
    from taxi_assets.definitions import defs

    with dg.DagsterInstance.get() as instance:
        result = defs.resolve_job_def(job_name(kind)).execute_in_process(
            partition_key=month.key,
            instance=instance,
            raise_on_error=False,
            run_config={"loggers": {"terminal": {}}},
            tags={run_tags.STARTED_BY: "make run", run_tags.PROCESS: run_tags.this_process()},
        )
    failures = run_failures(result)
    if failures:
        print(f"\n{month} was not loaded:", file=sys.stderr)
        for line in failures:
            print(f"  {line}", file=sys.stderr)
        return 1
    print()
    return _print_summary(month, kind)


def _init(_: argparse.Namespace) -> int:
    import dagster as dg

    from taxi_assets.automation.housekeeping import make_storage

    with dg.DagsterInstance.get() as instance:
        make_storage(instance)
    return 0


def _backfill(asked: argparse.Namespace) -> int:
    from taxi_assets.cli.backfill import backfill, default_jobs, months_between

    first, last, kind = Month.parse(asked.first), Month.parse(asked.last), _kind(asked)
    _require_loadable(kind, first, last)
    if asked.jobs is not None and asked.jobs < 1:
        raise PermanentError("--jobs must be at least 1.")
    return backfill(kind, months_between(first, last), asked.jobs or default_jobs(), again=asked.again)


def _summary(asked: argparse.Namespace) -> int:
    return _print_summary(Month.parse(asked.month), _kind(asked))


def _print_summary(month: Month, kind: TaxiKind) -> int:
    """Print what came in, what was rejected and why, and what each sink holds when asked now."""
    from taxi_assets.assets.checks import same_month
    from taxi_assets.assets.reports import report_address
    from taxi_assets.assets.sinks import sinks
    from taxi_assets.resources import resources

    managers = resources(get_settings())
    raw, clean, rejected = (managers[f"{layer}_lake"].read_facts(kind, month) for layer in ("raw", "clean", "rejected"))
    if not raw or not clean or not rejected:
        raise PermanentError(f"{month} of {kind.name} trips is not loaded; run: make run MONTH={month}")
    origin = "GENERATED sample" if raw.extra["generated"] else raw.extra["location"]
    print(f"{kind.name} trips of {month}, {origin}\n")
    lines: list[tuple[str, int | None, str]] = [
        ("raw_trips", raw.rows, "rows as published"),
        ("clean_trips", clean.rows, "kept"),
        ("rejected_trips", rejected.rows, "kept aside, by reason:"),
    ]
    lines += [
        (f"  {reason}", rows, "") for reason, rows in sorted(rejected.extra["reasons"].items(), key=lambda r: -r[1])
    ]
    good = True
    for sink in sinks(get_settings()):
        found = managers[sink.io_manager].read_facts(kind, month)
        problems, _ = same_month(month, sink.name, clean, found)
        good &= not problems
        lines.append((sink.name, found.rows if found else None, " ".join(problems) or "same as clean_trips"))
    width = max(len(name) for name, _, _ in lines)
    for name, rows, note in lines:
        print(f"  {name:<{width}}  {'-' if rows is None else format(rows, ','):>12}  {note}".rstrip())
    if page := report_address(managers["parquet_object"], kind, month):
        print(f"\nThe month on a page: {page}")
    return 0 if good else 1


def _stop(_: argparse.Namespace) -> int:
    from taxi_assets.sinks.postgres.embedded import EmbeddedPostgres

    EmbeddedPostgres(get_settings().home_folder / "postgres").stop()
    return 0


def _clean_data(asked: argparse.Namespace) -> int:
    home = get_settings().home_folder
    if not home.exists():
        print(f"Nothing to remove: {home} does not exist.")
        return 0
    if (
        not asked.yes
        and input(f"Remove everything under {home} (trips, warehouse, Dagster's history)? [y/N] ").lower() != "y"
    ):
        print("Nothing was removed.")
        return 1
    from taxi_assets.sinks.postgres.embedded import EmbeddedPostgres

    EmbeddedPostgres(home / "postgres").remove()  # it may lie elsewhere when root's folder is closed to its user
    shutil.rmtree(home)
    print(f"Removed {home}.")
    return 0
