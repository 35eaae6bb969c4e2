"""A month's file on disk: its parts, its format, detected from the content and not the name, and the errors that reject it.

A source is a file, a zip archive of one file, or a folder of part files, as Spark writes them.
"""

from __future__ import annotations

import io
import lzma
import shutil
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any, BinaryIO, Literal
from urllib.parse import unquote

from taxi_assets.core.errors import PermanentError
from taxi_assets.core.month import Month
from taxi_assets.datasets.schema import TaxiKind

GZIP, PARQUET, ZIP = b"\x1f\x8b", b"PAR1", b"PK\x03\x04"

DAMAGE = (OSError, EOFError, ValueError, RuntimeError, struct.error, zipfile.BadZipFile, zlib.error, lzma.LZMAError)
"""What reading a damaged file, or a zip archive that is encrypted or compressed in another way, raises."""

_EXPORT = "export its trips as CSV or Parquet"
REJECTED = (
    (b"version https://git-lfs", "is a git-LFS pointer instead of the file; run `git lfs pull` in its repository, or "
     "download the month again"),
    (b"BZh", "is compressed with bzip2; decompress it"),
    (b"\x28\xb5\x2f\xfd", "is compressed with zstd; decompress it"),
    (b"\xfd7zXZ\x00", "is compressed with xz; decompress it"),
    (b"7z\xbc\xaf\x27\x1c", "is a 7z archive; unpack it"),
    (b"Rar!", "is a RAR archive; unpack it"),
    (b"PK\x05\x06", "is an empty zip archive; download the month again"),
    (b"PARE", "is an encrypted Parquet file; download the month again"),
    (b"Obj\x01", f"is an Avro file; {_EXPORT}"),
    (b"ORC", f"is an ORC file; {_EXPORT}"),
    ((b"ARROW1", b"FEA1"), f"is an Arrow or Feather file; {_EXPORT}"),
    (b"SQLite format 3", f"is an SQLite database; {_EXPORT}"),
    (b"\xd0\xcf\x11\xe0", "is an Excel workbook; save its sheet as CSV in UTF-8"),
    ((b"\xff\xfe", b"\xfe\xff"), "is UTF-16 text; save it as UTF-8"),
)  # fmt: skip
"""First bytes of files that are not trip files, and the error for each."""


@dataclass(frozen=True)
class Part:
    """One file of a source. `member` is its name in a zip archive, `partition` the `column=value` folders that it is in."""

    path: Path
    partition: Mapping[str, str | None] = field(default_factory=dict)
    member: str | None = None

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return self.path.stat().st_size

    def open(self) -> tuple[io.FileIO, Any]:
        """Return the file on disk, whose position shows the progress, and the (unpacked) content."""
        disk = self.path.open("rb", buffering=0)
        return disk, zipfile.ZipFile(disk).open(self.member) if self.member else disk

    def seekable(self) -> Path | BinaryIO:
        """Return the content for readers that move back and forth; a zip's is unpacked to a temporary file."""
        if not self.member:
            return self.path
        copy = tempfile.TemporaryFile()  # noqa: SIM115 - its reader closes it
        disk, content = self.open()
        with disk, content:
            shutil.copyfileobj(content, copy, 1 << 20)
        copy.seek(0)
        return copy


@dataclass(frozen=True)
class SourceFile:
    """The file of one kind of taxi and one month."""

    path: Path
    kind: TaxiKind
    month: Month

    def error(self, problem: str, part: Part | None = None) -> PermanentError:
        """Return the error that rejects the whole file: `2021-01: /tmp/x.csv <problem>.`"""
        return PermanentError(f"{self.month}: {part.path if part else self.path} {problem}.")

    def damaged(self, error: BaseException, part: Part | None = None) -> PermanentError:
        """Return the error for a file that a library cannot decode."""
        text = " ".join(str(error).split()) or type(error).__name__
        return self.error(f"is damaged or truncated ({text[:200].rstrip('. ')}); download the month again", part)

    @cached_property
    def parts(self) -> Sequence[Part]:
        """The files that the source consists of, in the order of their names.

        Raises:
            PermanentError: there is none, one cannot be read, or a zip archive does not hold exactly one.
        """
        if not self.path.is_dir():
            return [self._unpacked(Part(self.path))]
        parts = []
        for path in files_of(self.path):
            folders = path.relative_to(self.path).parts[:-1]
            parts.append(self._unpacked(Part(path, dict(_partition(name) for name in folders if "=" in name))))
        if not parts:
            raise self.error("is a folder without files; check TAXI_SOURCE")
        for part in parts:
            if part.partition.keys() != parts[0].partition.keys():
                raise self.error(f"is in other partitions than {parts[0].path.name}; name one month's folder", part)
        return parts

    def _unpacked(self, part: Part) -> Part:
        if not self._first_bytes(part).startswith(ZIP):
            return part
        try:
            with zipfile.ZipFile(part.path) as archive:
                members = [each for each in archive.infolist() if not each.is_dir()]
        except DAMAGE as error:
            raise self.damaged(error, part) from None
        names = [each.filename for each in members if not each.filename.startswith("__MACOSX/")]
        if "[Content_Types].xml" in names:
            raise self.error("is an Excel workbook; save its sheet as CSV in UTF-8", part)
        if len(names) != 1:
            raise self.error(f"is a zip archive of {len(names)} files; unpack it, and name one month's file", part)
        if members[0].flag_bits & 1:
            raise self.error("is an encrypted zip archive; unpack it", part)
        return Part(part.path, part.partition, names[0])

    def _first_bytes(self, part: Part) -> bytes:
        try:
            disk, content = part.open()
            with disk, content:
                return content.read(512)
        except DAMAGE as error:
            if part.member:
                raise self.damaged(error, part) from None
            reason = getattr(error, "strerror", None) or error
            raise self.error(f"cannot be read ({reason}); download the month again", part) from None

    def format(self, part: Part | None = None) -> Literal["parquet", "gzip", "text"]:
        """Detect the format of a part, by default of the first, from its first and last bytes.

        Raises:
            PermanentError: it is none of the three, empty, or missing.
        """
        part = part or self.parts[0]
        start = self._first_bytes(part)
        if not start:
            raise self.error("is empty; download the month again", part)
        end = PARQUET if part.member and start.startswith(PARQUET) else _last_bytes(part.path)
        if end == PARQUET and not start.startswith(PARQUET):
            raise self.error(
                "is damaged: it ends like a Parquet file but does not begin with PAR1; download the month again", part
            )
        if start.startswith(PARQUET):
            if end != PARQUET or part.size < 12:
                raise self.error(
                    "is a truncated Parquet file: the footer at its end is missing; download the month again", part
                )
            return "parquet"
        if start.startswith(GZIP):
            return "gzip"
        self.check_text(start)
        return "text"

    def check_text(self, start: bytes) -> None:
        """Raise PermanentError if the first bytes of a text (decompressed if it was gzip) show that it is not a CSV."""
        for prefix, problem in REJECTED:
            if start.startswith(prefix):
                raise self.error(problem)
        text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
        if text.startswith(b"<"):
            raise self.error(
                "is a web page (an error or a login page?) instead of trip records; download the month again"
            )
        if text.startswith((b"{", b"[")):
            raise self.error(f"is JSON; {_EXPORT}")
        if start[8:12] == b"DUCK":
            raise self.error(f"is a DuckDB database; {_EXPORT}")
        if start[257:262] == b"ustar":
            raise self.error("is a tar archive; unpack it, and name one month's file")
        if start.startswith((GZIP, PARQUET, ZIP)):
            raise self.error("was compressed twice; decompress it once")
        if b"\0" in start.split(b"\n", 1)[0]:
            raise self.error(
                "has NUL bytes in its first line, so it is not a CSV in UTF-8; save it as UTF-8 or download the month again"
            )


def files_of(path: Path) -> list[Path]:
    """Return the file, if there is one; of a folder the parts in it that are not empty, in the order of their names."""
    if not path.is_dir():
        return [path] if path.is_file() else []
    found = (file for file in sorted(path.rglob("*")) if is_part(file.relative_to(path)))
    return [file for file in found if file.is_file() and file.stat().st_size]


def is_part(path: PurePath) -> bool:
    """Return whether a file of a folder holds rows, by its path in it: not Spark's `_SUCCESS`, nor a hidden one."""
    return not any(name.startswith(("_", ".")) for name in path.parts)


def _partition(folder: str) -> tuple[str, str | None]:
    """Return the column and the value of a Hive partition's folder, `payment_type=2`."""
    name, _, value = folder.partition("=")
    return unquote(name), None if value == "__HIVE_DEFAULT_PARTITION__" else unquote(value)


def _last_bytes(path: Path) -> bytes:
    with path.open("rb") as stream:
        stream.seek(-min(4, path.stat().st_size), 2)
        return stream.read(4)
