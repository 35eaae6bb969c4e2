"""A copy of terraform/ after init, and its plan; terraform with the providers that TF_CLI_CONFIG_FILE names, or the registry's.

Import the fixtures you use, and `initialized`, by name into the test module.
"""

import fcntl
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from taxi_assets_tests.deploy.terraform_policies import Plan

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCE = REPOSITORY / "terraform"
INSTANCE = yaml.safe_load((REPOSITORY / "deploy/gcp/dagster.yaml").read_text())
VARIABLES = {
    "project_id": "taxi-test-project",
    "region": "us-central1",
    "billing_account": "0A1B2C-3D4E5F-678901",
    "alert_email": "data@example.com",
    "viewers": ["group:data@example.com"],
    "alert_webhook_secret": "taxi-alert-webhook",
    "alert_smtp_secret": "taxi-smtp",
    "database_password": "the-password-0123456789abcdef",
    "kinds": ["yellow", "green", "fhv", "fhvhv"],
    "github": {"repository": "my-org/taxi_assets", "repository_id": "123456789", "state_bucket": "my-tfstate"},
}


def terraform(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run terraform; without a token a real provider would look for user credentials even for a plan."""
    environment = {
        **os.environ,
        "TF_IN_AUTOMATION": "1",
        "GOOGLE_OAUTH_ACCESS_TOKEN": "none",
        "CHECKPOINT_DISABLE": "1",
    }
    command = [shutil.which("terraform") or "terraform", f"-chdir={folder}", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)


def succeed(folder: Path, *arguments: str) -> str:
    done = terraform(folder, *arguments)
    assert done.returncode == 0, f"terraform {' '.join(arguments)}:\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="session")
def initialized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of terraform/ after init, created once for all workers, with local state."""
    if not shutil.which("terraform"):
        pytest.skip("terraform is not installed")
    shared = tmp_path_factory.getbasetemp()
    shared = shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared
    with (shared / "terraform.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder, providers = shared / "terraform", shared / "providers"
        if not providers.exists():
            providers.mkdir()
            shutil.copy(SOURCE / "versions.tf", providers)  # the requirements alone: what fails here is not our mistake
            (providers / "variables.tf").write_text(
                'variable "project_id" {}\nvariable "region" {}\nlocals { labels = {} }'
            )
            (providers / "result").write_text(json.dumps(_init(providers)))
        if unavailable := json.loads((providers / "result").read_text()):
            pytest.skip(
                f"terraform's providers cannot be had (TF_CLI_CONFIG_FILE may name a mirror): {unavailable[:160]}"
            )
        if not folder.exists():
            shutil.copytree(SOURCE, folder, ignore=shutil.ignore_patterns(".terraform*", "*.tfvars", "*.tfstate*"))
            (folder / "backend_override.tf").write_text('terraform {\n  backend "local" {}\n}\n')
            assert not (trouble := _init(folder)), trouble
    return folder


def _init(folder: Path) -> str:
    done = terraform(folder, "init", "-backend=false", "-input=false", "-no-color")
    return "" if done.returncode == 0 else " ".join(done.stderr.split())


@pytest.fixture(scope="session")
def plan(initialized: Path) -> Plan:
    """The plan of a first apply with everything switched on."""
    with (initialized.parent / "terraform.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (initialized / "plan.json").exists():
            variables = initialized.parent / "test.tfvars.json"  # not where `terraform test` of another worker reads it
            variables.write_text(json.dumps(VARIABLES))
            succeed(initialized, "init", "-input=false", "-no-color")
            succeed(initialized, "plan", "-input=false", "-no-color", f"-var-file={variables}", "-out=plan.tfplan")
            (initialized / "plan.json").write_text(succeed(initialized, "show", "-json", "plan.tfplan"))
    return json.loads((initialized / "plan.json").read_text())


@pytest.fixture(scope="session")
def applied_once(initialized: Path) -> Path:
    """A folder in which the configuration was applied, with a local state."""
    folder = initialized.parent / "applied"
    with (initialized.parent / "terraform.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            ignored = shutil.ignore_patterns("plan.*", "*.tfvars.json", "tests")
            shutil.copytree(initialized, folder, symlinks=True, ignore=ignored)
            (folder / "test.auto.tfvars.json").write_text(json.dumps(VARIABLES))
            succeed(folder, "init", "-input=false", "-no-color")
            done = terraform(folder, "apply", "-input=false", "-auto-approve", "-no-color")
            (folder / "refused").write_text("" if done.returncode == 0 else done.stdout + done.stderr)
    refused = (folder / "refused").read_text()
    if "invalid authentication credentials" in refused:
        pytest.skip("these are Google's providers, and nothing is applied to Google in tests")
    assert not refused, refused
    return folder


@pytest.fixture
def applied(applied_once: Path, tmp_path: Path) -> Path:
    """A copy of it, whose state may be changed."""
    return shutil.copytree(applied_once, tmp_path / "applied", symlinks=True)
