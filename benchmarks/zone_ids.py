"""Zone ids of a million coordinates: `TAXI_ZONE_OUTLINES=taxi_zones.geojson python -m benchmarks.bench --zone-ids`.

What is promised: a million points a second on two cores, and that ray casting, which shares no code with the package, finds the
same zone for 99.99 % of a million random points; the others are on borders.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.measure import CaseFailed

POINTS = 1_000_000
BATCH = 65_536
AREAS = {
    "all zones and around them": (-74.27, 40.48, -73.69, 40.93),
    "Manhattan south of 60th Street": (-74.02, 40.70, -73.965, 40.765),
}
"""Least longitude and latitude, greatest longitude and latitude of the random points; most taxi trips are in the second area."""


def measure(folder: Path, most: int | None, repeat: int, say: Callable[[str], None]) -> dict[str, Any]:  # noqa: ARG001
    """Each area, by one thread; the fastest of `repeat` counts. `most`: the number of points."""
    import numpy as np
    import pyarrow as pa

    from taxi_assets.lake.zone_ids import ZoneIds
    from taxi_assets.publisher.zone_outlines import read_outlines
    from taxi_assets_tests.outlines import distance_to_borders, zones_of

    if not (name := os.environ.get("TAXI_ZONE_OUTLINES")):
        raise CaseFailed("Set TAXI_ZONE_OUTLINES to the GeoJSON of the taxi zones.")
    path, points, lines = Path(name), most or POINTS, []
    outlines = read_outlines(path)
    started = time.perf_counter()
    zone_ids = ZoneIds(outlines, {})
    made = time.perf_counter() - started
    for area, (west, south, east, north) in AREAS.items():
        chance = np.random.default_rng(19)
        x, y = pa.array(chance.uniform(west, east, points)), pa.array(chance.uniform(south, north, points))
        parts = [(x.slice(at, BATCH), y.slice(at, BATCH)) for at in range(0, points, BATCH)]
        seconds = []
        for _ in range(max(repeat, 3)):
            started = time.perf_counter()
            found = pa.chunked_array([zone_ids.of(*part) for part in parts])
            seconds.append(time.perf_counter() - started)
        zones = found.combine_chunks().fill_null(0).to_numpy(zero_copy_only=False)
        (differing,) = np.nonzero(zones != zones_of(path, x.to_numpy(), y.to_numpy()))
        on_borders = [distance_to_borders(path, x[i].as_py(), y[i].as_py()) < 1e-9 for i in differing.tolist()]
        line = {
            "area": area,
            "points": points,
            "inside": int(np.count_nonzero(zones)),
            "seconds": round(min(seconds), 4),
            "differing": len(differing),
            "on_borders": sum(on_borders),
        }
        lines.append(line)
        say(str(line))
    return {**report.machine(), "seconds_to_start": round(made, 2), "lines": lines}
