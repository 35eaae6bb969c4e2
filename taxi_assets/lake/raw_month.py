"""Reads a raw month that any version of the package wrote.

A raw month keeps a then unknown column under its published name and type. If this version knows the column, or if new
columns are added to the sinks (TAXI_NEW_COLUMNS=add), its values are read from there, without another download.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from taxi_assets.core.month_file import MonthFile
from taxi_assets.datasets.schema import REJECT_COLUMNS, TaxiKind
from taxi_assets.datasets.zones import ZONE_ID_COLUMNS
from taxi_assets.publisher.columns import canonical_name, new_columns_of, to_load
from taxi_assets.publisher.conform import conform, decimal_to_double
from taxi_assets.publisher.options import NewColumns
from taxi_assets.publisher.rows import batch_of, published_value, value_detail
from taxi_assets.sinks.types import kept_type

_POSTGRES_SYSTEM_COLUMNS = ("ctid", "xmin", "xmax", "cmin", "cmax", "tableoid")
_NAME_CHARACTERS = 60
"""Postgres cuts names after 63."""


@dataclass(frozen=True)
class LoadedColumns:
    """New columns of a raw month: `known` has their names there by canonical name, `added` by name in the sinks, and the type."""

    known: Mapping[str, str]
    added: Mapping[str, tuple[str, pa.DataType]]

    def names(self) -> dict[str, str]:
        """Names in the sinks by published names in the raw month, for metadata."""
        return {raw: name for name, raw in self.known.items()} | {raw: name for name, (raw, _) in self.added.items()}


def loaded_columns(kind: TaxiKind, manifest: Mapping[str, Any], schema: pa.Schema, policy: NewColumns) -> LoadedColumns:
    """Decide from the columns in the raw month's manifest."""
    new = new_columns_of(kind, manifest)
    known: dict[str, str] = {}
    added: dict[str, tuple[str, pa.DataType]] = {}
    taken = {
        *kind.raw_schema.names,
        *(column.name for column in ZONE_ID_COLUMNS),
        *_POSTGRES_SYSTEM_COLUMNS,
        kind.pickup_date,
    }
    for raw_name in to_load(kind, new, policy):
        published = new[raw_name]["published"]
        if (name := canonical_name(published, kind)) in kind.schema.names:
            known.setdefault(name, raw_name)
        else:
            name = sink_name(published, taken)
            taken.add(name)
            added[name] = (raw_name, sink_type(schema.field(raw_name).type))
    return LoadedColumns(known, added)


def sink_name(published: str, taken: Collection[str]) -> str:
    """A name for a new column that every sink accepts: lower-case letters, digits and underscores."""
    name = re.sub(r"[^a-z0-9]+", "_", published.strip().lower()).strip("_") or "column"
    name = f"column_{name}" if name[0].isdigit() else name
    unique, number = name[:_NAME_CHARACTERS], 1
    while unique in taken:
        number += 1
        unique = f"{name[: _NAME_CHARACTERS - 4]}_{number}"
    return unique


def sink_type(published: pa.DataType) -> pa.DataType:
    """The type of a new column in the sinks. What no type fits is text."""
    if pt.is_integer(published) and published != pa.uint64():
        return pa.int64()
    if pt.is_decimal(published) and published.precision <= 15:
        return pa.float64()
    kept = None if published == pa.uint64() else kept_type(published)
    return pa.string() if kept is None else kept


def batches(kind: TaxiKind, raw: MonthFile, loaded: LoadedColumns) -> Iterator[pa.RecordBatch]:
    """Stream the month in the kind's raw schema and then the added columns.

    A value of a column that became known may not fit it: its row is then unreadable, with a reason.
    """
    schema = pa.schema([*kind.raw_schema, *(pa.field(name, type_) for name, (_, type_) in loaded.added.items())])
    names = [n for n in schema.names if n in raw.schema.names and n not in loaded.known and n not in loaded.added]
    for batch in raw.batches([*names, *loaded.known.values(), *(raw_name for raw_name, _ in loaded.added.values())]):
        columns = {name: batch.column(name) for name in names}
        for name, (raw_name, type_) in loaded.added.items():
            columns[name] = sink_values(batch.column(raw_name), type_)
        for name, raw_name in loaded.known.items():
            columns[name], bad = conform(name, schema.field(name).type, batch.column(raw_name))
            if bad is not None:
                _reject(columns, bad, raw_name, batch.column(raw_name))
        yield batch_of(schema, columns, batch.num_rows)


def _reject(columns: dict[str, pa.Array], bad: pa.Array, published: str, values: pa.Array) -> None:
    reason, detail, *_ = (column.name for column in REJECT_COLUMNS)
    bad = pc.and_(bad, pc.is_null(columns[reason]))
    details = [
        value_detail(published, published_value(values, row)) if is_bad else None
        for row, is_bad in enumerate(bad.to_pylist())
    ]
    columns[reason] = pc.if_else(bad, "unreadable_value", columns[reason])
    columns[detail] = pc.if_else(bad, pa.array(details, pa.string()), columns[detail])


def sink_values(values: pa.Array, type_: pa.DataType) -> pa.Array:
    """A new column's values as the sinks have them; NaN is no value."""
    if pt.is_string(type_) and not (pt.is_string(values.type) or pt.is_large_string(values.type)):
        texts = (
            published_value(values, row) if valid else None for row, valid in enumerate(values.is_valid().to_pylist())
        )
        return pa.array([_text(value) for value in texts], pa.string())
    if pt.is_floating(type_):
        values = decimal_to_double(values) if pt.is_decimal(values.type) else values.cast(type_)
        return pc.if_else(pc.is_nan(values), None, values)
    return values.cast(type_, safe=not pt.is_timestamp(type_))  # nanoseconds are cut


def _text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, default=str) if isinstance(value, (dict, list)) else str(value)
