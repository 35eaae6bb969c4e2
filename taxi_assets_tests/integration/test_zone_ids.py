"""Coordinates get zone ids in the complete graph: in every sink, in the view, and again when the outlines change."""

import re
from pathlib import Path

import duckdb
import psycopg
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from taxi_assets.assets.month_status import expected
from taxi_assets.core.failures import run_failures
from taxi_assets.core.manifest import Manifest
from taxi_assets.datasets.schema import YELLOW
from taxi_assets.datasets.zones import ZONE_ID_COLUMNS
from taxi_assets.settings import load_settings
from taxi_assets_tests.conftest import REPOSITORY
from taxi_assets_tests.graph import instance, load, postgres
from taxi_assets_tests.misbehaving_server import Offer, misbehaving_server
from taxi_assets_tests.outlines import feature, square, write_outlines

__all__ = ["instance", "postgres"]

HEADER = (
    "VendorID,tpep_pickup_datetime,tpep_dropoff_datetime,passenger_count,trip_distance,pickup_longitude,pickup_latitude,"
    "RateCodeID,store_and_fwd_flag,dropoff_longitude,dropoff_latitude,payment_type,fare_amount,extra,mta_tax,tip_amount,"
    "tolls_amount,improvement_surcharge,total_amount"
)
PLACES = {9: "-73.995,40.705", 4: "-73.985,40.705", None: "0,0"}
TRIPS = [(9, 4), (4, None), (None, 9)]
(BUSIEST,) = re.findall(
    r"```sql\n(SELECT zone, count.*?'2015-01-01'.*?);\n```", (REPOSITORY / "docs/data.md").read_text(), re.DOTALL
)
"""The question that docs/data.md asks of a month with coordinates."""
PAIR = "pickup_zone_id, dropoff_zone_id"
LOOKUP = "LocationID,Borough,Zone,service_zone\n" + "".join(f"{i},Queens,Place {i},Boro Zone\n" for i in range(1, 264))


@pytest.fixture
def outlines(tmp_path: Path) -> Path:
    return write_outlines(tmp_path / "zones.geojson", feature(9, square(-74, 40.7)), feature(4, square(-73.99, 40.7)))


@pytest.fixture
def source(tmp_path: Path) -> str:
    """Two months with coordinates, and one of 2021 with zone ids."""
    folder = tmp_path / "files"
    folder.mkdir()
    for month in ("2015-01", "2015-02"):
        lines = [
            f"1,{month}-05 08:0{i}:00,{month}-05 09:00:00,1,2.5,{PLACES[start]},1,N,{PLACES[end]},1,9,0,0.5,1,0,0.3,10.8"
            for i, (start, end) in enumerate(TRIPS)
        ]
        (folder / f"{month}.csv").write_text("\n".join([HEADER, *lines, ""]))
    header = (
        "VendorID,tpep_pickup_datetime,tpep_dropoff_datetime,passenger_count,trip_distance,RatecodeID,PULocationID,"
    )
    header += "DOLocationID,payment_type,fare_amount,total_amount"
    trip = "1,2021-01-05 08:00:00,2021-01-05 09:00:00,1,2.5,1,74,75,1,9,10.8"
    (folder / "2021-01.csv").write_text(f"{header}\n{trip}\n")
    return "files/{month}.csv"


def everywhere(tmp_path: Path, postgres, month: str = "2015-01") -> dict[str, list[tuple]]:
    """The pair in every sink and the zones in the view, by ordinary clients, in the order of the pickups."""
    where = f"WHERE date_trunc('month', tpep_pickup_datetime) = TIMESTAMP '{month}-01' ORDER BY tpep_pickup_datetime"
    table = f"SELECT {PAIR} FROM ny_taxi.yellow_cab_data {where}"
    view = "SELECT pulocationid, dolocationid FROM ny_taxi.trips " + where.replace("tpep_", "")
    with psycopg.connect(postgres.url()) as connection:
        found = {"postgres": connection.execute(table).fetchall(), "view": connection.execute(view).fetchall()}
    with duckdb.connect(str(tmp_path / ".taxi/warehouse.duckdb"), read_only=True) as connection:
        found |= {"duckdb": connection.execute(table).fetchall(), "duckdb view": connection.execute(view).fetchall()}
    bucket, names = tmp_path / ".taxi/bucket/nyc_taxi_data", [*PAIR.split(", "), "tpep_pickup_datetime"]
    days = ds.dataset(
        sorted((bucket / "yellow_tripdata_by_day").glob(f"*{month}-*/*.parquet")), format="parquet"
    ).to_table(names)
    for name, rows in {
        "object": pq.read_table(bucket / f"yellow_tripdata_{month}.parquet", columns=names, partitioning=None),
        "days": days,
    }.items():
        found[name] = [tuple(row.values())[:2] for row in rows.sort_by(names[2]).to_pylist()]
    return found


def columns(postgres, table: str) -> list[str]:
    query = "SELECT column_name FROM information_schema.columns WHERE table_name = %s"
    with psycopg.connect(postgres.url()) as connection:
        return [name for (name,) in connection.execute(query, [table])]


def outdated(tmp_path: Path, month: str = "2015-01") -> str | None:
    """Why the month in the lake is outdated, by the settings of now."""
    manifest = Manifest.from_footer(pq.read_metadata(tmp_path / f".taxi/lake/yellow_clean_trips/{month}.parquet"))
    assert manifest
    return expected(YELLOW, load_settings(tmp_path)).outdated(manifest)


def test_months_with_coordinates_get_zone_ids_once_outlines_are_set(
    instance, monkeypatch, source, outlines, tmp_path, postgres
):
    for month in ("2015-01", "2015-02", "2021-01"):
        assert load(instance, monkeypatch, month, source=source).success
        assert outdated(tmp_path, month) is None
    assert not {"pickup_zone_id", "outline"} & {*columns(postgres, "yellow_cab_data"), *columns(postgres, "taxi_zones")}

    (tmp_path / "lookup.csv").write_text(LOOKUP)
    monkeypatch.setenv("TAXI_ZONES", str(tmp_path / "lookup.csv"))
    monkeypatch.setenv("TAXI_ZONE_OUTLINES", outlines.name)
    assert outdated(tmp_path) == "has coordinates without zone ids, and zone outlines are set"
    assert outdated(tmp_path, "2021-01") is None
    for month in ("2015-01", "2021-01"):
        assert load(instance, monkeypatch, month).success
    assert everywhere(tmp_path, postgres) == dict.fromkeys(everywhere(tmp_path, postgres), TRIPS)
    in_tables = ("postgres", "duckdb")
    assert {everywhere(tmp_path, postgres)[name][0] for name in in_tables} == {(9, 4)}
    assert outdated(tmp_path) is None
    with psycopg.connect(postgres.url()) as connection:
        older = "SELECT count(*), count(pickup_zone_id) FROM ny_taxi.yellow_cab_data WHERE tpep_pickup_datetime > '2015-02-01'"
        assert connection.execute(older).fetchall() == [(4, 0)]  # columns that the month does not have are null
        newer = "SELECT pulocationid FROM ny_taxi.trips WHERE pickup_datetime > '2021-01-01'"
        assert connection.execute(newer).fetchall() == [(74,)]
        named = "SELECT locationid, outline FROM ny_taxi.taxi_zones WHERE outline IS NOT NULL ORDER BY 1"
        shapes = connection.execute(named).fetchall()
        busiest = connection.execute(BUSIEST).fetchall()
    assert busiest == [("Place 4", 1), ("Place 9", 1)]
    assert [id_ for id_, _ in shapes] == [4, 9]
    assert shapes[1][1].startswith("POLYGON ((-74 40.7, ")
    with duckdb.connect(str(tmp_path / ".taxi/warehouse.duckdb"), read_only=True) as connection:
        assert connection.execute(named).fetchall() == shapes
        assert connection.execute(BUSIEST).fetchall() == busiest
        ((said,),) = connection.execute(
            "SELECT comment FROM duckdb_columns() WHERE column_name = 'pickup_zone_id'"
        ).fetchall()
        assert said == ZONE_ID_COLUMNS[0].description

    write_outlines(outlines, feature(5, square(-74, 40.7)))
    assert outdated(tmp_path) == "has zone ids by other zone outlines"
    assert load(instance, monkeypatch, "2015-01").success
    assert everywhere(tmp_path, postgres)["postgres"] == [(5, None), (None, None), (None, 5)]
    monkeypatch.setenv("TAXI_ZONE_OUTLINES", "")
    assert outdated(tmp_path) == "has zone ids by outlines, which are not set any more"
    assert load(instance, monkeypatch, "2015-01").success
    assert outdated(tmp_path) is None


def test_outlines_at_an_address_are_recorded_without_secrets_and_compared_by_it(
    instance, monkeypatch, source, outlines, tmp_path, postgres
):
    with misbehaving_server() as server:
        server.offers["/zones.geojson"] = Offer(outlines.read_bytes())
        address = server.address.replace("//", "//me:s3cret@") + "/zones.geojson?token=s3cret"
        result = load(instance, monkeypatch, "2015-01", source=source, zone_outlines=address)
        assert run_failures(result) == []
    footer = pq.read_metadata(tmp_path / ".taxi/lake/yellow_clean_trips/2015-01.parquet").metadata[b"taxi_assets"]
    assert b"s3cret" not in footer
    assert b"/zones.geojson?***" in footer
    assert outdated(tmp_path) is None  # the server is not there any more
    assert everywhere(tmp_path, postgres)["duckdb"] == TRIPS
    monkeypatch.setenv("TAXI_ZONE_OUTLINES", address.replace("zones", "others"))
    assert outdated(tmp_path) == "has zone ids by other zone outlines"


def test_outlines_that_cannot_be_used_fail_months_with_coordinates_in_one_line(instance, monkeypatch, source, tmp_path):
    write_outlines(tmp_path / "feet.json", feature(9, square(981_000, 199_000, 900)))
    for name, fault in (("none.json", "cannot be read"), ("feet.json", "which is not longitude and latitude")):
        result = load(instance, monkeypatch, "2015-01", source=source, zone_outlines=name)
        (failure,) = run_failures(result)
        assert fault in failure
        assert failure.startswith("clean_trips: ")
        assert "\n" not in failure
        assert "TAXI_ZONE_OUTLINES" in failure
    assert load(instance, monkeypatch, "2021-01", source=source, zone_outlines="none.json").success
