"""What killed processes left is found and removed; what is in use, or young, is left alone."""

import os
import subprocess
import sys
import time

import dagster as dg
import psycopg
import pytest

from taxi_assets.automation.housekeeping import HOUR, drop_left_tables, end_dead_runs, remove_orphans
from taxi_assets.core import run_tags
from taxi_assets.datasets.schema import YELLOW
from taxi_assets.lake.scratch import Scratch
from taxi_assets.settings import get_settings
from taxi_assets.sinks.postgres.embedded import EmbeddedPostgres


@pytest.fixture
def said() -> list[str]:
    return []


def old(path, hours: float):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * 1000)
    moment = time.time() - hours * HOUR
    os.utime(path, (moment, moment))
    return path


def test_old_staged_files_and_half_downloads_are_removed_and_everything_else_is_kept(said):
    settings = get_settings()
    gone = [
        old(settings.staging_folder / "yellow-raw-2021-01-abc.parquet", 25),
        old(settings.staging_folder / "warehouse.duckdb.spill" / "duckdb_temp_storage.tmp", 30),
        old(settings.lake_folder / "yellow_raw_trips" / "2021-01.abc.tmp", 25),
        old(settings.home_folder / "downloads" / "tlc" / "a.parquet.part", 200),
    ]
    kept = [
        old(settings.staging_folder / "yellow-raw-2021-02-abc.parquet", 1),
        old(settings.lake_folder / "yellow_raw_trips" / "2021-01.parquet", 9999),
        old(settings.home_folder / "downloads" / "tlc" / "a.parquet", 9999),
        old(settings.home_folder / "downloads" / "tlc" / "b.parquet.part", 100),
        old(settings.bucket_location and settings.home_folder / "bucket" / "a.parquet", 9999),
    ]
    assert remove_orphans(settings, said.append) == (4, 4000)
    assert [path for path in gone if path.exists()] == []
    assert [path for path in kept if not path.exists()] == []
    assert len(said) == 4
    assert remove_orphans(settings, said.append) == (0, 0)


def test_a_scratch_folder_is_left_alone_while_its_user_lives(said):
    settings = get_settings()
    with Scratch("day") as folder:
        held = old(folder / "2021-01-01.parquet", 99)
        assert remove_orphans(settings, said.append) == (0, 0)
        assert held.exists()
    left = old(settings.staging_folder / "day-xyz.scratch" / "a.parquet", 99)
    assert remove_orphans(settings, said.append)[0] == 1
    assert not left.parent.exists()


def test_a_table_that_was_never_swapped_in_is_dropped_and_a_users_own_is_not(tmp_path, said):
    server = EmbeddedPostgres(tmp_path / ".taxi" / "postgres")
    try:
        with psycopg.connect(server.url(), autocommit=True) as connection:
            connection.execute("CREATE SCHEMA ny_taxi")
            for name, check in (("2021_01_new", "CONSTRAINT month CHECK (a > 0)"), ("2021_02_new", "CHECK (a > 0)")):
                connection.execute(f"CREATE TABLE ny_taxi.yellow_cab_data_{name} (a int {check})")
            assert drop_left_tables(get_settings(), YELLOW, said.append) == 1
            tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'ny_taxi'").fetchall()
        assert tables == [("yellow_cab_data_2021_02_new",)]
    finally:
        server.stop()


def test_a_run_whose_process_was_killed_is_ended_with_a_sentence_and_a_living_one_is_not(said):
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "from taxi_assets.core import run_tags; print(run_tags.this_process(), flush=True); input()",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    its = process.stdout.readline().strip()
    with dg.DagsterInstance.ephemeral() as instance:
        runs = [
            instance.create_run_for_job(
                dg.GraphDefinition(name="load").to_job(),
                tags={run_tags.PROCESS: who, "dagster/partition": "2021-01-01"},
                status=dg.DagsterRunStatus.STARTED,
            )
            for who in (its, run_tags.this_process(), "elsewhere boot pid:[1] 1 1")
        ]
        assert end_dead_runs(instance, said.append) == []
        process.kill()
        process.wait()
        assert end_dead_runs(instance, said.append) == [runs[0].run_id]
        assert instance.get_run_by_id(runs[0].run_id).status == dg.DagsterRunStatus.FAILURE
        assert "2021-01: the process that loaded it ended without a word" in said[0]
        assert end_dead_runs(instance, said.append) == []
