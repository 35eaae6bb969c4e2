"""Dagster's local storage in TAXI_HOME/dagster; dagster.yaml names these classes.

Dagster resolves a relative `base_dir` against the working directory, so that a command run from another folder would begin a
second history there. The base classes have no public module: Dagster's documentation has users write these names in
dagster.yaml, and this is the one place that imports them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager
from dagster._core.storage.root import LocalArtifactStorage
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage

from taxi_assets.core.home import load_home
from taxi_assets.core.locks import file_lock, share_lock


def history_folder() -> Path:
    """Return the folder of Dagster's history."""
    return load_home().history_folder


def base_dir(name: str) -> Any:
    """Return the configuration of a storage in the folder `name` of Dagster's history."""
    return {"base_dir": str(history_folder() / name)}


class Storage(DagsterSqliteStorage):
    """Runs, events and schedules."""

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """Take no configuration."""
        return {}

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Mapping[str, Any]) -> Any:
        """Open the databases, one process at a time: Dagster creates them here, and two processes at once break them."""
        folder = history_folder()
        folder.mkdir(parents=True, exist_ok=True)
        with file_lock(folder / "storage.lock"):
            return super().from_config_value(inst_data, {**config_value, **base_dir("storage")})


class Artifacts(LocalArtifactStorage):
    """Files of assets that have no IO manager of their own.

    It locks the history while the instance is open, so that `make clean-data` does not delete it.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        lock = load_home().history_lock
        lock.parent.mkdir(parents=True, exist_ok=True)
        self._in_use = share_lock(lock)

    def dispose(self) -> None:
        """Release the lock; the instance calls it when it is closed."""
        super().dispose()
        self._in_use.close()

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """Take no configuration."""
        return {}

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Mapping[str, Any]) -> Any:
        """Return the storage."""
        return cls(inst_data=inst_data, **{**config_value, **base_dir("artifacts")})


class ComputeLogs(LocalComputeLogManager):
    """Standard output and standard error of steps."""

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """Take no configuration."""
        return {}

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Mapping[str, Any]) -> Any:
        """Return the log manager."""
        return super().from_config_value(inst_data, {**config_value, **base_dir("logs")})
