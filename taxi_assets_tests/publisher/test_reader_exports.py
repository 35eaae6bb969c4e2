"""Trips that other tools have written: names, separators, types and columns of their own."""

import datetime as dt
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from taxi_assets.core.month import Month
from taxi_assets.datasets.schema import FHV, YELLOW
from taxi_assets.publisher import csv_reader
from taxi_assets.publisher.reader import open_trips
from taxi_assets_tests.published_files import HEADER, MONTH, ROW, csv_file, read, unreadable

TRIP = {
    "vendorid": 1,
    "tpep_pickup_datetime": dt.datetime(2019, 6, 5, 0, 55, 13),
    "tpep_dropoff_datetime": dt.datetime(2019, 6, 5, 0, 56, 17),
    "passenger_count": 1,
    "trip_distance": 1.5,
    "ratecodeid": 1,
    "store_and_fwd_flag": "N",
    "pulocationid": 145,
    "dolocationid": 145,
    "payment_type": 2,
    "fare_amount": 3.0,
    "extra": 0.5,
    "mta_tax": 0.5,
    "tip_amount": 0.0,
    "tolls_amount": 0.0,
    "improvement_surcharge": 0.3,
    "total_amount": 4.3,
    "congestion_surcharge": 0.0,
}
LATE = {"tpep_dropoff_datetime": dt.datetime(3019, 6, 5, 0, 56, 17)}
READ = {  # what is ignored; rows that differ from TRIP, by position
    "bigquery_public_table.parquet": (["data_file_year", "data_file_month"], {}),
    "binary_flag.parquet": ([], {}),
    "bool_flag.parquet": ([], {}),
    "course_columns.parquet": (["unique_row_id", "filename"], {}),
    "dlt_columns.parquet": (["_dlt_load_id", "_dlt_id"], {}),
    "int96_year_3019.parquet": ([], {1: LATE}),
    "mage_snake_case.csv": ([], {}),
    "mage_snake_case.parquet": ([], {}),
    "nbsp_in_header.csv": ([], {}),
    "semicolon.csv": ([], {}),
    "tab.csv": ([], {}),
}


@pytest.mark.parametrize("name", READ)
def test_an_export_of_another_tool_has_the_right_values(name: str, tlc: Callable[[str], Path]) -> None:
    ignored, different = READ[name]
    opened = open_trips(tlc(f"../exports/{name}"), YELLOW, MONTH)
    table = pa.Table.from_batches(opened.batches, opened.schema)
    assert opened.columns["ignored"] == ignored
    assert opened.columns["new"] == {}
    assert not unreadable(table)
    empty = dict.fromkeys(YELLOW.raw_schema.names)
    for row, trip in enumerate(table.to_pylist()):
        assert trip == {**empty, **TRIP, **different.get(row, {})}


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("quoted", [False, True])
def test_the_separator_is_that_of_the_header_in_every_line(
    separator: str, quoted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def line(text: str) -> str:
        return separator.join(f'"{field}"' if quoted else field for field in text.split(","))

    other = ";" if separator == "," else ","
    lines = [line(ROW)] * 20 + [ROW.replace(",", other)] + [line(ROW)] * 20
    path = csv_file(tmp_path, *lines, header=line(HEADER))
    found = read(path)
    assert [reject[0] for reject in unreadable(found)] == ["unreadable_field_count"]
    assert found.num_rows == 41
    assert set(found["total_amount"].to_pylist()) == {4.3, None}
    monkeypatch.setattr(csv_reader, "split_at_once", lambda *_: None)
    assert read(path).equals(found)


@pytest.mark.parametrize(
    "name",
    ["VENDORID", " VendorID ", "Trip Distance", "trip  distance", "TRIP_DISTANCE", "PU Location ID", "Imp Surcharge"],
)
def test_case_and_blanks_between_words_do_not_matter(name: str, tmp_path: Path) -> None:
    plain = {"vendorid": "VendorID", "trip_distance": "trip_distance", "pu_location_id": "PULocationID"}
    published = plain.get("_".join(name.lower().split()), "improvement_surcharge")
    opened = open_trips(csv_file(tmp_path, ROW, header=HEADER.replace(published, name)), YELLOW, MONTH)
    assert (opened.columns["new"], opened.columns["missing"]) == ({}, [])


def test_text_that_is_no_utf_8_in_a_column_of_bytes_is_unreadable_and_kept(tmp_path: Path) -> None:
    table = pa.table({name: [b"N"] * 2 if name == "store_and_fwd_flag" else [1, 1] for name in HEADER.split(",")})
    table = table.set_column(6, "store_and_fwd_flag", pa.array([b"N", b"\xff"]))
    for i, name in ((1, "tpep_pickup_datetime"), (2, "tpep_dropoff_datetime")):
        table = table.set_column(i, name, pa.array([MONTH.start] * 2, pa.timestamp("us")))
    pq.write_table(table, tmp_path / "a.parquet")
    found = read(tmp_path / "a.parquet")
    assert found["store_and_fwd_flag"].to_pylist() == ["N", None]
    assert unreadable(found)[0][:3] == ("unreadable_value", r"store_and_fwd_flag '\\xff'", 2)


def test_a_flag_of_for_hire_trips_may_be_a_boolean(tmp_path: Path) -> None:
    rows = {
        "dispatching_base_num": ["B00001"] * 3,
        "pickup_datetime": [MONTH.start] * 3,
        "SR_Flag": [True, False, None],
    }
    pq.write_table(pa.table(rows), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet", FHV, Month(2019, 6))["sr_flag"].to_pylist() == [1, 0, None]
