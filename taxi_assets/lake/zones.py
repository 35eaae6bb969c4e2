"""The zone lookup, kept as one Parquet file in the lake; replaced by rename."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from taxi_assets.core.errors import PermanentError
from taxi_assets.core.failures import explained

if TYPE_CHECKING:
    import pyarrow as pa


class ZonesIOManager(dg.ConfigurableIOManager):
    """Keeps the lookup at `folder/taxi_zones.parquet`."""

    folder: str

    @property
    def path(self) -> Path:
        """The file."""
        return Path(self.folder) / "taxi_zones.parquet"

    def handle_output(self, context: dg.OutputContext, obj: pa.Table) -> None:
        """Replace the file atomically."""
        import pyarrow.parquet as pq

        with explained("taxi_zones"):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            staged = self.path.with_name(f".{self.path.name}.{context.run_id[:8]}.{os.getpid()}")
            try:
                pq.write_table(obj, staged)
                staged.replace(self.path)
            finally:
                staged.unlink(missing_ok=True)
            context.add_output_metadata({"path": str(self.path)})

    def read(self) -> pa.Table | None:
        """The lookup, or None when it was never materialized."""
        import pyarrow.parquet as pq

        if not self.path.exists():
            return None
        with pq.ParquetFile(self.path) as file:  # `read_table` opens it twice, and it may be replaced in between
            return file.read()

    def load_input(self, context: dg.InputContext) -> Any:
        """The lookup as a table, or as a data frame if the reader annotates one."""
        with explained("taxi_zones"):
            table = self.read()
            if table is None:
                raise PermanentError("There are no taxi zones yet; materialize taxi_zones first.")
        wanted = context.dagster_type.typing_type
        return table.to_pandas() if getattr(wanted, "__name__", "") == "DataFrame" else table
