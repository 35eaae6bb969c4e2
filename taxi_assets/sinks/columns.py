"""Compares a database table with the month to load: they may differ by nullable columns on either side.

Sinks describe columns by their own type names; this module compares names and types only.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from taxi_assets.core.errors import PermanentError
from taxi_assets.core.month_file import BATCH_ROWS, MonthFile
from taxi_assets.core.table import Table
from taxi_assets.sinks.types import KEPT

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
    table: Table,
    loaded: Table,
    existing: Mapping[str, str],
    sql_types: Mapping[str, str],
    *,
    name: str,
    remedy: str,
    not_null: Collection[str] = (),
    convert: bool = True,
) -> Difference:
    """Compare a month's columns with those of an existing table.

    Args:
        table: the table as it is defined; these columns must have exactly their types.
        loaded: the table with the month's new columns.
        existing: name and type of the columns that exist, the type as `sql_types` spells it.
        sql_types: the database's name of each Arrow type.
        name: the table's name, for errors.
        remedy: what to do about a column that does not fit, for errors.
        not_null: the existing columns that need a value.
        convert: whether a new column may be converted: 64-bit integers to double, anything to text.

    Raises:
        PermanentError: an existing column needs a value and the month does not have it, or a type does not fit.
    """
    types = {column.name: column.type for column in loaded.columns}
    surplus = [column for column in existing if column not in types]
    if missing := [column for column in surplus if column in not_null]:
        raise PermanentError(f"{name} has column {missing[0]}, which may not be null and trips do not have: {remedy}.")
    converted: dict[str, str] = {}
    for column, type_ in existing.items():
        if column not in types or type_ == sql_types[types[column]]:
            continue
        to_double = types[column] == "int64" and type_ == sql_types["double"]
        if column not in table.names and convert and (to_double or type_ == sql_types["string"]):
            converted[column] = "double" if to_double else "string"
            continue
        or_keep = "" if column in table.names else ", or set TAXI_NEW_COLUMNS=keep and materialize clean_trips again"
        raise PermanentError(
            f"{name} has column {column} as {type_}, trips have it as {sql_types[types[column]]}: {remedy}{or_keep}."
        )
    return Difference([column for column in types if column not in existing], surplus, converted)


def converted_batches(
    month_file: MonthFile, converted: Mapping[str, str], rows: int = BATCH_ROWS
) -> Iterator[pa.RecordBatch]:
    """Stream the month with some columns converted to other Arrow types.

    Raises:
        PermanentError: a value would change.
    """
    import pyarrow as pa

    for batch in month_file.batches(rows=rows):
        for name, type_ in converted.items():
            index = batch.schema.get_field_index(name)
            try:
                values = batch.column(index).cast(pa.type_for_alias(type_))
            except pa.ArrowInvalid as error:
                raise PermanentError(
                    f"{month_file.month}: column {name} cannot be converted to {type_} as the table has it ({error}); set "
                    "TAXI_NEW_COLUMNS=keep and materialize clean_trips again."
                ) from None
            batch = batch.set_column(index, pa.field(name, values.type), values)
        yield batch


def read_schema(table: Table, existing: Mapping[str, str], sql_types: Mapping[str, str]) -> pa.Schema:
    """The schema for reading a month: the table's columns, then further existing columns whose type is known."""
    import pyarrow as pa

    arrow = {sql: name for name, sql in reversed(list(sql_types.items()))}
    more = {column: arrow[type_] for column, type_ in existing.items() if column not in table.names and type_ in arrow}
    return pa.schema([*table.schema, *(pa.field(name, pa.type_for_alias(type_)) for name, type_ in more.items())])


def require_columns(table: Table, month_file: MonthFile, sql_types: Mapping[str, str]) -> Table:
    """The table with the month's new columns, if the month has the table's columns and the database knows its types.

    An optional column may be missing, because the version that wrote the month did not know it: it is null.

    Raises:
        PermanentError: the first required column that is missing, or column of another type, by name.
    """
    given = {field.name: str(field.type) for field in month_file.schema}
    expected = {c.name: c.type for c in table.columns if c.required or c.name in given}
    for name in [*expected, *given]:
        if name in expected and given.get(name) != expected[name]:
            problem = f"is {given.get(name, 'missing')}, {expected[name]} is expected"
        elif given[name] not in sql_types:
            raise PermanentError(
                f"{month_file.month}: column {name} of {table.name} is {given[name]}, which the database does not keep; cast "
                f"it to one of {KEPT}."
            )
        else:
            continue
        raise PermanentError(
            f"{month_file.month}: column {name} of {table.name} {problem}: materialize its upstream again."
        )
    return table.with_columns_of(month_file.schema)
