# ruff: noqa: F401, F811 - pytest finds fixtures by their imported names
"""A backfill of all missing months passes over those that are not published yet: no run fails, and they stay missing."""

import time

import dagster as dg

from taxi_assets.automation.outcomes import outcomes
from taxi_assets.datasets.schema import YELLOW
from taxi_assets.keys import monthly
from taxi_assets_tests.loaded_months import BEFORE, NEWEST, Loaded, loaded

RAW = dg.AssetKey("raw_trips")
OLD = monthly(YELLOW).get_partition_keys()[-19][:7]
BACKFILL = {"dagster/backfill": "abcdefgh"}


def load(loaded: Loaded, month: str, tags: dict[str, str]) -> tuple[str, dg.ExecuteInProcessResult]:
    """Run the month's job; why raw_trips failed, and the result."""
    job = loaded.defs.resolve_job_def("load_month")
    result = job.execute_in_process(
        partition_key=f"{month}-01", instance=loaded.instance, tags=tags, raise_on_error=False
    )
    failed = [
        event.step_failure_data.user_failure_data.description for event in result.all_events if event.is_step_failure
    ]
    return " ".join(failed), result


def test_a_backfill_passes_over_a_month_that_is_not_published_yet(loaded):
    failure, result = load(loaded, NEWEST, BACKFILL)
    assert failure == ""
    assert result.success
    assert not [event for event in result.get_asset_materialization_events() if event.partition]
    assert f"{NEWEST}-01" not in loaded.instance.get_materialized_partitions(RAW)
    (observed,) = loaded.instance.fetch_observations(
        dg.AssetRecordsFilter(RAW, asset_partitions=[f"{NEWEST}-01"]), limit=1
    ).records
    reason = observed.asset_observation.metadata["not_published"].value
    assert reason.startswith(f"Skipped: yellow {NEWEST} is not published yet")


def test_a_run_that_loaded_nothing_is_no_recovery(loaded):
    _, result = load(loaded, NEWEST, BACKFILL)
    run = loaded.instance.get_run_by_id(result.run_id)
    assert outcomes(loaded.instance, run, time.time()) == ([], [])


def test_the_month_by_itself_is_an_error(loaded):
    assert f"yellow {NEWEST} is not published yet" in load(loaded, NEWEST, {})[0]


def test_an_older_month_that_is_not_published_is_an_error_in_a_backfill(loaded):
    assert f"yellow {OLD} is not published at" in load(loaded, OLD, BACKFILL)[0]


def test_a_month_that_was_withdrawn_after_it_was_loaded_is_an_error_in_a_backfill(loaded):
    with loaded.published(BEFORE):
        loaded.publisher.withdraw(BEFORE)
        assert f"yellow {BEFORE} is not published yet" in load(loaded, BEFORE, BACKFILL)[0]
