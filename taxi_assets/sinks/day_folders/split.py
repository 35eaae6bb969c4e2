"""Split a month into days, in one streaming pass."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Collection
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow as pa

from taxi_assets.core.errors import PermanentError
from taxi_assets.core.manifest import WHOLE_MONTH
from taxi_assets.core.month_file import MonthFile
from taxi_assets.core.staging import MonthWriter, stage
from taxi_assets.core.table import Table

PENDING_ROWS = 393_216
"""Rows buffered before the fullest day is written: about 60 MB, for any order of the rows."""
_DAY = np.timedelta64(1, "D")


def split_days(
    month_file: MonthFile, table: Table, folder: Path, only: Collection[dt.date] | None = None
) -> dict[dt.date, MonthFile]:
    """Write the month's days (or `only` some of them) as files in `folder`, each in the order of the month.

    A day without rows is a file without rows. The caller removes the files.

    Raises:
        PermanentError: a row has no time or one outside the month, so that no day's file would contain it.
    """
    month = month_file.month
    wanted = set(month.days if only is None else only)
    if outside := sorted(wanted - set(month.days)):
        raise PermanentError(f"{outside[0]} is not a day of {month}.")
    with ExitStack() as stack:
        days = [
            stack.enter_context(stage(folder, month, month_file.schema, table, f"day-{day.day:02d}"))
            if day in wanted
            else None
            for day in month.days
        ]
        pending = np.zeros(len(days), dtype=np.int64)
        flushing: MonthWriter | None = None
        for batch in month_file.batches():
            index = _day_index(batch, table, month_file)
            rows = np.bincount(index, minlength=len(days))
            present = np.flatnonzero(rows)
            if len(present) == 1:
                _write(days[present[0]], batch)
            else:  # copied day by day: a slice would keep the complete batch in memory
                order = np.split(np.argsort(index, kind="stable"), np.cumsum(rows)[:-1])
                for day in present:
                    if days[day]:
                        _write(days[day], batch.take(pa.array(order[day])))
            pending += rows
            while pending.sum() > PENDING_ROWS:
                fullest = int(pending.argmax())
                if writer := days[fullest]:
                    if flushing:  # one at a time, or what is being written would add up
                        flushing.wait()
                    writer.flush()
                    flushing = writer
                pending[fullest] = 0
        for writer in filter(None, days):  # all of them begun before one is waited for
            writer.flush()
        manifest = month_file.manifest
        extra = {**manifest.extra, WHOLE_MONTH: json.loads(manifest.to_json())}
        files = {}
        for day, writer in zip(month.days, days, strict=True):
            if writer:
                writer.extra = extra
                files[day] = writer.close()
        return files


def _write(writer: MonthWriter | None, batch: pa.RecordBatch) -> None:
    if writer:
        writer.write(batch)


def _day_index(batch: pa.RecordBatch, table: Table, month_file: MonthFile) -> np.ndarray:
    """For each row, the day of the month of its time, from 0."""
    month, times = month_file.month, batch.column(table.time)
    if times.null_count:
        raise PermanentError(f"{month}: {times.null_count:,} rows have no {table.time}, so they belong to no day.")
    index = (times.to_numpy(zero_copy_only=False) - np.datetime64(month.start)) // _DAY
    if len(index) and (index.min() < 0 or index.max() >= len(month.days)):
        raise PermanentError(
            f"{month}: rows with a {table.time} outside the month belong to none of its days; reject them before they are "
            "loaded."
        )
    return index
