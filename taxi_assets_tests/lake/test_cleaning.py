"""Cleaning keeps or rejects every row, with the first reason that applies."""

import datetime as dt

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxi_assets.core.month import Month
from taxi_assets.core.month_file import MonthFile
from taxi_assets.core.staging import stage
from taxi_assets.datasets.rules import RULES, CleaningRules
from taxi_assets.datasets.schema import FHV, FHVHV, GREEN, YELLOW, TaxiKind
from taxi_assets.lake.cleaning import HITS, Case, clean_month, split

MONTH = Month(2021, 1)
GOOD = {
    "tpep_pickup_datetime": dt.datetime(2021, 1, 5, 8),
    "tpep_dropoff_datetime": dt.datetime(2021, 1, 5, 9),
    "passenger_count": 1,
    "trip_distance": 2.0,
    "fare_amount": 9.0,
    "total_amount": 12.0,
}


def batch(*rows: dict) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([{**GOOD, **row} for row in rows], schema=YELLOW.raw_schema)


def reasons(rules: CleaningRules, *rows: dict) -> list[str]:
    _, rejected = split(Case(batch(*rows), YELLOW, MONTH, rules))
    return rejected.column("reject_reason").to_pylist()


def test_a_trip_with_a_passenger_picked_up_in_its_month_is_kept_as_it_is():
    clean, rejected = split(Case(batch({}), YELLOW, MONTH, CleaningRules()))
    assert rejected.num_rows == 0
    assert clean.schema == YELLOW.schema
    assert clean.to_pylist()[0]["total_amount"] == 12.0


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"passenger_count": 0}, "zero_passengers"),
        ({"passenger_count": -1}, "zero_passengers"),
        ({"passenger_count": None}, "unknown_passengers"),
        ({"tpep_pickup_datetime": None}, "pickup_missing"),
        ({"tpep_pickup_datetime": dt.datetime(2020, 12, 31, 23, 59, 59)}, "pickup_outside_month"),
        ({"tpep_pickup_datetime": dt.datetime(2021, 2, 1)}, "pickup_outside_month"),
        ({"passenger_count": None, "tpep_pickup_datetime": dt.datetime(2041, 8, 17)}, "pickup_outside_month"),
        (
            {"reject_reason": "unreadable_value", "passenger_count": None, "tpep_pickup_datetime": None},
            "unreadable_value",
        ),
    ],
)
def test_a_row_is_rejected_for_the_first_reason_that_applies(row, reason):
    assert reasons(CleaningRules(), row, {}) == [reason]


def test_the_first_and_the_last_instant_of_a_month_belong_to_it():
    last = dt.datetime(2021, 1, 31, 23, 59, 59, 999999)
    assert reasons(CleaningRules(), {"tpep_pickup_datetime": MONTH.start}, {"tpep_pickup_datetime": last}) == []


@pytest.mark.parametrize(
    ("rules", "row", "reason"),
    [
        (CleaningRules(reject_negative_total=True), {"total_amount": -3.3}, "negative_total"),
        (
            CleaningRules(reject_dropoff_before_pickup=True),
            {"tpep_dropoff_datetime": dt.datetime(2021, 1, 1)},
            "dropoff_before_pickup",
        ),
        (CleaningRules(max_trip_distance=100), {"trip_distance": 100.1}, "distance_above_maximum"),
    ],
)
def test_an_optional_rule_rejects_only_when_it_is_on(rules, row, reason):
    assert reasons(rules, row) == [reason]
    assert reasons(CleaningRules(), row) == []


def test_switching_the_passenger_rules_off_keeps_those_trips():
    rules = CleaningRules(reject_zero_passengers=False, reject_unknown_passengers=False)
    assert reasons(rules, {"passenger_count": 0}, {"passenger_count": None}) == []


rows = st.lists(
    st.fixed_dictionaries(
        {
            "passenger_count": st.one_of(st.none(), st.integers(-2, 9)),
            "total_amount": st.one_of(st.none(), st.floats(-100, 100)),
            "tpep_pickup_datetime": st.one_of(
                st.none(), st.datetimes(dt.datetime(2020, 12, 30), dt.datetime(2021, 2, 2))
            ),
            "reject_reason": st.sampled_from([None, None, None, "unreadable_value"]),
        }
    ),
    max_size=30,
)


def test_every_rule_says_which_rows_it_hits():
    assert HITS.keys() == {rule.reason for rule in RULES}


def test_every_setting_switches_a_rule():
    assert CleaningRules.model_fields.keys() == {rule.setting for rule in RULES if rule.setting}


@given(rows, st.booleans(), st.booleans(), st.booleans())
def test_every_row_is_kept_or_rejected_whatever_the_rules(drawn, zero, unknown, negative):
    raw = batch(*drawn) if drawn else batch({}).slice(0, 0)
    rules = CleaningRules(
        reject_zero_passengers=zero, reject_unknown_passengers=unknown, reject_negative_total=negative
    )
    clean, rejected = split(Case(raw, YELLOW, MONTH, rules))
    assert clean.num_rows + rejected.num_rows == raw.num_rows
    assert rejected.column("reject_reason").null_count == 0
    assert set(rejected.column("reject_reason").to_pylist()) <= {rule.reason for rule in RULES} | {"unreadable_value"}


def raw_file(folder, kind=YELLOW, rows=()):
    with stage(folder, MONTH, kind.raw_schema, kind.table, "raw") as writer:
        writer.write(batch(*rows))
        writer.extra = {"source": "test", "generated": False}
        return writer.close()


def test_a_month_is_cleaned_in_one_pass_and_the_reasons_are_counted(tmp_path):
    raw = raw_file(tmp_path, rows=[{}, {"passenger_count": 0}, {"passenger_count": 0}, {"passenger_count": None}, {}])
    clean, rejected = clean_month(raw, YELLOW, CleaningRules(), tmp_path / "staging")
    assert (clean.rows, rejected.rows) == (2, 3)
    assert clean.manifest.sums["total_amount"] == 24.0
    assert clean.manifest.first == "2021-01-05 08:00:00"
    for file in (clean, rejected):
        assert file.manifest.extra["reasons"] == {"zero_passengers": 2, "unknown_passengers": 1}
    assert pc.all(pc.is_valid(rejected.to_arrow()["reject_reason"])).as_py()


def test_a_failure_midway_leaves_no_staged_file(tmp_path):
    raw = raw_file(tmp_path, rows=[{}] * 10)

    class Breaks(MonthFile):
        def batches(self, *args, **kwargs):
            yield from super().batches(*args, **kwargs)
            raise RuntimeError("midway")

    with pytest.raises(RuntimeError, match="midway"):
        clean_month(Breaks(raw.path, MONTH), YELLOW, CleaningRules(), tmp_path / "staging")
    assert list((tmp_path / "staging").iterdir()) == []


def test_green_trips_are_cleaned_by_their_own_pickup_time():
    row = {"lpep_pickup_datetime": dt.datetime(2021, 3, 1), "passenger_count": 1}
    raw = pa.RecordBatch.from_pylist([row], schema=GREEN.raw_schema)
    _, rejected = split(Case(raw, GREEN, MONTH, CleaningRules()))
    assert rejected.column("reject_reason").to_pylist() == ["pickup_outside_month"]


EVERY_RULE = CleaningRules(
    reject_negative_total=True,
    reject_dropoff_before_pickup=True,
    reject_negative_fare=True,
    max_trip_distance=100,
    max_trip_hours=5,
)


@pytest.mark.parametrize(
    ("kind", "row", "reason"),
    [
        (FHV, {}, None),
        (FHV, {"dropoff_datetime": None}, None),
        (FHV, {"pickup_datetime": dt.datetime(2020, 12, 31)}, "pickup_outside_month"),
        (FHV, {"dropoff_datetime": dt.datetime(2021, 1, 5, 7)}, "dropoff_before_pickup"),
        (FHV, {"dropoff_datetime": dt.datetime(3019, 1, 5)}, "duration_above_maximum"),
        (FHVHV, {}, None),
        (FHVHV, {"base_passenger_fare": -0.01, "tips": 1.0}, "negative_fare"),
        (FHVHV, {"base_passenger_fare": -3.0}, "negative_total"),
        (FHVHV, {"base_passenger_fare": None, "tips": None}, None),
        (FHVHV, {"trip_miles": 100.5}, "distance_above_maximum"),
        (FHVHV, {"dropoff_datetime": dt.datetime(2021, 1, 5, 13)}, None),
        (FHVHV, {"dropoff_datetime": dt.datetime(2021, 1, 5, 13, 0, 1)}, "duration_above_maximum"),
    ],
)
def test_for_hire_trips_have_their_own_rules_and_those_about_passengers_are_off(
    kind: TaxiKind, row: dict, reason: str | None
):
    good = {"pickup_datetime": dt.datetime(2021, 1, 5, 8), "dropoff_datetime": dt.datetime(2021, 1, 5, 9)}
    raw = pa.RecordBatch.from_pylist([{**good, **row}], schema=kind.raw_schema)
    clean, rejected = split(Case(raw, kind, MONTH, EVERY_RULE))
    assert rejected.column("reject_reason").to_pylist() == ([reason] if reason else [])
    assert clean.num_rows == (reason is None)


def test_a_trip_of_the_year_3019_is_kept_by_default():
    raw = pa.RecordBatch.from_pylist(
        [{"pickup_datetime": MONTH.start, "dropoff_datetime": dt.datetime(3019, 1, 1)}], schema=FHV.raw_schema
    )
    assert split(Case(raw, FHV, MONTH, CleaningRules()))[0].column("dropoff_datetime")[0].as_py().year == 3019
