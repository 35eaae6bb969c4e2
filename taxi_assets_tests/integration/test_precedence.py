"""The environment wins over .env, under Dagster's command line, too; `demo` ignores both; `clean-data` leaves no history."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import dagster as dg
import psycopg
import pyarrow.parquet as pq
import pytest

from taxi_assets.cli.backfill import backfill_lock
from taxi_assets.cli.main import main
from taxi_assets.sinks.postgres.embedded import EmbeddedPostgres
from taxi_assets_tests.processes import REPOSITORY, until

BIN = Path(sys.executable).parent
LAUNCH = """
import multiprocessing, os, sys
def show():
    from taxi_assets.core.home import load_home; from taxi_assets.settings import load_settings
    print(load_settings().sample_rows, load_settings().source, load_home().home)
if __name__ == "__main__":
    os.environ |= dict(line.split("=", 1) for line in open(".env").read().split())
    child = multiprocessing.get_context(sys.argv[1]).Process(target=show)
    child.start()
    child.join()
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project folder with Dagster's configuration, which is also the working directory of commands."""
    shutil.copy(REPOSITORY / "dagster.yaml", tmp_path)
    return tmp_path


def command(project: Path, *arguments: str, **settings: object) -> subprocess.CompletedProcess[str]:
    """Run a command of this environment in the project folder."""
    program, *rest = arguments
    return subprocess.run(
        [sys.executable, str(BIN / program), *rest],
        cwd=project,
        env={**os.environ, **{f"TAXI_{name.upper()}": str(value) for name, value in settings.items()}},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def rows(home: Path) -> int:
    return pq.read_metadata(home / "lake" / "yellow_raw_trips" / "2021-01.parquet").num_rows


def test_under_dagsters_command_line_the_environment_wins(project, postgres_url):
    (project / ".env").write_text("TAXI_SOURCE=sample\nTAXI_SAMPLE_ROWS=1000\nTAXI_HOME=of-dotenv\n")
    done = command(
        project, "dagster", "asset", "materialize", "-m", "taxi_assets.definitions", "--select", "raw_trips",
        "--partition", "2021-01-01", sample_rows=500, home="of-environment", postgres_url=postgres_url,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert rows(project / "of-environment") == 500
    assert (project / "of-environment" / "dagster" / "storage").is_dir()
    assert not (project / "of-dotenv").exists()


def test_in_a_code_server_that_dagster_starts_the_environment_wins(project):
    (project / ".env").write_text("TAXI_SAMPLE_ROWS=none\n")
    validate = ("dagster", "definitions", "validate", "-m", "taxi_assets.definitions")
    refused = command(project, *validate)
    assert "TAXI_SAMPLE_ROWS should be a valid integer" in refused.stderr + refused.stdout
    done = command(project, *validate, sample_rows=500)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
@pytest.mark.parametrize(("program", "seen"), [("dagster", "500 sample"), ("other-program", "1000 sample")])
def test_only_what_a_process_of_dagsters_changed_is_undone_also_in_its_children(project, method, program, seen):
    (project / ".env").write_text("TAXI_SOURCE=sample\nTAXI_SAMPLE_ROWS=1000\nTAXI_HOME=kept\n")
    (project / program).write_text(LAUNCH)
    environment = {**os.environ, "TAXI_SAMPLE_ROWS": "500", "TAXI_HOME": ""}
    done = subprocess.run(
        [sys.executable, str(project / program), method], cwd=project, env=environment, capture_output=True, text=True, check=True
    )  # fmt: skip
    assert done.stdout.strip() == f"{seen} kept", done.stderr


def test_the_demo_writes_to_local_sinks_below_the_project_folder_only(project, postgres_url):
    (project / ".env").write_text(
        f"TAXI_POSTGRES_URL={postgres_url}\nTAXI_BUCKET=bucket-of-dotenv\nTAXI_LAKE=lake-of-dotenv\n"
        "TAXI_EXECUTOR=multiprocess\nTAXI_GCP_KEY_FILE=key.json\n"
    )
    elsewhere = project / "elsewhere"
    try:
        done = command(
            project, "taxi-assets", "demo",
            sample_rows=1000, home=elsewhere, profile="gcp", bigquery_project="project", source="https://host/{month}.csv",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "yellow trips of 2021-01, GENERATED sample" in done.stdout
        assert done.stdout.count("same as clean_trips") == 4
        assert f"export TAXI_HOME={project / '.taxi'}" in done.stdout
        made = {path.name for path in project.iterdir()}
        assert made - {"dagster.yaml", ".env"} == {".taxi"}
        assert (project / ".taxi" / "warehouse.duckdb").exists()
        assert (project / ".taxi" / "dagster" / "storage").is_dir()
        with psycopg.connect(postgres_url) as connection:
            query = "SELECT nspname FROM pg_namespace WHERE nspname = 'ny_taxi'"
            assert connection.execute(query).fetchall() == []
    finally:
        EmbeddedPostgres(project / ".taxi" / "postgres").remove()


def history(project: Path, monkeypatch: pytest.MonkeyPatch, home: str) -> dg.DagsterInstance:
    monkeypatch.setenv("DAGSTER_HOME", str(project))
    monkeypatch.setenv("TAXI_HOME", home)
    return dg.DagsterInstance.get()


@pytest.mark.long
@pytest.mark.parametrize("home", ["{}/data", "data"])
def test_after_clean_data_nothing_is_known_of_old_runs_whatever_a_process_that_knew_them_does(
    project, monkeypatch, home
):
    home = home.format(project)
    job = dg.GraphDefinition(name="load_month").to_job()
    with history(project, monkeypatch, home) as used:
        run = used.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
        assert used.get_runs_count() == 1
        done = command(project, "taxi-assets", "clean-data", "--yes", home=home)
        assert done.returncode == 1
        assert f" is in use by process {os.getpid()} (" in done.stderr
        used.dispose()  # a process that is not seen: on another host, for example
        done = command(project, "taxi-assets", "clean-data", "--yes", home=home)
        assert (done.returncode, done.stderr) == (0, "")
        assert not (project / "data").exists()
        with history(project, monkeypatch, home) as fresh:
            assert fresh.get_runs_count() == 0
            assert fresh.fetch_run_status_changes(dg.DagsterEventType.RUN_START, limit=1).records == []
            used.report_run_failed(run)  # a process that used the history continues
            assert fresh.get_runs_count() == 0


def test_clean_data_deletes_what_another_process_is_writing_to(project, monkeypatch, capsys):
    folder, stop = project / ".taxi" / "dagster" / "logs", threading.Event()

    def write() -> None:
        for number in itertools.takewhile(lambda _: not stop.is_set(), itertools.count()):
            with contextlib.suppress(OSError):
                folder.mkdir(parents=True, exist_ok=True)
                (folder / f"{number}.log").touch()

    writer = threading.Thread(target=write)
    writer.start()
    until(lambda: len(list(folder.glob("*"))) > 2000, 30, "files")
    try:
        monkeypatch.setenv("DAGSTER_HOME", str(project))
        assert main(["clean-data", "--yes"]) == 0
    finally:
        stop.set()
        writer.join()
    assert not (folder / "0.log").exists()


def test_clean_data_does_nothing_while_a_backfill_runs(project, monkeypatch):
    with backfill_lock(project / ".taxi"):
        done = command(project, "taxi-assets", "clean-data", "--yes")
    assert (done.returncode, done.stdout) == (1, "")
    assert f" is in use by process {os.getpid()} (" in done.stderr
    assert (project / ".taxi" / "backfill.lock").exists()
