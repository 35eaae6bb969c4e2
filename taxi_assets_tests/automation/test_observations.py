# ruff: noqa: F401, F811 - pytest finds fixtures by their imported names
"""The publisher in the graph: after a republication exactly that month of raw_trips is stale, until it is loaded again."""

from collections.abc import Sequence

import dagster as dg
from dagster._core.definitions.data_version import CachingStaleStatusResolver
from dagster._core.definitions.observe import observe as dagster_observe
from dagster._core.loader import LoadingContextForTest

from taxi_assets.assets.month_status import resource_keys
from taxi_assets.assets.publisher import DATA_VERSION, new_observations
from taxi_assets.automation.sensors import new_months_sensor
from taxi_assets.core.month import Month
from taxi_assets.datasets.schema import YELLOW
from taxi_assets.definitions import build_defs
from taxi_assets.resources import resources
from taxi_assets.status.probing import probe_months
from taxi_assets_tests.loaded_months import BEFORE, NEWEST, OLDER, Loaded, loaded

SAME_COLUMNS = dg.AssetCheckKey(dg.AssetKey("raw_trips"), "raw_columns_are_those_of_the_month_before")
RAW, PUBLISHER = dg.AssetKey("raw_trips"), dg.AssetKey("publisher")


def stale(loaded: Loaded, months: Sequence[str] = (BEFORE, OLDER)) -> dict[str, list[str]]:
    """The loaded months that Dagster's UI shows as stale, with its reasons."""
    resolver = CachingStaleStatusResolver(
        loaded.instance, loaded.repository.asset_graph, LoadingContextForTest(loaded.instance)
    )
    causes = {month: resolver.get_stale_causes(RAW, f"{month}-01") for month in months}
    return {month: [cause.reason for cause in each] for month, each in causes.items() if each}


def observe(loaded: Loaded) -> list[str]:
    """Evaluate the sensor once, and record what it observed, as the daemon does; the observed months."""
    with dg.build_sensor_context(
        instance=loaded.instance,
        repository_def=loaded.repository,
        resources={name: loaded.defs.resources[name] for name in resource_keys(loaded.settings)},
    ) as context:
        events = new_months_sensor(YELLOW, loaded.settings).evaluate_tick(context).asset_events
    for event in events:
        loaded.instance.report_runless_asset_event(event)
    return [event.partition[:7] for event in events]


def load(loaded: Loaded, month: str) -> None:
    job = loaded.defs.resolve_job_def("load_month")
    assert job.execute_in_process(partition_key=f"{month}-01", instance=loaded.instance).success


def test_exactly_the_republished_month_is_stale_until_it_is_loaded_again(loaded):
    assert stale(loaded) == {}
    assert observe(loaded) == []  # both were observed when they were loaded
    with loaded.published(BEFORE, rows=400, variant=1):
        assert observe(loaded) == [BEFORE]
        assert stale(loaded) == {BEFORE: ["has a new dependency data version"]}
        assert observe(loaded) == []
        load(loaded, BEFORE)
        assert stale(loaded) == {}
        # a version that the sensor has not seen is the one that was loaded
        with loaded.published(BEFORE, rows=500, variant=2):
            load(loaded, BEFORE)
            assert observe(loaded) == []
            assert stale(loaded) == {}


def test_after_a_run_over_several_months_exactly_the_republished_one_is_stale(loaded):
    months = ("2020-01", "2020-02", "2020-03")
    with loaded.published(months[0]), loaded.published(months[1]), loaded.published(months[2]):
        defs = build_defs(loaded.settings.model_copy(update={"months_per_run": "all"}))
        lake = {dg.AssetKey(name) for name in ("raw_trips", "clean_trips", "rejected_trips")}
        job = defs.resolve_implicit_global_asset_job_def().get_subset(asset_selection=lake, asset_check_selection=set())
        edges = {"start": f"{months[0]}-01", "end": f"{months[-1]}-01"}
        tags = {f"dagster/asset_partition_range_{edge}": month for edge, month in edges.items()}
        assert job.execute_in_process(instance=loaded.instance, tags=tags).success
        assert stale(loaded, months) == {}
        loaded.publisher.publish(months[1], rows=400, variant=1)
        results = probe_months(
            resources(loaded.settings)["publisher"].open(), YELLOW, [Month.parse(month) for month in months]
        )
        for event in new_observations(loaded.instance, YELLOW, results.published):
            loaded.instance.report_runless_asset_event(event)
        assert stale(loaded, months) == {months[1]: ["has a new dependency data version"]}
        assert job.execute_in_process(instance=loaded.instance, tags=tags).success
        assert stale(loaded, months) == {}


def test_a_month_that_is_published_and_not_loaded_is_observed(loaded):
    with loaded.published(NEWEST):
        assert NEWEST in observe(loaded)
        assert f"{NEWEST}-01" not in loaded.instance.get_materialized_partitions(RAW)


def test_observing_the_source_records_every_published_month(loaded):
    result = dagster_observe(
        [asset for asset in loaded.defs.assets if isinstance(asset, dg.SourceAsset)],
        instance=loaded.instance,
        resources={"publisher": loaded.defs.resources["publisher"]},
    )
    observed = {
        event.asset_observation_data.asset_observation.partition: event.asset_observation_data.asset_observation.tags
        for event in result.all_events
        if event.is_asset_observation
    }
    assert observed.keys() == {f"{BEFORE}-01", f"{OLDER}-01"}
    assert all(tags[DATA_VERSION].startswith('"') for tags in observed.values())  # ETags


def test_the_columns_of_the_published_file_are_recorded_and_compared_with_the_month_before(loaded):
    of_month = dg.AssetRecordsFilter(RAW, asset_partitions=[f"{BEFORE}-01"])
    (record,) = loaded.instance.fetch_materializations(of_month, limit=1).records
    header = record.asset_materialization.metadata["published_columns"].value
    assert header[:2] == ["VendorID", "tpep_pickup_datetime"]
    with loaded.published(NEWEST):
        load(loaded, NEWEST)
    (evaluation,) = loaded.instance.event_log_storage.get_asset_check_execution_history(SAME_COLUMNS, limit=1)
    data = evaluation.event.dagster_event.asset_check_evaluation_data
    assert data.passed
    assert data.metadata["compared_with"].value == BEFORE
