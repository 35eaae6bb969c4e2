"""The datasets, and the canonical schema of each: one set of columns for every month, each documented.

Names are those the publisher uses since 2015, in lower case, the same spelling in every sink. Descriptions and units
follow the TLC data dictionaries (yellow and green, 2025-03); those of for-hire vehicles are in `for_hire`. `eras` maps
published files onto it. Types are names here, so that modules that only describe columns need not import Arrow.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from taxi_assets.core.table import TIMESTAMP, Column, Table
from taxi_assets.datasets.for_hire import FHV_COLUMNS, FHVHV_COLUMNS

if TYPE_CHECKING:
    import pyarrow as pa


def _trip_columns(meter: str) -> tuple[Column, ...]:
    money = "double"
    return (
        Column(
            "vendorid",
            "int16",
            "Record provider: 1 Creative Mobile Technologies (CMT), 2 Curb, formerly VeriFone "
            "(VTS), 3 Digital Dispatch Systems (DDS; our number, the publisher gave none), 6 Myle, 7 Helix.",
        ),
        Column(
            f"{meter}_pickup_datetime", TIMESTAMP, "When the meter was engaged, New York wall clock.", required=True
        ),
        Column(
            f"{meter}_dropoff_datetime", TIMESTAMP, "When the meter was disengaged, New York wall clock.", required=True
        ),
        Column(
            "passenger_count",
            "int16",
            "Passengers, entered by the driver; empty when the provider sent none.",
            required=True,
        ),
        Column("trip_distance", "double", "Miles, by the taximeter.", required=True),
        Column(
            "ratecodeid",
            "int16",
            "Rate at the trip's end: 1 standard, 2 JFK, 3 Newark, 4 Nassau or Westchester, "
            "5 negotiated, 6 group ride, 99 unknown.",
        ),
        Column("store_and_fwd_flag", "string", "Y when the record was held in the vehicle before it was sent, else N."),
        Column("pulocationid", "int16", "Taxi zone of the pickup, 1 to 265; empty where coordinates were published."),
        Column("dolocationid", "int16", "Taxi zone of the drop-off, 1 to 265; empty where coordinates were published."),
        Column(
            "payment_type", "int16", "0 flex fare, 1 credit card, 2 cash, 3 no charge, 4 dispute, 5 unknown, 6 voided."
        ),
        Column("fare_amount", money, "Time-and-distance fare, US dollars.", required=True),
        Column("extra", money, "Extras and surcharges (rush hour, overnight), US dollars."),
        Column("mta_tax", money, "MTA tax, US dollars."),
        Column("tip_amount", money, "Tip, US dollars; cash tips are not recorded."),
        Column("tolls_amount", money, "Tolls, US dollars."),
        Column("improvement_surcharge", money, "Improvement surcharge since 2015, US dollars."),
        Column("total_amount", money, "Charged to the passenger without cash tips, US dollars.", required=True),
        Column("congestion_surcharge", money, "State congestion surcharge since 2019, US dollars."),
        Column("airport_fee", money, "Pickup at LaGuardia or JFK, US dollars."),
        Column("cbd_congestion_fee", money, "MTA congestion relief zone fee since 2025, US dollars."),
        Column(
            "request_source",
            "string",
            "Who passed an app-dispatched trip to the taxi, since 2026-06: HV0003 Uber, HV0005 Lyft (license numbers of "
            "the TLC's high-volume dictionary), A (seen, not documented); empty for a street hail.",
        ),
        Column("pickup_longitude", money, "Degrees east of the pickup, where published (to 2016-06)."),
        Column("pickup_latitude", money, "Degrees north of the pickup, where published (to 2016-06)."),
        Column("dropoff_longitude", money, "Degrees east of the drop-off, where published (to 2016-06)."),
        Column("dropoff_latitude", money, "Degrees north of the drop-off, where published (to 2016-06)."),
    )


@dataclass(frozen=True)
class Measures:
    """The columns that hold what datasets have in common, under names of their own; None where one has no such thing.

    `total` are the columns that add up to what the passenger was charged, cash tips apart.
    """

    passengers: str | None = None
    distance: str | None = None
    fare: str | None = None
    tip: str | None = None
    tolls: str | None = None
    total: tuple[str, ...] = ()
    driver_pay: str | None = None
    payment: str | None = None
    company: str | None = None


@dataclass(frozen=True)
class TaxiKind:
    """A dataset of trips that is published month by month: its columns and where its months go.

    Attributes:
        name: the name in settings and in the publisher's file names.
        title: the trips as sentences name them: `yellow taxi`.
        meter: what the names of the pickup and drop-off columns begin with; empty for for-hire vehicles.
        columns: the columns of a trip.
        first_month: year and month of the first published file.
        table_name: the table in databases.
        sums: the columns that are summed to reconcile two copies of a month.
        clustering: the columns by which a warehouse sorts a month; most queries within a month filter by place.
    """

    name: str
    title: str
    meter: str
    columns: tuple[Column, ...]
    first_month: tuple[int, int]
    table_name: str
    sums: tuple[str, ...]
    clustering: tuple[str, ...]
    measures: Measures

    @property
    def pickup(self) -> str:
        """Name of the column every sink partitions by."""
        return f"{self.meter}pickup_datetime"

    @property
    def dropoff(self) -> str:
        """Name of the drop-off time's column."""
        return f"{self.meter}dropoff_datetime"

    @property
    def pickup_date(self) -> str:
        """Name of the day folders' key in the hive dataset."""
        return f"{self.meter}pickup_date"

    @cached_property
    def table(self) -> Table:
        """The table of clean trips, for the sinks."""
        return Table(
            self.table_name,
            self.columns,
            self.pickup,
            sums=self.sums,
            kind=self.name,
            day=self.pickup_date,
            description=f"New York's {self.title} trips, a partition a month; published by the TLC.",
            clustering=self.clustering,
        )

    @cached_property
    def raw_table(self) -> Table:
        """Raw and rejected rows: a trip's columns, and why and where it could not be kept."""
        columns = (*self.columns, *REJECT_COLUMNS)
        return Table(f"{self.name}_raw_trips", columns, self.pickup, sums=self.sums, kind=self.name)

    @property
    def file_stem(self) -> str:
        """The publisher's file name before the month: `yellow_tripdata`."""
        return f"{self.name}_tripdata"

    @property
    def schema(self) -> pa.Schema:
        """The canonical Arrow schema of a trip."""
        return self.table.schema

    @property
    def raw_schema(self) -> pa.Schema:
        """The Arrow schema of raw and rejected rows."""
        return self.raw_table.schema


REJECT_COLUMNS = (
    Column("reject_reason", "string", "Why the row was not kept; empty for a good row."),
    Column("reject_detail", "string", "The column and value that were at fault."),
    Column(
        "source_line",
        "int64",
        "Line (CSV, from 1) or row (Parquet, from 1) in the published file; only for unreadable ones.",
    ),
    Column("source_text", "string", "The line as published; only for unreadable ones."),
)
"""Added to a trip in raw and rejected files. A line that could not be read has every trip column empty."""

REQUEST_SOURCE_SINCE = (2026, 6)
"""The first month whose files have `request_source`."""


def _taxi(name: str, meter: str, first_month: tuple[int, int], *more: Column) -> TaxiKind:
    return TaxiKind(
        name,
        f"{name} taxi",
        f"{meter}_",
        (*_trip_columns(meter), *more),
        first_month,
        f"{name}_cab_data",
        sums=("total_amount",),
        clustering=("pulocationid", "vendorid"),
        measures=Measures(
            passengers="passenger_count",
            distance="trip_distance",
            fare="fare_amount",
            tip="tip_amount",
            tolls="tolls_amount",
            total=("total_amount",),
            payment="payment_type",
        ),
    )


YELLOW = _taxi("yellow", "tpep", (2009, 1))
GREEN = _taxi(
    "green",
    "lpep",
    (2013, 8),
    Column("ehail_fee", "double", "E-hail fee, US dollars; nearly always empty."),
    Column("trip_type", "int16", "1 street hail, 2 dispatch."),
)
FHV = TaxiKind(
    "fhv",
    "for-hire vehicle",
    "",
    FHV_COLUMNS,
    (2015, 1),
    "fhv_trips",
    sums=("pulocationid", "dolocationid"),
    clustering=("pulocationid", "dispatching_base_num"),
    measures=Measures(company="dispatching_base_num"),
)
FHVHV = TaxiKind(
    "fhvhv",
    "high-volume for-hire",
    "",
    FHVHV_COLUMNS,
    (2019, 2),
    "fhvhv_trips",
    sums=("base_passenger_fare", "driver_pay", "pulocationid"),
    clustering=("pulocationid", "hvfhs_license_num"),
    measures=Measures(
        distance="trip_miles",
        fare="base_passenger_fare",
        tip="tips",
        tolls="tolls",
        total=(
            "base_passenger_fare",
            "tolls",
            "bcf",
            "sales_tax",
            "congestion_surcharge",
            "airport_fee",
            "cbd_congestion_fee",
            "tips",
        ),
        driver_pay="driver_pay",
        company="hvfhs_license_num",
    ),
)
KINDS = {kind.name: kind for kind in (YELLOW, GREEN, FHV, FHVHV)}
