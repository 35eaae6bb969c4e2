"""A month split into the days of pickup, in one streaming pass; what becomes of the days is the sinks' business."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow as pa

from taxi_assets.core.errors import PermanentError
from taxi_assets.datasets.schema import TaxiKind
from taxi_assets.lake.month_file import TripFile
from taxi_assets.lake.staging import TripFileWriter, stage
from taxi_assets.sinks.contract import Trips

PENDING_ROWS = 393_216
"""Rows held before the fullest day is written: about 60 MB, in whatever order the trips come."""
_DAY = np.timedelta64(1, "D")


def split_days(
    trips: Trips, kind: TaxiKind, folder: Path, only: Collection[dt.date] | None = None
) -> dict[dt.date, TripFile]:
    """Write the month's days (or `only` some of them) as files in `folder`, each in the trips' own order.

    A day without trips is a file without rows. The caller removes the files.

    Raises:
        PermanentError: a trip has no pickup time or one outside the month, so that no day's file would hold it.
    """
    month = trips.month
    wanted = set(month.days if only is None else only)
    if outside := sorted(wanted - set(month.days)):
        raise PermanentError(f"{outside[0]} is not a day of {month}.")
    with ExitStack() as stack:
        days = [
            stack.enter_context(stage(folder, month, trips.schema, kind.pickup, f"day-{day.day:02d}"))
            if day in wanted
            else None
            for day in month.days
        ]
        pending = np.zeros(len(days), dtype=np.int64)
        flushing: TripFileWriter | None = None
        for batch in trips.batches():
            index = _day_index(batch, kind, trips)
            rows = np.bincount(index, minlength=len(days))
            present = np.flatnonzero(rows)
            if len(present) == 1:
                _write(days[present[0]], batch)
            else:  # taken day by day: a slice would keep the whole batch in memory with it
                order = np.split(np.argsort(index, kind="stable"), np.cumsum(rows)[:-1])
                for day in present:
                    if days[day]:
                        _write(days[day], batch.take(pa.array(order[day])))
            pending += rows
            while pending.sum() > PENDING_ROWS:
                fullest = int(pending.argmax())
                if writer := days[fullest]:
                    if flushing:  # one at a time, or what is being written would add up
                        flushing.settle()
                    writer.flush()
                    flushing = writer
                pending[fullest] = 0
        for writer in filter(None, days):  # all of them begun before one is waited for
            writer.flush()
        extra = trips.facts.extra
        files = {}
        for day, writer in zip(month.days, days, strict=True):
            if writer:
                writer.extra = extra
                files[day] = writer.close()
        return files


def _write(writer: TripFileWriter | None, batch: pa.RecordBatch) -> None:
    if writer:
        writer.write(batch)


def _day_index(batch: pa.RecordBatch, kind: TaxiKind, trips: Trips) -> np.ndarray:
    """For each row, the day of the month its pickup is on, from 0."""
    pickup = batch.column(kind.pickup)
    if pickup.null_count:
        raise PermanentError(
            f"{trips.month}: {pickup.null_count:,} trips have no pickup time, so they belong to no day."
        )
    index = (pickup.to_numpy(zero_copy_only=False) - np.datetime64(trips.month.start)) // _DAY
    if len(index) and (index.min() < 0 or index.max() >= len(trips.month.days)):
        raise PermanentError(
            f"{trips.month}: trips picked up outside the month belong to none of its days; reject them in clean_trips."
        )
    return index
