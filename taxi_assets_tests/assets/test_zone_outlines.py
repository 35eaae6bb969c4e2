"""Which months get zone ids, and when they are outdated."""

import hashlib

import pytest

from taxi_assets.assets.zone_outlines import has_coordinates, other_outlines
from taxi_assets.core.errors import PermanentError
from taxi_assets.datasets.eras import ERAS
from taxi_assets.datasets.schema import KINDS
from taxi_assets.publisher.columns import canonical_name
from taxi_assets.settings import load_settings

COORDINATES = {"columns": {"known": ["pickup_longitude", "pickup_latitude", "dropoff_longitude", "dropoff_latitude"]}}
ADDRESS = "https://me:s3cret@example.org/zones.geojson?token=s3cret"


def test_months_with_coordinates_are_known_by_the_columns_of_their_files():
    with_coordinates = {
        (era.kind, era.publication, era.first)
        for era in ERAS
        if has_coordinates({"columns": {"known": [canonical_name(name, KINDS[era.kind]) for name in era.header]}})
    }
    expected = {
        (era.kind, era.publication, era.first)
        for era in ERAS
        if (era.publication == "csv" and era.kind in ("yellow", "green") and (era.last or "9") <= "2016-06")
        or (era.publication == "parquet" and era.kind == "yellow" and (era.last or "9") <= "2010-12")
    }
    assert with_coordinates == expected
    assert len(expected) == 13
    assert not has_coordinates({})  # as an older version recorded a month


@pytest.mark.parametrize(
    ("setting", "recorded", "differ"),
    [
        (None, {}, None),
        (None, {"zone_outlines": None}, None),
        (None, {"zone_outlines": "ab"}, "which are not set any more"),
        ("zones.geojson", {"zone_outlines": None}, "has coordinates without zone ids"),
        ("zones.geojson", {}, "has coordinates without zone ids"),
        ("zones.geojson", {"zone_outlines": hashlib.sha256(b"{}").hexdigest()}, None),
        ("zones.geojson", {"zone_outlines": "ab"}, "by other zone outlines"),
        (ADDRESS, {"zone_outlines": "ab", "zone_outlines_location": "https://***@example.org/zones.geojson?***"}, None),
        (ADDRESS, {"zone_outlines": "ab", "zone_outlines_location": "/zones.geojson"}, "by other zone outlines"),
    ],
)
def test_a_month_with_other_outlines_than_the_setting_names_is_outdated(setting, recorded, differ, tmp_path):
    (tmp_path / "zones.geojson").write_bytes(b"{}")
    compare = other_outlines(load_settings(tmp_path, zone_outlines=setting))
    found = compare({**COORDINATES, **recorded})
    assert (differ in found) if differ else found is None
    if setting:
        assert compare({"columns": {"known": []}, "zone_outlines": None}) is None


def test_outlines_that_are_not_there_are_one_line(tmp_path):
    compare = other_outlines(load_settings(tmp_path, zone_outlines="none.geojson"))
    with pytest.raises(
        PermanentError, match=r"^zone outlines: \S+/none.geojson cannot be read .*; check TAXI_ZONE_OUTLINES.$"
    ):
        compare({**COORDINATES, "zone_outlines": "ab"})
