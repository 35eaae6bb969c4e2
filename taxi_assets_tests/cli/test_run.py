"""`run` and `backfill` against sinks that cannot be used: before the download, and what the sinks have of a month that failed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from taxi_assets.cli.main import main
from taxi_assets.cli.sinks import require_sinks
from taxi_assets.core.month import Month
from taxi_assets.datasets.schema import YELLOW
from taxi_assets.settings import load_settings
from taxi_assets_tests.fake_publisher import FakePublisher, fake_publisher
from taxi_assets_tests.postgres_fixtures import run_sql
from taxi_assets_tests.processes import REPOSITORY, free_port

Taxi = Callable[..., tuple[int, str, str]]


@pytest.fixture
def publisher(tmp_path: Path) -> Iterator[FakePublisher]:
    with fake_publisher(tmp_path / "published") as publisher:
        publisher.publish("2021-01")
        yield publisher


@pytest.fixture
def taxi(monkeypatch, capfd, publisher: FakePublisher, postgres_url: str) -> Taxi:
    """Calls the command in this process; returns its exit code and what it prints."""

    def call(*arguments: str, **settings: str) -> tuple[int, str, str]:
        settings = {"source": publisher.source, "postgres_url": postgres_url, **settings}
        with monkeypatch.context() as environment:
            for name, value in settings.items():
                environment.setenv(f"TAXI_{name.upper()}", value)
            capfd.readouterr()
            return main(list(arguments)), *capfd.readouterr()

    return call


REFUSED = "check the user and password in TAXI_POSTGRES_URL"
UNREACHABLE = "cannot be reached"
BACKFILL = ("backfill", "--from", "2021-01", "--to", "2021-01")


@pytest.mark.parametrize(
    ("command", "fault", "sentence"),
    [
        (("run", "2021-01"), "port", UNREACHABLE),
        (BACKFILL, "host", UNREACHABLE),
        *((command, "password", REFUSED) for command in (("run", "2021-01"), BACKFILL, ("status",), ("audit",))),
    ],
)
def test_a_postgres_that_cannot_be_used_is_an_error_before_the_source_is_asked(
    taxi, publisher, postgres_url, command, fault, sentence
):
    known = conninfo_to_dict(postgres_url)
    parts = {**known, **{"port": {"port": free_port()}, "host": {"host": "nowhere.invalid"}}.get(fault, {})}
    parts["password"] = "wrong-one" if fault == "password" else parts["password"]
    code, printed, errors = taxi(*command, postgres_url=" ".join(f"{name}={value}" for name, value in parts.items()))
    (line,) = errors.splitlines()
    assert (code, printed) == (1, "")
    assert line.startswith("error: postgres_table: ")
    assert sentence in line
    assert not publisher.requests


def test_all_sinks_that_cannot_be_used_are_named_at_once(taxi, publisher, tmp_path):
    warehouse = tmp_path / "home" / "warehouse.duckdb"
    warehouse.parent.mkdir()
    warehouse.write_text("This is no database. " * 1000)
    url = f"postgresql://user:pass-word@127.0.0.1:{free_port()}/trips"
    code, _, errors = taxi("run", "2021-01", postgres_url=url, home=str(warehouse.parent))
    (line,) = errors.splitlines()
    assert code == 1
    assert line.startswith("error: postgres_table: ")
    assert " bq_table: " in line
    assert "gcs_parquet" not in line
    assert "pass-word" not in line
    assert not publisher.requests


def test_a_table_that_another_session_locks_is_no_reason_to_refuse(postgres_url, monkeypatch):
    monkeypatch.setenv("TAXI_POSTGRES_URL", postgres_url)
    table = "CREATE TABLE ny_taxi.yellow_cab_data (tpep_pickup_datetime timestamp) PARTITION BY RANGE (tpep_pickup_datetime)"
    run_sql(postgres_url, "CREATE SCHEMA ny_taxi", table)
    with psycopg.connect(postgres_url) as other:
        other.execute("LOCK TABLE ny_taxi.yellow_cab_data IN ACCESS EXCLUSIVE MODE")
        require_sinks(load_settings(), YELLOW, Month(2021, 1))


def test_after_a_failure_the_sinks_that_have_the_month_are_named(taxi, publisher, postgres_url):
    publisher.publish_page("2021-01")
    code, _, errors = taxi("run", "2021-01")
    assert code == 1
    assert "\n2021-01 was not loaded:\n  raw_trips: " in errors
    _, printed, _ = taxi("status", "--from", "2021-01", "--to", "2021-01")
    assert "    1  published, not loaded yet: 2021-01" in printed

    publisher.publish("2021-01")
    run_sql(postgres_url, "CREATE SCHEMA ny_taxi", "CREATE TABLE ny_taxi.yellow_cab_data (other int)")
    missing = (
        "incomplete: postgres_table and month_report are missing; gcs_parquet, gcs_partitioned, bq_table and daily_summary "
        "are loaded"
    )
    code, _, errors = taxi("run", "2021-01")
    assert code == 1
    assert f"\n2021-01 is {missing}:\n  postgres_table: " in errors
    code, printed, _ = taxi(*BACKFILL)
    assert code == 1
    assert f"[1/1] 2021-01 FAILED  It is still {missing}. postgres_table: " in printed
    assert f"    2021-01  It is still {missing}. postgres_table: " in printed

    run_sql(postgres_url, "DROP TABLE ny_taxi.yellow_cab_data")
    assert taxi("run", "2021-01")[0] == 0
    publisher.publish_page("2021-01")
    code, _, errors = taxi("run", "2021-01")
    assert code == 1
    assert "\n2021-01 was not loaded; the previous load is unchanged:\n  raw_trips: " in errors

    code, printed, errors = taxi("summary", "2021-01", postgres_url=f"postgresql://u:p@127.0.0.1:{free_port()}/trips")
    assert (code, errors) == (1, "")
    lines = {line.split()[0]: line for line in printed.splitlines() if line.startswith("  ")}
    assert "cannot be reached" in lines["postgres_table"]
    assert all("same as clean_trips" in lines[sink] for sink in ("gcs_parquet", "gcs_partitioned", "bq_table"))


def test_without_a_reader_of_its_output_a_command_does_its_work_in_silence(tmp_path, publisher, postgres_url, taxi):
    shutil.copy(REPOSITORY / "dagster.yaml", tmp_path)
    reader, writer = os.pipe()
    os.close(reader)
    settings = {"TAXI_SOURCE": publisher.source, "TAXI_POSTGRES_URL": postgres_url, "PYTHONPATH": str(REPOSITORY)}
    for command in (BACKFILL, ("run", "2021-01"), ("summary", "2021-01"), ("--help",)):
        done = subprocess.run(
            [sys.executable, "-m", "taxi_assets", *command],
            cwd=tmp_path,
            env={**os.environ, **settings},
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            timeout=120,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, ""), command
    os.close(writer)
    assert taxi("summary", "2021-01")[1].count("same as clean_trips") == 4
