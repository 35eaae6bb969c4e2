"""The deployment workflow: pinned actions, minimum permissions, no keys, and the names that terraform/ defines.

zizmor audits the file (skipped where it is not installed); nothing is run on GitHub.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDER = REPOSITORY / ".github/workflows"
TEXT = (FOLDER / "deliver.yml").read_text()
WORKFLOW = yaml.safe_load(TEXT)
JOBS = WORKFLOW["jobs"]
TRIGGERS = WORKFLOW[True]  # YAML 1.1 reads the key `on` as true


def test_every_action_is_pinned_by_commit_and_says_its_release() -> None:
    uses = re.findall(r"uses: (.+)", TEXT)
    assert uses
    assert [line for line in uses if not re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line)] == []


def test_only_the_jobs_that_enter_the_cloud_may_ask_for_a_token() -> None:
    assert WORKFLOW["permissions"] == {"contents": "read"}
    rights = {name: job["permissions"] for name, job in JOBS.items() if "permissions" in job}
    federated = {"contents": "read", "id-token": "write"}
    assert rights == {"plan": federated, "deliver": federated}


def test_no_secret_is_used_and_no_strangers_code_runs_with_rights() -> None:
    assert "secrets." not in TEXT
    assert "credentials_json" not in TEXT
    assert set(TRIGGERS) == {"push", "pull_request", "workflow_dispatch"}  # never pull_request_target
    assert "head.repo.full_name == github.repository" in JOBS["plan"]["if"]


def test_nothing_is_released_that_was_not_tested_on_main() -> None:
    assert set(JOBS["deliver"]["needs"]) == {"test", "terraform"}
    assert "github.ref == 'refs/heads/main'" in JOBS["deliver"]["if"]
    assert TRIGGERS["push"] == {"branches": ["main"]}


def test_a_release_is_not_cut_off_and_does_not_meet_another() -> None:
    assert WORKFLOW["concurrency"]["group"] == "deliver-${{ github.ref }}"
    assert WORKFLOW["concurrency"]["cancel-in-progress"] == "${{ github.event_name == 'pull_request' }}"
    assert all("timeout-minutes" in job for job in JOBS.values())


def test_what_is_released_is_a_digest() -> None:
    steps = [step.get("run", "") for step in JOBS["deliver"]["steps"]]
    assert any("RepoDigests" in step for step in steps)
    assert any('deploy/gcp/release "$DIGEST"' in step for step in steps)


def test_expressions_do_not_reach_a_shell_but_as_variables() -> None:
    scripts = [step["run"] for job in JOBS.values() for step in job["steps"] if "run" in step]
    assert [script for script in scripts if "${{" in script] == []


def test_accounts_and_variables_are_those_that_terraform_makes() -> None:
    ci, outputs = ((REPOSITORY / "terraform" / name).read_text() for name in ("ci.tf", "outputs.tf"))
    assert 'account_id   = "taxi-ci-${each.key}"' in ci
    for account in re.findall(r"service_account: taxi-ci-(\w+)@", TEXT):
        assert re.search(rf"^\s+{account}\s+= \"", ci, re.MULTILINE), account
    assert set(re.findall(r"vars\.(\w+)", TEXT)) == set(re.findall(r"gh variable set -R \S+ (\w+)", outputs))


@pytest.mark.parametrize(
    "image", ["", "us-central1-docker.pkg.dev/p/taxi/taxi-assets:latest"], ids=["nothing", "a tag"]
)
def test_a_release_refuses_what_is_not_a_digest(image: str, tmp_path: Path) -> None:
    done = _release(image, tmp_path)
    assert done.returncode == 2
    assert "@sha256:" in done.stderr
    assert not (tmp_path / "calls").exists()


DIGEST = "us-central1-docker.pkg.dev/p/taxi/taxi-assets@sha256:" + "0" * 64


def test_a_release_migrates_and_loads_the_code_before_it_changes_what_serves(tmp_path: Path) -> None:
    done = _release(DIGEST, tmp_path)
    assert done.returncode == 0, done.stderr
    calls = [" ".join(line.split()[1:4]) for line in (tmp_path / "calls").read_text().splitlines()]
    assert calls[:7] == [
        "jobs update taxi-migrate",
        "jobs execute taxi-migrate",
        "jobs update taxi-validate",
        "jobs execute taxi-validate",
        "jobs update taxi-run",
        "worker-pools update taxi-daemon",
        "services update taxi-webserver",
    ]
    assert (tmp_path / "calls").read_text().count(f"--image={DIGEST}") == 5


def test_every_command_of_a_release_waits_for_the_database(tmp_path: Path) -> None:
    _release(DIGEST, tmp_path)
    updates = [line for line in (tmp_path / "calls").read_text().splitlines() if " update " in line]
    assert len(updates) == 5
    assert [line for line in updates if "--command=/opt/taxi/deploy/gcp/when-connected --args=" not in line] == []


@pytest.mark.parametrize("image_has_it", [True, False], ids=["this version", "a rollback to one without the script"])
def test_the_migration_first_makes_dagsters_user_the_owner_of_its_database(image_has_it: bool, tmp_path: Path) -> None:
    _release(DIGEST, tmp_path)
    (migrate,) = re.findall(r"update taxi-migrate .*--args=(.*)", (tmp_path / "calls").read_text())
    shell, option, commands = migrate.split(",")  # as gcloud does
    names = ["own-storage"] * image_has_it + ["dagster"]
    for name in names:
        (tmp_path / name).write_text(f'#!/bin/sh\necho {name} "$@"\n')
        (tmp_path / name).chmod(0o755)
    command = [shell, option, commands.replace("/opt/taxi/deploy/gcp", str(tmp_path))]
    ran = subprocess.check_output(command, env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, text=True, timeout=60)
    assert ran.split("\n") == ["own-storage"] * image_has_it + ["dagster instance migrate", ""]


def test_images_are_of_the_platform_that_cloud_run_has() -> None:
    """The first image may be built on a Mac with an ARM processor."""
    for text in (TEXT, (REPOSITORY / "terraform/outputs.tf").read_text()):
        assert text.count("docker build ") == text.count("docker build --platform linux/amd64 ") == 1


@pytest.mark.parametrize("failing", ["jobs execute taxi-migrate", "jobs execute taxi-validate"])
def test_a_release_stops_at_the_first_failure(failing: str, tmp_path: Path) -> None:
    done = _release(DIGEST, tmp_path, failing=failing)
    assert done.returncode != 0
    calls = (tmp_path / "calls").read_text()
    assert failing in calls
    assert not any(name in calls for name in ("taxi-run", "taxi-daemon", "taxi-webserver"))


def test_a_release_fails_when_the_ui_is_open_to_everyone(tmp_path: Path) -> None:
    done = _release(DIGEST, tmp_path, answer="200")
    assert done.returncode == 1
    assert "answered 200" in done.stderr


def _release(
    image: str, folder: Path, *, failing: str = "nothing", answer: str = "302"
) -> subprocess.CompletedProcess[str]:
    """Run the real script with a fake gcloud and curl that record their arguments."""
    (folder / "gcloud").write_text(
        f'#!/bin/sh\necho "$@" >> {folder}/calls\n'
        f'case "$*" in *"{failing}"*) exit 1;; *containers*) echo "{image}";; *status.url*) echo https://ui;; esac\n'
    )
    (folder / "curl").write_text(f"#!/bin/sh\nprintf {answer}\n")
    for tool in ("gcloud", "curl"):
        (folder / tool).chmod(0o755)
    environment = {
        "PATH": f"{folder}:/usr/bin:/bin",
        "CLOUDSDK_CORE_PROJECT": "p",
        "CLOUDSDK_RUN_REGION": "us-central1",
    }
    command = [str(REPOSITORY / "deploy/gcp/release"), *([image] if image else [])]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


def test_zizmor_finds_nothing() -> None:
    zizmor = shutil.which("zizmor") or str(Path(sys.executable).with_name("zizmor"))
    if not Path(zizmor).exists():
        pytest.skip("zizmor is not installed (uv tool install zizmor)")
    done = subprocess.run([zizmor, "--offline", str(FOLDER)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
