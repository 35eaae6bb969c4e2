# ruff: noqa: F401, F811 - pytest finds fixtures by their imported names
"""Every sink keeps months of any table, not only of trips: random schemas and rows are replaced, measured and read back.

SCHEMAS is the number of schemas for each sink; the default takes seconds.
"""

from __future__ import annotations

import datetime as dt
import os
import uuid
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taxi_assets.core.month import Month
from taxi_assets.core.month_file import MonthFile
from taxi_assets.core.staging import stage
from taxi_assets.core.table import Table
from taxi_assets.sinks.contract import WriteContext
from taxi_assets_tests.months import same_manifest
from taxi_assets_tests.sinks.place_fixtures import place
from taxi_assets_tests.sinks.places import SINKS
from taxi_assets_tests.sinks.places.base import Place

SCHEMAS = int(os.environ.get("SCHEMAS", "2"))
JANUARY, FEBRUARY = Month(2021, 1), Month(2021, 2)
TIME = "order"
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)  # as databases keep it
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "bool": st.booleans(),
    "int16": st.integers(-(1 << 15), (1 << 15) - 1),
    "int64": st.integers(-(1 << 63), (1 << 63) - 1),
    "double": st.floats(allow_nan=False, allow_infinity=False),
    "string": TEXT,
    "date32[day]": st.dates(dt.date(1900, 1, 1), dt.date(2200, 1, 1)),
    "timestamp[us]": st.datetimes(dt.datetime(1900, 1, 1), dt.datetime(2200, 1, 1)),
}
NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,15}", fullmatch=True).filter(
    lambda name: name not in (TIME, "ctid", "xmin", "xmax")
)


@st.composite
def tables(draw: st.DrawFn) -> tuple[Table, list[pa.Table]]:
    """A table of random columns, summed by those of doubles, and rows for its months: January twice, February once."""
    types = draw(st.dictionaries(NAMES, st.sampled_from(sorted(VALUES)), min_size=1, max_size=6))
    schema = pa.schema([(TIME, pa.timestamp("us")), *((name, pa.type_for_alias(t)) for name, t in types.items())])
    months = []
    for month in (JANUARY, FEBRUARY, JANUARY):
        first_day = st.datetimes(month.start, month.start + dt.timedelta(days=1, microseconds=-1))
        row = {TIME: first_day, **{name: st.none() | VALUES[type_] for name, type_ in types.items()}}
        rows = draw(st.lists(st.fixed_dictionaries(row), max_size=8))
        months.append(pa.Table.from_pylist(rows, schema))
    table = Table(f"table_{uuid.uuid4().hex[:12]}", time=TIME).with_columns_of(schema)
    return table, months


def kept(place: Place, table: Table, month: Month, rows: pa.Table) -> MonthFile:
    """Replace the month by the rows."""
    with stage(place.folder / "made", month, rows.schema, table, "random") as writer:
        for batch in rows.to_batches():
            writer.write(batch)
        made = writer.close()
    made = MonthFile(made.path, month)
    if place.name == "bigquery":  # loads from Cloud Storage
        made = place.server.upload(made)
    place.sink.replace(table, made, WriteContext("run", uuid.uuid4().hex[:12], lambda _: None, {}))
    return made


def in_order(rows: pa.Table, table: Table) -> list[str]:
    return sorted(repr(row) for row in rows.select(table.names).to_pylist())


@pytest.fixture(params=SINKS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@given(made=tables())
@settings(max_examples=SCHEMAS, deadline=None, suppress_health_check=list(HealthCheck))
def test_months_of_any_schema_are_replaced_measured_and_read_back(place: Place, made: tuple[Table, list[pa.Table]]):
    table, (first, february, second) = made
    for january in (first, second):
        held = {JANUARY: january, FEBRUARY: february}
        manifests = {month: kept(place, table, month, rows).manifest for month, rows in held.items()}
        for month, rows in held.items():
            assert same_manifest(place.sink.measure(table, month), manifests[month])
            assert in_order(place.sink.read(table, month).to_arrow(), table) == in_order(rows, table)
