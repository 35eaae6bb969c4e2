"""deploy/gcp/dagster.yaml without Google's APIs: a run is launched through it, and the command that the launcher sends to
Cloud Run is run as in the container, with a real Postgres and a Cloud Storage emulator.

Replaced: Google's credentials and `JobsClient.run_job`, whose request is captured.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from taxi_assets.sinks.postgres.embedded import EmbeddedPostgres

if TYPE_CHECKING:
    from taxi_assets_tests.gcs_fixtures import GcsServer

pytest_plugins = ["taxi_assets_tests.gcs_fixtures"]

REPOSITORY = Path(__file__).resolve().parents[2]

IN_THE_CLOUD = """
from unittest import mock
import google.auth.credentials
mock.patch("google.auth.default", return_value=(google.auth.credentials.AnonymousCredentials(), "p")).start()
"""

LAUNCH = f"""
import json, os, sys
{IN_THE_CLOUD}
from google.cloud import run_v2
requests = []
def run_job(self, request):
    requests.append(request)
    operation = mock.Mock()
    operation.metadata.name = request.name + "/executions/taxi-run-x1"
    return operation
mock.patch.object(run_v2.JobsClient, "run_job", run_job).start()
import dagster as dg
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import WorkspaceFileTarget
target = WorkspaceFileTarget([sys.argv[1]])
with dg.DagsterInstance.get() as instance, WorkspaceProcessContext(instance, target) as process:
    workspace = process.create_request_context()
    (repository,) = workspace.get_code_location("taxi_assets").get_repositories().values()
    job = repository.get_full_job("load_month")
    run = instance.create_run(
        job_name=job.name, run_id=None, run_config={{}}, status=dg.DagsterRunStatus.NOT_STARTED,
        tags={{"dagster/partition": "2021-01-01"}}, root_run_id=None, parent_run_id=None, step_keys_to_execute=None,
        execution_plan_snapshot=None, job_snapshot=job.job_snapshot, parent_job_snapshot=None, op_selection=None,
        resolved_op_selection=None, remote_job_origin=job.get_remote_origin(), job_code_origin=job.get_python_origin(),
        asset_selection=None, asset_check_selection=None, asset_graph=repository.asset_graph,
    )
    instance.launch_run(run.run_id, workspace)
    (request,) = requests
    (container,) = request.overrides.container_overrides
    assert instance.get_concurrency_config().run_queue_config.max_concurrent_runs == 7
    launched = instance.get_run_by_id(run.run_id)
    answers = []
    def get_execution(self, request):
        asked = answers.pop()
        if isinstance(asked, Exception):
            raise asked
        return asked
    mock.patch.object(run_v2.ExecutionsClient, "get_execution", get_execution).start()
    from google.api_core.exceptions import ServiceUnavailable
    def health(answer, run=launched):
        answers.append(answer)
        return instance.run_launcher.check_run_worker_health(run).status.value
    healths = [health(ServiceUnavailable("503")), health(run_v2.Execution(failed_count=1)), health(None, run)]
    print(json.dumps([request.name, list(container.args), launched.tags["cloud_run_job_execution_id"], healths]))
"""

EXECUTE = f"""
import sys
{IN_THE_CLOUD}
from dagster._cli import cli
cli(sys.argv[2:])
"""


@pytest.fixture
def cloud(tmp_path: Path, gcs: GcsServer) -> Generator[dict[str, str]]:
    """The environment of a container, with a separate Postgres and the emulator for the logs' bucket."""
    pytest.importorskip("dagster_contrib_gcp", reason="the launcher is not installed")
    server = EmbeddedPostgres(tmp_path / "postgres")
    try:
        url = server.url()
        yield {
            **os.environ,
            "DAGSTER_HOME": str(REPOSITORY / "deploy/gcp"),
            "DAGSTER_POSTGRES_URL": url.replace("postgresql:", "postgresql+psycopg2:", 1),  # as terraform/sql.tf does
            "DAGSTER_GCP_PROJECT": "p",
            "DAGSTER_GCP_REGION": "us-central1",
            "DAGSTER_MAX_RUNS": "7",
            "DAGSTER_LOGS_BUCKET": gcs.new_bucket(),
            "STORAGE_EMULATOR_HOST": gcs.url,
            "TAXI_HOME": str(tmp_path / "taxi"),
            "TAXI_POSTGRES_URL": url,
            "TAXI_SAMPLE_ROWS": "2000",
            "PYTHONPATH": os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")]),
        }
    finally:
        server.remove()


def launched(cloud: dict[str, str], folder: Path) -> tuple[str, list[str], str, list[str]]:
    """The request to Cloud Run: the job, the arguments, and the execution recorded in the run's tags.

    Also the health of the run while Cloud Run's API is unavailable, after its container failed, and before it was launched.
    """
    workspace = yaml.safe_load((REPOSITORY / "deploy/gcp/workspace.yaml").read_text())
    workspace["load_from"][0]["python_module"]["working_directory"] = str(REPOSITORY)  # in the image: /opt/taxi
    (folder / "workspace.yaml").write_text(yaml.safe_dump(workspace))
    done = _python(LAUNCH, str(folder / "workspace.yaml"), environment=cloud)
    assert done.returncode == 0, done.stderr
    (answer,) = [line for line in done.stdout.splitlines() if line.startswith('["projects/')]
    return tuple(json.loads(answer))


def test_what_the_launcher_asks_for_runs_in_a_container_of_its_own(cloud: dict[str, str], tmp_path: Path) -> None:
    job, arguments, execution, healths = launched(cloud, tmp_path)
    assert healths == ["RUNNING", "FAILED", "UNKNOWN"], "a run continues while Google does not say what became of it"
    assert (job, execution) == ("projects/p/locations/us-central1/jobs/taxi-run", "taxi-run-x1")
    done = _python(EXECUTE, *arguments, environment={**cloud, "TAXI_SOURCE": "sample"})
    assert (done.returncode, "RUN_SUCCESS" in done.stderr) == (0, True), done.stderr[-3000:]


def test_a_failed_run_ends_with_0_and_is_told_by_the_line_that_the_alert_looks_for(
    cloud: dict[str, str], tmp_path: Path
) -> None:
    _, arguments, *_ = launched(cloud, tmp_path)
    done = _python(EXECUTE, *arguments, environment={**cloud, "TAXI_SOURCE": str(tmp_path / "{month}.csv")})
    assert (done.returncode, "RUN_FAILURE" in done.stderr) == (0, True), done.stderr[-3000:]
    assert "RUN_FAILURE" in (REPOSITORY / "terraform/monitoring.tf").read_text()


def _python(code: str, *arguments: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
