"""Months of generated trips for tests of sinks: of any size, reproducible by seed, all within the month."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from taxi_assets.core import folders
from taxi_assets.core.manifest import Manifest
from taxi_assets.core.month import Month
from taxi_assets.core.month_file import BATCH_ROWS, MonthFile
from taxi_assets.core.staging import stage
from taxi_assets.datasets.schema import YELLOW, TaxiKind

NEW_COLUMN_TYPES = ("int64", "double", "string", "bool", "date32[day]", "timestamp[us]")
"""Types that an unknown column may have in the sinks (TAXI_NEW_COLUMNS=add)."""


def stage_in(folder: Path | str) -> None:
    """Let sinks without a staging folder stage their files in `folder`/taxi_assets, in this process."""
    folders.tempfile = SimpleNamespace(gettempdir=lambda: str(folder))


def month_of_trips(
    folder: Path,
    month: str,
    rows: int,
    seed: int = 0,
    kind: TaxiKind = YELLOW,
    change: Callable[[pa.RecordBatch], pa.RecordBatch] = lambda batch: batch,
    extra: dict[str, Any] | None = None,
) -> MonthFile:
    """A month in a file of `folder`; `change` may spoil its batches."""
    wanted = Month.parse(month)
    chance = np.random.default_rng([wanted.year, wanted.month, seed])
    sizes = [min(BATCH_ROWS, rows - start) for start in range(0, rows, BATCH_ROWS)]
    batches = [change(_batch(kind, wanted, size, chance)) for size in sizes[:1]]  # to get the schema
    schema = batches[0].schema if batches else kind.schema
    with stage(folder, wanted, schema, kind.table, f"seed{seed}") as writer:
        for batch in batches:
            writer.write(batch)
        for size in sizes[1:]:
            writer.write(change(_batch(kind, wanted, size, chance)))
        writer.extra = extra or {}
        return writer.close()


def _batch(kind: TaxiKind, month: Month, rows: int, chance: np.random.Generator) -> pa.RecordBatch:
    seconds = int((month.end - month.start).total_seconds())
    make = {
        "int16": lambda: pa.array(chance.integers(1, 200, rows), pa.int16(), mask=chance.random(rows) < 0.05),
        "double": lambda: pa.array(np.round(chance.gamma(2, 8, rows), 2)),
        "string": lambda: pa.array(chance.choice(["Y", "N"], rows)),
        "timestamp[us]": lambda: pa.array(
            np.datetime64(month.start) + chance.integers(0, seconds, rows).astype("timedelta64[s]"), pa.timestamp("us")
        ),
    }
    return pa.record_batch([make[column.type]() for column in kind.columns], schema=kind.schema)


def same_trips(left: MonthFile, right: MonthFile) -> bool:
    """Whether two months have the same rows in any order."""
    return _sorted(left.to_arrow()).equals(_sorted(right.to_arrow()))


def _sorted(table: pa.Table) -> pa.Table:
    names = sorted(table.column_names)
    return table.select(names).sort_by([(name, "ascending") for name in names]).combine_chunks()


def same_manifest(left: Manifest | None, right: Manifest) -> bool:
    """Whether two sets of facts agree; totals to the cent, as sums of floats depend on their order."""
    return left is not None and not right.differences(left)


def one_pickup_outside(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch with its first pickup a year late."""
    index = batch.schema.get_field_index(YELLOW.pickup)
    pickups = batch.column(index)
    late = pc.add(pickups.slice(0, 1), pa.scalar(dt.timedelta(days=365)))
    return batch.set_column(index, batch.schema.field(index), pa.concat_arrays([late, pickups.slice(1)]))
