"""What runs on a change: the workflow `ci`, the hooks before a commit, and Dependabot's updates."""

import re
import tomllib
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
TEXT = (REPOSITORY / ".github/workflows/ci.yml").read_text(encoding="utf-8")
WORKFLOW = yaml.safe_load(TEXT)
JOBS = WORKFLOW["jobs"]


def test_the_demo_runs_on_every_python_version_that_the_package_supports():
    supported = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]["requires-python"]
    first, end = map(int, re.fullmatch(r">=3\.(\d+),<3\.(\d+)", supported).groups())
    assert JOBS["demo"]["strategy"]["matrix"]["python"] == [f"3.{minor}" for minor in range(first, end)]
    assert "make demo" in [step.get("run") for step in JOBS["demo"]["steps"]]


def test_the_tests_run_on_the_python_version_of_the_image():
    image = re.search(r"PYTHON_IMAGE=python:(3\.\d+)-", (REPOSITORY / "deploy/Dockerfile").read_text(encoding="utf-8"))
    deliver = yaml.safe_load((REPOSITORY / ".github/workflows/deliver.yml").read_text(encoding="utf-8"))
    for job in (JOBS["test"], deliver["jobs"]["test"]):
        assert [step["with"]["python-version"] for step in job["steps"] if "setup-python" in step.get("uses", "")] == [
            image[1]
        ]
        assert ".ci/run" in [step.get("run") for step in job["steps"]]


def test_a_pull_request_and_a_push_to_main_each_run_the_tests_once():
    deliver = yaml.safe_load((REPOSITORY / ".github/workflows/deliver.yml").read_text(encoding="utf-8"))
    assert JOBS["test"]["if"] == "github.event_name != 'push'"
    assert deliver["jobs"]["test"]["if"] == "github.event_name != 'pull_request'"


def test_actions_are_pinned_and_have_no_rights_and_no_secrets():
    uses = re.findall(r"uses: (.+)", TEXT)
    assert uses
    assert [line for line in uses if not re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line)] == []
    assert WORKFLOW["permissions"] == {"contents": "read"}
    assert not any("permissions" in job for job in JOBS.values())
    assert "secrets." not in TEXT
    assert all("timeout-minutes" in job for job in JOBS.values())


def test_hooks_use_the_tools_of_the_environment_and_no_network():
    repositories = yaml.safe_load((REPOSITORY / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    assert [each["repo"] for each in repositories] == ["local"]
    lint = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    for hook in repositories[0]["hooks"]:
        command = hook["entry"].removeprefix(".venv/bin/").removesuffix(" --force-exclude")
        assert hook["language"] == "system"
        assert f"$(BIN)/{command} " in lint.replace("\n", " "), f"`make lint` does not run {command}"


def test_updates_are_proposed_for_files_that_exist():
    files = {
        "pip": "pyproject.toml",
        "github-actions": ".github/workflows/*.yml",
        "docker": "*Dockerfile",
        "docker-compose": "docker-compose.yml",
        "terraform": "versions.tf",
    }
    updates = yaml.safe_load((REPOSITORY / ".github/dependabot.yml").read_text(encoding="utf-8"))["updates"]
    assert {each["package-ecosystem"] for each in updates} == files.keys()
    for each in updates:
        folder = REPOSITORY / each["directory"].strip("/")
        assert list(folder.glob(files[each["package-ecosystem"]])), each["directory"]
