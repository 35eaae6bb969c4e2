"""Every published header and its mapping to the canonical columns: tables only.

`columns` matches a file's header against them. What values mean is in `encodings`, how they are converted in `conform`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

METER = "{meter}"
"""Stands for tpep_ (yellow) or lpep_ (green) in the names below."""

ALIASES = {
    # 2009, yellow.
    "vendor_name": "vendorid",
    "trip_pickup_datetime": METER + "pickup_datetime",
    "trip_dropoff_datetime": METER + "dropoff_datetime",
    "start_lon": "pickup_longitude",
    "start_lat": "pickup_latitude",
    "end_lon": "dropoff_longitude",
    "end_lat": "dropoff_latitude",
    "store_and_forward": "store_and_fwd_flag",
    "fare_amt": "fare_amount",
    "tip_amt": "tip_amount",
    "tolls_amt": "tolls_amount",
    "total_amt": "total_amount",
    # 2010 to 2014, yellow; rate_code also in 2009. `surcharge` was the rush hour and overnight extra, named extra
    # from 2015.
    "vendor_id": "vendorid",
    "pickup_datetime": METER + "pickup_datetime",
    "dropoff_datetime": METER + "dropoff_datetime",
    "rate_code": "ratecodeid",
    "surcharge": "extra",
    # Third-party re-exports of real files: Great Expectations, Mage, BigQuery's public tables.
    "rate_code_id": "ratecodeid",
    "ratecode_id": "ratecodeid",
    "pickup_location_id": "pulocationid",
    "dropoff_location_id": "dolocationid",
    "pu_location_id": "pulocationid",
    "do_location_id": "dolocationid",
    "imp_surcharge": "improvement_surcharge",
}
"""Published name, as `normalized` returns it, to the canonical name where the two differ."""

FOR_HIRE_ALIASES = {
    # FHV, 2015 and 2016: one time and one zone, those of the pickup.
    "pickup_date": "pickup_datetime",
    "locationid": "pulocationid",
    # FHV, 2018: of the two columns of the base, the one that is filled.
    "dispatching_base_number": "dispatching_base_num",
    # Mage.
    "pu_location_id": "pulocationid",
    "do_location_id": "dolocationid",
}
"""The same for FHV and high-volume trips."""

IGNORED = re.compile(
    r"|__index_level_\d+__|unnamed:_\d+|_dlt_load_id|_dlt_id|unique_row_id|filename|data_file_year|data_file_month"
)
"""Names of columns that hold no trip data, as `normalized` returns them: row numbers written by pandas (`__index_level_0__` was
published in 2010-02 and 2010-03), and what dlt, a course's flow and BigQuery's public tables add on where a row came from."""

TOOLS = {
    "written by pandas, with row numbers": (re.compile(r"__index_level_\d+__|unnamed:_\d+"),),
    "written by dlt": (re.compile("_dlt_load_id|_dlt_id"),),
    "a Kestra flow of the course": (re.compile("unique_row_id"),),
    "BigQuery's public table": (re.compile("data_file_(year|month)|imp_surcharge"),),
    "a Mage pipeline": (re.compile("(pu|do)_location_id"),),
}
"""Tools by columns that they write."""


def normalized(name: str) -> str:
    """Return a published name in lower case, without surrounding blanks, and with underscores for those between words."""
    return "_".join(name.lower().split())


@dataclass(frozen=True)
class Era:
    """Months published with the same header, and the format of their files. `last` None: the current era.

    `header` is exact, blanks included; `types` has a Parquet column's type if it is not the usual one of its name (`number`:
    whole in some months and double in others); `oddities` are sentences for people.
    """

    kind: str
    publication: Literal["csv", "parquet"]
    first: str
    last: str | None
    header: tuple[str, ...]
    oddities: tuple[str, ...] = ()
    surplus_fields: int = 0
    types: tuple[tuple[str, str], ...] = ()


def _names(*parts: str) -> tuple[str, ...]:
    return tuple(",".join(parts).split(","))


_Y2009 = _names(
    "vendor_name,Trip_Pickup_DateTime,Trip_Dropoff_DateTime,Passenger_Count,Trip_Distance,Start_Lon,Start_Lat,Rate_Code",
    "store_and_forward,End_Lon,End_Lat,Payment_Type,Fare_Amt,surcharge,mta_tax,Tip_Amt,Tolls_Amt,Total_Amt",
)
_Y2010 = _names(
    "vendor_id,pickup_datetime,dropoff_datetime,passenger_count,trip_distance,pickup_longitude,pickup_latitude,rate_code",
    "store_and_fwd_flag,dropoff_longitude,dropoff_latitude,payment_type,fare_amount,surcharge,mta_tax,tip_amount",
    "tolls_amount,total_amount",
)
_Y2014 = (_Y2010[0], *(f" {name}" for name in _Y2010[1:]))
_TPEP = "VendorID,tpep_pickup_datetime,tpep_dropoff_datetime,passenger_count,trip_distance"
_MONEY = "payment_type,fare_amount,extra,mta_tax,tip_amount,tolls_amount,improvement_surcharge,total_amount"
_PLACES = "pickup_longitude,pickup_latitude,RatecodeID,store_and_fwd_flag,dropoff_longitude,dropoff_latitude"
_Y2015_01 = _names(_TPEP, _PLACES.replace("RatecodeID", "RateCodeID"), _MONEY)
_Y2015_07 = _names(_TPEP, _PLACES, _MONEY)
_Y2016 = _names(_TPEP, "RatecodeID,store_and_fwd_flag,PULocationID,DOLocationID", _MONEY)
_Y2019 = (*_Y2016, "congestion_surcharge")
_Y2025 = (*_Y2019, "Airport_fee", "cbd_congestion_fee")
_G2013 = _names(
    "VendorID,lpep_pickup_datetime,Lpep_dropoff_datetime,Store_and_fwd_flag,RateCodeID,Pickup_longitude,Pickup_latitude",
    "Dropoff_longitude,Dropoff_latitude,Passenger_count,Trip_distance,Fare_amount,Extra,MTA_tax,Tip_amount,Tolls_amount",
    "Ehail_fee,Total_amount,Payment_type,Trip_type ",
)
_G2015 = (*_G2013[:17], "improvement_surcharge", *_G2013[17:])
_G2016 = _names(
    "VendorID,lpep_pickup_datetime,lpep_dropoff_datetime,store_and_fwd_flag,RatecodeID,PULocationID,DOLocationID",
    "passenger_count,trip_distance,fare_amount,extra,mta_tax,tip_amount,tolls_amount,ehail_fee,improvement_surcharge",
    "total_amount,payment_type,trip_type",
)
_G2019 = (*_G2016, "congestion_surcharge")
_G2025 = (*_G2019, "cbd_congestion_fee")
_F2015 = _names("Dispatching_base_num,Pickup_date,locationID")
_F2017_01 = _names("Dispatching_base_num,Pickup_DateTime,DropOff_datetime,PUlocationID,DOlocationID")
_F2017_07 = (*_F2017_01, "SR_Flag")
_F2018 = (*_F2017_07[1:], "Dispatching_base_number", "Dispatching_base_num")
_F2019 = _names("dispatching_base_num,pickup_datetime,dropoff_datetime,PULocationID,DOLocationID,SR_Flag")
_F_PARQUET = _names(
    "dispatching_base_num,pickup_datetime,dropOff_datetime,PUlocationID,DOlocationID,SR_Flag,Affiliated_base_number"
)
_H2019 = ("hvfhs_license_num", *_F2019)
_H_PARQUET = _names(
    "hvfhs_license_num,dispatching_base_num,originating_base_num,request_datetime,on_scene_datetime,pickup_datetime",
    "dropoff_datetime,PULocationID,DOLocationID,trip_miles,trip_time,base_passenger_fare,tolls,bcf,sales_tax",
    "congestion_surcharge,airport_fee,tips,driver_pay,shared_request_flag,shared_match_flag,access_a_ride_flag",
    "wav_request_flag,wav_match_flag",
)
_H2025 = (*_H_PARQUET, "cbd_congestion_fee")

_BLANK = "the line after the header is empty"
_WORDS = "vendor and payment are words"
_CUT_WORDS = "payment is cut to three characters to 2010-07"
_DIGITS = "store-and-forward is 0 or 1 to 2010-07"
_SURPLUS = "rows have two more fields than the header, always empty"
_NULL_BLOCK = "from 2019-07 some rows have no vendor, passengers, rate, flag and payment"
_INDEX = "has a row number, `__index_level_0__`"
_NULL_TYPED = "columns without values have Arrow's null type"
_REWRITTEN = "the publisher put zones in the place of the CSV's coordinates"
_QUOTED = "every field is quoted"
_TRAILING = "the last name has a trailing blank"
_PADDED = "some base numbers are padded with blanks"


def _types(**columns: str) -> tuple[tuple[str, str], ...]:
    return tuple((name, kind) for kind, names in columns.items() for name in names.split(","))


_TYPES_2009 = _types(
    string="Trip_Pickup_DateTime,Trip_Dropoff_DateTime,vendor_name,Payment_Type", double="Rate_Code,store_and_forward"
)
_TYPES_2010 = _types(string="pickup_datetime,dropoff_datetime,vendor_id,payment_type,rate_code")
_TYPES_2010_02 = _types(string="pickup_datetime,dropoff_datetime,vendor_id,payment_type")
_WIDENED = _types(double="passenger_count,RatecodeID")
_WIDENED_GREEN = _types(double="passenger_count,RatecodeID,payment_type,trip_type")
_TRIP_TYPE = _types(number="trip_type")
_FHV_NUMBERS = _types(number="PUlocationID,DOlocationID,SR_Flag")
_IDS_32 = _types(int32="VendorID,PULocationID,DOLocationID")

ERAS = (
    Era("yellow", "csv", "2009-01", "2009-12", _Y2009, (_BLANK, _WORDS, "rate code is always empty")),
    Era("yellow", "csv", "2010-01", "2013-12", _Y2010, (_BLANK, _WORDS, _CUT_WORDS, _DIGITS)),
    Era("yellow", "csv", "2014-01", "2014-12", _Y2014, (_BLANK, _WORDS, "all names but one have a leading blank")),
    Era("yellow", "csv", "2015-01", "2015-06", _Y2015_01),
    Era("yellow", "csv", "2015-07", "2016-06", _Y2015_07, ("RateCodeID is now RatecodeID",)),
    Era("yellow", "csv", "2016-07", "2016-12", _Y2016, (_SURPLUS, "zones replace coordinates"), surplus_fields=2),
    Era("yellow", "csv", "2017-01", "2018-12", _Y2016, (_BLANK,)),
    Era("yellow", "csv", "2019-01", "2021-07", _Y2019, (_NULL_BLOCK,)),
    Era("yellow", "parquet", "2009-01", "2009-12", _Y2009, (_WORDS,), types=_TYPES_2009),
    Era("yellow", "parquet", "2010-01", "2010-01", _Y2010, (_WORDS,), types=_TYPES_2010),
    Era("yellow", "parquet", "2010-02", "2010-03", _Y2010, (_WORDS, _INDEX), types=_TYPES_2010_02),
    Era("yellow", "parquet", "2010-04", "2010-12", _Y2010, (_WORDS,), types=_TYPES_2010),
    Era("yellow", "parquet", "2011-01", "2018-06", (*_Y2019, "airport_fee"), (_NULL_TYPED, _REWRITTEN)),
    Era("yellow", "parquet", "2018-07", "2023-01", (*_Y2019, "airport_fee"), (_NULL_TYPED,), types=_WIDENED),
    Era("yellow", "parquet", "2023-02", "2024-12", (*_Y2019, "Airport_fee"), ("now Airport_fee",), types=_IDS_32),
    Era("yellow", "parquet", "2025-01", "2026-05", _Y2025, types=_IDS_32),
    Era("yellow", "parquet", "2026-06", None, (*_Y2025, "request_source"), types=_IDS_32),
    Era("green", "csv", "2013-08", "2014-12", _G2013, (_BLANK, _SURPLUS, _TRAILING), surplus_fields=2),
    Era("green", "csv", "2015-01", "2015-06", _G2015, (_SURPLUS, _TRAILING), surplus_fields=2),
    Era("green", "csv", "2015-07", "2015-12", _G2015, (_TRAILING,)),
    Era("green", "csv", "2016-01", "2016-06", _G2015, (_BLANK, _TRAILING)),
    Era(
        "green", "csv", "2016-07", "2016-12", _G2016, (_BLANK, _SURPLUS, "zones replace coordinates"), surplus_fields=2
    ),
    Era("green", "csv", "2017-01", "2018-12", _G2016, (_BLANK,)),
    Era("green", "csv", "2019-01", "2021-07", _G2019, (_NULL_BLOCK,)),
    Era("green", "parquet", "2013-08", "2018-06", _G2019, (_NULL_TYPED, _REWRITTEN), types=_TRIP_TYPE),
    Era("green", "parquet", "2018-07", "2023-01", _G2019, (_NULL_TYPED,), types=_WIDENED_GREEN),
    Era("green", "parquet", "2023-02", "2024-12", _G2019, types=_IDS_32),
    Era("green", "parquet", "2025-01", "2026-05", _G2025, types=_IDS_32),
    Era("green", "parquet", "2026-06", None, (*_G2025, "request_source"), types=_IDS_32),
    Era("fhv", "csv", "2015-01", "2016-12", _F2015, ("one time and one zone, mostly empty",)),
    Era("fhv", "csv", "2017-01", "2017-06", _F2017_01, ("drop-off times from 2017-06 on",)),
    Era("fhv", "csv", "2017-07", "2017-12", _F2017_07, (_QUOTED, "not in time order")),
    Era("fhv", "csv", "2018-01", "2018-12", _F2018, (_QUOTED, "two columns for the base, the second always empty")),
    Era("fhv", "csv", "2019-01", "2021-07", _F2019, (_PADDED,)),
    Era("fhv", "parquet", "2015-01", None, _F_PARQUET, (_NULL_TYPED, _PADDED), types=_FHV_NUMBERS),
    Era("fhvhv", "csv", "2019-02", "2021-07", _H2019, (_PADDED, "no miles, times or amounts")),
    Era("fhvhv", "parquet", "2019-02", "2023-01", _H_PARQUET, (_NULL_TYPED, _PADDED)),
    Era("fhvhv", "parquet", "2023-02", "2024-12", _H_PARQUET),
    Era("fhvhv", "parquet", "2025-01", None, _H2025),
)
"""Every header published. Read in published files: all CSV months of yellow, and every second one of the others; the Parquet
of green from 2021-01 on. The other Parquet headers are those of lists that others made of the publisher's files."""


def era_of(kind: str, publication: Literal["csv", "parquet"], month: str) -> Era | None:
    """The era of a month (`2021-01`); None where no published file of the month was read."""
    found = (era for era in ERAS if (era.kind, era.publication) == (kind, publication))
    return next((era for era in found if era.first <= month <= (era.last or month)), None)
