"""Months in the publisher's newest layout, and in an unknown one, through the complete graph."""

from __future__ import annotations

import functools
import http.server
import os
import re
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import duckdb
import psycopg
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from taxi_assets.datasets.schema import GREEN, YELLOW
from taxi_assets.definitions import build_defs
from taxi_assets.sinks.postgres.embedded import EmbeddedPostgres
from taxi_assets_tests.graph import Database, in_every_sink, instance, load, postgres  # noqa: F401
from taxi_assets_tests.processes import REPOSITORY, free_port

NEW = ("driver_age_band", "surge_fee")
TEMPLATE = "{kind}_tripdata_{month}.parquet"


def warnings(result: dg.ExecuteInProcessResult) -> dict[str, dict[str, str]]:
    """The causes of every check that warned, by check."""
    return {
        evaluation.check_name: evaluation.metadata["causes"].value
        for evaluation in result.get_asset_check_evaluations()
        if not evaluation.passed
    }


@pytest.mark.parametrize("kind", [YELLOW, GREEN], ids=lambda kind: kind.name)
def test_a_month_in_the_newest_layout_is_in_every_sink(instance, postgres, current, tmp_path, monkeypatch, kind):  # noqa: F811
    result = load(instance, monkeypatch, "2026-06", kind=kind, kinds="yellow,green", source=current / TEMPLATE)
    assert result.success
    assert set(warnings(result)) == ({"few_trips_are_rejected"} if kind is YELLOW else set())  # green: 14.8 %
    held = in_every_sink(tmp_path, postgres, kind)
    published = pq.read_table(current / f"{kind.name}_tripdata_2026-06.parquet").to_pylist()
    expected = Counter(row["request_source"] for row in published if row["passenger_count"])
    at = kind.schema.names.index("request_source")
    for sink, rows in held.items():
        assert Counter(row[at] for row in rows) == expected, sink


def test_a_column_nobody_has_seen_is_kept_then_added_or_refused(instance, postgres, current, tmp_path, monkeypatch):  # noqa: F811
    june = load(instance, monkeypatch, "2026-06", source=current / TEMPLATE)
    kept = load(instance, monkeypatch, "2026-07", source=current / TEMPLATE, reject_unknown_passengers=False)
    assert june.success
    assert kept.success
    assert sorted(warnings(kept)["raw_columns_are_expected"]) == [f"new column {name}" for name in NEW]
    raw = tmp_path / ".taxi" / "lake" / "yellow_raw_trips" / "2026-07.parquet"
    assert set(NEW) <= set(pq.read_schema(raw).names)
    assert not set(NEW) & set(columns_of_postgres(postgres))

    added = load(instance, monkeypatch, "2026-07", source=current / TEMPLATE, new_columns="add")
    assert added.success
    july = "tpep_pickup_datetime >= '2026-07-01'"
    query = f"SELECT {july}, count(*), count(driver_age_band), sum(surge_fee) FROM {{}} GROUP BY 1 ORDER BY 1"
    bucket = tmp_path / ".taxi" / "bucket" / "nyc_taxi_data"
    with psycopg.connect(postgres.url()) as connection:
        answers = {"postgres": connection.execute(query.format("ny_taxi.yellow_cab_data")).fetchall()}
    with duckdb.connect(str(tmp_path / ".taxi" / "warehouse.duckdb"), read_only=True) as connection:
        answers["duckdb"] = connection.execute(query.format("ny_taxi.yellow_cab_data")).fetchall()
    for name, pattern in {"objects": "*.parquet", "day folders": "yellow_tripdata_by_day/*/*.parquet"}.items():
        files = f"read_parquet('{bucket}/{pattern}', union_by_name = true)"
        answers[name] = duckdb.execute(query.format(files)).fetchall()
    trips = 2000 - sum(row["passenger_count"] == 0 for row in published("2026-07", current))
    june_trips = sum(bool(row["passenger_count"]) for row in published("2026-06", current))
    for sink, answer in answers.items():
        assert answer == [(False, june_trips, 0, None), (True, trips, trips, 1.25 * trips)], sink
    by_day = ds.dataset(
        bucket / "yellow_tripdata_by_day", schema=pq.read_schema(newest_day(bucket)), partitioning="hive"
    )
    assert by_day.to_table(columns=["surge_fee"])["surge_fee"].null_count == june_trips
    trips_read = {
        name: build_defs().load_asset_value(name, partition_key="2026-07-01", instance=instance)
        for name in ("clean_trips", "postgres_table", "gcs_parquet", "gcs_partitioned", "bq_table")
    }
    for name, handle in trips_read.items():
        table = handle.to_arrow()
        assert set(table["driver_age_band"].to_pylist()) == {"30-39"}, name
        assert set(table["surge_fee"].to_pylist()) == {1.25}, name

    refused = load(instance, monkeypatch, "2026-07", source=current / TEMPLATE, new_columns="refuse")
    assert not refused.success
    assert len(trips_read["clean_trips"].to_arrow()) == trips  # the previous load is in place


def published(month: str, current: Path) -> list[dict]:
    return pq.read_table(current / f"yellow_tripdata_{month}.parquet").to_pylist()


def newest_day(bucket: Path) -> Path:
    return max((bucket / "yellow_tripdata_by_day").glob("*2026-07-*/*.parquet"))


def columns_of_postgres(postgres: Database) -> list[str]:  # noqa: F811
    query = "SELECT column_name FROM information_schema.columns WHERE table_name = 'yellow_cab_data'"
    with psycopg.connect(postgres.url()) as connection:
        return [name for (name,) in connection.execute(query)]


class Publisher(http.server.SimpleHTTPRequestHandler):
    """Serves a folder and counts what was downloaded."""

    downloads: list[str] = []

    def do_GET(self) -> None:
        self.downloads.append(self.path)
        super().do_GET()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def publisher(current: Path) -> Iterator[str]:
    handler = functools.partial(Publisher, directory=str(current))
    with http.server.ThreadingHTTPServer(("127.0.0.1", free_port()), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        Publisher.downloads.clear()
        yield f"http://127.0.0.1:{server.server_port}/{TEMPLATE}"
        server.shutdown()


@pytest.mark.long
def test_a_version_that_knows_the_column_reloads_the_month_from_the_lake(publisher: str, tmp_path: Path):
    """With a copy of the package to which the column was added, as docs/extending.md says."""
    later = tmp_path / "later"
    shutil.copytree(REPOSITORY / "taxi_assets", later / "taxi_assets", ignore=shutil.ignore_patterns("__pycache__"))
    schema = later / "taxi_assets" / "datasets" / "schema.py"
    known = '        Column("driver_age_band", "string", "Age of the driver."),\n        Column("pickup_longitude"'
    schema.write_text(schema.read_text().replace('        Column("pickup_longitude"', known))
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n")

    def backfill(package: Path) -> str:
        command = [sys.executable, "-m", "taxi_assets", "backfill", "--from", "2026-06", "--to", "2026-07"]
        env = {"PATH": os.environ["PATH"], "DAGSTER_HOME": str(tmp_path), "TAXI_SOURCE": publisher}
        done = subprocess.run(command, cwd=package, env=env, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    server = EmbeddedPostgres(tmp_path / ".taxi" / "postgres")
    try:
        assert re.search(r"loaded +2 months", backfill(REPOSITORY))
        assert len(Publisher.downloads) == 2
        shutil.rmtree(tmp_path / ".taxi" / "downloads")
        said = backfill(later)
        assert "lacks column driver_age_band, which the raw month has and which is now loaded" in said, said
        assert re.search(r"loaded +1 month ", said)
        assert len(Publisher.downloads) == 2
        with psycopg.connect(server.url()) as connection:
            columns = "tpep_pickup_datetime >= '2026-07-01', driver_age_band"
            query = f"SELECT DISTINCT {columns} FROM ny_taxi.yellow_cab_data ORDER BY 1"
            assert connection.execute(query).fetchall() == [(False, None), (True, "30-39")]
        assert "nothing to do" in backfill(later)
    finally:
        server.remove()
