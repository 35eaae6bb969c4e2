"""How a warehouse table may change: by new nullable columns, and in no other way.

Sinks describe columns in their own type names; what is compared here is names and types, nothing of any one database.
"""

from __future__ import annotations

from collections.abc import Mapping

from taxi_assets.errors import PermanentError
from taxi_assets.io_managers.base import Trips
from taxi_assets.trips.schema import TaxiKind

_REMEDY = "change the table's column yourself, or name another dataset in TAXI_DATASET, then materialise again."


def new_columns(wanted: Mapping[str, str], existing: Mapping[str, str], table: str) -> list[str]:
    """The columns to add so that `table` (columns `existing`, name to type) holds `wanted`.

    Raises:
        PermanentError: a column was removed or has another type; the sentence names it.
    """
    if surplus := [name for name in existing if name not in wanted]:
        raise PermanentError(f"{table} has column {surplus[0]}, which trips do not have: {_REMEDY}")
    for name, type_ in existing.items():
        if type_ != wanted[name]:
            raise PermanentError(f"{table} has column {name} as {type_}, trips have it as {wanted[name]}: {_REMEDY}")
    return [name for name in wanted if name not in existing]


def require_canonical(kind: TaxiKind, trips: Trips) -> None:
    """Refuse a month whose columns are not exactly the kind's, whatever their order.

    Raises:
        PermanentError: the first column that is missing, unknown or of another type, by name.
    """
    given = {field.name: str(field.type) for field in trips.schema}
    wanted = {column.name: column.type for column in kind.columns}
    for name in [*wanted, *given]:
        if given.get(name) != wanted.get(name):
            raise PermanentError(
                f"{trips.month}: column {name} of the {kind.name} trips is {given.get(name, 'missing')}, the warehouse "
                f"expects {wanted.get(name, 'no such column')}: materialise clean_trips and gcs_parquet again."
            )
