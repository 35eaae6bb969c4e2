"""Reads and validates the outlines of the taxi zones: GeoJSON in degrees (WGS 84), such as New York's open data portal exports.

`lookups` fetches the file; `lake.zone_ids` finds the zones of coordinates by the outlines.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taxi_assets.core.errors import PermanentError
from taxi_assets.datasets.zones import PLACES

if TYPE_CHECKING:
    from shapely import Geometry

NEW_YORK = (-75.0, 40.0, -73.0, 42.0)
"""Degrees that every outline is within, west, south, east and north; feet, meters and exchanged coordinates are not."""

WGS84 = re.compile(r".*(CRS84|EPSG:+4326)", re.IGNORECASE)
"""Names of degrees in the member `crs` of older GeoJSON; without it coordinates are in degrees (RFC 7946)."""


def read_outlines(path: Path) -> dict[int, Geometry]:
    """Read the outline of each zone, in the order of the ids; features of one id, as the publisher has 56 and 103, are united.

    Raises:
        PermanentError: the file is no GeoJSON with outlines of taxi zones in degrees.
    """
    import shapely

    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise _unusable(path, f"cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError):
        raise _unusable(path, "is no JSON") from None
    features = content.get("features") if isinstance(content, dict) else None
    if not isinstance(features, list) or not features:
        raise _unusable(path, "is no GeoJSON with features")
    system = _get(_get(_get(content, "crs"), "properties"), "name")
    if _get(content, "crs") is not None and not WGS84.fullmatch(str(system)):
        raise _unusable(path, f"is in the coordinate system {str(system)[:60]}, not in degrees")
    parts: dict[int, list[Geometry]] = {}
    for number, feature in enumerate(features, 1):
        parts.setdefault(_zone(path, number, feature), []).append(_outline(path, number, feature))
    return {id_: each[0] if len(each) == 1 else shapely.union_all(each) for id_, each in sorted(parts.items())}


def _get(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _zone(path: Path, number: int, feature: Any) -> int:
    """The zone's id, a number or its text, in `locationid`, `location_id` or `LocationID`."""
    properties = _get(feature, "properties")
    named = {name.lower().replace("_", ""): value for name, value in (properties or {}).items()}
    if "locationid" not in named:
        raise _unusable(path, f"has no property LocationID in feature {number}")
    whole = re.fullmatch(r"(\d{1,3})(\.0*)?", str(named["locationid"]))
    if not whole or int(whole[1]) not in PLACES:
        found = str(named["locationid"])[:30]
        raise _unusable(path, f"has LocationID {found} in feature {number}, which is not 1 to {PLACES[-1]}")
    return int(whole[1])


def _outline(path: Path, number: int, feature: Any) -> Geometry:
    """The feature's area, valid: a ring that crosses itself is split."""
    import shapely

    geometry = _get(feature, "geometry")
    if _get(geometry, "type") not in ("Polygon", "MultiPolygon"):
        raise _unusable(path, f"has no polygon in feature {number}")
    try:
        outline = shapely.force_2d(shapely.from_geojson(json.dumps(geometry)))
    except (shapely.GEOSException, ValueError, TypeError):
        raise _unusable(path, f"has no readable polygon in feature {number}") from None
    if outline.is_empty:
        raise _unusable(path, f"has an empty polygon in feature {number}")
    west, south, east, north = outline.bounds
    if not (west >= NEW_YORK[0] and south >= NEW_YORK[1] and east <= NEW_YORK[2] and north <= NEW_YORK[3]):
        raise _unusable(
            path,
            f"has feature {number} at {west:g}, {south:g}, which is not longitude and latitude of a place in New York",
        )
    return outline if outline.is_valid else shapely.make_valid(outline, method="structure", keep_collapsed=False)


def _unusable(path: Path, fault: str) -> PermanentError:
    return PermanentError(
        f"The zone outlines {path} {fault[:200]}; name the GeoJSON of the taxi zones in degrees (WGS 84) in TAXI_ZONE_OUTLINES."
    )
