"""What killed processes left behind is removed; what is in use, or recent, is kept."""

import os
import subprocess
import sys
import time

import dagster as dg
import pytest

from taxi_assets.automation.housekeeping import HOUR, end_dead_runs, remove_orphans
from taxi_assets.core import run_tags
from taxi_assets.core.scratch import Scratch
from taxi_assets.settings import load_settings


@pytest.fixture
def log() -> list[str]:
    return []


def old(path, hours: float):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * 1000)
    moment = time.time() - hours * HOUR
    os.utime(path, (moment, moment))
    return path


def test_old_staged_files_and_incomplete_downloads_are_removed_and_everything_else_is_kept(log):
    settings = load_settings()
    gone = [
        old(settings.staging_folder / "yellow-raw-2021-01-0123456789ab.parquet", 25),
        old(settings.staging_folder / "day-31-2021-01-0123456789ab.parquet", 25),
        old(settings.staging_folder / "warehouse.duckdb-0a1b2c3d.spill" / "duckdb_temp_storage.tmp", 30),
        old(settings.lake_folder / "yellow_raw_trips" / "2021-01.0123456789ab.tmp", 25),
        old(settings.lake_folder / "taxi_zones.0123456789ab.tmp", 25),
        old(settings.home_folder / "downloads" / "yellow_tripdata_2021-01.parquet.part", 200),
        old(settings.home_folder / "downloads" / "taxi_zone_lookup.csv.part", 200),
    ]
    kept = [
        old(settings.staging_folder / "yellow-raw-2021-02-0123456789ab.parquet", 1),
        old(settings.lake_folder / "yellow_raw_trips" / "2021-01.parquet", 9999),
        old(settings.lake_folder / "taxi_zones.parquet", 9999),
        old(settings.home_folder / "downloads" / "yellow_tripdata_2021-01.parquet", 9999),
        old(settings.home_folder / "downloads" / "yellow_tripdata_2021-02.parquet.part", 100),
        old(settings.home_folder / "bucket" / "a.parquet", 9999),
    ]
    assert remove_orphans(settings, log.append) == (7, 7000)
    assert [path for path in gone if path.exists()] == []
    assert [path for path in kept if not path.exists()] == []
    assert len(log) == 7
    assert remove_orphans(settings, log.append) == (0, 0)


def test_files_of_other_programs_are_kept(log, monkeypatch, tmp_path):
    monkeypatch.setenv("TAXI_LAKE", str(tmp_path / "shared"))
    settings = load_settings()
    lake, home = tmp_path / "shared", settings.home_folder
    kept = [
        old(lake / "report.tmp", 9999),
        old(lake / "2021-01.0123456789ab.tmp", 9999),
        old(lake / "other_team" / "2021-01.0123456789ab.tmp", 9999),
        old(lake / "yellow_raw_trips" / "export.tmp", 9999),
        old(lake / "yellow_raw_trips" / "2021-01.copy.tmp", 9999),
        old(lake / "yellow_raw_trips" / "old" / "2021-01.0123456789ab.tmp", 9999),
        old(lake / "yellow_rejected_trips" / "2021-01.0123456789ab.waiting", 9999),
        old(home / "staging" / "thesis.docx", 9999),
        old(home / "staging" / "model" / "yellow-raw-2021-01-0123456789ab.parquet", 9999),
        old(home / "downloads" / "film.mkv.part", 9999),
        old(home / "downloads" / "browser" / "yellow_tripdata_2021-01.parquet.part", 9999),
    ]
    assert remove_orphans(settings, log.append) == (0, 0)
    assert [path for path in kept if not path.exists()] == []


def test_a_scratch_folder_is_kept_while_its_process_runs(log):
    settings = load_settings()
    with Scratch(settings.staging_folder, "day") as folder:
        held = old(folder / "2021-01-01.parquet", 99)
        assert remove_orphans(settings, log.append) == (0, 0)
        assert held.exists()
    left = old(settings.staging_folder / "day-xyz.scratch" / "a.parquet", 99)
    assert remove_orphans(settings, log.append)[0] == 1
    assert not left.parent.exists()


def test_a_run_whose_process_was_killed_is_marked_as_failed_and_a_running_one_is_not(log):
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
        assert end_dead_runs(instance, log.append) == []
        process.kill()
        process.wait()
        assert end_dead_runs(instance, log.append) == [runs[0].run_id]
        assert instance.get_run_by_id(runs[0].run_id).status == dg.DagsterRunStatus.FAILURE
        assert "2021-01: its process was killed (out of memory?); nothing partial remains." in log[0]
        assert end_dead_runs(instance, log.append) == []
