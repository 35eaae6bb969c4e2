"""Temporary folders in the staging folder, removed with their user, even one that was killed."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from pathlib import Path

from taxi_assets.core.locks import file_lock, is_locked, try_lock

_LOCK = ".lock"


class Scratch:
    """A temporary folder, removed when it is closed, is no longer referred to, or its process ends.

    What killed processes left is removed when another one is made: a living user holds the lock of `.lock` in its folder.
    """

    def __init__(self, staging: Path | str, label: str) -> None:
        staging = Path(staging)
        staging.mkdir(parents=True, exist_ok=True)
        with file_lock(staging / _LOCK):  # nobody is just between making a folder and locking it
            for folder in staging.glob("*.scratch"):
                if not is_locked(folder / _LOCK):
                    shutil.rmtree(folder, ignore_errors=True)
            self.folder = Path(tempfile.mkdtemp(".scratch", f"{label}-", staging))
            held = (self.folder / _LOCK).open("wb")
            try_lock(held)
        self.close = weakref.finalize(self, _remove, self.folder, held, os.getpid())

    def __enter__(self) -> Path:
        return self.folder

    def __exit__(self, *_: object) -> None:
        self.close()


def _remove(folder: Path, held, maker: int) -> None:
    if os.getpid() == maker:  # a forked child must not remove its parent's folder
        shutil.rmtree(folder, ignore_errors=True)
    held.close()
