"""Failed ticks of sensors and schedules are reported, of this code location only: real ticks of Dagster's daemon."""

import datetime as dt
import logging
from collections.abc import Generator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.test_utils import freeze_time
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import InProcessWorkspaceLoadTarget
from dagster._daemon.sensor import execute_sensor_iteration
from dagster._scheduler.scheduler import launch_scheduled_runs

from taxi_assets_tests.alert_servers import Webhook, webhook

SOURCE = """
import dagster as dg
from pathlib import Path
from taxi_assets.automation.alerts import alerts_sensor
from taxi_assets.core.errors import TransientError
from taxi_assets.settings import Settings

def fail():
    if (text := Path({text!r}).read_text()):
        raise TransientError(text)
    return dg.SkipReason("nothing new")

@dg.op
def load_op():
    raise dg.Failure("no.")

@dg.job
def load():
    load_op()

@dg.sensor(default_status=dg.DefaultSensorStatus.RUNNING)
def new_months(context):
    return fail()

@dg.schedule(job=load, cron_schedule="* * * * *", default_status=dg.DefaultScheduleStatus.RUNNING)
def reconcile(context):
    return fail()

alerts = alerts_sensor(Settings(_env_file=None, ui_url="http://ui", alert_webhook={hook!r}))
defs = dg.Definitions(jobs=[load], schedules=[reconcile], sensors=[new_months, alerts])
"""
LOG = logging.getLogger("daemon")


class Daemon:
    """Two code locations with the same sensors in one instance, of which `taxi` reports to the webhook."""

    def __init__(self, instance: dg.DagsterInstance, process: WorkspaceProcessContext, texts: dict[str, Path]) -> None:
        self.instance, self._process, self._texts = instance, process, texts
        self._time, self._schedules = dt.datetime.now(dt.UTC).replace(second=0), {}

    def say(self, location: str, text: str) -> None:
        """Let the sensor and the schedule of a location fail with this text; with none, let them succeed."""
        self._texts[location].write_text(text)

    def pass_time(self, minutes: int = 1) -> None:
        """Let the daemon evaluate what is due: each minute the alerts sensor, which sees the ticks of the minute before, too."""
        for _ in range(minutes):
            self._time += dt.timedelta(minutes=1, seconds=1)
            with freeze_time(self._time):
                list(execute_sensor_iteration(self._process, LOG, None, None))
                list(launch_scheduled_runs(self._process, LOG, self._time, self._schedules))

    def fail_run(self, location: str) -> str:
        """Let a run of `load` that was launched in a location fail; return its id."""
        found = self._process.create_request_context().get_code_location(location)
        (repository,) = found.get_repositories().values()
        job = repository.get_full_job("load")
        run = self.instance.create_run(
            job_name="load", run_id=None, run_config={}, status=dg.DagsterRunStatus.NOT_STARTED, tags={},
            root_run_id=None, parent_run_id=None, step_keys_to_execute=None, execution_plan_snapshot=None,
            job_snapshot=job.job_snapshot, parent_job_snapshot=None, op_selection=None, resolved_op_selection=None,
            remote_job_origin=job.get_remote_origin(), job_code_origin=job.get_python_origin(), asset_selection=None,
            asset_check_selection=None, asset_graph=repository.asset_graph,
        )  # fmt: skip
        self.instance.report_run_failed(run, f"killed in {location}.")
        return run.run_id


@pytest.fixture
def hook() -> Generator[Webhook]:
    with webhook() as made:
        yield made


@pytest.fixture
def daemon(tmp_path: Path, hook: Webhook) -> Generator[Daemon]:
    texts, origins = {}, []
    for name, url in (("taxi", hook.url), ("other", None)):
        texts[name], source = tmp_path / f"{name}.txt", tmp_path / f"{name}_definitions.py"
        texts[name].write_text("")
        source.write_text(SOURCE.format(text=str(texts[name]), hook=url))
        target = LoadableTargetOrigin(python_file=str(source), attribute="defs", working_directory=str(tmp_path))
        origins.append(InProcessCodeLocationOrigin(target, location_name=name))
    with (
        dg.instance_for_test() as instance,
        WorkspaceProcessContext(instance, InProcessWorkspaceLoadTarget(origins)) as process,
    ):
        made = Daemon(instance, process, texts)
        made.pass_time()
        yield made


def titles(hook: Webhook) -> list[str]:
    """What was reported, without the counts."""
    return [
        message["text"].partition(" ")[2].partition("\n")[0].partition(" (")[0].strip("*") for message in hook.posted
    ]


def test_a_failed_tick_is_one_alert_per_cause_with_the_sentence_and_recovers(daemon: Daemon, hook: Webhook):
    for attempt in range(3):
        daemon.say("taxi", f"Postgres at 127.0.0.1:{5432 + attempt} cannot be reached.")
        daemon.pass_time(2)
    assert sorted(titles(hook)) == ["schedule reconcile failed", "sensor new_months failed"]
    for message in hook.posted:
        assert "\nPostgres at 127.0.0.1:5432 cannot be reached.\n" in message["text"]
    assert "http://ui/locations/__repository__@taxi/sensors/new_months|" in str(hook.posted)
    assert "http://ui/locations/__repository__@taxi/schedules/reconcile|" in str(hook.posted)
    daemon.say("taxi", "The lake cannot be read.")
    daemon.pass_time(2)
    assert len(hook.posted) == 4  # another cause
    daemon.say("taxi", "")
    daemon.pass_time(3)
    assert sorted(titles(hook)[4:]) == ["recovered: schedule reconcile", "recovered: sensor new_months"]
    assert "failed 8 times" in hook.posted[-1]["text"]


def test_ticks_of_other_code_locations_are_not_reported(daemon: Daemon, hook: Webhook):
    daemon.say("other", "no.")
    daemon.pass_time(2)
    assert hook.posted == []


def test_runs_of_other_code_locations_are_not_reported_whatever_their_job_is_called(daemon: Daemon, hook: Webhook):
    daemon.fail_run("other")
    daemon.pass_time()
    assert hook.posted == []
    run = daemon.fail_run("taxi")
    daemon.pass_time()
    (message,) = hook.posted
    assert "killed in taxi." in message["text"]
    assert f"http://ui/runs/{run}|" in message["text"]
