"""A month's profile equals an independent computation with pandas."""

import dataclasses
import datetime as dt
import json

import pandas as pd
import pyarrow.parquet as pq
import pytest

from taxi_assets.core.errors import PermanentError
from taxi_assets.core.manifest import FOOTER_KEY
from taxi_assets.core.month_file import MonthFile
from taxi_assets.datasets.schema import GREEN, YELLOW
from taxi_assets.publisher.zone_lookup import read_zones, sample_zones
from taxi_assets.reports.figures import MonthProfile
from taxi_assets.reports.profile import profile_month
from taxi_assets_tests.cleaned_months import CleanedMonth, cleaned, cleaned_rows, cleaned_sample


@pytest.fixture(params=["generated yellow 2021-01", "green 2021-03", "green 2020-03 from CSV"])
def month(request, tmp_path, tlc) -> CleanedMonth:
    if request.param.startswith("generated"):
        return cleaned_sample(tmp_path)
    name = "green_tripdata_2021-03.parquet" if "2021" in request.param else "green_tripdata_2020-03.csv.gz"
    return cleaned(tlc(f"green_full_months/{name}"), GREEN, name[15:22], tmp_path)


def count(series: pd.Series) -> dict:
    return series.value_counts().to_dict()


def test_every_figure_is_what_pandas_counts(month):
    profile = month.profile()
    clean, rejected = month.clean.to_pandas(), month.rejected.to_pandas()
    pickup, bad = clean[month.kind.pickup], rejected[month.kind.pickup]

    days, bad_days = count(pickup.dt.strftime("%Y-%m-%d")), count(bad.dt.strftime("%Y-%m-%d"))
    assert {day.date: day.trips for day in profile.days if day.trips} == days
    assert {day.date: day.rejected for day in profile.days if day.rejected} == {
        day: rows for day, rows in bad_days.items() if day.startswith(str(month.month))
    }
    by_hour = clean.groupby([pickup.dt.dayofweek, pickup.dt.hour]).size()
    assert {(d, h): n for d, row in enumerate(profile.hours) for h, n in enumerate(row) if n} == by_hour.to_dict()

    totals = dataclasses.asdict(profile.totals)
    assert totals == pytest.approx(
        {
            "trips": len(clean),
            "passengers": clean.passenger_count.sum(),
            "miles": clean.trip_distance.sum(),
            "fares": clean.fare_amount.sum(),
            "tips": clean.tip_amount.sum(),
            "revenue": clean.total_amount.sum(),
        },
        abs=0.006,
    )
    for found, values in ((profile.distances, clean.trip_distance), (profile.fares, clean.fare_amount)):
        edges = [i * found.width for i in range(len(found.counts) + 1)]
        bins = pd.cut(values.round(2), edges, right=False).value_counts(sort=False)
        assert list(found.counts) == bins.tolist()
        assert found.median == pytest.approx(values.median(), abs=0.001)
        assert (found.above, found.below) == ((values >= found.end).sum(), (values < 0).sum())
        assert (found.zero, found.unknown) == ((values == 0).sum(), values.isna().sum())

    zones = sorted(count(clean.pulocationid.dropna().astype(int)).items(), key=lambda item: (-item[1], item[0]))
    assert [(zone.id, zone.trips) for zone in profile.places.top] == zones[:10]
    assert profile.payments == count(clean.payment_type.map(lambda code: "" if pd.isna(code) else str(int(code))))
    assert profile.reasons == count(rejected.reject_reason)
    assert (profile.first_pickup, profile.last_pickup) == (str(pickup.min()), str(pickup.max()))


def test_every_published_row_is_on_a_day_or_said_not_to_be(month):
    profile = month.profile()
    assert sum(day.trips for day in profile.days) + profile.undated == profile.totals.trips == month.clean.rows
    dated = sum(day.rejected for day in profile.days)
    assert dated + profile.rejected_outside + profile.rejected_undated == profile.rejected_rows == month.rejected.rows
    assert sum(profile.reasons.values()) == profile.rejected_rows
    assert sum(map(sum, profile.hours)) == sum(profile.payments.values()) == profile.totals.trips
    assert profile.distances.rows == profile.fares.rows == profile.totals.trips
    assert profile.unaccounted == 0


def test_rows_that_are_neither_kept_nor_rejected_are_counted(tmp_path):
    month = cleaned_rows(tmp_path, [{}])
    assert dataclasses.replace(month.profile(), raw_rows=3).unaccounted == 2


def test_a_profile_comes_back_from_json_as_it_was(month):
    profile = month.profile(sample_zones())
    assert MonthProfile.from_json(profile.to_json()) == profile


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 0, "month": "2021-01"}', '{"format": 1}'])
def test_a_stored_profile_of_another_release_is_refused_with_what_to_do(text):
    with pytest.raises(PermanentError, match="materialize month_report"):
        MonthProfile.from_json(text)


def test_zones_have_the_publishers_names_when_the_lookup_is_at_hand(month, tlc):
    zones = read_zones(tlc("lookup/taxi_zone_lookup.csv"))
    names = {row["locationid"]: (row["zone"], row["borough"]) for row in zones.to_pylist()}
    top = month.profile(zones).places
    assert top.named
    assert [(zone.name, zone.borough) for zone in top.top] == [names[zone.id] for zone in top.top]
    assert all(zone.name is None for zone in month.profile().places.top)


def test_an_era_of_coordinates_has_no_zones_and_says_how_many_coordinates(tmp_path, tlc):
    path = tlc("yellow_csv_heads/yellow_tripdata_2009-01.csv")
    places = cleaned(path, YELLOW, "2009-01", tmp_path).profile().places
    assert places.top == ()
    assert places.with_coordinates == places.without_zone > 50


def test_edges_tails_and_nothing_each_have_their_place(tmp_path):
    fares = [-3.0, 0.0, 2.49, 2.5, 79.99, 80.0, 10_000.0, None]
    found = cleaned_rows(tmp_path, [{"fare_amount": fare} for fare in fares]).profile().fares
    assert (found.below, found.zero, found.counts[0], found.counts[1]) == (1, 1, 2, 1)
    assert (found.counts[-1], found.above, found.unknown) == (1, 2, 1)
    assert found.median == 2.5


@pytest.mark.parametrize("fares", [[], [None], [-1.0, -2.0], [9e9, 9e9]])
def test_there_is_no_median_where_none_is_known(tmp_path, fares):
    assert cleaned_rows(tmp_path, [{"fare_amount": fare} for fare in fares]).profile().fares.median is None


def test_rejected_rows_of_other_months_and_of_no_time_are_on_no_day(tmp_path):
    pickups = [dt.datetime(2021, 1, 31, 23, 59, 59), dt.datetime(2021, 2, 1), dt.datetime(2008, 12, 31), None]
    profile = cleaned_rows(tmp_path, [{YELLOW.pickup: pickup} for pickup in pickups]).profile()
    assert (profile.days[-1].trips, profile.rejected_outside, profile.rejected_undated) == (1, 2, 1)


def test_an_address_is_told_without_what_may_be_secret(tmp_path):
    location = "https://reader:s3cret@files.example/2021-01.parquet?sig=s3cret#s3cret"
    profile = cleaned_rows(tmp_path, [{}], source="template", location=location).profile()
    assert profile.origin.location == "https://files.example/2021-01.parquet"
    assert "s3cret" not in profile.to_json()


def test_request_sources_are_counted_of_kept_and_of_rejected_trips(tmp_path):
    rows = [
        {},
        {"request_source": "A"},
        {"request_source": "HV0003", "passenger_count": None},
        {"request_source": "HV0003", "passenger_count": None},
        {"reject_reason": "unreadable_value", YELLOW.pickup: None},
    ]
    profile = cleaned_rows(tmp_path, rows, "2026-06").profile()
    assert profile.request_sources == {"": 1, "A": 1}
    assert profile.rejected_request_sources == {"HV0003": 2}


def test_a_month_without_request_sources_has_none(tmp_path):
    profile = cleaned_rows(tmp_path, [{}, {"passenger_count": 0}]).profile()
    assert profile.request_sources == profile.rejected_request_sources == {}


def test_a_month_cleaned_before_the_column_existed_has_a_profile(tmp_path):
    month = cleaned_rows(tmp_path, [{}, {"passenger_count": 0}])
    before = month.profile()
    for file in (month.clean, month.rejected):
        table = pq.read_table(file.path, partitioning=None).drop_columns("request_source")
        facts = {FOOTER_KEY: pq.read_metadata(file.path).metadata[FOOTER_KEY]}
        pq.write_table(table.replace_schema_metadata(facts), file.path)
    clean, rejected = (MonthFile(file.path, month.month) for file in (month.clean, month.rejected))
    assert "request_source" not in clean.schema.names
    assert profile_month(YELLOW, clean, rejected, 2) == before


def test_a_profile_without_request_sources_is_read(tmp_path):
    profile = cleaned_rows(tmp_path, [{}]).profile()
    stored = json.loads(profile.to_json())
    del stored["request_sources"], stored["rejected_request_sources"]
    assert MonthProfile.from_json(json.dumps(stored)) == profile
