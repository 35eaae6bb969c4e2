"""A sink that combines several: a month is replaced in each in turn, each atomically.

A reader of any of them sees the old month or the new one. If a run is killed between two of them, some have the old
month until the next run; a check reports it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import dagster as dg

from taxi_assets.core.manifest import Manifest
from taxi_assets.core.month import Month
from taxi_assets.core.month_file import MonthFile
from taxi_assets.core.table import Table
from taxi_assets.sinks.contract import MonthSink, WriteContext


class SeveralSinks(MonthSink, dg.IOManager):
    """Keeps a month in every sink of `parts`, by name, in their order; it is read from the first.

    The first is the one whose handle the others load from: a bucket, where BigQuery is among them.
    """

    def __init__(self, parts: Mapping[str, MonthSink]) -> None:
        self.parts, self._first = parts, next(iter(parts.values()))
        self.staging = self._first.staging

    def replace(self, table: Table, month_file: MonthFile, write: WriteContext) -> Mapping[str, Any]:
        """Replace the month in every part; the parts behind one that fails keep the old month."""
        quiet, month, metadata = replace(write, log=lambda _: None), month_file.month, {}
        for name, sink in self.parts.items():
            source = month_file if sink is self._first else self._first.read(table, month)
            metadata |= sink.replace(table, source, quiet)
            metadata[f"{name}_location"] = sink.where(table, month)
        write.log(f"{month}: {month_file.rows:,} rows in {', '.join(self.parts)}.")
        return metadata

    def measure(self, table: Table, month: Month) -> Manifest | None:
        """Measure the first part."""
        return self._first.measure(table, month)

    def manifests(self, table: Table) -> dict[Month, Manifest]:
        """The months that every part has: as the first records them, if the others record the same, else without rows."""
        first, *others = (sink.manifests(table) for sink in self.parts.values())
        found = {}
        for month in first.keys() & set.intersection(*map(set, others)):
            same = all(
                not first[month].contradicts(other[month]) and not other[month].stale(first[month]) for other in others
            )
            found[month] = first[month] if same else Manifest(-1)
        return found

    def read(self, table: Table, month: Month) -> MonthFile:
        """Read the month from the first part."""
        return self._first.read(table, month)

    def where(self, table: Table, month: Month) -> str:
        """Where the first part has the month."""
        return self._first.where(table, month)
