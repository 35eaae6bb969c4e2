"""Reads and validates the taxi zone lookup file, and generates a lookup for the generated source.

`source` and `lookups` fetch the file; the meaning of zone ids is in `datasets.zones`.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from taxi_assets.core.errors import PermanentError
from taxi_assets.core.folders import replacing
from taxi_assets.datasets import zones

ZONE_SCHEMA = zones.ZONES.schema

HEADER = ["LocationID", "Borough", "Zone", "service_zone"]

UNKNOWN_WORDS = ("", "N/A", "NA", "NV", "Unknown")
"""The publisher's values for a missing name. They changed over the years (264 `Unknown, NV` became `Unknown, N/A`,
265 `Unknown, NA` became `N/A, Outside of NYC`): all are read as null, and 265 is always `OUTSIDE`."""


def read_zones(path: Path) -> pa.Table:
    """Read the publisher's lookup file, in either form, into a table of `ZONE_SCHEMA` ordered by id.

    Raises:
        PermanentError: the file is not the lookup: it has another header, duplicate ids, ids outside 1 to 265, or no row
            for one of 1 to 263.
    """
    types = dict(zip(HEADER, ZONE_SCHEMA.types, strict=True))
    options = pa.csv.ConvertOptions(column_types=types, null_values=list(UNKNOWN_WORDS), strings_can_be_null=True)
    try:
        table = pa.csv.read_csv(path, convert_options=options)
    except FileNotFoundError:
        raise PermanentError(f"The taxi zone lookup {path} is not there; fetch it again.") from None
    except (OSError, pa.ArrowException) as error:
        raise _unusable(path, f"cannot be read as CSV ({str(error).splitlines()[0]})") from None
    if table.column_names != HEADER:
        raise _unusable(path, f"has the header {_excerpt(table.column_names)} instead of {','.join(HEADER)}")
    count = Counter(table["LocationID"].to_pylist())
    for fault, wrong in (
        ("ids outside 1 to 265", [id_ for id_ in count if id_ not in zones.IDS]),
        ("ids twice", [id_ for id_ in count if count[id_] > 1]),
        ("no row for ids", [id_ for id_ in zones.PLACES if id_ not in count]),
    ):
        if wrong:
            raise _unusable(path, f"has {fault}: {_excerpt(['empty' if id_ is None else id_ for id_ in wrong])}")
    table = table.sort_by("LocationID")
    unnamed = pc.and_(pc.equal(table["LocationID"], zones.OUTSIDE_ID), pc.is_null(table["Zone"]))
    names = pc.if_else(unnamed, zones.OUTSIDE, table["Zone"])
    return pa.table([table["LocationID"], table["Borough"], names, table["service_zone"]], schema=ZONE_SCHEMA)


def sample_zones() -> pa.Table:
    """Return generated zones in `ZONE_SCHEMA`: the publisher's ids and boroughs, and names marked as samples."""
    borough = {id_: name for name, ids in zones.BOROUGHS.items() for id_ in ids}
    zone = {id_: f"Zone {id_} (sample)" for id_ in zones.PLACES} | {zones.OUTSIDE_ID: f"{zones.OUTSIDE} (sample)"}
    service = dict.fromkeys(zones.PLACES, "Boro Zone") | dict.fromkeys(zones.YELLOW_ZONE, "Yellow Zone")
    service |= {zones.LAGUARDIA: "Airports", zones.JFK: "Airports", zones.NEWARK: "EWR"}
    columns = [list(zones.IDS), *([of.get(id_) for id_ in zones.IDS] for of in (borough, zone, service))]
    return pa.table(columns, schema=ZONE_SCHEMA)


def write_sample_zones(path: Path) -> None:
    """Write them as the publisher does, as CSV; the file is replaced atomically."""
    with replacing(path) as staged:
        pyarrow.csv.write_csv(sample_zones().rename_columns(HEADER), staged)


def _excerpt(values: list) -> str:
    """Return the first five values, each truncated: a wrong file may contain anything."""
    return ",".join(str(value)[:30] for value in values[:5]) + (",..." if len(values) > 5 else "")


def _unusable(path: Path, fault: str) -> PermanentError:
    return PermanentError(f"The taxi zone lookup {path} {fault}; fetch the publisher's taxi_zone_lookup.csv again.")
