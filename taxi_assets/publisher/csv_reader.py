"""A published CSV, plain or gzipped, to raw rows: lines are cut here; values are converted in `conform`.

The stream is cut into blocks at line ends (`lines`). Arrow splits a block at full speed, numbers straight into their
types where all are plainly written, and sets lines of too many or few fields aside. A block with quotation marks, blank
lines or the like is halved, and its small pieces split line by line. Every way gives the same rows. Blocks are
converted on two threads, in order; at most three are held.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from taxi_assets.core.errors import PermanentError
from taxi_assets.publisher.columns import MatchedColumns, NewColumns, match_columns
from taxi_assets.publisher.conform import plain_text, valid_text
from taxi_assets.publisher.lines import LINE_BYTES, Block, LineStream
from taxi_assets.publisher.published import PublishedFile
from taxi_assets.publisher.rows import (
    OpenedFile,
    Progress,
    Published,
    Reject,
    raw_rows,
    reject_rows,
    source_text,
    value_detail,
)

THREADS = 2
PIECE_BYTES = 64 << 10
"""A block with a bad line is halved down to this, about 500 trips, before it is split line by line."""


@dataclass
class Layout:
    """How lines are split: the header's names, which column is which, the raw month's schema, and how many (empty) fields
    rows have beyond the header."""

    schema: pa.Schema
    header: list[str]
    columns: MatchedColumns
    surplus: int
    plain_numbers: bool = True
    """Until a block shows that this file writes its numbers in another way (codes of 2009, pandas' `1.0`)."""

    @property
    def positions(self) -> list[int]:
        """Positions of the columns that are read."""
        return [*self.columns.known.values(), *self.new]

    @property
    def new(self) -> list[int]:
        """Positions of the new columns."""
        return [column.position for column in self.columns.new.values()]


def open_csv(file: PublishedFile, new_columns: NewColumns = "keep", progress: Progress | None = None) -> OpenedFile:
    """Open the file; errors as of `reader.open_trips`. A new column is text."""
    stream = LineStream(file)
    try:
        header = parse_header(file, stream.header)
        columns = match_columns(file, header, "csv", new_columns)
    except PermanentError:
        stream.close()
        raise
    schema = pa.schema([*file.kind.raw_schema, *(pa.field(name, pa.string()) for name in columns.new)])
    layout = Layout(schema, header, columns, _surplus(stream.first_line, len(header)))
    return OpenedFile(schema, columns.record(dict.fromkeys(columns.new, "string"), {}), _rows(layout, stream, progress))


def _rows(layout: Layout, stream: LineStream, progress: Progress | None) -> Iterator[pa.RecordBatch]:
    """The file's rows, a batch for each block."""
    with stream, ThreadPoolExecutor(THREADS, "taxi-csv") as pool:
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
    """Each block's rows in order, and the bytes read by then, while the threads work on the next blocks."""
    waiting: deque[tuple[int, Future[pa.RecordBatch]]] = deque()
    for block in stream.blocks():
        waiting.append((stream.bytes_read, pool.submit(read_block, layout, block)))
        if len(waiting) > THREADS:
            bytes_read, future = waiting.popleft()
            yield bytes_read, future.result()
    for bytes_read, future in waiting:
        yield bytes_read, future.result()


def parse_header(file: PublishedFile, line: bytes) -> list[str]:
    """The names in a header line, blanks included."""
    try:
        return next(csv.reader([line.decode("utf-8", "backslashreplace")], strict=True), [])
    except csv.Error as error:
        raise file.refused(f"has a header that cannot be read ({error}); download the month again") from None


def read_block(layout: Layout, block: Block) -> pa.RecordBatch:
    """Convert a block of whole lines: as many rows as it has lines that are not blank."""
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
    """The block in two, cut at a line end, so that few lines are split one by one for a bad one; none when it is small."""
    data = block.data
    cut = data.rfind(b"\n", 0, len(data) // 2) + 1 or data.find(b"\n") + 1
    if len(data) <= PIECE_BYTES or not 0 < cut < len(data):
        return []
    first = data.count(b"\n", 0, cut)
    return [
        Block(data[:cut], block.first_line, first, min(block.longest, cut)),
        Block(data[cut:], block.first_line + first, block.lines - first, min(block.longest, len(data) - cut)),
    ]


def split_at_once(layout: Layout, block: Block, numbers: bool = False) -> tuple[Published, list[Reject]] | None:
    """Split by Arrow, which tells lines that have not the expected fields; None when some line is blank, too long or
    quoted, or could be read all the same without its surplus fields.

    Raises:
        pa.ArrowInvalid: with `numbers`, when not every number is written as plainly as Arrow reads them; or a line has
            not the expected fields and the block is not ASCII, as Arrow tells lines in UTF-8 only.
    """
    data = block.data
    if block.longest > LINE_BYTES or b'"' in data or data.count(b"\r") != data.count(b"\r\n"):
        return None
    if numbers and (b"x" in data or b"X" in data):
        raise pa.ArrowInvalid("Arrow takes 0x10 for a number")
    width = len(layout.header)
    surplus = range(width, width + layout.surplus)
    odd: list[int] = []
    types = {str(i): _type_read(layout, name) if numbers else pa.string() for name, i in layout.columns.known.items()}
    types |= {str(i): pa.string() for i in (*layout.new, *surplus)}
    table = _split_plain(data, width + layout.surplus, types, odd if data.isascii() else None)
    if table.num_rows + len(odd) != block.lines or any(table[str(i)].null_count != table.num_rows for i in surplus):
        return None
    if numbers and any(pc.any(pc.is_inf(column)).as_py() for column in table.columns if column.type == pa.float64()):
        raise pa.ArrowInvalid("infinity is no number of ours")
    lines: list[bytes] = []

    def line_at(place: int) -> bytes:
        if not lines:
            lines.extend(data.split(b"\n"))
        return lines[place].rstrip(b"\r")

    rejects = []
    for place in odd:
        made_plain = _made_plain(layout, line := line_at(place))
        if isinstance(made_plain, bytes):
            return None
        rejects.append(Reject(*made_plain, block.first_line + place, source_text(line)))
    places = np.delete(np.arange(block.lines), odd)
    lines_at, text_of = block.first_line + places, lambda row: source_text(line_at(int(places[row])))
    return Published(*_columns(layout, table), lines_at, text_of), rejects


def _type_read(layout: Layout, name: str) -> pa.DataType:
    """Numbers as they are stored; times and flags as text, of which `conform` accepts less than Arrow."""
    stored = layout.schema.field(name).type
    return stored if stored in (pa.int16(), pa.float64()) else pa.string()


def split_by_line(layout: Layout, block: Block) -> tuple[Published, list[Reject]]:
    """Look at each line, and set aside those that do not have the header's fields. Blank lines are no rows."""
    plain: list[bytes] = []
    lines: list[bytes] = []
    numbers: list[int] = []
    rejects: list[Reject] = []
    apart: dict[int, list[bytes]] = {}  # fields of lines in which a new column may hold commas
    commas = len(layout.header) - 1
    for number, line in enumerate(block.data.split(b"\n"), block.first_line):
        line = line.rstrip(b"\r")
        if not line:
            continue
        regular = line.count(b",") == commas and b'"' not in line and b"\r" not in line and len(line) <= LINE_BYTES
        made_plain = line if regular else _made_plain(layout, line)
        if isinstance(made_plain, bytes):
            if layout.new and not regular:
                apart[len(lines)] = _fields(line) or []
            plain.append(made_plain)
            lines.append(line)
            numbers.append(number)
        else:
            rejects.append(Reject(*made_plain, number, source_text(line)))
    plain.append(b"")
    types = {str(i): pa.string() for i in layout.positions}
    table = _split_plain(b"\n".join(plain), len(layout.header), types) if lines else None
    columns = _columns(layout, table, apart)
    return Published(*columns, np.array(numbers, np.int64), lambda row: source_text(lines[row])), rejects


def _made_plain(layout: Layout, line: bytes) -> bytes | tuple[str, str]:
    """The known columns' fields without quotation marks; or the reason and detail why the line cannot be read."""
    width = len(layout.header)
    if len(line) > LINE_BYTES:
        return "unreadable_length", f"{len(line)} bytes"
    fields = _fields(line)
    if fields is None:
        return "unreadable_quotes", "the quotation marks do not pair"
    if len(fields) < width or any(field.strip() for field in fields[width:]):
        return "unreadable_field_count", f"{len(fields)} of {width} fields"
    used = {i: fields[i] for i in layout.columns.known.values()}
    if wrong := [i for i, field in used.items() if b"," in field or b"\r" in field]:  # no value has either
        details = (value_detail(layout.header[i], plain_text(used[i])) for i in wrong)
        return "unreadable_value", "; ".join(details)
    return b",".join(used.get(i, b"") for i in range(width))


def _split_plain(data: bytes, width: int, types: dict[str, pa.DataType], odd: list[int] | None = None) -> pa.Table:
    """Whole lines of `width` fields without quotes to columns, named by position; an empty field is null.

    Lines of another number of fields are left out, and their places, from 0, put into `odd`.

    Raises:
        pa.ArrowInvalid: a value is not of its column's type; or a line is odd and `odd` is None.
    """
    return pa_csv.read_csv(
        pa.py_buffer(data),
        pa_csv.ReadOptions(use_threads=False, block_size=len(data) + 1, column_names=[str(i) for i in range(width)]),
        pa_csv.ParseOptions(quote_char=False, invalid_row_handler=None if odd is None else _leave_out(odd)),
        pa_csv.ConvertOptions(
            column_types=types,
            include_columns=list(types),
            null_values=[""],
            strings_can_be_null=True,
            check_utf8=False,
        ),
    )


def _leave_out(odd: list[int]) -> Callable[[pa_csv.InvalidRow], str]:
    def left_out(row: pa_csv.InvalidRow) -> str:
        odd.append(row.number - 1)
        return "skip"

    return left_out


def _columns(
    layout: Layout, table: pa.Table | None, apart: Mapping[int, list[bytes]] | None = None
) -> tuple[dict[str, tuple[str, pa.Array]], dict[str, pa.Array]]:
    """The known and the new columns of the lines; `apart` has the fields, by row, that new columns are taken from instead."""

    def column(position: int) -> pa.Array:
        return pa.array([], pa.string()) if table is None else _whole(table[str(position)])

    def new_column(position: int) -> pa.Array:
        values = valid_text(column(position))
        if apart:
            texts = values.to_pylist()
            for row, fields in apart.items():
                texts[row] = plain_text(fields[position]) or None
            values = pa.array(texts, pa.string())
        return values

    known = {name: (layout.header[i], column(i)) for name, i in layout.columns.known.items()}
    return known, {name: new_column(c.position) for name, c in layout.columns.new.items()}


def _fields(line: bytes) -> list[bytes] | None:
    """The line's fields; None when its quotation marks do not pair."""
    if b'"' not in line:
        return line.split(b",")
    try:
        fields = next(csv.reader([line.decode("latin-1")], strict=True))  # latin-1 keeps every byte
    except csv.Error:
        return None
    return [field.encode("latin-1") for field in fields]


def _surplus(first_line: bytes, width: int) -> int:
    """How many empty fields the first row has beyond the header: two in 2016-07 to 12, and in green 2013-08."""
    fields = first_line.rstrip(b"\r\n").split(b",")
    return 0 if any(fields[width:]) else max(0, len(fields) - width)


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
