"""Outlines of zones are read from GeoJSON in degrees; any other file is refused in one line."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import shapely

from taxi_assets.core.errors import PermanentError
from taxi_assets.datasets.zones import PLACES
from taxi_assets.publisher.zone_outlines import read_outlines
from taxi_assets_tests.outlines import NAME, feature, square, write_outlines

INSIDE = square(-74, 40.7)
HERE = feature(1, INSIDE)


def test_the_publishers_outlines_are_read_and_parts_of_a_zone_are_one(tlc: Callable[[str], Path]):
    path = tlc(NAME)
    outlines = read_outlines(path)
    features = json.loads(path.read_text())["features"]
    assert list(outlines) == sorted({int(each["properties"]["locationid"]) for each in features})
    assert set(outlines) <= set(PLACES)
    assert all(each.is_valid and each.area > 0 for each in outlines.values())
    for id_ in (56, 103):  # the publisher has them more than once: Corona, and three islands
        parts = [
            shapely.from_geojson(json.dumps(f["geometry"])) for f in features if f["properties"]["locationid"] == id_
        ]
        assert len(parts) > 1
        assert outlines[id_].area >= max(part.area for part in parts)
        assert all(outlines[id_].covers(part.representative_point()) for part in parts)


@pytest.mark.parametrize("name", ["LocationID", "locationid", "location_id"])
@pytest.mark.parametrize("value", [7, "7", 7.0])
def test_the_id_is_a_number_or_its_text(name: str, value: object, tmp_path: Path):
    assert list(read_outlines(write_outlines(tmp_path / "z.json", feature(value, INSIDE, name=name)))) == [7]


def test_a_hole_is_not_in_the_zone_and_a_ring_that_crosses_itself_is_split(tmp_path: Path):
    hole = feature(1, INSIDE, square(-73.998, 40.702, 0.002)[::-1])
    bow_tie = feature(2, [[-74, 41], [-73.9, 41.1], [-73.9, 41], [-74, 41.1], [-74, 41]])
    outlines = read_outlines(write_outlines(tmp_path / "z.json", hole, bow_tie))
    assert outlines[1].area == pytest.approx(0.01**2 - 0.002**2)
    assert outlines[2].is_valid
    assert outlines[2].covers(shapely.points(-73.99, 41.05))


def test_degrees_may_be_named_as_older_files_do(tmp_path: Path):
    for name in ("urn:ogc:def:crs:OGC:1.3:CRS84", "EPSG:4326", "urn:ogc:def:crs:EPSG::4326"):
        crs = {"type": "name", "properties": {"name": name}}
        assert read_outlines(write_outlines(tmp_path / "z.json", HERE, crs=crs)).keys() == {1}


FEET = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::2263"}}


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (None, "cannot be read (No such file or directory)"),
        ("", "is no JSON"),
        ("<html>Forbidden</html>", "is no JSON"),
        (b"PK\x03\x04\xff", "is no JSON"),
        ("[" * 100_000, "is no JSON"),
        ("[]", "is no GeoJSON with features"),
        ('{"type": "FeatureCollection", "features": []}', "is no GeoJSON with features"),
        ([feature(1, INSIDE, name="zone")], "has no property LocationID in feature 1"),
        ([HERE, {"type": "Feature", "properties": None, "geometry": None}], "has no property LocationID in feature 2"),
        ([HERE, None], "has no property LocationID in feature 2"),
        ([feature(264, INSIDE)], "has LocationID 264 in feature 1, which is not 1 to 263"),
        ([feature("Bronx", INSIDE)], "has LocationID Bronx in feature 1"),
        ([feature(1.5, INSIDE)], "has LocationID 1.5 in feature 1"),
        ([{**HERE, "geometry": None}], "has no polygon in feature 1"),
        ([{**HERE, "geometry": {"type": "Point", "coordinates": [-74, 40.7]}}], "has no polygon in feature 1"),
        ([feature(1, [[-74, 40.7]])], "has no readable polygon in feature 1"),
        ([feature(1, [["a", "b"]] * 4)], "has no readable polygon in feature 1"),
        ([feature(1)], "has an empty polygon in feature 1"),
        (
            [feature(1, square(981_000, 199_000, 900))],
            "has feature 1 at 981000, 199000, which is not longitude and latitude",
        ),
        ([feature(1, square(40.7, -74))], "has feature 1 at 40.7, -74, which is not longitude and latitude"),
        ([feature(1, square(float("nan"), 40.7))], "in feature 1"),
        ({"features": [HERE], "crs": FEET}, "is in the coordinate system urn:ogc:def:crs:EPSG::2263, not in degrees"),
        ({"features": [HERE], "crs": "feet"}, "is in the coordinate system None, not in degrees"),
    ],
)
def test_another_file_is_refused_in_one_line(content, fault: str, tmp_path: Path):
    path = tmp_path / "zones.geojson"
    if isinstance(content, list):
        write_outlines(path, *content)
    elif content is not None:
        text = json.dumps(content) if isinstance(content, dict) else content
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(PermanentError) as raised:
        read_outlines(path)
    message = str(raised.value)
    assert f"The zone outlines {path} " in message
    assert fault in message
    assert message.endswith("; name the GeoJSON of the taxi zones in degrees (WGS 84) in TAXI_ZONE_OUTLINES.")
    assert "\n" not in message
    assert len(message) < 500 + len(str(path))
