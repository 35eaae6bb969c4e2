"""Generates a month of trips in the publisher's CSV format, with a known number of every known defect.

For offline use, tests and benchmarks: the file reads like a published one, but nothing here is a real trip. The trips
themselves are drawn in `sample_trips`; `sample_for_hire` makes trips of for-hire vehicles of them.

Deliberate differences from the publisher: every month has the format of 2019-2021, with LF line ends, for-hire trips the
columns of the Parquet files; only `LATER` columns are added; totals are the sum of their parts (in published CMT rows the
congestion surcharge is within extra, too).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from math import gcd
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from taxi_assets.core.errors import PermanentError
from taxi_assets.core.folders import replacing
from taxi_assets.core.month import Month
from taxi_assets.datasets.eras import ERAS
from taxi_assets.datasets.schema import REQUEST_SOURCE_SINCE, TaxiKind
from taxi_assets.publisher import sample_for_hire
from taxi_assets.publisher.sample_trips import AMOUNTS, DAY, draw_trips

CHUNK_ROWS = 65_536
"""Rows generated at a time, in about 40 MB."""

MAX_ROWS = 100_000_000
"""Six times the largest published month; well below where the layout of defects would overflow."""

_ERAS = (("yellow", "csv", "2019-01"), ("green", "csv", "2019-01"), ("fhv", "parquet", "2015-01"),
         ("fhvhv", "parquet", "2019-02"))  # fmt: skip
HEADERS = {era.kind: ",".join(era.header) for era in ERAS if (era.kind, era.publication, era.first) in _ERAS}
HEADERS["fhvhv"] += ",SR_Flag"
"""The publisher's headers: of taxis those of 2019 to 2021, of for-hire trips those of Parquet files and CSV's `SR_Flag`."""

LATER = {
    "yellow": (REQUEST_SOURCE_SINCE, "request_source"),
    "green": (REQUEST_SOURCE_SINCE, "request_source"),
    "fhvhv": (sample_for_hire.CBD_SINCE, "cbd_congestion_fee"),
}
"""The column that was added last, and since when."""


def header(kind: TaxiKind, month: Month) -> str:
    """Return the header of a generated month."""
    since, column = LATER.get(kind.name, (None, ""))
    return f"{HEADERS[kind.name]},{column}" if since and month >= since else HEADERS[kind.name]


DEFECTS = {
    "unknown_passengers": 72_000,  # vendor, passengers, rate, flag and payment are empty; rejected by default
    "zero_passengers": 20_000,  # rejected by default
    "day_before": 20,  # this and the next two are rejected as outside the month
    "day_after": 20,
    "years_off": 2,  # picked up on 2008-12-31, or twenty years later
    "negative_fare": 4_000,  # a refund: an earlier trip, amounts negated, payment 4 (dispute), no tip
    "duplicate": 500,  # an earlier line
    "dropoff_before_pickup": 1_000,  # by up to an hour
    "cut_line": 10,  # unreadable: ends after its first third
    "surplus_fields": 10,  # unreadable: two lines joined
    "word_in_number": 10,  # unreadable: trip_distance is a word
    "impossible_date": 10,  # unreadable: picked up on the 32nd
}
"""Every defect of a generated month, and how many of a million rows have it; a row has at most one.

Shares follow yellow 2021-01 (unknown 7.2 %, zero 2.0 %) and 2020 (negative 0.4 %, drop-off before pickup 0.1 %);
duplicates are between 2010 (1.2 %) and later years (nearly none). Days outside the month and unreadable lines are more
frequent than published, so that a small month has them.
"""


WITHOUT = {"fhv": ("unknown_passengers", "zero_passengers", "negative_fare"),
           "fhvhv": ("unknown_passengers", "zero_passengers")}  # fmt: skip
"""Defects that a dataset cannot have."""


def count_defects(kind: TaxiKind, rows: int) -> dict[str, int]:
    """Return how many of `rows` rows have each defect: the share rounded down, but at least one from 1,000 rows on."""
    absent = WITHOUT.get(kind.name, ())
    return {
        name: 0 if name in absent else max(rows * share // 1_000_000, int(rows >= 1000))
        for name, share in DEFECTS.items()
    }


def write_sample(path: Path, kind: TaxiKind, month: Month, rows: int, *, variant: int = 0) -> None:
    """Write a generated month of `rows` data lines, defects included, as CSV.gz.

    The text depends only on the arguments (another `variant` is the month as if republished); so do the compressed bytes, with
    one release of isal on one family of processors. It is written atomically, in bounded memory.

    Raises:
        PermanentError: `rows` is not between 1 and 100 million, or the file cannot be written.
    """
    from isal import igzip

    if not 1 <= rows <= MAX_ROWS:
        raise PermanentError(
            f"{month}: a generated month has 1 to {MAX_ROWS:,} rows, not {rows:,}; set TAXI_SAMPLE_ROWS."
        )
    try:
        with (
            replacing(path) as staged,
            staged.open("wb") as file,
            igzip.IGzipFile(filename="", mode="wb", compresslevel=1, fileobj=file, mtime=0) as out,
        ):
            out.write(f"{header(kind, month)}\n".encode())
            chunks = -(-rows // CHUNK_ROWS)
            for chunk in range(chunks):
                at = np.arange(rows * chunk // chunks, rows * (chunk + 1) // chunks)
                seed = np.random.SeedSequence([*kind.name.encode(), *month, rows, variant, chunk])
                bits = np.random.PCG64(seed)
                trips = draw_trips(kind, month, rows, at, bits)
                if not kind.meter:
                    trips = sample_for_hire.for_hire(kind, month, trips, bits)
                out.write(_csv(trips, _defects(kind, rows, at, variant), kind, month))
    except OSError as error:
        raise PermanentError(
            f"{month}: the generated file {path} could not be written ({error.strerror or error}); free some space or "
            "fix the folder's permissions, and run the month again."
        ) from error


def _defects(kind: TaxiKind, rows: int, at: np.ndarray, variant: int) -> dict[str, np.ndarray]:
    """Return by defect the positions, in the chunk of row numbers `at`, of the rows that have it.

    Row numbers are permuted, in steps of the golden ratio so that rows of one defect are far apart. The first permuted
    numbers have the first defect, the next ones the second: exact over the month and disjoint, without a list of rows.
    """
    step = max(round(rows * 0.6180339887), 1)
    while gcd(step, rows) != 1:
        step += 1
    ends = np.cumsum(list(count_defects(kind, rows).values()))
    defect_of_row = np.searchsorted(ends, (at * step + variant) % rows, side="right")
    return {name: np.flatnonzero(defect_of_row == i) for i, name in enumerate(DEFECTS)}


def _apply_defects(
    trips: dict[str, np.ndarray], defects: dict[str, np.ndarray], kind: TaxiKind, month: Month
) -> np.ndarray:
    """Apply the defects that values can express, add the totals, and return the mask of rows with unknown passengers."""
    intact = np.ones(len(trips[kind.pickup]), bool)
    intact[np.concatenate(list(defects.values()))] = False
    earlier = np.maximum.accumulate(np.where(intact, np.arange(len(intact)), intact.argmax()))
    refunds, copies = defects["negative_fare"], np.concatenate([defects["negative_fare"], defects["duplicate"]])
    for values in trips.values():
        values[copies] = values[earlier[copies]]
    for name in {*AMOUNTS, *sample_for_hire.AMOUNTS} & trips.keys():
        trips[name][refunds] *= -1
    if kind.measures.tip:
        trips[kind.measures.tip][refunds] = 0
    unknown = np.zeros(len(intact), bool)
    if kind.measures.passengers:
        trips["payment_type"][refunds] = 4
        trips["passenger_count"][defects["zero_passengers"]] = 0
        unknown[defects["unknown_passengers"]] = True
        for name in (*BLANKED[kind.name], "tip_amount"):
            trips[name][unknown] = 0
        trips["request_source"][~unknown] = 0
        trips["total_amount"] = np.sum([trips[name] for name in AMOUNTS], axis=0)

    pickup, dropoff = trips[kind.pickup], trips[kind.dropoff]
    for name, days in {
        "day_before": [month.start - dt.timedelta(days=1)],
        "day_after": [month.end],
        "years_off": [dt.datetime(2008, 12, 31), month.start.replace(year=month.year + 20)],
    }.items():
        rows = defects[name]
        midnights = np.array(days, "datetime64[s]").astype(np.int64)[rows % len(days)]
        dropoff[rows] += midnights + pickup[rows] % DAY - pickup[rows]
        pickup[rows] = midnights + pickup[rows] % DAY
    rows = defects["dropoff_before_pickup"]
    dropoff[rows] = pickup[rows] - dropoff[rows] % 3600 - 1
    return unknown


BLANKED = {
    "yellow": ("vendorid", "passenger_count", "ratecodeid", "store_and_fwd_flag", "payment_type"),
    "green": ("vendorid", "passenger_count", "ratecodeid", "store_and_fwd_flag", "payment_type", "trip_type",
              "congestion_surcharge"),
}  # fmt: skip
"""Columns that are empty where passengers are unknown (published CSV files of 2019-07 and later)."""

MAX_CENTS, MAX_MILES = 100_000, 10_000
"""Limits of the tables of printed amounts and hundredths of a mile; the values of `sample_trips` are well below."""

_AMOUNTS = pa.array([f"{cents / 100:g}" for cents in (*range(MAX_CENTS), *range(-MAX_CENTS, 0))])
_MILES = pa.array([f"{miles / 100:.2f}".lstrip("0") for miles in range(MAX_MILES)])
PRINTED = dict.fromkeys((*AMOUNTS, "total_amount", *sample_for_hire.AMOUNTS, "tips"), _AMOUNTS) | {
    "trip_distance": _MILES,
    "trip_miles": _MILES,
    "store_and_fwd_flag": pa.array(["N", "Y"]),
    "request_source": pa.array(["", "HV0003", "HV0005", "A"]),
    **sample_for_hire.PRINTED,
}
"""By column the printed values (8, 0.5, 14.16; .20, 2.10), indexed by the drawn ones modulo their number."""


def _csv(trips: dict[str, np.ndarray], defects: dict[str, np.ndarray], kind: TaxiKind, month: Month) -> memoryview:
    """Return the trips as lines of CSV, with all defects."""
    unknown = _apply_defects(trips, defects, kind, month)

    def column(name: str) -> pa.Array:
        if name not in trips:
            return pa.nulls(len(unknown), pa.string())
        blank = unknown if name in BLANKED.get(kind.name, ()) else None
        printed = bases if name == "dispatching_base_num" else PRINTED.get(name)
        if printed is not None:
            return printed.take(pa.array(trips[name] % len(printed), mask=blank))
        if name.endswith("_datetime"):
            return pa.array(trips[name], mask=trips[name] == 0).cast(pa.timestamp("s")).cast(pa.string())
        return pa.array(trips[name], mask=blank).cast(pa.string())

    bases = sample_for_hire.DISPATCHING.get(kind.name)
    columns = {name: column(name) for name in header(kind, month).lower().split(",")}
    number = kind.measures.distance or "dolocationid"
    columns[number] = _replace(columns[number], defects["word_in_number"], lambda _: "two")
    columns[kind.pickup] = _replace(columns[kind.pickup], defects["impossible_date"], lambda _: f"{month}-32 10:00:00")
    lines = pc.binary_join_element_wise(*columns.values(), ",", null_handling="replace", null_replacement="")
    lines = _replace(lines, defects["cut_line"], lambda line: line[: len(line) // 3])
    lines = _replace(lines, defects["surplus_fields"], lambda line: line + line)
    lines = pc.binary_join_element_wise(lines, "", "\n")
    _, offsets, data = lines.buffers()
    return memoryview(data)[: np.frombuffer(offsets, np.int32)[len(lines)]]


def _replace(texts: pa.Array, rows: np.ndarray, change: Callable[[str], str]) -> pa.Array:
    mask = np.zeros(len(texts), bool)
    mask[rows] = True
    return pc.replace_with_mask(texts, mask, pa.array(map(change, texts.take(rows).to_pylist()), pa.string()))
