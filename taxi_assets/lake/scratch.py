"""Folders for files that are on their way: under the staging folder, gone with their user, even one that was killed."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import weakref
from pathlib import Path

from taxi_assets.settings import get_settings

_LOCK = ".lock"


class Scratch:
    """A folder of its own, removed when it is closed, is no longer referred to, or its process ends.

    What killed processes left is removed whenever another folder is made: a living user holds a lock on the file
    `.lock` in its folder, which the operating system drops with the process.
    """

    def __init__(self, label: str) -> None:
        staging = get_settings().staging_folder
        staging.mkdir(parents=True, exist_ok=True)
        with (staging / _LOCK).open("wb") as turn:
            fcntl.flock(turn, fcntl.LOCK_EX)
            for folder in staging.glob("*.scratch"):
                if not _in_use(folder):
                    shutil.rmtree(folder, ignore_errors=True)
            self.folder = Path(tempfile.mkdtemp(".scratch", f"{label}-", staging))
            held = (self.folder / _LOCK).open("wb")
            fcntl.flock(held, fcntl.LOCK_EX)
        self.close = weakref.finalize(self, _remove, self.folder, held, os.getpid())

    def __enter__(self) -> Path:
        return self.folder

    def __exit__(self, *_: object) -> None:
        self.close()


def _in_use(folder: Path) -> bool:
    """Whether its user lives; to be asked in turn, when nobody is just between a folder and its lock.

    A folder without a lock is of one who was killed there, or just when removing it.
    """
    try:
        with (folder / _LOCK).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _remove(folder: Path, held, maker: int) -> None:
    if os.getpid() == maker:  # a forked child ends without taking its parent's folder along
        shutil.rmtree(folder, ignore_errors=True)
    held.close()
