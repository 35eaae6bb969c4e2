"""The command `taxi-assets`: its arguments, and the folder it works in. What the subcommands do is in `commands`."""

from __future__ import annotations

import argparse
import os
import sys
import textwrap
from pathlib import Path
from typing import NoReturn

from taxi_assets.cli.interrupts import INTERRUPTED, LOAD_INTERRUPTED, Interrupts
from taxi_assets.core.errors import PermanentError, TaxiError
from taxi_assets.core.output import open_output
from taxi_assets.datasets.schema import KINDS

DESCRIPTION = """
Load New York's taxi trip records, month by month, into Postgres, a bucket and a warehouse.

Settings are environment variables TAXI_* or lines of .env in the project folder; .env.example
lists them. Everything else is Dagster's own command line: dagster dev, dagster asset materialize -m
taxi_assets.definitions.
"""
EPILOG = """
examples:
  TAXI_SOURCE=sample taxi-assets run 2021-01            a generated month, without a network
  taxi-assets run 2021-01                               January 2021 from the publisher
  taxi-assets backfill --from 2019-01 --to 2020-12      two years; run it again to resume
  psql "$(taxi-assets postgres-url)"                    query the embedded Postgres

exit codes: 0 success, 1 failure, 2 usage error, 130 interrupted

DAGSTER_HOME is the project folder, with dagster.yaml and .env. If it is not set, the checkout that
contains the working directory or this package is used.
"""
BACKFILL = """
Load a range of months, heaviest first, each in a run of its own.

Months that are up to date are skipped, so run the same command again to resume a backfill that was
interrupted or killed, or in which months failed. Ctrl-C finishes the months in progress; a second
Ctrl-C aborts them.
"""

BACKFILL_MONTHS = (
    "backfill needs the first and the last month: make backfill FROM=2021-01 TO=2021-03, or "
    "taxi-assets backfill --from 2021-01 --to 2021-03"
)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    main = _Parser("taxi-assets", description=DESCRIPTION, epilog=EPILOG, formatter_class=_Text)
    commands = main.add_subparsers(dest="command", required=True, metavar="command")

    def command(name: str, summary: str, description: str = "") -> argparse.ArgumentParser:
        return commands.add_parser(name, help=summary, description=description or f"{summary}.", formatter_class=_Text)

    run = command(
        "run",
        "load a month into every sink, with all checks",
        "Load a month into every sink, with all checks; then query every sink and print the row counts.",
    )
    command(
        "demo",
        "load a generated month into local sinks",
        "Load a generated month into the embedded Postgres, a directory and DuckDB, all in .taxi in the project folder, whatever "
        "the environment and .env name; then query every sink and print the row counts.",
    )
    backfill = command("backfill", "load a range of months; run it again to resume", BACKFILL)
    status = command(
        "status",
        "show what each sink has of each month, and what the next backfill would do",
        "Check months at the source, compare them with what the lake and the sinks hold, and print a grid with one mark for each "
        "month and sink, the reasons, and what a backfill of these months would do.",
    )
    audit = command(
        "audit",
        "measure loaded months in every sink, against the lake",
        "Count and sum the rows of loaded months in every sink, compare them with the lake, and print what differs. The exit "
        "code is 1 if a sink differs and was not loaded again.",
    )
    audit.add_argument("--repair", action="store_true", help="load again what differs")
    summary = command(
        "summary",
        "print a month's row counts in every sink",
        "Query every sink for a month's rows, and print the counts and the reasons of rejected rows. The exit code is 1 if a "
        "sink differs from clean_trips.",
    )
    inspect = command(
        "inspect",
        "show what a file of trips is, without loading it",
        "Read a file (CSV, Parquet, zip) or a folder of part files, and print its dataset, format, columns and what they are "
        "loaded as, its rows, first and last pickup, and rejects by reason. If something stands in the way of loading it, the "
        "exit code is 1, and the setting that helps is named.",
    )
    inspect.add_argument("file", help="a file, or a folder of part files")
    inspect.add_argument("--month", metavar="YYYY-MM", help="the month it is loaded as (default: that of most trips)")
    inspect.add_argument("--kind", choices=list(KINDS), help="the dataset it is loaded as (default: by its columns)")
    backfill.add_argument("--from", dest="first", metavar="YYYY-MM", help="first month (required)")
    backfill.add_argument("--to", dest="last", metavar="YYYY-MM", help="last month (required)")
    backfill.add_argument("--jobs", type=int, help="months loaded at a time (default: half the number of CPUs)")
    backfill.add_argument("--again", action="store_true", help="reload months that are up to date, too")
    for each in (run, backfill):
        each.add_argument("--accept-smaller", action="store_true", help="load a month that lost over 10 %% of its rows")
        each.add_argument("--replace-real", action="store_true", help="replace real trips by generated ones")
    for each in (run, summary):
        each.add_argument("month", help="the month, YYYY-MM")
    for each in (status, audit):
        each.add_argument("--from", dest="first", metavar="YYYY-MM", help="first month (default: the first partition)")
        each.add_argument("--to", dest="last", metavar="YYYY-MM", help="last month (default: the last complete month)")
    status.add_argument("--json", action="store_true", help="print the months, their states and sinks as JSON")
    for each in (run, backfill, status, audit, summary):
        each.add_argument("--kind", choices=list(KINDS), help="kind of taxi (default: the first of TAXI_KINDS)")
    command("postgres-url", "start the embedded Postgres if necessary, and print its URL")
    command("stop", "stop the embedded Postgres")
    clean = command(
        "clean-data",
        "delete everything written at run time",
        "Delete TAXI_HOME: downloads, months, the embedded Postgres, the warehouse file and Dagster's history. Tables and "
        "objects on servers of your own stay.",
    )
    clean.add_argument("--yes", action="store_true", help="do not ask for confirmation")
    return main


class _Parser(argparse.ArgumentParser):
    """Prints a usage error as one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message[:1].lower()}{message[1:].rstrip('.')}; see {self.prog} --help.\n")


class _Text(argparse.RawDescriptionHelpFormatter):
    """Keeps the lines of descriptions as they are written."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28, width=100)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        text = text if "\n" in text else textwrap.fill(text, width)
        return super()._fill_text(text.strip(), width, indent)


def main(arguments: list[str] | None = None) -> int:
    """Run a subcommand and return its exit code: 0 success, 1 failure, 2 usage error, 130 interrupted."""
    if arguments is None and sys.stdout:  # the process is this command's
        sys.stdout = open_output(1)
    options = (usage := parser()).parse_args(arguments)
    if options.command == "backfill" and not (options.first and options.last):
        usage.exit(2, f"error: {BACKFILL_MONTHS}.\n")
    loads = options.command in ("run", "demo", "backfill") or getattr(options, "repair", False)
    try:
        with Interrupts(LOAD_INTERRUPTED if loads else INTERRUPTED) as interrupts:
            os.environ["DAGSTER_HOME"] = str(dagster_home())
            # Loads the definitions, which read the settings; --help does not need them.
            from taxi_assets.cli import commands

            return commands.COMMANDS[options.command](options, interrupts)
    except TaxiError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(INTERRUPTED, file=sys.stderr)
        return 130


def dagster_home() -> Path:
    """Return DAGSTER_HOME; if it is not set, the checkout that contains the working directory or this package.

    Raises:
        PermanentError: DAGSTER_HOME names no folder, or it is not set and there is no checkout.
    """
    if home := os.environ.get("DAGSTER_HOME"):
        if not Path(home).is_dir():
            raise PermanentError(f"DAGSTER_HOME={home}: there is no such folder; create it or set another one.")
        return Path(home).resolve()
    here = Path.cwd()
    for folder in (here, *here.parents, Path(__file__).resolve().parents[2]):
        if all((folder / name).exists() for name in ("dagster.yaml", "pyproject.toml", "taxi_assets")):
            return folder
    raise PermanentError(
        "DAGSTER_HOME is not set; set it to the folder for .env, dagster.yaml and data, for example: "
        "export DAGSTER_HOME=$PWD"
    )
