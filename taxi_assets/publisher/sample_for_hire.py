"""Turns drawn taxi trips into trips of for-hire vehicles: companies, bases, times of the request, fares and pay.

As in `sample_trips`, the figures make a month plausible, not true; they are rounded from the published months of 2020 to 2025.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from taxi_assets.core.month import Month
from taxi_assets.datasets.schema import TaxiKind
from taxi_assets.publisher.sample_trips import AT_LAGUARDIA, CORE, ZONE_CLASSES, weighted

CBD_SINCE = (2025, 1)
"""The first month whose files have `cbd_congestion_fee`."""

AMOUNTS = ("base_passenger_fare", "tolls", "bcf", "sales_tax", "congestion_surcharge", "airport_fee", "driver_pay",
           "cbd_congestion_fee")  # fmt: skip
"""What a refund negates, in cents."""

UBER, LYFT = 0, 1
COMPANIES = weighted({UBER: 73, LYFT: 27})
BASES = [f"B{number:05d}" for number in (13, 111, 225, 254, 310, 445, 647, 821, 900, 1145, 1239, 1315, 1437, 1626, 2026,
                                         2157, 2390, 2510, 2677, 2764, 2800, 2872, 2932, 3016, 3153, 3278)]  # fmt: skip
FHV_BASES = weighted({i: len(BASES) - i for i in range(len(BASES))})
YES_IN_32 = weighted({0: 31, 1: 1})
"""Value: share. Two companies are left (2023 and later); most bases of FHV have few trips; flags are rarely set."""

_YES_NO = pa.array(["N", "Y"])
PRINTED = {
    "hvfhs_license_num": pa.array(["HV0003", "HV0005"]),
    "originating_base_num": pa.array(["B03404", ""]),
    "access_a_ride_flag": pa.array([" ", "N"]),
    "sr_flag": pa.array(["", "1"]),
    "affiliated_base_number": pa.array(BASES),
    **dict.fromkeys(("shared_request_flag", "shared_match_flag", "wav_request_flag", "wav_match_flag"), _YES_NO),
}
"""By column the printed values, indexed by the drawn ones; Lyft has no originating base, and Uber's flag is one blank."""
DISPATCHING = {"fhv": PRINTED["affiliated_base_number"], "fhvhv": pa.array(["B03404", "B03406"])}


def for_hire(kind: TaxiKind, month: Month, taxi: dict[str, np.ndarray], bits: np.random.PCG64) -> dict[str, np.ndarray]:
    """Return for-hire trips by canonical name, made of taxi trips: seconds since 1970 (0 for none), hundredths of a mile,
    cents, and positions in `PRINTED`."""
    draws = iter(bits.random_raw(2 * len(taxi[kind.pickup])).astype("<u8", copy=False).view("<u2").reshape(8, -1))
    times_and_zones = {name: taxi[name] for name in (kind.pickup, kind.dropoff, "pulocationid", "dolocationid")}
    if kind.name == "fhv":
        bases = FHV_BASES[next(draws)]
        return {
            **times_and_zones,
            "dispatching_base_num": bases,
            "sr_flag": YES_IN_32[next(draws)],
            "affiliated_base_number": bases,
        }
    company, waited = COMPANIES[next(draws)], next(draws).astype(np.int64)
    fare = taxi["fare_amount"] * 3 // 2
    ends = ZONE_CLASSES[taxi["pulocationid"]], ZONE_CLASSES[taxi["dolocationid"]]
    core = (ends[0] == CORE) | (ends[1] == CORE)
    airport = (ends[0] >= AT_LAGUARDIA) | (ends[1] >= AT_LAGUARDIA)
    shared = YES_IN_32[next(draws)]
    trips = {
        **times_and_zones,
        "hvfhs_license_num": company,
        "dispatching_base_num": company,
        "originating_base_num": company,
        "request_datetime": taxi[kind.pickup] - 90 - (waited >> 7),
        "on_scene_datetime": np.where(company == UBER, taxi[kind.pickup] - (waited >> 10), 0),
        "trip_miles": taxi["trip_distance"],
        "trip_time": taxi[kind.dropoff] - taxi[kind.pickup],
        "base_passenger_fare": fare,
        "tolls": taxi["tolls_amount"],
        "bcf": fare * 275 // 10_000,
        "sales_tax": fare * 8_875 // 100_000,
        "congestion_surcharge": np.where(core, 275, 0),
        "airport_fee": np.where(airport, 250, 0),
        "tips": taxi["tip_amount"] // 3,
        "driver_pay": fare * 3 // 4,
        "shared_request_flag": shared,
        "shared_match_flag": shared * (waited & 1),
        "access_a_ride_flag": company,
        "wav_request_flag": YES_IN_32[next(draws)],
        "wav_match_flag": YES_IN_32[next(draws)],
        "sr_flag": shared,
    }
    if month >= CBD_SINCE:
        trips["cbd_congestion_fee"] = np.where(core, 150, 0)
    return trips
