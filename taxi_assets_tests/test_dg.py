"""Dagster's command `dg` works in the project folder, as in README: it checks, lists and launches."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from taxi_assets.sinks.postgres.embedded import EmbeddedPostgres
from taxi_assets_tests.processes import REPOSITORY


def dg(home: Path, *arguments: str) -> str:
    """Run `dg` with a history and data of its own, and return what it prints."""
    shutil.copy(REPOSITORY / "dagster.yaml", home)
    environment = {**os.environ, "DAGSTER_HOME": str(home), "TAXI_SOURCE": "sample", "TAXI_SAMPLE_ROWS": "1000"}
    command = [str(Path(sys.executable).with_name("dg")), *arguments]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_definitions_are_checked_and_listed(tmp_path):
    assert "All definitions loaded successfully." in dg(tmp_path, "check", "defs")
    listed = json.loads(dg(tmp_path, "list", "defs", "--json"))
    assert {"raw_trips", "clean_trips", "postgres_table"} <= {asset["asset_key"] for asset in listed["assets"]}


def test_a_month_is_launched(tmp_path):
    try:
        dg(tmp_path, "launch", "--assets", "raw_trips", "--partition", "2021-01-01")
    finally:
        EmbeddedPostgres(tmp_path / ".taxi" / "postgres").remove()
    assert (tmp_path / ".taxi" / "lake" / "yellow_raw_trips" / "2021-01.parquet").exists()
