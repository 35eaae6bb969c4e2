"""Counts a month: everything the report shows, in one pass over the clean and the rejected trips.

What is counted is in `figures`; drawing is `charts`, writing is `html`.
"""

from __future__ import annotations

from collections import Counter
from urllib.parse import urlsplit, urlunsplit

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from taxi_assets.core.month import Month
from taxi_assets.core.month_file import MonthFile
from taxi_assets.datasets.schema import TaxiKind
from taxi_assets.reports.figures import Day, Histogram, MonthProfile, Origin, Places, Totals, Zone

DISTANCE_BINS, FARE_BINS = (0.5, 20), (2.5, 80)
"""Width of a bin and where the tail begins, in miles and US dollars: up to the airports and beyond."""

TOP_ZONES = 10


def profile_month(
    kind: TaxiKind, clean: MonthFile, rejected: MonthFile, raw_rows: int, zones: pa.Table | None = None
) -> MonthProfile:
    """Count a month in one pass over each file, a batch in memory at a time (1.4 million trips: 0.1 to 0.2 s).

    Args:
        kind: whose trips they are.
        clean: the trips kept, in the kind's schema.
        rejected: the rows rejected, in the kind's raw schema.
        raw_rows: rows that were published, to be set against the two.
        zones: the lookup in `zone_lookup.ZONE_SCHEMA`; without it zones go by their number.
    """
    month, count = clean.month, _Counts(clean.month)
    for batch in clean.batches(columns=_present(clean, kind.pickup, *_READ)):
        count.add(kind, batch)
    days, reasons = np.zeros(len(month.days), np.int64), Counter()
    outside = undated = 0
    rejected_sources: Counter[str | None] = Counter()
    for batch in rejected.batches(columns=_present(rejected, kind.pickup, "reject_reason", REQUEST_SOURCE)):
        _count_sources(rejected_sources, batch.filter(pc.is_valid(batch.column(kind.pickup))))  # not unreadable lines
        hours, elsewhere = _hours(month, batch.column(kind.pickup))
        days += hours.reshape(-1, 24).sum(axis=1)
        outside, undated = outside + elsewhere, undated + batch.column(kind.pickup).null_count
        for pair in pc.value_counts(batch.column("reject_reason")).to_pylist():
            reasons[pair["values"] or "unknown"] += pair["counts"]

    by_day = count.hours.reshape(-1, 24)
    by_weekday = np.zeros((7, 24), np.int64)
    np.add.at(by_weekday, [day.weekday() for day in month.days], by_day)
    facts, extra = clean.manifest, clean.manifest.extra
    requested = {*count.request_sources, *rejected_sources} - {None}
    return MonthProfile(
        kind=kind.name,
        month=str(month),
        raw_rows=raw_rows,
        rejected_rows=rejected.rows,
        totals=Totals(
            count.rows, int(count.sums["passenger_count"]), *(round(count.sums[name], 2) for name in _SUMMED)
        ),
        days=tuple(
            Day(day.isoformat(), int(trips), int(bad))
            for day, trips, bad in zip(month.days, by_day.sum(axis=1), days, strict=True)
        ),
        undated=count.undated,
        rejected_outside=outside,
        rejected_undated=undated,
        hours=tuple(tuple(map(int, row)) for row in by_weekday),
        distances=count.distances.fold(*DISTANCE_BINS),
        fares=count.fares.fold(*FARE_BINS),
        places=_places(count, zones),
        payments=_by_code(count.payments),
        reasons=dict(sorted(reasons.items(), key=lambda item: (-item[1], item[0]))),
        first_pickup=facts.first,
        last_pickup=facts.last,
        origin=Origin(
            *(_public(str(extra.get(name) or "not recorded")) for name in ("source", "location", "version")),
            generated=bool(extra.get("generated")),
        ),
        request_sources=_by_code(count.request_sources) if requested else {},
        rejected_request_sources=_by_code(rejected_sources) if requested else {},
    )


def _present(trips: MonthFile, *columns: str) -> list[str]:
    """Those of the columns that the file has: files written by an older release lack newer ones."""
    return [name for name in columns if name in trips.schema.names]


def _count_sources(counter: Counter[str | None], batch: pa.RecordBatch) -> None:
    if REQUEST_SOURCE in batch.schema.names:
        for pair in pc.value_counts(batch.column(REQUEST_SOURCE)).to_pylist():
            counter[pair["values"]] += pair["counts"]


def _by_code(counts: Counter) -> dict[str, int]:
    """Counts by code as text, most frequent first; "" where there is none."""
    return {str(code) if code is not None else "": n for code, n in counts.most_common()}


def _public(address: str) -> str:
    """An address without what may be secret in it: user, password, query."""
    parts = urlsplit(address)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", "")) if parts.netloc else address


_SUMMED = ("trip_distance", "fare_amount", "tip_amount", "total_amount")
REQUEST_SOURCE = "request_source"
_READ = ("passenger_count", *_SUMMED, "pulocationid", "payment_type", "pickup_longitude", REQUEST_SOURCE)


class _Hundredths:
    """Counts of a quantity by its hundredths, 0 to `most`: fine enough for an exact median of miles or dollars."""

    def __init__(self, most: int) -> None:
        self.counts = np.zeros(100 * most + 1, np.int64)
        self.above = self.below = self.unknown = 0

    def add(self, values: pa.Array) -> None:
        self.unknown += values.null_count
        hundredths = np.rint(values.drop_null().to_numpy() * 100)
        high, low = hundredths >= len(self.counts), hundredths < 0
        self.above, self.below = self.above + int(high.sum()), self.below + int(low.sum())
        self.counts += np.bincount(hundredths[~(high | low)].astype(np.int64), minlength=len(self.counts))

    def fold(self, width: float, end: float) -> Histogram:
        step, stop = round(width * 100), round(end * 100)
        bins = self.counts[:stop].reshape(-1, step).sum(axis=1)
        above = int(self.counts[stop:].sum()) + self.above
        return Histogram(
            width, tuple(map(int, bins)), above, self.below, int(self.counts[0]), self.unknown, self._median()
        )

    def _median(self) -> float | None:
        known = int(self.counts.sum()) + self.above + self.below
        middle = np.array([(known - 1) // 2, known // 2]) - self.below
        if not known or middle[0] < 0 or middle[1] >= self.counts.sum():
            return None
        return round(float(np.searchsorted(self.counts.cumsum(), middle, side="right").mean()) / 100, 3)


class _Counts:
    """What is counted of the clean trips, batch by batch."""

    def __init__(self, month: Month) -> None:
        self.month = month
        self.rows = self.undated = self.without_zone = self.with_coordinates = 0
        self.hours = np.zeros(24 * len(month.days), np.int64)
        self.sums: Counter[str] = Counter()
        self.zones: Counter[int] = Counter()
        self.payments: Counter[int | None] = Counter()
        self.request_sources: Counter[str | None] = Counter()
        self.distances, self.fares = _Hundredths(100), _Hundredths(500)

    def add(self, kind: TaxiKind, batch: pa.RecordBatch) -> None:
        self.rows += batch.num_rows
        pickup, zone = batch.column(kind.pickup), batch.column("pulocationid")
        hours, outside = _hours(self.month, pickup)
        self.hours += hours
        self.undated += outside + pickup.null_count
        for name in ("passenger_count", *_SUMMED):
            self.sums[name] += pc.sum(batch.column(name)).as_py() or 0
        self.distances.add(batch.column("trip_distance"))
        self.fares.add(batch.column("fare_amount"))
        self.without_zone += zone.null_count
        self.with_coordinates += batch.num_rows - batch.column("pickup_longitude").null_count
        for counter, column in ((self.zones, zone.drop_null()), (self.payments, batch.column("payment_type"))):
            for pair in pc.value_counts(column).to_pylist():
                counter[pair["values"]] += pair["counts"]
        _count_sources(self.request_sources, batch)


def _hours(month: Month, pickup: pa.Array) -> tuple[np.ndarray, int]:
    """Rows by hour of the month (day 1, hour 0 first), and how many were picked up outside the month."""
    microseconds = pickup.drop_null().cast(pa.int64()).to_numpy()
    start = pa.scalar(month.start, pickup.type).cast(pa.int64()).as_py()
    hours, size = (microseconds - start) // 3_600_000_000, 24 * len(month.days)
    inside = (hours >= 0) & (hours < size)
    return np.bincount(hours[inside], minlength=size), int((~inside).sum())


def _places(count: _Counts, zones: pa.Table | None) -> Places:
    known = {row["locationid"]: row for row in zones.to_pylist()} if zones is not None else {}
    top = sorted(count.zones.items(), key=lambda item: (-item[1], item[0]))[:TOP_ZONES]
    return Places(
        tuple(
            Zone(id_, known.get(id_, {}).get("zone"), known.get(id_, {}).get("borough"), trips) for id_, trips in top
        ),
        count.without_zone,
        count.with_coordinates,
        zones is not None,
    )
