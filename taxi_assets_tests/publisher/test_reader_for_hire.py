"""For-hire trips in the column types of every Parquet era, license numbers in every spelling, fully quoted CSV."""

import datetime as dt
import json
import random
from collections.abc import Callable
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from taxi_assets.core.month import Month
from taxi_assets.datasets.eras import era_of
from taxi_assets.datasets.schema import FHV, FHVHV, TaxiKind
from taxi_assets.publisher import csv_reader
from taxi_assets_tests.published_files import csv_file, read, unreadable

START = dt.datetime(2019, 2, 1)
SPARK = {"bigint": pa.int64(), "double": pa.float64(), "string": pa.string(), "timestamp": pa.timestamp("us")}
FHV_TYPES = [  # month, types of the zones, of SR_Flag and of text: every combination reported (2015-01 to 2026-07)
    ("2015-01", pa.float64(), pa.float64(), pa.null(), pa.string()),
    ("2017-05", pa.float64(), pa.float64(), pa.float64(), pa.string()),
    ("2019-05", pa.int64(), pa.int64(), pa.null(), pa.string()),
    ("2020-07", pa.float64(), pa.int64(), pa.null(), pa.string()),
    ("2023-02", pa.int64(), pa.int64(), pa.int64(), pa.large_string()),
]
FHVHV_TYPES = [  # month, integers of the zones, text, columns without a value
    ("2019-02", pa.int64(), pa.string(), ("wav_match_flag", "airport_fee")),
    ("2020-10", pa.int64(), pa.string(), ("airport_fee",)),
    ("2023-02", pa.int32(), pa.large_string(), ()),
    ("2026-07", pa.int32(), pa.large_string(), ()),
]


def time(draw: random.Random) -> dt.datetime:
    return START + dt.timedelta(seconds=draw.randrange(86_400 * 28))


def fhv_rows(draw: random.Random, flag: pa.DataType) -> list[dict]:
    return [
        {
            "dispatching_base_num": draw.choice(["B00256", "B02764"]),
            "pickup_datetime": time(draw),
            "dropOff_datetime": draw.choice([time(draw), dt.datetime(3019, 2, 1, 3), dt.datetime(2091, 10, 11), None]),
            "PUlocationID": draw.choice([None, 0, 1, 264, 265]),
            "DOlocationID": draw.choice([None, 0, 79, 265]),
            "SR_Flag": None if pa.types.is_null(flag) else draw.choice([None, 1]),
            "Affiliated_base_number": draw.choice([None, "UBER", "1UBER", "B02811 - M.L. Trips", "B00256"]),
        }
        for _ in range(300)
    ]


def fhvhv_rows(draw: random.Random, header: tuple[str, ...], empty: tuple[str, ...]) -> list[dict]:
    def value(name: str) -> object:
        if name in empty:
            return None
        if name.endswith("_datetime"):
            return None if name == "on_scene_datetime" and draw.random() < 0.3 else time(draw)
        if name.endswith("_flag"):
            return draw.choice(["Y", "N"])
        if name.endswith("_num"):
            return draw.choice(
                ["HV0002", "HV0003", "HV0004", "HV0005"] if name.startswith("hv") else ["B03404", "B03406"]
            )
        if name in ("PULocationID", "DOLocationID", "trip_time"):
            return draw.randrange(266)
        return draw.choice([0.0, -0.0, -225.21, 0.75, 18.345])

    return [{name: value(name) for name in header} for _ in range(300)]


def compare(path: Path, kind: TaxiKind, month: str) -> None:
    """Every cell is that which DuckDB reads."""
    found = read(path, kind, Month.parse(month))
    assert not unreadable(found)
    with duckdb.connect() as connection:
        expected = connection.execute("SELECT * FROM read_parquet(?)", [str(path)]).to_arrow_table()
    for name in expected.column_names:
        column = found[name.lower()]
        values = expected[name].to_pylist()
        assert column.to_pylist() == (values if name.lower() != "sr_flag" else [v and int(v) for v in values]), name
    absent = set(kind.schema.names) - {name.lower() for name in expected.column_names}
    assert all(found[name].null_count == found.num_rows for name in absent)


@pytest.mark.parametrize(("month", "pickup", "dropoff", "flag", "text"), FHV_TYPES)
def test_fhv_parquet_of_every_reported_type_is_read(
    month: str, pickup: pa.DataType, dropoff: pa.DataType, flag: pa.DataType, text: pa.DataType, tmp_path: Path
) -> None:
    era = era_of("fhv", "parquet", month)
    types = [text, pa.timestamp("us"), pa.timestamp("us"), pickup, dropoff, flag, text]
    rows = fhv_rows(random.Random(month), flag)
    pq.write_table(pa.Table.from_pylist(rows, pa.schema(zip(era.header, types, strict=True))), tmp_path / "a.parquet")
    compare(tmp_path / "a.parquet", FHV, month)


@pytest.mark.parametrize(("month", "whole", "text", "empty"), FHVHV_TYPES)
def test_high_volume_parquet_of_every_reported_type_is_read(
    month: str, whole: pa.DataType, text: pa.DataType, empty: tuple[str, ...], tmp_path: Path
) -> None:
    era = era_of("fhvhv", "parquet", month)

    def type_of(name: str) -> pa.DataType:
        special = {"trip_time": pa.int64(), "PULocationID": whole, "DOLocationID": whole} | dict.fromkeys(
            empty, pa.null()
        )
        common = text if name.endswith(("_num", "_flag")) else pa.float64()
        return special.get(name, pa.timestamp("us") if name.endswith("_datetime") else common)

    rows = fhvhv_rows(random.Random(month), era.header, empty)
    pq.write_table(
        pa.Table.from_pylist(rows, pa.schema([(name, type_of(name)) for name in era.header])), tmp_path / "a.parquet"
    )
    compare(tmp_path / "a.parquet", FHVHV, month)


@pytest.mark.parametrize("kind", [FHV, FHVHV], ids=lambda kind: kind.name)
def test_a_parquet_file_of_every_listed_schema_is_read(
    kind: TaxiKind, tlc: Callable[[str], Path], tmp_path: Path
) -> None:
    listed = tlc(f"reference/{kind.name}_parquet_schema_by_month.json").read_text().splitlines()
    assert len(listed) == {"fhv": 4, "fhvhv": 3}[kind.name]
    for schema in (eval(json.loads(line)["Schema"]) for line in listed):
        types = pa.schema([(name, SPARK.get(spark, pa.null())) for name, spark in schema])
        row = {
            field.name: START
            if field.name.lower().endswith(("datetime", "date"))
            else {pa.int64(): 1, pa.float64(): 1.0, pa.null(): None}.get(
                field.type, "N" if "flag" in field.name else "B00001"
            )
            for field in types
        }
        pq.write_table(pa.Table.from_pylist([row], types), tmp_path / "a.parquet")
        (trip,) = read(tmp_path / "a.parquet", kind, Month(2019, 2)).to_pylist()
        filled = {name.lower() for name, value in row.items() if value is not None}
        assert {name for name, value in trip.items() if value is not None} == filled


@pytest.mark.parametrize(
    ("published", "kept"),
    [
        ("b00056", "B00056"),
        ("B00056         ", "B00056"),
        ("UBER", "UBER"),
        ("1uber", "1uber"),
        ("B02811 - M.L. Trips", "B02811 - M.L. Trips"),
        ("", None),
        ("  ", None),
    ],
)
def test_a_base_number_is_in_upper_case_without_blanks_and_other_text_as_published(
    published: str, kept: str | None, tmp_path: Path
) -> None:
    header = (
        "dispatching_base_num,pickup_datetime,dropOff_datetime,PUlocationID,DOlocationID,SR_Flag,Affiliated_base_number"
    )
    path = csv_file(tmp_path, f"b00001 ,2019-02-01 00:00:00,3019-02-01 00:00:00,0,265,1,{published}", header=header)
    (trip,) = read(path, FHV, Month(2019, 2)).to_pylist()
    assert (trip["dispatching_base_num"], trip["affiliated_base_number"]) == ("B00001", kept)
    assert trip["dropoff_datetime"] == dt.datetime(3019, 2, 1)
    assert (trip["pulocationid"], trip["dolocationid"], trip["sr_flag"]) == (0, 265, 1)


def test_a_flag_of_one_blank_has_no_value_and_an_unknown_one_is_unreadable(tmp_path: Path) -> None:
    header = "hvfhs_license_num,dispatching_base_num,pickup_datetime,access_a_ride_flag,SR_Flag"
    begin = "hv0003,B03404,2020-04-01 00:00:00"
    path = csv_file(tmp_path, f"{begin}, ,", f"{begin},Y,N", f"{begin},maybe,1", header=header)
    table = read(path, FHVHV, Month(2020, 4))
    assert table["access_a_ride_flag"].to_pylist() == [None, "Y", None]
    assert table["sr_flag"].to_pylist() == [None, 0, None]
    assert table["hvfhs_license_num"].to_pylist() == ["HV0003", "HV0003", None]
    assert [reject[:3] for reject in unreadable(table)] == [("unreadable_value", "access_a_ride_flag 'maybe'", 4)]


HEADER_2018 = (
    '"Pickup_DateTime","DropOff_datetime","PUlocationID","DOlocationID","SR_Flag","Dispatching_base_number",'
    '"Dispatching_base_num"'
)
QUOTED = '"2018-01-30 21:06:50","2018-01-30 21:15:34","56","129","","B02884",""'


@pytest.mark.parametrize(
    ("odd", "rejected"),
    [
        (None, None),
        (QUOTED.replace('"56"', '"x"'), "unreadable_value"),
        (QUOTED.removesuffix(',""'), "unreadable_field_count"),
        (QUOTED.removesuffix('"'), "unreadable_quotes"),
        (QUOTED.replace('"B02884"', '"B02,884"'), "unreadable_value"),
        (QUOTED.replace('"', ""), None),
        (QUOTED.replace('"B02884"', '"say ""B"""'), None),
    ],
)
def test_fully_quoted_lines_are_split_at_once_and_give_what_splitting_by_line_gives(
    odd: str | None, rejected: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [QUOTED] * 50 + ([odd] if odd is not None else []) + [QUOTED] * 50
    path = csv_file(tmp_path, *lines, header=HEADER_2018)
    split_by_line, called = csv_reader.split_by_line, []
    monkeypatch.setattr(csv_reader, "split_by_line", lambda *args: called.append(1) or split_by_line(*args))
    found = read(path, FHV, Month(2018, 1))
    assert [reason for reason, *_ in unreadable(found)] == ([rejected] if rejected else [])
    assert [text for *_, text in unreadable(found)] == ([odd] if rejected else [])
    if odd is None:
        assert not called
    monkeypatch.setattr(csv_reader, "split_at_once", lambda *_: None)
    assert read(path, FHV, Month(2018, 1)).equals(found)
    assert called


def test_the_doubled_base_column_of_2018_is_kept_in_the_raw_month_alone(tmp_path: Path) -> None:
    found = read(csv_file(tmp_path, QUOTED, header=HEADER_2018), FHV, Month(2018, 1))
    assert found["dispatching_base_num"].to_pylist() == ["B02884"]
    assert found["Dispatching_base_num_2"].to_pylist() == [None]
