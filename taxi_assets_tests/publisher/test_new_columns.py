"""An unknown column does not stop a month, does not affect known columns, and is kept as published."""

import datetime as dt
import decimal
import tempfile
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from taxi_assets.assets.raw_warnings import unexpected_columns, unknown_codes
from taxi_assets.core.errors import PermanentError
from taxi_assets.core.month import Month
from taxi_assets.core.month_file import MonthFile
from taxi_assets.core.staging import stage
from taxi_assets.datasets.eras import IGNORED
from taxi_assets.datasets.rules import CleaningRules
from taxi_assets.datasets.schema import GREEN, YELLOW, Column, TaxiKind
from taxi_assets.lake import raw_month
from taxi_assets.lake.cleaning import clean_month
from taxi_assets.publisher.columns import canonical_name
from taxi_assets.publisher.options import NewColumns, ReadOptions
from taxi_assets.publisher.reader import open_trips
from taxi_assets_tests.months import NEW_COLUMN_TYPES
from taxi_assets_tests.published_files import HEADER, NAMES, csv_file, line, read

QUIET = settings(deadline=None, suppress_health_check=list(HealthCheck))
JUNE, JULY = Month(2026, 6), Month(2026, 7)


def raw(path: Path, folder: Path, kind: TaxiKind = YELLOW, month: Month = JULY) -> MonthFile:
    """The raw month of a published file, as `raw_trips` writes it."""
    opened = open_trips(path, kind, month)
    with stage(folder, month, opened.schema, kind.table, "raw") as writer:
        for batch in opened.batches:
            writer.write(batch)
        writer.extra = {"columns": opened.columns}
        return writer.close()


def cleaned(trips: MonthFile, folder: Path, policy: NewColumns = "keep", kind: TaxiKind = YELLOW) -> pa.Table:
    rules = CleaningRules(reject_zero_passengers=False, reject_unknown_passengers=False)
    return clean_month(trips, kind, rules, folder, None, policy)[0].to_arrow()


def trips_of_2019(count: int) -> pa.Table:
    """A published Parquet file of 2019 with values that differ from row to row."""
    columns = {}
    for i, name in enumerate(NAMES):
        if name.endswith("datetime"):
            columns[name] = pa.array(
                [dt.datetime(2019, 6, 1, 12, row % 60) for row in range(count)], pa.timestamp("us")
            )
        elif name == "store_and_fwd_flag":
            columns[name] = pa.array(["NY"[row % 2] for row in range(count)])
        else:
            integer = pa.types.is_integer(YELLOW.schema.field(canonical_name(name, YELLOW)).type)
            widened = name in ("passenger_count", "RatecodeID") or not integer  # as published 2018-07 to 2023-01
            columns[name] = pa.array(
                [(row * 7 + i) % 90 for row in range(count)], pa.float64() if widened else pa.int64()
            )
    return pa.table(columns)


ABSENT = set(YELLOW.schema.names) - {canonical_name(name, YELLOW) for name in NAMES}
"""Known columns that files of 2019 lack: one of these is no new column."""
EXTRA_NAMES = (
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12)
    | st.sampled_from([*NAMES, *map(str.lower, NAMES), "reject_reason", "source_text"])
    | st.sampled_from([f" {name} " for name in NAMES] + [name.upper() for name in NAMES])
    | st.sampled_from(["a.b", "fare_amount.x", "tpep_pickup_date", "driver band", '"quoted"', "x,y", "vendor_name"])
).filter(lambda name: not IGNORED.fullmatch(name.strip().lower()) and canonical_name(name, YELLOW) not in ABSENT)
EXTRA_VALUES = {
    pa.int8(): st.integers(-128, 127),
    pa.uint64(): st.integers(0, 2**64 - 1),
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.float32(): st.floats(allow_nan=False, width=32),
    pa.float64(): st.floats(allow_nan=False),
    pa.string(): st.text(st.characters(exclude_categories=["Cs"]), max_size=9),
    pa.large_string(): st.text(st.characters(exclude_categories=["Cs"]), max_size=9),
    pa.binary(): st.binary(max_size=5),
    pa.bool_(): st.booleans(),
    pa.date32(): st.dates(),
    pa.timestamp("ns"): st.datetimes(dt.datetime(1700, 1, 1), dt.datetime(2200, 1, 1)),
    pa.timestamp("us", "UTC"): st.datetimes(
        dt.datetime(1700, 1, 1), dt.datetime(2200, 1, 1), timezones=st.just(dt.UTC)
    ),
    pa.decimal128(9, 2): st.integers(-(10**6), 10**6).map(lambda cents: decimal.Decimal(cents).scaleb(-2)),
    pa.list_(pa.int64()): st.lists(st.integers(-5, 5), max_size=3),
    pa.struct([("a", pa.int64())]): st.fixed_dictionaries({"a": st.integers(-5, 5)}),
    pa.null(): st.none(),
    pa.dictionary(pa.int32(), pa.string()): st.sampled_from(["low", "high"]),
}


@st.composite
def extra_columns(draw: st.DrawFn, rows: int) -> list[tuple[str, pa.Array]]:
    found = []
    for _ in range(draw(st.integers(1, 5))):
        type_ = draw(st.sampled_from(sorted(EXTRA_VALUES, key=str)))
        values = draw(st.lists(st.none() | EXTRA_VALUES[type_], min_size=rows, max_size=rows))
        found.append((draw(EXTRA_NAMES), pa.array(values, type_)))
    return found


@given(st.data())
@settings(QUIET, max_examples=150)
@pytest.mark.parametrize("position", ["last", "anywhere"])
def test_any_new_columns_of_a_parquet_file_are_kept_and_cost_no_known_value(position: str, data: st.DataObject) -> None:
    rows = data.draw(st.integers(1, 6))
    known, extra = trips_of_2019(rows), data.draw(extra_columns(rows))
    columns = [(name, known[name].chunk(0)) for name in NAMES]
    for name, values in extra:
        equal = [i for i, (other, _) in enumerate(columns) if other == name]  # ambiguous: the first is used
        at = len(columns) if position == "last" else data.draw(st.integers(equal[0] + 1 if equal else 0, len(columns)))
        columns.insert(at, (name, values))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trips.parquet"
        pq.write_table(pa.Table.from_arrays([v for _, v in columns], [n for n, _ in columns]), path)
        plain = Path(folder) / "plain.parquet"
        pq.write_table(known, plain)
        trips = raw(path, Path(folder), month=Month(2019, 6))
        table, expected = trips.to_arrow(), read(plain)
        added = cleaned(trips, Path(folder), "add")
        kept = cleaned(trips, Path(folder))
    assert table.select(YELLOW.raw_schema.names).equals(expected)
    record = trips.manifest.extra["columns"]["new"]
    assert len(record) + len(trips.manifest.extra["columns"]["known"]) == len(columns)
    unread = [values.to_pylist() for name, values in extra if canonical_name(name, YELLOW) not in YELLOW.schema.names]
    held = [table[name].to_pylist() for name in record]
    assert all(values in held for values in unread)
    assert kept.schema.names == YELLOW.schema.names
    assert added.schema.names[: len(YELLOW.schema.names)] == YELLOW.schema.names
    assert {str(field.type) for field in added.schema} <= {*NEW_COLUMN_TYPES, "int16"}
    assert added.select(YELLOW.schema.names).equals(kept)


@given(st.data())
@settings(QUIET, max_examples=100)
def test_any_new_columns_of_a_csv_are_kept_and_cost_no_known_value(data: st.DataObject) -> None:
    text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\n"), max_size=8)
    names = data.draw(
        st.lists(EXTRA_NAMES.map(lambda n: " ".join(n.split("\n")).replace("\r", "")), min_size=1, max_size=3)
    )
    assume(not any(IGNORED.fullmatch(name.strip().lower()) for name in names))
    values = data.draw(st.lists(st.tuples(*[text] * len(names)), min_size=1, max_size=4))

    def quoted(field: str) -> str:
        return '"' + field.replace('"', '""') + '"' if set(field) & set(',"\r\n') else field

    header = ",".join([HEADER, *map(quoted, names)])
    lines = [",".join([line(extra=str(i)), *map(quoted, row)]) for i, row in enumerate(values)]
    with tempfile.TemporaryDirectory() as folder:
        table = raw(csv_file(Path(folder), *lines, header=header), Path(folder), month=Month(2019, 6)).to_arrow()
    expected = [float(i) for i in range(len(values))]
    assert table["reject_reason"].null_count == len(values)
    assert table["extra"].to_pylist() == expected
    held = [table[name].to_pylist() for name in table.schema.names[len(YELLOW.raw_schema) :]]
    assert sorted(held, key=repr) == sorted([[row[i] or None for row in values] for i in range(len(names))], key=repr)


@pytest.fixture
def newest(current: Path, tmp_path: Path) -> MonthFile:
    return raw(current / "yellow_tripdata_2026-07.parquet", tmp_path)


def test_the_newest_layout_is_known_and_the_next_one_is_kept(current: Path, tmp_path: Path, newest: MonthFile) -> None:
    for kind in (YELLOW, GREEN):
        opened = open_trips(current / f"{kind.name}_tripdata_2026-06.parquet", kind, JUNE)
        assert opened.schema == kind.raw_schema
        assert opened.columns["new"] == opened.columns["changed_types"] == {}
        assert opened.columns["missing"] == []
    assert newest.schema.names[len(YELLOW.raw_schema) :] == ["driver_age_band", "surge_fee"]
    assert newest.to_arrow()["surge_fee"].to_pylist() == [1.25] * 2000
    assert cleaned(newest, tmp_path).schema == YELLOW.schema
    added = cleaned(newest, tmp_path, "add")
    assert [(f.name, str(f.type)) for f in added.schema][-2:] == [
        ("driver_age_band", "string"),
        ("surge_fee", "double"),
    ]
    assert set(added["driver_age_band"].to_pylist()) == {"30-39"}
    with pytest.raises(
        PermanentError,
        match="has columns that are not known, 'driver_age_band', 'surge_fee'; set TAXI_NEW_COLUMNS=keep",
    ):
        open_trips(current / "yellow_tripdata_2026-07.parquet", YELLOW, JULY, options=ReadOptions("refuse"))


def test_a_column_that_a_later_version_knows_is_taken_from_the_raw_month(newest: MonthFile, tmp_path: Path) -> None:
    later = replace(YELLOW, columns=(*YELLOW.columns, Column("driver_age_band", "string", "Age."),
                                     Column("surge_fee", "int16", "Whole dollars.")))  # fmt: skip
    parts = list(
        raw_month.batches(later, newest, raw_month.loaded_columns(later, newest.manifest.extra, newest.schema, "keep"))
    )
    table = pa.Table.from_batches(parts)
    assert table.schema.names == later.raw_schema.names
    assert set(table["driver_age_band"].to_pylist()) == {"30-39"}
    assert set(table["reject_reason"].to_pylist()) == {"unreadable_value"}  # 1.25 is not a whole number
    assert table["reject_detail"][0].as_py() == "surge_fee 1.25"


def test_a_raw_month_of_a_version_before_a_column_is_read(newest: MonthFile, tmp_path: Path) -> None:
    older = replace(YELLOW, columns=tuple(c for c in YELLOW.columns if c.name != "request_source"))
    with stage(tmp_path, JULY, older.raw_schema, older.table, "older") as writer:
        writer.write(pa.RecordBatch.from_pylist([{"tpep_pickup_datetime": JULY.start}], older.raw_schema))
        trips = writer.close()
    assert cleaned(trips, tmp_path).schema == YELLOW.schema


def changed(folder: Path, **columns: pa.Array | None) -> MonthFile:
    """The raw month of a file of 2019 with some columns replaced, or left out for None."""
    table = trips_of_2019(4)
    arrays = {name: table[name] for name in NAMES} | columns
    pq.write_table(
        pa.table({name: values for name, values in arrays.items() if values is not None}), folder / "a.parquet"
    )
    return raw(folder / "a.parquet", folder, month=Month(2019, 6))


def test_an_optional_column_that_disappeared_is_null_with_a_warning(tmp_path: Path) -> None:
    trips = changed(tmp_path, congestion_surcharge=None, tolls_amount=None)
    assert trips.to_arrow()["tolls_amount"].null_count == 4
    sentences, metadata = unexpected_columns(YELLOW, trips.month, trips, "keep")
    assert sorted(metadata["causes"]) == ["missing column airport_fee", "missing column congestion_surcharge",
                                          "missing column tolls_amount"]  # fmt: skip
    assert any("2019-06: the yellow file has no column for tolls_amount any more" in sentence for sentence in sentences)


@pytest.mark.parametrize(
    ("values", "kept", "found"),
    [
        (pa.array(["1.5", "2", None, " 3.25"]), [1.5, 2.0, None, 3.25], "text"),
        (pa.array(["1.5", "free", "2", "3"]), [1.5, None, 2.0, 3.0], "text"),
        (pa.array([1, 2, 3, None]), [1.0, 2.0, 3.0, None], "integer"),
        (pa.array([[1.0], None, None, None]), [None, None, None, None], "list<element: double>"),
        (pa.array([None, True, None, None]), [None, None, None, None], "bool"),
        (pa.array([decimal.Decimal("1.25"), None, None, None]), [1.25, None, None, None], None),
    ],
)
def test_a_type_that_changed_is_converted_row_by_row(
    tmp_path: Path, values: pa.Array, kept: list, found: str | None
) -> None:
    trips = changed(tmp_path, tip_amount=values, airport_fee=pa.nulls(4))
    table = trips.to_arrow()
    assert table["tip_amount"].to_pylist() == kept
    lost = [v is not None and k is None for v, k in zip(values.to_pylist(), kept, strict=True)]
    assert [reason == "unreadable_value" for reason in table["reject_reason"].to_pylist()] == lost
    _, metadata = unexpected_columns(YELLOW, trips.month, trips, "keep")
    named = [cause for cause in metadata["causes"] if "tip_amount" in cause]
    assert named == ([] if found is None else ["changed type of tip_amount"])
    if found:
        assert f"as {found}, double is expected" in metadata["causes"][named[0]]


def test_unknown_codes_are_loaded_and_counted(tmp_path: Path) -> None:
    trips = changed(
        tmp_path,
        VendorID=pa.array([8, 8, 1, 2]),
        payment_type=pa.array([7, 0, 1, None]),
        RatecodeID=pa.array([99, 1, 2, 3]),
        request_source=pa.array(["B", "A", "HV0003", None]),
        PULocationID=pa.array([1, 265, 264, 0]),
        DOLocationID=pa.array([1, 1, 1, 1]),
    )
    assert trips.to_arrow()["reject_reason"].null_count == 4
    sentences, metadata = unknown_codes(YELLOW, trips.month, trips)
    assert sorted(metadata["causes"]) == ["unknown payment_type 7", "unknown pulocationid 0", "unknown request_source B",
                                          "unknown vendorid 8"]  # fmt: skip
    assert metadata["vendorid"] == {"8": 2}
    assert (
        "2019-06: vendorid has codes that no data dictionary lists: 8 (2 rows). They are loaded as they are."
        in sentences
    )


def test_a_new_column_is_named_with_its_values_and_what_to_do(newest: MonthFile) -> None:
    sentences, metadata = unexpected_columns(YELLOW, JULY, newest, "keep")
    assert sorted(metadata["causes"]) == ["new column driver_age_band", "new column surge_fee"]
    assert "'driver_age_band' (large_string, 0 % null, most frequent: '30-39' (2,000))" in sentences[0]
    assert "set TAXI_NEW_COLUMNS=add" in sentences[0]
    assert "It is added to every sink." in unexpected_columns(YELLOW, JULY, newest, "add")[0][0]


@pytest.mark.parametrize(
    ("published", "name"),
    [("Driver Age", "driver_age"), ("2nd fee", "column_2nd_fee"), ("é", "column"), ("xmin", "xmin_2"),
     ("tpep_pickup_date", "tpep_pickup_date_2"), ("source_line", "source_line_2"), ("n" * 90, "n" * 60)],
)  # fmt: skip
def test_a_new_columns_name_is_one_that_every_sink_takes(published: str, name: str) -> None:
    new = {"a": {"published": published, "type": "int64"}}
    schema = pa.schema([("a", pa.int64())])
    loaded = raw_month.loaded_columns(YELLOW, {"columns": {"known": [], "new": new}}, schema, "add")
    assert list(loaded.added) == [name]
