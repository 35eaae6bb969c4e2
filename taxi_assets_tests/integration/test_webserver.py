"""The code location in a live webserver, queried over GraphQL."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

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
ASSETS = """{ assetNodes { assetKey { path } groupName kinds opVersion description
  owners { ... on TeamAssetOwner { team } } } }"""
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


def status_of_run(address: str, partition: str) -> str:
    """Launch a month's run over GraphQL, wait for its end, and return its status."""
    params = {
        "selector": {
            "repositoryLocationName": "taxi_assets.definitions",
            "repositoryName": "__repository__",
            "jobName": "load_month",
        },
        "executionMetadata": {"tags": [{"key": "dagster/partition", "value": partition}]},
        "runConfigData": {},
    }
    launched = ask(address, LAUNCH, params=params)["launchPipelineExecution"]
    assert launched["__typename"] == "LaunchRunSuccess", launched
    run = launched["run"]["runId"]

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


def test_the_graph_explains_itself_and_a_run_launched_over_graphql_loads_the_month(ui, tmp_path):
    nodes = {"/".join(node["assetKey"]["path"]): node for node in ask(ui, ASSETS)["assetNodes"]}
    assert set(nodes) == {
        "raw_trips",
        "clean_trips",
        "rejected_trips",
        "postgres_table",
        "gcs_parquet",
        "gcs_partitioned",
        "bq_table",
        "daily_summary",
        "month_report",
        "taxi_zones",
    }
    for name, node in nodes.items():
        assert node["description"], name
        assert node["opVersion"], name
        assert node["kinds"], name
        assert node["owners"] == [{"team": "taxi-data"}], name
    assert status_of_run(ui, "2021-01-01") == "SUCCESS"
    statuses = [node for node in ask(ui, PARTITIONS)["assetNodes"] if "ranges" in node["assetPartitionStatuses"]]
    loaded = {"/".join(node["assetKey"]["path"]): node["assetPartitionStatuses"]["ranges"] for node in statuses}
    assert loaded == {
        name: [{"status": "MATERIALIZED", "startKey": "2021-01-01", "endKey": "2021-01-01"}]
        for name in nodes.keys() - {"taxi_zones"}
    }

    # what is no partition is refused, by the asset and by the documented client, and nothing is replaced
    files = months_in_the_lake(tmp_path)
    for key in ("2021-1-01", "2031-01-01", "2021-01-15"):
        assert status_of_run(ui, key) == "FAILURE", key
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
