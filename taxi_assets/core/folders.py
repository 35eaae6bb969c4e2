"""The default folder for staged files, replacing a file by a staged one, and making files and folders durable."""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path


def default_staging() -> str:
    """The folder in which sinks stage files by default: a subfolder of the system's temporary folder."""
    return str(Path(tempfile.gettempdir()) / "taxi_assets")


@contextmanager
def replacing(path: Path) -> Generator[Path]:
    """Let the block write a staged file beside `path`, and rename it to `path`; if it fails, `path` stays as it was."""
    staged = path.with_suffix(f".{uuid.uuid4().hex[:12]}.tmp")
    try:
        yield staged
        staged.replace(path)
    finally:
        staged.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Make a file's bytes, or a folder's entries after a rename, durable.

    Raises:
        OSError: the path cannot be opened, or the disk reports an error.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
