"""Finds the taxi zones of coordinates by the zones' outlines: months to 2016-06 have coordinates instead of zone ids.

The area of all zones is divided into cells. A cell that no outline crosses lies in one zone or in none: its points need only a
look-up in an array. The others are compared with the outlines.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from taxi_assets.core.table import arrow_schema
from taxi_assets.datasets.zones import ENDS, ZONE_ID_COLUMNS

if TYPE_CHECKING:
    from shapely import Geometry

CELLS = 1024
"""Cells from west to east and from south to north: 45 meters wide."""
CROSSED, NO_ZONE = -1, np.iinfo(np.int16).max
"""What a cell is that an outline crosses, and one (or a point) outside of every zone. Else it is the zone's id."""


ZONE_ID_SCHEMA = arrow_schema(ZONE_ID_COLUMNS, required=True)
"""The columns that are added to a clean month, with their descriptions."""


class ZoneIds:
    """The zones of coordinates, by outlines in degrees; `recorded` is where the outlines come from, for manifests.

    A point on the border of several zones, or in several that overlap, is in the one with the least id.
    """

    def __init__(self, outlines: Mapping[int, Geometry], recorded: Mapping[str, str]) -> None:
        import shapely

        self.recorded = dict(recorded)
        self._ids = np.array(sorted(outlines), np.int16)
        self._outlines = np.array([outlines[id_] for id_ in sorted(outlines)])
        shapely.prepare(self._outlines)
        self._tree = shapely.STRtree(self._outlines)
        west, south, self._east, self._north = shapely.total_bounds(self._outlines)
        self._corner = np.array([west, south])
        self._size = np.array([self._east - west, self._north - south]) / CELLS
        self._cells = self._divided()

    def added(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The batch with `ZONE_ID_COLUMNS` behind its own columns."""
        for end, field in zip(ENDS, ZONE_ID_SCHEMA, strict=True):
            ids = self.of(batch.column(f"{end}_longitude"), batch.column(f"{end}_latitude"))
            batch = batch.append_column(field, ids)
        return batch

    def of(self, longitude: pa.Array, latitude: pa.Array) -> pa.Array:
        """The id of the zone of each point, int16; null outside of every zone and where a coordinate is null."""
        x, y = (each.to_numpy(zero_copy_only=False) for each in (longitude, latitude))  # null is NaN
        ids = np.full(len(x), NO_ZONE, np.int16)
        inside = (x >= self._corner[0]) & (x <= self._east) & (y >= self._corner[1]) & (y <= self._north)
        (near,) = np.nonzero(inside)
        points = np.column_stack([x[near], y[near]])
        column, row = self._cell(points).T
        found = self._cells[row, column]
        (open_,) = np.nonzero(found == CROSSED)
        found[open_] = self._compared(points[open_])
        ids[near] = found
        return pa.array(ids, mask=ids == NO_ZONE)

    def _cell(self, points: np.ndarray) -> np.ndarray:
        """Column and row of the cell of each point; what is between two points is in the cells between theirs."""
        return np.minimum((points - self._corner) / self._size, CELLS - 1).astype(np.intp)

    def _compared(self, points: np.ndarray) -> np.ndarray:
        """The zones of points, by the outlines alone."""
        import shapely

        point, zone = self._tree.query(shapely.points(points))  # of which only the bounding boxes are compared
        hit = shapely.intersects_xy(self._outlines[zone], *points[point].T)
        ids = np.full(len(points), NO_ZONE, np.int16)
        np.minimum.at(ids, point[hit], self._ids[zone[hit]])
        return ids

    def _divided(self) -> np.ndarray:
        """The cells, by row and column."""
        import shapely

        cells = np.full((CELLS, CELLS), NO_ZONE, np.int16)
        rings = shapely.get_rings(shapely.get_parts(self._outlines))
        corners, ring = shapely.get_coordinates(rings, return_index=True)
        at = self._cell(corners)
        lines = np.nonzero(ring[1:] == ring[:-1])[0]
        least, most = np.minimum(at[lines], at[lines + 1]), np.maximum(at[lines], at[lines + 1]) + 1
        for (west, south), (east, north) in np.unique(np.stack([least, most], axis=1), axis=0):
            cells[south:north, west:east] = CROSSED
        x, y = (self._corner + (np.arange(CELLS)[:, None] + 0.5) * self._size).T
        for at in reversed(range(len(self._ids))):  # the least id is set last
            (west, south), (east, north) = self._cell(shapely.bounds(self._outlines[at]).reshape(2, 2))
            part = cells[south : north + 1, west : east + 1]
            inside = shapely.intersects_xy(self._outlines[at], x[None, west : east + 1], y[south : north + 1, None])
            part[(part != CROSSED) & inside] = self._ids[at]
        return cells
