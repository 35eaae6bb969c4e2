"""Warning checks do not block a month, are logged, and name each cause."""

import logging
from typing import Any

import dagster as dg
import pytest

from taxi_assets.assets.clean_trips import cleaning_config
from taxi_assets.assets.month_check import MonthCheck, define_checks
from taxi_assets.assets.month_warnings import few_rejected
from taxi_assets.core.manifest import Manifest
from taxi_assets.core.month import Month
from taxi_assets.datasets.rules import RULES, CleaningRules
from taxi_assets.datasets.schema import GREEN, YELLOW
from taxi_assets.keys import key, monthly

MONTH = Month(2026, 6)


def facts(rows: int, **reasons: int) -> Manifest:
    return Manifest(rows, extra={"reasons": reasons})


def look(kind=YELLOW, clean=8_500, **reasons: int):
    return few_rejected(kind, MONTH, facts(clean), facts(sum(reasons.values()), **reasons))


def test_a_month_with_15_percent_rejected_passes():
    assert look(clean=8_500, unknown_passengers=1_500) == (
        [],
        {"rejected_share": 0.15, "rejected_by_reason": {"unknown_passengers": 1_500}},
    )
    assert look(clean=8_499, unknown_passengers=1_501)[0]


def test_the_shares_are_listed_by_size_with_how_to_keep_the_trips():
    (sentence, explanation), metadata = look(
        clean=7_000, zero_passengers=200, negative_total=200, unknown_passengers=2_600
    )
    assert sentence == (
        "2026-06: 30.0 % of 10,000 rows are rejected: unknown_passengers 26.0 %, negative_total 2.0 %, zero_passengers 2.0 %."
    )
    assert "payment_type 0): 26 % of yellow trips in 2026" in explanation
    assert "set TAXI_REJECT_UNKNOWN_PASSENGERS=false, or" in explanation
    assert "`ops: {clean_trips: {config: {reject_unknown_passengers: false}}}`" in explanation
    assert list(metadata["causes"]) == ["rejected: unknown_passengers"]
    assert metadata["causes"]["rejected: unknown_passengers"].startswith("2026-06: 26.0 % of 10,000 rows")


def test_green_trips_have_their_own_op_and_payment_type():
    (_, explanation), _ = look(GREEN, unknown_passengers=2_000)
    assert "payment_type is null" in explanation
    assert "ops: {green__clean_trips:" in explanation


def test_each_reason_above_a_tenth_is_a_cause_and_else_the_largest():
    small = {"zero_passengers": 500, "negative_total": 500, "dropoff_before_pickup": 500, "pickup_outside_month": 500}
    assert list(look(**small)[1]["causes"]) == ["rejected: dropoff_before_pickup"]
    large = {rule.reason: 1_000 for rule in RULES[:7]} | {"unreadable_value": 1_000}
    assert list(look(clean=1, **large)[1]["causes"]) == [f"rejected: {reason}" for reason in sorted(large)]


MONTHS = ["2026-06", "2026-07"]


@pytest.mark.parametrize("months", [MONTHS[:1], MONTHS])
def test_a_warning_does_not_stop_the_run_and_is_logged(months):
    def look(month: Month, _: object):
        return [f"{month}: new column.", "See docs."], {"rows": 1, "causes": {"surge_fee": f"{month} has surge_fee."}}

    @dg.asset(name="clean_trips", partitions_def=monthly(YELLOW), backfill_policy=dg.BackfillPolicy.single_run())
    def clean_trips() -> None: ...

    check = define_checks(YELLOW, "clean_trips", (), MonthCheck("no_new_column", "", look, warn=True))
    job = dg.Definitions([clean_trips], asset_checks=[check], jobs=[dg.define_asset_job("load")]).resolve_job_def(
        "load"
    )
    ends = {"dagster/asset_partition_range_start": "2026-06-01", "dagster/asset_partition_range_end": "2026-07-01"}
    launch: dict[str, Any] = {"tags": ends} if len(months) > 1 else {"partition_key": "2026-06-01"}
    with dg.DagsterInstance.ephemeral() as instance:
        result = job.execute_in_process(instance=instance, **launch)
        logged = [entry.user_message for entry in instance.all_logs(result.run_id) if entry.level == logging.WARNING]
    (evaluation,) = result.get_asset_check_evaluations()
    assert (result.success, evaluation.passed, evaluation.blocking) == (True, False, False)
    assert evaluation.severity == dg.AssetCheckSeverity.WARN
    assert evaluation.description == "2026-06: new column. See docs." + " 2026-07: new column." * (len(months) > 1)
    assert evaluation.metadata["causes"].value == {"surge_fee": " ".join(f"{month} has surge_fee." for month in months)}
    assert logged == [evaluation.description]


def test_a_check_that_blocks_still_stops_the_run():
    wrong = MonthCheck("wrong", "", lambda month, _: ([f"{month} is wrong."], {}))
    check = define_checks(YELLOW, "clean_trips", (), wrong)
    spec = next(iter(check.check_specs))
    assert spec.blocking
    assert spec.asset_key == key(YELLOW, "clean_trips")


def test_some_checks_of_an_asset_can_be_selected():
    @dg.asset(name="clean_trips", partitions_def=monthly(YELLOW))
    def clean_trips() -> None: ...

    good, bad = (
        MonthCheck(name, "", lambda month, _, problems=problems: (problems, {}))
        for name, problems in (("good", []), ("bad", ["bad."]))
    )
    only = dg.AssetSelection.assets(clean_trips).without_checks() | dg.AssetSelection.checks(
        dg.AssetCheckKey(clean_trips.key, "good")
    )
    job = dg.Definitions(
        [clean_trips],
        asset_checks=[define_checks(YELLOW, "clean_trips", (), good, bad)],
        jobs=[dg.define_asset_job("load", selection=only)],
    ).resolve_job_def("load")
    with dg.DagsterInstance.ephemeral() as instance:
        result = job.execute_in_process(instance=instance, partition_key="2026-06-01")
    assert [(each.check_name, each.passed) for each in result.get_asset_check_evaluations()] == [("good", True)]


def test_the_run_config_has_the_settings_as_defaults():
    config = cleaning_config(CleaningRules(reject_unknown_passengers=False, max_trip_distance=50))
    fields = config.to_config_schema().as_field().config_type.fields
    defaults = {name: field.default_value for name, field in fields.items() if field.default_provided}
    assert defaults == CleaningRules(reject_unknown_passengers=False, max_trip_distance=50).model_dump()
    assert all(field.description for field in fields.values())
    with pytest.raises(ValueError, match="greater than 0"):
        config(max_trip_distance=-1)
