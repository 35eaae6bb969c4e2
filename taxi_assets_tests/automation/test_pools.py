"""A killed run does not block a pool for ever: its slots are freed by the daemon, or by the next command of this package."""

import re
import subprocess
import sys
from collections.abc import Iterator

import dagster as dg
import pytest
from dagster._daemon.monitoring.concurrency import execute_concurrency_slots_iteration

from taxi_assets.automation.housekeeping import end_dead_runs
from taxi_assets.keys import PUBLISHER_POOL
from taxi_assets_tests.processes import REPOSITORY, until

KILLED = f"""
import os, signal
import dagster as dg
from taxi_assets.core import run_tags

@dg.op(pool="{PUBLISHER_POOL}")
def fetch():
    os.kill(os.getpid(), signal.SIGKILL)

@dg.job
def load():
    fetch()

with dg.DagsterInstance.get() as instance:
    load.execute_in_process(instance=instance, tags={{run_tags.PROCESS: run_tags.this_process()}})
"""
SECONDS = "free_slots_after_run_end_seconds: "


@pytest.fixture
def instance(tmp_path) -> Iterator[dg.DagsterInstance]:
    """An instance with the project's dagster.yaml, whose delay is a second, and a killed run that has the only slot."""
    config = (REPOSITORY / "dagster.yaml").read_text()
    (tmp_path / "dagster.yaml").write_text(re.sub(rf"{SECONDS}\d+", f"{SECONDS}1", config))
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        instance.event_log_storage.set_concurrency_slots(PUBLISHER_POOL, 1)
        killed = subprocess.run([sys.executable, "-c", KILLED], capture_output=True, text=True, check=False, timeout=60)
        assert killed.returncode == -9, killed.stderr
        assert not is_free(instance)
        yield instance


def is_free(instance: dg.DagsterInstance) -> bool:
    return instance.event_log_storage.get_concurrency_info(PUBLISHER_POOL).active_slot_count == 0


def test_run_monitoring_frees_the_slots_of_a_run_that_has_failed(instance):
    (run,) = instance.get_runs()
    instance.report_run_failed(run)  # as the code server does when the process is gone
    assert not is_free(instance)

    class Workspace:
        def __init__(self) -> None:
            self.instance = instance

    def freed() -> bool:
        list(execute_concurrency_slots_iteration(Workspace(), dg.get_dagster_logger()))
        return is_free(instance)

    until(freed, 20, "the slot to be free")


def test_the_next_command_frees_them_without_a_daemon(instance):
    (run,) = instance.get_runs()
    assert end_dead_runs(instance, print) == [run.run_id]
    assert is_free(instance)
