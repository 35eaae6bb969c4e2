# ruff: noqa: F401, F811 - pytest finds fixtures by their imported names
"""The lake and every database replace a dimension as a whole or not at all, and record where it came from."""

from __future__ import annotations

import dataclasses
import itertools
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import pytest
from google.cloud import bigquery as google

from taxi_assets.core.dimension import Dimension
from taxi_assets.core.errors import PermanentError, TransientError
from taxi_assets.core.table import Column
from taxi_assets.sinks.bigquery.dimensions import BigQueryDimensions
from taxi_assets.sinks.dimensions import DimensionPlace
from taxi_assets.sinks.duckdb.io_manager import DuckDBIOManager
from taxi_assets.sinks.postgres.io_manager import PostgresIOManager
from taxi_assets_tests.bigquery_fixtures import PROJECT, bigquery_sink
from taxi_assets_tests.postgres_fixtures import rows_of, run_sql
from taxi_assets_tests.processes import free_port
from taxi_assets_tests.sinks.dimension_places import (
    PLACES,
    TABLE,
    held,
    kept_in,
    pets,
    rows,
    tables,
    writer_without_end,
    writing,
)
from taxi_assets_tests.sinks.place_fixtures import place
from taxi_assets_tests.sinks.places.base import JANUARY, Place

A, B = pets("a"), pets("b", 2_000)


@pytest.fixture(params=PLACES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def dimensions(place: Place) -> DimensionPlace:
    return kept_in(place.name, place.where)


def test_a_dimension_becomes_exactly_each_version_in_turn(place, dimensions):
    assert dimensions.read(TABLE) is None
    assert held(place) is None
    for version in (A, A, B, pets("c", 1, generated=True), A):
        dimensions.replace(TABLE, version, writing("run 7"))
        assert held(place) == rows(version)
        found = dimensions.read(TABLE)
        assert found.same_as(version)
        assert found.generated is version.generated
        recorded = found.manifest
        assert {**recorded.extra, **version.manifest.extra, "run_id": "run 7"} == recorded.extra
        assert recorded.rows == version.rows.num_rows
    expected = {"pets.parquet"} if place.name == "lake" else {"pets", "dimension_manifests"}
    assert tables(place) == expected


def test_a_reader_who_looks_all_the_time_sees_the_old_or_the_new_rows(place, dimensions):
    dimensions.replace(TABLE, A, writing())
    seen: list[bool] = []
    enough = threading.Event()

    def look() -> None:
        while not enough.is_set():  # DuckDB lets nobody else open a file in the writer's process
            found = rows(dimensions.read(TABLE)) if place.name == "duckdb" else held(place)
            seen.append(found in (rows(A), rows(B)))

    with ThreadPoolExecutor(1) as pool:
        looking = pool.submit(look)
        begun = time.monotonic()
        try:
            for version in itertools.cycle((B, A)):
                dimensions.replace(TABLE, version, writing())
                if (len(seen) >= 6 and time.monotonic() - begun > 1) or looking.done():
                    break
        finally:
            enough.set()
        looking.result()
    assert all(seen)


def test_a_writer_that_is_killed_leaves_the_old_rows_or_the_new_and_the_next_one_succeeds(place, dimensions):
    chance = random.Random(place.name)
    for _ in range(3):
        with writer_without_end(place, A, B) as writer:
            time.sleep(chance.uniform(0, 0.5))
            writer.kill()
            writer.join()
        place.settle(JANUARY)
        assert held(place) in (rows(A), rows(B))
        found = dimensions.read(TABLE)
        assert found.same_as(A) or found.same_as(B) or (place.name == "bigquery" and found.generated is None)
        dimensions.replace(TABLE, B, writing())
        assert held(place) == rows(B)
        assert dimensions.read(TABLE).same_as(B)


def test_a_column_of_a_later_version_is_added(place, dimensions):
    dimensions.replace(TABLE, A, writing())
    later = dataclasses.replace(TABLE, columns=(*TABLE.columns, Column("age", "double", "Years.")))
    found = dimensions.read(later)
    assert not found.generated
    assert found.rows["age"].null_count == found.rows.num_rows == A.rows.num_rows
    ages = A.rows.append_column("age", [[float(id_) for id_ in range(A.rows.num_rows)]])
    dimensions.replace(later, new := Dimension.of(later, ages, A.manifest), writing())
    assert dimensions.read(later).same_as(new)
    assert not found.same_as(new)


def test_several_writers_at_once_end_as_one_of_them(place, dimensions):
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda version: dimensions.replace(TABLE, version, writing()), [A, B, A, B]))
    assert held(place) in (rows(A), rows(B))


SERVERS = {
    "postgres": lambda: PostgresIOManager(url=f"postgresql://taxi:s3cret@127.0.0.1:{free_port()}/trips").dimensions,
    "bigquery": lambda: bigquery_sink(f"http://127.0.0.1:{free_port()}", retry_seconds=1.0).dimensions,
}


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("call", ["read", "replace"])
def test_a_server_that_is_away_is_one_sentence_that_names_the_table(server, call):
    away = SERVERS[server]()
    with pytest.raises(TransientError, match=r"^pets: .*run (it|the month) again") as raised:
        away.read(TABLE) if call == "read" else away.replace(TABLE, A, writing())
    assert "\n" not in str(raised.value)
    assert "s3cret" not in str(raised.value)


def make_by_hand(place: Place) -> None:
    """A table of the same name that someone else made: other columns, a row."""
    if place.name == "postgres":
        run_sql(place.where, "CREATE SCHEMA ny_taxi", "CREATE TABLE ny_taxi.pets (name text, id smallint, owner text)",
                "INSERT INTO ny_taxi.pets VALUES ('Rex', 1, 'me')")  # fmt: skip
    elif place.name == "duckdb":
        with duckdb.connect(place.where) as connection:
            connection.execute("CREATE SCHEMA ny_taxi")
            connection.execute("CREATE TABLE ny_taxi.pets AS SELECT 'Rex' AS name, 1::SMALLINT AS id, 'me' AS owner")
    else:
        place.client.create_dataset(place.dataset)
        query = f"CREATE TABLE `{PROJECT}.{place.dataset}.pets` AS SELECT 'Rex' AS name, 1 AS id, 'me' AS owner"
        place.client.query(query).result()


@pytest.mark.parametrize("name", ["postgres", "duckdb", "bigquery"])
def test_a_table_of_the_same_name_that_someone_else_made_is_refused_and_kept(place, dimensions):
    make_by_hand(place)
    assert dimensions.read(TABLE) is None
    with pytest.raises(PermanentError, match=r"pets.* exists and was not loaded by taxi_assets: rename it.*TAXI_"):
        dimensions.replace(TABLE, A, writing())
    owners = f"SELECT owner FROM {'' if place.name != 'bigquery' else PROJECT + '.' + place.dataset + '.'}pets"
    if place.name == "postgres":
        assert rows_of(place.where, owners.replace("pets", "ny_taxi.pets")) == [("me",)]
    elif place.name == "duckdb":
        with duckdb.connect(place.where) as connection:
            assert connection.execute(owners.replace("pets", "ny_taxi.pets")).fetchall() == [("me",)]
    else:
        assert [row.values() for row in place.client.query(owners).result()] == [("me",)]


@pytest.mark.parametrize("name", ["lake"])
def test_a_damaged_file_of_the_lake_is_as_good_as_none(place, dimensions):
    dimensions.replace(TABLE, A, writing())
    path = Path(dimensions.where(TABLE))
    path.write_bytes(path.read_bytes()[:1_000])
    assert dimensions.read(TABLE) is None
    dimensions.replace(TABLE, A, writing())
    assert dimensions.read(TABLE).same_as(A)


@pytest.mark.parametrize("name", ["postgres"])
def test_postgres_has_a_primary_key_and_comments(place, dimensions):
    dimensions.replace(TABLE, A, writing())
    relation = "'ny_taxi.pets'::regclass"
    key = rows_of(place.where, f"SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = {relation}")
    assert ("PRIMARY KEY (id)",) in key
    comments = f"SELECT obj_description({relation}), col_description({relation}, 2)"
    assert rows_of(place.where, comments) == [("Pets, by number.", "What it's called; empty for strays.")]


@pytest.mark.parametrize("name", ["postgres"])
def test_a_view_on_the_table_stays_and_shows_the_new_rows(place, dimensions):
    dimensions.replace(TABLE, A, writing())
    run_sql(place.where, "CREATE VIEW ny_taxi.tame_pets AS SELECT id FROM ny_taxi.pets WHERE tame")
    dimensions.replace(TABLE, B, writing())
    assert rows_of(place.where, "SELECT count(*) FROM ny_taxi.tame_pets") == [(1_000,)]


@pytest.mark.parametrize("name", ["duckdb"])
def test_duckdb_has_comments(place, dimensions):
    dimensions.replace(TABLE, A, writing())
    with duckdb.connect(place.where) as connection:
        about = connection.execute("SELECT comment FROM duckdb_tables() WHERE table_name = 'pets'").fetchall()
        column = "SELECT comment FROM duckdb_columns() WHERE table_name = 'pets' AND column_name = 'name'"
        assert about == [("Pets, by number.",)]
        assert connection.execute(column).fetchall() == [("What it's called; empty for strays.",)]


@pytest.mark.parametrize("name", ["bigquery"])
def test_bigquery_has_descriptions_and_no_partitions(place, dimensions):
    for version in (A, B):
        dimensions.replace(TABLE, version, writing())
        table = place.client.get_table(f"{PROJECT}.{place.dataset}.pets")
        assert table.description == "Pets, by number."
        assert [field.description for field in table.schema] == [column.description for column in TABLE.columns]
        assert table.time_partitioning is None


@pytest.mark.parametrize("name", ["bigquery"])
def test_a_record_in_bigquery_counts_only_for_the_rows_that_it_is_of(place, dimensions):
    """As after a writer that was killed between its load job and its record: as many rows, but others."""
    dimensions.replace(TABLE, pets("a", 10, generated=True), writing())
    query = f"UPDATE `{PROJECT}.{place.dataset}.pets` SET name = 'Rex' WHERE id = 3"
    place.client.query(query).result()
    found = dimensions.read(TABLE)
    assert found.rows["name"][3].as_py() == "Rex"
    assert found.generated is None
    dimensions.replace(TABLE, pets("a", 10), writing())
    assert dimensions.read(TABLE).generated is False
