"""A text file, plain or gzipped, as blocks of whole lines in bounded memory.

`csv_reader` converts the lines.
"""

from __future__ import annotations

import csv
import io
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from isal import igzip, isal_zlib

from taxi_assets.publisher.rows import TEXT_BYTES, Reject, source_text
from taxi_assets.publisher.source_file import SourceFile

BLOCK_BYTES = 4 << 20
"""Bytes read at a time: 20,000 to 45,000 trips. Twice as many are not faster and take 110 MB more memory."""
SEPARATORS = (b",", b";", b"\t", b"|")
"""Separators of fields: the publisher's, and those of spreadsheets and databases."""
BLOCK_LINES = 100_000
"""Maximum number of lines in a block; it limits memory for very short lines."""
HEADER_BYTES = 64 << 10
LINE_BYTES = 1 << 20
"""The longest line that is read; published ones have under 300 bytes."""
EXPANSION = 200
"""Maximum ratio of decompressed to compressed bytes. Trips have 4 to 8, a gzip bomb about 1,000."""
EXPANSION_FROM = 32 << 20
"""Decompressed bytes from which the ratio is checked."""
MAX_BYTES = 20 << 30
"""Maximum size of a decompressed month; the largest published CSV has 2.9 GB."""


class Block(NamedTuple):
    """`lines` whole lines from `first_line` (counted from 1) on, the longest with `longest` bytes; or one line that is
    too long to be read."""

    data: bytes
    first_line: int
    lines: int
    longest: int
    overlong: Reject | None = None


class LineStream:
    """Reads a file's header line, and then its other lines in blocks. Every error is a PermanentError."""

    def __init__(self, file: SourceFile) -> None:
        self._file = file
        self._decompressed = 0
        self._compressed = file.format() == "gzip"
        self._disk = file.path.open("rb", buffering=0)
        self._stream = (
            igzip.IGzipFile(fileobj=self._disk) if self._compressed else io.BufferedReader(self._disk, 1 << 20)
        )
        self.bytes_total = file.path.stat().st_size
        self._line = 2
        self.separator = SEPARATORS[0]
        """What separates fields: of `SEPARATORS` the one that the header has most of."""

    def close(self) -> None:
        """Close the file."""
        self._disk.close()

    @property
    def bytes_read(self) -> int:
        """Bytes of the (compressed) file read so far."""
        return self._disk.tell()

    def read_header(self) -> tuple[list[str], bytes]:
        """Return the header's names, blanks included, and the first row without its line end.

        Blank lines in between are skipped (2009 to 2014, 2017 and 2018 have one).
        """
        data = self._read()
        if not data:
            raise self._file.error("is empty when decompressed; download the month again")
        if self._compressed:
            self._file.check_text(data[:512])
        header, _, self._rest = data.removeprefix(b"\xef\xbb\xbf").partition(b"\n")
        if len(header) > HEADER_BYTES:
            raise self._file.error(
                f"has no header (its first line is longer than {HEADER_BYTES >> 10} KiB); download the month again"
            )
        text = header.rstrip(b"\r")
        self.separator = max(SEPARATORS, key=text.count)
        try:
            names = next(csv.reader([_decoded(text)], delimiter=self.separator.decode(), strict=True), [])
        except csv.Error as error:
            raise self._file.error(f"has an invalid header ({error}); download the month again") from None
        blank = self._rest[: len(self._rest) - len(self._rest.lstrip(b"\r\n"))]
        self._line += blank.count(b"\n")
        self._rest = self._rest[blank.rfind(b"\n") + 1 :]
        return names, self._rest[:LINE_BYTES].partition(b"\n")[0].rstrip(b"\r")

    def _read(self) -> bytes:
        """Return the next bytes, at most BLOCK_BYTES; none at the end."""
        try:
            data = self._stream.read(BLOCK_BYTES)
        except (OSError, EOFError, zlib.error, isal_zlib.IsalError) as error:  # ty: ignore[invalid-exception-caught]
            raise self._file.damaged(error) from None
        self._decompressed += len(data)
        if self._decompressed > MAX_BYTES or self._decompressed > max(EXPANSION_FROM, EXPANSION * self.bytes_read):
            raise self._file.error(
                f"decompresses to more than {self._decompressed >> 20} MiB from {self.bytes_read} bytes, unlike trip "
                "records (a gzip bomb?); download the month again"
            )
        return data

    def blocks(self) -> Iterator[Block]:
        """Yield the lines after the header."""
        rest, self._rest = self._rest, b""
        more = True
        while more:
            data = self._read()
            more = bool(data)
            rest += data
            cut = rest.rfind(b"\n") + 1 if more else len(rest)
            if cut:
                yield from self._whole_lines(rest[:cut])
                rest = rest[cut:]
            if len(rest) > LINE_BYTES:
                reject, rest = self._skip_line(rest)
                yield Block(b"", reject.line, 1, LINE_BYTES, reject)

    def _whole_lines(self, data: bytes) -> Iterator[Block]:
        ends = np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n")) + 1
        if not len(ends) or ends[-1] != len(data):
            ends = np.append(ends, len(data))
        starts = np.concatenate([[0], ends[:-1]])
        for first in range(0, len(ends), BLOCK_LINES):
            last = min(first + BLOCK_LINES, len(ends))
            part = data[starts[first] : ends[last - 1]]
            longest = int((ends[first:last] - starts[first:last]).max())
            if longest > 2 or part.strip(b"\r\n"):  # else every line is blank, and blank lines are no rows
                yield Block(part, self._line, last - first, longest)
            self._line += last - first

    def _skip_line(self, start: bytes) -> tuple[Reject, bytes]:
        """Skip a line that is too long to be read; return its reject and the bytes after it."""
        size, rest = len(start), b""
        while data := self._read():
            end = data.find(b"\n")
            if end >= 0:
                size, rest = size + len(data[:end].rstrip(b"\r")), data[end + 1 :]
                break
            size += len(data)
        line = self._line
        self._line += 1
        return Reject("unreadable_length", f"{size} bytes", line, source_text(start[: TEXT_BYTES + 4], size)), rest


def _decoded(header: bytes) -> str:
    """Return a header as text; where it is not UTF-8, it may have Latin-1's no-break space."""
    try:
        return header.decode()
    except UnicodeDecodeError:
        return header.replace(b"\xa0", b" ").decode("utf-8", "backslashreplace")


def split_line(line: bytes, separator: bytes = b",") -> list[bytes] | None:
    """Return the line's fields; None when its quotation marks are unbalanced."""
    if b'"' not in line:
        return line.split(separator)
    try:
        reader = csv.reader(
            [line.decode("latin-1")], delimiter=separator.decode(), strict=True
        )  # latin-1 keeps every byte
        fields = next(reader)
    except csv.Error:
        return None
    return [field.encode("latin-1") for field in fields]
