"""The handle that assets pass to each other and that a sink reads back: an immutable Parquet file of one month.

Memory is bounded by a batch whatever the month's size. How files are written is in `staging`. The definitions know handles,
so what reads one imports Arrow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from taxi_assets.core.errors import PermanentError
from taxi_assets.core.manifest import Manifest
from taxi_assets.core.month import Month

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

BATCH_ROWS = 65_536


class MonthFile:
    """An immutable Parquet file of one month.

    Args:
        path: the file, or a function that fetches it; the function is called once, when the rows are first read.
        month: the month.
        manifest: what is known of the month without the file; by default what its writer recorded in its footer.
        staged: whether it is a staged file that whoever publishes it may move away.
        uri: the address of the object that it is a copy of, and `generation` the object's generation.
        bytes: the size in bytes, where it is known without the file.
        footer: reads the file's footer without fetching the file.
        schema: what the rows are read as, where the file was written by another program.
    """

    def __init__(
        self,
        path: Path | Callable[[], Path],
        month: Month,
        *,
        manifest: Manifest | None = None,
        staged: bool = False,
        uri: str = "",
        generation: int = 0,
        bytes: int | None = None,
        footer: Callable[[], pq.FileMetaData] | None = None,
        schema: pa.Schema | None = None,
    ) -> None:
        self._path, self.month, self.staged, self.uri, self.generation = path, month, staged, uri, generation
        self._manifest, self._bytes, self._remote_footer, self._schema = manifest, bytes, footer, schema
        self.companion: MonthFile | None = None
        """A staged file of the same month that the lake publishes together with this one: the rejected rows of clean trips."""

    def __repr__(self) -> str:
        return f"MonthFile({self.month}, {self.uri or self._path})"

    @cached_property
    def path(self) -> Path:
        """The file."""
        return self._path if isinstance(self._path, Path) else self._path()

    @cached_property
    def _footer(self) -> pq.FileMetaData:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if self._remote_footer and "path" not in self.__dict__:
            return self._remote_footer()
        try:
            return pq.read_metadata(self.path)
        except FileNotFoundError:
            raise PermanentError(
                f"{self.month}: {self.path} does not exist any more; materialize the asset that wrote it again."
            ) from None
        except pa.ArrowInvalid as error:
            raise PermanentError(
                f"{self.month}: {self.uri or self.path} is not a readable Parquet file ({error}); materialize it again."
            ) from None

    @cached_property
    def schema(self) -> pa.Schema:
        """The Arrow schema, without metadata."""
        return self._schema if self._schema is not None else self._footer.schema.to_arrow_schema().remove_metadata()

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self._manifest.rows if self._manifest else self._footer.num_rows

    @property
    def bytes(self) -> int:
        """Size in bytes."""
        return self._bytes if self._bytes is not None else self.path.stat().st_size

    @cached_property
    def manifest(self) -> Manifest:
        """What is recorded of the month.

        Raises:
            PermanentError: the file was not written by this package.
        """
        if self._manifest:
            return self._manifest
        recorded = Manifest.from_footer(self._footer)
        if recorded is None:
            raise PermanentError(
                f"{self.month}: {self.uri or self.path} was not written by taxi_assets: its footer has no manifest; "
                "materialize the asset again."
            )
        return recorded

    def batches(self, columns: list[str] | None = None, rows: int = BATCH_ROWS) -> Iterator[pa.RecordBatch]:
        """Stream the month in record batches of at most `rows` rows."""
        import pyarrow.parquet as pq

        with pq.ParquetFile(self.path, buffer_size=1 << 20, pre_buffer=False) as file:
            for batch in file.iter_batches(batch_size=rows, columns=columns):
                yield batch if self._schema is None else batch.cast(_part(self._schema, batch.schema.names))

    def to_arrow(self) -> pa.Table:
        """Read the whole month; for people and small months."""
        import pyarrow.parquet as pq

        with pq.ParquetFile(self.path) as file:  # `read_table` opens it twice, and it may be replaced in between
            table = file.read().replace_schema_metadata(None)
        return table if self._schema is None else table.cast(self._schema)

    def to_pandas(self) -> pd.DataFrame:
        """Read the whole month as a frame, its whole numbers in pandas' nullable types; for people and small months."""
        return frame_of(self.to_arrow())

    def moved(self, path: Path) -> None:
        """Take note that the staged file was published as `path`."""
        self._path, self.staged = path, False
        self.__dict__.pop("path", None)

    def discard(self) -> None:
        """Remove a staged file; a file that is kept elsewhere stays."""
        if self.staged:
            self.path.unlink(missing_ok=True)


def frame_of(table: pa.Table) -> pd.DataFrame:
    """Return a frame with whole numbers in pandas' nullable types: else a column with nulls would be floating point."""
    import pandas as pd

    whole = {"int8": pd.Int8Dtype(), "int16": pd.Int16Dtype(), "int32": pd.Int32Dtype(), "int64": pd.Int64Dtype()}
    return table.to_pandas(types_mapper=lambda type_: whole.get(str(type_)))


def _part(schema: pa.Schema, names: list[str]) -> pa.Schema:
    import pyarrow as pa

    return pa.schema([schema.field(name) for name in names])
