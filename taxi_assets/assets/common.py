"""What all assets of a kind of taxi share: keys, groups, owners, metadata, and how they report progress."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import dagster as dg

from taxi_assets.datasets.schema import Column, TaxiKind
from taxi_assets.settings import Settings
from taxi_assets.sinks.contract import KIND_METADATA

OWNERS = ["team:taxi-data"]
INGEST, SINKS, DAILY, REPORTS = "ingest", "sinks", "daily", "reports"

CODE_VERSION = "1"
"""Raised when the same published file would give other rows; months of an older version show as stale."""


def prefix(kind: TaxiKind) -> list[str]:
    """The key prefix of a kind's assets: none for yellow, whose six assets users know by their plain names."""
    return [] if kind.name == "yellow" else [kind.name]


def key(kind: TaxiKind, name: str) -> dg.AssetKey:
    """The asset key of `name` for a kind."""
    return dg.AssetKey([*prefix(kind), name])


def group(kind: TaxiKind, name: str) -> str:
    """The group an asset of a kind is shown in."""
    return "_".join([*prefix(kind), name])


def backfill_policy(settings: Settings) -> dg.BackfillPolicy | None:
    """How many months a backfill's run holds.

    None is Dagster's default, a run a month. `multi_run(1)` would make runs over ranges of one month: without the month's tag,
    and with checks that belong to no month.
    """
    if settings.months_per_run == "1":
        return None
    if settings.months_per_run == "all":
        return dg.BackfillPolicy.single_run()
    return dg.BackfillPolicy.multi_run(max_partitions_per_run=int(settings.months_per_run))


def column_schema(columns: Sequence[Column]) -> dg.TableSchema:
    """The columns with their meaning and units, for the UI."""
    return dg.TableSchema([dg.TableColumn(c.name, c.type, description=c.description) for c in columns])


def metadata(kind: TaxiKind, columns: Sequence[Column], upstream: str | None = None) -> Mapping[str, Any]:
    """Definition metadata of an asset that keeps months; `upstream` has the same columns, and they come from there."""
    told = {KIND_METADATA: kind.name, "dagster/column_schema": column_schema(columns)}
    same = {column.name: column.name for column in columns}
    return {**told, **({"dagster/column_lineage": lineage(key(kind, upstream), same)} if upstream else {})}


def lineage(upstream: dg.AssetKey, columns: Mapping[str, str]) -> dg.TableColumnLineage:
    """Which column of `upstream` each column is made from."""
    return dg.TableColumnLineage({name: [dg.TableColumnDep(upstream, source)] for name, source in columns.items()})


class Pace:
    """Lets a line through every few seconds, so that long work shows where it is and short work stays quiet."""

    seconds = 3.0
    """Between two lines; less at a terminal, which draws them as a bar."""

    def __init__(self, log: Callable[[str], Any]) -> None:
        self._log, self._last = log, time.monotonic()

    def __call__(self, line: Callable[[], str]) -> None:
        """Log `line()` if it is time."""
        if time.monotonic() - self._last >= self.seconds:
            self._last = time.monotonic()
            self._log(line())


def share(done: float, total: float | None) -> str:
    """`37 %`, or nothing when the total is not known."""
    return f" ({100 * done / total:.0f} %)" if total else ""
