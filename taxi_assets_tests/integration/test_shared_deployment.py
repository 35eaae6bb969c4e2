"""A deployment that this package does not own: two code locations, Postgres as instance storage, webserver and daemon apart.

One story, because each start takes seconds: without a daemon the client says so; a red check is re-executed with its sink;
another team keeps a table with our IO manager; the location is reloaded after a wrong `.env`.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import pytest
import requests

from taxi_assets.datasets.codes import CODE_VIEWS
from taxi_assets.sinks.postgres.embedded import EmbeddedPostgres
from taxi_assets_tests.integration.test_webserver import ask, ended
from taxi_assets_tests.postgres_fixtures import rows_of
from taxi_assets_tests.processes import REPOSITORY, free_port, running, until

TEAM = """
import dagster as dg
import pandas as pd
from taxi_assets.sinks.postgres.io_manager import PostgresIOManager

@dg.asset(
    partitions_def=dg.MonthlyPartitionsDefinition("2021-01-01"),
    io_manager_key="months",
    metadata={"partition_expr": "day"},
)
def sales(context: dg.AssetExecutionContext) -> pd.DataFrame:
    return pd.DataFrame({"day": pd.date_range(context.partition_key, periods=3), "amount": [1.5, 2.5, 3.5]})

months = PostgresIOManager(url=dg.EnvVar("TEAM_URL"), schema_name="team")
defs = dg.Definitions(assets=[sales], jobs=[dg.define_asset_job("sell", "sales")], resources={"months": months})
"""
WORKSPACE = """
load_from:
  - python_module: {module_name: taxi_assets.definitions, working_directory: .}
  - python_file: {relative_path: team.py, location_name: team}
"""
LIE = """
import dataclasses, os
from pathlib import Path
from taxi_assets.sinks.postgres.io_manager import PostgresIOManager

measure = PostgresIOManager.measure

def once_wrong(self, table, month):
    found, marker = measure(self, table, month), Path(os.environ["DAGSTER_HOME"]) / "marker"
    if found is None or marker.exists():
        return found
    marker.touch()
    return dataclasses.replace(found, rows=found.rows - 1)

PostgresIOManager.measure = once_wrong
"""
"""Python runs it as it starts: the first measurement of a month in Postgres is wrong."""
REEXECUTE = """mutation($run: String!, $strategy: ReexecutionStrategy!) {
  launchRunReexecution(reexecutionParams: {parentRunId: $run, strategy: $strategy}) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
SELL = """mutation($params: ExecutionParams!) { launchRun(executionParams: $params) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on Error { message } } }"""
RELOAD = """mutation { reloadRepositoryLocation(repositoryLocationName: "taxi_assets.definitions") {
  ... on WorkspaceLocationEntry { locationOrLoadError { __typename ... on PythonError { message cause { message } } } } } }"""
LOCATIONS = """{ workspaceOrError { ... on Workspace { locationEntries {
  name locationOrLoadError { __typename ... on PythonError { message } } } } } }"""


@contextmanager
def deployment(home: Path, database: str, env: dict[str, str]) -> Generator[str]:
    """The URL of a webserver with its own code servers; no daemon."""
    config = (REPOSITORY / "dagster.yaml").read_text()
    address = database.replace("postgresql:", "postgresql+psycopg2:", 1)  # as docs/operations.md says
    storage = f"storage:\n  postgres:\n    postgres_url: {address}\n"
    (home / "dagster.yaml").write_text(re.sub(r"^storage:\n(  .*\n)+", storage, config, flags=re.MULTILINE))
    (home / "workspace.yaml").write_text(WORKSPACE)
    (home / "team.py").write_text(TEAM)
    (home / "sitecustomize.py").write_text(LIE)
    shutil.copytree(REPOSITORY / "taxi_assets", home / "taxi_assets", ignore=shutil.ignore_patterns("__pycache__"))
    port = free_port()
    command = ("-m", "dagster_webserver", "-h", "127.0.0.1", "-p", str(port), "-w", "workspace.yaml")
    with running(*command, env=env, cwd=home, log=home / "webserver.log"):

        def answers() -> bool:
            try:
                return requests.get(f"http://127.0.0.1:{port}/server_info", timeout=2).ok
            except requests.ConnectionError:
                return False

        until(answers, 120, f"the webserver (see {home / 'webserver.log'})")
        yield f"http://127.0.0.1:{port}"


def client():
    """The documented client, docs/launch.py."""
    spec = importlib.util.spec_from_file_location("launch", REPOSITORY / "docs" / "launch.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def reexecuted(ui: str, run: str) -> str:
    """Re-execute a failed run from its failed assets, as the UI's button does; the new run."""
    answer = ask(ui, REEXECUTE, run=run, strategy="FROM_ASSET_FAILURE")["launchRunReexecution"]
    assert answer["__typename"] == "LaunchRunSuccess", answer
    return answer["run"]["runId"]


def sold(ui: str) -> str:
    """Launch a month of the other team; its run."""
    params = {
        "selector": {"repositoryLocationName": "team", "repositoryName": "__repository__", "jobName": "sell"},
        "executionMetadata": {"tags": [{"key": "dagster/partition", "value": "2021-02-01"}]},
        "runConfigData": {},
    }
    answer = ask(ui, SELL, params=params)["launchRun"]
    assert answer["__typename"] == "LaunchRunSuccess", answer
    return answer["run"]["runId"]


def materialized(home: Path, run: str) -> set[str]:
    """The assets that a run materialized."""
    with dg.DagsterInstance.from_config(str(home)) as instance:
        entries = instance.all_logs(run, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
        return {entry.dagster_event.asset_key.to_user_string() for entry in entries}


def reload_error(ui: str) -> str:
    """Reload our code location; why it cannot be loaded, else nothing."""
    loaded = ask(ui, RELOAD)["reloadRepositoryLocation"]["locationOrLoadError"]
    return f"{loaded.get('message')} {loaded.get('cause')}" if loaded["__typename"] == "PythonError" else ""


@pytest.mark.long
def test_it_behaves_among_others(tmp_path, postgres_url, monkeypatch, capsys):
    env = {
        "DAGSTER_HOME": str(tmp_path),
        "PYTHONPATH": str(tmp_path),
        "TAXI_SOURCE": "sample",
        "TAXI_SAMPLE_ROWS": "500",
        "TEAM_URL": postgres_url,
    }
    try:
        with deployment(tmp_path, postgres_url, env) as ui:
            entries = ask(ui, LOCATIONS)["workspaceOrError"]["locationEntries"]
            loaded = {entry["name"]: entry["locationOrLoadError"]["__typename"] for entry in entries}
            assert loaded == {"taxi_assets.definitions": "RepositoryLocation", "team": "RepositoryLocation"}

            # without a daemon a run stays in the queue: the client says so instead of waiting
            launch = client()
            monkeypatch.setattr(launch, "DAEMON_SECONDS", 1)
            assert launch.main(ui, "2021-01") == 1
            assert "no daemon takes it from there: start one" in capsys.readouterr().err

            daemon = Path(sys.executable).with_name("dagster-daemon")
            with running(daemon, "run", "-w", "workspace.yaml", env=env, cwd=tmp_path, log=tmp_path / "daemon.log"):
                # the queued run is taken up; its first check of Postgres is red
                (queued,) = until(lambda: tags_of(tmp_path), 60, "the queued run")
                team = sold(ui)
                assert ended(ui, queued) == "FAILURE"
                again = reexecuted(ui, queued)
                assert ended(ui, again) == "SUCCESS"
                assert materialized(tmp_path, again) == {
                    "postgres_table",
                    "month_report",
                    "trips",
                    *(view.name for view in CODE_VIEWS),
                }
                assert ended(ui, team) == "SUCCESS"
                assert rows_of(postgres_url, "SELECT sum(amount) FROM team.sales") == [(7.5,)]

                # the location is reloaded after `.env` was corrected; the other one is not concerned
                (tmp_path / ".env").write_text("TAXI_RECONCILE_RUNS=many\n")
                assert "TAXI_RECONCILE_RUNS" in reload_error(ui)
                assert ended(ui, sold(ui)) == "SUCCESS"
                (tmp_path / ".env").write_text("TAXI_RECONCILE_RUNS=3\n")
                assert reload_error(ui) == ""
    finally:
        EmbeddedPostgres(tmp_path / ".taxi" / "postgres").remove()


def tags_of(home: Path) -> list[str]:
    """The runs of January."""
    with dg.DagsterInstance.from_config(str(home)) as instance:
        return [run.run_id for run in instance.get_runs(dg.RunsFilter(tags={"dagster/partition": "2021-01-01"}))]
