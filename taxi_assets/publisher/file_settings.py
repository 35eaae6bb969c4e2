"""The settings about files that other tools wrote: what a file does not show by itself."""

from __future__ import annotations

from pydantic import BaseModel, Field, field_validator

from taxi_assets.datasets.eras import normalized
from taxi_assets.datasets.schema import KINDS
from taxi_assets.publisher.columns import canonical_name
from taxi_assets.publisher.options import DateOrder, NewColumns, ReadOptions, ZonedTimes


class FileSettings(BaseModel):
    """One field per variable: `date_order` is TAXI_DATE_ORDER."""

    new_columns: NewColumns = Field(
        "keep",
        description="What to do with a published column that this version does not know: `keep` its values in the raw month "
        "only, `add` it to every sink as well, or `refuse` the month.",
    )
    column_aliases: str = Field(
        "", description="Columns that a file has under other names: `their_name=tpep_pickup_datetime,...`."
    )
    ignored_columns: str = Field(
        "", description="Columns of a file that are not read, separated by commas; `*` stands for any characters."
    )
    date_order: DateOrder | None = Field(
        None,
        description="Whether the month or the day is first in dates like 05/06/2019; unset: as a day above 12 shows.",
    )
    zoned_times: ZonedTimes | None = Field(
        None,
        description="What times with a zone are, 2019-06-05T00:55:13Z: New York's `wall_clock`, or instants to `convert` to it; "
        "unset: such files are refused.",
    )
    decimal_comma: bool = Field(False, description="Whether a file's numbers may be written 1,5.")

    @field_validator("column_aliases")
    @classmethod
    def _names_known_columns(cls, value: str) -> str:
        for name, column in _pairs(value):
            if not name or not column:
                raise ValueError("must be a list of their_name=our_name, separated by commas")
            if not any(canonical_name(column, kind) in kind.schema.names for kind in KINDS.values()):
                raise ValueError(f"names a column that no dataset has, {column.strip()!r}; docs/data.md lists them")
        return value

    @property
    def read_options(self) -> ReadOptions:
        """The settings as the readers take them."""
        return ReadOptions(
            self.new_columns,
            {normalized(name): normalized(column) for name, column in _pairs(self.column_aliases)},
            tuple(normalized(name) for name in self.ignored_columns.split(",") if name.strip()),
            self.date_order,
            self.zoned_times,
            self.decimal_comma,
        )


def _pairs(text: str) -> list[tuple[str, str]]:
    """Return the names on both sides of each `=`; empty where there is none."""
    return [(name, column) for name, _, column in (pair.partition("=") for pair in text.split(",") if pair.strip())]
