"""The complete deployment: webserver, daemon and code server with a new instance and a local publisher.

One scenario in steps, because each start takes seconds: a month appears and is loaded; it is replaced and the sinks follow; the
reconciliation finds months that the sensor does not check; the API launches a month and a backfill, in which one month's server
fails twice and one run's process is killed, and another one of months that are not published yet; alerts are sent.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import duckdb
import psycopg
import pyarrow.parquet as pq
import pytest
import requests

from taxi_assets.core.month import Month
from taxi_assets.datasets.schema import YELLOW
from taxi_assets.keys import monthly
from taxi_assets.sinks.postgres.embedded import EmbeddedPostgres
from taxi_assets_tests.alert_servers import webhook
from taxi_assets_tests.fake_publisher import fake_publisher
from taxi_assets_tests.processes import REPOSITORY, free_port, running, until
from taxi_assets_tests.sample_facts import expected

NEWEST, OLDER, *EARLY = (monthly(YELLOW).get_partition_keys()[i][:7] for i in (-1, -8, -3, -2))
BROKEN = "2018-01"
MONTHS = [f"2019-{month:02d}" for month in range(1, 8)]
WORKSPACE = f"""
load_from:
  - python_module:
      module_name: taxi_assets.definitions
      working_directory: {REPOSITORY}
"""
SELECTOR = {"repositoryLocationName": "taxi_assets.definitions", "repositoryName": "__repository__"}
START_SENSOR = """mutation($s: SensorSelector!) { startSensor(sensorSelector: $s) {
  __typename ... on Sensor { sensorState { status } } } }"""
START_SCHEDULE = """mutation($s: ScheduleSelector!) { startSchedule(scheduleSelector: $s) {
  __typename ... on ScheduleStateResult { scheduleState { status } } } }"""


class Machine:
    """The processes, as an operator sees them: an address, an instance to read, and the sinks."""

    def __init__(self, home: Path, address: str, postgres: EmbeddedPostgres) -> None:
        self.home, self.address, self.postgres = home, address, postgres

    def ask(self, query: str, **variables: object) -> dict:
        body = {"query": query, "variables": variables}
        reply = requests.post(f"{self.address}/graphql", json=body, timeout=60).json()
        assert "errors" not in reply, reply
        return reply["data"]

    def runs(self, month: str | None = None) -> list[dg.DagsterRun]:
        with dg.DagsterInstance.from_config(str(self.home)) as instance:
            tags = {"dagster/partition": f"{month}-01"} if month else {}
            return list(instance.get_runs(dg.RunsFilter(tags=tags)))

    def wait_for_run(self, month: str, count: int = 1) -> dg.DagsterRun:
        """The newest run of the month, when so many have succeeded."""

        def succeeded() -> list[dg.DagsterRun]:
            runs = self.runs(month)
            assert not any(run.status is dg.DagsterRunStatus.FAILURE for run in runs), self.log()
            good = [run for run in runs if run.status is dg.DagsterRunStatus.SUCCESS]
            return good if len(good) >= count else []

        return until(succeeded, 180, f"run {count} of {month}; {self.log()}")[0]

    def history(self) -> dict[str, int]:
        """How often each month was loaded into Postgres, as its history has it."""
        query = "select to_char(month, 'YYYY-MM'), count(*) from ny_taxi.load_history group by 1"
        with psycopg.connect(self.postgres.url()) as connection:
            return dict(connection.execute(query).fetchall())

    def log(self) -> str:
        return f"see {self.home / 'dagster.log'}"

    def rows(self, month: str) -> dict[str, int]:
        """The month's rows in every sink, read with its own client."""
        start, end = Month.parse(month).start, Month.parse(month).end
        where = "from ny_taxi.yellow_cab_data where tpep_pickup_datetime >= {0} and tpep_pickup_datetime < {0}"
        with psycopg.connect(self.postgres.url()) as connection:
            held = connection.execute(f"select count(*) {where.format('%s')}", [start, end]).fetchone()
        bucket = self.home / ".taxi" / "bucket" / "nyc_taxi_data"
        with duckdb.connect(str(self.home / ".taxi" / "warehouse.duckdb"), read_only=True) as connection:
            stored = connection.execute(f"select count(*) {where.format('?')}", [start, end]).fetchall()[0]
        days = [
            pq.read_metadata(file).num_rows
            for file in (bucket / "yellow_tripdata_by_day").glob(f"tpep_pickup_date={month}-*/*.parquet")
        ]
        return {
            "postgres_table": held[0],
            "gcs_parquet": pq.read_metadata(bucket / f"yellow_tripdata_{month}.parquet").num_rows,
            "gcs_partitioned": sum(days),
            "bq_table": stored[0],
        }


def kept(month: str, rows: int) -> dict[str, int]:
    """The expected rows of a published month in every sink."""
    clean = expected(YELLOW, Month.parse(month), rows).expected_kept
    return dict.fromkeys(("postgres_table", "gcs_parquet", "gcs_partitioned", "bq_table"), clean)


@contextlib.contextmanager
def machine(home: Path, config: str | None = None, **settings: object) -> Generator[Machine, None, None]:
    """`dagster dev` over a fresh instance in `home`, with this dagster.yaml instead of the project's."""
    (home / "dagster.yaml").write_text(config or (REPOSITORY / "dagster.yaml").read_text())
    (home / "workspace.yaml").write_text(WORKSPACE)
    port = free_port()
    env = {"DAGSTER_HOME": str(home), "PYTHONPATH": str(REPOSITORY)}
    env |= {f"TAXI_{name.upper()}": str(value) for name, value in settings.items()}
    postgres = EmbeddedPostgres(home / ".taxi" / "postgres")
    command = ("-m", "dagster", "dev", "-h", "127.0.0.1", "-p", str(port), "-w", "workspace.yaml")
    try:
        with running(*command, env=env, cwd=home, log=home / "dagster.log"):
            made = Machine(home, f"http://127.0.0.1:{port}", postgres)

            def answers() -> bool:
                try:
                    return requests.get(f"{made.address}/server_info", timeout=2).ok
                except requests.RequestException:
                    return False

            until(answers, 90, f"the webserver; {made.log()}")
            yield made
    finally:
        postgres.remove()


def client(here: Machine, *months: str) -> subprocess.Popen[str]:
    """The documented Python client."""
    command = [sys.executable, str(REPOSITORY / "docs" / "launch.py"), here.address, *months]
    return subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def documented_curl(address: str, month: str) -> str:
    """The command of docs/operations.md, for this webserver and month."""
    (block,) = re.findall(r"```sh\n(curl .*?)```", (REPOSITORY / "docs" / "operations.md").read_text(), re.DOTALL)
    return block.replace("http://127.0.0.1:3000", address).replace("2021-01", month)


@dataclass(frozen=True)
class AtWork:
    """A run that executes steps in a separate process."""

    run_id: str
    month: str
    pid: int


def at_work(here: Machine, months: list[str]) -> AtWork | None:
    """A run of one of the months whose process is at its steps."""
    with dg.DagsterInstance.from_config(str(here.home)) as instance:
        for run in instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])):
            for entry in instance.all_logs(run.run_id, of_type={dg.DagsterEventType.ENGINE_EVENT}):
                pid = re.search(r"Executing steps in process \(pid: (\d+)\)", entry.user_message or entry.message)
                if pid and (month := run.tags.get("dagster/partition", "")[:7]) in months:
                    return AtWork(run.run_id, month, int(pid[1]))
    return None


@pytest.mark.long
def test_it_runs_itself(tmp_path: Path, monkeypatch):
    # Dagster resolves the storage's folder in dagster.yaml relative to the working directory
    monkeypatch.chdir(tmp_path)
    with fake_publisher(tmp_path / "published") as publisher, webhook() as hook:
        settings = {
            "sensor_seconds": 5,
            "reconcile_cron": "* * * * *",
            "reconcile_months": 12,
            "alert_webhook": hook.url,
        }
        with machine(tmp_path, source=publisher.source, **settings) as here:
            # a month appears: the sensor, turned on over GraphQL, requests a run of it
            started = here.ask(START_SENSOR, s={**SELECTOR, "sensorName": "new_yellow_months"})["startSensor"]
            assert started["sensorState"]["status"] == "RUNNING"
            publisher.publish(NEWEST, 300)
            first = here.wait_for_run(NEWEST)
            assert first.tags["taxi_assets/started_by"] == "sensor new_yellow_months"
            assert here.rows(NEWEST) == kept(NEWEST, 300)

            # it is republished with changes: the sinks are reloaded
            publisher.publish(NEWEST, 500, variant=1)
            second = here.wait_for_run(NEWEST, count=2)
            assert second.tags["taxi_assets/source_version"] != first.tags["taxi_assets/source_version"]
            assert here.rows(NEWEST) == kept(NEWEST, 500)

            # a month that the sensor leaves alone is for the reconciliation, switched on over GraphQL
            publisher.publish(OLDER, 300)
            started = here.ask(START_SCHEDULE, s={**SELECTOR, "scheduleName": "reconcile_yellow"})["startSchedule"]
            assert started["scheduleState"]["status"] == "RUNNING"

            # meanwhile the API: a month by curl as documented, a range by the documented client, a month that must fail
            for month in MONTHS:
                publisher.publish(month, 300)
            publisher.fail(MONTHS[3], 2)
            publisher.publish_page(BROKEN)
            curl = documented_curl(here.address, MONTHS[0])
            said = subprocess.run(curl, shell=True, capture_output=True, text=True, check=True).stdout
            assert "LaunchRunSuccess" in said
            with (
                client(here, MONTHS[1], MONTHS[-1]) as backfill,
                client(here, BROKEN) as broken,
                client(here, *EARLY) as early,
            ):
                victim = until(lambda: at_work(here, MONTHS[1:]), 240, f"a run of the backfill; {here.log()}")
                os.kill(victim.pid, signal.SIGKILL)
                printed = backfill.communicate(timeout=400)[0]
                assert backfill.returncode == 0, printed
                printed = broken.communicate(timeout=120)[0]
                assert broken.returncode == 1
                assert re.search(r"^FAILURE\nraw_trips: .* web page", printed, re.M), printed
                # a backfill of months that are not published yet: no run fails, and the client does not report success
                printed = early.communicate(timeout=120)[0]
                assert early.returncode == 1
                assert "not published yet" in printed
                assert {run.status for month in EARLY for run in here.runs(month)} == {dg.DagsterRunStatus.SUCCESS}
            here.wait_for_run(MONTHS[0])
            reconciled = here.wait_for_run(OLDER)
            assert reconciled.tags["taxi_assets/started_by"] == "schedule reconcile_yellow"

            # every month is in every sink, once; only the killed run was retried
            for month in (*MONTHS, OLDER):
                assert here.rows(month) == kept(month, 300), month
            assert publisher.asked(MONTHS[3]) == 3
            failed = {run.run_id for run in here.runs() if run.status is dg.DagsterRunStatus.FAILURE}
            assert victim.run_id in failed
            assert len(failed) == 2
            assert len(here.runs(NEWEST)) == 2
            assert here.history() == {month: 1 + (month == NEWEST) for month in (*MONTHS, OLDER, NEWEST)}

            with psycopg.connect(here.postgres.url()) as connection:
                starters = connection.execute("select distinct started_by from ny_taxi.load_history").fetchall()
            assert {who for (who,) in starters} == {
                "sensor new_yellow_months",
                "schedule reconcile_yellow",
                "curl",
                "docs/launch.py",
            }

            # only failures that need an operator are reported
            (message,) = until(lambda: hook.posted, 90, f"the alert; {here.log()}")
            assert f"raw_trips failed: {BROKEN}" in message["text"]
            assert "web page" in message["text"]
