# ruff: noqa: F401, F811 - pytest finds fixtures by their imported names
"""The new-months sensor probes few months, launches one run per month and version, and lists older months only."""

import json

import dagster as dg

from taxi_assets.assets.month_status import assets, resource_keys
from taxi_assets.automation.sensors import NEWEST as NEWEST_COUNT
from taxi_assets.automation.sensors import OLDER as OLDER_COUNT
from taxi_assets.automation.sensors import RUN_KEY, new_months_sensor
from taxi_assets.datasets.schema import YELLOW
from taxi_assets.definitions import build_defs
from taxi_assets.settings import Settings
from taxi_assets.status.months import MonthGraph
from taxi_assets_tests.loaded_months import BEFORE, NEWEST, OLDER, Loaded, loaded


def tick(loaded: Loaded, cursor: str | None = None, settings: Settings | None = None):
    """Evaluate the sensor once: its requests, its skip message, its next cursor."""
    sensor = new_months_sensor(YELLOW, settings or loaded.settings)
    with dg.build_sensor_context(
        instance=loaded.instance,
        cursor=cursor,
        repository_def=loaded.repository,
        resources={name: loaded.defs.resources[name] for name in resource_keys(loaded.settings)},
    ) as context:
        data = sensor.evaluate_tick(context)
    return data.run_requests or [], data.skip_message, data.cursor


def before(month: str) -> str:
    """A cursor with which the month is the next older one to be checked."""
    year, number = int(month[:4]), int(month[5:])
    return json.dumps({"after": f"{year - (number == 1)}-{(number - 2) % 12 + 1:02d}", "not_loaded": []})


def test_nothing_new_is_a_skip_that_says_what_was_asked(loaded):
    requests, text, _ = tick(loaded)
    assert requests == []
    assert f"Checked {NEWEST_COUNT + OLDER_COUNT} months" in text


def test_a_tick_asks_for_a_bounded_number_of_months_and_goes_on_where_it_was(loaded):
    asked = sum(loaded.publisher.requests.values())
    _, _, cursor = tick(loaded)
    assert sum(loaded.publisher.requests.values()) - asked == NEWEST_COUNT + OLDER_COUNT
    _, _, following = tick(loaded, cursor)
    assert json.loads(following)["after"] > json.loads(cursor)["after"]


def test_a_month_that_appears_is_asked_for_once_with_its_version(loaded):
    with loaded.published(NEWEST):
        (request,), _, cursor = tick(loaded)
        (again,), _, _ = tick(loaded, cursor)
    assert request.partition_key == f"{NEWEST}-01"
    assert request.asset_selection is None
    assert request.tags["taxi_assets/started_by"] == "sensor new_yellow_months"
    assert request.tags["taxi_assets/source_version"] in request.run_key
    assert again.run_key == request.run_key  # Dagster launches a run key once


def test_a_month_whose_one_run_failed_is_text_and_left_to_the_reconciliation(loaded):
    with loaded.published(NEWEST):
        (request,), _, _ = tick(loaded)
        run = loaded.instance.create_run_for_job(
            loaded.defs.resolve_job_def("load_month"),
            tags={RUN_KEY: request.run_key, "dagster/sensor_name": "new_yellow_months"},
            status=dg.DagsterRunStatus.FAILURE,
        )
        requests, text, _ = tick(loaded)
        loaded.instance.delete_run(run.run_id)
        assert len(tick(loaded)[0]) == 1
    assert requests == []
    assert f"{NEWEST}: already attempted and failed" in text


def test_a_month_that_is_published_anew_is_asked_for_under_another_key(loaded):
    with loaded.published(BEFORE, variant=1):
        (first,), _, _ = tick(loaded)
    with loaded.published(BEFORE, variant=2):
        (second,), _, _ = tick(loaded)
    assert first.partition_key == second.partition_key == f"{BEFORE}-01"
    assert first.run_key != second.run_key


def test_an_older_loaded_month_that_changed_is_found_in_its_turn(loaded):
    with loaded.published(OLDER, variant=1):
        assert tick(loaded)[0] == []
        (request,), _, _ = tick(loaded, before(OLDER))
    assert request.partition_key == f"{OLDER}-01"


def test_older_months_never_loaded_are_offered_and_not_launched(loaded):
    month = "2019-05"
    with loaded.published(month):
        requests, text, cursor = tick(loaded, before(month))
    assert requests == []
    assert f"make backfill FROM={month} TO={month}" in text
    assert json.loads(cursor)["not_loaded"] == [month]
    _, text, cursor = tick(loaded, json.dumps({**json.loads(cursor), "after": "2019-04"}))
    assert "make backfill" not in text  # it is not published any more


def test_a_publisher_that_is_down_is_a_skip_with_the_sentence(loaded, monkeypatch):
    monkeypatch.setattr(loaded.publisher, "down", True)
    monkeypatch.setattr("taxi_assets.status.probing.SECONDS", 1.0)
    requests, text, cursor = tick(loaded, before(OLDER))
    assert requests == []
    assert "publisher did not answer" in text or "127.0.0.1" in text
    assert json.loads(cursor)["after"] == json.loads(before(OLDER))["after"]


def test_a_cursor_that_an_operator_spoiled_is_begun_anew(loaded):
    _, text, _ = tick(loaded, "{not json")
    assert "Checked" in text


def test_declared_sinks_follow_clean_trips_when_its_blocking_checks_passed(loaded):
    defs = build_defs(loaded.settings.model_copy(update={"automation": "declarative"}))
    graph = MonthGraph(defs.get_repository_def().asset_graph, assets(YELLOW, loaded.settings))
    key = f"{BEFORE}-01"

    def requested(cursor=None):
        result = dg.evaluate_automation_conditions(defs=defs, instance=loaded.instance, cursor=cursor)
        names = {k.to_user_string() for k in graph.keys.values() if key in result.get_requested_partitions(k)}
        return names, result.cursor

    names, cursor = requested()
    assert names == set()
    keys = graph.selection(("raw_trips", "clean_trips"))
    job = defs.resolve_job_def("load_month")
    job.get_subset(asset_selection=set(keys), asset_check_selection=set()).execute_in_process(
        partition_key=key, instance=loaded.instance
    )
    names, cursor = requested(cursor)
    assert names == set()  # materialized, but not checked
    checks = set(graph.checks(keys))
    job.get_subset(asset_selection=set(keys), asset_check_selection=checks).execute_in_process(
        partition_key=key, instance=loaded.instance
    )
    waves = []
    while True:  # as the daemon does: what is requested is loaded and checked
        names, cursor = requested(cursor)
        if not names:
            break
        waves.append(names)
        keys = graph.selection(names)
        part = job.get_subset(asset_selection=set(keys), asset_check_selection=set(graph.checks(keys)))
        assert part.execute_in_process(partition_key=key, instance=loaded.instance).success
    assert {"postgres_table", "gcs_parquet", "gcs_partitioned"} <= waves[0]
    assert set().union(*waves) == set(graph.assets.outputs)


def test_declared_the_summary_waits_until_the_warehouse_has_the_clean_month(loaded):
    settings = loaded.settings.model_copy(update={"automation": "declarative"})
    defs, key = build_defs(settings), f"{BEFORE}-01"

    def run(*names: str, **tags: str) -> dg.ExecuteInProcessResult:
        selection = {dg.AssetKey(name) for name in names}
        job = defs.resolve_job_def("load_month").get_subset(asset_selection=selection, asset_check_selection=set())
        return job.execute_in_process(partition_key=key, instance=loaded.instance, tags=tags, raise_on_error=False)

    with loaded.published(BEFORE, rows=420, variant=3):
        assert run("raw_trips", "clean_trips", "rejected_trips").success
        assert not run("daily_summary").success  # by hand it is an error
        waiting = run("daily_summary", **{"dagster/from_automation_condition": "true"})
        assert waiting.success
        assert waiting.get_asset_materialization_events() == []
        assert run("gcs_parquet", "bq_table").success
        summed = run("daily_summary", **{"dagster/from_automation_condition": "true"})
        assert len(summed.get_asset_materialization_events()) == 1


def test_declared_the_sensor_asks_for_the_month_up_to_clean_trips(loaded):
    settings = loaded.settings.model_copy(update={"automation": "declarative"})
    with loaded.published(NEWEST):
        (request,), _, _ = tick(loaded, settings=settings)
    assert {k.to_user_string() for k in request.asset_selection} == {"raw_trips", "clean_trips", "rejected_trips"}
    assert request.asset_check_keys
