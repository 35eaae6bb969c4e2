"""Reads a published CSV, plain or gzipped, as raw rows: lines are split here; values are converted in `conform`.

The stream is read in blocks of whole lines (`lines`). Arrow splits a block at full speed, numbers directly into their
types where all are in plain notation. A block with quotation marks, blank lines or the like is halved until it is small,
then split line by line, into the same rows. Two threads convert blocks, in order; at most three are in memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from taxi_assets.core.errors import PermanentError
from taxi_assets.publisher.conform import plain_text, valid_text
from taxi_assets.publisher.csv_layout import Layout, recognize_csv, split_lines
from taxi_assets.publisher.lines import LINE_BYTES, Block, LineStream, split_line
from taxi_assets.publisher.options import ReadOptions
from taxi_assets.publisher.rows import (
    OpenedFile,
    ParsedRows,
    ReadProgress,
    Reject,
    raw_rows,
    reject_rows,
    source_text,
    value_detail,
)
from taxi_assets.publisher.source_file import SourceFile

THREADS = 2
NUMBERS = (pa.int16(), pa.int64(), pa.float64())
"""Types that Arrow reads; times and flags are read as text, as `conform` is stricter."""
PIECE_BYTES = 64 << 10
"""A block that Arrow cannot split is halved down to this, about 500 trips, before it is split line by line."""


def open_csv(file: SourceFile, options: ReadOptions, progress: ReadProgress | None) -> OpenedFile:
    """Open the file; errors as in `reader.open_trips`. A new column is text."""
    stream = LineStream(file)
    try:
        layout = recognize_csv(file, stream, options)
    except PermanentError:
        stream.close()
        raise
    if layout.problems:
        stream.close()
    record = layout.columns.record(dict.fromkeys(layout.columns.new, "string"), {})
    separator = layout.separator.decode()
    record["written"] = {"format": "CSV", "separator": separator, "header": layout.header, **layout.notation.record()}
    return OpenedFile(layout.schema, record, _rows(layout, stream, progress), layout.columns, layout.problems)


def _rows(layout: Layout, stream: LineStream, progress: ReadProgress | None) -> Iterator[pa.RecordBatch]:
    """Yield each block's rows, in order, while the threads convert the next blocks."""
    rows, waiting = 0, deque[Future[pa.RecordBatch]]()
    with closing(stream), ThreadPoolExecutor(THREADS, "taxi-csv") as pool:
        blocks = stream.blocks()
        while True:
            while len(waiting) <= THREADS and (block := next(blocks, None)):
                waiting.append(pool.submit(read_block, layout, block))
            if not waiting:
                return
            batch = waiting.popleft().result()
            rows += batch.num_rows
            if progress:
                progress(stream.bytes_read, stream.bytes_total, rows)
            if batch.num_rows:
                yield batch


def read_block(layout: Layout, block: Block) -> pa.RecordBatch:
    """Convert a block to a row for each line that is not blank."""
    if block.overlong:
        return reject_rows(layout.schema, [block.overlong])
    for numbers in (True, False) if layout.plain_numbers else (False,):
        try:
            split = split_at_once(layout, block, numbers)
        except pa.ArrowInvalid:
            continue
        if split is None:
            break
        batch = raw_rows(layout.schema, *split, layout.notation)
        if not numbers and not split[1] and batch.column("reject_reason").null_count == batch.num_rows:
            layout.plain_numbers = False
        return batch
    if halves := _halves(block):
        return pa.concat_batches([read_block(layout, half) for half in halves])
    return raw_rows(layout.schema, *split_by_line(layout, block), layout.notation)


def _halves(block: Block) -> list[Block]:
    """Split the block in two at a line end; none when it is small or has one line."""
    data = block.data
    cut = data.rfind(b"\n", 0, len(data) // 2) + 1 or data.find(b"\n") + 1
    if len(data) <= PIECE_BYTES or not 0 < cut < len(data):
        return []
    first = data.count(b"\n", 0, cut)
    second, rest = block.first_line + first, block.lines - first
    return [
        block._replace(data=data[:cut], lines=first, longest=min(block.longest, cut)),
        block._replace(data=data[cut:], first_line=second, lines=rest, longest=min(block.longest, len(data) - cut)),
    ]


def split_at_once(layout: Layout, block: Block, numbers: bool = False) -> tuple[ParsedRows, list[Reject]] | None:
    """Split by Arrow, which reports malformed lines; None when some line is blank, too long or quoted, or is readable
    despite its number of fields.

    Raises:
        pa.ArrowInvalid: with `numbers`, when not every number is in the notation that Arrow reads; or a line is malformed
            and the block is not ASCII, as Arrow reports only lines in UTF-8.
    """
    data = without_quotes(block, layout.separator) if b'"' in block.data else block.data
    if data is None or block.longest > LINE_BYTES or data.count(b"\r") != data.count(b"\r\n"):
        return None
    if numbers and (b"x" in data or b"X" in data):
        raise pa.ArrowInvalid("Arrow would read 0x10 as a number")
    fields = layout.width + layout.extra
    extra = range(layout.width, fields)
    known, new = layout.columns.known, layout.columns.new
    # others are in the partition
    types = {i: pa.string() for i in (*known.values(), *new.values(), *extra) if i < fields}
    if numbers:
        stored = {i: layout.schema.field(name).type for name, i in known.items() if i < layout.width}
        types |= {i: type_ for i, type_ in stored.items() if type_ in NUMBERS}
    malformed: list[int] = []
    point = "," if layout.notation.decimal_comma and layout.separator != b"," else "."
    table = split_lines(data, fields, types, layout.separator, malformed.append, decimal_point=point)
    if table.num_rows + len(malformed) != block.lines or any(table[str(i)].null_count != table.num_rows for i in extra):
        return None
    if numbers and any(pc.any(pc.is_inf(column)).as_py() for column in table.columns if column.type == pa.float64()):
        raise pa.ArrowInvalid("infinity is not a valid value")
    lines: list[bytes] = []

    def line_at(place: int) -> bytes:
        if not lines:
            lines.extend(block.data.split(b"\n"))
        return lines[place].rstrip(b"\r")

    rejects = []
    for place in malformed:
        found = _fields(layout, line := line_at(place))
        if isinstance(found, list):
            return None
        rejects.append(Reject(*found, block.first_line + place, source_text(line)))
    places = np.delete(np.arange(block.lines), malformed)
    columns = _columns(layout, block, table.num_rows, lambda i: table[str(i)].chunk(0))
    return ParsedRows(*columns, block.first_line + places, lambda row: source_text(line_at(int(places[row])))), rejects


def without_quotes(block: Block, separator: bytes) -> bytes | None:
    """Return a block in which every field is quoted without its quotation marks; None if any mark is within a field.

    FHV was published so from 2017-07 to 2018-12. No field has a mark if all are around separators and at the lines' ends.
    """
    data = block.data.removesuffix(b"\n").removesuffix(b"\r")
    characters = np.frombuffer(data, np.uint8)
    marks = characters == ord('"')

    def between_marks(character: bytes) -> int:
        return int(np.count_nonzero((characters[1:-1] == ord(character)) & marks[:-2] & marks[2:]))

    separators = data.count(separator)
    ends = between_marks(b"\n") + (data.count(b'"\r\n"') if b"\r" in data else 0)
    whole = data[:1] == data[-1:] == b'"' and ends == block.lines - 1 and between_marks(separator) == separators
    only_around = whole and np.count_nonzero(marks) == 2 * (separators + block.lines)
    return block.data.translate(None, b'"') if only_around else None


def split_by_line(layout: Layout, block: Block) -> tuple[ParsedRows, list[Reject]]:
    """Split line by line, and set malformed lines aside. Blank lines are not rows."""
    rows: list[list[bytes]] = []
    lines: list[bytes] = []
    numbers: list[int] = []
    rejects: list[Reject] = []
    for number, line in enumerate(block.data.split(b"\n"), block.first_line):
        line = line.rstrip(b"\r")
        if not line:
            continue
        fields = _fields(layout, line)
        if isinstance(fields, list):
            rows.append(fields)
            lines.append(line)
            numbers.append(number)
        else:
            rejects.append(Reject(*fields, number, source_text(line)))
    # as text without a check that it is UTF-8, like Arrow's CSV reader
    columns = _columns(
        layout, block, len(rows), lambda i: pa.array([row[i] or None for row in rows], pa.binary()).view(pa.string())
    )
    return ParsedRows(*columns, np.array(numbers, np.int64), lambda row: source_text(lines[row])), rejects


def _fields(layout: Layout, line: bytes) -> list[bytes] | tuple[str, str]:
    """Return the line's fields without quotation marks; or the reason and detail why the line is unreadable."""
    header, width = layout.columns.header, layout.width
    if len(line) > LINE_BYTES:
        return "unreadable_length", f"{len(line)} bytes"
    fields = split_line(line, layout.separator)
    if fields is None:
        return "unreadable_quotes", "unbalanced quotation marks"
    if len(fields) < width or b"".join(fields[width:]).strip():
        return "unreadable_field_count", f"{len(fields)} of {width} fields"
    if b'"' in line or b"\r" in line:  # no valid value contains a separator or a carriage return
        known = [i for i in layout.columns.known.values() if i < width]
        wrong = [i for i in known if layout.separator in fields[i] or b"\r" in fields[i]]
        if wrong:
            return "unreadable_value", "; ".join(value_detail(header[i], plain_text(fields[i])) for i in wrong)
    return fields


def _columns(
    layout: Layout, block: Block, rows: int, field: Callable[[int], pa.Array]
) -> tuple[dict[str, tuple[str, pa.Array]], dict[str, pa.Array]]:
    """Return the known and the new columns of `ParsedRows`; `field` returns the texts or numbers at a position."""

    def column(i: int) -> pa.Array:
        return (
            field(i)
            if i < layout.width
            else pa.repeat(pa.scalar(block.partition[layout.columns.header[i]], pa.string()), rows)
        )

    known = {name: (layout.columns.header[i], column(i)) for name, i in layout.columns.known.items()}
    return known, {name: valid_text(column(i)) for name, i in layout.columns.new.items()}
