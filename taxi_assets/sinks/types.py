"""The Arrow types that databases keep, and how tables of other types become them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from taxi_assets.core.errors import PermanentError
from taxi_assets.core.month import Month

if TYPE_CHECKING:
    import pyarrow as pa

KEPT = "bool, int16, int64, double, string, date32 and timestamp[us] without a zone"


def conformed(rows: pa.Table, month: Month, name: str) -> pa.Table:
    """Return the rows in types that databases keep, without losing anything. `name` is the table's, for errors.

    Raises:
        PermanentError: a column has another type, or a value that does not fit.
    """
    import pyarrow as pa

    for index, field in enumerate(rows.schema):
        type_ = kept_type(field.type)
        what = f"{month}: column {field.name} of {name} is {field.type}"
        if type_ is None:
            raise PermanentError(f"{what}, which databases do not keep; cast it to one of {KEPT}.")
        if type_ != field.type:
            try:
                values = rows.column(index).cast(type_)
            except pa.ArrowInvalid as error:
                raise PermanentError(
                    f"{what}, and a value would change as {type_} ({error}); cast it yourself."
                ) from None
            rows = rows.set_column(index, field.with_type(type_), values)
    return rows


def kept_type(type_: pa.DataType) -> pa.DataType | None:
    """Return the type as which a column is kept; None if there is none."""
    import pyarrow as pa
    import pyarrow.types as pt

    if pt.is_dictionary(type_):
        return kept_type(type_.value_type)
    if pt.is_boolean(type_):
        return pa.bool_()
    if pt.is_integer(type_):
        return pa.int16() if type_ in (pa.int8(), pa.uint8(), pa.int16()) else pa.int64()
    if pt.is_floating(type_):
        return pa.float64()
    if pt.is_date(type_):
        return pa.date32()
    if pt.is_timestamp(type_) and type_.tz is None:
        return pa.timestamp("us")
    if pt.is_string(type_) or pt.is_large_string(type_) or pt.is_string_view(type_) or pt.is_null(type_):
        return pa.string()
    return None
