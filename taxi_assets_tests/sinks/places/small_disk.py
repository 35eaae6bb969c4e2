"""A disk that fills up."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import Event

from taxi_assets_tests.processes import until


def small_disk(folder: Path, stack: ExitStack, megabytes: int = 64) -> Path | None:
    """A file system that can be filled, where this user may mount one."""
    disk = folder / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", disk]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        return None
    stack.callback(lambda: subprocess.run(["umount", "--lazy", disk], check=True))
    return disk


@contextmanager
def full(disk: Path, chance: random.Random) -> Generator[Event]:
    """Leave room for a part of a small month."""
    room = chance.randrange(0, 1 << chance.randrange(12, 20))
    with (disk / ".ballast").open("wb") as ballast:

        def fill() -> bool:
            with suppress(OSError):  # a reader took some in the meantime
                found = os.statvfs(disk)
                os.posix_fallocate(ballast.fileno(), 0, found.f_bavail * found.f_frsize - room)
                return True
            return False

        until(fill, 10, "the disk to be full")
    happened = Event()
    happened.set()
    try:
        yield happened
    finally:
        (disk / ".ballast").unlink()
