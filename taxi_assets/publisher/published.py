"""A published file as it lies on disk: what it is by its content, whatever its name says, and how it is refused.

Reading it is for `csv_reader` and `parquet_reader`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from taxi_assets.core.errors import PermanentError
from taxi_assets.core.month import Month
from taxi_assets.datasets.schema import TaxiKind

GZIP, PARQUET = b"\x1f\x8b", b"PAR1"

NOT_TRIPS = (
    (
        b"version https://git-lfs",
        "is a git-LFS pointer, not the file it points to; run `git lfs pull` where it came from, or "
        "download the month again",
    ),
    (b"PK\x03\x04", "is a zip archive; unpack it"),
    (b"BZh", "is compressed with bzip2; decompress it"),
    (b"\x28\xb5\x2f\xfd", "is compressed with zstd; decompress it"),
    (b"\xfd7zXZ\x00", "is compressed with xz; decompress it"),
    (b"PARE", "is an encrypted Parquet file; the publisher's are not: download the month again"),
    (b"\xff\xfe", "is UTF-16 text; save it as UTF-8"),
    (b"\xfe\xff", "is UTF-16 text; save it as UTF-8"),
)
"""How a file begins that is no trip file, and what to tell about it."""

_PAGE = "is a web page (perhaps an error or a login page), not trip records; download the month again"


@dataclass(frozen=True)
class PublishedFile:
    """The file of one kind of taxi and one month."""

    path: Path
    kind: TaxiKind
    month: Month

    def refused(self, sentence: str) -> PermanentError:
        """The error that says why the file as a whole cannot be used: `2021-01: /tmp/x.csv <sentence>.`"""
        return PermanentError(f"{self.month}: {self.path} {sentence}.")

    def damaged(self, error: BaseException) -> PermanentError:
        """The error for a file whose content contradicts itself."""
        return self.refused(f"is damaged or cut short ({_one_line(error)}); download the month again")

    def format(self) -> Literal["parquet", "gzip", "text"]:
        """What the file is by its first and last bytes.

        Raises:
            PermanentError: it is none of the three, empty, or gone.
        """
        try:
            with self.path.open("rb") as stream:
                start = stream.read(512)
                stream.seek(-min(4, len(start)), 2)
                end = stream.read(4)
        except OSError as error:
            raise self.refused(f"cannot be read ({error.strerror or error}); download the month again") from None
        if not start:
            raise self.refused("is empty; download the month again")
        if start.startswith(PARQUET) or end == PARQUET:
            if not start.startswith(PARQUET):
                raise self.refused(
                    "ends like a Parquet file but does not begin like one (it must begin with PAR1): it is "
                    "damaged; download the month again"
                )
            if end != PARQUET or self.path.stat().st_size < 12:
                raise self.refused(
                    "is a Parquet file that was cut short: its end, with the footer, is missing; download the "
                    "month again"
                )
            return "parquet"
        if start.startswith(GZIP):
            return "gzip"
        self.check_text(start)
        return "text"

    def check_text(self, start: bytes) -> None:
        """Refuse a text, perhaps taken out of gzip, whose first bytes show that it is no CSV.

        Raises:
            PermanentError: as said.
        """
        for prefix, sentence in NOT_TRIPS:
            if start.startswith(prefix):
                raise self.refused(sentence)
        if start.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"<"):
            raise self.refused(_PAGE)
        if start.startswith((GZIP, PARQUET)):
            raise self.refused("was compressed once more on the way; decompress it")
        if b"\0" in start.split(b"\n", 1)[0]:
            raise self.refused(
                "has NUL bytes in its first line, so it is no CSV in UTF-8; save it as UTF-8 or download the "
                "month again"
            )


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text[:200].rstrip(". ")
