"""Plausible trips of a generated month as arrays: times, distances, zones and amounts, without defects.

Every random value is a slice of PCG64's raw bits looked up in an integer table, so that a month is the same on every
machine and NumPy version: the distributions of `numpy.random.Generator` may change with a release, its bit streams do
not (NEP 19). The figures are rounded from published months; they make a month plausible, not true.
"""

from __future__ import annotations

import datetime as dt
from math import exp
from statistics import NormalDist

import numpy as np

from taxi_assets.core.month import Month
from taxi_assets.datasets.schema import TaxiKind
from taxi_assets.datasets.zones import BOROUGHS, JFK, LAGUARDIA, LAST_PLACE, NEWARK, PLACES, YELLOW_ZONE

HOUR, DAY = 3600, 86_400
"""Seconds."""

AMOUNTS = ("fare_amount", "extra", "mta_tax", "tip_amount", "tolls_amount", "improvement_surcharge",
           "congestion_surcharge")  # fmt: skip
"""The parts of total_amount."""


def weighted(weights: dict[int, int]) -> np.ndarray:
    """Return 65,536 values in proportion to their weights, to be indexed by 16 random bits."""
    ends = np.cumsum(list(weights.values()))
    return np.repeat(np.array(list(weights)), np.diff(ends * 65_536 // ends[-1], prepend=0))


VENDORS = weighted({2: 69, 1: 31})
PASSENGERS = weighted({1: 716, 2: 156, 3: 48, 5: 30, 6: 26, 4: 24})
PAYMENTS = weighted({1: 730, 2: 258, 3: 7, 4: 5})
TIP_PERCENT = weighted({20: 38, 25: 20, 15: 14, 0: 12, 30: 8, 10: 6, 18: 2})
STORED = weighted({0: 983, 1: 17})
NEGOTIATED = weighted({0: 993, 1: 7})
REQUEST_SOURCES = weighted({1: 206, 2: 16, 3: 38})
TOLLS_CENTS = weighted({0: 4, 612: 6})
"""Value: share, as in published trips of 2019-2021; request sources (numbered as in `sample`) as in yellow trips of
2026. The toll is that of the tunnels, paid on airport trips."""

HOURS = (
    (16, 9, 6, 4, 5, 9, 22, 38, 47, 46, 45, 48, 51, 52, 54, 54, 52, 59, 68, 64, 58, 53, 48, 34),
    (52, 42, 32, 22, 13, 8, 10, 16, 25, 36, 45, 51, 54, 54, 53, 53, 52, 54, 58, 57, 52, 48, 47, 42),
)
DAYS = (88, 95, 98, 100, 108, 106, 90)
"""Relative pickups by hour of weekdays and of weekends, and by weekday from Monday (yellow, 2019-03 and 2019-11)."""

PACE = np.array([300, 270, 260, 240, 215, 215, 255, 335, 395, 400, 405, 410,
                 425, 420, 425, 435, 425, 420, 400, 370, 345, 325, 315, 300])  # fmt: skip
TOWN_MILES, HIGHWAY_PACE = 4, 130
"""Seconds per mile by hour in town (yellow, 2019), and beyond the first miles of a trip."""

POPULAR = {
    "yellow": {132: 42, 186: 41, 48: 39, 239: 38, 237: 46, 142: 34, 236: 43, 238: 31, 263: 31, 141: 30, 230: 34,
               138: 33, 68: 30, 170: 32, 161: 40, 79: 33, 107: 28, 140: 21, 100: 21, 234: 31, 162: 34, 229: 20, 90: 19,
               151: 19, 163: 24, 75: 18, 249: 21, 137: 17, 164: 22, 43: 16, 143: 13, 262: 13, 113: 16, 74: 12, 246: 16,
               41: 11, 233: 11, 231: 15},
    "green": {74: 93, 75: 76, 41: 52, 42: 39, 244: 29, 95: 28, 97: 25, 166: 24, 7: 20, 82: 18, 65: 17, 43: 16, 130: 16,
              61: 15, 116: 15, 25: 12, 33: 12, 129: 11, 181: 11, 188: 10, 76: 9, 242: 8, 17: 8, 196: 8, 89: 7},
    "fhv": {76: 20, 61: 15, 129: 15, 220: 12},
    "fhvhv": {132: 20, 138: 19, 61: 14, 79: 13, 76: 12, 230: 11, 161: 11, 231: 11, 37: 10, 234: 10, 164: 9, 48: 9},
}  # fmt: skip
"""Pickups per thousand in the busiest zones (yellow 2021-01, green 2020-11, FHV and high-volume 2020)."""

ELSEWHERE = {
    "yellow": ((0.4, 0.8), (4, 4)),
    "green": ((1.6, 1.6), (0, 2)),
    "fhv": ((3, 3), (5, 5)),
    "fhvhv": ((3, 3), (5, 5)),
}
"""Pickups and drop-offs per thousand in each other zone, outside and in the yellow zone (no street hails of green taxis)."""

ZONES = {
    kind: [
        weighted({zone: round(10 * popular.get(zone, ELSEWHERE[kind][zone in YELLOW_ZONE][end])) for zone in PLACES})
        for end in (0, 1)
    ]
    for kind, popular in POPULAR.items()
}
"""Zones of pickups and of drop-offs, by kind."""

CORE, OTHER, AT_LAGUARDIA, AT_JFK, AT_NEWARK = range(5)
LEAST_MILES = np.array([[0, 250, 750, 1550, 1500], [250, 60, 350, 500, 1600], [750, 350, 20, 1000, 2500],
                        [1550, 500, 1000, 20, 3000], [1500, 1600, 2500, 3000, 20]])  # fmt: skip
SPREAD = np.array([[100, 150, 80, 90, 60], [150, 120, 180, 250, 200], [80, 180, 40, 60, 60],
                   [90, 250, 60, 40, 60], [60, 200, 60, 60, 40]])  # fmt: skip
"""Between two classes of zones: the least distance in hundredths of a mile, and the percentage of DISTANCES added to it."""

ZONE_CLASSES = np.full(LAST_PLACE + 1, OTHER)
ZONE_CLASSES[list(YELLOW_ZONE)] = CORE
ZONE_CLASSES[[LAGUARDIA, JFK, NEWARK]] = AT_LAGUARDIA, AT_JFK, AT_NEWARK
"""The class of each zone id."""

DISTANCES = np.array([max(round(100 * exp(NormalDist(0.4, 0.72).inv_cdf((i + 0.5) / 4096))), 10) for i in range(4096)])
"""Quantiles of a log-normal distance (median 1.5 miles) in hundredths of a mile, to be indexed by 12 random bits."""

INITIAL_CENTS, UNIT_CENTS, UNIT_MILES, SLOW_MILE_SECONDS = 250, 50, 20, 300
"""The tariff of 2012-09 to 2022-12 (TLC rules, chapter 58): 2.50, and 0.50 a unit, which is a fifth of a mile, or a
minute below 12 miles an hour; here, a minute beyond five minutes a mile."""

JFK_CENTS, NEWARK_CENTS, RUSH_CENTS, JFK_RUSH_CENTS, NIGHT_CENTS = 5200, 1750, 100, 450, 50
MTA_TAX_CENTS, IMPROVEMENT_CENTS, CONGESTION_CENTS = 50, 30, {"yellow": 250, "green": 275, "fhv": 275, "fhvhv": 275}
"""The flat fare between JFK and Manhattan, Newark's surcharge, the extras of weekdays 16-20 and of 20-6, and what is
added to every trip, or to those that touch Manhattan below 96th Street."""


def draw_trips(kind: TaxiKind, month: Month, rows: int, at: np.ndarray, bits: np.random.PCG64) -> dict[str, np.ndarray]:
    """Return the trips numbered `at` of a month of `rows` trips, ordered by the hour of pickup.

    Returns:
        int64 arrays by canonical column name: seconds since 1970 (wall clock), hundredths of a mile, cents; the flag is
        0 for N and 1 for Y; every trip has a request source. `total_amount` is missing, as the caller may change its parts.
    """
    draws = iter(bits.random_raw(4 * len(at)).astype("<u8", copy=False).view("<u2").reshape(16, -1))
    days = [day.weekday() for day in month.days]
    hours = np.cumsum([DAYS[day] * share for day in days for share in HOURS[day > 4]])
    rank = (at + next(draws) / 65_536) / rows * hours[-1]
    hour = np.minimum(np.searchsorted(hours, rank, side="right"), len(hours) - 1)
    since = hour * HOUR + (next(draws).astype(np.int64) * HOUR >> 16)
    pickup = since + (month.start - dt.datetime(1970, 1, 1)) // dt.timedelta(seconds=1)
    of_day = hour % 24
    weekday = (hour // 24 + month.start.weekday()) % 7 < 5

    start, end = (table[next(draws)] for table in ZONES[kind.name])
    ends = ZONE_CLASSES[start], ZONE_CLASSES[end]
    miles = LEAST_MILES[ends] + SPREAD[ends] * DISTANCES[next(draws) >> 4] // 100
    town = np.minimum(miles, 100 * TOWN_MILES)
    usual = (town * PACE[of_day] + (miles - town) * HIGHWAY_PACE) // 100
    seconds = 45 + usual * (75 + (next(draws).astype(np.int64) * 50 >> 16)) // 100

    manhattan = list(BOROUGHS["Manhattan"])
    flat = (start == JFK) & np.isin(end, manhattan) | (end == JFK) & np.isin(start, manhattan)
    newark = (start == NEWARK) | (end == NEWARK)
    negotiated = NEGOTIATED[next(draws)].astype(bool) & ~flat & ~newark
    slow = np.maximum(seconds - miles * SLOW_MILE_SECONDS // 100, 0)
    metered = INITIAL_CENTS + UNIT_CENTS * (miles // UNIT_MILES + slow // 60)
    special, rounded = [flat, newark, negotiated], metered // 500 * 500 + 500
    fare = np.select(special, [JFK_CENTS, metered + NEWARK_CENTS, rounded], metered)
    rush, night = weekday & (of_day >= 16) & (of_day < 20), (of_day >= 20) | (of_day < 6)
    extra = np.where(flat, JFK_RUSH_CENTS * rush, RUSH_CENTS * rush + NIGHT_CENTS * night)
    airport = (ends[0] >= AT_LAGUARDIA) | (ends[1] >= AT_LAGUARDIA)
    tolls = np.where(airport, TOLLS_CENTS[next(draws)], 0)
    congestion = np.where((ends[0] == CORE) | (ends[1] == CORE), CONGESTION_CENTS[kind.name], 0)
    payment = PAYMENTS[next(draws)]
    tip = (fare + extra + MTA_TAX_CENTS + IMPROVEMENT_CENTS + congestion) * TIP_PERCENT[next(draws)] // 100
    return {
        "vendorid": VENDORS[next(draws)],
        kind.pickup: pickup,
        kind.dropoff: pickup + seconds,
        "passenger_count": PASSENGERS[next(draws)],
        "trip_distance": miles,
        "ratecodeid": np.select(special, [2, 3, 5], 1),
        "store_and_fwd_flag": STORED[next(draws)],
        "pulocationid": start,
        "dolocationid": end,
        "payment_type": payment,
        "fare_amount": fare,
        "extra": extra,
        "mta_tax": np.full(len(at), MTA_TAX_CENTS),
        "tip_amount": np.where(payment == 1, tip, 0),
        "tolls_amount": tolls,
        "improvement_surcharge": np.full(len(at), IMPROVEMENT_CENTS),
        "congestion_surcharge": congestion,
        "trip_type": np.where(negotiated, 2, 1),
        "request_source": REQUEST_SOURCES[next(draws)],
    }
