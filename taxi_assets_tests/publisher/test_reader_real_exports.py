"""Real trips that other tools have written, row by row against Python's own csv and datetime."""

import csv
import datetime as dt
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from taxi_assets.core.errors import PermanentError
from taxi_assets.core.month import Month
from taxi_assets.datasets.schema import FHVHV, GREEN, YELLOW, TaxiKind
from taxi_assets.publisher.options import ReadOptions
from taxi_assets.publisher.reader import open_trips
from taxi_assets_tests.published_files import unreadable

AMERICAN, ISO = "%m/%d/%Y %I:%M:%S %p", "%Y-%m-%d %H:%M:%S"
SPARK = "exports/spark_processed/{}-taxi/trip_year={}/trip_month={}"
WALL_CLOCK = ReadOptions(zoned_times="wall_clock")
FILES = {  # dataset, times, separator, settings, rows
    "exports/2015_Green_Taxi_Trip_Data_1000.csv": (GREEN, AMERICAN, ",", ReadOptions(), 1000),
    "exports/2018_Yellow_Taxi_Trip_Data_1000.csv": (YELLOW, AMERICAN, ";", ReadOptions(), 999),
    "exports/yellow_trip_data_10.csv": (YELLOW, ISO, ",", ReadOptions(), 9),
    "exports/yellow_2009-01_2020-12_first4_per_month_one_header.csv": (YELLOW, ISO, ",", ReadOptions(), 528),
    SPARK.format("green", 2015, "03"): (GREEN, "%Y-%m-%dT%H:%M:%S.000+08:00", ",", WALL_CLOCK, 99),
    SPARK.format("yellow", 2013, "05"): (YELLOW, "%Y-%m-%dT%H:%M:%S.000+08:00", ",", WALL_CLOCK, 98),
}
CODES = {"CMT": 1, "VTS": 2, "DDS": 3, "CASH": 2, "Cash": 2, "CAS": 2, "CSH": 2, "CREDIT": 1, "Credit": 1, "CRE": 1,
         "Cre": 1, "CRD": 1, "No Charge": 3, "Cas": 2, "NOC": 3,
         "Dispute": 4, "DIS": 4, "UNK": 5, "No": 3, "NA": 5, "Dis": 4}  # fmt: skip
NAMES = {"pickup_datetime": "*pickup_datetime", "dropoff_datetime": "*dropoff_datetime", "vendor_id": "vendorid",
         "rate_code": "ratecodeid", "rate_code_id": "ratecodeid", "pickup_location_id": "pulocationid",
         "dropoff_location_id": "dolocationid", "vendor_name": "vendorid", "start_lon": "pickup_longitude",
         "trip_pickup_datetime": "*pickup_datetime", "trip_dropoff_datetime": "*dropoff_datetime",
         "start_lat": "pickup_latitude", "end_lon": "dropoff_longitude", "end_lat": "dropoff_latitude",
         "store_and_forward": "store_and_fwd_flag", "fare_amt": "fare_amount", "surcharge": "extra",
         "tip_amt": "tip_amount", "tolls_amt": "tolls_amount", "total_amt": "total_amount"}  # fmt: skip


def expected(path: Path, kind: TaxiKind, form: str, separator: str) -> Iterator[dict[str, Any] | None]:
    """The trips of a CSV, or of the one part in a folder; None for a line with a value that is not one of its column."""
    part = next(path.glob("part-*.csv")) if path.is_dir() else path
    with part.open(encoding="utf-8-sig", newline="") as lines:
        header, *rows = csv.reader(lines, delimiter=separator)
    names = [NAMES.get(name.strip().lower(), name.strip().lower()).replace("*", kind.meter) for name in header]
    for row in filter(None, rows):
        try:
            yield {
                name: value_of(name, text.strip(), kind, form)
                for name, text in zip(names, row, strict=False)
                if name in kind.schema.names
            }
        except ValueError:
            yield None


def value_of(name: str, text: str, kind: TaxiKind, form: str) -> Any:
    type_ = kind.schema.field(name).type
    if text == "":
        return None
    if pa.types.is_timestamp(type_):
        return dt.datetime.strptime(text, form).replace(tzinfo=None)
    if name == "store_and_fwd_flag":
        return {"N": "N", "Y": "Y", "0": "N", "1": "Y"}[text] if text in "NY01" else float("not a flag")
    if pa.types.is_integer(type_):
        number = float(CODES.get(text, text))
        return int(number) if number.is_integer() and abs(number) < 2**15 else int("not whole")
    return float(text)


@pytest.mark.parametrize("name", FILES)
def test_real_trips_of_another_tool_have_the_right_values(name: str, tlc: Callable[[str], Path]) -> None:
    kind, form, separator, options, count = FILES[name]
    opened = open_trips(tlc(name), kind, Month(2015, 3), options=options)
    table = pa.Table.from_batches(opened.batches, opened.schema)
    trips = list(expected(tlc(name), kind, form, separator))
    assert table.num_rows == len(trips) == count
    for found, trip in zip(table.to_pylist(), trips, strict=True):
        assert (found["reject_reason"] is None) == (trip is not None)
        read = {column: found[column] for column in kind.schema.names}
        assert read == dict.fromkeys(kind.schema.names) | (trip or {})


@pytest.mark.parametrize(
    ("name", "new"),
    [
        ("exports/yellow_2018-10-31_10000.parquet", []),
        (
            "exports/yellow_100000_both_airport_fees.parquet",
            ["Airport_fee_2", "pickup_hour", "pickup_dayofweek", "pickup_weekday", "pickup_date", "tip_percentage"],
        ),
    ],
)
def test_a_parquet_file_of_another_tool_keeps_what_it_has_more(
    name: str, new: list[str], tlc: Callable[[str], Path]
) -> None:
    opened = open_trips(tlc(name), YELLOW, Month(2018, 10))
    table = pa.Table.from_batches(opened.batches, opened.schema)
    published = pq.read_table(tlc(name))
    assert not unreadable(table)
    assert list(opened.columns["new"]) == new
    for position, published_name in enumerate(published.column_names):
        column = "Airport_fee_2" if published_name == "Airport_fee" else published_name
        found = table[column if column in new else column.lower()]
        assert found.to_pylist() == [None if v != v else v for v in published.column(position).to_pylist()], column


def test_a_file_without_times_is_named(tlc: Callable[[str], Path]) -> None:
    with pytest.raises(PermanentError, match="has no column for pickup_datetime"):
        open_trips(tlc("exports/fhvhv_2025_100_bom_no_timestamps.csv"), FHVHV, Month(2025, 1))
    with pytest.raises(PermanentError, match="is a high-volume for-hire file by its columns"):
        open_trips(tlc("exports/fhvhv_2025_100_bom_no_timestamps.csv"), YELLOW, Month(2025, 1))


def test_every_real_export_is_in_the_tables(tlc: Callable[[str], Path]) -> None:
    tried = {Path(name).parts[1] for name in FILES}
    tried |= {
        "yellow_2018-10-31_10000.parquet",
        "yellow_100000_both_airport_fees.parquet",
        "fhvhv_2025_100_bom_no_timestamps.csv",
    }
    assert {path.name for path in tlc("exports").iterdir()} == tried
