"""Outlines of zones for tests: small GeoJSON files, and the zones of points by ray casting, without the package's code.

`NAME` is the publisher's file among the published ones (`conftest.tlc`).
"""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

NAME = "zones/taxi_zones_wgs84.geojson"


def square(west: float, south: float, size: float = 0.01) -> list[list[float]]:
    """A closed ring."""
    east, north = west + size, south + size
    return [[west, south], [east, south], [east, north], [west, north], [west, south]]


def feature(id_: Any, *rings: list[list[float]], name: str = "LocationID") -> dict[str, Any]:
    """A zone with an outer ring and holes."""
    return {"type": "Feature", "properties": {name: id_}, "geometry": {"type": "Polygon", "coordinates": list(rings)}}


def write_outlines(path: Path, *features: dict[str, Any], **more: Any) -> Path:
    """A GeoJSON file."""
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features, **more}))
    return path


def zones_of(path: Path, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The least id of the zones in which each point is, 0 outside of all.

    A point is in a zone if a ray from it to the east crosses the zone's rings, holes among them, an odd number of times.
    """
    found = np.zeros(len(x), int)
    for id_, rings in _rings(path):
        corners = np.concatenate(rings)
        (west, south), (east, north) = corners.min(axis=0), corners.max(axis=0)
        (near,) = np.nonzero((x >= west) & (x <= east) & (y >= south) & (y <= north))
        odd = np.zeros(len(near), bool)
        for ring in rings:
            for (x1, y1), (x2, y2) in pairwise(ring):
                if y1 != y2:
                    spans = (y1 > y[near]) != (y2 > y[near])
                    odd ^= spans & (x[near] < (x2 - x1) * (y[near] - y1) / (y2 - y1) + x1)
        inside = near[odd]
        found[inside] = np.where(found[inside] == 0, id_, np.minimum(found[inside], id_))
    return found


def distance_to_borders(path: Path, x: float, y: float) -> float:
    """The distance of a point to the nearest border of any zone, in degrees."""
    point, least = np.array([x, y]), np.inf
    for _, rings in _rings(path):
        for ring in rings:
            start, step = ring[:-1], np.diff(ring, axis=0)
            along = ((point - start) * step).sum(axis=1) / np.maximum((step**2).sum(axis=1), 1e-300)
            nearest = start + np.clip(along, 0, 1)[:, None] * step
            least = min(least, np.hypot(*(nearest - point).T).min())
    return least


def _rings(path: Path) -> list[tuple[int, list[np.ndarray]]]:
    """The rings of each polygon with its zone's id."""
    polygons = []
    for each in json.loads(path.read_text())["features"]:
        properties, geometry = each["properties"], each["geometry"]
        id_ = int(properties.get("locationid") or properties["LocationID"])
        parts = [geometry["coordinates"]] if geometry["type"] == "Polygon" else geometry["coordinates"]
        polygons += [(id_, [np.array(ring) for ring in part]) for part in parts]
    return polygons
