# ruff: noqa: F401, F811 - pytest finds fixtures by their imported names
"""What others change after an apply (a release by gcloud, a loader that adds a column) is not a change to Terraform.

The configuration is applied with providers that only know schemas; with those of the registry these tests are skipped, as
they would ask Google.
"""

import json
from pathlib import Path

import pytest

from taxi_assets_tests.deploy.terraform_fixtures import applied, applied_once, initialized, succeed

DIGEST = "us-central1-docker.pkg.dev/p/taxi/taxi-assets@sha256:" + "0" * 64


def test_an_apply_leaves_nothing_to_do(applied: Path) -> None:
    assert changes(applied) == []


def test_columns_that_a_load_added_stay_in_the_warehouse(applied: Path) -> None:
    def add_column(table: dict) -> None:
        column = {"name": "new_fee", "type": "FLOAT", "mode": "NULLABLE"}
        table["schema"] = json.dumps([*json.loads(table["schema"]), column])

    edit(applied, "google_bigquery_table", add_column)
    assert changes(applied) == []


def test_a_release_leaves_nothing_to_do(applied: Path) -> None:
    """What gcloud writes besides the image: terraform-provider-google issues 13410 and 17218."""

    def release(values: dict) -> None:
        template = values["template"][0]
        template["annotations"] = {"client.knative.dev/user-image": DIGEST}
        template["labels"] = {"client.knative.dev/nonce": "abcdefghij"}
        if "revision" in template:
            template["revision"] = f"{values['name']}-00002-abc"
        for container in template.get("containers") or template["template"][0]["containers"]:
            container |= {"image": DIGEST, "command": ["dagster"], "args": ["--version"], "name": "worker-1"}
        values["annotations"] = {"client.knative.dev/user-image": DIGEST}
        values |= {"launch_stage": "GA", "client": "gcloud", "client_version": "530.0.0"}

    for kind in ("service", "worker_pool", "job"):
        edit(applied, f"google_cloud_run_v2_{kind}", release)
    assert changes(applied) == []


def test_a_change_of_what_terraform_owns_is_planned(applied: Path) -> None:
    edit(applied, "google_cloud_run_v2_worker_pool", lambda pool: pool["scaling"][0].update(manual_instance_count=0))
    assert changes(applied) == ["google_cloud_run_v2_worker_pool.daemon"]


def edit(folder: Path, kind: str, change) -> None:
    """Change every resource of a type in the state, as a refresh would after somebody had changed it at Google."""
    path = folder / "terraform.tfstate"
    state = json.loads(path.read_text())
    instances = [i for resource in state["resources"] if resource["type"] == kind for i in resource["instances"]]
    assert instances, kind
    for instance in instances:
        change(instance["attributes"])
    state["serial"] += 1
    path.write_text(json.dumps(state))


def changes(folder: Path) -> list[str]:
    """Addresses of what a plan would change."""
    lines = succeed(folder, "plan", "-input=false", "-refresh=false", "-json").splitlines()
    found = [line for line in map(json.loads, lines) if line["type"] == "planned_change"]
    return [line["change"]["resource"]["addr"] for line in found]
