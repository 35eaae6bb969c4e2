"""A downloaded file and its companions on local disk. Nothing here uses the network; that is `download`.

`<name>.part` and `<name>.part.json` are an unfinished download; they survive a kill and are resumed. `<name>` and
`<name>.json` are a finished one with its identity and SHA-256. `<name>.lock` keeps processes apart; the empty file stays.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
import zlib
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from taxi_assets.core.errors import PermanentError, TransientError, disk_full
from taxi_assets.core.folders import flush
from taxi_assets.core.locks import file_lock
from taxi_assets.publisher.published import Published

FREE_SPACE = "free some space, or set TAXI_HOME to a folder on a larger disk"
"""What to do about a full disk."""


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class PartialFile:
    """An unfinished download: bytes, and a record of which published file they belong to.

    The record names the boot of the machine. After a power failure the end of a file may be zeros that nobody sent, so
    a partial file from before it is not resumed.
    """

    def __init__(self, target: Path):
        self.path = target.with_name(target.name + ".part")

    @property
    def published(self) -> Published | None:
        """The file that the bytes belong to; None if there are none, or none that can be trusted."""
        record = _read_record(self.path)
        return record[0] if record and record[1].get("boot") == _boot() else None

    @property
    def size(self) -> int:
        """Bytes received so far."""
        return self.path.stat().st_size if self.path.exists() else 0

    def digest(self) -> Any:
        """Return the SHA-256 of the bytes received so far, to be updated."""
        if not self.path.exists():
            return hashlib.sha256()
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256")

    def create(self, published: Published) -> BinaryIO:
        """Discard what was received and open the file for `published`."""
        self.discard()
        file = self.path.open("wb")
        _write_record(self.path, published, boot=_boot())
        return file

    def discard(self) -> None:
        """Remove the record and the bytes; the record first, as it would be trusted beside other bytes."""
        _record_path(self.path).unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)

    def finish(self, target: Path, published: Published, sha256: str) -> None:
        """Replace `target` by the (synced) bytes atomically, and record what they are.

        After a kill in between, the old record does not match the new bytes, and the file is downloaded again.
        """
        os.replace(self.path, target)
        flush(target.parent)
        _write_record(target, published, sha256=sha256)
        self.discard()


def cached_file(target: Path, published: Published) -> tuple[Published, str] | None:
    """Return the finished file and its SHA-256 if it is what is `published` now and its bytes are intact."""
    record = _read_record(target)
    if not record or not published.unchanged_since(record[0]) or not target.is_file():
        return None
    sha256 = sha256_of(target)
    return (record[0], sha256) if sha256 == record[1].get("sha256") else None


def content_error(path: Path, name: str) -> str | None:
    """Return what is wrong with the content of a file to be named `name`, judging by its first and last bytes, or None.

    This is enough to accept a download; the reader checks the rest.
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
        return "is not a complete Parquet file, which begins and ends with PAR1"
    if name.endswith(".gz"):
        try:
            decompressed = zlib.decompressobj(31).decompress(start, 2)
        except zlib.error:
            return "is not a gzip file"
        if decompressed == b"\x1f\x8b":
            return "was compressed twice"
    return None


@contextmanager
def target_lock(target: Path, seconds: float, label: str) -> Generator[None, None, None]:
    """Hold the lock of a target, so that another process that wants the same file waits and then finds it cached.

    Raises:
        TransientError: another process held the lock for `seconds`.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(file_lock(target.with_name(target.name + ".lock"), seconds))
        except TimeoutError:
            raise TransientError(
                f"{label}: another process has been downloading {target} for {seconds:,.0f} seconds; run it again when "
                "that process has ended."
            ) from None
        yield


@contextmanager
def disk_errors(label: str, part: PartialFile, needed: int | None = None) -> Generator[None, None, None]:
    """Translate an OSError into an actionable message; on a full disk remove the partial file of `needed` bytes.

    Raises:
        PermanentError: the disk is full, or the folder cannot be written.
    """
    folder = part.path.parent
    try:
        yield
    except OSError as error:
        if not disk_full(error):
            raise PermanentError(
                f"{label}: {folder} cannot be written ({error.strerror or error}); check its permissions, or TAXI_HOME."
            ) from None
        part.discard()
        size = f" ({needed:,} bytes are needed)" if needed else ""
        raise PermanentError(f"{label}: the disk of {folder} is full{size}; {FREE_SPACE}.") from None


def _record_path(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _write_record(path: Path, published: Published, **more: str) -> None:
    """Write a description beside its file, atomically."""
    staged = path.with_name(path.name + ".json.new")
    staged.write_text(json.dumps({**asdict(published), **more}, default=str) + "\n", encoding="utf-8")
    os.replace(staged, _record_path(path))


def _read_record(path: Path) -> tuple[Published, dict[str, Any]] | None:
    """Return the description beside a file and its other fields; None if it is missing or damaged."""
    try:
        record = json.loads(_record_path(path).read_text(encoding="utf-8"))
        modified = record["modified"] and dt.datetime.fromisoformat(record["modified"])
        return Published(record["location"], record["version"], record["size"], modified), record
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _boot() -> str:
    """Return the id of this boot of the machine on Linux, elsewhere an empty string."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
