"""Points get the zone in which they are, as ray casting finds it; clean months with coordinates get the pair of columns."""

import datetime as dt
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from taxi_assets.core.errors import PermanentError
from taxi_assets.core.month import Month
from taxi_assets.core.staging import stage
from taxi_assets.datasets.rules import CleaningRules
from taxi_assets.datasets.schema import GREEN, YELLOW, TaxiKind
from taxi_assets.lake.cleaning import clean_month
from taxi_assets.lake.raw_month import loaded_columns
from taxi_assets.lake.zone_ids import ZoneIds
from taxi_assets.publisher.reader import open_trips
from taxi_assets.publisher.zone_outlines import read_outlines
from taxi_assets_tests.outlines import NAME, distance_to_borders, feature, square, write_outlines, zones_of

POINTS = 100_000
RECORDED = {"zone_outlines": "ab", "zone_outlines_location": "zones.geojson"}


def zone_ids(path: Path) -> ZoneIds:
    return ZoneIds(read_outlines(path), RECORDED)


def ids(zones: ZoneIds, *points: tuple[float | None, float | None]) -> list[int | None]:
    x, y = (pa.array([point[i] for point in points], pa.float64()) for i in (0, 1))
    return zones.of(x, y).to_pylist()


def require_agreement(path: Path, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Compare with ray casting: 99.99 % of the points agree, and the others are on borders. Returns the zones."""
    found = zone_ids(path).of(pa.array(x), pa.array(y))
    assert found.type == pa.int16()
    zones = found.fill_null(0).to_numpy(zero_copy_only=False)
    (differing,) = np.nonzero(zones != zones_of(path, x, y))
    assert len(differing) <= 0.0001 * len(x)
    assert all(distance_to_borders(path, x[i], y[i]) < 1e-9 for i in differing)
    return zones


def test_random_points_are_in_the_publishers_zones_as_ray_casting_finds_them(tlc: Callable[[str], Path]):
    chance = np.random.default_rng(19)
    x, y = chance.uniform(-74.27, -73.69, POINTS), chance.uniform(40.48, 40.93, POINTS)
    zones = require_agreement(tlc(NAME), x, y)
    assert len(set(zones)) > 250
    assert 0.3 < np.count_nonzero(zones) / POINTS < 0.7


def test_random_points_are_in_generated_zones_as_ray_casting_finds_them(tmp_path: Path):
    """Stars with long edges and holes, which overlap."""
    chance, features = np.random.default_rng(20), []
    for id_ in range(1, 41):
        angles, middle = np.sort(chance.uniform(0, 2 * np.pi, 30)), chance.uniform([-74.2, 40.5], [-73.8, 40.9])
        star = middle + (chance.uniform(0.01, 0.06, 30) * np.array([np.cos(angles), np.sin(angles)])).T
        ring = [*star.tolist(), star[0].tolist()]
        features.append(feature(id_, ring, square(*(middle - 0.001), 0.002)[::-1]))
    path = write_outlines(tmp_path / "stars.json", *features)
    x, y = chance.uniform(-74.27, -73.69, POINTS), chance.uniform(40.44, 40.96, POINTS)
    assert len(set(require_agreement(path, x, y))) > 30


def test_corners_edges_overlaps_and_holes_have_one_answer(tmp_path: Path):
    left, right = feature(9, square(-74, 40.7)), feature(4, square(-73.99, 40.7))
    ring = feature(7, square(-74, 41, 0.1), square(-73.97, 41.03, 0.04)[::-1])
    over = feature(8, square(-74, 41, 0.01))
    zones = zone_ids(write_outlines(tmp_path / "z.json", left, right, ring, over))
    # the last is on both borders
    assert ids(zones, (-73.995, 40.705), (-73.985, 40.705), (-73.99, 40.705)) == [9, 4, 4]
    assert ids(zones, (-74, 40.7), (-73.98, 40.71)) == [9, 4]  # corners
    # in 7 and 8; the hole; its edge
    assert ids(zones, (-73.995, 41.005), (-73.95, 41.05), (-73.97, 41.05)) == [7, None, 7]
    assert ids(zones) == []


def test_points_outside_of_every_zone_have_none(tmp_path: Path):
    zones = zone_ids(write_outlines(tmp_path / "z.json", feature(9, square(-74, 40.7))))
    far = [
        (0.0, 0.0),
        (-74.1, 40.705),
        (-73.995, 40.8),
        (1e308, -1e308),
        (float("inf"), 40.705),
        (-73.995, float("nan")),
    ]
    assert ids(zones, *far, (None, 40.705), (-73.995, None), (None, None), (-73.995, 40.705)) == [*[None] * 9, 9]


def cleaned(folder: Path, zones: ZoneIds | None) -> tuple[pa.Table, pa.Table, dict]:
    """A month of three trips, of which the second has no passenger."""
    moment = dt.datetime(2015, 1, 5, 8)
    trip = {
        "tpep_pickup_datetime": moment, "tpep_dropoff_datetime": moment, "trip_distance": 1.0, "fare_amount": 5.0,
        "total_amount": 6.0, "pickup_longitude": -73.995, "pickup_latitude": 40.705, "dropoff_longitude": 0.0,
        "dropoff_latitude": 0.0,
    }  # fmt: skip
    rows = [{**trip, "passenger_count": count} for count in (1, 0, 2)]
    with stage(folder, Month(2015, 1), YELLOW.raw_schema, YELLOW.raw_table, "raw") as writer:
        writer.write(pa.RecordBatch.from_pylist(rows, schema=YELLOW.raw_schema))
        raw = writer.close()
    clean, rejected = clean_month(raw, YELLOW, CleaningRules(), folder, zone_ids=zones)
    return pq.read_table(clean.path), pq.read_table(rejected.path), clean.manifest.extra


def test_clean_trips_get_the_pair_and_keep_what_was_published(tmp_path: Path):
    zones = zone_ids(write_outlines(tmp_path / "z.json", feature(9, square(-74, 40.7))))
    clean, rejected, extra = cleaned(tmp_path, zones)
    plain, same, without = cleaned(tmp_path, None)
    assert clean.column_names == [*YELLOW.schema.names, "pickup_zone_id", "dropoff_zone_id"]
    assert clean["pickup_zone_id"].to_pylist() == [9, 9]
    assert clean["dropoff_zone_id"].to_pylist() == [None, None]
    assert b"TAXI_ZONE_OUTLINES" in clean.schema.field("pickup_zone_id").metadata[b"description"]
    assert clean.select(YELLOW.schema.names).equals(plain)
    assert plain.column_names == YELLOW.schema.names
    assert rejected.equals(same)
    assert {name: extra[name] for name in RECORDED} == RECORDED
    assert without["zone_outlines"] is None


def test_a_published_column_of_the_same_name_gets_another_one():
    new = {"pickup_zone_id": {"published": "pickup_zone_id", "type": "int64"}}
    schema = pa.schema([*YELLOW.raw_schema, pa.field("pickup_zone_id", pa.int64())])
    loaded = loaded_columns(YELLOW, {"columns": {"new": new}}, schema, "add")
    assert loaded.names() == {"pickup_zone_id": "pickup_zone_id_2"}


@pytest.mark.parametrize(
    ("kind", "name", "month"),
    [
        (YELLOW, "yellow_csv_samples/yellow_tripdata_2009-01_first1000_from_parquet.csv", "2009-01"),
        (YELLOW, "yellow_csv_samples/yellow_tripdata_2016-03_random_indexed.csv", "2016-03"),
        (GREEN, "green_csv_heads/green_tripdata_2015-05.csv", "2015-05"),
    ],
)
def test_real_trips_are_where_ray_casting_finds_them(kind: TaxiKind, name: str, month: str, tlc: Callable[[str], Path]):
    trips = pa.Table.from_batches(list(open_trips(tlc(name), kind, Month.parse(month)).batches))
    for end in ("pickup", "dropoff"):
        x, y = (trips[f"{end}_{axis}"].drop_null().to_numpy() for axis in ("longitude", "latitude"))
        zones = require_agreement(tlc(NAME), x, y)
        assert np.count_nonzero(zones) > 0.9 * len(zones)


def test_a_file_of_the_publisher_in_feet_is_refused(tlc: Callable[[str], Path]):
    with pytest.raises(PermanentError, match="is no JSON"):
        read_outlines(tlc("zones/taxi_zones.shp"))
