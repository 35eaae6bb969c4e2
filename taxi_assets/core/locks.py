"""Locks on files. The operating system drops a lock with its holder: it cannot be left behind by a killed process."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

POLL_SECONDS = 0.1


def try_lock(file: IO | int) -> bool:
    """Lock an open file for whoever has it open; return False if another holds the lock."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock of the file; False for a file that does not exist."""
    try:
        with path.open("rb") as file:
            return not try_lock(file)
    except FileNotFoundError:
        return False


def share_lock(path: Path) -> IO[bytes]:
    """Lock the file together with others, until the returned file is closed or the process ends: then `is_locked`."""
    file = path.open("ab")
    fcntl.flock(file, fcntl.LOCK_SH)
    return file


@contextmanager
def file_lock(
    path: Path, seconds: float | None = None, waiting: Callable[[], object] = lambda: None
) -> Generator[IO[str]]:
    """Hold the lock of a file, which is created when it is missing; yields the open file.

    `seconds` limit the wait for another holder, before which `waiting` is called; by default there is no limit, and no call.

    Raises:
        TimeoutError: another process held it all that time.
    """
    with path.open("a+") as file:
        if seconds is None:
            fcntl.flock(file, fcntl.LOCK_EX)
        elif not try_lock(file):
            waiting()
            deadline = time.monotonic() + seconds
            while not try_lock(file):
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{path} is locked")
                time.sleep(POLL_SECONDS)
        try:
            yield file
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)  # explicitly: a forked child may have the file open
