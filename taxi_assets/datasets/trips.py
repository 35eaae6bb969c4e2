"""The trips of all datasets under common names: what they have in common, and the expression of each in each dataset."""

from __future__ import annotations

from taxi_assets.core.table import TIMESTAMP, Column
from taxi_assets.core.view import View
from taxi_assets.datasets.schema import KINDS, TaxiKind
from taxi_assets.datasets.zones import ZONE_ID_COLUMNS

TRIP_COLUMNS = (
    Column("dataset", "string", "yellow, green, fhv or fhvhv."),
    Column("pickup_datetime", TIMESTAMP, "When the trip began, New York wall clock."),
    Column("dropoff_datetime", TIMESTAMP, "When the trip ended, New York wall clock."),
    Column(
        "pulocationid",
        "int16",
        "Taxi zone of the pickup; where coordinates were published, that of the added column, if there is one.",
    ),
    Column("dolocationid", "int16", "Taxi zone of the drop-off, likewise."),
    Column("distance", "double", "Miles."),
    Column("passengers", "int16", "Passengers, entered by the driver."),
    Column("fare", "double", "Fare before tolls, tips, taxes and fees, US dollars."),
    Column("tip", "double", "Tip, US dollars; of taxis, by card."),
    Column("tolls", "double", "Tolls, US dollars."),
    Column(
        "total",
        "double",
        "Charged to the passenger, cash tips apart, US dollars; of high-volume trips, the sum of its parts.",
    ),
    Column("driver_pay", "double", "Paid to the driver, without tolls and tips, US dollars."),
    Column("company", "string", "License number: of the company (fhvhv), or of the base that sent the vehicle (fhv)."),
)
"""The columns of the view `trips`, in order."""


def trips() -> View:
    """The view over the tables of all datasets."""
    return View(
        "trips",
        TRIP_COLUMNS,
        "The trips of all datasets that are loaded, under common names; null where a dataset has no such thing.",
        parts=tuple((kind.table, _values(kind)) for kind in KINDS.values()),
    )


def _values(kind: TaxiKind) -> dict[str, str | tuple[str, ...]]:
    measures = kind.measures
    first, *others = measures.total or ("",)
    zone_ids, coordinates = ("pulocationid", "dolocationid"), "pickup_longitude" in kind.table.names
    names = ("distance", "passengers", "fare", "tip", "tolls", "driver_pay", "company")
    named = {name: getattr(measures, name) for name in names}
    named["total"] = " + ".join([first, *(f"COALESCE({part}, 0)" for part in others)])
    return {
        "dataset": f"'{kind.name}'",
        "pickup_datetime": kind.pickup,
        "dropoff_datetime": kind.dropoff,
        **{
            name: (name, added.name) if coordinates else name
            for name, added in zip(zone_ids, ZONE_ID_COLUMNS, strict=True)
        },
        **{name: value for name, value in named.items() if value},
    }
