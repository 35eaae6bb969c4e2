"""Reads a published CSV, plain or gzipped, as raw rows: lines are split here; values are converted in `conform`.

The stream is read in blocks of whole lines (`lines`). Arrow splits a block at full speed, numbers directly into their
types where all are in plain notation, and sets malformed lines aside. A block with quotation marks, blank lines or the
like is halved until it is small, and then split line by line. Both ways give the same rows. Blocks are converted on two
threads, in order; at most three are in memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from taxi_assets.core.errors import PermanentError
from taxi_assets.publisher.columns import MatchedColumns, NewColumns, match_columns
from taxi_assets.publisher.conform import plain_text, valid_text
from taxi_assets.publisher.lines import LINE_BYTES, Block, LineStream, split_line
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
PIECE_BYTES = 64 << 10
"""A block that Arrow cannot split is halved down to this, about 500 trips, before it is split line by line."""


@dataclass
class Layout:
    """How lines are split: the raw month's schema, the names in the header, its columns, and the number of (empty)
    extra fields that rows have beyond the header."""

    schema: pa.Schema
    header: list[str]
    columns: MatchedColumns
    extra: int
    plain_numbers: bool = True
    """Set to False when a block shows that numbers have another notation (codes of 2009, pandas' `1.0`)."""

    @property
    def new_positions(self) -> list[int]:
        """Positions of the new columns."""
        return [column.position for column in self.columns.new.values()]


def open_csv(file: SourceFile, new_columns: NewColumns, progress: ReadProgress | None) -> OpenedFile:
    """Open the file; errors as in `reader.open_trips`. A new column is text."""
    stream = LineStream(file)
    try:
        columns = match_columns(file, stream.header, "csv", new_columns)
    except PermanentError:
        stream.close()
        raise
    schema = pa.schema([*file.kind.raw_schema, *(pa.field(name, pa.string()) for name in columns.new)])
    layout = Layout(schema, stream.header, columns, _extra_fields(stream.first_line, len(stream.header)))
    return OpenedFile(schema, columns.record(dict.fromkeys(columns.new, "string"), {}), _rows(layout, stream, progress))


def _rows(layout: Layout, stream: LineStream, progress: ReadProgress | None) -> Iterator[pa.RecordBatch]:
    """Yield the file's rows, a batch per block."""
    with closing(stream), ThreadPoolExecutor(THREADS, "taxi-csv") as pool:
        rows = 0
        for bytes_read, batch in _convert_blocks(pool, layout, stream):
            rows += batch.num_rows
            if progress:
                progress(bytes_read, stream.bytes_total, rows)
            if batch.num_rows:
                yield batch


def _convert_blocks(
    pool: ThreadPoolExecutor, layout: Layout, stream: LineStream
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Yield each block's bytes read so far and rows, in order, while the threads convert the next blocks."""
    waiting: deque[tuple[int, Future[pa.RecordBatch]]] = deque()
    for block in stream.blocks():
        waiting.append((stream.bytes_read, pool.submit(read_block, layout, block)))
        if len(waiting) > THREADS:
            bytes_read, future = waiting.popleft()
            yield bytes_read, future.result()
    for bytes_read, future in waiting:
        yield bytes_read, future.result()


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
        batch = raw_rows(layout.schema, *split)
        if not numbers and not split[1] and batch.column("reject_reason").null_count == batch.num_rows:
            layout.plain_numbers = False
        return batch
    if halves := _halves(block):
        return pa.concat_batches([read_block(layout, half) for half in halves])
    return raw_rows(layout.schema, *split_by_line(layout, block))


def _halves(block: Block) -> list[Block]:
    """Split the block in two at a line end; none when it is small or has one line."""
    data = block.data
    cut = data.rfind(b"\n", 0, len(data) // 2) + 1 or data.find(b"\n") + 1
    if len(data) <= PIECE_BYTES or not 0 < cut < len(data):
        return []
    first = data.count(b"\n", 0, cut)
    return [
        Block(data[:cut], block.first_line, first, min(block.longest, cut)),
        Block(data[cut:], block.first_line + first, block.lines - first, min(block.longest, len(data) - cut)),
    ]


def split_at_once(layout: Layout, block: Block, numbers: bool = False) -> tuple[ParsedRows, list[Reject]] | None:
    """Split by Arrow, which reports malformed lines; None when some line is blank, too long or quoted, or is readable
    despite its number of fields.

    Raises:
        pa.ArrowInvalid: with `numbers`, when not every number is in the notation that Arrow reads; or a line is malformed
            and the block is not ASCII, as Arrow reports only lines in UTF-8.
    """
    data = block.data
    if block.longest > LINE_BYTES or b'"' in data or data.count(b"\r") != data.count(b"\r\n"):
        return None
    if numbers and (b"x" in data or b"X" in data):
        raise pa.ArrowInvalid("Arrow would read 0x10 as a number")
    width = len(layout.header)
    extra = range(width, width + layout.extra)
    malformed: list[int] = []
    types = {str(i): _type_read(layout, name) if numbers else pa.string() for name, i in layout.columns.known.items()}
    types |= {str(i): pa.string() for i in (*layout.new_positions, *extra)}
    table = _split_plain(data, width + layout.extra, types, malformed if data.isascii() else None)
    if table.num_rows + len(malformed) != block.lines or any(table[str(i)].null_count != table.num_rows for i in extra):
        return None
    if numbers and any(pc.any(pc.is_inf(column)).as_py() for column in table.columns if column.type == pa.float64()):
        raise pa.ArrowInvalid("infinity is not a valid value")
    lines: list[bytes] = []

    def line_at(place: int) -> bytes:
        if not lines:
            lines.extend(data.split(b"\n"))
        return lines[place].rstrip(b"\r")

    rejects = []
    for place in malformed:
        plain = _plain_line(layout, line := line_at(place))
        if isinstance(plain, bytes):
            return None
        rejects.append(Reject(*plain, block.first_line + place, source_text(line)))
    places = np.delete(np.arange(block.lines), malformed)
    columns, lines_of_rows = _columns(layout, table), block.first_line + places
    return ParsedRows(*columns, lines_of_rows, lambda row: source_text(line_at(int(places[row])))), rejects


def _type_read(layout: Layout, name: str) -> pa.DataType:
    """Return the type that Arrow reads: of numbers the stored one; of times and flags text, as `conform` is stricter."""
    stored = layout.schema.field(name).type
    return stored if stored in (pa.int16(), pa.float64()) else pa.string()


def split_by_line(layout: Layout, block: Block) -> tuple[ParsedRows, list[Reject]]:
    """Split line by line, and set malformed lines aside. Blank lines are not rows."""
    plain_lines: list[bytes] = []
    lines: list[bytes] = []
    numbers: list[int] = []
    rejects: list[Reject] = []
    quoted: dict[int, list[bytes]] = {}  # by row, the fields of lines in which a new column may contain commas
    commas = len(layout.header) - 1
    for number, line in enumerate(block.data.split(b"\n"), block.first_line):
        line = line.rstrip(b"\r")
        if not line:
            continue
        regular = line.count(b",") == commas and b'"' not in line and b"\r" not in line and len(line) <= LINE_BYTES
        plain = line if regular else _plain_line(layout, line)
        if isinstance(plain, bytes):
            if layout.columns.new and not regular:
                quoted[len(lines)] = split_line(line) or []
            plain_lines.append(plain)
            lines.append(line)
            numbers.append(number)
        else:
            rejects.append(Reject(*plain, number, source_text(line)))
    plain_lines.append(b"")
    types = {str(i): pa.string() for i in (*layout.columns.known.values(), *layout.new_positions)}
    data = b"\n".join(plain_lines)
    table = _split_plain(data, len(layout.header), types) if lines else pa.schema(types.items()).empty_table()
    return ParsedRows(
        *_columns(layout, table, quoted), np.array(numbers, np.int64), lambda row: source_text(lines[row])
    ), rejects


def _plain_line(layout: Layout, line: bytes) -> bytes | tuple[str, str]:
    """Return the known columns' fields without quotation marks; or the reason and detail why the line is unreadable."""
    width = len(layout.header)
    if len(line) > LINE_BYTES:
        return "unreadable_length", f"{len(line)} bytes"
    fields = split_line(line)
    if fields is None:
        return "unreadable_quotes", "unbalanced quotation marks"
    if len(fields) < width or any(field.strip() for field in fields[width:]):
        return "unreadable_field_count", f"{len(fields)} of {width} fields"
    used = {i: fields[i] for i in layout.columns.known.values()}
    if wrong := [i for i, field in used.items() if b"," in field or b"\r" in field]:  # no valid value has either
        details = (value_detail(layout.header[i], plain_text(used[i])) for i in wrong)
        return "unreadable_value", "; ".join(details)
    return b",".join(used.get(i, b"") for i in range(width))


def _split_plain(
    data: bytes, width: int, types: dict[str, pa.DataType], malformed: list[int] | None = None
) -> pa.Table:
    """Split whole lines without quotes into columns, named by position; an empty field is null.

    Lines that do not have `width` fields are skipped, and their places, from 0, appended to `malformed`.

    Raises:
        pa.ArrowInvalid: a value is not of its column's type; or a line is malformed and `malformed` is None.
    """
    on_malformed = None if malformed is None else partial(_skip, malformed)
    return pa_csv.read_csv(
        pa.py_buffer(data),
        pa_csv.ReadOptions(use_threads=False, block_size=len(data) + 1, column_names=[str(i) for i in range(width)]),
        pa_csv.ParseOptions(quote_char=False, invalid_row_handler=on_malformed),
        pa_csv.ConvertOptions(
            column_types=types,
            include_columns=list(types),
            null_values=[""],
            strings_can_be_null=True,
            check_utf8=False,
        ),
    )


def _skip(malformed: list[int], row: pa_csv.InvalidRow) -> str:
    malformed.append(row.number - 1)
    return "skip"


def _columns(
    layout: Layout, table: pa.Table, quoted: Mapping[int, list[bytes]] | None = None
) -> tuple[dict[str, tuple[str, pa.Array]], dict[str, pa.Array]]:
    """Return the known and the new columns; `quoted` has by row the fields that replace those of new columns."""

    def column(position: int) -> pa.Array:
        chunked = table[str(position)]
        return chunked.chunk(0) if chunked.num_chunks == 1 else chunked.combine_chunks()

    def new_column(position: int) -> pa.Array:
        values = valid_text(column(position))
        if quoted:
            texts = values.to_pylist()
            for row, fields in quoted.items():
                texts[row] = plain_text(fields[position]) or None
            values = pa.array(texts, pa.string())
        return values

    known = {name: (layout.header[i], column(i)) for name, i in layout.columns.known.items()}
    return known, {name: new_column(c.position) for name, c in layout.columns.new.items()}


def _extra_fields(first_line: bytes, width: int) -> int:
    """Return how many empty fields the first row has beyond the header: two in 2016-07 to 12, and in green 2013-08."""
    fields = first_line.rstrip(b"\r\n").split(b",")
    return 0 if any(fields[width:]) else max(0, len(fields) - width)
