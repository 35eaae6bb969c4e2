"""`taxi-assets inspect`: what a file of trips is, and what stands in the way of loading it. Nothing is loaded."""

from __future__ import annotations

import re
import shutil
import sys
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from taxi_assets.cli.interrupts import Interrupts
from taxi_assets.core.errors import PermanentError
from taxi_assets.core.month import Month
from taxi_assets.datasets.eras import ERAS, TOOLS, normalized
from taxi_assets.datasets.rules import CleaningRules
from taxi_assets.datasets.schema import KINDS, TaxiKind
from taxi_assets.lake.cleaning import Case, split
from taxi_assets.publisher.columns import MatchedColumns
from taxi_assets.publisher.options import ReadOptions
from taxi_assets.publisher.reader import open_file
from taxi_assets.publisher.rows import OpenedFile
from taxi_assets.publisher.source_file import SourceFile
from taxi_assets.settings import Settings, load_settings

CLEANED_ROWS = 100_000
"""First rows of which the rejects are counted by reason."""
SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "vertical bar"}


def inspect(options: Namespace, _: Interrupts) -> int:
    """Print what a file is; return 1 if something stands in the way of loading it."""
    settings, path = load_settings(), Path(options.file)
    if not path.exists():
        raise PermanentError(f"There is no file {path}; check the path.")
    month = Month.parse(options.month) if options.month else None
    switched_on_first = dict.fromkeys((*settings.taxi_kinds, *KINDS.values()))
    kinds = [KINDS[options.kind]] if options.kind else switched_on_first
    file, opened = _opened(path, kinds, month, settings.read_options)
    print(f"{path}: {file.kind.title} trips ({file.kind.name})")
    _print_format(file, opened)
    _print_columns(file.kind, opened.matched, settings)
    if opened.problems:
        print("\nIt cannot be loaded yet:")
        for problem in opened.problems:
            print(f"- It {problem}.")
        return 1
    rows = _Rows(file.kind, month, settings.cleaning_rules)
    for batch in _with_progress(opened.batches, file):
        rows.add(batch)
    rows.print()
    print(f"\nTo load it: {_how_to_load(file, rows, settings)}")
    return 0


def _opened(
    path: Path, kinds: Iterable[TaxiKind], month: Month | None, options: ReadOptions
) -> tuple[SourceFile, OpenedFile]:
    """Open the file as the first dataset that it can belong to."""
    refusals = []
    for kind in kinds:
        file = SourceFile(path, kind, month or Month(*kind.first_month))
        try:
            return file, open_file(file, options)
        except PermanentError as refusal:
            refusals.append(refusal)
    raise refusals[0]


def _print_format(file: SourceFile, opened: OpenedFile) -> None:
    written, parts = opened.columns["written"], file.parts
    names = {normalized(name) for name in opened.matched.header}
    tools = [tool for tool, signs in TOOLS.items() if any(sign.fullmatch(name) for sign in signs for name in names)]
    layouts = [
        f"as published from {era.first}{f' to {era.last}' if era.last else ''} ({era.publication})"
        for era in ERAS
        if era.kind == file.kind.name and {normalized(name) for name in era.header} == names
    ]
    packed = [
        *(["in a zip archive"] if parts[0].member else []),
        *(["compressed with gzip"] if written["format"] == "CSV" and file.format() == "gzip" else []),
        *([f"{len(parts)} parts"] if file.path.is_dir() else []),
        *([f"by {written['by']}"] if written.get("by") else []),
    ]
    _line("format", ", ".join([written["format"], *packed]))
    _line("size", f"{sum(part.size for part in parts):,} bytes")
    if written["format"] == "CSV":
        header = "with" if written["header"] else "without"
        _line("lines", f"{header} a header, separated by {SEPARATORS[written['separator']]}")
    _line("layout", "; ".join([*layouts, *tools]) or "of no month that was published")
    _line("times", written["times"])
    if written["decimal_comma"]:
        _line("numbers", "with decimal commas")


def _print_columns(kind: TaxiKind, columns: MatchedColumns, settings: Settings) -> None:
    print("  columns")
    canonical = {position: name for name, position in columns.known.items()}
    new = {position: name for name, position in columns.new.items()}
    loaded = {"add": "added to the sinks", "keep": "kept in raw_trips only", "refuse": "refused"}[settings.new_columns]
    for position, name in enumerate(columns.header):
        meaning = canonical.get(position) or (
            f"(not known: {loaded}; TAXI_NEW_COLUMNS)" if position in new else "(ignored)"
        )
        print(f"    {name.strip() or '(no name)':<32} {meaning}")
    if absent := [column.name for column in kind.columns if column.name not in columns.known]:
        _line("absent", ", ".join(absent))


@dataclass
class _Rows:
    """What the rows of a file are: counted batch by batch."""

    kind: TaxiKind
    month: Month | None
    rules: CleaningRules
    rows: int = 0
    unreadable: int = 0
    months: Counter[str] = field(default_factory=Counter)
    pickups: list[Any] = field(default_factory=list)
    first: list[pa.RecordBatch] = field(default_factory=list)

    def add(self, batch: pa.RecordBatch) -> None:
        if self.rows < CLEANED_ROWS:
            self.first.append(batch.slice(0, CLEANED_ROWS - self.rows))
        self.rows += batch.num_rows
        self.unreadable += batch.num_rows - batch.column("reject_reason").null_count
        pickups = batch.column(self.kind.pickup).drop_null()
        for pair in pc.value_counts(pc.strftime(pickups, "%Y-%m")).to_pylist():
            self.months[pair["values"]] += pair["counts"]
        if len(pickups):
            self.pickups += [pc.min(pickups).as_py(), pc.max(pickups).as_py()]

    @property
    def most(self) -> Month | None:
        """The month of most trips."""
        return Month.parse(self.months.most_common(1)[0][0]) if self.months else None

    def print(self) -> None:
        _line("rows", f"{self.rows:,}, {self.unreadable:,} of them unreadable")
        if not (month := self.month or self.most):
            return
        share = 100 * self.months[str(month)] / self.months.total()
        _line("pickups", f"{min(self.pickups)} to {max(self.pickups)}; {share:.1f} % in {month}")
        reasons, count = Counter[str](), 0
        for batch in self.first:
            count += batch.num_rows
            reasons.update(split(Case(batch, self.kind, month, self.rules))[1]["reject_reason"].to_pylist())
        _line("rejects", f"{reasons.total():,} of the first {count:,} rows, as a file of {month}")
        for reason, rejected in reasons.most_common():
            print(f"    {reason:<32} {rejected:,}")
        if share < 90:
            print(
                f"  It has trips of {len(self.months)} months, and a run loads those of one; split it into a file a month."
            )


def _with_progress(batches: Iterator[pa.RecordBatch], file: SourceFile) -> Iterator[pa.RecordBatch]:
    """Pass batches on; a terminal shows once a second how many rows were read."""
    rows, shown = 0, time.monotonic()
    for batch in batches:
        rows += batch.num_rows
        if sys.stderr.isatty() and time.monotonic() - shown > 1:
            shown = time.monotonic()
            line = f"{file.path.name}: {rows:,} rows read"
            print(f"\r{line[: shutil.get_terminal_size().columns - 1]}", end="", file=sys.stderr, flush=True)
        yield batch
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _how_to_load(file: SourceFile, rows: _Rows, settings: Settings) -> str:
    """Return the command that loads the file's month, with a template for those like it."""
    month = rows.month or rows.most
    if not month:
        return "it has no readable pickup time, so it belongs to no month"
    path = str(file.path.resolve())
    template = path.replace(str(month), "{month}")
    if template == path:
        template = re.sub(rf"(?<!\d){month.year:04}(?!\d)", "{year}", path)
        template = re.sub(rf"(?<!\d){month.month:02}(?!\d)", "{month_number}", template)
        if "{year}" not in template or "{month_number}" not in template:
            return f"name it so that its path contains {month}, and set TAXI_SOURCE to that path with {{month}} in its place"
    kinds = "" if file.kind in settings.taxi_kinds else f"TAXI_KINDS={settings.kinds},{file.kind.name} "
    return f"{kinds}TAXI_SOURCE='{template}' taxi-assets run {month} --kind {file.kind.name}"


def _line(name: str, text: str) -> None:
    print(f"  {name:<9} {text}")
