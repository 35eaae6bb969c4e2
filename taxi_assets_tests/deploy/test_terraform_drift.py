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


def test_whoever_had_one_database_user_gets_a_second_and_nothing_else_changes(applied: Path) -> None:
    """Not even a URL, which is written when a password is: runs stay the owner of their tables (docs/deploy.md, Upgrade)."""

    def one_user(resource: dict) -> None:
        (resource["instances"],) = [[i] for i in resource["instances"] if i.pop("index_key") == "dagster"]
        assert resource["instances"][0]["attributes"]["name"] == "taxi"

    edit_resources(applied, "google_sql_user", one_user)
    assert changes(applied) == ['google_sql_user.this["trips"]']


def test_a_change_of_what_terraform_owns_is_planned(applied: Path) -> None:
    edit(applied, "google_cloud_run_v2_worker_pool", lambda pool: pool["scaling"][0].update(manual_instance_count=0))
    assert changes(applied) == ["google_cloud_run_v2_worker_pool.daemon"]


def edit(folder: Path, kind: str, change) -> None:
    """Change every resource of a type in the state, as a refresh would after somebody had changed it at Google."""
    edit_resources(folder, kind, lambda resource: [change(i["attributes"]) for i in resource["instances"]])


def edit_resources(folder: Path, kind: str, change) -> None:
    """Change every block of a type in the state."""
    path = folder / "terraform.tfstate"
    state = json.loads(path.read_text())
    resources = [resource for resource in state["resources"] if resource["type"] == kind and resource["instances"]]
    assert resources, kind
    for resource in resources:
        change(resource)
    state["serial"] += 1
    path.write_text(json.dumps(state))


def changes(folder: Path) -> list[str]:
    """Addresses of what a plan would change at Google."""
    lines = succeed(folder, "plan", "-input=false", "-refresh=false", "-json").splitlines()
    found = [line for line in map(json.loads, lines) if line["type"] == "planned_change"]
    return [line["change"]["resource"]["addr"] for line in found if line["change"]["action"] != "move"]
