"""A downloaded file and its companions on local disk. Nothing here uses the network; that is `download`.

`<name>.part` and `<name>.part.json` are an unfinished download; they survive a kill and are resumed. `<name>` and
`<name>.json` are a finished one with its identity and SHA-256. `<name>.lock` is locked during a download; the empty file stays.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from taxi_assets.core.errors import PermanentError, disk_full
from taxi_assets.core.folders import flush
from taxi_assets.publisher.published import Fetched, Published

FREE_SPACE = "free some space, or set TAXI_HOME to a folder on a larger disk"
"""What to do about a full disk."""


def sha256_of(*paths: Path) -> str:
    """Return the SHA-256 of one file, or of the digests of several, in hexadecimal."""
    digests = []
    for path in paths:
        with path.open("rb") as file:
            digests.append(hashlib.file_digest(file, "sha256").hexdigest())
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


class PartialFile:
    """An unfinished download of `target`: bytes, and a record of which published file they belong to.

    The record has the machine's boot id. A file of an earlier boot is not resumed: after a power failure it may end in zeros.
    """

    def __init__(self, target: Path):
        self.target, self.path = target, target.with_name(target.name + ".part")

    @property
    def published(self) -> Published | None:
        """The file that the bytes belong to; None if there are none, or none that can be trusted."""
        record = _read_record(self.path)
        return record[0] if record and record[1].get("boot") == _boot() else None

    @property
    def size(self) -> int:
        """Bytes received so far."""
        return self.path.stat().st_size if self.path.exists() else 0

    def create(self, published: Published) -> BinaryIO:
        """Discard what was received and open the file for `published`."""
        self.discard()
        file = self.path.open("wb")
        _write_record(self.path, published, boot=_boot())
        return file

    def discard(self) -> None:
        """Remove the record and the bytes; the record first, so that it never describes other bytes."""
        _record_path(self.path).unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)

    def finish(self, published: Published) -> Fetched:
        """Replace the target by the bytes atomically, then its record; after a kill in between it is fetched again."""
        sha256 = sha256_of(self.path)
        flush(self.path)
        os.replace(self.path, self.target)
        flush(self.target.parent)
        _write_record(self.target, published, sha256=sha256)
        self.discard()
        return Fetched(self.target, published, sha256, downloaded=True)

    def content_error(self) -> str | None:
        """Return why the bytes are not the target's file, by the first and last ones; the reader checks the rest."""
        with self.path.open("rb") as file:
            start = file.read(1 << 16)
            file.seek(max(0, self.size - 4))
            end = file.read(4)
        text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
        if not text:
            return "is empty"
        if text.startswith(b"<" if self.target.suffix == ".geojson" else (b"<", b"{")):
            return "is a web page or an error message"
        if self.target.suffix == ".parquet" and not (start.startswith(b"PAR1") and end == b"PAR1" and self.size >= 12):
            return "is not a complete Parquet file, which begins and ends with PAR1"
        if self.target.suffix == ".gz":
            try:
                decompressed = zlib.decompressobj(31).decompress(start, 2)
            except zlib.error:
                return "is not a gzip file"
            if decompressed == b"\x1f\x8b":
                return "was compressed twice"
        return None

    def disk_error(self, error: OSError, label: str, needed: int | None) -> PermanentError:
        """Return the error to raise for a failed write; a full disk, on which `needed` bytes were to be written, is freed."""
        folder = self.target.parent
        if not disk_full(error):
            return PermanentError(
                f"{label}: {folder} cannot be written ({error.strerror or error}); check its permissions, or TAXI_HOME."
            )
        self.discard()
        size = f" ({needed:,} bytes are needed)" if needed else ""
        return PermanentError(f"{label}: the disk of {folder} is full{size}; {FREE_SPACE}.")


def cached_file(target: Path, published: Published) -> Fetched | None:
    """Return the finished file if it is what is `published` now and its bytes are intact."""
    record = _read_record(target)
    if not record or not published.unchanged_since(record[0]) or not target.is_file():
        return None
    sha256 = sha256_of(target)
    return Fetched(target, record[0], sha256, downloaded=False) if sha256 == record[1].get("sha256") else None


def _record_path(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _write_record(path: Path, published: Published, **more: str) -> None:
    """Write a file's description to `<name>.json`; one truncated by a kill is not valid JSON and counts as missing."""
    _record_path(path).write_text(json.dumps({**asdict(published), **more}, default=str) + "\n", encoding="utf-8")


def _read_record(path: Path) -> tuple[Published, dict[str, Any]] | None:
    """Return a file's description and the other fields of its record; None if the record is missing or damaged."""
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
