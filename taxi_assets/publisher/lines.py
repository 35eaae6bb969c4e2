"""A text file, plain or gzipped, as blocks of whole lines in bounded memory.

`csv_reader` converts the lines.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from typing import BinaryIO, NamedTuple

import numpy as np
from isal import igzip, isal_zlib

from taxi_assets.publisher.rows import TEXT_BYTES, Reject, source_text
from taxi_assets.publisher.source_file import DAMAGE, Part, SourceFile

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
    """`lines` whole lines from `first_line` (counted from 1 through all parts) on, the longest with `longest` bytes; or one line
    that is too long to be read. `partition` are the columns that the folders of their part name."""

    data: bytes
    first_line: int
    lines: int
    longest: int
    partition: Mapping[str, str | None]
    overlong: Reject | None = None


class LineStream:
    """Reads the header line of a source, and then the lines of all its parts in blocks. Every error is a PermanentError."""

    def __init__(self, file: SourceFile) -> None:
        self._file = file
        self._parts = iter(file.parts)
        self.bytes_total = sum(part.size for part in file.parts)
        self._decompressed = self._closed_bytes = 0
        self._line = 1
        self._header: bytes | None = None
        self._disk: BinaryIO = io.BytesIO()
        self.separator = SEPARATORS[0]
        """What separates fields: of `SEPARATORS` the one that the first line has most of."""
        self._open(next(self._parts))

    def _open(self, part: Part) -> None:
        """Continue with a part: its first block without the byte order mark."""
        self._closed_bytes += self._disk.tell()
        self.close()
        self._part = part
        compressed = self._file.format(part)
        if compressed == "parquet":
            raise self._file.error("is a Parquet file among CSV files; name a folder of one month's files", part)
        self._disk, content = part.open()
        gzipped = compressed == "gzip"
        self._stream = igzip.IGzipFile(fileobj=content) if gzipped else io.BufferedReader(content, 1 << 20)
        self._rest = self._read()
        if not self._rest:
            raise self._file.error("is empty when decompressed; download the month again", part)
        if gzipped:
            self._file.check_text(self._rest[:512])
        self._rest = self._rest.removeprefix(b"\xef\xbb\xbf")

    def close(self) -> None:
        """Close the file."""
        self._disk.close()

    @property
    def bytes_read(self) -> int:
        """Bytes of the (compressed) source read so far."""
        return self._closed_bytes + self._disk.tell()

    def read_header(self) -> list[str]:
        """Return the first line's fields: the header's names, blanks included."""
        line = self._rest.partition(b"\n")[0]
        if len(line) > HEADER_BYTES:
            raise self._file.error(
                f"has no header (its first line is longer than {HEADER_BYTES >> 10} KiB); download the month again"
            )
        self._header = line.rstrip(b"\r")
        self.separator = max(SEPARATORS, key=self._header.count)
        try:
            return next(csv.reader([_decoded(self._header)], delimiter=self.separator.decode(), strict=True), [])
        except csv.Error as error:
            raise self._file.error(f"has an invalid header ({error}); download the month again") from None

    def has_no_header(self) -> None:
        """Take the first line of each part for a row."""
        self._header = None

    def first_lines(self, count: int) -> list[bytes]:
        """Return the first lines that are not blank, without line ends; the header is the first."""
        lines = self._rest[: count * LINE_BYTES].split(b"\n", 2 * count)[: 2 * count]
        return [text for line in lines if (text := line.rstrip(b"\r"))][:count]

    def _skip_header(self) -> None:
        if self._header is None:
            return
        header, _, self._rest = self._rest.partition(b"\n")
        if header.rstrip(b"\r") != self._header:
            raise self._file.error(f"has another header than {self._file.parts[0].path.name}", self._part)
        # one blank line in 2009 to 2014, 2017 and 2018
        blank = self._rest[: len(self._rest) - len(self._rest.lstrip(b"\r\n"))]
        self._rest = self._rest[blank.rfind(b"\n") + 1 :]
        self._line += 1 + blank.count(b"\n")

    def _read(self) -> bytes:
        """Return the next bytes, at most BLOCK_BYTES; none at the end."""
        try:
            data = self._stream.read(BLOCK_BYTES)
        except (*DAMAGE, isal_zlib.IsalError) as error:  # ty: ignore[invalid-exception-caught]
            raise self._file.damaged(error, self._part) from None
        self._decompressed += len(data)
        if self._decompressed > MAX_BYTES or self._decompressed > max(EXPANSION_FROM, EXPANSION * self.bytes_read):
            raise self._file.error(
                f"decompresses to more than {self._decompressed >> 20} MiB from {self.bytes_read} bytes, unlike trip "
                "records (a gzip bomb?); download the month again"
            )
        return data

    def blocks(self) -> Iterator[Block]:
        """Yield the lines of every part after its header."""
        self._skip_header()
        yield from self._blocks_of_part()
        for part in self._parts:
            self._open(part)
            self._skip_header()
            yield from self._blocks_of_part()

    def _blocks_of_part(self) -> Iterator[Block]:
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
                yield Block(b"", reject.line, 1, LINE_BYTES, self._part.partition, reject)

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
                yield Block(part, self._line, last - first, longest, self._part.partition)
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
    reader = csv.reader([line.decode("latin-1")], delimiter=separator.decode(), strict=True)  # latin-1 keeps every byte
    try:
        return [field.encode("latin-1") for field in next(reader)]
    except csv.Error:
        return None
