"""The publisher's taxi zones: its lookup file, checked, as an Arrow table; and generated ones for the generated source.

What a zone id means, and nothing else: fetching the file is `source`'s work, publishing the table an asset's. Trips
keep whatever zone id they carry, known here or not.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from taxi_assets.errors import PermanentError

ZONE_SCHEMA = pa.schema(
    pa.field(name, type_, nullable=name != "locationid", metadata={"description": description})
    for name, type_, description in (
        ("locationid", pa.int16(), "Taxi zone, 1 to 265, as in pulocationid and dolocationid."),
        ("borough", pa.string(), "Borough of New York, or EWR for Newark Airport; empty for 264 and 265."),
        ("zone", pa.string(), "Name of the zone; empty for 264 (unknown)."),
        ("service_zone", pa.string(), "Yellow Zone, Boro Zone, Airports or EWR; empty for 264 and 265."),
    )
)
"""The lookup's columns, in the spelling of every sink: lower case."""

HEADER = ["LocationID", "Borough", "Zone", "service_zone"]

LAST_PLACE, OUTSIDE_ID = 263, 265
PLACES, IDS = range(1, LAST_PLACE + 1), range(1, OUTSIDE_ID + 1)
"""Zones 1 to 263 are places; 264 is unknown and 265 is outside New York (TLC lookup, both texts)."""

OUTSIDE = "Outside of NYC"
UNKNOWN_WORDS = ("", "N/A", "NA", "NV", "Unknown")
"""The publisher's ways to say that there is no name. They changed over the years (264 `Unknown, NV` became `Unknown,
N/A`, 265 `Unknown, NA` became `N/A, Outside of NYC`), so both texts are read alike: as empty, and 265 is always
`OUTSIDE`."""

_MANHATTAN = (
    4, 12, 13, 24, 41, 42, 43, 45, 48, 50, 68, 74, 75, 79, 87, 88, 90, 100, 103, 104, 105, 107, 113, 114, 116, 120, 125,
    127, 128, 137, 140, 141, 142, 143, 144, 148, 151, 152, 153, 158, 161, 162, 163, 164, 166, 170, 186, 194, 202, 209,
    211, 224, 229, 230, 231, 232, 233, 234, 236, 237, 238, 239, 243, 244, 246, 249, 261, 262, 263,
)  # fmt: skip
_BRONX = (
    3, 18, 20, 31, 32, 46, 47, 51, 58, 59, 60, 69, 78, 81, 94, 119, 126, 136, 147, 159, 167, 168, 169, 174, 182, 183,
    184, 185, 199, 200, 208, 212, 213, 220, 235, 240, 241, 242, 247, 248, 250, 254, 259,
)  # fmt: skip
_BROOKLYN = (
    11, 14, 17, 21, 22, 25, 26, 29, 33, 34, 35, 36, 37, 39, 40, 49, 52, 54, 55, 61, 62, 63, 65, 66, 67, 71, 72, 76, 77,
    80, 85, 89, 91, 97, 106, 108, 111, 112, 123, 133, 149, 150, 154, 155, 165, 177, 178, 181, 188, 189, 190, 195, 210,
    217, 222, 225, 227, 228, 255, 256, 257,
)  # fmt: skip
_STATEN_ISLAND = (5, 6, 23, 44, 84, 99, 109, 110, 115, 118, 156, 172, 176, 187, 204, 206, 214, 221, 245, 251)
_UPPER_MANHATTAN = (41, 42, 74, 75, 116, 120, 127, 128, 152, 153, 166, 202, 243, 244)

BOROUGHS: dict[str, frozenset[int]] = {
    "EWR": frozenset({1}),
    "Manhattan": frozenset(_MANHATTAN),
    "Bronx": frozenset(_BRONX),
    "Brooklyn": frozenset(_BROOKLYN),
    "Staten Island": frozenset(_STATEN_ISLAND),
    "Queens": frozenset(PLACES).difference((1,), _MANHATTAN, _BRONX, _BROOKLYN, _STATEN_ISLAND),
}
"""The zones of each borough (TLC lookup); generated trips and generated zones are laid out by it."""

YELLOW_ZONE = frozenset(_MANHATTAN).difference(_UPPER_MANHATTAN)
"""Manhattan where only yellow taxis may take a street hail (service_zone `Yellow Zone` of the TLC lookup)."""

LAGUARDIA, JFK, NEWARK = 138, 132, 1


def read_zones(path: Path) -> pa.Table:
    """Read the publisher's lookup file, either text of it, into a table of `ZONE_SCHEMA` ordered by id.

    Raises:
        PermanentError: the file is not the lookup: it has another header, an id twice or outside 1 to 265, or lacks one
            of 1 to 263.
    """
    try:
        table = pa.csv.read_csv(
            path,
            convert_options=pa.csv.ConvertOptions(
                column_types=dict.fromkeys(HEADER[1:], pa.string()) | {"LocationID": pa.int16()},
                null_values=list(UNKNOWN_WORDS),
                strings_can_be_null=True,
            ),
        )
    except FileNotFoundError:
        raise PermanentError(f"The taxi zone lookup {path} is not there; fetch it again.") from None
    except (OSError, pa.ArrowException) as error:
        raise _unusable(path, f"cannot be read as CSV ({str(error).splitlines()[0]})") from None
    if table.column_names != HEADER:
        raise _unusable(path, f"has the header {_excerpt(table.column_names)} instead of {','.join(HEADER)}")
    ids = table["LocationID"].to_pylist()
    count = Counter(ids)
    strange = [id_ for id_ in count if id_ not in IDS]
    for fault, found in (
        ("ids outside 1 to 265", strange),
        ("ids twice", [id_ for id_ in count if count[id_] > 1]),
        ("no row for ids", [id_ for id_ in PLACES if id_ not in count]),
    ):
        if found:
            raise _unusable(path, f"has {fault}: {_excerpt(['empty' if id_ is None else id_ for id_ in found])}")
    table = table.take(pc.sort_indices(table["LocationID"])).combine_chunks()
    unnamed = pc.and_(pc.equal(table["LocationID"], OUTSIDE_ID), pc.is_null(table["Zone"]))
    names = pc.if_else(unnamed, OUTSIDE, table["Zone"])
    return pa.table([table["LocationID"], table["Borough"], names, table["service_zone"]], schema=ZONE_SCHEMA)


def sample_zones() -> pa.Table:
    """Generated zones in `ZONE_SCHEMA`: the publisher's ids and boroughs, and names that say they are generated."""
    borough = {id_: name for name, ids in BOROUGHS.items() for id_ in ids}
    zone = {id_: f"Zone {id_} (sample)" for id_ in PLACES} | {OUTSIDE_ID: f"{OUTSIDE} (sample)"}
    service = dict.fromkeys(PLACES, "Boro Zone") | dict.fromkeys(YELLOW_ZONE, "Yellow Zone")
    service |= {LAGUARDIA: "Airports", JFK: "Airports", NEWARK: "EWR"}
    columns = [list(IDS), *([of.get(id_) for id_ in IDS] for of in (borough, zone, service))]
    return pa.table(columns, schema=ZONE_SCHEMA)


def _excerpt(values: list) -> str:
    """At most five values, each short: a wrong file may hold anything."""
    return ",".join(str(value)[:30] for value in values[:5]) + (",..." if len(values) > 5 else "")


def _unusable(path: Path, fault: str) -> PermanentError:
    return PermanentError(f"The taxi zone lookup {path} {fault}; fetch the publisher's taxi_zone_lookup.csv again.")
