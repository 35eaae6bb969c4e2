"""The tables of published headers agree with real files, with the publisher's list of them, and with the
documentation."""

import ast
import csv
import importlib.util
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from taxi_assets.core.month import Month
from taxi_assets.datasets.eras import ALIASES, ERAS, FOR_HIRE_ALIASES, IGNORED, METER, Era, era_of
from taxi_assets.datasets.schema import KINDS, YELLOW, TaxiKind
from taxi_assets.publisher.columns import canonical_name, match_columns
from taxi_assets.publisher.options import ReadOptions
from taxi_assets.publisher.source_file import SourceFile
from taxi_assets_tests.conftest import REPOSITORY
from taxi_assets_tests.published_files import read

SPARK_TYPES = {
    "bigint": pa.int64(),
    "double": pa.float64(),
    "string": pa.string(),
    "timestamp": pa.timestamp("us"),
    "int": pa.null(),  # how Spark shows a column of null type, which is stored as INT32
}


def source_file(kind: TaxiKind = YELLOW) -> SourceFile:
    return SourceFile(Path("trips.csv"), kind, Month(2019, 6))


def eras(kind: str, publication: str) -> list[Era]:
    return [era for era in ERAS if (era.kind, era.publication) == (kind, publication)]


@pytest.mark.parametrize("era", ERAS, ids=lambda era: f"{era.kind}-{era.publication}-{era.first}")
def test_every_column_of_an_era_has_its_canonical_column(era: Era) -> None:
    file = SourceFile(Path("trips.csv"), KINDS[era.kind], Month.parse(era.first))
    columns = match_columns(file, era.header, era.publication, ReadOptions("refuse"))
    second_of_a_name = {"Dispatching_base_num"} if "Dispatching_base_number" in era.header else set()
    assert {era.header[i] for i in columns.new.values()} == second_of_a_name
    assert sorted([*columns.known.values(), *columns.new.values()]) == list(range(len(era.header)))
    assert not columns.missing
    assert {published for published, _ in era.types} <= set(era.header)


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
@pytest.mark.parametrize(("publication", "last"), [("csv", "2021-07"), ("parquet", None)])
def test_every_month_is_in_one_era(kind: TaxiKind, publication: str, last: str | None) -> None:
    spans = [(era.first, era.last) for era in eras(kind.name, publication)]
    assert spans[0][0] == str(Month(*kind.first_month))
    assert spans[-1][1] == last
    for (_, end), (start, _) in pairwise(spans):
        assert str(Month.parse(end).next) == start


@pytest.mark.parametrize(
    ("folder", "kind", "first", "last"),
    [
        ("yellow_csv_heads", "yellow", "2009-01", "2017-11"),
        ("green_csv_heads", "green", "2014-01", "2017-11"),
        ("fhv_csv_first100rows", "fhv", "2015-01", "2020-05"),
        ("fhvhv_csv_first100rows", "fhvhv", "2019-03", "2020-05"),
    ],
)
def test_real_csv_files_begin_as_their_eras_say(
    folder: str, kind: str, first: str, last: str, tlc: Callable[[str], Path]
) -> None:
    for month in Month.parse(first).through(Month.parse(last)):
        if month.month % 2:
            begins_as_its_era_says(tlc(f"{folder}/{kind}_tripdata_{month}.csv"), era_of(kind, "csv", str(month)))


def begins_as_its_era_says(path: Path, era: Era) -> None:
    header, *rows = (text.rstrip("\r") for text in path.read_bytes().decode().split("\n"))
    assert (header[0] == '"') == ("every field is quoted" in era.oddities)
    assert tuple(header.replace('"', "").split(",")) == era.header
    assert (rows[0] == "") == ("the line after the header is empty" in era.oddities)
    first_row = next(row for row in rows if row)  # green has two blank lines in 2014
    assert first_row.count(",") + 1 == len(era.header) + era.surplus_fields


@pytest.mark.parametrize(
    ("kind", "since", "count"),
    [("yellow", "2009-01", 185), ("green", "2014-01", 125), ("fhv", "2015-01", 113), ("fhvhv", "2019-02", 64)],
)
def test_the_publishers_list_of_parquet_files_has_the_columns_the_eras_say(
    kind: str, since: str, count: int, tlc: Callable[[str], Path]
) -> None:
    with tlc(f"reference/{kind}_published_files_{since}_2024-05.csv").open() as stream:
        files = list(csv.DictReader(stream))
    assert len(files) == count
    for file in files:
        names = [name for name in file["file_column_names"].split(",") if not IGNORED.fullmatch(name)]
        month = f"{file['file_year']}-{int(file['file_month']):02d}"
        assert tuple(names) == era_of(kind, "parquet", month).header, month


def test_a_parquet_file_of_every_published_schema_is_read(tlc: Callable[[str], Path], tmp_path: Path) -> None:
    with tlc("reference/yellow_parquet_schema_2009-01_2022-11.csv").open() as stream:
        schemas = {file["Schema"] for file in csv.DictReader(stream)}
    assert len(schemas) == 10
    values = {"double": 1.0, "bigint": 2, "int": None, "timestamp": Month(2009, 1).start}
    texts = {"vendor_name": "CMT", "vendor_id": "VTS", "payment_type": "CSH", "Payment_Type": "Cash", "rate_code": "1"}
    for number, schema in enumerate(sorted(schemas)):
        columns = dict(ast.literal_eval(schema))
        row = {
            name: values.get(kind, texts.get(name, "N" if "store" in name else "2009-01-04 02:52:00"))
            for name, kind in columns.items()
        }
        path = tmp_path / f"{number}.parquet"
        types = pa.schema([(name, SPARK_TYPES[kind]) for name, kind in columns.items()])
        pq.write_table(pa.Table.from_pylist([row], types), path)
        (trip,) = read(path).to_pylist()
        assert trip["reject_reason"] is None
        empty = {canonical_name(name, YELLOW) for name, value in row.items() if value is None}
        filled = {canonical_name(name, YELLOW) for name in row if not IGNORED.fullmatch(name)} - empty
        assert {name for name, value in trip.items() if value is not None} == filled


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_an_alias_leads_to_a_canonical_column_and_hides_none(kind: TaxiKind) -> None:
    names = {column.name for column in kind.columns}
    aliases = ALIASES if kind.meter else FOR_HIRE_ALIASES
    other = {"dispatching_base_number", "locationid", "pickup_date"} if kind.name == "fhvhv" else set()  # FHV's alone
    assert {name.replace(METER, kind.meter) for alias, name in aliases.items() if alias not in other} <= names
    assert not aliases.keys() & names


@pytest.mark.parametrize("column", [column for column in YELLOW.columns if column.required], ids=lambda c: c.name)
def test_a_missing_required_column_is_named(column: object) -> None:
    names = [name for name in YELLOW.schema.names if name != column.name]
    (problem,) = match_columns(source_file(), names, "csv").problems
    assert problem.startswith(f"has no column for {column.name} ")


def test_columns_that_may_be_absent_are_absent() -> None:
    required = [column.name for column in YELLOW.columns if column.required]
    assert match_columns(source_file(), required, "csv").known == {name: i for i, name in enumerate(required)}


def test_the_documentation_matches_the_code() -> None:
    tables = module(REPOSITORY / "docs" / "data_tables.py")
    page = tables.PAGE.read_text()
    assert tables.rendered(page) == page, "run: python docs/data_tables.py"
    assert all(f"<!-- {name} -->" in page for name in tables.SECTIONS)
    assert "unreadable_field_count" in page


def module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded
