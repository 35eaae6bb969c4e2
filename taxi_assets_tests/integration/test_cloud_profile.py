"""The cloud profile over the wire, as `make emulators` sets it up: every sink is a server, and no account is needed."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pyarrow.parquet as pq
import pytest
import requests
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery

from taxi_assets.core.month import Month
from taxi_assets.datasets.schema import YELLOW
from taxi_assets.sinks.postgres.embedded import EmbeddedPostgres
from taxi_assets_tests.emulators.bigquery import Unavailable, prepare
from taxi_assets_tests.graph import instance, load
from taxi_assets_tests.processes import REPOSITORY, free_port
from taxi_assets_tests.sample_facts import expected

__all__ = ["instance"]

SINKS = ("postgres_table", "gcs_parquet", "gcs_partitioned", "bq_table")
ROWS = 5_000
NAMED = "SELECT count(zone) FROM ny_taxi.yellow_cab_data LEFT JOIN ny_taxi.taxi_zones ON locationid = pulocationid"
"""Trips whose pickup has a name: every generated one."""


@pytest.fixture
def printed(tmp_path: Path) -> Iterator[str]:
    """The line that `make emulators` prints."""
    try:
        prepare()
    except Unavailable as reason:
        pytest.skip(str(reason))
    command = [sys.executable, "-m", "taxi_assets_tests.emulators", str(tmp_path / "emulators")]
    ports = [str(free_port()) for _ in range(3)]
    try:
        for _ in range(2):  # the second time they run already
            told = subprocess.run([*command, "--ports", *ports], cwd=REPOSITORY, stdout=subprocess.PIPE, check=True)
        yield told.stdout.decode()
    finally:
        subprocess.run([*command, "--stop"], cwd=REPOSITORY, check=True)
        EmbeddedPostgres(tmp_path / "emulators" / "postgres").remove()


@pytest.fixture
def cloud(printed: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment of a shell that the line was pasted into."""
    assert printed.count("\n") == 1
    shell = subprocess.run(["sh", "-c", printed + "env -0"], cwd=REPOSITORY, stdout=subprocess.PIPE, check=True)
    environment = dict(entry.split("=", 1) for entry in shell.stdout.decode().split("\0") if entry)
    changed = {name: value for name, value in environment.items() if os.environ.get(name) != value and name != "_"}
    for name, value in changed.items():
        monkeypatch.setenv(name, value)
    return changed


def test_a_sample_month_goes_over_the_wire_into_every_cloud_sink_with_all_checks_green(cloud, instance, monkeypatch):
    assert cloud["TAXI_PROFILE"] == "gcp"
    result = load(instance, monkeypatch, source="sample", sample_rows=ROWS)
    assert result.success, [event.message for event in result.all_events if event.is_failure]
    checks = {evaluation.check_name: evaluation.passed for evaluation in result.get_asset_check_evaluations()}
    assert {f"{sink}_matches_clean" for sink in SINKS} <= checks.keys()
    assert [name for name, passed in checks.items() if not passed] == []

    clean = ROWS - expected(YELLOW, Month(2021, 1), ROWS).expected_rejected
    with psycopg.connect(cloud["TAXI_POSTGRES_URL"]) as connection:
        assert connection.execute("SELECT count(*) FROM ny_taxi.yellow_cab_data").fetchone() == (clean,)
        assert connection.execute(NAMED).fetchone() == (clean,)
    options = {"api_endpoint": cloud["TAXI_BIGQUERY_ENDPOINT"]}
    project = cloud["TAXI_BIGQUERY_PROJECT"]
    with bigquery.Client(project, AnonymousCredentials(), client_options=options) as client:
        ((held,),) = client.query(f"SELECT count(*) FROM `{project}.ny_taxi.yellow_cab_data`").result()
        assert held == clean
        ((named,),) = client.query(NAMED).result()
        assert named == clean
    objects = objects_of(cloud)
    by_day = [rows for name, rows in objects.items() if "/tpep_pickup_date=2021-01-" in name]
    assert objects["nyc_taxi_data/yellow_tripdata_2021-01.parquet"] == sum(by_day) == clean
    assert len(by_day) == 31


def objects_of(cloud: dict[str, str]) -> dict[str, int]:
    """The rows of every Parquet object in the bucket, by plain HTTP."""
    import pyarrow as pa

    bucket = f"{cloud['STORAGE_EMULATOR_HOST']}/storage/v1/b/{cloud['TAXI_BUCKET'].removeprefix('gs://')}/o"
    found = [item["name"] for item in requests.get(bucket, timeout=10).json().get("items", [])]
    data = {
        name: requests.get(f"{bucket}/{name.replace('/', '%2F')}?alt=media", timeout=10).content
        for name in found
        if name.endswith(".parquet")
    }
    return {name: pq.read_metadata(pa.BufferReader(content)).num_rows for name, content in data.items()}
