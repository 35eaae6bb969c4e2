"""What the codes in trips mean, as views: payment types, rate codes, vendors, high-volume companies.

Of the TLC data dictionaries (yellow and green, HVFHV; 2025-03), but for the vendors that no dictionary has (`encodings`).
"""

from __future__ import annotations

from collections.abc import Mapping

from taxi_assets.core.table import Column
from taxi_assets.core.view import View

PAYMENTS = {0: "Flex fare", 1: "Credit card", 2: "Cash", 3: "No charge", 4: "Dispute", 5: "Unknown", 6: "Voided trip"}
RATES = {
    1: "Standard",
    2: "JFK",
    3: "Newark",
    4: "Nassau or Westchester",
    5: "Negotiated",
    6: "Group ride",
    99: "Unknown",
}
VENDORS = {
    1: "Creative Mobile Technologies (CMT)",
    2: "Curb, formerly VeriFone (VTS)",
    3: "Digital Dispatch Systems (DDS)",
    6: "Myle",
    7: "Helix",
}
COMPANIES = {"HV0002": "Juno", "HV0003": "Uber", "HV0004": "Via", "HV0005": "Lyft"}


def _view(name: str, key: Column, names: Mapping[int, str] | Mapping[str, str], description: str) -> View:
    return View(name, (key, Column("name", "string", "What it is.")), description, rows=tuple(names.items()))


CODE_VIEWS = (
    _view("payment_types", Column("payment_type", "int16"), PAYMENTS, "How a taxi trip was paid, by payment_type."),
    _view("rate_codes", Column("ratecodeid", "int16"), RATES, "The rate of a taxi trip, by ratecodeid."),
    _view("vendors", Column("vendorid", "int16"), VENDORS, "Who recorded a taxi trip, by vendorid."),
    _view(
        "hvfhs_companies",
        Column("hvfhs_license_num", "string"),
        COMPANIES,
        "High-volume companies by license number, which request_source of taxi trips has, too.",
    ),
)
"""The views, with a row for each code."""
