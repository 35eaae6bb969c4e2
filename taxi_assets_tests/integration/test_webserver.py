"""The code location in a live webserver, queried over GraphQL."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from taxi_assets.cli.main import main
from taxi_assets.core import run_tags
from taxi_assets_tests.live_ui import live_ui
from taxi_assets_tests.processes import until

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


def test_the_graph_explains_itself_and_a_run_launched_over_graphql_loads_the_month(ui, tmp_path, monkeypatch, capsys):
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
    params = {
        "selector": {
            "repositoryLocationName": "taxi_assets.definitions",
            "repositoryName": "__repository__",
            "jobName": "load_month",
        },
        "executionMetadata": {"tags": [{"key": "dagster/partition", "value": "2021-01-01"}]},
        "runConfigData": {},
    }
    params["executionMetadata"]["tags"].append({"key": run_tags.PROCESS, "value": "host 1 1"})
    launched = ask(ui, LAUNCH, params=params)["launchPipelineExecution"]
    assert launched["__typename"] == "LaunchRunSuccess", launched
    run = launched["run"]["runId"]
    assert "dagster/partition" in (shown := {tag["key"] for tag in ask(ui, TAGS, id=run)["runOrError"]["tags"]})
    assert run_tags.PROCESS not in shown

    monkeypatch.chdir(tmp_path)
    assert main(["clean-data", "--yes"]) == 1  # while the UI runs
    assert re.search(r"\.taxi is in use by process \d+ \(python -m dagster dev ", capsys.readouterr().err)

    def finished() -> str | None:
        status = ask(ui, STATUS, id=run)["runOrError"]["status"]
        return status if status in ("SUCCESS", "FAILURE", "CANCELED") else None

    assert until(finished, 120, "the run to end") == "SUCCESS"
    statuses = [node for node in ask(ui, PARTITIONS)["assetNodes"] if "ranges" in node["assetPartitionStatuses"]]
    loaded = {"/".join(node["assetKey"]["path"]): node["assetPartitionStatuses"]["ranges"] for node in statuses}
    assert loaded == {
        name: [{"status": "MATERIALIZED", "startKey": "2021-01-01", "endKey": "2021-01-01"}]
        for name in nodes.keys() - {"taxi_zones"}
    }
