"""How each command of the pages is tested: by `make verify-docs`, unchanged or with a part replaced, or elsewhere.

The first row whose pattern matches the beginning of a command applies. A command without a row fails a test, and so does a
row without a command.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from taxi_assets_tests.pages.commands import Command


@dataclass(frozen=True)
class Run:
    """It is run in a copy of the project; `instead` has replacements for parts that a test cannot run."""

    instead: dict[str, str] = field(default_factory=dict)
    stdin: str = ""
    ui: bool = False
    """Whether it needs the UI to be up."""


@dataclass(frozen=True)
class Keep:
    """It sets up the shell for all later commands."""


@dataclass(frozen=True)
class Serve:
    """It is started, and must respond on its port (`{port}`) until another server replaces it."""

    extra: str = ""


@dataclass(frozen=True)
class Elsewhere:
    """It is not run here: `by` names the test that runs it, or why none can."""

    by: str


How = Run | Keep | Serve | Elsewhere

TWO_MONTHS = {"2019-01 2020-12": "2019-01 2019-02", "TO=2020-12": "TO=2019-03", "...2019-12-01": "...2019-03-01"}
STACK = Elsewhere("Docker: deploy/verify (make verify-deploy)")
CLOUD = Elsewhere("needs a Google Cloud project")
TERRAFORM = Elsewhere("needs a project to apply to; the configuration: make verify-terraform")
LONG = Elsewhere("takes long, and a quiet machine; its parts: test_benchmarks.py")

TABLE: tuple[tuple[str, How], ...] = (
    # make targets
    (r"make (demo|status|audit|summary|stop|help)\b", Run()),
    (r"make (test|lint)$", Elsewhere(".ci/run, on every change")),
    (r"make run MONTH=2021-01( ACCEPT_SMALLER=1)?$", Run()),
    (r"make run MONTH=2021-01 SOURCE=datatalks$", Run({"datatalks": "'{published}'"})),
    (r"make run MONTH=2021-01 SOURCE='files/", Run()),
    (r"\.venv/bin/taxi-assets inspect files/", Run()),
    (r"make backfill FROM=2019-01 TO=2020-12 JOBS=2$", Run(TWO_MONTHS)),
    (
        r"make backfill( FROM=2019-01 TO=2020-12 \[JOBS=2\]( \[AGAIN=1\])?| FROM=M TO=[MN]( AGAIN=1)?)?$",
        Elsewhere("a form to fill in; run above"),
    ),
    (r"make run( MONTH=M)?$", Elsewhere("a form to fill in; run above")),
    (r"make run MONTH=2021-01 SOURCE='old/", Elsewhere("needs an earlier version of a published file: test_guards.py")),
    (r"make PYTHON=python3\.12 demo$", Elsewhere("needs another interpreter: .github/workflows/ci.yml")),
    (r"make test ARGS=|\.venv/bin/python -m pytest ", Elsewhere(".ci/run, on every change")),
    (r"make (lock|pictures)$", Elsewhere("needs uv, or Chromium")),
    (r"\.venv/bin/python (docs|taxi_assets_tests|terraform)/\S+\.py$", Run()),
    (r"make dev$", Serve()),
    (r"make clean-data$", Run(stdin="y\n")),
    (r"make emulators", Elsewhere("a Python 3.13 with the emulator: test_cloud_profile.py")),
    (r"make chaos", Elsewhere("runs for minutes; one fault each: test_contract.py")),
    (r"make simulate", Elsewhere("runs for a minute; a part of it: simulation/test_simulation.py")),
    (r"make bench|python -m cProfile ", LONG),
    (r"make verify-docs$", Elsewhere("this")),
    (r"make (up|verify-deploy)\b", STACK),
    # Dagster and Python
    (r"export DAGSTER_HOME=", Keep()),
    (r"(dagster|dg) dev$", Serve(" --port {port}")),
    (r"dg (check defs|list defs|list envs)$", Run()),
    (r"dg launch ", Run({"2021-01-01": "2021-02-01"})),
    (r"dagster asset materialize -m taxi_assets\.definitions --select 'clean_trips\*,rejected_trips'", Run()),
    # generated trips, as TAXI_SOURCE is here, may not replace the month that came from a file
    (r"dagster asset materialize\b", Run({"2021-01-01": "2021-02-01"})),
    (r"dagster (definitions validate|job execute)\b", Run()),
    (r"TAXI_MONTHS_PER_RUN=all dagster asset materialize", Run(TWO_MONTHS)),
    (r"TAXI_DAILY=true dagster asset materialize", Run()),
    (r"dagster instance migrate$", STACK),
    (r"dagster instance concurrency set ", Run()),
    (r"\.venv/bin/python -c ", Run()),
    (r"python docs/(data_tables|architecture)\.py$", Run()),
    (r"python terraform/schemas/generate\.py$", Run()),
    (r"python docs/launch\.py ", Run(TWO_MONTHS, ui=True)),
    (r"python -m benchmarks\.bench --list$", Run()),
    (r"curl -s http://127\.0\.0\.1:3000/graphql ", Run(ui=True)),
    (r'psql "', Run(stdin="SELECT count(*) FROM ny_taxi.yellow_cab_data")),
    (r"echo 'TAXI_POSTGRES_URL=", Run({"postgresql://user:password@host:5432/database": "{postgres}"})),
    # not runnable in a copy of the project
    (r"COPY \(SELECT ", Elsewhere("DuckDB: publisher/test_source_files.py")),
    (
        r"(?s)SELECT zone, count.*2015-01-01",
        Elsewhere("needs outlines and trips of 2015: integration/test_zone_ids.py"),
    ),
    (r"(?s)SELECT base_name", Elsewhere("needs a lookup of bases: integration/test_taxi_zones.py")),
    (r"docker |for database in trips dagster;|new=\$\(openssl|sed -i |echo TAXI_EXECUTOR=celery", STACK),
    (r"git pull", Elsewhere("needs a newer release")),
    (r"ssh ", Elsewhere("needs another machine")),
    (r"gcloud |bq |deploy/gcp/release", CLOUD),
    (r"terraform |cd terraform$|cp backend\.gcs|cp terraform\.tfvars|export TF_VAR_|instance=\$\(terraform", TERRAFORM),
    # code and queries
    (r"from taxi_assets\.definitions import defs\n\ntrips = ", Run()),
    (r"SELECT ", Run()),
)
WORKED_EXAMPLES = {"docs/extending.md": "test_extending_docs.py", "docs/sinks.md": "test_sinks_docs.py"}
"""The pages whose Python code belongs to worked examples, and the tests that apply and run them."""


def how(command: Command) -> How:
    """Return how a command is tested.

    Raises:
        LookupError: no row matches; the message says what to do.
    """
    if command.page in WORKED_EXAMPLES and command.language == "python":
        return Elsewhere(WORKED_EXAMPLES[command.page])
    for pattern, way in TABLE:
        if re.match(pattern, command.text):
            return way
    place = f"{command.page}:{command.line}"
    raise LookupError(f"{place}: say in taxi_assets_tests/pages/table.py how this is tried: {command.text}")
