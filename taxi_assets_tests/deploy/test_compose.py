"""docker-compose.yml, parsed without starting it: ports, limits, dependencies and secrets. `make verify-deploy` starts it."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
TEXT = (REPOSITORY / "docker-compose.yml").read_text()
COMPOSE = yaml.safe_load(TEXT)
SERVICES: dict[str, dict] = COMPOSE["services"]
LASTING = {name: service for name, service in SERVICES.items() if service.get("restart") != "no"}
OURS = {name: service for name, service in SERVICES.items() if "${DEPLOY_IMAGE" in service["image"]}
EACH = pytest.mark.parametrize("name", SERVICES)


def test_the_services_and_their_profiles_are_these() -> None:
    assert {name: service.get("profiles", []) for name, service in SERVICES.items()} == {
        "postgres": [],
        "migrate": [],
        "code": [],
        "webserver": [],
        "daemon": [],
        "redis": ["scale"],
        "worker": ["scale"],
        "gcs-emulator": ["emulators"],
        "bigquery-emulator": ["emulators"],
    }


@EACH
def test_what_is_published_is_published_on_this_machine_alone(name: str) -> None:
    for port in SERVICES[name].get("ports", []):
        assert port.startswith("127.0.0.1:"), port


def test_only_the_ui_and_the_databases_are_published() -> None:
    published = {name for name, service in SERVICES.items() if service.get("ports")}
    assert published == {"webserver", "postgres", "gcs-emulator", "bigquery-emulator"}


@EACH
def test_a_service_that_stays_is_checked_restarted_and_limited(name: str) -> None:
    service = SERVICES[name]
    limits = service["deploy"]["resources"]["limits"]
    assert {"cpus", "memory", "pids"} <= limits.keys()
    assert service["logging"]["options"]["max-size"]
    if name in LASTING:
        assert service["restart"] == "unless-stopped"
        assert service["healthcheck"]["test"][0] == "CMD"
        assert "start_interval" not in service["healthcheck"]


@EACH
def test_images_are_of_a_named_version(name: str) -> None:
    image = re.sub(r"\$\{\w+:-(.*)\}", r"\1", SERVICES[name]["image"])
    _, _, tag = image.partition(":")
    assert tag not in ("", "latest"), image


@EACH
def test_no_service_has_more_rights_than_it_needs(name: str) -> None:
    service = SERVICES[name]
    assert "no-new-privileges:true" in service["security_opt"]
    assert not {"privileged", "network_mode", "pid", "cap_add", "devices"} & service.keys()
    assert "docker.sock" not in str(service.get("volumes"))
    if name in OURS:
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]


def test_no_secret_is_written_down() -> None:
    for name, service in SERVICES.items():
        for variable, value in (service.get("environment") or {}).items():
            if re.search(r"PASSWORD|URL|KEY|TOKEN", variable) and value:
                assert re.search(r"\$\{POSTGRES_PASSWORD", value), (name, variable)
    assert not re.search(r"://\w+:[^$@\s]+@", TEXT)


def test_without_a_password_compose_says_what_to_do() -> None:
    assert re.search(r"\$\{POSTGRES_PASSWORD:\?[^}]*make up[^}]*\.env\}", TEXT)


def test_the_password_itself_is_in_the_databases_container_alone() -> None:
    knowing = {
        name for name, service in SERVICES.items() if (service.get("environment") or {}).get("POSTGRES_PASSWORD")
    }
    assert knowing == {"postgres"}


def test_everything_of_the_image_waits_for_the_migration_and_that_for_the_database() -> None:
    assert SERVICES["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    assert SERVICES["migrate"]["command"] == ["dagster", "instance", "migrate"]
    for name in OURS.keys() - {"migrate"}:
        assert SERVICES[name]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
    for name in ("webserver", "daemon"):
        assert SERVICES[name]["depends_on"]["code"] == {"condition": "service_healthy"}
    assert SERVICES["worker"]["depends_on"]["redis"] == {"condition": "service_healthy"}


def test_all_roles_are_one_image_with_one_instance_and_one_volume() -> None:
    assert OURS.keys() == {"migrate", "code", "webserver", "daemon", "worker"}
    for service in OURS.values():
        assert service["image"] == OURS["code"]["image"]
        assert service["volumes"] == ["data:/var/lib/taxi"]
        assert service["environment"]["DAGSTER_HOME"] == "/opt/taxi/deploy/compose"


def test_what_is_written_is_on_named_volumes() -> None:
    used = {v.split(":")[0] for s in SERVICES.values() for v in s.get("volumes", []) if v[0] not in "./"}
    assert used == COMPOSE["volumes"].keys() == {"postgres", "data", "redis", "emulators"}


def test_dagsters_storage_is_reached_by_psycopg2_and_the_trips_by_a_plain_address() -> None:
    environment = OURS["code"]["environment"]
    assert ":-postgresql+psycopg2://dagster:" in environment["DAGSTER_POSTGRES_URL"]
    assert ":-postgresql://trips:" in environment["TAXI_POSTGRES_URL"]


def test_automation_is_on_unless_it_is_switched_off() -> None:
    assert OURS["daemon"]["environment"]["TAXI_AUTOMATION"] == "${TAXI_AUTOMATION:-on}"


def test_there_is_one_daemon_and_workers_finish_their_step_when_they_are_stopped() -> None:
    assert "replicas" not in str(SERVICES["daemon"])
    assert SERVICES["worker"]["environment"]["TAXI_EXECUTOR"] == "celery"
    assert SERVICES["worker"]["stop_grace_period"] == "5m"


def test_the_instance_bears_a_crash_and_a_worker_that_never_comes() -> None:
    instance = yaml.safe_load((REPOSITORY / "deploy/compose/dagster.yaml").read_text())
    assert instance["storage"] == {"postgres": {"postgres_url": {"env": "DAGSTER_POSTGRES_URL"}}}
    assert instance["run_monitoring"]["max_runtime_seconds"] > 0
    assert instance["run_retries"] == {"enabled": True, "max_retries": 1, "retry_on_asset_or_op_failure": False}
    limits = instance["concurrency"]["runs"]
    assert limits["tag_concurrency_limits"][0]["limit"] < limits["max_concurrent_runs"]
    for path in ("compute_logs", "local_artifact_storage"):
        assert instance[path]["config"]["base_dir"].startswith("/var/lib/taxi/")


def test_the_workspace_names_the_code_servers_service_and_port() -> None:
    (location,) = yaml.safe_load((REPOSITORY / "deploy/compose/workspace.yaml").read_text())["load_from"]
    assert location["grpc_server"] == {"host": "code", "port": 4000, "location_name": "taxi_assets"}
    assert SERVICES["code"]["expose"] == ["4000"]
    assert '"--port", "4000"' in (REPOSITORY / "deploy/compose/code-server").read_text()


def test_make_up_writes_a_password_once_that_nobody_else_may_read(tmp_path: Path) -> None:
    shutil.copy(REPOSITORY / "Makefile", tmp_path)
    docker = tmp_path / "bin/docker"
    docker.parent.mkdir()
    docker.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n')
    docker.chmod(0o755)
    environment = {**os.environ, "PATH": f"{docker.parent}:{os.environ['PATH']}"}
    written = []
    for _ in range(2):
        subprocess.run(["make", "up"], cwd=tmp_path, env=environment, check=True, timeout=60)
        written.append((tmp_path / ".env").read_text())
    assert re.fullmatch(r"POSTGRES_PASSWORD=[0-9a-f]{48}\n", written[0])
    assert written[1] == written[0]
    assert (tmp_path / ".env").stat().st_mode & 0o077 == 0
    assert (tmp_path / "calls").read_text() == "compose version\ncompose up --detach --build --wait\n" * 2
