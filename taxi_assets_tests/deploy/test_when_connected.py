"""A container's first command waits for the database, which it cannot reach at first (Direct VPC egress)."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from taxi_assets_tests.postgres_fixtures import PostgresServer
from taxi_assets_tests.processes import free_port

COMMAND = [sys.executable, str(Path(__file__).resolve().parents[2] / "deploy/gcp/when-connected")]
MIGRATE = [sys.executable, "-m", "dagster", "instance", "migrate"]


def test_the_storage_is_migrated_when_the_server_comes_up_late(own_postgres_server: PostgresServer, tmp_path) -> None:
    url = own_postgres_server.url.replace("postgresql:", "postgresql+psycopg2:", 1)
    (tmp_path / "dagster.yaml").write_text("storage: {postgres: {postgres_url: {env: DAGSTER_POSTGRES_URL}}}\n")
    environment = {**os.environ, "DAGSTER_HOME": str(tmp_path), "DAGSTER_POSTGRES_URL": url}
    own_postgres_server.kill()
    pipes = {"env": environment, "stderr": subprocess.PIPE, "stdout": subprocess.DEVNULL, "text": True}
    with subprocess.Popen([*COMMAND, *MIGRATE], **pipes) as process:
        waiting = process.stderr.readline()
        time.sleep(3)  # longer than dagster-postgres tries
        own_postgres_server.start()
        _, rest = process.communicate(timeout=120)
    assert "waiting for 127.0.0.1" in waiting
    assert process.returncode == 0, rest


def test_the_command_reports_by_itself_a_server_that_never_comes() -> None:
    url = f"postgresql+psycopg2://taxi:secret@127.0.0.1:{free_port()}/dagster"
    environment = {**os.environ, "DAGSTER_POSTGRES_URL": url, "WAIT_SECONDS": "0"}
    done = subprocess.run([*COMMAND, "sh", "-c", "exit 3"], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 3
    assert "cannot be reached" in done.stderr
    assert "secret" not in done.stderr
