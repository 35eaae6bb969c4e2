"""gcs_daily: a day as one object, in a directory and in Google Cloud Storage."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import dagster as dg
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from taxi_assets.core.errors import PermanentError
from taxi_assets.core.folders import default_staging
from taxi_assets.core.month_file import MonthFile
from taxi_assets.datasets.schema import GREEN, YELLOW, TaxiKind
from taxi_assets.sinks.contract import table_metadata
from taxi_assets.sinks.daily_object.io_manager import DailyObjectIOManager
from taxi_assets.sinks.day_folders.split import split_days
from taxi_assets.sinks.storage.buckets import open_bucket
from taxi_assets_tests.months import month_of_trips, one_pickup_outside, same_trips
from taxi_assets_tests.sinks.bucket_contract import WRITING, BucketSinkContract

pytest_plugins = ["taxi_assets_tests.gcs_fixtures"]

FIFTH, SIXTH = dt.date(2021, 1, 5), dt.date(2021, 1, 6)
DAYS = dg.DailyPartitionsDefinition("2021-01-01", end_date="2021-02-03")


def split_day(trips: MonthFile, kind: TaxiKind, day: dt.date) -> MonthFile:
    return split_days(trips, kind.table, Path(default_staging()), [day])[day]


class TestDailyObject(BucketSinkContract):
    name = "daily"

    def test_a_day_is_named_as_the_original_named_it(self, sink, month, location) -> None:
        self.replace(sink, month("2021-02"))
        assert [found.name for found in open_bucket(location).list("")] == ["2021/02/01/daily-trips.parquet"]


@pytest.fixture
def january(tmp_path: Path) -> MonthFile:
    return month_of_trips(tmp_path, "2021-01", 3000)


def of_day(file: MonthFile, day: dt.date) -> pa.Table:
    whole = file.to_arrow()
    return whole.filter(pc.equal(whole[YELLOW.pickup].cast(pa.date32()), day))


def test_a_day_is_split_from_its_month_with_facts_of_its_own(january: MonthFile) -> None:
    day = split_day(january, YELLOW, FIFTH)
    expected = of_day(january, FIFTH)
    assert day.to_arrow().equals(expected)
    assert day.manifest.rows == expected.num_rows > 0
    assert day.manifest.first.startswith("2021-01-05")
    assert [path.name for path in Path(default_staging()).glob("*.parquet")] == [day.path.name]


def test_a_day_of_another_month_is_refused(january: MonthFile) -> None:
    with pytest.raises(PermanentError, match="2021-02-01 is not a day of 2021-01"):
        split_day(january, YELLOW, dt.date(2021, 2, 1))


def test_a_month_with_strangers_is_not_split(tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match="2021-01: rows with a tpep_pickup_datetime outside the month"):
        split_day(month_of_trips(tmp_path, "2021-01", 10, change=one_pickup_outside), YELLOW, FIFTH)
    assert list(Path(default_staging()).glob("*")) == []


def test_trips_of_other_days_are_refused_and_the_day_stays(january: MonthFile, location: str) -> None:
    sink = DailyObjectIOManager(location=location)
    sink.replace(YELLOW.table, FIFTH, split_day(january, YELLOW, FIFTH), WRITING)
    with pytest.raises(PermanentError, match="2021-01-05: the rows are from 2021-01-01 to 2021-01-31; split the month"):
        sink.replace(YELLOW.table, FIFTH, january, WRITING)
    assert sink.read(YELLOW.table, FIFTH).to_arrow().equals(of_day(january, FIFTH))


@pytest.mark.parametrize("template", ["{year}/{month}.parquet", "{month}/{day}", "{year}-{day}"])
def test_a_template_must_name_the_whole_day(tmp_path: Path, template: str) -> None:
    with pytest.raises(PermanentError, match=r"lacks \{(year|month|day)\}: every (year|month|day) would overwrite"):
        DailyObjectIOManager(location=str(tmp_path), template=template).measure(YELLOW.table, FIFTH)


def test_a_template_may_tell_kinds_apart(tmp_path: Path) -> None:
    sink = DailyObjectIOManager(location=str(tmp_path), template="{kind}/{year}-{month}-{day}.parquet")
    assert sink.name(GREEN.table, FIFTH) == "green/2021-01-05.parquet"


def run(
    sink: DailyObjectIOManager, value, first: str, last: str | None = None, reader=None
) -> dg.ExecuteInProcessResult:
    """Materialize an asset by day that returns `value(days)`, and one that reads it where wanted."""
    policy = dg.BackfillPolicy.single_run()
    metadata = table_metadata(YELLOW.table)

    @dg.asset(partitions_def=DAYS, io_manager_key="sink", backfill_policy=policy, metadata=metadata)
    def gcs_daily(context):
        return value([dt.date.fromisoformat(key) for key in context.partition_keys])

    assets = [gcs_daily] if reader is None else [gcs_daily, reader]
    tags = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last or first}
    if last is None:
        return dg.materialize(assets, partition_key=first, resources={"sink": sink})
    definitions = dg.Definitions(
        assets,
        jobs=[dg.define_asset_job("days", selection=dg.AssetSelection.assets(*assets))],
        resources={"sink": sink},
    )
    return definitions.resolve_job_def("days").execute_in_process(tags=tags)


@pytest.mark.parametrize("shape", ["handle", "table", "frame"])
def test_an_asset_returns_one_day_as_a_handle_a_table_or_a_frame(january: MonthFile, location: str, shape: str) -> None:
    make = {
        "handle": lambda days: split_day(january, YELLOW, days[0]),
        "table": lambda days: of_day(january, days[0]),
        "frame": lambda days: of_day(january, days[0]).to_pandas(),
    }
    sink = DailyObjectIOManager(location=location)
    result = run(sink, make[shape], "2021-01-05")
    assert same_trips(sink.read(YELLOW.table, FIFTH), TripFileOf(of_day(january, FIFTH)))
    told = result.asset_materializations_for_node("gcs_daily")[0].metadata
    assert told["dagster/uri"].value == open_bucket(location).uri("2021/01/05/daily-trips.parquet")
    assert told["dagster/partition_row_count"].value == of_day(january, FIFTH).num_rows
    assert [path for path in Path(default_staging()).glob("*") if path.name != ".lock"] == []


class TripFileOf:
    """A table, where `same_trips` wants trips."""

    def __init__(self, table: pa.Table) -> None:
        self.to_arrow = lambda: table


@pytest.mark.parametrize("shape", ["mapping", "pairs", "keys"])
def test_a_run_holds_a_window_of_days_across_months(january: MonthFile, tmp_path: Path, shape: str) -> None:
    february = month_of_trips(tmp_path, "2021-02", 3000)
    sink = DailyObjectIOManager(location=str(tmp_path / "bucket"))

    def window(days: list[dt.date]):
        found = {}
        for month in (january, february):
            of_month = [day for day in days if day.month == month.month.month]
            found |= split_days(month, YELLOW.table, Path(default_staging()), of_month)
        return {
            "mapping": found,
            "pairs": iter(found.items()),
            "keys": {str(day): file for day, file in found.items()},
        }[shape]

    result = run(sink, window, "2021-01-29", "2021-02-02")
    for day, month in ((dt.date(2021, 1, 29), january), (dt.date(2021, 2, 2), february)):
        assert sink.read(YELLOW.table, day).to_arrow().equals(of_day(month, day))
    assert sink.measure(YELLOW.table, dt.date(2021, 1, 28)) is None
    told = {m.partition: m.metadata for m in result.asset_materializations_for_node("gcs_daily")}
    assert list(told) == ["2021-01-29", "2021-01-30", "2021-01-31", "2021-02-01", "2021-02-02"]
    assert told["2021-02-02"]["dagster/partition_row_count"].value == of_day(february, dt.date(2021, 2, 2)).num_rows


def test_a_day_of_the_window_that_did_not_come_is_missed(january: MonthFile, tmp_path: Path) -> None:
    sink = DailyObjectIOManager(location=str(tmp_path / "bucket"))
    with pytest.raises(dg.Failure, match="gcs_daily returned nothing for 2021-01-06"):
        run(sink, lambda days: {FIFTH: split_day(january, YELLOW, FIFTH)}, "2021-01-05", "2021-01-06")
    with pytest.raises(dg.Failure, match="One value is one day"):
        run(sink, lambda days: january, "2021-01-05", "2021-01-06")
    with pytest.raises(dg.Failure, match="returned 2021-01-06, which is not in this run"):
        run(sink, lambda days: {SIXTH: split_day(january, YELLOW, SIXTH)}, "2021-01-05")
    with pytest.raises(dg.Failure, match="An asset kept by day returned int"):
        run(sink, lambda days: 7, "2021-01-05")


@pytest.mark.parametrize("wanted", [MonthFile, pa.Table, pd.DataFrame])
def test_a_reader_gets_what_its_annotation_asks_for(january: MonthFile, tmp_path: Path, wanted: type) -> None:
    seen = []

    def read(gcs_daily) -> None:
        seen.append(gcs_daily)

    read.__annotations__["gcs_daily"] = wanted
    reader = dg.asset(partitions_def=DAYS, backfill_policy=dg.BackfillPolicy.single_run(), name="reader")(read)
    sink = DailyObjectIOManager(location=str(tmp_path / "bucket"))
    run(sink, lambda days: split_day(january, YELLOW, days[0]), "2021-01-05", reader=reader)
    assert isinstance(seen[0], wanted)
    table = (
        seen[0]
        if wanted is pa.Table
        else pa.Table.from_pandas(seen[0])
        if wanted is pd.DataFrame
        else seen[0].to_arrow()
    )
    assert table.num_rows == of_day(january, FIFTH).num_rows
