"""The bases of for-hire vehicles: the meaning of base numbers in FHV and high-volume trips."""

from __future__ import annotations

from taxi_assets.core.table import Column, Table

BASES = Table(
    "fhv_bases",
    (
        Column("base_number", "string", "License number, as in dispatching_base_num and the like.", required=True),
        Column("base_name", "string", "Name of the license's owner."),
        Column("dba", "string", "Name it trades under (doing business as)."),
        Column("dba_category", "string", "Group of companies that it belongs to, where the lookup has one."),
    ),
    key=("base_number",),
    description="Bases of for-hire vehicles by license number: those of the lookup in TAXI_FHV_BASES.",
)
"""The lookup as a table."""

HEADERS = {
    "base_number": ("base_number", "base_license_number", "license_number"),
    "base_name": ("base_name", "name_of_base"),
    "dba": ("dba", "doing_business_as"),
    "dba_category": ("dba_category",),
}
"""Names of each column in lookups that people hold, in lower case with underscores: the TLC's base aggregate report, its list of
active bases, and the list of toddwschneider/nyc-taxi-data. The first two must be there."""
