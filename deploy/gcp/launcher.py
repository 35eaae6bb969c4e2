"""The run launcher of deploy/gcp/dagster.yaml."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dagster_contrib_gcp.cloud_run.run_launcher import CloudRunRunLauncher  # ty: ignore[unresolved-import]

if TYPE_CHECKING:
    import dagster as dg


class PatientCloudRunRunLauncher(CloudRunRunLauncher):
    """Takes a run for running while Cloud Run does not say what became of its execution.

    The base class reports UNKNOWN after one 5xx of Cloud Run's API, and Dagster then marks the run as failed and retries it
    while its container continues. `max_runtime_seconds` ends runs about which nothing is ever learned.
    """

    def check_run_worker_health(self, run: dg.DagsterRun):
        """Return the health of the run's container; see `RunLauncher`."""
        health = super().check_run_worker_health(run)
        states = type(health.status)
        started = "cloud_run_job_execution_id" in run.tags
        return health._replace(status=states.RUNNING) if started and health.status is states.UNKNOWN else health
