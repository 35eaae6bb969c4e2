"""Generates a month of trips in the publisher's CSV format, with a known number of every known defect.

For offline use, tests and benchmarks: the file reads like a published one, and `SampleFacts` says what a reader must find
in it. Nothing here is a real trip. The trips themselves are drawn in `sample_trips`.

Deliberate differences from the publisher: the format is that of 2019-2021 for every month, with LF line ends; only
`request_source` is added from 2026-06 on, set on trips without a passenger count; totals are always the sum of their
parts (published CMT rows count the congestion surcharge within extra, too).
"""

from __future__ import annotations

import datetime as dt
import os
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from math import gcd
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from taxi_assets.core.errors import PermanentError
from taxi_assets.core.month import Month
from taxi_assets.datasets.schema import REQUEST_SOURCE_SINCE, TaxiKind
from taxi_assets.publisher.sample_trips import AMOUNTS, DAY, draw_trips

CHUNK_ROWS = 65_536
"""Rows generated at a time, in about 40 MB."""

MAX_ROWS = 100_000_000
"""Six times the largest published month; well below where the layout of defects would overflow."""

HEADERS = {
    "yellow": "VendorID,tpep_pickup_datetime,tpep_dropoff_datetime,passenger_count,trip_distance,RatecodeID,"
              "store_and_fwd_flag,PULocationID,DOLocationID,payment_type,fare_amount,extra,mta_tax,tip_amount,"
              "tolls_amount,improvement_surcharge,total_amount,congestion_surcharge",
    "green": "VendorID,lpep_pickup_datetime,lpep_dropoff_datetime,store_and_fwd_flag,RatecodeID,PULocationID,"
             "DOLocationID,passenger_count,trip_distance,fare_amount,extra,mta_tax,tip_amount,tolls_amount,ehail_fee,"
             "improvement_surcharge,total_amount,payment_type,trip_type,congestion_surcharge",
}  # fmt: skip
"""The publisher's headers of 2019-2021, by kind (2020-01 yellow and 2020-03 green CSV files)."""


def header(kind: TaxiKind, month: Month) -> str:
    """Return the header of a generated month."""
    return HEADERS[kind.name] + (",request_source" if month >= REQUEST_SOURCE_SINCE else "")


class Defect(NamedTuple):
    """A known defect: how many of a million rows have it, and with which reason they are rejected (None: they are not)."""

    name: str
    per_million: int
    rejected_as: str | None

    def count(self, rows: int) -> int:
        """Return how many of `rows` rows have it: the share rounded down, but at least one from 1,000 rows on."""
        return max(rows * self.per_million // 1_000_000, int(rows >= 1000))


DEFECTS = (
    Defect("unknown_passengers", 72_000, "unknown_passengers"),  # vendor, passengers, rate, flag and payment are empty
    Defect("zero_passengers", 20_000, "zero_passengers"),
    Defect("day_before", 20, "pickup_outside_month"),
    Defect("day_after", 20, "pickup_outside_month"),
    Defect("years_off", 2, "pickup_outside_month"),  # picked up on 2008-12-31, or twenty years later
    Defect("negative_fare", 4_000, None),  # a refund: an earlier trip, amounts negated, payment 4 (dispute), no tip
    Defect("duplicate", 500, None),  # an earlier line
    Defect("dropoff_before_pickup", 1_000, None),  # by up to an hour
    Defect("cut_line", 10, "unreadable_field_count"),  # ends after its first third
    Defect("surplus_fields", 10, "unreadable_field_count"),  # two lines joined
    Defect("word_in_number", 10, "unreadable_value"),  # trip_distance is a word
    Defect("impossible_date", 10, "unreadable_value"),  # picked up on the 32nd
)
"""Every defect of a generated month; a row has at most one.

Shares follow yellow 2021-01 (unknown 7.2 %, zero 2.0 %) and 2020 (negative 0.4 %, drop-off before pickup 0.1 %);
duplicates are between 2010 (1.2 %) and later years (nearly none). Days outside the month and unreadable lines are more
frequent than published, so that a small month has them.
"""


@dataclass(frozen=True)
class SampleFacts:
    """What a generated file contains: its data `lines`, how many have each defect, and how many the reader and the
    default rules reject for each of the `reasons` (reasons without a row are omitted)."""

    lines: int
    defects: dict[str, int]
    reasons: dict[str, int]

    @property
    def expected_rejected(self) -> int:
        """Rows that are rejected by default, unreadable lines included."""
        return sum(self.reasons.values())

    @property
    def expected_kept(self) -> int:
        """Rows that the default rules keep."""
        return self.lines - self.expected_rejected


def expected(kind: TaxiKind, month: Month, rows: int) -> SampleFacts:  # noqa: ARG001 the arguments of write_sample
    """Return what `write_sample` writes, without writing it; it is the same for every variant.

    Raises:
        PermanentError: `rows` is not between 1 and 100 million.
    """
    if not 1 <= rows <= MAX_ROWS:
        raise PermanentError(
            f"{month}: a generated month has 1 to {MAX_ROWS:,} rows, not {rows:,}; set TAXI_SAMPLE_ROWS."
        )
    counts = {defect.name: defect.count(rows) for defect in DEFECTS}
    reasons: Counter[str] = Counter()
    for defect in DEFECTS:
        if defect.rejected_as and counts[defect.name]:
            reasons[defect.rejected_as] += counts[defect.name]
    return SampleFacts(rows, counts, dict(reasons))


def write_sample(path: Path, kind: TaxiKind, month: Month, rows: int, *, variant: int = 0) -> SampleFacts:
    """Write a generated month of `rows` data lines, defects included, as CSV.gz.

    The text depends only on the arguments (another `variant` is the month as if republished); so do the compressed
    bytes, with one release of isal on one family of processors. The file is written atomically, in memory that does not
    grow with `rows`.

    Raises:
        PermanentError: `rows` is not between 1 and 100 million, or the file cannot be written.
    """
    from isal import igzip

    facts = expected(kind, month, rows)
    staged = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}")
    try:
        with (
            staged.open("wb") as file,
            igzip.IGzipFile(filename="", mode="wb", compresslevel=1, fileobj=file, mtime=0) as out,
        ):
            out.write(f"{header(kind, month)}\n".encode())
            for text in _chunks(kind, month, rows, variant):
                out.write(text)
        os.replace(staged, path)
    except OSError as error:
        raise PermanentError(
            f"{month}: the generated file {path} could not be written ({error.strerror or error}); free some space or "
            "fix the folder's permissions, and run the month again."
        ) from error
    finally:
        staged.unlink(missing_ok=True)
    return facts


def _chunks(kind: TaxiKind, month: Month, rows: int, variant: int) -> Iterator[memoryview]:
    """Yield the data lines as text, in chunks of about equal size."""
    chunks = -(-rows // CHUNK_ROWS)
    for chunk in range(chunks):
        at = np.arange(rows * chunk // chunks, rows * (chunk + 1) // chunks)
        seed = np.random.SeedSequence([*kind.name.encode(), *month, rows, variant, chunk])
        trips = draw_trips(kind, month, rows, at, np.random.PCG64(seed))
        defects = _defects(rows, at, variant)
        unknown = _apply_defects(trips, defects, kind, month)
        yield _csv(trips, defects, unknown, kind, month)


def _defects(rows: int, at: np.ndarray, variant: int) -> dict[str, np.ndarray]:
    """Return by defect the positions, in the chunk of row numbers `at`, of the rows that have it.

    Row numbers are permuted, in steps of the golden ratio so that rows of one defect are far apart. The first permuted
    numbers have the first defect, the next ones the second: exact over the month and disjoint, without a list of rows.
    """
    step = max(round(rows * 0.6180339887), 1)
    while gcd(step, rows) != 1:
        step += 1
    ends = np.cumsum([defect.count(rows) for defect in DEFECTS])
    defect_of_row = np.searchsorted(ends, (at * step + variant) % rows, side="right")
    return {defect.name: np.flatnonzero(defect_of_row == i) for i, defect in enumerate(DEFECTS)}


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
    for name in AMOUNTS:
        trips[name][refunds] *= -1
    trips["payment_type"][refunds], trips["tip_amount"][refunds] = 4, 0

    trips["passenger_count"][defects["zero_passengers"]] = 0
    unknown = np.zeros(len(intact), bool)
    unknown[defects["unknown_passengers"]] = True
    for name in (*BLANKED[kind.name], "tip_amount"):
        trips[name][unknown] = 0
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


@cache
def _printed() -> dict[str, tuple[pa.Array, int]]:
    """Return by column the table of printed values (8, 0.5, 14.16; .20, 2.10), and the index of zero in it."""
    amounts = pa.array([f"{cents / 100:g}" for cents in range(-MAX_CENTS, MAX_CENTS)])
    return dict.fromkeys((*AMOUNTS, "total_amount"), (amounts, MAX_CENTS)) | {
        "trip_distance": (pa.array([f"{miles / 100:.2f}".lstrip("0") for miles in range(MAX_MILES)]), 0),
        "store_and_fwd_flag": (pa.array(["N", "Y"]), 0),
        "request_source": (pa.array(["", "HV0003", "HV0005", "A"]), 0),
    }


def _csv(
    trips: dict[str, np.ndarray], defects: dict[str, np.ndarray], unknown: np.ndarray, kind: TaxiKind, month: Month
) -> memoryview:
    """Return the trips as lines of CSV, with the unreadable lines among them."""

    def column(name: str) -> pa.Array:
        if name not in trips:
            return pa.nulls(len(unknown), pa.string())
        blank = unknown if name in BLANKED[kind.name] else ~unknown if name == "request_source" else None
        values = pa.array(trips[name], mask=blank)
        if name in (kind.pickup, kind.dropoff):
            return values.cast(pa.timestamp("s")).cast(pa.string())
        if name in _printed():
            table, zero = _printed()[name]
            return table.take(pc.add(values, zero))
        return values.cast(pa.string())

    names = header(kind, month).lower().split(",")
    lines = pc.binary_join_element_wise(*map(column, names), ",", null_handling="replace", null_replacement="")
    distance, pickup = names.index("trip_distance"), names.index(kind.pickup)
    damaged: dict[int, str] = {}
    for name, damage in {
        "cut_line": lambda line: line[: len(line) // 3],
        "surplus_fields": lambda line: line + line,
        "word_in_number": lambda line: _with_field(line, distance, "two"),
        "impossible_date": lambda line: _with_field(line, pickup, f"{month}-32 10:00:00"),
    }.items():
        damaged |= {row: damage(lines[row].as_py()) for row in defects[name].tolist()}
    mask = np.zeros(len(lines), bool)
    mask[list(damaged)] = True
    lines = pc.replace_with_mask(lines, mask, pa.array([damaged[row] for row in sorted(damaged)], pa.string()))

    lines = pc.binary_join_element_wise(lines, "", "\n")
    _, offsets, data = lines.buffers()
    return memoryview(data)[: np.frombuffer(offsets, np.int32)[len(lines)]]


def _with_field(line: str, at: int, value: str) -> str:
    fields = line.split(",")
    fields[at] = value
    return ",".join(fields)
