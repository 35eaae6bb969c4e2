"""The code location in a live webserver, queried over GraphQL."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from taxi_assets.cli.main import main
from taxi_assets.core import run_tags
from taxi_assets.datasets.codes import CODE_VIEWS
from taxi_assets_tests.live_ui import live_ui
from taxi_assets_tests.processes import REPOSITORY, free_port, until

LAUNCH = """
mutation Launch($params: ExecutionParams!) {
  launchPipelineExecution(executionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
    ... on RunConfigValidationInvalid { errors { message } }
  }
}"""
WITHOUT_MONTHS = {"taxi_zones", "trips", *(view.name for view in CODE_VIEWS)}
ASSETS = """{ assetNodes { assetKey { path } groupName kinds opVersion description
  owners { ... on TeamAssetOwner { team } } } }"""
TAGS = "query Run($id: ID!) { runOrError(runId: $id) { ... on Run { tags { key value } } } }"
STATUS = "query Run($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"
PARTITIONS = """{ assetNodes { assetKey { path } assetPartitionStatuses { ... on TimePartitionStatuses {
  ranges { status startKey endKey } } } } }"""


@pytest.fixture
def ui(tmp_path: Path) -> Iterator[str]:
    """The URL of the UI of this code location, in a separate TAXI_HOME with generated months."""
    with live_ui(tmp_path) as address:
        yield address


def ask(address: str, query: str, **variables: object) -> dict:
    reply = requests.post(f"{address}/graphql", json={"query": query, "variables": variables}, timeout=60).json()
    assert "errors" not in reply, reply
    return reply["data"]


def launched(address: str, partition: str, tags: dict[str, str]) -> str:
    """Launch a month's run over GraphQL and return its id."""
    params = {
        "selector": {
            "repositoryLocationName": "taxi_assets.definitions",
            "repositoryName": "__repository__",
            "jobName": "load_month",
        },
        "executionMetadata": {
            "tags": [{"key": key, "value": value} for key, value in {"dagster/partition": partition, **tags}.items()]
        },
        "runConfigData": {},
    }
    answer = ask(address, LAUNCH, params=params)["launchPipelineExecution"]
    assert answer["__typename"] == "LaunchRunSuccess", answer
    return answer["run"]["runId"]


def ended(address: str, run: str) -> str:
    """Wait for the end of a run and return its status."""

    def finished() -> str | None:
        status = ask(address, STATUS, id=run)["runOrError"]["status"]
        return status if status in ("SUCCESS", "FAILURE", "CANCELED") else None

    return str(until(finished, 120, "the run to end"))


def client(address: str, *months: str) -> subprocess.CompletedProcess[str]:
    """Run the documented client."""
    command = [sys.executable, str(REPOSITORY / "docs" / "launch.py"), address, *months]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def months_in_the_lake(home: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in (home / ".taxi" / "lake").rglob("*.parquet")}


@pytest.mark.long
def test_the_graph_explains_itself_and_a_run_launched_over_graphql_loads_the_month(ui, tmp_path, monkeypatch, capsys):
    nodes = {"/".join(node["assetKey"]["path"]): node for node in ask(ui, ASSETS)["assetNodes"]}
    assert set(nodes) == {
        "publisher",
        "raw_trips",
        "clean_trips",
        "rejected_trips",
        "postgres_table",
        "gcs_parquet",
        "gcs_partitioned",
        "bq_table",
        "daily_summary",
        "month_report",
        *WITHOUT_MONTHS,
    }
    for name, node in nodes.items():
        assert node["description"], name
        assert node["kinds"], name
        if name == "publisher":  # an observable source has no code version and no owners in Dagster
            continue
        assert node["opVersion"], name
        assert node["owners"] == [{"team": "taxi-data"}], name
    run = launched(ui, "2021-01-01", {run_tags.PROCESS: "host 1 1"})
    assert "dagster/partition" in (shown := {tag["key"] for tag in ask(ui, TAGS, id=run)["runOrError"]["tags"]})
    assert run_tags.PROCESS not in shown

    monkeypatch.chdir(tmp_path)
    assert main(["clean-data", "--yes"]) == 1  # while the UI runs
    assert re.search(r"\.taxi is in use by .*process \d+ \(python -m dagster dev ", capsys.readouterr().err)

    assert ended(ui, run) == "SUCCESS"
    statuses = [node for node in ask(ui, PARTITIONS)["assetNodes"] if "ranges" in node["assetPartitionStatuses"]]
    loaded = {"/".join(node["assetKey"]["path"]): node["assetPartitionStatuses"]["ranges"] for node in statuses}
    loaded.pop("publisher", None)
    assert loaded == {
        name: [{"status": "MATERIALIZED", "startKey": "2021-01-01", "endKey": "2021-01-01"}]
        for name in nodes.keys() - {"publisher", *WITHOUT_MONTHS}
    }

    # what is no partition is refused, by the asset and by the documented client, and nothing is replaced
    files = months_in_the_lake(tmp_path)
    for key in ("2021-1-01", "2031-01-01", "2021-01-15"):
        assert ended(ui, launched(ui, key, {})) == "FAILURE", key
    assert months_in_the_lake(tmp_path) == files
    for months, code, answer in (
        (["2021-1"], 2, "2021-1 is not a month: write it as YYYY-MM, for example 2021-01."),
        (["2021-02", "2021-01"], 2, "2021-02 is after 2021-01; give the earlier month first."),
        (["2031-01"], 1, "2031-01 is not a partition of load_month: its months run from 2009-01 to "),
    ):
        done = client(ui, *months)
        assert (done.returncode, done.stdout) == (code, "")
        assert done.stderr.startswith(answer)
        assert done.stderr.count("\n") == 1
    done = client(f"http://127.0.0.1:{free_port()}", "2021-01")
    assert done.returncode == 1
    assert "cannot be reached ([Errno 111] Connection refused); start the UI (make dev)" in done.stderr
    assert done.stderr.count("\n") == 1
