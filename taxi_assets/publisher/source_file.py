"""A published file on disk: its format, detected from the content and not the name, and the errors that reject it.

`csv_reader` and `parquet_reader` read it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from taxi_assets.core.errors import PermanentError
from taxi_assets.core.month import Month
from taxi_assets.datasets.schema import TaxiKind

GZIP, PARQUET = b"\x1f\x8b", b"PAR1"

REJECTED = (
    (b"version https://git-lfs", "is a git-LFS pointer instead of the file; run `git lfs pull` in its repository, or "
     "download the month again"),
    (b"PK\x03\x04", "is a zip archive; unpack it"),
    (b"BZh", "is compressed with bzip2; decompress it"),
    (b"\x28\xb5\x2f\xfd", "is compressed with zstd; decompress it"),
    (b"\xfd7zXZ\x00", "is compressed with xz; decompress it"),
    (b"PARE", "is an encrypted Parquet file; download the month again"),
    ((b"\xff\xfe", b"\xfe\xff"), "is UTF-16 text; save it as UTF-8"),
)  # fmt: skip
"""First bytes of files that are not trip files, and the error for each."""


@dataclass(frozen=True)
class SourceFile:
    """The file of one kind of taxi and one month."""

    path: Path
    kind: TaxiKind
    month: Month

    def error(self, problem: str) -> PermanentError:
        """Return the error that rejects the whole file: `2021-01: /tmp/x.csv <problem>.`"""
        return PermanentError(f"{self.month}: {self.path} {problem}.")

    def damaged(self, error: BaseException) -> PermanentError:
        """Return the error for a file that a library cannot decode."""
        text = " ".join(str(error).split()) or type(error).__name__
        return self.error(f"is damaged or truncated ({text[:200].rstrip('. ')}); download the month again")

    def format(self) -> Literal["parquet", "gzip", "text"]:
        """Detect the format from the first and last bytes.

        Raises:
            PermanentError: it is none of the three, empty, or missing.
        """
        try:
            with self.path.open("rb") as stream:
                start = stream.read(512)
                stream.seek(-min(4, len(start)), 2)
                end = stream.read(4)
        except OSError as error:
            raise self.error(f"cannot be read ({error.strerror or error}); download the month again") from None
        if not start:
            raise self.error("is empty; download the month again")
        if end == PARQUET and not start.startswith(PARQUET):
            raise self.error(
                "is damaged: it ends like a Parquet file but does not begin with PAR1; download the month again"
            )
        if start.startswith(PARQUET):
            if end != PARQUET or self.path.stat().st_size < 12:
                raise self.error(
                    "is a truncated Parquet file: the footer at its end is missing; download the month again"
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
        if start.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"<"):
            raise self.error(
                "is a web page (an error or a login page?) instead of trip records; download the month again"
            )
        if start.startswith((GZIP, PARQUET)):
            raise self.error("was compressed twice; decompress it once")
        if b"\0" in start.split(b"\n", 1)[0]:
            raise self.error(
                "has NUL bytes in its first line, so it is not a CSV in UTF-8; save it as UTF-8 or download the month again"
            )
