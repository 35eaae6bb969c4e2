"""A generated month of trips in the publisher's CSV format, with a known number of every known defect.

For offline use, tests and benchmarks: what comes out reads like a published file, and `SampleFacts` says exactly what a
reader must find in it. Nothing here is a real trip; whoever loads it says so. The trips are drawn in `sample_trips`;
reading and cleaning are elsewhere.

Where it departs from the publisher, on purpose: the format stays that of 2019-2021 whatever the month, with LF line
ends, but for `request_source`, last since 2026-06, which only trips without a passenger count have; totals are always the
sum of their parts (published CMT rows count the congestion surcharge within extra, too).
"""

from __future__ import annotations

import datetime as dt
import os
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import gcd
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from taxi_assets.core.errors import PermanentError
from taxi_assets.core.month import Month
from taxi_assets.datasets.schema import REQUEST_SOURCE_SINCE, TaxiKind
from taxi_assets.publisher.sample_trips import AMOUNTS, DAY, draw_trips

CHUNK_ROWS = 65_536
"""Rows made at a time: about 40 MB while they are."""

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
    """The header of a generated month."""
    return HEADERS[kind.name] + (",request_source" if month >= REQUEST_SOURCE_SINCE else "")


@dataclass(frozen=True)
class Defect:
    """A known defect: how many rows of a million have it, and why reader or default rules reject them."""

    name: str
    per_million: int
    rejected_as: str | None
    what: str

    def count(self, rows: int) -> int:
        """How many of `rows` rows have it: the share rounded down, but at least one from 1,000 rows on."""
        return max(rows * self.per_million // 1_000_000, int(rows >= 1000))


UNKNOWN, ZERO, OUTSIDE = "unknown_passengers", "zero_passengers", "pickup_outside_month"
FIELDS, VALUE = "unreadable_field_count", "unreadable_value"
"""Reasons of `cleaning` and `reader`."""

DEFECTS = (
    Defect("unknown_passengers", 72_000, UNKNOWN, "provider, passengers, rate code, flag and payment are empty"),
    Defect("zero_passengers", 20_000, ZERO, "passenger_count is 0"),
    Defect("day_before", 20, OUTSIDE, "picked up on the day before the month"),
    Defect("day_after", 20, OUTSIDE, "picked up on the day after the month"),
    Defect("years_off", 2, OUTSIDE, "picked up on 2008-12-31, or twenty years later"),
    Defect(
        "negative_fare", 4_000, None, "a refund: an earlier trip again, amounts negated, payment 4 (dispute), no tip"
    ),
    Defect("duplicate", 500, None, "an earlier line once more"),
    Defect("dropoff_before_pickup", 1_000, None, "the drop-off is up to an hour before the pickup"),
    Defect("cut_line", 10, FIELDS, "the line ends after its first third"),
    Defect("surplus_fields", 10, FIELDS, "two lines run together"),
    Defect("word_in_number", 10, VALUE, "trip_distance is a word"),
    Defect("impossible_date", 10, VALUE, "picked up on the 32nd"),
)
"""Every defect of a generated month; a row has at most one.

Shares follow yellow 2021-01 (unknown 7.2 %, zero 2.0 %) and 2020 (negative 0.4 %, drop-off before pickup 0.1 %);
duplicates lie between 2010 (1.2 %) and later years (nearly none). Days off and unreadable lines are more frequent than
published, so that a small month has them.
"""


@dataclass(frozen=True)
class SampleFacts:
    """What a generated file holds: its data `lines`, how many have each defect, and for which `reasons` the reader and
    the default rules reject how many (reasons without a row are left out)."""

    lines: int
    defects: dict[str, int]
    reasons: dict[str, int]

    @property
    def unreadable(self) -> int:
        """Lines that cannot be read."""
        return sum(rows for reason, rows in self.reasons.items() if reason.startswith("unreadable"))

    @property
    def expected_rejected(self) -> int:
        """Rows that are rejected by default, unreadable lines included."""
        return sum(self.reasons.values())

    @property
    def expected_kept(self) -> int:
        """Rows that the default rules keep."""
        return self.lines - self.expected_rejected


def expected(kind: TaxiKind, month: Month, rows: int) -> SampleFacts:  # noqa: ARG001 what write_sample takes
    """What `write_sample` will write, without writing it; the same for every variant.

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
    """Write a generated month as CSV.gz of `rows` data lines, defects included, and say what is in it.

    Any month since 2009-01 will do; the format is the publisher's of 2019-2021 for all of them, with `request_source` since
    2026-06. The text depends on the
    arguments alone (another `variant` is the month as if republished); so do the compressed bytes, with one release of
    isal on one family of processors. The file appears whole under `path` or not at all, and memory does not grow with
    `rows`.

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
            f"{month}: the generated file {path} could not be written ({error.strerror or error}); "
            "make room or correct the folder, and run the month again."
        ) from error
    finally:
        staged.unlink(missing_ok=True)
    return facts


def _chunks(kind: TaxiKind, month: Month, rows: int, variant: int) -> Iterator[memoryview]:
    """The data lines as text, in chunks of about equal size."""
    chunks = -(-rows // CHUNK_ROWS)
    for chunk in range(chunks):
        at = np.arange(rows * chunk // chunks, rows * (chunk + 1) // chunks)
        seed = np.random.SeedSequence([*kind.name.encode(), *month, rows, variant, chunk])
        trips = draw_trips(kind, month, rows, at, np.random.PCG64(seed))
        defects = _defects(rows, at, variant)
        unknown = _spoil(trips, defects, kind, month)
        yield _text(trips, defects, unknown, kind, month)


def _defects(rows: int, at: np.ndarray, variant: int) -> dict[str, np.ndarray]:
    """By defect, the positions in the chunk of row numbers `at` that have it.

    Row numbers are permuted, in steps of the golden ratio so that rows of one defect lie far apart. The first so many
    of the permuted numbers have the first defect, the next the second: exact over the month, disjoint, no list kept.
    """
    step = max(round(rows * 0.6180339887), 1)
    while gcd(step, rows) != 1:
        step += 1
    ends = np.cumsum([defect.count(rows) for defect in DEFECTS])
    found = np.searchsorted(ends, (at * step + variant) % rows, side="right")
    return {defect.name: np.flatnonzero(found == i) for i, defect in enumerate(DEFECTS)}


def _spoil(trips: dict[str, np.ndarray], defects: dict[str, np.ndarray], kind: TaxiKind, month: Month) -> np.ndarray:
    """Put the defects that a value can show into the trips, add the totals, and return which rows are blanked."""
    sound = np.ones(len(trips[kind.pickup]), bool)
    sound[np.concatenate(list(defects.values()))] = False
    earlier = np.maximum.accumulate(np.where(sound, np.arange(len(sound)), sound.argmax()))
    refunds, copies = defects["negative_fare"], np.concatenate([defects["negative_fare"], defects["duplicate"]])
    for values in trips.values():
        values[copies] = values[earlier[copies]]
    for name in AMOUNTS:
        trips[name][refunds] *= -1
    trips["payment_type"][refunds], trips["tip_amount"][refunds] = 4, 0

    trips["passenger_count"][defects["zero_passengers"]] = 0
    unknown = np.zeros(len(sound), bool)
    unknown[defects["unknown_passengers"]] = True
    for name in (*_BLANKED[kind.name], "tip_amount"):
        trips[name][unknown] = 0
    trips["total_amount"] = np.sum([trips[name] for name in AMOUNTS], axis=0)

    pickup, dropoff = trips[kind.pickup], trips[kind.dropoff]
    later = month.start.replace(year=month.year + 20)
    for name, days in {
        "day_before": [month.start - dt.timedelta(days=1)],
        "day_after": [month.end],
        "years_off": [dt.datetime(2008, 12, 31), later],
    }.items():
        rows = defects[name]
        midnights = np.array(days, "datetime64[s]").astype(np.int64)[rows % len(days)]
        dropoff[rows] += midnights + pickup[rows] % DAY - pickup[rows]
        pickup[rows] = midnights + pickup[rows] % DAY
    rows = defects["dropoff_before_pickup"]
    dropoff[rows] = pickup[rows] - dropoff[rows] % 3600 - 1
    return unknown


_BLANKED = {
    "yellow": ("vendorid", "passenger_count", "ratecodeid", "store_and_fwd_flag", "payment_type"),
    "green": ("vendorid", "passenger_count", "ratecodeid", "store_and_fwd_flag", "payment_type", "trip_type",
              "congestion_surcharge"),
}  # fmt: skip
"""Columns that are empty where passengers are unknown (published CSV files of 2019-07 and later)."""

_MOST_CENTS, _MOST_MILES = 100_000, 10_000
"""Bounds of the tables of printed amounts and hundredths of a mile; the tables of `sample_trips` stay well within."""


@lru_cache
def _printed() -> dict[str, tuple[pa.Array, int]]:
    """By column, how the publisher prints its values (8, 0.5, 14.16; .20, 2.10), and where in the table zero is."""
    amounts = pa.array([f"{cents / 100:g}" for cents in range(-_MOST_CENTS, _MOST_CENTS)])
    return dict.fromkeys((*AMOUNTS, "total_amount"), (amounts, _MOST_CENTS)) | {
        "trip_distance": (pa.array([f"{miles / 100:.2f}".lstrip("0") for miles in range(_MOST_MILES)]), 0),
        "store_and_fwd_flag": (pa.array(["N", "Y"]), 0),
        "request_source": (pa.array(["", "HV0003", "HV0005", "A"]), 0),
    }


def _text(
    trips: dict[str, np.ndarray], defects: dict[str, np.ndarray], unknown: np.ndarray, kind: TaxiKind, month: Month
) -> memoryview:
    """The trips as lines, the unreadable ones among them."""

    def column(name: str) -> pa.Array:
        if name not in trips:
            return pa.nulls(len(unknown), pa.string())
        blank = unknown if name in _BLANKED[kind.name] else ~unknown if name == "request_source" else None
        values = pa.array(trips[name], mask=blank)
        if name in (kind.pickup, kind.dropoff):
            return values.cast(pa.timestamp("s")).cast(pa.string())
        if name in _printed():
            table, offset = _printed()[name]
            return table.take(pc.add(values, offset))
        return values.cast(pa.string())

    names = header(kind, month).lower().split(",")
    join = {"null_handling": "replace", "null_replacement": ""}
    lines = pc.binary_join_element_wise(*map(column, names), ",", **join)

    broken = {}
    distance, pickup = names.index("trip_distance"), names.index(kind.pickup)
    for name, break_line in {
        "cut_line": lambda line: line[: len(line) // 3],
        "surplus_fields": lambda line: line + line,
        "word_in_number": lambda line: _with_field(line, distance, "two"),
        "impossible_date": lambda line: _with_field(line, pickup, f"{month}-32 10:00:00"),
    }.items():
        broken |= {int(row): break_line(lines[int(row)].as_py()) for row in defects[name]}
    if broken:
        mask = np.zeros(len(lines), bool)
        mask[list(broken)] = True
        lines = pc.replace_with_mask(lines, mask, pa.array([broken[row] for row in sorted(broken)]))

    lines = pc.binary_join_element_wise(lines, "", "\n")
    _, offsets, data = lines.buffers()
    return memoryview(data)[: np.frombuffer(offsets, np.int32)[len(lines)]]


def _with_field(line: str, at: int, value: str) -> str:
    fields = line.split(",")
    fields[at] = value
    return ",".join(fields)
