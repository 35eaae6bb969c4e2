"""What Dagster's event log says of months: which are being loaded, and which have a check that failed."""

import subprocess
import sys

import dagster as dg
import pytest

from taxi_assets.core import run_tags
from taxi_assets.core.month import Month
from taxi_assets.datasets.schema import YELLOW
from taxi_assets.keys import job_name
from taxi_assets.status.run_history import RunHistory, retry

MONTH = Month(2021, 1)


@pytest.fixture
def gone() -> str:
    """A process of the past, as a run's tag names it."""
    code = "from taxi_assets.core import run_tags; print(run_tags.this_process())"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize("tag", [run_tags.PROCESS, "taxi_assets/process"])
def test_a_run_whose_process_is_gone_is_not_running(gone, tag):
    job = dg.GraphDefinition(name=job_name(YELLOW)).to_job()
    with dg.DagsterInstance.ephemeral() as instance:
        history = RunHistory(instance, YELLOW, {})
        for process, months in ((gone, {}), (run_tags.this_process(), {MONTH.key})):
            tags = {tag: process, "dagster/partition": MONTH.key}
            instance.create_run_for_job(job, tags=tags, status=dg.DagsterRunStatus.STARTED)
            assert history.running().keys() == set(months)


@pytest.mark.parametrize("tag", [run_tags.PROCESS, "taxi_assets/process"])
def test_the_daemon_does_not_retry_a_run_of_a_command(tag):
    assert retry({"dagster/will_retry": "true"}) == "coming"
    assert retry({"dagster/will_retry": "true", tag: "host 1 1"}) == "none"


@dg.asset(partitions_def=dg.StaticPartitionsDefinition([MONTH.key]))
def raw_trips(context: dg.AssetExecutionContext) -> None:
    if "fails" in context.run.tags:
        raise dg.Failure("The source does not answer.", allow_retries=False)


@dg.asset_check(asset=raw_trips, blocking=True, partitions_def=raw_trips.partitions_def)
def raw_trips_are_right(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed="wrong" not in context.run.tags)


def test_a_check_that_did_not_run_because_its_asset_failed_is_no_failed_check():
    job = dg.Definitions([raw_trips], asset_checks=[raw_trips_are_right]).resolve_implicit_global_asset_job_def()
    keys = {"raw_trips": raw_trips.key}
    with dg.DagsterInstance.ephemeral() as instance:
        history = RunHistory(instance, YELLOW, keys)
        for tag, failed in (("fails", {}), ("fine", {}), ("fails", {}), ("wrong", {MONTH: {"raw_trips": "run"}})):
            job.execute_in_process(instance=instance, partition_key=MONTH.key, tags={tag: ""}, raise_on_error=False)
            assert history.failed_checks([raw_trips_are_right.check_key], [MONTH]) == failed, tag
