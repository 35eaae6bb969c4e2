"""How a database table may differ from the month that is loaded into it: by nullable columns on either side.

Sinks describe columns in their own type names; what is compared here is names and types, nothing of any one database.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from taxi_assets.core.errors import PermanentError
from taxi_assets.datasets.schema import NEW_COLUMN_TYPES, Column, TaxiKind
from taxi_assets.lake.month_file import BATCH_ROWS
from taxi_assets.sinks.contract import Trips

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Difference:
    """What a table and a month do not have in common.

    `added`: the month's columns that the table gets. `surplus`: the table's columns that are null in the month. `converted`:
    Arrow types, by name, of the table's columns that a new column of the month is converted to.
    """

    added: Sequence[str]
    surplus: Sequence[str]
    converted: Mapping[str, str]


def compare(
    kind: TaxiKind,
    columns: Sequence[Column],
    existing: Mapping[str, str],
    sql_types: Mapping[str, str],
    *,
    table: str,
    remedy: str,
    not_null: Collection[str] = (),
    convert: bool = True,
) -> Difference:
    """Compare a month's columns with those of `table`.

    Args:
        kind: whose trips they are; its own columns must have exactly their types.
        columns: the month's columns.
        existing: name and type of the table's columns, the type as `sql_types` spells it.
        sql_types: the database's name of each Arrow type.
        table: the table, for errors.
        remedy: what to do about a column that does not fit, for errors.
        not_null: the table's columns that may not be null.
        convert: whether a new column may be converted: 64-bit integers to double, anything to text.

    Raises:
        PermanentError: a column of the table may not be null and the month does not have it, or a type does not fit.
    """
    wanted = {column.name: column.type for column in columns}
    known = {column.name for column in kind.columns}
    surplus = [name for name in existing if name not in wanted]
    if missing := [name for name in surplus if name in not_null]:
        raise PermanentError(f"{table} has column {missing[0]}, which may not be null and trips do not have: {remedy}")
    converted: dict[str, str] = {}
    for name, type_ in existing.items():
        if name not in wanted or type_ == sql_types[wanted[name]]:
            continue
        to_double = wanted[name] == "int64" and type_ == sql_types["double"]
        if name not in known and convert and (to_double or type_ == sql_types["string"]):
            converted[name] = "double" if to_double else "string"
            continue
        or_keep = "" if name in known else " (or set TAXI_NEW_COLUMNS=keep and materialize clean_trips again)"
        raise PermanentError(
            f"{table} has column {name} as {type_}, trips have it as {sql_types[wanted[name]]}: {remedy}{or_keep}"
        )
    return Difference([name for name in wanted if name not in existing], surplus, converted)


def converted_batches(trips: Trips, converted: Mapping[str, str], rows: int = BATCH_ROWS) -> Iterator[pa.RecordBatch]:
    """Stream the month with some columns converted to other Arrow types.

    Raises:
        PermanentError: a value would change.
    """
    import pyarrow as pa

    for batch in trips.batches(rows=rows):
        for name, type_ in converted.items():
            index = batch.schema.get_field_index(name)
            try:
                values = batch.column(index).cast(pa.type_for_alias(type_))
            except pa.ArrowInvalid as error:
                raise PermanentError(
                    f"{trips.month}: column {name} cannot be converted to {type_} as the table has it ({error}); set "
                    "TAXI_NEW_COLUMNS=keep and materialize clean_trips again."
                ) from None
            batch = batch.set_column(index, pa.field(name, values.type), values)
        yield batch


def surplus_schema(kind: TaxiKind, existing: Mapping[str, str], sql_types: Mapping[str, str]) -> pa.Schema:
    """What a month of a table is read as: the kind's columns, then those that the table has more and a type is known for."""
    import pyarrow as pa

    arrow = {sql: name for name, sql in reversed(list(sql_types.items()))}
    more = {n: arrow[t] for n, t in existing.items() if n not in kind.schema.names and t in arrow}
    return pa.schema([*kind.schema, *(pa.field(name, pa.type_for_alias(type_)) for name, type_ in more.items())])


def require_canonical(kind: TaxiKind, trips: Trips) -> None:
    """Refuse a month that lacks a column of the kind, or has one more of a type that no sink has, whatever their order.

    Raises:
        PermanentError: the first such column, by name.
    """
    given = {field.name: str(field.type) for field in trips.schema}
    wanted = {column.name: column.type for column in kind.columns}
    for name in [*wanted, *given]:
        if given.get(name) != wanted.get(name) and (name in wanted or given[name] not in NEW_COLUMN_TYPES):
            raise PermanentError(
                f"{trips.month}: column {name} of the {kind.name} trips is {given.get(name, 'missing')}, the warehouse "
                f"expects {wanted.get(name, 'no such column')}: materialize clean_trips and gcs_parquet again."
            )
