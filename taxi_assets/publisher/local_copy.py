"""A downloaded file and its traces on local disk: begun, continued, believed, kept, and guarded by a lock.

`<name>.part` and `<name>.part.json` are a download under way; they survive a kill and are continued. `<name>` and
`<name>.json` are a finished one with its identity and SHA-256. `<name>.lock` keeps processes apart: the lock dies with
its holder, the empty file stays. Nothing here speaks to a server; that is `download`.
"""

from __future__ import annotations

import datetime as dt
import fcntl
import hashlib
import json
import os
import time
import zlib
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from taxi_assets.core.errors import PermanentError, TransientError, disk_full
from taxi_assets.publisher.offer import Published

TIDY = "free some space, or set TAXI_HOME to a folder on a larger disk"
"""What to do about a full disk."""


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal; read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Part:
    """A download under way: bytes, and a note of which file they belong to.

    The note names the boot of the machine. After a power cut the end of a file may be zeros that nobody sent, so a part
    from before it is not continued.
    """

    def __init__(self, target: Path):
        self.path = target.with_name(target.name + ".part")
        if self.published is None:
            self.drop()

    @property
    def published(self) -> Published | None:
        """The file that the bytes belong to; None when there are none that can be trusted."""
        note = _read_note(self.path)
        return note[0] if note and note[1].get("boot") == _boot() else None

    @property
    def size(self) -> int:
        """Bytes that have come."""
        return self.path.stat().st_size if self.path.exists() else 0

    def digest(self) -> Any:
        """SHA-256 of what has come, to be continued."""
        if not self.path.exists():
            return hashlib.sha256()
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256")

    def begin(self, published: Published) -> BinaryIO:
        """Forget what has come and open the file for `published`."""
        self.drop()
        file = self.path.open("wb")
        _write_note(self.path, published, boot=_boot())
        return file

    def proceed(self) -> BinaryIO:
        """Open the file at its end."""
        return self.path.open("ab")

    def drop(self) -> None:
        """Remove the bytes and the note; the note first, for a note beside other bytes would be believed."""
        _note(self.path).unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)

    def finish(self, target: Path, published: Published, sha256: str) -> None:
        """Make the (synced) bytes `target`, atomically, and note what they are.

        Killed between the two, the old note does not fit the new bytes, and the file is downloaded again.
        """
        os.replace(self.path, target)
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        _write_note(target, published, sha256=sha256)
        self.drop()


def kept(target: Path, now: Published) -> tuple[Published, str] | None:
    """The finished file and its SHA-256, if it is what the publisher offers now and its bytes are still the same."""
    note = _read_note(target)
    if not note or not now.unchanged_since(note[0]) or not target.is_file():
        return None
    sha256 = sha256_of(target)
    return (note[0], sha256) if sha256 == note[1].get("sha256") else None


def looks_wrong(path: Path, name: str) -> str | None:
    """What is wrong with a file that is to be called `name`, by its first and last bytes; None if nothing is.

    Enough to believe a download; the reader finds the rest.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(1 << 16)
        file.seek(max(0, size - 4))
        end = file.read(4)
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not text:
        return "is empty"
    if text.startswith((b"<", b"{")):
        return "is a web page or an error message"
    if name.endswith(".parquet") and not (start.startswith(b"PAR1") and end == b"PAR1" and size >= 12):
        return "is not a whole Parquet file, which begins and ends with PAR1"
    if name.endswith(".gz"):
        try:
            inside = zlib.decompressobj(31).decompress(start, 2)
        except zlib.error:
            return "is not a gzip file"
        if inside == b"\x1f\x8b":
            return "was compressed once more on its way"
    return None


@contextmanager
def alone(target: Path, seconds: float, what: str) -> Generator[None, None, None]:
    """Hold the file's lock: others that want the same file wait up to `seconds`, then find it done.

    Raises:
        TransientError: another process held it all that time.
    """
    until = time.monotonic() + seconds
    with target.with_name(target.name + ".lock").open("w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                pass
            if time.monotonic() > until:
                raise TransientError(
                    f"{what}: another process has been busy with {target} for {seconds:,.0f} seconds; "
                    "run it again when that one has ended."
                )
            time.sleep(0.1)
        yield


@contextmanager
def disk_troubles(
    what: str, folder: Path, part: Part | None = None, needed: int | None = None
) -> Generator[None, None, None]:
    """Say in words what the disk has against it; on a full one `part` gives its space back.

    Raises:
        PermanentError: the disk is full, or the folder cannot be written.
    """
    try:
        yield
    except OSError as error:
        if not disk_full(error):
            raise PermanentError(
                f"{what}: {folder} cannot be written ({error.strerror or error}); check its permissions, or TAXI_HOME."
            ) from None
        if part:
            part.drop()
        bytes_needed = f" ({needed:,} bytes are needed)" if needed else ""
        raise PermanentError(f"{what}: the disk of {folder} is full{bytes_needed}; {TIDY}.") from None


def _note(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _write_note(path: Path, published: Published, **more: str) -> None:
    """Keep a description beside its file; it appears whole or not at all."""
    text = json.dumps({**asdict(published), "modified": published.modified and published.modified.isoformat(), **more})
    staged = path.with_name(path.name + ".json.new")
    staged.write_text(text + "\n", encoding="utf-8")
    os.replace(staged, _note(path))


def _read_note(path: Path) -> tuple[Published, dict[str, Any]] | None:
    """The description beside a file and what else was noted; None when there is none that can be read."""
    try:
        note = json.loads(_note(path).read_text(encoding="utf-8"))
        modified = note["modified"] and dt.datetime.fromisoformat(note["modified"])
        return Published(note["location"], note["version"], note["size"], modified), note
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _boot() -> str:
    """Which boot of the machine this is, on Linux; elsewhere always the same."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
