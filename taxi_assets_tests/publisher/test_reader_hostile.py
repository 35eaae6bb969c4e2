"""Damaged and hostile files: one clear error each, raised before any row is yielded, and no row lost."""

import gzip
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from taxi_assets.core.errors import PermanentError
from taxi_assets.datasets.schema import GREEN, YELLOW, TaxiKind
from taxi_assets.publisher.options import ReadOptions
from taxi_assets.publisher.reader import open_trips
from taxi_assets.publisher.rows import REASONS
from taxi_assets_tests.published_files import HEADER, MONTH, NAMES, ROW, csv_file, line, parquet, read, unreadable

CSV = f"{HEADER}\r\n{ROW}\r\n".encode()
AGAIN = "download the month again."


def renamed(old: str, new: str) -> bytes:
    return CSV.replace(old.encode(), new.encode())


REFUSED_TEXTS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", f"is empty; {AGAIN}"),
    "empty in gzip": (gzip.compress(b""), f"is empty when decompressed; {AGAIN}"),
    "header only": (f"{HEADER}\r\n".encode(), f"has a header but no trips; {AGAIN}"),
    "header only in gzip": (gzip.compress(f"{HEADER}\n\r\n".encode()), f"has a header but no trips; {AGAIN}"),
    "web page": (
        b"<!DOCTYPE html><html><body>403 Forbidden</body></html>",
        f"is a web page (an error or a login page?) instead of trip records; {AGAIN}",
    ),
    "xml error in gzip": (
        gzip.compress(b"\n<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>"),
        f"is a web page (an error or a login page?) instead of trip records; {AGAIN}",
    ),
    "zip": (b"PK\x03\x04" + bytes(100), f"is damaged or truncated (File is not a zip file); {AGAIN}"),
    "zstd": (b"\x28\xb5\x2f\xfd" + bytes(100), "is compressed with zstd; decompress it."),
    "gzip in gzip": (gzip.compress(gzip.compress(CSV)), "was compressed twice; decompress it once."),
    "utf-16": (CSV.decode().encode("utf-16"), "is UTF-16 text; save it as UTF-8."),
    "utf-16 without a mark": (
        CSV.decode().encode("utf-16-le"),
        f"has NUL bytes in its first line, so it is not a CSV in UTF-8; save it as UTF-8 or {AGAIN}",
    ),
    "no lines": (b"1" * 70_000, f"has no header (its first line is longer than 64 KiB); {AGAIN}"),
    "two equal columns": (
        renamed("extra", "mta_tax"),
        "has two columns for mta_tax ('mta_tax' and 'mta_tax'); remove one of them, or set TAXI_NEW_COLUMNS=keep to load one.",
    ),
    "two spellings of a column": (
        renamed("extra", "MTA_tax "),
        "has two columns for mta_tax ('MTA_tax ' and 'mta_tax'); remove one of them, or set TAXI_NEW_COLUMNS=keep to load one.",
    ),
    "unknown column": (
        renamed("extra", "night_fee"),
        "has a column that is not known, 'night_fee'; set TAXI_NEW_COLUMNS=keep to load the month without it or add to "
        "load it too, or add it to TAXI_COLUMN_ALIASES or TAXI_IGNORED_COLUMNS.",
    ),
    "required column missing": (
        renamed("fare_amount", "Unnamed: 0"),
        f"has no column for fare_amount (its header is "
        f"{HEADER.replace(',', ', ').replace('fare_amount', 'Unnamed: 0')!r}); if it has another "
        "name there, set TAXI_COLUMN_ALIASES=<that name>=fare_amount.",
    ),
    "quoted header cut": (b'"' + CSV, f"has an invalid header (unexpected end of data); {AGAIN}"),
    "no row readable": (
        CSV.replace(b"2019-06-01 00:55:13", b"1 June 2019"),
        "has no readable row among its first 1 (line 2: unreadable_value, tpep_pickup_datetime '1 June 2019'"
        "): its format is none that is known; `taxi-assets inspect` shows how it was read.",
    ),
}


@pytest.mark.parametrize("case", REFUSED_TEXTS)
def test_a_file_without_trips_is_refused_before_any_row_is_yielded(case: str, tmp_path: Path) -> None:
    content, sentence = REFUSED_TEXTS[case]
    path = tmp_path / "yellow_tripdata_2019-06.csv.gz"
    path.write_bytes(content)
    with pytest.raises(PermanentError) as refusal:
        next(open_trips(path, YELLOW, MONTH, options=ReadOptions("refuse")).batches)
    assert str(refusal.value) == f"{MONTH}: {path} {sentence}"


DAMAGED_PARQUET: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "cut short": (
        lambda b: b[: len(b) // 2],
        f"is a truncated Parquet file: the footer at its end is missing; {AGAIN}",
    ),
    "magic alone": (lambda b: b"PAR1", f"is a truncated Parquet file: the footer at its end is missing; {AGAIN}"),
    "wrong magic": (
        lambda b: b"XXXX" + b[4:],
        f"is damaged: it ends like a Parquet file but does not begin with PAR1; {AGAIN}",
    ),
    "encrypted": (lambda b: b"PARE" + b[4:-4] + b"PARE", f"is an encrypted Parquet file; {AGAIN}"),
    "middle missing": (lambda b: b[:4] + b[len(b) // 4 :], r"is damaged or truncated \(.+\); " + AGAIN),
    "footer overwritten": (lambda b: b[:-40] + b"\xff" * 32 + b[-8:], r"is damaged or truncated \(.+\); " + AGAIN),
    "footer too long": (lambda b: b[:-8] + b"\xff\xff\xff\x7f" + b[-4:], r"is damaged or truncated \(.+\); " + AGAIN),
}


@pytest.mark.parametrize("case", DAMAGED_PARQUET)
def test_a_damaged_parquet_file_is_refused_before_any_row_is_yielded(case: str, tmp_path: Path) -> None:
    damage, sentence = DAMAGED_PARQUET[case]
    path = tmp_path / "yellow_tripdata_2019-06.parquet"
    path.write_bytes(damage(parquet(path)))
    pattern = sentence if "\\" in sentence else sentence.replace("(", r"\(").replace(")", r"\)")
    with pytest.raises(PermanentError, match=f"{MONTH}: {path} {pattern}$"):
        next(open_trips(path, YELLOW, MONTH).batches)


def test_a_parquet_file_without_rows_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty.parquet"
    parquet(path)
    pq.write_table(pq.read_table(path).slice(0, 0), path)
    with pytest.raises(PermanentError, match="has a header but no trips"):
        next(open_trips(path, YELLOW, MONTH).batches)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (
            pa.array([MONTH.start], pa.timestamp("us", "UTC")),
            r"has times with a zone \(timestamp\[us, tz=UTC\] in 'tpep_pickup_datetime'\); set TAXI_ZONED_TIMES=",
        ),
        (
            pa.array([MONTH.start.date()]),
            r"has values of type date32\[day\] in 'tpep_pickup_datetime', where timestamp",
        ),
        (pa.array([[1]]), r"has values of type list<element: int64> in 'tpep_pickup_datetime', where timestamp"),
    ],
)
def test_a_parquet_column_of_a_type_that_cannot_be_read_is_refused(
    values: pa.Array, sentence: str, tmp_path: Path
) -> None:
    path = tmp_path / "types.parquet"
    parquet(path)
    table = pq.read_table(path)
    parquet(path, table.set_column(1, NAMES[1], values))
    with pytest.raises(PermanentError, match=sentence):
        next(open_trips(path, YELLOW, MONTH).batches)


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match=r"absent.csv cannot be read \(No such file or directory\); download"):
        next(open_trips(tmp_path / "absent.csv", YELLOW, MONTH).batches)


GZIPPED = gzip.compress(
    f"{HEADER}\n".encode() + b"".join(line(VendorID=str(i % 3)).encode() + b"\n" for i in range(100_000))
)
DAMAGED_GZIP = {
    "checksum": GZIPPED[:-8] + b"\0\0\0\0" + GZIPPED[-4:],
    "length": GZIPPED[:-4] + b"\1\2\3\4",
    "cut short": GZIPPED[: len(GZIPPED) * 2 // 3],
    "overwritten": GZIPPED[: len(GZIPPED) // 2] + b"\xff" * 100 + GZIPPED[len(GZIPPED) // 2 + 100 :],
    "something after the end": GZIPPED + b"more",
}


@pytest.mark.parametrize("case", DAMAGED_GZIP)
def test_damage_inside_gzip_is_found_however_late_it_is(case: str, tmp_path: Path) -> None:
    path = tmp_path / "yellow_tripdata_2019-06.csv.gz"
    path.write_bytes(DAMAGED_GZIP[case])
    with pytest.raises(PermanentError, match=rf"^{MONTH}: {path} is damaged or truncated \(.+\); {AGAIN}$"):
        read(path)


UNREADABLE_LINES: dict[str, tuple[bytes, str, str]] = {
    "too few fields": (b"1,2019-06-01 00:55:13", "unreadable_field_count", "2 of 18 fields"),
    "too many fields": (ROW.encode() + b",1", "unreadable_field_count", "19 of 18 fields"),
    "no number": (line(trip_distance="far").encode(), "unreadable_value", "trip_distance 'far'"),
    "no whole number": (line(passenger_count="1.5").encode(), "unreadable_value", "passenger_count '1.5'"),
    "number out of range": (line(PULocationID="99999").encode(), "unreadable_value", "PULocationID '99999'"),
    "no such day": (
        line(tpep_pickup_datetime="2019-06-31 00:00:00").encode(),
        "unreadable_value",
        "tpep_pickup_datetime '2019-06-31 00:00:00'",
    ),
    "unknown vendor": (line(VendorID="XYZ").encode(), "unreadable_value", "VendorID 'XYZ'"),
    "unknown flag": (line(store_and_fwd_flag="*").encode(), "unreadable_value", "store_and_fwd_flag '*'"),
    "two values": (line(extra="a", mta_tax="b").encode(), "unreadable_value", "extra 'a'; mta_tax 'b'"),
    "NUL bytes": (line(extra="0\0").encode(), "unreadable_value", r"extra '0\\x00'"),
    "only NUL bytes": (bytes(50), "unreadable_field_count", "1 of 18 fields"),
    "latin-1": (line(VendorID="é").encode("latin-1"), "unreadable_value", r"VendorID '\\xe9'"),
    "carriage return inside": (line(extra="0\r1").encode(), "unreadable_value", r"extra '0\r1'"),
    "quotation mark open": (b'"' + ROW.encode(), "unreadable_quotes", "unbalanced quotation marks"),
    "quotation mark inside": (line(extra='0"5').encode(), "unreadable_value", "extra '0\"5'"),
    "a web page's line": (b"<html>", "unreadable_field_count", "1 of 18 fields"),
    "a blank": (b" ", "unreadable_field_count", "1 of 18 fields"),
}


@pytest.mark.parametrize("ending", [b"\n", b"\r\n"])
@pytest.mark.parametrize("case", UNREADABLE_LINES)
def test_an_unreadable_line_is_kept_with_its_place_text_and_reason(case: str, ending: bytes, tmp_path: Path) -> None:
    bad, reason, detail = UNREADABLE_LINES[case]
    path = csv_file(tmp_path, ROW, "", ROW, bad, ROW, end=ending)

    table = read(path)

    text = bad.decode("utf-8", "backslashreplace").replace("\0", r"\x00")
    assert reason in REASONS
    assert unreadable(table) == [(reason, detail, 5, text)]
    assert table["reject_reason"].is_null().to_pylist() == [True, True, False, True]
    good = table.filter(table["reject_reason"].is_null())
    assert good.equals(read(csv_file(tmp_path, ROW, ROW, ROW)))
    assert "\0" not in "".join(
        table["source_text"].drop_null().to_pylist() + table["reject_detail"].drop_null().to_pylist()
    )


def test_a_last_line_that_was_cut_is_kept_as_unreadable(tmp_path: Path) -> None:
    path = csv_file(tmp_path, ROW, ROW)
    path.write_bytes(path.read_bytes()[:-30])
    assert unreadable(read(path)) == [("unreadable_field_count", "9 of 18 fields", 3, ROW[:-28])]


def test_a_long_line_is_kept_capped_whether_or_not_it_fits_a_block(tmp_path: Path) -> None:
    for size in ((1 << 20) + 1, 3 << 20, 10 << 20):
        path = csv_file(tmp_path, ROW, b"x" * size, ROW, end=b"\n")
        ((reason, detail, number, text),) = unreadable(table := read(path))
        assert (reason, detail, number, table.num_rows) == ("unreadable_length", f"{size} bytes", 3, 3)
        assert text == "x" * (64 << 10) + f" [cut here: {size} bytes in all]"


def test_a_long_line_is_unreadable_even_if_its_values_are_numbers(tmp_path: Path) -> None:
    path = csv_file(tmp_path, ROW, line(extra="0" * (1 << 20)), ROW)
    ((reason, _, number, _),) = unreadable(read(path))
    assert (reason, number) == ("unreadable_length", 3)


def test_many_long_lines_are_each_accounted_for(tmp_path: Path) -> None:
    path = csv_file(tmp_path, ROW, *[b"y" * (5 << 20), ROW] * 4, end=b"\n")
    table = read(path)
    assert [number for _, _, number, _ in unreadable(table)] == [3, 5, 7, 9]
    assert table.num_rows == 9


def test_a_truncated_long_line_is_valid_utf_8(tmp_path: Path) -> None:
    path = csv_file(tmp_path, ROW, "é".encode() * (1 << 20), ROW)
    ((_, _, _, text),) = unreadable(read(path))
    text.encode()


@pytest.mark.parametrize(("kind", "other"), [(YELLOW, GREEN), (GREEN, YELLOW)])
def test_a_file_of_the_other_kind_is_named_with_how_to_load_it_and_how_to_replace_it(
    kind: TaxiKind, other: TaxiKind, tmp_path: Path
) -> None:
    path = tmp_path / "trips.csv"
    path.write_text(",".join(other.schema.names) + "\n" + "," * (len(other.schema.names) - 1) + "\n")
    with pytest.raises(PermanentError) as refusal:
        list(open_trips(path, kind, MONTH).batches)
    assert f"trips.csv is a {other.title} file by its columns; " in str(refusal.value)
    assert (
        f"with TAXI_KINDS={other.name} (make run KIND={other.name}), or set TAXI_SOURCE to the {kind.name} file"
        in str(refusal.value)
    )
