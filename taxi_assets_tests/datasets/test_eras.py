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

from taxi_assets.core.errors import PermanentError
from taxi_assets.core.month import Month
from taxi_assets.datasets.eras import ALIASES, ERAS, IGNORED, METER, Era, era_of
from taxi_assets.datasets.schema import GREEN, KINDS, YELLOW, TaxiKind
from taxi_assets.publisher.columns import canonical_name, match_columns
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
    columns = match_columns(source_file(KINDS[era.kind]), era.header, era.publication)
    assert sorted(columns.known.values()) == list(range(len(era.header)))
    assert not columns.new
    assert {published for published, _ in era.types} <= set(era.header)


@pytest.mark.parametrize(("publication", "last"), [("csv", "2021-07"), ("parquet", None)])
def test_every_yellow_month_is_in_one_era(publication: str, last: str | None) -> None:
    spans = [(era.first, era.last) for era in eras("yellow", publication)]
    assert spans[0][0] == "2009-01"
    assert spans[-1][1] == last
    for (_, end), (start, _) in pairwise(spans):
        assert str(Month.parse(end).next) == start


@pytest.mark.parametrize("year", range(2009, 2018))
@pytest.mark.parametrize("month", [1, 3, 5, 7, 9, 11])
def test_a_real_csv_begins_as_its_era_says(year: int, month: int, tlc: Callable[[str], Path]) -> None:
    content = tlc(f"yellow_csv_heads/yellow_tripdata_{year}-{month:02d}.csv").read_bytes().decode()
    era = era_of("yellow", "csv", f"{year}-{month:02d}")
    header, second, third, *_ = (text.rstrip("\r") for text in content.split("\n"))
    assert tuple(header.split(",")) == era.header
    assert (second == "") == era.blank_second_line
    first_row = third if era.blank_second_line else second
    assert first_row.count(",") + 1 == len(era.header) + era.surplus_fields


def test_the_publishers_list_of_parquet_files_has_the_columns_the_eras_say(tlc: Callable[[str], Path]) -> None:
    with tlc("reference/yellow_published_files_2009-01_2024-05.csv").open() as stream:
        files = list(csv.DictReader(stream))
    assert len(files) == 185
    for file in files:
        names = [name for name in file["file_column_names"].split(",") if not IGNORED.fullmatch(name)]
        month = f"{file['file_year']}-{int(file['file_month']):02d}"
        assert tuple(names) == era_of("yellow", "parquet", month).header, month


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


@pytest.mark.parametrize("kind", [YELLOW, GREEN])
def test_an_alias_leads_to_a_canonical_column_and_hides_none(kind: TaxiKind) -> None:
    names = {column.name for column in kind.columns}
    assert {name.replace(METER, kind.meter) for name in ALIASES.values()} <= names
    assert not ALIASES.keys() & names


@pytest.mark.parametrize("column", [column for column in YELLOW.columns if column.required], ids=lambda c: c.name)
def test_a_missing_required_column_is_named(column: object) -> None:
    names = [name for name in YELLOW.schema.names if name != column.name]
    with pytest.raises(PermanentError, match=f"has no column for {column.name} "):
        match_columns(source_file(), names, "csv")


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
