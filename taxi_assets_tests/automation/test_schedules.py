# ruff: noqa: F401, F811 - pytest finds fixtures by their imported names
"""Schedules check before they launch, launch few runs and list the rest; deadlines are about the newest published month."""

import dataclasses
import datetime as dt
import re
from collections import Counter
from pathlib import Path

import dagster as dg
import pytest

from taxi_assets.automation.audit import describe
from taxi_assets.automation.deadlines import DEADLINE, check_result
from taxi_assets.automation.schedules import monthly_schedule, reconciliation, summary
from taxi_assets.automation.sensors import Cursor, kind_option, tags_of_run
from taxi_assets.automation.sensors import summary as sensor_summary
from taxi_assets.core import run_tags
from taxi_assets.core.month import Month
from taxi_assets.datasets.schema import GREEN, YELLOW
from taxi_assets.definitions import build_defs
from taxi_assets.keys import job_name
from taxi_assets.publisher.published import Published
from taxi_assets.settings import Settings
from taxi_assets.status.decide import Decision, State
from taxi_assets.status.plan import ATTEMPTS
from taxi_assets.status.probing import ProbeResults
from taxi_assets_tests.loaded_months import BEFORE, NEWEST, OLDER, Loaded, loaded


def keys(requests: list[dg.RunRequest]) -> list[str]:
    return [request.partition_key[:7] for request in requests]


CLOUD = {
    "profile": "gcp",
    "postgres_url": "postgresql://me@127.0.0.1/trips",
    "bucket": "gs://trips",
    "bigquery_project": "trips",
}


@pytest.mark.parametrize(
    ("settings", "on"),
    [({}, False), ({"automation": "on"}, True), (CLOUD, True), ({**CLOUD, "automation": "off"}, False)],
)
def test_every_kind_has_its_schedules_and_sensors_off_at_home_and_on_in_the_cloud(settings, on):
    repository = build_defs(Settings(kinds="yellow,green", **settings)).get_repository_def()
    running = {
        each.name: each.default_status.value == "RUNNING"
        for each in (*repository.schedule_defs, *repository.sensor_defs)
        if each.name != "default_automation_condition_sensor"
    }
    wanted = [what for kind in ("yellow", "green") for what in (
        f"new_{kind}_months", f"newest_{kind}_month", f"reconcile_{kind}", f"audit_{kind}", f"{kind}_deadlines")]  # fmt: skip
    assert running == dict.fromkeys((*wanted, "housekeeping", "alerts"), on)


def test_a_newest_month_that_is_loaded_is_skipped_with_the_reason(loaded):
    requests, text = loaded.tick(monthly_schedule)
    assert requests == []
    assert f"{BEFORE} is up to date: every asset is loaded by the current code, from the published version" in text


def test_the_newest_published_month_is_loaded_when_it_is_not(loaded):
    with loaded.published(NEWEST):
        (request,), _ = loaded.tick(monthly_schedule)
    assert request.partition_key == f"{NEWEST}-01"
    assert request.tags[run_tags.STARTED_BY] == "schedule newest_yellow_month"


def test_reconciliation_finds_missing_and_changed_months_and_skips_what_is_current(loaded):
    assert loaded.tick(reconciliation)[0] == []
    with loaded.published(NEWEST), loaded.published(OLDER, variant=1):
        requests, _ = loaded.tick(reconciliation)
    assert keys(requests) == [NEWEST, OLDER]
    assert len({request.run_key for request in requests}) == 2


def test_a_month_that_the_publisher_withdrew_is_kept_and_named(loaded):
    with loaded.published(OLDER):
        loaded.publisher.withdraw(OLDER)
        requests, text = loaded.tick(reconciliation)
    assert requests == []
    assert f"Up to date: {OLDER}, {BEFORE}. Up to date but no longer published: {OLDER}." in text


def test_reconciliation_launches_no_more_than_its_runs_and_leaves_old_months_alone(loaded):
    with loaded.published(NEWEST), loaded.published(OLDER, variant=1), loaded.published("2015-01"):
        requests, _ = loaded.tick(reconciliation, reconcile_runs=1)
        assert keys(requests) == [NEWEST]
        assert "2015-01" not in keys(loaded.tick(reconciliation)[0])


def test_a_month_whose_newer_code_is_there_is_loaded_again(loaded, monkeypatch):
    for module in ("common", "month_status"):
        monkeypatch.setattr(f"taxi_assets.assets.{module}.CODE_VERSION", "2")
    monkeypatch.setattr(loaded, "defs", build_defs(loaded.settings))
    requests, _ = loaded.tick(reconciliation)
    assert keys(requests) == [BEFORE, OLDER]


def test_only_the_sink_that_lacks_a_month_is_loaded_again(loaded):
    (held,) = Path(loaded.settings.bucket_location).rglob(f"yellow_tripdata_{OLDER}.parquet")
    held.unlink()
    (request,), _ = loaded.tick(reconciliation)
    assert keys([request]) == [OLDER]
    assert {key.to_user_string() for key in request.asset_selection} == {"gcs_parquet"}
    assert run_tags.GOES_ON_WITH not in request.tags  # the month's last run succeeded
    job = loaded.defs.resolve_job_def("load_month")
    part = job.get_subset(
        asset_selection=set(request.asset_selection), asset_check_selection=set(request.asset_check_keys)
    )
    cut = loaded.instance.create_run_for_job(
        part, tags={"dagster/partition": request.partition_key}, asset_selection=frozenset(request.asset_selection)
    )
    loaded.instance.report_run_failed(cut)
    assert loaded.tick(reconciliation)[0][0].tags[run_tags.GOES_ON_WITH] == cut.run_id
    done = part.execute_in_process(partition_key=request.partition_key, instance=loaded.instance)
    assert [check.check_name for check in done.get_asset_check_evaluations()] == ["gcs_parquet_matches_clean"]
    assert loaded.tick(reconciliation)[0] == []


def test_a_sink_at_a_new_address_is_loaded_from_the_lake_and_nothing_else_is(loaded):
    moved = loaded.settings.model_copy(update={"postgres_schema": "elsewhere"})
    defs, downloads = build_defs(moved), [loaded.publisher.asked(month) for month in (BEFORE, OLDER)]
    elsewhere = dataclasses.replace(loaded, defs=defs, settings=moved)
    requests, _ = elsewhere.tick(reconciliation)
    assert keys(requests) == [BEFORE, OLDER]
    for request in requests:
        names = {key.to_user_string() for key in request.asset_selection}
        assert names == {"postgres_table", "daily_summary"}  # of the summary, Postgres has a copy
        part = defs.resolve_job_def("load_month").get_subset(
            asset_selection=set(request.asset_selection), asset_check_selection=set(request.asset_check_keys)
        )
        assert part.execute_in_process(partition_key=request.partition_key, instance=loaded.instance).success
    assert downloads == [loaded.publisher.asked(month) for month in (BEFORE, OLDER)]
    assert elsewhere.tick(reconciliation)[0] == []
    assert loaded.tick(reconciliation)[0] == []


def test_rules_given_to_a_run_stay_with_its_month_and_other_rules_of_the_settings_clean_the_rest_again(loaded):
    job, own = loaded.defs.resolve_job_def("load_month"), {"reject_unknown_passengers": False}
    config = {"ops": {"clean_trips": {"config": own}}}
    run = {"partition_key": f"{OLDER}-01", "instance": loaded.instance}
    assert job.execute_in_process(run_config=config, **run).success
    assert loaded.tick(reconciliation)[0] == []
    (request,), _ = loaded.tick(reconciliation, max_trip_distance=50.0)
    assert request.partition_key == f"{BEFORE}-01"
    assert {key.to_user_string() for key in request.asset_selection}.isdisjoint({"raw_trips"})
    with loaded.published(OLDER, variant=1):
        (request,), _ = loaded.tick(reconciliation)
        rules = request.run_config["ops"]["clean_trips"]["config"]
        assert rules.items() >= own.items()
        assert job.execute_in_process(run_config=request.run_config, **run).success
        assert loaded.tick(reconciliation)[0] == []
    assert job.execute_in_process(**run).success  # as the other tests expect it


def test_a_month_is_known_without_dagsters_history(loaded):
    with dg.instance_for_test() as other:
        without = dataclasses.replace(loaded, instance=other)
        requests, text = without.tick(reconciliation)
    assert requests == []
    assert f"Up to date: {OLDER}, {BEFORE}" in text


def test_a_killed_run_that_the_daemon_starts_again_is_left_to_it_and_counts_as_loading(loaded):
    job = loaded.defs.resolve_job_def(job_name(YELLOW))
    with loaded.published(NEWEST):
        tags = {"dagster/partition": f"{NEWEST}-01", "dagster/will_retry": "true"}
        run = loaded.instance.create_run_for_job(job, tags=tags)
        loaded.instance.report_run_failed(run)
        requests, text = loaded.tick(reconciliation)
        assert requests == []
        assert f"Being loaded: {NEWEST}" in text
        # which the daemon cannot
        loaded.instance.add_run_tags(run.run_id, {run_tags.PROCESS: "a worker of make backfill"})
        assert keys(loaded.tick(reconciliation)[0]) == [NEWEST]
        loaded.instance.delete_run(run.run_id)


def test_a_month_that_keeps_failing_is_named_and_not_tried_for_ever(loaded):
    with loaded.published(NEWEST):
        (request,), _ = loaded.tick(reconciliation)
        tags = tags_of_run("schedule reconcile_yellow", request.tags[run_tags.SOURCE_VERSION])
        assert tags.items() <= request.tags.items()
        job = loaded.defs.resolve_job_def(job_name(YELLOW))
        for _ in range(ATTEMPTS):
            run = loaded.instance.create_run_for_job(job, tags=request.tags)
            loaded.instance.report_run_failed(run)
        requests, text = loaded.tick(reconciliation)
        assert requests == []
        assert f"Failed {ATTEMPTS} times and not retried" in text
        assert NEWEST in text
    with loaded.published(NEWEST, variant=1):  # a new version is a new chance
        assert keys(loaded.tick(reconciliation)[0]) == [NEWEST]


def test_a_publisher_that_is_down_is_text_and_what_is_here_is_still_looked_at(loaded, monkeypatch):
    monkeypatch.setattr("taxi_assets.status.probing.SECONDS", 1.0)
    monkeypatch.setattr(loaded.publisher, "down", True)
    requests, text = loaded.tick(reconciliation)
    assert requests == []
    assert "did not answer" in text or "127.0.0.1" in text
    assert "Up to date" in text


def test_a_month_is_not_called_the_newest_while_a_newer_one_was_not_answered(loaded, monkeypatch):
    monkeypatch.setattr("taxi_assets.status.probing.SECONDS", 1.0)
    with loaded.published(NEWEST), monkeypatch.context() as failing:
        failing.setattr(loaded.publisher, "_failures", Counter({("HEAD", loaded.publisher._path(NEWEST, YELLOW)): 99}))
        requests, text = loaded.tick(monthly_schedule)
        found = deadlines(loaded, 7)
    assert requests == []
    assert text.startswith("Which month is the newest is not known: ")
    for each in found.values():
        assert not each.passed
        assert each.severity is dg.AssetCheckSeverity.WARN
        assert each.description.startswith("Which month is the newest is not known: ")
        assert f"{BEFORE} is loaded" in each.description


def test_a_month_is_late_although_a_newer_one_was_not_answered():
    check, now = dg.AssetCheckKey(dg.AssetKey("postgres_table"), DEADLINE), dt.datetime(2021, 6, 1, tzinfo=dt.UTC)
    published = Published("https://there/2021-03", "v1", 1, now - dt.timedelta(days=8))
    results = ProbeResults({Month(2021, 3): published}, "Which month is the newest is not known: 2021-04: no answer.")
    result = check_result(check, results, loaded=False, days=7, now=now)
    assert not result.passed
    assert result.severity is dg.AssetCheckSeverity.ERROR
    assert "2021-03 is late" in result.description


@pytest.mark.parametrize(
    ("kinds", "kind", "option"),
    [("yellow,green", YELLOW, ""), ("yellow,green", GREEN, " KIND=green"), ("green,yellow", YELLOW, " KIND=yellow"),
     ("green", GREEN, "")],
)  # fmt: skip
def test_every_command_that_a_tick_names_loads_the_months_of_its_kind(kinds, kind, option):
    option_of_tick = kind_option(kind, Settings(kinds=kinds))
    january, march = Month(2021, 1), Month(2021, 3)
    other_source = Decision(january, State.OTHER_SOURCE, "loaded from another source")
    texts = [
        summary(ProbeResults(), [], [january, march], [march], option_of_tick),
        sensor_summary(ProbeResults(), [other_source], [], [], Cursor(not_loaded=["2021-01"]), option_of_tick),
    ]
    assert re.findall(r"make .*?(?=[).]|$)", " ".join(texts)) == [
        f"make backfill FROM=2021-01 TO=2021-03{option}",
        f"make backfill FROM=2021-03 TO=2021-03{option}",
        f"make run MONTH=2021-01{option}",
        f"make backfill FROM=2021-01 TO=2021-01{option}",
    ]


@pytest.mark.parametrize(
    ("kind", "command"), [(YELLOW, "`make audit REPAIR=1`"), (GREEN, "`make audit REPAIR=1 KIND=green`")]
)
def test_the_repair_that_an_audit_names_is_of_its_kind(kind, command):
    findings = {Month(2021, 1): "2021-01: bq_table has rows 9 of 10."}
    assert command in describe(findings, 2, kind, Settings(kinds="yellow,green"))


def deadlines(loaded: Loaded, days: int) -> dict[str, dg.AssetCheckEvaluation]:
    defs = build_defs(loaded.settings.model_copy(update={"deadline_days": days}))
    result = defs.resolve_job_def("check_yellow_deadlines").execute_in_process(instance=loaded.instance)
    return {each.asset_key.to_user_string(): each for each in result.get_asset_check_evaluations()}


def test_the_deadline_is_kept_while_the_newest_published_month_is_in_every_sink(loaded):
    found = deadlines(loaded, 0)
    assert set(found) == {"postgres_table", "gcs_parquet", "gcs_partitioned", "bq_table"}
    assert all(each.passed and f"{BEFORE} is loaded" in each.description for each in found.values())


@pytest.mark.parametrize(("days_ago", "late"), [(3, False), (9, True)])
def test_the_deadline_counts_from_publication_and_is_not_deceived_by_loading_an_old_month(loaded, days_ago, late):
    with loaded.published(NEWEST, days_ago=days_ago):
        found = deadlines(loaded, 7)
    for each in found.values():
        assert each.passed is not late
        assert each.check_name == DEADLINE
        assert f"{NEWEST} {'is late' if late else 'is not loaded yet'}" in each.description
