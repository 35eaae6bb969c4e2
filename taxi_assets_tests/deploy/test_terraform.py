# ruff: noqa: F401, F811 - pytest finds fixtures by their imported names
"""terraform/: it is formatted and valid, its own tests pass, a plan complies with every policy, and it agrees with the code.

Needs terraform (1.11 or newer) and its providers: from the registry, or from a mirror that TF_CLI_CONFIG_FILE names.
Skipped, with the reason, where either is unavailable. Nothing is applied, and no cloud API is called.
"""

import copy
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from taxi_assets.core.month import Month
from taxi_assets.datasets.schema import KINDS
from taxi_assets.lake.io_manager import LakeIOManager
from taxi_assets.settings import Settings
from taxi_assets_tests.deploy import terraform_policies as policies
from taxi_assets_tests.deploy.terraform_fixtures import (
    INSTANCE,
    REPOSITORY,
    SOURCE,
    VARIABLES,
    initialized,
    plan,
    succeed,
)
from taxi_assets_tests.deploy.terraform_policies import POLICIES, Plan, Policy, containers, planned, task


def test_it_is_formatted(initialized: Path) -> None:
    assert succeed(initialized, "fmt", "-check", "-recursive", "-diff") == ""


def test_it_is_valid(initialized: Path) -> None:
    succeed(initialized, "validate", "-no-color")


def test_its_own_tests_pass(initialized: Path) -> None:
    output = succeed(initialized, "test", "-no-color")
    assert re.search(r"Success! \d+ passed, 0 failed", output), output


@pytest.mark.parametrize("rule", dict.fromkeys(policy.rule for policy in POLICIES), ids=lambda rule: rule.__name__)
def test_a_plan_keeps_the_policy(plan: Plan, rule) -> None:
    assert rule(plan) == []


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: f"{policy.rule.__name__}-{policy.type}")
def test_a_policy_notices_what_it_is_for(plan: Plan, policy: Policy) -> None:
    harmed = copy.deepcopy(plan)
    kind = policies.configured if policy.configuration else policies.planned
    _, target = next(kind(harmed, policy.type))
    policy.harm(target)
    assert policy.rule(harmed) != []


def test_every_policy_has_resources_to_judge(plan: Plan) -> None:
    resources = plan["planned_values"]["root_module"]["resources"]
    names = {name for resource in resources for name in (resource["type"], resource["address"])}
    assert {policy.type for policy in POLICIES} <= names


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_the_warehouse_schema_is_the_packages(kind) -> None:
    generate = SOURCE / "schemas/generate.py"
    generated = _script(generate)
    table_schema = generated["table_schema"]
    assert json.loads((SOURCE / f"schemas/{kind.name}.json").read_text()) == table_schema(kind), f"run {generate}"
    assert json.loads((SOURCE / "schemas/tables.json").read_text()) == generated["tables"](), f"run {generate}"


def test_the_warehouse_tables_are_what_the_sink_would_make(plan: Plan) -> None:
    tables = {values["table_id"]: values for _, values in planned(plan, "google_bigquery_table")}
    assert tables.keys() == {kind.table.name for kind in KINDS.values()}
    for kind in KINDS.values():
        partitioning = tables[kind.table.name]["time_partitioning"][0]
        assert (partitioning["type"], partitioning["field"]) == ("MONTH", kind.pickup)
        assert tables[kind.table.name]["clustering"] == list(kind.table.clustering)


def test_what_expires_are_the_folders_in_which_the_lake_keeps_raw_months(plan: Plan) -> None:
    ((_, lake),) = planned(plan, policies.LAKE)
    (prefixes,) = [p for rule in lake["lifecycle_rule"] if (p := rule["condition"][0]["matches_prefix"])]
    path = LakeIOManager(folder="lake", asset="raw_trips").path
    kinds = [KINDS[name] for name in VARIABLES["kinds"]]
    assert set(prefixes) == {f"{path(kind.table, Month(2021, 1)).parent.name}/" for kind in kinds}


def test_every_container_has_what_dagsters_instance_names(plan: Plan) -> None:
    named = set(re.findall(r"env: (\w+)", (REPOSITORY / "deploy/gcp/dagster.yaml").read_text()))
    assert named
    for address, container in containers(plan):
        assert named | {"DAGSTER_HOME"} <= {variable["name"] for variable in container["env"]}, address


@pytest.mark.parametrize("workload", ["taxi-run", "taxi-daemon", "taxi-webserver"])
def test_the_settings_accept_the_environment(plan: Plan, monkeypatch: pytest.MonkeyPatch, workload: str) -> None:
    job = next(values for _, values in planned(plan, *policies.RUNNING) if values["name"] == workload)
    environment = {variable["name"]: variable.get("value") for variable in task(job)["containers"][0]["env"]}
    unknown = {"TAXI_POSTGRES_URL": "postgresql://taxi:x@10.0.0.1:5432/trips", "TAXI_SMTP_URL": "smtp://u:p@mail:587"}
    given = {
        name: value or unknown.get(name, "https://known-after-apply.example.com")
        for name, value in environment.items()
        if name.startswith("TAXI_")
    }
    alerts = {"TAXI_UI_URL", "TAXI_ALERT_WEBHOOK", "TAXI_SMTP_URL", "TAXI_ALERT_EMAIL"}
    assert alerts & given.keys() == (alerts if workload == "taxi-daemon" else set())
    assert {name.removeprefix("TAXI_").lower() for name in given} <= Settings.model_fields.keys()
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    settings = Settings(_env_file=None)
    assert (settings.profile, {kind.name for kind in settings.taxi_kinds}) == ("gcp", set(VARIABLES["kinds"]))
    if workload == "taxi-run":
        mounts = {mount["mount_path"] for mount in task(job)["containers"][0]["volume_mounts"]}
        assert mounts == {str(settings.lake)}, "the lake is where its bucket is mounted"


def test_the_default_memory_of_a_run_holds_every_month_that_was_measured(plan: Plan) -> None:
    page = (REPOSITORY / "docs/deploy.md").read_text().split("\n### Memory\n")[1].split("\n### ")[0]
    measured = [float(gigabytes) for gigabytes in re.findall(r"\| ([\d.]+) GB \|$", page, re.MULTILINE)]
    assert len(measured) >= 3
    (memory,) = [
        task(values)["containers"][0]["resources"][0]["limits"]["memory"]
        for _, values in planned(plan, policies.JOB)
        if values["name"] == "taxi-run"
    ]
    assert int(memory.removesuffix("Gi")) * 2**30 > 1.25 * max(measured) * 10**9, "docs: raised above 80 percent"


def test_the_launcher_starts_the_job_that_exists_with_its_own_time_limit(plan: Plan) -> None:
    launcher = INSTANCE["run_launcher"]["config"]
    locations = yaml.safe_load((REPOSITORY / "deploy/gcp/workspace.yaml").read_text())["load_from"]
    assert list(launcher["job_name_by_code_location"]) == [
        entry["python_module"]["location_name"] for entry in locations
    ]
    jobs = {values["name"]: task(values) for _, values in planned(plan, "google_cloud_run_v2_job")}
    (name,) = launcher["job_name_by_code_location"].values()
    assert jobs[name]["timeout"] == f"{launcher['run_timeout']}s"
    assert INSTANCE["run_monitoring"]["max_runtime_seconds"] > launcher["run_timeout"]


def test_a_release_touches_what_exists(plan: Plan) -> None:
    commands = (REPOSITORY / "deploy/gcp/release").read_text()
    names = {values["name"] for _, values in planned(plan, *policies.RUNNING)}
    assert set(re.findall(r"\b(?:update|execute|describe) (taxi-\w+)", commands)) == names


def test_checkov_finds_nothing_that_is_not_justified() -> None:
    checkov = shutil.which("checkov") or Path(sys.executable).with_name("checkov")
    if not Path(checkov).exists():
        pytest.skip("checkov is not installed (uv tool install checkov)")
    command = [str(checkov), "--directory", str(SOURCE), "--config-file", str(SOURCE / ".checkov.yaml"), "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_skipped_check_says_why() -> None:
    lines = (SOURCE / ".checkov.yaml").read_text().splitlines()
    skipped = [line for line in lines if line.strip().startswith("- CKV")]
    assert skipped
    assert all(len(line.partition("#")[2].split()) >= 4 for line in skipped), skipped


def _script(path: Path) -> dict:
    import runpy

    return runpy.run_path(str(path))
