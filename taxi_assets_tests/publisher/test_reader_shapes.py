"""Random trips, written in a random combination of the shapes of other tools, read back equal."""

import datetime as dt
import decimal
import gzip
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taxi_assets.datasets.schema import YELLOW
from taxi_assets.publisher.options import ReadOptions
from taxi_assets.publisher.reader import open_trips
from taxi_assets_tests.published_files import MONTH, NAMES

QUIET = settings(deadline=None, suppress_health_check=list(HealthCheck))
NEW_YORK = ZoneInfo("America/New_York")
CANONICAL = [name.lower() for name in NAMES]
STYLES = {
    "published": dict(zip(NAMES, NAMES, strict=True)),
    "upper": {name: name.upper() for name in NAMES},
    "words": {name: name.replace("_", " ").title() for name in NAMES},
    "mage": {name: {"VendorID": "vendor_id", "RatecodeID": "ratecode_id", "PULocationID": "pu_location_id",
                    "DOLocationID": "do_location_id"}.get(name, name) for name in NAMES},
    "bigquery": {name: {"VendorID": "vendor_id", "RatecodeID": "rate_code", "tpep_pickup_datetime": "pickup_datetime",
                        "tpep_dropoff_datetime": "dropoff_datetime", "improvement_surcharge": "imp_surcharge"}.get(name, name)
                 for name in NAMES},
    "aliased": {name: f"their {name}" for name in NAMES},
}  # fmt: skip
TIMES = {
    "published": ("%Y-%m-%d %H:%M:%S", {}),
    "T": ("%Y-%m-%dT%H:%M:%S", {}),
    "fraction": ("%Y-%m-%d %H:%M:%S.%f", {}),
    "nanoseconds": ("%Y-%m-%d %H:%M:%S.%f000", {}),
    "slashes": ("%Y/%m/%d %H:%M:%S", {}),
    "no seconds": ("%Y-%m-%d %H:%M", {}),
    "Z": ("%Y-%m-%dT%H:%M:%SZ", {"zoned_times": "wall_clock"}),
    "UTC": ("%Y-%m-%d %H:%M:%S.%f UTC", {"zoned_times": "wall_clock"}),
    "offset": ("%Y-%m-%dT%H:%M:%S+08:00", {"zoned_times": "wall_clock"}),
    "converted": ("%Y-%m-%dT%H:%M:%SZ", {"zoned_times": "convert"}),
    "12 hours": ("%m/%d/%Y %I:%M:%S %p", {"date_order": "mdy"}),
    "12 hours, no seconds": ("%m/%d/%Y %I:%M%p", {"date_order": "mdy"}),
    "days first": ("%d.%m.%Y %H:%M", {"date_order": "dmy"}),
}
money = st.none() | st.integers(-99_999, 99_999).map(lambda cents: cents / 100)
moments = st.datetimes(dt.datetime(2019, 6, 1), dt.datetime(2019, 6, 30, 23, 59, 59))
trips = st.fixed_dictionaries(
    {
        "vendorid": st.sampled_from([1, 2]),
        "tpep_pickup_datetime": moments,
        "tpep_dropoff_datetime": moments,
        "passenger_count": st.none() | st.integers(0, 9),
        "trip_distance": st.integers(0, 9_999).map(lambda hundredths: hundredths / 100),
        "ratecodeid": st.none() | st.sampled_from([1, 2, 99]),
        "store_and_fwd_flag": st.sampled_from(["N", "Y"]),
        "pulocationid": st.integers(1, 265),
        "dolocationid": st.integers(1, 265),
        "payment_type": st.integers(0, 6),
        **dict.fromkeys(CANONICAL[10:], money),
    }
)


def rounded(rows: list[dict[str, Any]], form: str) -> list[dict[str, Any]]:
    """Return trips whose times have no finer parts than the format, and an instant of UTC."""
    finest = {} if "%f" in form else {"microsecond": 0} if "%S" in form else {"microsecond": 0, "second": 0}
    return [
        {name: value.replace(**finest) if isinstance(value, dt.datetime) else value for name, value in row.items()}
        for row in rows
    ]


def text(value: Any, form: str, comma: bool, options: dict[str, Any]) -> str:
    if value is None:
        return ""
    if isinstance(value, dt.datetime):
        if options.get("zoned_times") == "convert":
            value = value.replace(tzinfo=NEW_YORK).astimezone(dt.UTC)
        return value.strftime(form)
    return str(value).replace(".", ",") if comma and isinstance(value, float) else str(value)


def same(path: Path, options: ReadOptions, rows: list[dict[str, Any]]) -> None:
    opened = open_trips(path, YELLOW, MONTH, options=options)
    table = pa.Table.from_batches(opened.batches, opened.schema)
    assert table["reject_detail"].null_count == table.num_rows, table["reject_detail"].drop_null()[0]
    assert opened.columns["new"] == {}
    assert table.select(CANONICAL).to_pylist() == rows


@QUIET
@given(st.data())
def test_csv(data: st.DataObject) -> None:
    draw = data.draw
    style, (form, options) = draw(st.sampled_from([*STYLES])), TIMES[draw(st.sampled_from([*TIMES]))]
    rows = rounded(draw(st.lists(trips, min_size=1, max_size=6)), form)
    separator = draw(st.sampled_from([",", ";", "\t", "|"]))
    comma = separator != "," and draw(st.booleans())
    quote, header, bom = draw(st.booleans()), draw(st.booleans()), draw(st.booleans())
    end = draw(st.sampled_from(["\n", "\r\n"]))
    extra = draw(st.sampled_from(["", "_dlt_id", "load_time"])) if header else None
    parts = draw(st.integers(1, 2))
    in_folder = draw(st.sampled_from([None, "store_and_fwd_flag"])) if header and parts > 1 else None
    names = STYLES[style]
    if in_folder:  # a partition has one value
        rows = [{**row, in_folder: "NY"[i % 2]} for i, row in enumerate(rows)]
        rows = [*rows[::2], *rows[1::2]]

    def line(fields: list[str]) -> str:
        return separator.join(f'"{field}"' if quote and field else field for field in fields)

    def content(part: list[dict[str, Any]]) -> bytes:
        lines = (
            [line([names[n] for n in NAMES if n.lower() != in_folder] + ([extra] if extra is not None else []))]
            if header
            else []
        )
        for row in part:
            fields = [text(row[n], form, comma, options) for n in CANONICAL if n != in_folder]
            lines.append(line(fields + (["7"] if extra is not None else [])))
        return b"\xef\xbb\xbf" * bom + (end.join(lines) + end).encode()

    settings_ = ReadOptions(
        aliases={f"their_{name.lower()}": name.lower() for name in NAMES} if style == "aliased" else {},
        ignored=("load_*",),
        decimal_comma=comma,
        **options,
    )
    with TemporaryDirectory() as folder:
        path = Path(folder, "trips")
        if parts > 1:
            middle = len(rows[::2]) if in_folder else (len(rows) + 1) // 2
            for value, part in (("N", rows[:middle]), ("Y", rows[middle:])):
                under = path / f"{in_folder}={value}" if in_folder else path
                under.mkdir(parents=True, exist_ok=True)
                (under / f"part-{value}.csv").write_bytes(content(part) if part else b"")
            (path / "_SUCCESS").touch()
            (path / ".part-N.csv.crc").write_bytes(b"crc")
        elif draw(st.booleans()):
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("trips.csv", content(rows))
        else:
            path.write_bytes(gzip.compress(content(rows)) if draw(st.booleans()) else content(rows))
        same(path, settings_, rows)


def column(draw: Any, name: str, values: list[Any], form: str, options: dict[str, Any]) -> pa.Array:
    """Write a column in a type that some tool would choose."""
    if name.endswith("datetime"):
        kind = draw(st.sampled_from(["us", "ns", "text", "large", "binary", "zone", "new_york"]))
        if kind in ("us", "ns"):
            return pa.array(values, pa.timestamp(kind))
        if kind == "new_york":
            return pa.array(
                [value.replace(tzinfo=NEW_YORK) for value in values], pa.timestamp("us", "America/New_York")
            )
        if kind == "zone":
            zone = dt.UTC
            if options.get("zoned_times") == "convert":
                values = [value.replace(tzinfo=NEW_YORK).astimezone(zone) for value in values]
            return pa.array([value.replace(tzinfo=zone) for value in values], pa.timestamp("us", "UTC"))
        types = {"text": pa.string(), "large": pa.large_string(), "binary": pa.binary()}
        return pa.array([text(value, form, False, {}) for value in values]).cast(types[kind])
    if name == "store_and_fwd_flag":
        kind = draw(
            st.sampled_from(
                [pa.string(), pa.binary(), pa.bool_(), pa.dictionary(pa.int8(), pa.string()), pa.string_view()]
            )
        )
        return pa.array([value == "Y" for value in values]) if kind == pa.bool_() else pa.array(values).cast(kind)
    if isinstance(next((value for value in values if value is not None), 0), int):
        return pa.array(values, draw(st.sampled_from([pa.int16(), pa.int32(), pa.int64(), pa.float64(), pa.uint16()])))
    kind = draw(st.sampled_from(["double", "decimal", "text"]))
    if kind == "decimal":
        return pa.array([None if v is None else decimal.Decimal(str(v)) for v in values], pa.decimal128(10, 2))
    return (
        pa.array(values, pa.float64())
        if kind == "double"
        else pa.array([None if v is None else str(v) for v in values], pa.string())
    )


@QUIET
@given(st.data())
def test_parquet(data: st.DataObject) -> None:
    draw = data.draw
    names, (form, options) = (
        STYLES[draw(st.sampled_from(["published", "upper", "mage", "bigquery"]))],
        TIMES["published"],
    )
    options = {"zoned_times": draw(st.sampled_from(["wall_clock", "convert"]))}
    rows = rounded(draw(st.lists(trips, min_size=1, max_size=6)), form)
    columns = {names[n]: column(draw, n.lower(), [row[n.lower()] for row in rows], form, options) for n in NAMES}
    table = pa.table(columns | ({"_dlt_id": ["x"] * len(rows)} if draw(st.booleans()) else {}))
    with TemporaryDirectory() as folder:
        path = Path(folder, "trips")
        if draw(st.booleans()):
            path.mkdir()
            for i in range(2):
                pq.write_table(
                    table.slice(i * len(rows) // 2, len(rows) // 2 + len(rows) % 2 * i), path / f"part-{i}.parquet"
                )
        else:
            pq.write_table(table, path)
        same(path, ReadOptions(**options), rows)


@pytest.mark.parametrize("order", ["mdy", "dmy"])
def test_the_first_day_above_twelve_decides_wherever_it_is(order: str, tmp_path: Path) -> None:
    form = "%m/%d/%Y %H:%M" if order == "mdy" else "%d/%m/%Y %H:%M"
    moments = [dt.datetime(2019, 6, 5, 1, 2)] * 400_000 + [dt.datetime(2019, 6, 13, 3, 4)]
    lines = [f"1,{moment.strftime(form)},{moment.strftime(form)},1,1,1,1" for moment in moments]
    header = (
        "VendorID,tpep_pickup_datetime,tpep_dropoff_datetime,passenger_count,trip_distance,fare_amount,total_amount"
    )
    (tmp_path / "a.csv").write_text("\n".join([header, *lines]))
    opened = open_trips(tmp_path / "a.csv", YELLOW, MONTH)
    table = pa.Table.from_batches(opened.batches, opened.schema)
    assert table["tpep_pickup_datetime"].unique().to_pylist() == sorted(set(moments))
    assert table["reject_reason"].null_count == table.num_rows


@pytest.mark.parametrize("text", ["02/30/2019 01:00:00 AM", "04/31/2019 01:00:00 AM", "02/29/2019 01:00:00 AM",
                                  "13/13/2019 01:00:00 AM", "06/05/2019 13:00:00 PM", "06/05/2019 00:00:00 AM",
                                  "06/05/2019 01:60:00 AM", "06/05/2019 01:00", "2019-06-05 01:00:00", " x"])  # fmt: skip
def test_a_time_that_there_is_not_is_unreadable(text: str, tmp_path: Path) -> None:
    header = (
        "VendorID,tpep_pickup_datetime,tpep_dropoff_datetime,passenger_count,trip_distance,fare_amount,total_amount"
    )
    good = "06/13/2019 12:55:13 AM"
    lines = [f"1,{time},{good},1,1,1,1" for time in [good] * 150 + [text, "", f" {good} "]]
    (tmp_path / "a.csv").write_text("\n".join([header, *lines]))
    opened = open_trips(tmp_path / "a.csv", YELLOW, MONTH)
    found = pa.Table.from_batches(opened.batches, opened.schema).slice(149).to_pylist()
    first = dt.datetime(2019, 6, 13, 0, 55, 13)
    assert [row["tpep_pickup_datetime"] for row in found] == [first, None, None, first]
    assert [row["reject_reason"] for row in found] == [None, "unreadable_value", None, None]


@pytest.mark.parametrize("odd", ["2019-06-13 00:55", "2019-06-13T00:55:13Z", "06/13/2019 12:55:13 AM", "x"])
def test_a_first_row_in_another_format_is_a_reject_and_not_the_format_of_the_file(odd: str, tmp_path: Path) -> None:
    header = (
        "VendorID,tpep_pickup_datetime,tpep_dropoff_datetime,passenger_count,trip_distance,fare_amount,total_amount"
    )
    lines = [f"1,{time},2019-06-13 01:00:00,1,1,1,1" for time in (odd, "2019-06-13 00:55:13", "2019-06-13T00:56:13.5")]
    (tmp_path / "a.csv").write_text("\n".join([header, *lines]))
    opened = open_trips(tmp_path / "a.csv", YELLOW, MONTH)
    found = pa.Table.from_batches(opened.batches, opened.schema)["reject_reason"].to_pylist()
    assert found == ["unreadable_value", None, None]


def test_summer_and_winter_have_different_zones(tmp_path: Path) -> None:
    header = (
        "VendorID,tpep_pickup_datetime,tpep_dropoff_datetime,passenger_count,trip_distance,fare_amount,total_amount"
    )
    times = ["2019-03-10 01:59:59-05:00", "2019-03-10 03:00:00-04:00", "2019-03-10 03:00:00+0000"]
    (tmp_path / "a.csv").write_text("\n".join([header, *(f"1,{time},{times[0]},1,1,1,1" for time in times)]))
    for zoned in ("wall_clock", "convert"):
        opened = open_trips(tmp_path / "a.csv", YELLOW, MONTH, options=ReadOptions(zoned_times=zoned))
        found = pa.Table.from_batches(opened.batches, opened.schema)["tpep_pickup_datetime"].to_pylist()
        assert found == [dt.datetime(2019, 3, 10, 1, 59, 59), dt.datetime(2019, 3, 10, 3), None]


def test_bytes_that_are_no_utf_8_do_not_stop_the_search_for_a_day_above_twelve(tmp_path: Path) -> None:
    times = [b"06/05/2019 01:00"] * 150 + [b"\xff", b"13/06/2019 02:00"]
    columns = {name: pa.array([1] * len(times)) for name in NAMES}
    columns |= {name: pa.array(times, pa.binary()) for name in NAMES if name.endswith("datetime")}
    columns["store_and_fwd_flag"] = pa.array(["N"] * len(times))
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    opened = open_trips(tmp_path / "a.parquet", YELLOW, MONTH)
    found = pa.Table.from_batches(opened.batches, opened.schema)["tpep_pickup_datetime"].to_pylist()
    assert found[-3:] == [dt.datetime(2019, 5, 6, 1), None, dt.datetime(2019, 6, 13, 2)]
