"""A disk that fills up."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event


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
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    with (disk / ".ballast").open("wb") as ballast:
        os.posix_fallocate(ballast.fileno(), 0, free - chance.randrange(0, 1 << chance.randrange(12, 20)))
    happened = Event()
    happened.set()
    try:
        yield happened
    finally:
        (disk / ".ballast").unlink()
