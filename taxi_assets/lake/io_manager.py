"""The lake: raw, clean and rejected months as Parquet files between assets, one file a month, published by rename."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from taxi_assets.core.errors import PermanentError
from taxi_assets.core.month import Month
from taxi_assets.datasets.schema import TaxiKind
from taxi_assets.lake.month_file import Facts, TripFile
from taxi_assets.settings import get_settings
from taxi_assets.sinks.contract import MonthIOManager, Trips, Writing


class LakeIOManager(MonthIOManager):
    """Keeps one asset's months in `folder/<kind>_<asset>/<month>.parquet`.

    A staged file is moved into place, anything else is copied: the previous month stays readable until the new one is whole
    on disk.
    """

    folder: str
    asset: str

    def path(self, kind: TaxiKind, month: Month) -> Path:
        """Where the month is kept."""
        return Path(self.folder) / f"{kind.name}_{self.asset}" / f"{month}.parquet"

    def replace(self, kind: TaxiKind, trips: Trips, writing: Writing) -> Mapping[str, Any]:
        """Publish a month's file."""
        if not isinstance(trips, TripFile):
            raise PermanentError(f"{trips.month}: the lake keeps files; {type(trips).__name__} is not one.")
        target = self.path(kind, trips.month)
        target.parent.mkdir(parents=True, exist_ok=True)
        source = trips.path
        if not source.is_relative_to(get_settings().staging_folder):
            source = get_settings().staging_folder / f"{writing.token}-{self.asset}.parquet"
            source.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(trips.path, source)
        _flush(source)
        try:
            source.replace(target)
        except OSError:  # another file system: copy beside the target first, so that the rename is atomic
            beside = target.with_suffix(f".{writing.token}.tmp")
            shutil.copyfile(source, beside)
            _flush(beside)
            beside.replace(target)
            source.unlink()
        _flush(target.parent)
        return {
            "path": str(target),
            "dagster/partition_row_count": TripFile(target, trips.month).rows,
            "bytes": target.stat().st_size,
        }

    def read_facts(self, kind: TaxiKind, month: Month) -> Facts | None:
        """What the file's footer records, or None without a file."""
        path = self.path(kind, month)
        return TripFile(path, month).facts if path.exists() else None

    def read(self, kind: TaxiKind, month: Month) -> TripFile:
        """The month's file."""
        path = self.path(kind, month)
        if not path.exists():
            raise PermanentError(
                f"{month} has no {self.asset} yet ({path} does not exist); materialize {self.asset} for it first."
            )
        return TripFile(path, month)


def _flush(path: Path) -> None:
    """Make a file or a folder's entries durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
