"""The daily summary adds up to the clean month, by SQL, and its type refuses what no month can have."""

import datetime as dt

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from dagster import check_dagster_type

from taxi_assets.core.errors import PermanentError
from taxi_assets.core.month import Month
from taxi_assets.datasets.schema import GREEN, YELLOW
from taxi_assets.datasets.zones import OUTSIDE
from taxi_assets.publisher.zone_lookup import read_zones
from taxi_assets.reports.daily_summary import (
    BOROUGH_NAMES,
    KEY,
    NOT_RECORDED,
    PAYMENTS,
    SUMMARY_NAMES,
    as_frame,
    as_summary,
    require_reconciled,
    summary_schema,
    summary_type,
)
from taxi_assets_tests.cleaned_months import CleanedMonth, cleaned, cleaned_rows, cleaned_sample
from taxi_assets_tests.summaries import summarize


@pytest.fixture
def month(tmp_path) -> CleanedMonth:
    return cleaned_sample(tmp_path)


@pytest.fixture
def summary(month) -> pa.Table:
    return summarize(month.clean, month.kind, month.month)


def by_pandas(month: CleanedMonth, zones: pa.Table) -> pd.DataFrame:
    borough = {row["locationid"]: row["borough"] for row in zones.to_pylist()} | {265: OUTSIDE}
    trips = month.clean.to_pandas()
    return (
        trips.assign(
            pickup_date=trips[month.kind.pickup].dt.normalize().astype("datetime64[ns]"),
            payment=trips.payment_type.map(PAYMENTS).fillna(NOT_RECORDED),
            borough=trips.pulocationid.map(borough).fillna(NOT_RECORDED),
        )
        .groupby(KEY)
        .agg(
            trips=("payment", "size"),
            passengers=("passenger_count", "sum"),
            miles=("trip_distance", "sum"),
            fares=("fare_amount", "sum"),
            tips=("tip_amount", "sum"),
            revenue=("total_amount", "sum"),
        )
        .reset_index()
        .astype({"passengers": "int64"})
    )


@pytest.mark.parametrize("source", ["generated", "green_tripdata_2021-03.parquet", "green_tripdata_2020-03.csv.gz"])
def test_each_row_is_what_pandas_sums_with_the_publishers_lookup(source, tmp_path, tlc):
    if source == "generated":
        month = cleaned_sample(tmp_path)
    else:
        month = cleaned(tlc(f"green_full_months/{source}"), GREEN, source[15:22], tmp_path)
    expected = by_pandas(month, read_zones(tlc("lookup/taxi_zone_lookup.csv")))
    found = as_frame(summarize(month.clean, month.kind, month.month))
    pd.testing.assert_frame_equal(found, expected, check_exact=False, atol=0.006, rtol=0)


def test_trips_and_dollars_add_up_to_the_clean_month(month, summary):
    assert summary.schema.equals(summary_schema())
    assert pc.sum(summary["trips"]).as_py() == month.clean.rows
    require_reconciled(YELLOW, summary, month.clean.manifest, month.month)


def test_only_the_month_is_summed(month, summary, tmp_path):
    pickups = [dt.datetime(2021, 2, 1), dt.datetime(2021, 2, 1, 12)]
    late = cleaned_rows(tmp_path, [{YELLOW.pickup: pickup} for pickup in pickups], "2021-02").clean.to_arrow()
    both = pa.concat_tables([month.clean.to_arrow(), late])
    assert summarize(both, YELLOW, month.month).equals(summary)
    assert summarize(both, YELLOW, Month(2021, 2)).num_rows == 1
    assert summarize(both, YELLOW, Month(2021, 3)).num_rows == 0


def test_codes_and_zones_that_nobody_knows_are_not_recorded(tmp_path):
    rows = [{"payment_type": 77, "pulocationid": 999}, {"payment_type": None, "pulocationid": None}]
    (row,) = summarize(cleaned_rows(tmp_path, rows).clean, YELLOW, Month(2021, 1)).to_pylist()
    assert (row["payment"], row["borough"], row["trips"]) == (NOT_RECORDED, NOT_RECORDED, 2)


def changed(summary: pa.Table, name: str, value) -> pa.Table:
    values = summary[name].to_pylist()
    return summary.set_column(summary.column_names.index(name), summary.schema.field(name), [[value, *values[1:]]])


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda s: s.slice(1), "trips and the clean month"),
        (lambda s: changed(s, "revenue", 1e6), "revenue"),
        (lambda s: changed(s, "pickup_date", dt.date(2021, 2, 1)), "2021-02-01, which is not in the month"),
    ],
)
def test_a_summary_that_does_not_add_up_is_refused(month, summary, spoil, said):
    with pytest.raises(PermanentError, match=said):
        require_reconciled(YELLOW, spoil(summary), month.clean.manifest, month.month)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [(lambda s: s.drop_columns("tips"), "tips"), (lambda s: changed(s, "borough", None), "empty values in borough")],
)
def test_an_answer_in_other_columns_is_refused(summary, spoil, said):
    loose = spoil(summary.cast(pa.schema([field.with_nullable(True) for field in summary.schema])))
    with pytest.raises(PermanentError, match=said):
        as_summary(loose)


def test_the_frame_of_a_month_is_of_its_type_and_so_is_an_empty_one(summary):
    frame = as_frame(summary)
    for good in (frame, frame.head(0)):
        assert check_dagster_type(summary_type(), good).success
    assert as_summary(frame).equals(summary)
    assert all(name in (summary_type().description or "") for name in SUMMARY_NAMES)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda frame: frame.assign(trips=0),
        lambda frame: frame.assign(passengers=-1),
        lambda frame: frame.assign(trips=frame.trips.astype(float)),
        lambda frame: frame.assign(payment="Barter"),
        lambda frame: frame.assign(borough="Jersey City"),
        lambda frame: frame.assign(tips=None),
        lambda frame: frame.assign(tips=float("nan")),
        lambda frame: frame.drop(columns="miles"),
        lambda frame: frame.assign(more=1),
        lambda frame: pd.concat([frame, frame.head(1)]),
    ],
)
def test_a_frame_no_month_can_have_is_not_of_the_type(summary, spoil):
    assert not check_dagster_type(summary_type(), spoil(as_frame(summary))).success


def test_boroughs_are_the_publishers(tlc):
    names = set(read_zones(tlc("lookup/taxi_zone_lookup.csv"))["borough"].drop_null().to_pylist())
    assert names == set(BOROUGH_NAMES) - {OUTSIDE, NOT_RECORDED}
