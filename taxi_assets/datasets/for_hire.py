"""The columns of for-hire vehicle trips (FHV) and of high-volume ones (HVFHV: Uber, Lyft, Via, Juno).

Names are the publisher's in lower case; `pulocationid` and `dolocationid` are spelled as in taxi trips. Descriptions follow
the TLC data dictionaries (FHV and HVFHV, 2025-03). Types are names here, as in `schema`.
"""

from __future__ import annotations

from taxi_assets.core.table import TIMESTAMP, Column

_BASE = "in upper case where it is a base number (B and five digits)"
_MONEY = "double"

FHV_COLUMNS = (
    Column(
        "dispatching_base_num", "string", f"License number of the base that sent the vehicle, {_BASE}.", required=True
    ),
    Column("pickup_datetime", TIMESTAMP, "When the trip began, New York wall clock.", required=True),
    Column("dropoff_datetime", TIMESTAMP, "When the trip ended, New York wall clock; empty to 2017-05."),
    Column("pulocationid", "int16", "Taxi zone of the pickup, 1 to 265; 0 and empty are published, too."),
    Column("dolocationid", "int16", "Taxi zone of the drop-off, 1 to 265; 0 and empty are published, too."),
    Column("sr_flag", "int16", "1 when the trip was part of a shared ride chain; empty or 0 when it was not."),
    Column("affiliated_base_number", "string", f"Base that the vehicle belongs to, free text, {_BASE}."),
)

FHVHV_COLUMNS = (
    Column(
        "hvfhs_license_num",
        "string",
        "License number of the company: HV0002 Juno, HV0003 Uber, HV0004 Via, HV0005 Lyft.",
        required=True,
    ),
    Column(
        "dispatching_base_num", "string", f"License number of the base that sent the vehicle, {_BASE}.", required=True
    ),
    Column("originating_base_num", "string", f"Base that received the request, {_BASE}."),
    Column("request_datetime", TIMESTAMP, "When the passenger asked for the trip, New York wall clock."),
    Column("on_scene_datetime", TIMESTAMP, "When the driver arrived (accessible vehicles only), New York wall clock."),
    Column("pickup_datetime", TIMESTAMP, "When the trip began, New York wall clock.", required=True),
    Column("dropoff_datetime", TIMESTAMP, "When the trip ended, New York wall clock."),
    Column("pulocationid", "int16", "Taxi zone of the pickup, 1 to 265."),
    Column("dolocationid", "int16", "Taxi zone of the drop-off, 1 to 265."),
    Column("trip_miles", "double", "Miles."),
    Column("trip_time", "int64", "Seconds of the trip."),
    Column("base_passenger_fare", _MONEY, "Fare before tolls, tips, taxes and fees, US dollars."),
    Column("tolls", _MONEY, "Tolls, US dollars."),
    Column("bcf", _MONEY, "Black Car Fund, US dollars."),
    Column("sales_tax", _MONEY, "New York State sales tax, US dollars."),
    Column("congestion_surcharge", _MONEY, "State congestion surcharge, US dollars."),
    Column("airport_fee", _MONEY, "Pickup or drop-off at LaGuardia, Newark or JFK, US dollars."),
    Column("tips", _MONEY, "Tips, US dollars."),
    Column("driver_pay", _MONEY, "Paid to the driver, without tolls and tips and net of commission, US dollars."),
    Column("shared_request_flag", "string", "Y when the passenger agreed to share the ride, else N."),
    Column("shared_match_flag", "string", "Y when the ride was shared with another passenger, else N."),
    Column(
        "access_a_ride_flag", "string", "Y when the trip was for the MTA (Access-A-Ride), else N; Uber leaves it blank."
    ),
    Column("wav_request_flag", "string", "Y when a wheelchair-accessible vehicle was asked for, else N."),
    Column("wav_match_flag", "string", "Y when the trip was in a wheelchair-accessible vehicle, else N."),
    Column("cbd_congestion_fee", _MONEY, "MTA congestion relief zone fee since 2025, US dollars."),
    Column(
        "sr_flag", "int16", "1 when the trip was part of a shared ride chain; only in the CSV files (2019 to 2021)."
    ),
)
