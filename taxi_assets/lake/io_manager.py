"""The lake: raw, clean and rejected months as Parquet files between assets, one file a month, published by rename."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from taxi_assets.core.errors import PermanentError
from taxi_assets.core.folders import flush
from taxi_assets.core.manifest import Manifest, compared_columns, count
from taxi_assets.core.month import Month
from taxi_assets.core.month_file import MonthFile
from taxi_assets.core.table import Table
from taxi_assets.sinks.contract import ConfigurableSink, WriteContext


class LakeIOManager(ConfigurableSink):
    """Keeps one asset's months in `folder/<kind>_<asset>/<month>.parquet`.

    A staged file is moved into place, anything else is copied: the previous month stays readable until the new one is whole
    on disk.
    """

    folder: str = Field(description="Folder of the lake.")
    asset: str = Field(description="Name of the asset whose months these are.")

    def path(self, table: Table, month: Month) -> Path:
        """Where the month is kept."""
        return Path(self.folder) / f"{table.object_kind}_{self.asset}" / f"{month}.parquet"

    def replace(self, table: Table, month_file: MonthFile, write: WriteContext) -> Mapping[str, Any]:
        """Publish a month's file."""
        target = self.path(table, month_file.month)
        target.parent.mkdir(parents=True, exist_ok=True)
        staged = month_file.path
        copied = not month_file.staged or staged.stat().st_dev != target.parent.stat().st_dev
        if copied:
            staged = target.with_suffix(f".{write.token}.tmp")  # a rename is atomic within a file system only
        try:
            if copied:
                shutil.copyfile(month_file.path, staged)
            rows, size = MonthFile(staged, month_file.month).rows, staged.stat().st_size  # fails if the file is damaged
            flush(staged)
            staged.replace(target)
        finally:
            staged.unlink(missing_ok=True)
            month_file.discard()
        flush(target.parent)
        return {"path": str(target), "dagster/partition_row_count": rows, "bytes": size}

    def manifest(self, table: Table, month: Month) -> Manifest | None:
        """What the file's footer records; None without a file."""
        path = self.path(table, month)
        return MonthFile(path, month).manifest if path.exists() else None

    def measure(self, table: Table, month: Month) -> Manifest | None:
        """Count and sum the month's rows; None without a file."""
        path = self.path(table, month)
        return count(table, MonthFile(path, month).batches(compared_columns(table))) if path.exists() else None

    def read(self, table: Table, month: Month) -> MonthFile:
        """The month's file."""
        path = self.path(table, month)
        if not path.exists():
            raise PermanentError(
                f"{month} has no {self.asset} yet ({path} does not exist); materialize {self.asset} for it first."
            )
        return MonthFile(path, month)
