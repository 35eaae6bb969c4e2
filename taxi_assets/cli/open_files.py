"""Which processes use a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_LENGTH = 80
"""Characters of a command line that are shown."""


def users_of(folder: Path, except_in: Path) -> list[str]:
    """Return the other processes that have files open in a folder, but not those in `except_in`: `process 12 (dagster dev)`.

    Children of such a process are left out. Processes of other users are found by root only, and none where there is no /proc.
    """
    folder, except_in = folder.resolve(), except_in.resolve()
    users = {
        int(process.name)
        for process in Path("/proc").glob("[0-9]*")
        if any(file.is_relative_to(folder) and not file.is_relative_to(except_in) for file in _open_files(process))
    } - {os.getpid()}
    return [f"process {pid} ({_command(pid)})" for pid in sorted(users) if _parent(pid) not in users]


def _open_files(process: Path) -> Iterator[Path]:
    with suppress(OSError):  # it has ended, or is another user's
        for descriptor in (process / "fd").iterdir():
            with suppress(OSError):  # closed in the meantime
                if not (name := os.readlink(descriptor)).endswith(" (deleted)"):
                    yield Path(name)


def _parent(pid: int) -> int | None:
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return None


def _command(pid: int) -> str:
    """Return the command line in short, without addresses, which may contain passwords."""
    with suppress(OSError):
        arguments = Path(f"/proc/{pid}/cmdline").read_text(errors="replace").rstrip("\0").split("\0")
        words = ["..." if "://" in each else Path(each).name if "/" in each else each for each in arguments]
        line = " ".join(words)
        return line if len(line) <= _LENGTH else f"{line[:_LENGTH]}..."
    return "ended"
