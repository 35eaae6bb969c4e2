"""Dimensions in the lake: one Parquet file each, replaced by rename."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from taxi_assets.core.dimension import Dimension
from taxi_assets.core.folders import flush, replacing
from taxi_assets.core.manifest import FOOTER_KEY, Manifest
from taxi_assets.core.table import Table
from taxi_assets.sinks.contract import WriteContext
from taxi_assets.sinks.dimensions import DimensionPlace


@dataclass(frozen=True)
class LakeDimensions(DimensionPlace):
    """Keeps a dimension as `folder/<table>.parquet`, with its manifest in the footer."""

    folder: Path

    def where(self, table: Table) -> str:
        """The file."""
        return str(self._path(table))

    def replace(self, table: Table, dimension: Dimension, write: WriteContext) -> None:
        """Write a file beside the old one, and rename it."""
        import pyarrow.parquet as pq

        path = self._path(table)
        path.parent.mkdir(parents=True, exist_ok=True)
        footer = {FOOTER_KEY: dimension.manifest.loaded_by(write.run_id).to_json()}
        with replacing(path) as staged:
            pq.write_table(dimension.rows.replace_schema_metadata(footer), staged)
            flush(staged)
        flush(path.parent)

    def read(self, table: Table) -> Dimension | None:
        """Read the file. An older version of this package recorded nothing of it; a damaged one is as good as none."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = self._path(table)
        if not path.exists():
            return None
        try:
            with pq.ParquetFile(path) as file:  # `read_table` opens it twice, and it may be replaced in between
                rows, recorded = file.read(), Manifest.from_footer(file.metadata)
        except pa.ArrowInvalid:
            return None
        return Dimension.of(table, rows, recorded or Manifest(rows.num_rows))

    def _path(self, table: Table) -> Path:
        return self.folder / f"{table.name}.parquet"
