"""Single values and headers: which are accepted, which are null, which make a row unreadable; the same in CSV and
Parquet, and however lines are split."""

import datetime as dt
import json
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from taxi_assets.datasets.schema import GREEN, YELLOW
from taxi_assets.publisher import csv_reader
from taxi_assets.publisher.reader import open_trips
from taxi_assets_tests.published_files import HEADER, MONTH, NAMES, ROW, VALUES, csv_file, line, read, unreadable

BAD = object()
COUNTS = {
    "1": 1,
    "0": 0,
    "-1": -1,
    "+1": 1,
    "007": 7,
    "1.0": 1,
    "2.": 2,
    " 3": 3,
    "4\t": 4,
    "32767": 32767,
    "-32768": -32768,
    "": None,
    " ": None,
    "NULL": None,
    "null": None,
    "nan": None,
    "NaN": None,
    "NA": None,
    r"\N": None,
    "None": None,
    **dict.fromkeys(
        ("1.5", "32768", "99999", "1e3", "0x10", "inf", "1_0", "1,0", "one", "１", "--1", "1.0.0", "-"), BAD
    ),
    **dict.fromkeys(("9" * 30, "3.0000000000000000001", "1\0"), BAD),
}
MILES = {
    ".5": 0.5,
    "5.": 5.0,
    "-0.5": -0.5,
    "1e3": 1000.0,
    " 2.5": 2.5,
    "2.6299999999999999": 2.63,
    "1": 1.0,
    "": None,
    "nan": None,
    "NULL": None,
    " ": None,
    **dict.fromkeys(("inf", "-inf", "Infinity", "0x1p3", "1,5", "1.5 mi", "$2", "1e400", "1.2.3"), BAD),
}
TIMES = {
    "2019-06-30 23:59:59": dt.datetime(2019, 6, 30, 23, 59, 59),
    "2019-06-30T23:59:59": dt.datetime(2019, 6, 30, 23, 59, 59),
    "2019-06-30 23:59:59.25": dt.datetime(2019, 6, 30, 23, 59, 59, 250_000),
    " 2001-01-01 00:00:00": dt.datetime(2001, 1, 1),
    "2041-08-17 16:24:25": dt.datetime(2041, 8, 17, 16, 24, 25),
    "": None,
    "NULL": None,
    **dict.fromkeys(("2019-06-31 00:00:00", "2019-02-29 00:00:00", "2019-06-01 24:00:00", "2019-06-01 00:00:60"), BAD),
    **dict.fromkeys(("2019-06-01", "2019-06-01 00", "2019-06-01 00:00", "2019-6-1 0:00:00", "20190601 000000"), BAD),
    **dict.fromkeys(
        ("06/01/2019 7:05", "06/01/2019 12:55:13 AM", "2019-06-01 00:00:00Z", "2019-06-01 00:00:00+00:00"), BAD
    ),
    **dict.fromkeys(("2019-06-01 00:00:00.1234567", "1559347200", "yesterday, around noon"), BAD),
}
VENDORS = {
    "CMT": 1,
    "VTS": 2,
    "DDS": 3,
    "cmt": 1,
    " VTS ": 2,
    "1": 1,
    "4": 4,
    "6": 6,
    "1.0": 1,
    "": None,
    **dict.fromkeys(("XYZ", "C", "\x00", "1a"), BAD),
}
PAYMENTS = {
    "CASH": 2,
    "Cash": 2,
    "CREDIT": 1,
    "Credit": 1,
    "No Charge": 3,
    "Dispute": 4,
    "CAS": 2,
    "Cas": 2,
    "CRE": 1,
    "Cre": 1,
    "No ": 3,
    "NA ": 5,
    "Dis": 4,
    "CSH": 2,
    "CRD": 1,
    "NOC": 3,
    "DIS": 4,
    "UNK": 5,
    "0": 0,
    "6": 6,
    "2.0": 2,
    "": None,
    "NULL": None,
    **dict.fromkeys(("CHEQUE", "Bitcoin"), BAD),
}
FLAGS = {
    "Y": "Y",
    "N": "N",
    "y": "Y",
    "0": "N",
    "1": "Y",
    "0.0": "N",
    "": None,
    "NULL": None,
    " ": None,
    **dict.fromkeys(("*", "2", "true", "YES"), BAD),
}
CASES = {
    "passenger_count": COUNTS,
    "trip_distance": MILES,
    "tpep_pickup_datetime": TIMES,
    "VendorID": VENDORS,
    "payment_type": PAYMENTS,
    "store_and_fwd_flag": FLAGS,
}


def same(found: pa.Table, column: str, values: dict[str, object], text_of: dict[str, str] | None = None) -> None:
    expected = [None if value is BAD else value for value in values.values()]
    assert found[column.lower()].to_pylist()[1:] == expected
    bad = [text for text, value in values.items() if value is BAD]
    details = [detail for _, detail, _, _ in unreadable(found)]
    assert [detail.partition(" ")[0] for detail in details] == [column] * len(bad)
    assert [detail.partition(" ")[2] for detail in details] == [repr(text.replace("\0", r"\x00")) for text in bad]


@pytest.mark.parametrize("split", ["at once", "by line"])
@pytest.mark.parametrize("column", CASES)
def test_a_value_in_csv(column: str, split: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = {text: value for text, value in CASES[column].items() if "," not in text}
    if split == "by line":
        monkeypatch.setattr(csv_reader, "split_at_once", lambda *_: None)
    same(read(csv_file(tmp_path, ROW, *(line(**{column: text}) for text in values))), column, values)


@pytest.mark.parametrize("text_type", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
@pytest.mark.parametrize("column", CASES)
def test_the_same_value_in_a_text_column_of_parquet(column: str, text_type: pa.DataType, tmp_path: Path) -> None:
    values = CASES[column]
    rows = [VALUES, *(VALUES | {column: text} for text in values)]
    table = pa.Table.from_pylist(rows).cast(pa.schema([(name, text_type) for name in NAMES]))
    pq.write_table(table, tmp_path / "text.parquet")
    same(read(tmp_path / "text.parquet"), column, values)


def parquet_column(folder: Path, name: str, values: pa.Array) -> pa.Table:
    """A column of a Parquet file as it is read, with the unreadable rows' details in its place."""
    rows = pa.Table.from_pylist([VALUES] * (len(values) + 1))
    first = pa.nulls(1, values.type) if not pa.types.is_null(values.type) else pa.nulls(1)
    rows = rows.set_column(NAMES.index(name), name, pa.concat_arrays([first, values]))
    pq.write_table(rows, folder / "column.parquet")
    return read(folder / "column.parquet").slice(1)


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        (
            "passenger_count",
            pa.array([1.0, None, float("nan"), 1.5, float("inf"), 40_000.0]),
            [1, None, None, BAD, BAD, BAD],
        ),
        ("passenger_count", pa.array([1, -1, 40_000, None]), [1, -1, BAD, None]),
        ("passenger_count", pa.array([1, 200], pa.uint8()), [1, 200]),
        ("passenger_count", pa.array([1, 2**63], pa.uint64()), [1, BAD]),
        ("passenger_count", pa.array([Decimal("1.00"), Decimal("1.50")]), [1, BAD]),
        ("passenger_count", pa.array([2.0, 2.5], pa.float32()), [2, BAD]),
        ("passenger_count", pa.nulls(2), [None, None]),
        ("trip_distance", pa.array([1.5, float("nan"), float("-inf"), None]), [1.5, None, BAD, None]),
        ("trip_distance", pa.array([3, None], pa.int32()), [3.0, None]),
        ("trip_distance", pa.array([3, 2**53 + 1]), [3.0, BAD]),
        ("congestion_surcharge", pa.nulls(3), [None, None, None]),
        ("store_and_fwd_flag", pa.array([0.0, 1.0, None, 0.5, 2.0, float("nan")]), ["N", "Y", None, BAD, BAD, None]),
        ("store_and_fwd_flag", pa.array([0, 1, 2]), ["N", "Y", BAD]),
        ("RatecodeID", pa.array(["1", "99", "", "1.0", None, "JFK"]), [1, 99, None, 1, None, BAD]),
        ("VendorID", pa.array([1, 7], pa.int32()), [1, 7]),
        (
            "tpep_pickup_datetime",
            pa.array([1_559_347_200_000_000_000, 1_559_347_200_000_000_001, None], pa.timestamp("ns")),
            [dt.datetime(2019, 6, 1), BAD, None],
        ),
        ("tpep_pickup_datetime", pa.array([1_559_347_200], pa.timestamp("s")), [dt.datetime(2019, 6, 1)]),
        ("tpep_pickup_datetime", pa.array([1_559_347_200_000], pa.timestamp("ms")), [dt.datetime(2019, 6, 1)]),
    ],
    ids=lambda value: f"{value.type}" if isinstance(value, pa.Array) else (value if isinstance(value, str) else ""),
)
def test_a_typed_parquet_column(name: str, values: pa.Array, expected: list[object], tmp_path: Path) -> None:
    found = parquet_column(tmp_path, name, values)
    assert found[name.lower()].to_pylist() == [None if value is BAD else value for value in expected]
    assert [row for _, _, row, _ in unreadable(found)] == [i + 2 for i, value in enumerate(expected) if value is BAD]
    assert all(detail.startswith(f"{name} ") for _, detail, _, _ in unreadable(found))


def test_an_unreadable_parquet_row_is_kept_as_json(tmp_path: Path) -> None:
    found = parquet_column(tmp_path, "passenger_count", pa.array([1.5, 1.0]))
    ((reason, detail, row, text),) = unreadable(found)
    assert (reason, detail, row) == ("unreadable_value", "passenger_count 1.5", 2)
    assert json.loads(text) == VALUES | {"passenger_count": 1.5}


def test_parquet_text_that_is_not_utf_8_is_escaped(tmp_path: Path) -> None:
    found = parquet_column(tmp_path, "VendorID", pa.array([b"\xff\0", b"CMT"]).view(pa.string()))
    assert found["vendorid"].to_pylist() == [None, 1]
    ((_, detail, _, text),) = unreadable(found)
    assert detail == r"VendorID '\\xff\\x00'"
    assert "\0" not in text


def test_quoted_fields_are_read_as_unquoted_ones(tmp_path: Path) -> None:
    quoted = ",".join(f'"{value}"' for value in VALUES.values())
    header = ",".join(f'"{name}"' for name in NAMES)
    plain = read(csv_file(tmp_path, ROW, ROW))
    assert read(csv_file(tmp_path, quoted, quoted, header=header)).equals(plain)
    table = read(csv_file(tmp_path, quoted, ROW, line(extra='"0,5"'), header=header))
    assert table.slice(0, 2).equals(plain)
    assert unreadable(table) == [("unreadable_value", "extra '0,5'", 4, line(extra='"0,5"'))]


@pytest.mark.parametrize(
    "header",
    [
        b"\xef\xbb\xbf" + HEADER.encode(),
        HEADER.replace(",", ", "),
        HEADER.upper(),
        HEADER.replace("VendorID", "vendor_name").replace("RatecodeID", "Rate_Code"),
    ],
    ids=["byte order mark", "blanks", "upper case", "older names"],
)
def test_a_header_in_another_spelling_is_the_same_header(header: str | bytes, tmp_path: Path) -> None:
    assert read(csv_file(tmp_path, ROW, header=header)).equals(read(csv_file(tmp_path, ROW)))


@pytest.mark.parametrize("index", ["", "Unnamed: 0", "__index_level_0__", "unnamed: 12"])
def test_a_row_number_column_is_ignored(index: str, tmp_path: Path) -> None:
    plain = read(csv_file(tmp_path, ROW))
    assert read(csv_file(tmp_path, f"8366703,{ROW}", header=f"{index},{HEADER}")).equals(plain)
    rows = pa.Table.from_pylist([VALUES | {index: 5}])
    pq.write_table(rows, tmp_path / "index.parquet")
    assert read(tmp_path / "index.parquet").equals(plain)


@pytest.mark.parametrize("lines", [["", ROW, ROW], [ROW, "", "", ROW], [ROW, ROW, "", ""], ["", "", "", ROW, ROW]])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_blank_lines_are_not_rows(lines: list[str], end: bytes, tmp_path: Path) -> None:
    assert read(csv_file(tmp_path, *lines, end=end)).equals(read(csv_file(tmp_path, ROW, ROW)))


def test_a_carriage_return_alone_does_not_end_a_line(tmp_path: Path) -> None:
    joined = f"{ROW}\r{ROW}"
    table = read(csv_file(tmp_path, ROW, joined, "", end=b"\n"))
    assert unreadable(table) == [("unreadable_field_count", "35 of 18 fields", 3, joined)]
    assert table.num_rows == 2


@pytest.mark.parametrize("surplus", [",,", ",", " , ,", ""])
def test_empty_fields_beyond_the_header_do_not_count(surplus: str, tmp_path: Path) -> None:
    plain = read(csv_file(tmp_path, ROW, ROW, ROW))
    assert read(csv_file(tmp_path, ROW + surplus, ROW + surplus, ROW + surplus)).equals(plain)
    assert read(csv_file(tmp_path, ROW + ",,", ROW, ROW + surplus)).equals(plain)
    table = read(csv_file(tmp_path, ROW + ",,", ROW + ",,7"))
    assert unreadable(table) == [("unreadable_field_count", "20 of 18 fields", 3, ROW + ",,7")]


@pytest.mark.parametrize("name", ["trips.csv", "trips.csv.gz", "trips.parquet", "trips"])
def test_the_format_is_detected_from_the_content_not_the_name(name: str, tmp_path: Path) -> None:
    plain = read(csv_file(tmp_path, ROW))
    source = csv_file(tmp_path, ROW, name="a.gz")
    assert read(source.rename(tmp_path / name)).equals(plain)
    pq.write_table(pa.Table.from_pylist([VALUES]), tmp_path / name)
    assert read(tmp_path / name).equals(plain)


def test_a_file_without_a_last_line_end_is_read_whole(tmp_path: Path) -> None:
    path = csv_file(tmp_path, ROW, ROW)
    path.write_bytes(path.read_bytes().rstrip())
    assert read(path).equals(read(csv_file(tmp_path, ROW, ROW)))


def test_green_trips_have_their_own_columns(tmp_path: Path) -> None:
    header = HEADER.replace("tpep", "lpep") + ",ehail_fee,trip_type "
    row = read(csv_file(tmp_path, ROW + ",1.5,2", header=header), GREEN).to_pylist()[0]
    assert (row["ehail_fee"], row["trip_type"]) == (1.5, 2)
    assert row["lpep_pickup_datetime"] == dt.datetime(2019, 6, 1, 0, 55, 13)


def test_line_numbers_and_texts_are_right_across_blocks(tmp_path: Path) -> None:
    count = 100_000
    rows = [line(VendorID="oops" if i % 9_973 == 7 else "1") for i in range(count)]
    for i in range(11, count, 7_919):
        rows[i] = "cut"
    table = read(csv_file(tmp_path, "", *rows, name="a.csv.gz"))
    expected = [(i + 3, text) for i, text in enumerate(rows) if text == "cut" or text.startswith("oops")]
    assert [(number, text) for _, _, number, text in unreadable(table)] == expected
    assert table.num_rows == count


def test_progress_counts_the_files_bytes_and_ends_with_all_of_them(tmp_path: Path) -> None:
    rows = [line(extra=str(i)) for i in range(150_000)]
    for name in ("a.csv", "a.csv.gz", "a.parquet"):
        path = csv_file(tmp_path, *rows, name=name)
        if name == "a.parquet":
            pq.write_table(pa.Table.from_pylist([VALUES] * len(rows)), path)
        calls: list[tuple[int, int, int]] = []
        for _ in open_trips(path, YELLOW, MONTH, lambda *figures, calls=calls: calls.append(figures)).batches:
            pass
        assert len(calls) > 1
        assert calls == sorted(calls)
        assert calls[-1] == (path.stat().st_size, path.stat().st_size, len(rows))


def test_a_reader_that_stops_early_leaves_nothing_open(tmp_path: Path) -> None:
    import threading

    path = csv_file(tmp_path, *[ROW] * 200_000, name="a.csv.gz")
    before = set(threading.enumerate())
    batches = open_trips(path, YELLOW, MONTH).batches
    next(batches)
    assert set(threading.enumerate()) > before
    batches.close()
    assert set(threading.enumerate()) <= before
