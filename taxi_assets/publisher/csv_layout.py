"""Recognizes how a CSV is written, in its first lines: its columns, its separator, its times and numbers.

`csv_reader` then requires it of every line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from taxi_assets.core.errors import PermanentError
from taxi_assets.datasets.eras import ERAS, Era
from taxi_assets.datasets.schema import KINDS
from taxi_assets.publisher.columns import (
    MatchedColumns,
    canonical_name,
    match_columns,
    of_another_kind,
    partition_columns,
)
from taxi_assets.publisher.conform import plain_text
from taxi_assets.publisher.lines import LineStream, split_line
from taxi_assets.publisher.notation import PUBLISHED, Notation, recognize_notation
from taxi_assets.publisher.options import ReadOptions
from taxi_assets.publisher.rows import ParsedRows, raw_rows
from taxi_assets.publisher.source_file import SourceFile
from taxi_assets.publisher.times import is_time

PROBE_LINES = 100
_FITTING = 0.9
"""Share of the first lines that must fit an order of columns, where there is no header."""


@dataclass
class Layout:
    """How a file's lines are split and read; `extra` is the number of (empty) fields that rows have beyond its `width`."""

    schema: pa.Schema
    columns: MatchedColumns
    width: int
    extra: int
    separator: bytes = b","
    notation: Notation = PUBLISHED
    header: bool = True
    problems: Sequence[str] = ()
    plain_numbers: bool = True
    """Set to False when a block shows that numbers have another notation (codes of 2009, pandas' `1.0`)."""


def recognize_csv(file: SourceFile, stream: LineStream, options: ReadOptions) -> Layout:
    """Recognize the layout of a file that was opened, before its first block is read.

    Raises:
        PermanentError: it belongs to another dataset, or has no header and its values fit no published order, or several.
    """
    names = stream.read_header()
    lines = [split_line(line, stream.separator) for line in stream.first_lines(PROBE_LINES + 1)]
    has_header = not any(is_time(name.strip()) for name in names)
    if not has_header:
        stream.has_no_header()
    rows = [row for row in lines[has_header:] if row is not None]
    if not has_header:
        names = _published_order(file, rows, options)
    columns = match_columns(file, [*names, *partition_columns(file, names)], "csv", options)
    notation, problems = _notation(file, columns, rows, options)
    extra = (rows or [[]])[0][len(names) :]  # two empty fields in 2016-07 to 12, and in green 2013-08
    return Layout(
        pa.schema([*file.kind.raw_schema, *(pa.field(name, pa.string()) for name in columns.new)]),
        columns,
        len(names),
        0 if any(extra) else len(extra),
        stream.separator,
        notation,
        has_header,
        [*columns.problems, *problems],
    )


def _notation(
    file: SourceFile, columns: MatchedColumns, rows: Sequence[list[bytes]], options: ReadOptions
) -> tuple[Notation, list[str]]:
    samples = {name: [plain_text(row[i]).strip() for row in rows if i < len(row)] for name, i in columns.known.items()}
    return recognize_notation(file.kind, columns, samples, options, lambda position: _every_text(file, position))


def _every_text(file: SourceFile, position: int) -> Iterator[pa.Array]:
    """Yield all values of a column, as far as Arrow can split the lines."""
    with closing(LineStream(file)) as stream:
        width = len(stream.read_header())
        for block in stream.blocks():
            with suppress(pa.ArrowInvalid):
                types = {position: pa.string()}
                table = split_lines(block.data, width, types, stream.separator, lambda _: None, quoted=True)
                yield table[0].combine_chunks()


def split_lines(
    data: bytes,
    width: int,
    types: Mapping[int, pa.DataType],
    separator: bytes,
    on_malformed: Callable[[int], object],
    *,
    quoted: bool = False,
    decimal_point: str = ".",
) -> pa.Table:
    """Split whole lines of `width` fields by Arrow into columns of one chunk, named by position; an empty field is null.

    `types` are those of the columns to return, by position. `on_malformed` is called with the number, from 0, of a line with
    another number of fields, which is left out.

    Raises:
        pa.ArrowInvalid: a value is not of its column's type; or a line is malformed and the data are not ASCII, as Arrow reports
            only lines in UTF-8.
    """

    def skip(row: pa_csv.InvalidRow) -> str:
        on_malformed(row.number - 1)
        return "skip"

    names = [str(i) for i in types]
    return pa_csv.read_csv(
        pa.py_buffer(data),
        pa_csv.ReadOptions(use_threads=False, block_size=len(data) + 1, column_names=[str(i) for i in range(width)]),
        pa_csv.ParseOptions(
            delimiter=separator.decode(),
            quote_char='"' if quoted else False,
            invalid_row_handler=skip if data.isascii() else None,
        ),
        pa_csv.ConvertOptions(
            column_types=dict(zip(names, types.values(), strict=True)),
            include_columns=names,
            null_values=[""],
            strings_can_be_null=True,
            check_utf8=False,
            decimal_point=decimal_point,
        ),
    ).combine_chunks()


def _published_order(file: SourceFile, rows: Sequence[list[bytes]], options: ReadOptions) -> Sequence[str]:
    """Return the names of the columns of a file without a header: the one published order that its values fit."""
    # the latest of several eras with one order
    orders = {
        (era.kind, *(canonical_name(name, KINDS[era.kind]) for name in era.header)): era
        for era in ERAS
        if _fits(file, era, rows, options)
    }
    fitting = [*orders.values()]
    ours = [era for era in fitting if era.kind == file.kind.name]
    if len(ours) == 1:
        return ours[0].header
    if len(ours) > 1:
        months = " and ".join(f"{era.first} ({era.publication})" for era in ours)
        raise file.error(f"has no header, and its values fit the columns of {months}; add the header line")
    if fitting:
        raise file.error(of_another_kind(file.kind, [*{KINDS[era.kind]: None for era in fitting}], "values"))
    raise file.error("has no header, and its values fit no order of columns that was published; add the header line")


def _fits(file: SourceFile, era: Era, rows: Sequence[list[bytes]], options: ReadOptions) -> bool:
    """Return whether nearly all rows are readable with the columns of an era."""
    kind, header = KINDS[era.kind], era.header
    source = SourceFile(file.path, kind, file.month)
    try:
        columns = match_columns(source, header, "csv", options)
    except PermanentError:
        return False
    widths = {len(header), len(header) + era.surplus_fields}
    whole = [row for row in rows if len(row) in widths and not b"".join(row[len(header) :]).strip()]
    if len(whole) < _FITTING * len(rows):
        return False
    notation, _ = _notation(source, columns, whole, options)
    known = {
        name: (header[i], pa.array([row[i] or None for row in whole], pa.binary())) for name, i in columns.known.items()
    }
    read = raw_rows(kind.raw_schema, ParsedRows(known, {}, np.arange(len(whole)), lambda _: ""), notation=notation)
    pickups = read.column(kind.pickup)
    return len(pickups) - pickups.null_count >= _FITTING * len(rows)
