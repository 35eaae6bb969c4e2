"""A month as a warehouse holds it: the handle that both warehouse sinks return to readers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from taxi_assets.core.month import Month
from taxi_assets.lake.month_file import BATCH_ROWS, Facts

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class WarehouseMonth:
    """A month of a table. Every reading of it sees one moment, whole; two readings may see two.

    `stream` takes column names and yields record batches of any size and of types that cast to `schema`; `size` asks
    for bytes.
    """

    month: Month
    facts: Facts
    schema: pa.Schema
    stream: Callable[[list[str]], Iterator[pa.RecordBatch]]
    size: Callable[[], int]

    @property
    def rows(self) -> int:
        """Number of rows when the handle was made."""
        return self.facts.rows

    @property
    def bytes(self) -> int:
        """Size in bytes as the warehouse counts them."""
        return self.size()

    def batches(self, columns: list[str] | None = None, rows: int = BATCH_ROWS) -> Iterator[pa.RecordBatch]:
        """Stream the month in record batches of at most `rows` rows."""
        import pyarrow as pa

        names = columns if columns is not None else self.schema.names
        schema = pa.schema([self.schema.field(name) for name in names])
        for batch in self.stream(names):
            for start in range(0, batch.num_rows, rows):
                yield batch.slice(start, rows).select(names).cast(schema)

    def to_arrow(self) -> pa.Table:
        """Read the whole month; for people and small months."""
        import pyarrow as pa

        return pa.Table.from_batches(self.batches(), self.schema)
