"""Months as they reach the reports: published or generated files, read and cleaned by the real reader and rules."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from taxi_assets.core.month import Month
from taxi_assets.core.month_file import MonthFile
from taxi_assets.core.staging import stage
from taxi_assets.datasets.rules import CleaningRules
from taxi_assets.datasets.schema import YELLOW, TaxiKind
from taxi_assets.lake.cleaning import clean_month
from taxi_assets.publisher.reader import open_trips
from taxi_assets.publisher.sample import write_sample
from taxi_assets.reports.figures import MonthProfile
from taxi_assets.reports.profile import profile_month


@dataclass(frozen=True)
class CleanedMonth:
    """A month and the result of cleaning it."""

    kind: TaxiKind
    month: Month
    raw: MonthFile
    clean: MonthFile
    rejected: MonthFile

    def profile(self, zones: pa.Table | None = None) -> MonthProfile:
        return profile_month(self.kind, self.clean, self.rejected, self.raw.rows, zones)


def cleaned(path: Path, kind: TaxiKind, month: str, folder: Path, **told: Any) -> CleanedMonth:
    """A published file; `told` is its recorded origin."""
    wanted = Month.parse(month)
    with stage(folder, wanted, kind.raw_schema, kind.table, f"{kind.name}-raw") as writer:
        for batch in open_trips(path, kind, wanted).batches:
            writer.write(batch)
        writer.extra = {"source": "tlc", "location": path.name, "version": '"abc-1"', "generated": False, **told}
        raw = writer.close()
    return CleanedMonth(kind, wanted, raw, *clean_month(raw, kind, CleaningRules(), folder))


def cleaned_sample(folder: Path, rows: int = 20_000, month: str = "2021-01", kind: TaxiKind = YELLOW) -> CleanedMonth:
    """A month recorded as generated."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{kind.name}-{month}.csv.gz"
    write_sample(path, kind, Month.parse(month), rows)
    return cleaned(path, kind, month, folder, source="sample", location="generated", generated=True)


def cleaned_rows(folder: Path, rows: list[dict[str, Any]], month: str = "2021-01", **told: Any) -> CleanedMonth:
    """A yellow month of exactly these trips; what a row leaves out is plain."""
    wanted = Month.parse(month)
    plain = {
        "tpep_pickup_datetime": wanted.start,
        "tpep_dropoff_datetime": wanted.start,
        "passenger_count": 1,
        "trip_distance": 1.0,
        "fare_amount": 5.0,
        "tip_amount": 0.0,
        "total_amount": 8.0,
        "pulocationid": 237,
        "payment_type": 2,
    }
    with stage(folder, wanted, YELLOW.raw_schema, YELLOW.table, "rows") as writer:
        writer.write(pa.RecordBatch.from_pylist([{**plain, **row} for row in rows], schema=YELLOW.raw_schema))
        writer.extra = told
        raw = writer.close()
    return CleanedMonth(YELLOW, wanted, raw, *clean_month(raw, YELLOW, CleaningRules(), folder))
