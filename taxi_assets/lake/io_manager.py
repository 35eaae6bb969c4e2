"""The lake: raw, clean and rejected months as Parquet files between assets, one file a month, published by rename."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pydantic import Field

from taxi_assets.core.errors import PermanentError
from taxi_assets.core.folders import flush
from taxi_assets.core.manifest import Manifest, compared_columns, count
from taxi_assets.core.month import Month
from taxi_assets.core.month_file import MonthFile
from taxi_assets.core.scratch import Scratch
from taxi_assets.core.table import Table
from taxi_assets.lake.pairs import publish_together, settle, waiting
from taxi_assets.sinks.contract import ROW_COUNT, ConfigurableSink, WriteContext

READERS = 8
"""Footers read at a time."""


class LakeIOManager(ConfigurableSink):
    """Keeps one asset's months in `folder/<kind>_<asset>/<month>.parquet`.

    A staged file is moved into place, anything else is copied first: the old month is readable until the new one is whole.
    """

    folder: str = Field(description="Folder of the lake.")
    asset: str = Field(description="Name of the asset whose months these are.")
    follower: str = Field("", description="Name of the asset whose month is published with this one's, by one commit.")
    leader: str = Field("", description="Name of the asset whose month this one's is published with.")

    def path(self, table: Table, month: Month) -> Path:
        """Where the month is kept."""
        return self._folder(table) / f"{month}.parquet"

    def replace(self, table: Table, month_file: MonthFile, write: WriteContext) -> Mapping[str, Any]:
        """Publish a month's file, and its companion with it."""
        target = self.path(table, month_file.month)
        target.parent.mkdir(parents=True, exist_ok=True)
        if month_file.path != target:  # a companion is there already
            self._publish(table, month_file, target, write.token)
        rows, size = MonthFile(target, month_file.month).rows, target.stat().st_size
        return {"path": str(target), ROW_COUNT: rows, "bytes": size}

    def manifest(self, table: Table, month: Month) -> Manifest | None:
        """What the file's footer records; None without a file."""
        path = self._settled(table, month)
        return MonthFile(path, month).manifest if path.exists() else None

    def manifests(self, table: Table) -> dict[Month, Manifest]:
        """What the footers record; a few are read at a time, as the lake may be a mounted bucket."""
        months = [Month.parse(path.stem) for path in self._folder(table).glob("????-??.parquet") if path.is_file()]
        with ThreadPoolExecutor(READERS) as pool:
            read = list(pool.map(lambda month: self.manifest(table, month), months))
        return {month: manifest for month, manifest in zip(months, read, strict=True) if manifest}

    def measure(self, table: Table, month: Month) -> Manifest | None:
        """Count and sum the month's rows; None without a file."""
        path = self._settled(table, month)
        return count(table, MonthFile(path, month).batches(compared_columns(table))) if path.exists() else None

    def read(self, table: Table, month: Month) -> MonthFile:
        """The month's file as it is now: a hard link to it, where the file system has them, so that a run that replaces the
        month cannot change what this handle reads.

        Raises:
            PermanentError: the lake does not have the month.
        """
        path, scratch = self._settled(table, month), Scratch(self.staging, "lake")
        try:
            os.link(path, scratch.folder / path.name)
        except FileNotFoundError:
            raise PermanentError(
                f"{month} has no {self.asset} yet ({path} does not exist); materialize {self.asset} for it first."
            ) from None
        except OSError:  # another file system, or one without links
            return MonthFile(path, month)
        month_file = MonthFile(lambda: scratch.folder / path.name, month)  # the scratch folder goes with the handle
        _ = month_file.path
        return month_file

    def _publish(self, table: Table, month_file: MonthFile, target: Path, token: str) -> None:
        companion, staged = month_file.companion, [self._staged(month_file, target, token)]
        try:
            if companion and self.follower:
                place = self._beside(self.follower).path(table, month_file.month)
                place.parent.mkdir(parents=True, exist_ok=True)
                staged.append(self._staged(companion, place, token))
                for path in staged:
                    _require_readable(path, month_file.month)
                publish_together(staged[0], target, staged[1], place, month_file.month)
                companion.discard()  # what was copied to another file system
                companion.moved(place)
            else:
                _require_readable(staged[0], month_file.month)
                staged[0].replace(target)
                flush(target.parent)
        finally:
            for path in staged:
                path.unlink(missing_ok=True)
            month_file.discard()

    def _beside(self, asset: str) -> LakeIOManager:
        return self.model_copy(update={"asset": asset, "leader": "", "follower": ""})

    def _staged(self, month_file: MonthFile, target: Path, token: str) -> Path:
        """The staged file, or a copy of the file in the target's folder: a rename is atomic within a file system only."""
        if month_file.staged and month_file.path.stat().st_dev == target.parent.stat().st_dev:
            return month_file.path
        copy = target.with_suffix(f".{token}.tmp")
        try:
            shutil.copyfile(month_file.path, copy)
        except BaseException:
            copy.unlink(missing_ok=True)
            raise
        return copy

    def _folder(self, table: Table) -> Path:
        return Path(self.folder) / f"{table.object_kind}_{self.asset}"

    def _settled(self, table: Table, month: Month) -> Path:
        """The month's path, after what a killed writer left halfway was finished."""
        path = self.path(table, month)
        if self.leader and any(path.parent.glob(waiting(month, "*"))):
            settle(self._beside(self.leader).path(table, month), path)
        return path


def _require_readable(path: Path, month: Month) -> None:
    """Flush a staged file to the disk, and read its footer.

    Raises:
        PermanentError: the file is damaged.
    """
    _ = MonthFile(path, month).rows
    flush(path)
