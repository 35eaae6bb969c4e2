# ruff: noqa: F401, F811 - pytest finds fixtures by their imported names
"""Every database keeps the view `trips` over the tables that exist, and reads of it only the months that are asked for."""

from __future__ import annotations

import uuid
from contextlib import suppress

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from google.cloud import bigquery as google

from taxi_assets.core.errors import PermanentError
from taxi_assets.core.month import Month
from taxi_assets.core.staging import stage
from taxi_assets.datasets.codes import CODE_VIEWS
from taxi_assets.datasets.schema import FHVHV, KINDS
from taxi_assets.datasets.trips import TRIP_COLUMNS, trips
from taxi_assets.lake.zone_ids import ZONE_ID_SCHEMA
from taxi_assets.sinks.contract import WriteContext
from taxi_assets_tests.bigquery_fixtures import PROJECT
from taxi_assets_tests.cleaned_months import CleanedMonth, cleaned_sample
from taxi_assets_tests.postgres_fixtures import rows_of, run_sql
from taxi_assets_tests.sinks.place_fixtures import place
from taxi_assets_tests.sinks.places.base import Place
from taxi_assets_tests.sinks.places.managers import MAKE

VIEW = trips()


@pytest.fixture(params=["postgres", "duckdb", "bigquery"])
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def months(tmp_path_factory: pytest.TempPathFactory) -> dict[str, CleanedMonth]:
    folder = tmp_path_factory.mktemp("months")
    return {kind.name: cleaned_sample(folder, 1_500, "2025-01", kind) for kind in KINDS.values()}


def load(place: Place, month: CleanedMonth, bigquery) -> None:
    clean = bigquery.upload(month.clean) if place.name == "bigquery" else month.clean
    MAKE[place.name](place.where).replace(
        month.kind.table, clean, WriteContext("run", uuid.uuid4().hex[:12], lambda _: None, {})
    )


TOTAL = "the sum of its parts"
_BEGIN = ["pickup_datetime", "dropoff_datetime", "pulocationid", "dolocationid"]
SOURCES = {
    "yellow": ["tpep_pickup_datetime", "tpep_dropoff_datetime", "pulocationid", "dolocationid", "trip_distance",
               "passenger_count", "fare_amount", "tip_amount", "tolls_amount", "total_amount", None, None],
    "fhv": [*_BEGIN, *[None] * 7, "dispatching_base_num"],
    "fhvhv": [*_BEGIN, "trip_miles", None, "base_passenger_fare", "tips", "tolls", TOTAL, "driver_pay", "hvfhs_license_num"],
}  # fmt: skip
"""By dataset, from which column each but the first of the view is."""


def ask(place: Place, query: str, view: str = "trips") -> list[tuple]:
    """The answer to a query, in which `{}` stands for the view, from an ordinary client."""
    if place.name == "duckdb":
        with duckdb.connect(place.where, read_only=True) as connection:
            return connection.execute(query.format(f"ny_taxi.{view}")).fetchall()
    if place.name == "postgres":
        return rows_of(place.where, query.format(f"ny_taxi.{view}"))
    answer = place.client.query(query.format(f"`{PROJECT}.{place.dataset}.{view}`"))
    return [tuple(row.values()) for row in answer.result()]


@pytest.fixture
def server(name: str, request: pytest.FixtureRequest):
    return request.getfixturevalue("bigquery") if name == "bigquery" else None


def test_the_view_is_over_the_tables_that_exist_and_grows_with_them(place, months, server):
    views = MAKE[place.name](place.where).views
    assert not views.replace([VIEW])  # there is no table yet
    for loaded in (["yellow"], ["yellow", "fhvhv"], [*KINDS]):
        load(place, months[loaded[-1]], server)
        for kind in set(loaded) - set(seen(place)):
            load(place, months[kind], server)
        assert views.replace([VIEW])
        if place.name != "bigquery":  # the emulator does not return a view's query, by which BigQuery knows it
            assert not views.replace([VIEW])
        assert seen(place) == {kind: months[kind].clean.rows for kind in loaded}


def seen(place: Place) -> dict[str, int]:
    with suppress(Exception):
        return dict(ask(place, "SELECT dataset, count(*) FROM {} GROUP BY 1"))
    return {}


def test_every_column_is_that_of_its_dataset_or_null(place, months, server):
    for kind in ("yellow", "fhv", "fhvhv"):
        load(place, months[kind], server)
    MAKE[place.name](place.where).views.replace([VIEW])
    names = ", ".join(column.name for column in TRIP_COLUMNS)
    found: dict[str, list[tuple]] = {}
    for row in ask(place, f"SELECT {names} FROM {{}}"):
        found.setdefault(row[0], []).append(row[1:])
    expected = {
        kind: [
            [
                pytest.approx(sum(trip[part] for part in FHVHV.measures.total)) if of == TOTAL else trip.get(of)
                for of in sources
            ]
            for trip in months[kind].clean.to_arrow().to_pylist()
        ]
        for kind, sources in SOURCES.items()
    }
    assert found.keys() == expected.keys()
    for kind, rows in expected.items():
        assert len(found[kind]) == len(rows)
        times_and_zones = [sorted([*map(str, row[:4]), *row] for row in each) for each in (found[kind], rows)]
        assert times_and_zones[0] == times_and_zones[1]


def test_zone_ids_of_coordinates_are_in_the_view_as_soon_as_a_month_has_them(place, months, server, tmp_path):
    load(place, months["yellow"], server)
    views = MAKE[place.name](place.where).views
    views.replace([VIEW])
    trips_of_2009 = cleaned_sample(tmp_path, 200, "2009-01").clean.to_arrow()
    assert trips_of_2009["pulocationid"].null_count < trips_of_2009.num_rows  # or none could win over the added one
    kind, fields = months["yellow"].kind, ZONE_ID_SCHEMA
    with stage(tmp_path, Month(2009, 1), pa.schema([*kind.schema, *fields]), kind.table, "located") as writer:
        added = [pa.array([7] * trips_of_2009.num_rows, pa.int16()), pa.nulls(trips_of_2009.num_rows, pa.int16())]
        for field, values in zip(fields, added, strict=True):
            trips_of_2009 = trips_of_2009.append_column(field, values)
        at = kind.schema.get_field_index("pulocationid")
        published = pc.if_else(pc.equal(trips_of_2009["vendorid"], 1), None, trips_of_2009["pulocationid"])
        trips_of_2009 = trips_of_2009.set_column(at, kind.schema.field(at), published)
        for batch in trips_of_2009.combine_chunks().to_batches():
            writer.write(batch)
        located = CleanedMonth(kind, Month(2009, 1), None, writer.close(), None)
    load(place, located, server)
    assert views.replace([VIEW]) == ["trips"]
    where = "WHERE pickup_datetime < TIMESTAMP '2009-02-01 00:00:00'"
    found = ask(place, f"SELECT pulocationid, dolocationid FROM {{}} {where}")
    expected = [(row["pulocationid"] or 7, row["dolocationid"]) for row in trips_of_2009.to_pylist()]
    assert sorted(found, key=repr) == sorted(expected, key=repr)
    assert len({zone for zone, _ in expected}) > 1


def test_a_condition_on_the_pickup_reads_only_that_month(place, months, server, tmp_path):
    if place.name == "bigquery":
        pytest.skip("the emulator does not count the bytes of a partition")
    for kind in ("yellow", "fhvhv"):
        load(place, months[kind], server)
        load(place, cleaned_sample(tmp_path, 300, "2025-02", KINDS[kind]), server)
    MAKE[place.name](place.where).views.replace([VIEW])
    where = (
        "WHERE pickup_datetime >= TIMESTAMP '2025-02-01 00:00:00' AND pickup_datetime < TIMESTAMP '2025-03-01 00:00:00'"
    )
    plan = "\n".join(str(row) for row in ask(place, f"EXPLAIN SELECT count(*) FROM {{}} {where}"))
    if place.name == "postgres":
        assert "yellow_cab_data_2025_02" in plan
        assert "fhvhv_trips_2025_02" in plan
        assert "2025_01" not in plan
    else:  # the conditions are in the scans, which skip row groups by their least and greatest pickup
        assert plan.count("Filters:") == 2
        assert "FILTER" not in plan.replace("Filters", "")


def test_codes_have_names(place, months, server):
    if place.name == "bigquery":  # which has no dataset before the first table
        load(place, months["fhv"], server)
    assert sorted(MAKE[place.name](place.where).views.replace(CODE_VIEWS)) == sorted(view.name for view in CODE_VIEWS)
    for view in CODE_VIEWS:
        answer = ask(place, "SELECT * FROM {} ORDER BY 1", view.name)
        assert answer == list(view.rows)


def test_a_table_of_someone_else_is_not_replaced(place, months, server):
    load(place, months["yellow"], server)
    if place.name == "bigquery":
        schema = [google.SchemaField("a", "INTEGER")]
        place.client.create_table(google.Table(f"{PROJECT}.{place.dataset}.trips", schema=schema))
    elif place.name == "duckdb":
        with duckdb.connect(place.where) as connection:
            connection.execute("CREATE TABLE ny_taxi.trips (a INTEGER)")
    else:
        run_sql(place.where, "CREATE TABLE ny_taxi.trips (a integer)")
    with pytest.raises(PermanentError, match=r"ny_taxi\.trips|trips.* is not a view: rename it"):
        MAKE[place.name](place.where).views.replace([VIEW])
