"""The lake as the contract sees it: a month as assets write it, staged and then moved, and a month that is copied."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from taxi_assets.automation.housekeeping import HOUR, STAGED_HOURS, remove_orphans
from taxi_assets.core.month import Month
from taxi_assets.core.month_file import MonthFile
from taxi_assets.datasets.schema import YELLOW
from taxi_assets.settings import Settings
from taxi_assets_tests.sinks.places.base import Contents, Place, Servers, contents
from taxi_assets_tests.sinks.places.managers import LAKE_ASSET
from taxi_assets_tests.sinks.places.small_disk import full, small_disk


class LakePlace(Place):
    """A lake and its staging folder, on a small disk where one may be mounted."""

    rows = 20_000
    records_manifest = True
    housekeeping_after_kill = True

    def prepare(self, servers: Servers, stack: ExitStack) -> None:
        if disk := small_disk(self.folder, stack):
            self.home, self.faults = disk, {"disk full": lambda chance, seconds: full(disk, chance)}
        self.where = str(self.home / "taxi")
        self.settings = Settings(home=self.where)

    def held(self, month: Month) -> Contents | None:
        path = self.settings.lake_folder / f"yellow_{LAKE_ASSET}" / f"{month}.parquet"
        if not path.exists():
            return None
        with pq.ParquetFile(pa.BufferReader(path.read_bytes())) as file:
            return contents(file.read().replace_schema_metadata(None))

    def look(self, month: Month) -> Contents | None:  # through the sink, as assets read the lake
        return contents(self.sink.read(YELLOW.table, month).to_arrow())

    def broken(self, trips: MonthFile) -> Any:
        if self.name == "lake":
            return super().broken(trips)
        half = self.folder / "half.parquet"  # a file that is copied can only be damaged
        half.write_bytes(trips.path.read_bytes()[: trips.bytes // 2])
        return MonthFile(half, trips.month)

    def housekeeping(self) -> None:
        long_ago = time.time() - (STAGED_HOURS + 1) * HOUR
        for path in self.extra():
            os.utime(path, (long_ago, long_ago))
        remove_orphans(self.settings, lambda line: None)

    def extra(self) -> list[str]:
        folders = (self.settings.lake_folder, self.settings.staging_folder)
        found = [p for folder in folders for p in Path(folder).rglob("*") if p.is_file() and p.name != ".lock"]
        return [str(path) for path in found if not path.match(f"lake/yellow_{LAKE_ASSET}/????-??.parquet")]
