"""Warnings about a published file: columns and codes that this version does not expect. They do not block."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from taxi_assets.assets.month_check import CAUSES, MonthCheck, Problems
from taxi_assets.core.manifest import Manifest
from taxi_assets.core.month import Month
from taxi_assets.core.month_file import MonthFile
from taxi_assets.datasets.encodings import KNOWN_CODES
from taxi_assets.datasets.schema import TaxiKind
from taxi_assets.publisher.columns import new_columns_of, recorded_columns
from taxi_assets.publisher.options import NewColumns
from taxi_assets.settings import Settings

if TYPE_CHECKING:
    import pyarrow as pa

MOST_FREQUENT = 3
DISTINCT = 1000
"""Distinct values of a new column that are counted; of a column with more, the first ones."""
LISTED = 10


def raw_warnings(kind: TaxiKind, settings: Settings) -> Iterable[MonthCheck]:
    """The warning checks of `raw_trips`."""
    yield MonthCheck(
        "raw_columns_are_expected",
        "Warns when the published file has a column that is not known, lacks an optional one, or has one of another type than "
        "before. The month is loaded; the description says what to do.",
        lambda month, io: unexpected_columns(
            kind, month, io.raw_lake.read(kind.raw_table, month), settings.new_columns
        ),
        warn=True,
    )
    yield MonthCheck(
        "raw_columns_are_those_of_the_month_before",
        "Warns when the published file has other columns than that of the month before, if that is in the lake: renamed, added "
        "or dropped ones. Which of them are loaded is what raw_columns_are_expected is about.",
        lambda month, io: changed_columns(
            month, *(io.raw_lake.manifest(kind.raw_table, each) for each in (month, month.previous))
        ),
        warn=True,
    )
    yield MonthCheck(
        "raw_codes_are_known",
        "Warns when a column of codes has one that no data dictionary lists. The rows are loaded as they are.",
        lambda month, io: unknown_codes(kind, month, io.raw_lake.read(kind.raw_table, month)),
        warn=True,
    )


def unexpected_columns(kind: TaxiKind, month: Month, raw: MonthFile, policy: NewColumns) -> Problems:
    """A message for each column that is new, missing, or of another type, by the raw month's manifest."""
    columns = recorded_columns(raw.manifest.extra)
    what, new = f"{month}: the {kind.name} file", new_columns_of(kind, raw.manifest.extra)
    remedy = {
        "add": "It is added to every sink.",
        "keep": "To have it in every sink, set TAXI_NEW_COLUMNS=add and materialize clean_trips and what follows.",
        "refuse": "",
    }[policy]
    causes: dict[str, str] = {}
    for name, column in columns["new"].items():
        published = column["published"]
        nulls, values = _values(raw, name)
        shown = f"{published!r} ({column['type']}, {values})"
        if name in new:
            sentence = f"{what} has a column that is not known, {shown}. It is kept in raw_trips. {remedy}"
            causes[f"new column {published.strip()}"] = sentence
        elif nulls < raw.rows:  # that of FHV in 2018 is empty
            sentence = (
                f"{what} has a second column of the name {shown}. It is kept in raw_trips as {name!r} and not loaded."
            )
            causes[f"second column {published.strip()}"] = sentence
    for name in columns["missing"]:
        causes[f"missing column {name}"] = (
            f"{what} has no column for {name} any more; it is null in this month. If the publisher renamed it, add the new "
            "name to ALIASES in taxi_assets.datasets.eras."
        )
    for name, (expected, found) in columns["changed_types"].items():
        causes[f"changed type of {name.strip()}"] = (
            f"{what} has {name!r} as {found}, {expected} is expected. Values are converted; a row whose value cannot be is "
            "rejected as unreadable_value."
        )
    shown = {name: dict(value) for name in ("new", "changed_types") if (value := columns[name])}
    return list(causes.values()), {CAUSES: causes, **shown, "missing": ", ".join(columns["missing"]) or "none"}


def changed_columns(month: Month, raw: Manifest | None, before: Manifest | None) -> Problems:
    """A message if the header of the month's file differs from that of the month before, by the names as published."""
    header, earlier = (set(recorded_columns(each.extra)["header"] if each else ()) for each in (raw, before))
    if not header or not earlier:
        return [], {"compared_with": "nothing: the lake has no month before, or an older version loaded it"}
    added, dropped = sorted(header - earlier), sorted(earlier - header)
    shown = {"compared_with": str(month.previous), "added": ", ".join(added), "dropped": ", ".join(dropped)}
    if not added and not dropped:
        return [], shown
    changes = [
        f"{', '.join(map(repr, names))} {what}" for names, what in ((added, "added"), (dropped, "dropped")) if names
    ]
    sentence = f"{month}: the published columns changed since {month.previous}: {'; '.join(changes)}."
    return [sentence], {CAUSES: {f"columns of {month}": sentence}, **shown}


def _values(raw: MonthFile, name: str) -> tuple[int, str]:
    """Nulls of a column; and their share and the most frequent values: `61 % null, most frequent: '30-39' (500)`."""
    nulls, counts, counted_all = 0, Counter(), True
    for batch in raw.batches([name]):
        column = batch.column(0)
        nulls += column.null_count
        for value, count in _counts(column):
            if value in counts or len(counts) < DISTINCT:
                counts[value] += count
            else:
                counted_all = False
    share = f"{100 * nulls / raw.rows:.0f} % null" if raw.rows else "no rows"
    if not counts:
        return nulls, share
    top = ", ".join(f"{value} ({count:,})" for value, count in counts.most_common(MOST_FREQUENT))
    return nulls, f"{share}, most frequent: {top}{'' if counted_all else ' among the first values'}"


def _counts(column: pa.Array) -> Iterable[tuple[str, int]]:
    """The column's values except nulls, formatted for display, and their counts."""
    import pyarrow as pa
    import pyarrow.compute as pc

    valid = column.drop_null()
    try:
        pairs = [(pair["values"], pair["counts"]) for pair in pc.value_counts(valid).to_pylist()]
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):  # lists, structs
        pairs = [(value, 1) for value in valid.to_pylist()]
    return [(text if len(text := repr(value)) <= 40 else text[:40] + "…", count) for value, count in pairs]


def unknown_codes(kind: TaxiKind, month: Month, raw: MonthFile) -> Problems:
    """A sentence for each column with codes that are in no dictionary, with their counts."""
    import pyarrow.compute as pc

    columns = [name for name in raw.schema.names if name in KNOWN_CODES and name in kind.schema.names]
    found: dict[str, Counter[Any]] = {name: Counter() for name in columns}
    for batch in raw.batches(columns):
        for name in columns:
            for pair in pc.value_counts(batch.column(name)).to_pylist():
                if pair["values"] is not None and pair["values"] not in KNOWN_CODES[name]:
                    found[name][pair["values"]] += pair["counts"]
    unknown: Mapping[str, Counter[Any]] = {name: counts for name, counts in found.items() if counts}
    causes = {
        f"unknown {name} {code}": f"{month}: {name} has {code!r}, which no data dictionary lists, in {count:,} rows."
        for name, counts in unknown.items()
        for code, count in counts.most_common(LISTED)
    }
    sentences = [
        f"{month}: {name} has codes that no data dictionary lists: {_listed(counts)}. They are loaded as they are."
        for name, counts in unknown.items()
    ]
    listed = {name: {str(code): count for code, count in counts.most_common(100)} for name, counts in unknown.items()}
    return sentences, {CAUSES: causes, **listed}


def _listed(counts: Counter[Any]) -> str:
    listed = ", ".join(f"{code!r} ({count:,} rows)" for code, count in counts.most_common(LISTED))
    return f"{listed} and {len(counts) - LISTED} more" if len(counts) > LISTED else listed
