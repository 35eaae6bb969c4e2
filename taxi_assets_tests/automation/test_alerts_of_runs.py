# ruff: noqa: F401, F811 - pytest finds fixtures by their imported names
"""Which runs are reported: killed, retried, of a range, of other teams, before the sensor looked, or not readable."""

import time

import dagster as dg
import pytest

from taxi_assets.status.run_history import RETRY_SECONDS
from taxi_assets_tests.alert_servers import Webhook
from taxi_assets_tests.alert_world import MakeWorld, World, hook, world

pytestmark = pytest.mark.filterwarnings("ignore::dagster.BetaWarning")  # backfill_policy


def test_a_failure_that_the_daemon_retries_is_not_reported(world: MakeWorld, hook: Webhook):
    here = world(alert_webhook=hook.url)
    run = here.load("2021-03", "{month}: no.")
    here.instance.add_run_tags(run, {"dagster/will_retry": "true", "dagster/auto_retry_run_id": "the next"})
    here.tick()
    assert hook.posted == []


def test_a_failure_waits_until_it_is_known_whether_the_daemon_will_retry(hook: Webhook, monkeypatch):
    with dg.instance_for_test(overrides={"run_retries": {"enabled": True}}) as instance:
        here = World(instance, alert_webhook=hook.url)
        # as it is between the event of the failure and Dagster's note
        monkeypatch.setattr(type(instance), "add_run_tags", lambda *_: None)
        runs = [here.load(month, "{month}: no.") for month in ("2021-03", "2021-04")]
        here.tick()
        assert hook.posted == []
        monkeypatch.undo()
        for run, will in zip(runs, ("true", "false"), strict=True):
            here.instance.add_run_tags(run, {"dagster/will_retry": will})
        here.tick()
        assert hook.posted == []  # the first is to be retried, and is not yet
        here.instance.add_run_tags(runs[0], {"dagster/auto_retry_run_id": "the next"})
        here.tick()
        (message,) = hook.posted
        assert "failed: 2021-04" in message["text"]


@pytest.mark.parametrize("tags", [{}, {"dagster/will_retry": "true"}])
def test_a_failure_whose_retry_never_starts_is_reported(hook: Webhook, monkeypatch, tags):
    with dg.instance_for_test(overrides={"run_retries": {"enabled": True}}) as instance:
        here = World(instance, alert_webhook=hook.url)
        monkeypatch.setattr(type(instance), "add_run_tags", lambda *_: None)
        here.load("2021-03", "{month}: no.", **tags)
        later = time.time() + RETRY_SECONDS + 1
        monkeypatch.setattr("taxi_assets.automation.alerts.time.time", lambda: later)
        here.tick()
        assert len(hook.posted) == 1


def test_the_reason_of_a_terminated_run_is_reported(world: MakeWorld, hook: Webhook):
    here = world(alert_webhook=hook.url)
    job = here.defs.resolve_job_def("load")
    run = here.instance.create_run_for_job(job, tags={"dagster/partition": "2021-06-01"})
    here.instance.report_engine_event("Run execution process was terminated by signal 9 (SIGKILL).", run)
    here.instance.report_run_failed(run)
    here.tick()
    assert "terminated by signal 9" in hook.posted[0]["text"]
    assert "from outside" not in hook.posted[0]["text"]


def test_a_run_whose_process_was_killed_is_reported(world: MakeWorld, hook: Webhook):
    here = world(alert_webhook=hook.url)
    job = here.defs.resolve_job_def("load")
    run = here.instance.create_run_for_job(job, tags={"dagster/partition": "2021-06-01"})
    here.instance.report_run_failed(run, "2021-06: its process was killed; nothing partial remains.")
    here.tick()
    assert "2021-06: its process was killed; nothing partial remains." in hook.posted[0]["text"]


def test_runs_that_finished_long_before_the_first_tick_are_ignored_by_the_following_ticks_too(
    world: MakeWorld, hook: Webhook, monkeypatch
):
    here = world(alert_webhook=hook.url)
    here.load("2021-03", "{month}: no.")
    here.cursor, later = None, time.time() + 7200
    monkeypatch.setattr("taxi_assets.automation.alerts.time.time", lambda: later)
    for _ in range(3):
        here.tick()
    assert hook.posted == []


def test_a_failure_while_the_sensor_was_off_after_quiet_ticks_is_reported(world: MakeWorld, hook: Webhook, monkeypatch):
    here = world(alert_webhook=hook.url)
    here.tick()
    here.load("2021-03", "{month}: no.")
    later = time.time() + 7200
    monkeypatch.setattr("taxi_assets.automation.alerts.time.time", lambda: later)
    here.tick()
    assert len(hook.posted) == 1


def test_runs_of_other_teams_that_name_no_code_location_are_not_reported(world: MakeWorld, hook: Webhook):
    here = world(alert_webhook=hook.url)

    @dg.asset
    def their_table() -> None:
        raise dg.Failure("not ours.")

    jobs = [dg.define_asset_job(name, [their_table]) for name in ("etl", "load")]  # `load` is a name of ours, too
    theirs = dg.Definitions(assets=[their_table], jobs=jobs)
    for job in (*map(theirs.resolve_job_def, ("etl", "load")), theirs.resolve_implicit_global_asset_job_def()):
        assert not job.execute_in_process(instance=here.instance, raise_on_error=False).success
    here.tick()
    assert hook.posted == []


@pytest.mark.parametrize("how", ["a run a month", "one run"])
def test_a_failed_range_has_recovered_when_its_months_have_succeeded_in_whatever_runs(
    world: MakeWorld, hook: Webhook, how: str
):
    here = world(alert_webhook=hook.url)
    here.load_range("2021-01", "2021-03", "no.")
    here.tick()
    assert "postgres_table failed: 2021-01 to 2021-03" in hook.posted[0]["text"]
    if how == "one run":
        here.load_range("2021-01", "2021-04")
        here.tick()
    else:
        for month in ("2021-03", "2021-01", "2021-04", "2021-02"):
            assert len(hook.posted) == 1
            here.load(month)
            here.tick()
    (_, recovery) = hook.posted
    assert "recovered: postgres_table 2021-01 to 2021-03" in recovery["text"]


def test_a_month_that_failed_has_recovered_when_a_range_with_it_succeeds(world: MakeWorld, hook: Webhook):
    here = world(alert_webhook=hook.url)
    here.load("2021-02", "{month}: no.")
    here.tick()
    here.load_range("2021-01", "2021-03")
    here.tick()
    assert "recovered: postgres_table 2021-02" in hook.posted[1]["text"]


def test_a_run_killed_in_a_step_has_recovered_when_another_job_finishes_the_step(world: MakeWorld, hook: Webhook):
    here = world(alert_webhook=hook.url)
    job = here.defs.resolve_implicit_global_asset_job_def()
    run = here.instance.create_run_for_job(job, tags={"dagster/partition": "2021-06-01"})
    started = dg.DagsterEvent(dg.DagsterEventType.STEP_START.value, job.name, step_key="postgres_table")
    here.instance.report_dagster_event(started, run.run_id)
    here.instance.report_run_failed(run, "2021-06: its process was killed; nothing partial remains.")
    here.tick()
    assert "postgres_table failed: 2021-06" in hook.posted[0]["text"]
    here.load("2021-06")
    here.tick()
    assert "recovered: postgres_table 2021-06" in hook.posted[1]["text"]


def test_a_success_that_is_read_with_an_earlier_failure_is_its_recovery(hook: Webhook, monkeypatch):
    with dg.instance_for_test(overrides={"run_retries": {"enabled": True}}) as instance:
        here = World(instance, alert_webhook=hook.url)
        monkeypatch.setattr(type(instance), "add_run_tags", lambda *_: None)
        here.load("2021-03", "{month}: no.")  # whether it is retried is not known yet
        here.load("2021-03")
        here.tick()
        later = time.time() + RETRY_SECONDS + 1
        monkeypatch.setattr("taxi_assets.automation.alerts.time.time", lambda: later)
        here.tick()
        assert hook.posted == []


def test_what_the_sensor_cannot_read_is_reported_and_read_again(world: MakeWorld, hook: Webhook, monkeypatch):
    here = world(alert_webhook=hook.url)
    here.load("2021-03", "{month}: no.")
    for _ in range(2):
        with monkeypatch.context() as broken:
            broken.setattr(type(here.instance), "all_logs", lambda *_, **__: 1 / 0)
            here.tick()
    (message,) = hook.posted
    assert "sensor alerts (read runs) failed" in message["text"]
    assert "ZeroDivisionError: division by zero" in message["text"]
    here.tick()
    texts = [message["text"] for message in hook.posted[1:]]
    assert "postgres_table failed: 2021-03" in texts[0]
    assert "recovered: sensor alerts (read runs)" in texts[1]


def test_ticks_that_cannot_be_read_do_not_delay_the_alerts_of_runs(world: MakeWorld, hook: Webhook, monkeypatch):
    here = world(alert_webhook=hook.url)
    here.load("2021-03", "{month}: no.")
    monkeypatch.setattr(type(here.instance), "all_instigator_state", lambda *_, **__: 1 / 0)
    here.tick()
    texts = [message["text"] for message in hook.posted]
    assert "postgres_table failed: 2021-03" in texts[0]
    assert "sensor alerts (read ticks) failed" in texts[1]
