"""The publisher's taxi zones: the meaning of zone ids, and the columns of the lookup.

`zone_lookup` reads the publisher's lookup file. Trips keep their zone id, known or not.
"""

from __future__ import annotations

from taxi_assets.core.table import Column, Table

ZONES = Table(
    "taxi_zones",
    (
        Column("locationid", "int16", "Taxi zone, 1 to 265, as in pulocationid and dolocationid.", required=True),
        Column("borough", "string", "Borough of New York, or EWR for Newark Airport; empty for 264 and 265."),
        Column("zone", "string", "Name of the zone; empty for 264 (unknown)."),
        Column("service_zone", "string", "Yellow Zone, Boro Zone, Airports or EWR; empty for 264 and 265."),
    ),
    key=("locationid",),
    description="Borough and name of each taxi zone, by the id in pulocationid and dolocationid of the trips.",
)
"""The lookup as a table."""

OUTLINE = Column("outline", "string", "Outline of the zone, WKT in degrees (WGS 84); empty for 264 and 265.")
"""A column of the lookup, if outlines are there (TAXI_ZONE_OUTLINES)."""

ENDS = ("pickup", "dropoff")
ZONE_ID_COLUMNS = tuple(
    Column(
        f"{end}_zone_id",
        "int16",
        f"Taxi zone of {end}_longitude and {end}_latitude, by the outlines in TAXI_ZONE_OUTLINES; empty outside of every zone.",
    )
    for end in ENDS
)
"""Added to clean trips with published coordinates, if outlines are there."""

LAST_PLACE, OUTSIDE_ID = 263, 265
PLACES, IDS = range(1, LAST_PLACE + 1), range(1, OUTSIDE_ID + 1)
"""Zones 1 to 263 are places; 264 is unknown and 265 is outside New York (TLC lookup, both texts)."""

OUTSIDE = "Outside of NYC"

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
"""Manhattan where only yellow taxis may accept a street hail (service_zone `Yellow Zone` of the TLC lookup)."""

LAGUARDIA, JFK, NEWARK = 138, 132, 1
